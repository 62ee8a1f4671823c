use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// RFC 3711 appendix B.3.
#[test]
fn session_keys_are_those_of_the_rfc() {
    let master = Master::<16> {
        key: bytes("E1F97A0D3E018BE0D64FA32C06DE4139").try_into().unwrap(),
        salt: bytes("0EC675AD498AFEEBB6960B3AABE6").try_into().unwrap(),
    };
    let round = |key: &[u8], input: &[u8], output: &mut [u8]| {
        engine().srtp_provider.srtp_aes_128_ecb_round(key, input, output);
    };
    let (key, salt): ([u8; 16], [u8; 14]) = (master.derive(LABEL_KEY, round), master.derive(LABEL_SALT, round));
    assert_eq!(key.as_slice(), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(salt.as_slice(), bytes("30CBBC08863D8C85D49DB34A9AE1"));
}

fn sealer_of_the_rfc() -> Sealer {
    let key = SessionKey::Gcm128(bytes("000102030405060708090a0b0c0d0e0f").try_into().unwrap());
    let salt = bytes("517569642070726f2071756f0000").try_into().unwrap();
    Sealer(Session { key, salt }.ready(true))
}

/// RFC 7714 section 16.1.1.
#[test]
fn a_packet_is_sealed_as_in_the_rfc() {
    let header = bytes("8040f17b 8041f8d3 5501a0b2");
    let mut out = vec![7];
    let payload = b"Gallia est omnis divisa in partes tres";
    sealer_of_the_rfc().seal(&mut out, &header, 0x5501_a0b2, 0xf17b, payload).unwrap();
    let sealed =
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833 899d7f27beb16a9152cf765ee4390cce";
    assert_eq!(out, [vec![7], header, bytes(sealed)].concat());
}

/// RFC 7714 section 17.2 and 17.1: the same report, sealed and opened.
#[test]
fn a_report_is_opened_as_in_the_rfc() {
    let packet = bytes(
        "81c8000d 4d617273 63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda 4ce09b4686303ded0bb9275bc84aa458\
         96cf4d2fc5abf87245d9eade 800005d4",
    );
    let key = SessionKey::Gcm128(bytes("000102030405060708090a0b0c0d0e0f").try_into().unwrap());
    let salt = bytes("517569642070726f2071756f0000").try_into().unwrap();
    let mut opener = Opener(Session { key, salt }.ready(false));
    let opened = opener.open(&packet).unwrap();
    let report = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef";
    assert_eq!(opened, bytes(report));
    for at in 0..packet.len() {
        let mut changed = packet.clone();
        changed[at] ^= 1;
        assert!(opener.open(&changed).is_none(), "byte {at}");
    }
    assert!(opener.open(&packet[..20]).is_none());
}

/// What libsrtp makes of the same key, packet and report.
#[test]
fn the_old_profile_is_that_of_libsrtp() {
    let master: Vec<u8> = (1..=30).collect();
    let material = [&master[..16], &[0; 16], &master[16..], &[0; 14]].concat();
    let keys = |active| Keys::new(&material, SrtpProfile::AES128_CM_SHA1_80, active).unwrap();

    let (header, mut packet) = (bytes("8060f17b8041f8d35501a0b2"), Vec::new());
    let payload = b"Gallia est omnis divisa in partes tres";
    keys(true).sealer.seal(&mut packet, &header, 0x5501_a0b2, 0xf17b, payload).unwrap();
    let sealed = "8060f17b8041f8d35501a0b2e269a7dd53eff0532894266a592337972f9ab19c4bde8e033b132637ff19f0d9621ad2a0330dfc241a395a89e0e729ed";
    assert_eq!(packet, bytes(sealed));

    let report = bytes("81cd0003000000016eb4e0fbb7eb6169800000012cedc09417ca065318e2");
    let mut opener = keys(false).opener;
    assert_eq!(opener.open(&report).unwrap(), bytes("81cd000300000001000000090 00a8001"));
    for at in 0..report.len() {
        let mut changed = report.clone();
        changed[at] ^= 1;
        assert!(opener.open(&changed).is_none(), "byte {at}");
    }
    assert!(Keys::new(&material[..40], SrtpProfile::AES128_CM_SHA1_80, true).is_none());
}

#[test]
fn what_is_sent_has_the_key_of_our_side() {
    let material: Vec<u8> = (0..56).collect();
    let (client, server) =
        (Master::<16>::read(&material, true, SALT).unwrap(), Master::<16>::read(&material, false, SALT).unwrap());
    assert_eq!((client.key[0], client.salt[0]), (0, 32));
    assert_eq!((server.key[0], server.salt[0]), (16, 44));
    assert_eq!(server.salt[11..], [55, 0, 0]);
    assert!(Master::<16>::read(&material[..40], false, SALT).is_none());
}

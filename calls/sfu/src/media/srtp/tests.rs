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

/// RFC 7714 section 16.1.1.
#[test]
fn a_packet_is_sealed_as_in_the_rfc() {
    let key = bytes("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    let cipher = Cipher::Gcm128(engine().srtp_provider.aead_aes_128_gcm().create_cipher(key, true));
    let mut sealer = Sealer { cipher, salt: bytes("517569642070726f2071756f").try_into().unwrap() };
    let header = bytes("8040f17b 8041f8d3 5501a0b2");
    let packet = sealer.seal(&header, 0x5501_a0b2, 0xf17b, b"Gallia est omnis divisa in partes tres").unwrap();
    let sealed =
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833 899d7f27beb16a9152cf765ee4390cce";
    assert_eq!(packet, [header, bytes(sealed)].concat());
}

#[test]
fn what_is_sent_has_the_key_of_our_side() {
    let material: Vec<u8> = (0..56).collect();
    let (client, server) =
        (Master::<16>::read(&material, true).unwrap(), Master::<16>::read(&material, false).unwrap());
    assert_eq!((client.key[0], client.salt[0]), (0, 32));
    assert_eq!((server.key[0], server.salt[0]), (16, 44));
    assert_eq!(server.salt[11..], [55, 0, 0]);
    assert!(Master::<16>::read(&material[..40], false).is_none());
}

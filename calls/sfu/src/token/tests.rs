use super::*;

fn grant() -> Grant {
    Grant {
        room: "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc".to_owned(),
        identity: "@alice:example.org:DEVICE".to_owned(),
        name: "Älice ~?>\u{7f} 🎉".to_owned(),
        can_publish: true,
        can_subscribe: true,
        may_create: false,
        lifetime: Duration::from_secs(3600),
    }
}

fn key() -> TokenKey {
    TokenKey::new(&[7; 32])
}

#[test]
fn a_token_grants_what_was_signed() {
    let token = key().sign(&grant(), 1_700_000_000_000);
    assert_eq!(key().verify(&token, 1_700_000_001_000), Ok(grant()));
}

#[test]
fn the_signature_is_that_of_rfc_7515() {
    // RFC 7515 A.1 signs with another key length; this vector was computed with `openssl dgst -hmac`.
    let key = TokenKey::new(b"0123456789abcdef0123456789abcdef");
    let mac = key.0.chain_update(b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30").finalize().into_bytes();
    assert_eq!(URL_SAFE_NO_PAD.encode(mac), include_str!("vector.txt").trim());
}

#[test]
fn the_payload_reads_the_same_in_both_alphabets() {
    for filler in 0..3 {
        let name = format!("{}{}", "x".repeat(filler), "~?>\u{7f}é\u{ffff}🎉".repeat(20));
        let token = key().sign(&Grant { name, ..grant() }, 0);
        let payload = token.split('.').nth(1).unwrap();
        assert!(!payload.contains(['-', '_']), "{payload}");
    }
}

#[test]
fn a_changed_token_is_refused() {
    let token = key().sign(&grant(), 1_000_000);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD
        .encode(String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap().replace("alice", "mallo"));
    assert_eq!(key().verify(&format!("{header}.{other}.{signature}"), 1_000_000), Err(BadToken::Forged));
    assert_eq!(TokenKey::new(&[8; 32]).verify(&token, 1_000_000), Err(BadToken::Forged));
    assert_eq!(key().verify(signed, 1_000_000), Err(BadToken::Malformed));
    assert_eq!(key().verify("", 0), Err(BadToken::Malformed));
    assert_eq!(key().verify(&"a".repeat(10_000), 0), Err(BadToken::Malformed));
}

#[test]
fn a_token_has_its_time() {
    let token = key().sign(&grant(), 1_700_000_000_000);
    assert!(key().verify(&token, 1_700_003_600_000).is_ok());
    assert_eq!(key().verify(&token, 1_700_003_620_000), Err(BadToken::Expired));
    assert_eq!(key().verify(&token, 1_699_999_900_000), Err(BadToken::Expired));
}

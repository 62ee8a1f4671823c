use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The key of Appendices §Cryptographic Test Vectors.
pub(crate) fn vector_key() -> SigningKey {
    let seed = BASE64.decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    SigningKey::from_seed(seed.try_into().unwrap(), "1").unwrap()
}

#[test]
fn matches_the_vectors_of_the_specification() {
    let key = vector_key();
    assert_eq!(key.key_id(), "ed25519:1");
    for (unsigned, signature) in [
        (json!({}), "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            json!({"one": 1, "two": "Two"}),
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ] {
        let mut signed = object(unsigned);
        key.sign_json(&mut signed, "domain").unwrap();
        assert_eq!(signed["signatures"], json!({"domain": {"ed25519:1": signature}}));
        verify_json(&signed, "domain", "ed25519:1", &key.verify_key()).unwrap();
    }
}

#[test]
fn signatures_ignore_unsigned_and_other_signatures() {
    let key = vector_key();
    let mut signed = object(json!({"a": 1, "signatures": {"other": {"ed25519:x": "abc"}}, "unsigned": {"age": 1}}));
    key.sign_json(&mut signed, "domain").unwrap();
    assert_eq!(signed["signatures"]["other"]["ed25519:x"], "abc");
    assert_eq!(signed["unsigned"]["age"], 1);
    signed.remove("unsigned");
    verify_json(&signed, "domain", "ed25519:1", &key.verify_key()).unwrap();
    signed.insert("a".into(), json!(2));
    let result = verify_json(&signed, "domain", "ed25519:1", &key.verify_key());
    assert_eq!(result, Err(VerifyError::Mismatch));
}

#[test]
fn names_what_is_wrong_with_a_signature() {
    let key = vector_key().verify_key();
    let verify = |signatures: Value, key_id: &str| {
        verify_json(&object(json!({"signatures": signatures})), "domain", key_id, &key)
    };
    let short = BASE64.encode([0; 63]);
    let zeros = BASE64.encode([0; 64]);
    assert_eq!(verify_json(&Map::new(), "domain", "ed25519:1", &key), Err(VerifyError::Missing));
    assert_eq!(verify(json!([]), "ed25519:1"), Err(VerifyError::Missing));
    assert_eq!(verify(json!({"domain": {"ed25519:1": 1}}), "ed25519:1"), Err(VerifyError::Missing));
    assert_eq!(verify(json!({"domain": {"rsa:1": "a"}}), "rsa:1"), Err(VerifyError::UnknownAlgorithm));
    assert_eq!(verify(json!({"domain": {"ed25519:1": "?"}}), "ed25519:1"), Err(VerifyError::Malformed));
    assert_eq!(verify(json!({"domain": {"ed25519:1": short}}), "ed25519:1"), Err(VerifyError::Malformed));
    assert_eq!(verify(json!({"domain": {"ed25519:1": zeros}}), "ed25519:1"), Err(VerifyError::Mismatch));
}

#[test]
fn refuses_unusable_keys() {
    let key = vector_key();
    assert_eq!(VerifyKey::parse(&key.public_base64()).unwrap(), key.verify_key());
    assert_eq!(VerifyKey::parse(&format!("{}=", key.public_base64())).unwrap(), key.verify_key());
    assert_eq!(VerifyKey::parse("AAAA"), Err(KeyError::NotBase64));
    assert_eq!(VerifyKey::parse("?"), Err(KeyError::NotBase64));
    // The neutral element: with it any message has a valid signature under lax verification.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(VerifyKey::from_bytes(&neutral), Err(KeyError::InvalidPoint));
    assert_eq!(SigningKey::from_seed([1; 32], "a-b").unwrap_err(), KeyError::InvalidVersion);
    assert_eq!(SigningKey::from_seed([1; 32], "").unwrap_err(), KeyError::InvalidVersion);
}

#[test]
fn refuses_to_sign_over_malformed_signatures() {
    for signatures in [json!([]), json!({"domain": 1})] {
        let mut object = object(json!({"signatures": signatures}));
        assert_eq!(vector_key().sign_json(&mut object, "domain"), Err(HashError::InvalidSignatures));
    }
}

#[test]
fn lists_key_ids_of_known_algorithms() {
    let object = object(json!({"signatures": {"a": {"ed25519:1": "x", "rsa:2": "y"}, "b": {"ed25519:3": "z"}}}));
    assert_eq!(signing_key_ids(&object, "a").collect::<Vec<_>>(), ["ed25519:1"]);
    assert_eq!(signing_key_ids(&object, "c").count(), 0);
}

#[test]
fn debug_output_hides_the_secret() {
    let key = vector_key();
    assert_eq!(format!("{key:?}"), r#"SigningKey { key_id: "ed25519:1", .. }"#);
    assert_eq!(SigningKey::from_seed(key.seed(), key.version()).unwrap().public_base64(), key.public_base64());
}

proptest! {
    #[test]
    fn flipped_bits_do_not_verify(seed: [u8; 32], message: Vec<u8>, bit in 0_usize..512) {
        let key = SigningKey::from_seed(seed, "a").unwrap();
        let signature = key.sign(&message);
        prop_assert_eq!(key.verify_key().verify(&message, &signature), Ok(()));
        let mut bytes = BASE64.decode(&signature).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(key.verify_key().verify(&message, &BASE64.encode(&bytes)), Err(VerifyError::Mismatch));
    }
}

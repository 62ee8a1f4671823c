use std::sync::Arc;

use spec::signing::SigningKey;

use super::super::OldKey;
use super::*;

fn key(seed: u8, version: &str) -> SigningKey {
    SigningKey::from_seed([seed; 32], version).unwrap()
}

fn own() -> OwnKeys {
    let old = OldKey { key_id: "ed25519:old".to_owned(), key: key(2, "old").verify_key(), expired_ts: 500 };
    OwnKeys { current: Arc::new(key(1, "new")), old: vec![old] }
}

fn document() -> Map<String, Value> {
    describe_own(&own(), &ServerName::parse("a.org:8448").unwrap(), 1000).unwrap()
}

#[test]
fn our_document_is_read_as_others_read_it() {
    let read = KeyDocument::read(document()).unwrap();
    assert_eq!((read.server.as_str(), read.valid_until_ts), ("a.org:8448", 1000));
    let keys: Vec<_> = read.keys.iter().map(|key| (key.key_id.as_str(), key.expired_ts)).collect();
    assert_eq!(keys, [("ed25519:new", None), ("ed25519:old", Some(500))]);
    assert_eq!(read.keys[1].key, key(2, "old").verify_key());
}

#[test]
fn what_its_own_keys_did_not_sign_is_refused() {
    let refused = |change: fn(&mut Map<String, Value>)| {
        let mut object = document();
        change(&mut object);
        KeyDocument::read(object).unwrap_err()
    };
    assert_eq!(refused(|object| drop(object.remove("signatures"))), DocumentError::NotSigned);
    assert_eq!(refused(|object| drop(object.insert("valid_until_ts".into(), 2000.into()))), DocumentError::NotSigned);
    assert_eq!(refused(|object| drop(object.insert("server_name".into(), "b.org".into()))), DocumentError::NotSigned);
    assert_eq!(refused(|object| drop(object.insert("verify_keys".into(), json!({})))), DocumentError::NotSigned);
    assert_eq!(refused(|object| drop(object.remove("valid_until_ts"))), DocumentError::Malformed("valid_until_ts"));
    assert_eq!(
        refused(|object| drop(object.insert("server_name".into(), "a b".into()))),
        DocumentError::Malformed("server_name")
    );
    assert_eq!(
        refused(|object| drop(object.insert("old_verify_keys".into(), json!([])))),
        DocumentError::Malformed("old_verify_keys")
    );
    let many: Map<String, Value> = (0..=MAX_KEYS).map(|n| (format!("ed25519:{n}"), json!({}))).collect();
    let mut object = document();
    object.insert("verify_keys".into(), many.into());
    assert_eq!(KeyDocument::read(object).unwrap_err(), DocumentError::TooManyKeys);
}

/// An old key must not be able to vouch for a document: whoever stole it would own the server.
#[test]
fn an_old_key_signs_no_document() {
    let mut object = document();
    object.remove("signatures");
    key(2, "old").sign_json(&mut object, "a.org:8448").unwrap();
    assert_eq!(KeyDocument::read(object).unwrap_err(), DocumentError::NotSigned);
}

#[test]
fn keys_that_are_none_are_passed_over() {
    let mut object = document();
    object.remove("signatures");
    let keys = object["verify_keys"].as_object_mut().unwrap();
    keys.insert("curve25519:x".into(), json!({ "key": key(3, "x").public_base64() }));
    keys.insert("ed25519:broken".into(), json!({ "key": "AAAA" }));
    keys.insert("ed25519:none".into(), json!(1));
    key(1, "new").sign_json(&mut object, "a.org:8448").unwrap();
    assert_eq!(KeyDocument::read(object).unwrap().keys.len(), 2);
}

#[test]
fn the_signature_of_a_notary_is_told_from_others() {
    let notary = ServerName::parse("notary.org").unwrap();
    let mut object = document();
    key(9, "n").sign_json(&mut object, "notary.org").unwrap();
    let read = KeyDocument::read(object).unwrap();
    let find = |seed: u8| move |key_id: &str| (key_id == "ed25519:n").then(|| key(seed, "n").verify_key());
    assert!(read.is_signed_by(&notary, find(9)));
    assert!(!read.is_signed_by(&notary, find(8)));
    assert!(!read.is_signed_by(&ServerName::parse("other.org").unwrap(), find(9)));
    let kept: Map<String, Value> = serde_json::from_slice(&read.signed_by_itself()).unwrap();
    assert_eq!(kept, document(), "kept without the signatures of others");
}

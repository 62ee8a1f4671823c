use serde_json::json;

use super::*;
use crate::{signing::SigningKey, version::RoomVersion};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn vector_key() -> SigningKey {
    let seed = BASE64.decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    SigningKey::from_seed(seed.try_into().unwrap(), "1").unwrap()
}

fn sign_vector(event: Value, rules: &RoomVersionRules) -> (Map<String, Value>, Result<EventId, HashError>) {
    let mut event = object(event);
    let server = ServerName::parse("domain").unwrap();
    let id = hash_and_sign(&mut event, &server, &vector_key(), rules);
    (event, id)
}

/// Appendices §Event Signing, first vector. It has no event id, so it is signed as in room version 3.
#[test]
fn signs_the_minimal_event_of_the_specification() {
    let event = json!({
        "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1_000_000,
        "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
        "depth": 3, "unsigned": {"age_ts": 1_000_000}
    });
    let (signed, id) = sign_vector(event, RoomVersion::V3.rules());
    assert_eq!(signed["hashes"]["sha256"], "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos");
    assert_eq!(
        signed["signatures"]["domain"]["ed25519:1"],
        "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"
    );
    assert_eq!(signed["unsigned"]["age_ts"], 1_000_000);
    assert_eq!(id.unwrap(), event_id(&signed, RoomVersion::V3.rules()).unwrap());
}

/// Appendices §Event Signing, second vector.
#[test]
fn signs_the_redactable_event_of_the_specification() {
    let event = json!({
        "content": {"body": "Here is the message content"}, "event_id": "$0:domain", "origin": "domain",
        "origin_server_ts": 1_000_000, "type": "m.room.message", "room_id": "!r:domain", "sender": "@u:domain",
        "signatures": {}, "unsigned": {"age_ts": 1_000_000}
    });
    let (signed, id) = sign_vector(event, RoomVersion::V1.rules());
    assert_eq!(signed["hashes"]["sha256"], "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g");
    assert_eq!(
        signed["signatures"]["domain"]["ed25519:1"],
        "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
    );
    assert_eq!(id.unwrap(), "$0:domain");
}

#[test]
fn event_ids_follow_the_room_version() {
    // Chosen so that the hash has characters in which the two alphabets differ.
    let rules = |version: RoomVersion| version.rules();
    let event = (0..)
        .map(|number| object(json!({"type": "X", "depth": number, "content": {"body": "x"}})))
        .find(|event| reference_hash(event, rules(RoomVersion::V3)).contains(['+', '/']))
        .unwrap();
    let standard = event_id(&event, rules(RoomVersion::V3)).unwrap();
    let url_safe = event_id(&event, rules(RoomVersion::V4)).unwrap();
    assert_eq!(standard.as_str().len(), 44);
    assert_eq!(standard.as_str().replace('+', "-").replace('/', "_"), url_safe.as_str());
    assert_eq!(url_safe, event_id(&event, rules(RoomVersion::V12)).unwrap());
    assert_eq!(event_id(&event, rules(RoomVersion::V2)), Err(HashError::MissingEventId));
    let given = object(json!({"type": "X", "event_id": "nonsense"}));
    assert!(matches!(event_id(&given, rules(RoomVersion::V1)), Err(HashError::InvalidEventId(_))));
}

#[test]
fn reference_hash_covers_what_redaction_keeps() {
    let rules = RoomVersion::V11.rules();
    let event = object(json!({"type": "m.room.member", "content": {"membership": "join", "displayname": "x"}}));
    let hash = reference_hash(&event, rules);
    for (key, value) in [("unsigned", json!({"age": 1})), ("signatures", json!({"a": {}})), ("origin", json!("a"))] {
        let mut changed = event.clone();
        changed.insert(key.into(), value);
        assert_eq!(reference_hash(&changed, rules), hash, "{key}");
    }
    let mut changed = event.clone();
    changed.insert("content".into(), json!({"membership": "join"}));
    assert_eq!(reference_hash(&changed, rules), hash);
    changed.insert("content".into(), json!({"membership": "leave"}));
    assert_ne!(reference_hash(&changed, rules), hash);
}

#[test]
fn content_hash_covers_everything_else() {
    let mut event = object(json!({"type": "X", "content": {"body": "x"}, "signatures": {}, "unsigned": {}}));
    assert!(!content_hash_matches(&event));
    let hash = content_hash(&event);
    event.insert("hashes".into(), json!({"sha256": hash}));
    assert!(content_hash_matches(&event));
    event.insert("hashes".into(), json!({"sha256": format!("{hash}=")}));
    assert!(content_hash_matches(&event), "padding is allowed");
    event.insert("extra".into(), json!(1));
    assert!(!content_hash_matches(&event));
    event.insert("hashes".into(), json!({"sha256": "?"}));
    assert!(!content_hash_matches(&event));
}

#[test]
fn another_signature_changes_neither_hash_nor_id() {
    let rules = RoomVersion::V11.rules();
    let event = json!({"type": "m.room.member", "content": {"membership": "join"}, "state_key": "@a:domain"});
    let (mut event, id) = sign_vector(event, rules);
    // Written in another way than ours, which the other server's signature covers.
    let padded = format!("{}=", event["hashes"]["sha256"].as_str().unwrap());
    event.insert("hashes".into(), json!({"sha256": padded, "other": "x"}));
    let before = (event["hashes"].clone(), event["signatures"]["domain"].clone());
    let other = ServerName::parse("other").unwrap();
    let key = SigningKey::from_seed([3; 32], "2").unwrap();
    let countersigned = countersign(&mut event, &other, &key, rules).unwrap();
    assert_eq!((event["hashes"].clone(), event["signatures"]["domain"].clone()), before);
    assert_eq!(countersigned, event_id(&event, rules).unwrap());
    assert_ne!(countersigned, id.unwrap(), "the hash is part of what the id covers");
    let signature = event["signatures"]["other"]["ed25519:2"].as_str().unwrap();
    key.verify_key().verify(&redacted_bytes(&event, rules), signature).unwrap();
}

/// Appendices §Unpadded Base64.
#[test]
fn base64_matches_the_specification() {
    for (text, encoded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
        assert_eq!(BASE64.encode(text), encoded);
        assert_eq!(BASE64.decode(encoded).unwrap(), text.as_bytes());
    }
    assert_eq!(BASE64.decode("Zg==").unwrap(), b"f");
    assert!(BASE64.decode("Z").is_err());
}

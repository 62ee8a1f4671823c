use base64::Engine;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{hash::BASE64, redact::redact_event, signing::SigningKey, version::RoomVersion};

const VIA: &str = "policy.test";

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn policy_key() -> SigningKey {
    SigningKey::from_seed([3; 32], "policy_server").unwrap()
}

fn sign(version: RoomVersion, fields: Value) -> Pdu {
    let mut event = object(json!({
        "type": "m.room.message", "sender": "@a:hs.test", "room_id": "!r:hs.test", "depth": 3, "origin_server_ts": 1,
        "content": {"body": "hello"}, "auth_events": [], "prev_events": [],
    }));
    if version.rules().pair_references {
        event.insert("event_id".into(), "$e:hs.test".into());
    }
    if version.rules().room_id_is_create_hash {
        event.insert("room_id".into(), format!("!{}", "A".repeat(43)).into());
    }
    event.extend(object(fields));
    let key = SigningKey::from_seed([1; 32], "1").unwrap();
    Pdu::sign(event, &ServerName::parse("hs.test").unwrap(), &key, version.rules()).unwrap()
}

fn policy_event(state_key: Option<&str>, content: Value) -> Pdu {
    let mut fields = json!({"type": POLICY_EVENT, "content": content});
    if let Some(state_key) = state_key {
        fields["state_key"] = state_key.into();
    }
    sign(RoomVersion::V11, fields)
}

fn policy_server() -> PolicyServer {
    let content = json!({"via": VIA, "public_keys": {"ed25519": policy_key().public_base64()}});
    PolicyServer::read(&policy_event(Some(""), content)).unwrap()
}

/// What the policy server answers.
fn answer(event: &Pdu, version: RoomVersion) -> Map<String, Value> {
    let signature = policy_key().sign(&redacted_bytes(&event.to_object().unwrap(), version.rules()));
    object(json!({VIA: {POLICY_KEY_ID: signature}}))
}

#[test]
fn a_room_uses_what_its_state_names_in_the_right_shape() {
    let key = policy_key().public_base64();
    let read = |content: Value| PolicyServer::read(&policy_event(Some(""), content));
    let server = read(json!({"via": VIA, "public_keys": {"ed25519": key, "other": 1}})).unwrap();
    assert_eq!((server.via().as_str(), server.has_key()), (VIA, true));
    // The example of the specification, which writes the key URL-safe.
    let spec = "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s";
    assert!(read(json!({"via": VIA, "public_keys": {"ed25519": spec}})).is_some());
    for malformed in [
        json!({}),
        json!({"via": VIA}),
        json!({"via": VIA, "public_key": key}),
        json!({"via": VIA, "public_keys": {}}),
        json!({"via": VIA, "public_keys": key}),
        json!({"via": VIA, "public_keys": {"ed25519": 7}}),
        json!({"via": 7, "public_keys": {"ed25519": key}}),
        json!({"public_keys": {"ed25519": key}}),
        json!({"via": "no server name", "public_keys": {"ed25519": key}}),
    ] {
        assert_eq!(read(malformed.clone()), None, "{malformed}");
    }
    let content = json!({"via": VIA, "public_keys": {"ed25519": key}});
    assert_eq!(PolicyServer::read(&policy_event(Some("other"), content.clone())), None);
    assert_eq!(PolicyServer::read(&policy_event(None, content)), None);
}

#[test]
fn a_string_that_is_no_key_is_valid_and_fits_no_signature() {
    let content = json!({"via": VIA, "public_keys": {"ed25519": "not a key"}});
    let server = PolicyServer::read(&policy_event(Some(""), content)).unwrap();
    assert!(!server.has_key());
    let event = sign(RoomVersion::V11, json!({}));
    let answer = answer(&event, RoomVersion::V11);
    let added = server.add_signature(&event, &answer, RoomVersion::V11.rules());
    assert!(matches!(added, Err(PolicyFailure::NoKey)), "{added:?}");
}

#[test]
fn all_events_are_asked_for_but_the_one_that_names_the_server() {
    assert!(!is_asked_for(POLICY_EVENT, Some("")));
    assert!(is_asked_for(POLICY_EVENT, Some("x")));
    assert!(is_asked_for(POLICY_EVENT, None));
    for kind in ["m.room.member", "m.room.power_levels", "m.room.redaction", "m.room.message"] {
        assert!(is_asked_for(kind, Some("")) && is_asked_for(kind, None), "{kind}");
    }
}

#[test]
fn a_signature_is_added_beside_the_others_and_changes_nothing_else() {
    for version in RoomVersion::ALL {
        let event = sign(version, json!({}));
        let server = policy_server();
        let missing = server.verify(&event, version.rules());
        assert!(matches!(missing, Err(PolicyFailure::Signature(VerifyError::Missing))), "{missing:?}");
        let signed = server.add_signature(&event, &answer(&event, version), version.rules()).unwrap();
        server.verify(&signed, version.rules()).unwrap();
        let (mut before, mut after) = (event.to_object().unwrap(), signed.to_object().unwrap());
        let signatures = after.remove("signatures").unwrap();
        assert_eq!(signatures["hs.test"], before.remove("signatures").unwrap()["hs.test"]);
        assert_eq!(before, after);
        // The id does not cover signatures.
        let again = Pdu::from_json(&signed.json, version.rules()).unwrap();
        assert_eq!((&again.event_id, &signed.event_id), (&event.event_id, &event.event_id));
    }
}

#[test]
fn a_policy_server_that_sends_the_event_itself_keeps_its_other_signature() {
    let version = RoomVersion::V11;
    let event = sign(version, json!({}));
    let content = json!({"via": "hs.test", "public_keys": {"ed25519": policy_key().public_base64()}});
    let server = PolicyServer::read(&policy_event(Some(""), content)).unwrap();
    let mut given = answer(&event, version);
    let theirs = given.remove(VIA).unwrap();
    given.insert("hs.test".into(), theirs);
    let signed = server.add_signature(&event, &given, version.rules()).unwrap().to_object().unwrap();
    let ids: Vec<&String> = signed["signatures"]["hs.test"].as_object().unwrap().keys().collect();
    assert_eq!(ids, ["ed25519:1", POLICY_KEY_ID]);
}

#[test]
fn the_redacted_event_is_what_is_signed() {
    let version = RoomVersion::V11;
    let event = sign(version, json!({}));
    let server = policy_server();
    let signed = server.add_signature(&event, &answer(&event, version), version.rules()).unwrap();
    let redacted = write(&redact_event(&signed.to_object().unwrap(), version.rules()));
    let redacted = Pdu::from_trusted(event.event_id.clone(), &redacted).unwrap();
    server.verify(&redacted, version.rules()).unwrap();
}

#[test]
fn signatures_of_others_and_of_other_events_count_for_nothing() {
    let version = RoomVersion::V11;
    let (event, other) = (sign(version, json!({})), sign(version, json!({"depth": 4})));
    let server = policy_server();
    let add = |answer: Value| server.add_signature(&event, &object(answer), version.rules());
    let right = answer(&event, version)[VIA][POLICY_KEY_ID].clone();
    for missing in [
        json!({}),
        json!({VIA: {}}),
        json!({VIA: right}),
        json!({VIA: {POLICY_KEY_ID: 7}}),
        json!({VIA: {"ed25519:1": right}}),
        json!({"other.test": {POLICY_KEY_ID: right}}),
    ] {
        let added = add(missing.clone());
        assert!(matches!(added, Err(PolicyFailure::Signature(VerifyError::Missing))), "{missing}: {added:?}");
    }
    let of_other = add(Value::Object(answer(&other, version)));
    assert!(matches!(of_other, Err(PolicyFailure::Signature(VerifyError::Mismatch))), "{of_other:?}");
    let garbled = add(json!({VIA: {POLICY_KEY_ID: "AAAA"}}));
    assert!(matches!(garbled, Err(PolicyFailure::Signature(VerifyError::Malformed))), "{garbled:?}");
}

#[test]
fn a_wrong_signature_makes_room_for_a_right_one() {
    let version = RoomVersion::V11;
    let wrong = sign(version, json!({"signatures": {VIA: {POLICY_KEY_ID: BASE64.encode([7; 64]), "ed25519:x": "AA"}}}));
    let server = policy_server();
    assert!(server.verify(&wrong, version.rules()).is_err());
    let signed = server.add_signature(&wrong, &answer(&wrong, version), version.rules()).unwrap();
    server.verify(&signed, version.rules()).unwrap();
    assert_eq!(signed.to_object().unwrap()["signatures"][VIA]["ed25519:x"], "AA");
}

#[test]
fn an_event_without_room_for_a_signature_is_too_large() {
    let version = RoomVersion::V11;
    let small = sign(version, json!({"content": {"body": ""}})).json.len();
    let event = sign(version, json!({"content": {"body": "x".repeat(MAX_PDU_BYTES - small)}}));
    assert_eq!(event.json.len(), MAX_PDU_BYTES);
    let added = policy_server().add_signature(&event, &answer(&event, version), version.rules());
    assert!(matches!(added, Err(PolicyFailure::Event(PduError::TooLarge))), "{added:?}");
}

proptest! {
    /// What redaction keeps is covered by the signature; what it drops is not.
    #[test]
    fn whatever_survives_redaction_is_covered(depth in 0i64..1_000_000, ts in 0i64..1_000_000, body in ".{0,30}") {
        let version = RoomVersion::V11;
        let event = sign(version, json!({"depth": depth, "origin_server_ts": ts, "content": {"body": body}}));
        let server = policy_server();
        let signed = server.add_signature(&event, &answer(&event, version), version.rules()).unwrap();
        let mut object = signed.to_object().unwrap();
        object.insert("content".into(), json!({"body": "another"}));
        let json = write(&object);
        prop_assert!(server.verify(&Pdu::from_trusted(event.event_id.clone(), &json).unwrap(), version.rules()).is_ok());
        object.insert("depth".into(), (depth + 1).into());
        let json = write(&object);
        prop_assert!(server.verify(&Pdu::from_trusted(event.event_id, &json).unwrap(), version.rules()).is_err());
    }
}

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    hash::{BASE64, content_hash},
    signing::VerifyKey,
    version::RoomVersion,
};
use base64::Engine;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn message(version: RoomVersion) -> Map<String, Value> {
    let mut event = object(json!({
        "type": "m.room.message", "sender": "@alice:example.org", "content": {"body": "hi", "msgtype": "m.text"},
        "origin_server_ts": 1_700_000_000_000_i64, "depth": 7, "hashes": {"sha256": "x"}, "signatures": {},
        "prev_events": ["$prev"], "auth_events": ["$auth1", "$auth2"], "room_id": "!room:example.org"
    }));
    if version.rules().pair_references {
        event.insert("event_id".into(), json!("$own:example.org"));
        event.insert("prev_events".into(), json!([["$prev", {"sha256": "x"}]]));
        event.insert("auth_events".into(), json!([["$auth1", {}], ["$auth2", {}]]));
    }
    if version.rules().room_id_is_create_hash {
        event.insert("room_id".into(), json!("!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ"));
    }
    event
}

fn with(version: RoomVersion, key: &str, value: Value) -> Result<Pdu, PduError> {
    let mut event = message(version);
    event.insert(key.into(), value);
    Pdu::from_object(event, version.rules())
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32], "a").unwrap()
}

fn server() -> ServerName {
    ServerName::parse("example.org").unwrap()
}

fn find_key(server_name: &ServerName, key_id: &str) -> Option<VerifyKey> {
    (*server_name == server() && key_id == "ed25519:a").then(|| key().verify_key())
}

#[test]
fn reads_every_property_in_every_version() {
    for version in RoomVersion::ALL {
        let event = message(version);
        let pdu = Pdu::from_object(event.clone(), version.rules()).unwrap();
        assert_eq!(pdu.event_id, crate::hash::event_id(&event, version.rules()).unwrap());
        assert_eq!(pdu.room_id, event["room_id"].as_str().unwrap());
        assert_eq!(pdu.sender, "@alice:example.org");
        assert_eq!(&*pdu.kind, "m.room.message");
        assert_eq!((pdu.state_key.as_deref(), pdu.is_state()), (None, false));
        assert_eq!(pdu.content.get(), r#"{"body":"hi","msgtype":"m.text"}"#);
        assert_eq!((pdu.origin_server_ts, pdu.depth), (1_700_000_000_000, 7));
        assert_eq!(pdu.prev_events, [EventId::parse("$prev").unwrap()]);
        assert_eq!(pdu.auth_events.len(), 2);
        assert_eq!(pdu.to_object().unwrap(), event);
        assert_eq!(pdu.to_object().unwrap().contains_key("event_id"), version <= RoomVersion::V2);
    }
}

#[test]
fn stored_bytes_read_back_the_same() {
    for version in RoomVersion::ALL {
        let mut event = message(version);
        event.insert("state_key".into(), json!("ke\"y\n"));
        let pdu = Pdu::from_object(event, version.rules()).unwrap();
        let again = Pdu::from_trusted(pdu.event_id.clone(), &pdu.json).unwrap();
        assert_eq!(format!("{pdu:?}"), format!("{again:?}"));
        assert_eq!(again.state_key.as_deref(), Some("ke\"y\n"));
    }
    let id = EventId::parse("$x").unwrap();
    for damaged in [&b""[..], b"{}", b"[]", b"\xff", br#"{"sender":"@a:b","type":"x"}"#] {
        assert!(Pdu::from_trusted(id.clone(), damaged).is_err());
    }
}

#[test]
fn unsigned_is_dropped_and_white_space_does_not_matter() {
    let rules = RoomVersion::V11.rules();
    let plain = Pdu::from_object(message(RoomVersion::V11), rules).unwrap();
    let noisy = with(RoomVersion::V11, "unsigned", json!({"age": 1, "transaction_id": "secret"})).unwrap();
    assert_eq!(plain.json, noisy.json);
    let pretty = serde_json::to_vec_pretty(&message(RoomVersion::V11)).unwrap();
    assert_eq!(Pdu::from_json(&pretty, rules).unwrap().json, plain.json);
    // What `unsigned` holds is never hashed, so it need not be canonical.
    assert!(with(RoomVersion::V11, "unsigned", json!({"age": 1.5})).is_ok());
}

#[test]
fn the_create_event_of_version_12_defines_the_room_id() {
    let rules = RoomVersion::V12.rules();
    let mut create = message(RoomVersion::V12);
    create.remove("room_id");
    assert!(matches!(Pdu::from_object(create.clone(), rules), Err(PduError::MissingField("room_id"))));
    create.insert("type".into(), json!("m.room.create"));
    create.insert("state_key".into(), json!(""));
    let pdu = Pdu::from_object(create.clone(), rules).unwrap();
    assert_eq!(pdu.room_id.create_event_id(), Some(pdu.event_id.clone()));
    assert_eq!(Pdu::from_trusted(pdu.event_id.clone(), &pdu.json).unwrap().room_id, pdu.room_id);
    create.insert("room_id".into(), json!(pdu.room_id));
    assert!(matches!(Pdu::from_object(create, rules), Err(PduError::UnexpectedField("room_id"))));
    for id in ["!room:example.org", "!short", "!Nhcu5BS/UMnFX7hBVfVSoXiD7OgH6iRT+xyIuqDnpYQ"] {
        assert!(with(RoomVersion::V12, "room_id", json!(id)).is_err(), "{id}");
    }
    assert!(with(RoomVersion::V11, "room_id", json!("!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ")).is_err());
}

#[test]
fn refuses_what_is_missing_or_of_the_wrong_type() {
    let required = [
        "type",
        "sender",
        "room_id",
        "content",
        "origin_server_ts",
        "depth",
        "hashes",
        "signatures",
        "prev_events",
        "auth_events",
    ];
    for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V12] {
        for name in required {
            let mut event = message(version);
            event.remove(name);
            let result = Pdu::from_object(event, version.rules());
            assert!(matches!(result, Err(PduError::MissingField(missing)) if missing == name), "{name}");
            assert!(with(version, name, Value::Null).is_err(), "{name}");
            assert!(with(version, name, json!(true)).is_err(), "{name}");
        }
    }
    let v6 = RoomVersion::V6;
    assert!(with(v6, "state_key", Value::Null).is_err());
    assert!(with(v6, "sender", json!("alice")).is_err());
    assert!(with(v6, "hashes", json!({})).is_err());
    assert!(with(v6, "signatures", json!({"a": "b"})).is_err());
    assert!(with(v6, "signatures", json!({"a": {"b": 1}})).is_err());
    assert!(with(v6, "prev_events", json!(["nonsense"])).is_err());
    assert!(with(v6, "prev_events", json!([["$a", {}]])).is_err());
    assert!(with(v6, "content", json!({"a": 1.5})).is_err());
    assert!(matches!(with(v6, "event_id", json!("$a")), Err(PduError::UnexpectedField("event_id"))));
    let v2 = RoomVersion::V2;
    assert!(with(v2, "prev_events", json!(["$a"])).is_err());
    assert!(with(v2, "prev_events", json!([["$a"]])).is_err());
    assert!(with(v2, "event_id", json!("$a")).is_err(), "needs a server name");
    assert!(with(v2, "content", json!({"a": 1.5})).is_ok());
}

#[test]
fn enforces_the_size_limits() {
    let v11 = RoomVersion::V11;
    assert!(with(v11, "type", json!("x".repeat(255))).is_ok());
    assert!(matches!(with(v11, "type", json!("x".repeat(256))), Err(PduError::FieldTooLong("type"))));
    assert!(with(v11, "state_key", json!("é".repeat(127))).is_ok());
    assert!(matches!(with(v11, "state_key", json!("é".repeat(128))), Err(PduError::FieldTooLong("state_key"))));
    let long = format!("@{}:example.org", "x".repeat(255));
    assert!(matches!(with(v11, "sender", json!(long)), Err(PduError::FieldTooLong("sender"))));
    let base = Pdu::from_object(message(v11), v11.rules()).unwrap().json.len();
    let body = |bytes: usize| with(v11, "x", json!("x".repeat(bytes)));
    let overhead = r#","x":"""#.len();
    assert_eq!(body(MAX_PDU_BYTES - base - overhead).unwrap().json.len(), MAX_PDU_BYTES);
    assert!(matches!(body(MAX_PDU_BYTES - base - overhead + 1), Err(PduError::TooLarge)));
    let ids = |count: usize| json!(vec!["$a"; count]);
    assert!(with(v11, "prev_events", ids(20)).is_ok());
    assert!(matches!(with(v11, "prev_events", ids(21)), Err(PduError::TooManyEvents("prev_events"))));
    assert!(with(v11, "auth_events", ids(10)).is_ok());
    assert!(matches!(with(v11, "auth_events", ids(11)), Err(PduError::TooManyEvents("auth_events"))));
}

#[test]
fn limits_depth_by_version() {
    let safe = (1_i64 << 53) - 1;
    assert!(with(RoomVersion::V6, "depth", json!(safe)).is_ok());
    assert!(with(RoomVersion::V6, "depth", json!(safe + 1)).is_err());
    assert_eq!(with(RoomVersion::V5, "depth", json!(i64::MAX)).unwrap().depth, i64::MAX);
    assert!(with(RoomVersion::V5, "depth", json!(u64::MAX)).is_err());
    assert!(with(RoomVersion::V5, "depth", json!(-1)).is_err());
    assert!(with(RoomVersion::V5, "depth", json!(1.0)).is_err());
}

#[test]
fn finds_the_redacted_event_where_the_version_keeps_it() {
    let redaction = |version: RoomVersion| {
        let mut event = message(version);
        event.insert("type".into(), json!("m.room.redaction"));
        event.insert("redacts".into(), json!("$top"));
        event.insert("content".into(), json!({"redacts": "$inner"}));
        Pdu::from_object(event, version.rules()).unwrap()
    };
    for version in RoomVersion::ALL {
        let expected = if version < RoomVersion::V11 { "$top" } else { "$inner" };
        assert_eq!(redaction(version).redacts(version.rules()).unwrap(), expected);
    }
    let rules = RoomVersion::V11.rules();
    assert_eq!(with(RoomVersion::V11, "content", json!({"redacts": "$a"})).unwrap().redacts(rules), None);
}

#[test]
fn signed_events_verify_and_keep_their_id() {
    for version in RoomVersion::ALL {
        let rules = version.rules();
        let mut event = message(version);
        event.insert("unsigned".into(), json!({"age": 1}));
        let pdu = Pdu::sign(event, &server(), &key(), rules).unwrap();
        let received = ReceivedPdu::check(pdu.to_object().unwrap(), rules).unwrap();
        assert_eq!(received.event_id(), &pdu.event_id);
        assert_eq!(received.verify_signatures(rules, find_key), Ok(()));
        assert_eq!(received.into_pdu(rules).unwrap().json, pdu.json);
    }
    let unsignable = object(json!({"type": "x"}));
    assert!(Pdu::sign(unsignable, &server(), &key(), RoomVersion::V11.rules()).is_err());
}

#[test]
fn a_wrong_content_hash_leaves_the_redacted_copy() {
    let rules = RoomVersion::V11.rules();
    let pdu = Pdu::sign(message(RoomVersion::V11), &server(), &key(), rules).unwrap();
    let mut tampered = pdu.to_object().unwrap();
    tampered.insert("content".into(), json!({"body": "forged"}));
    tampered.insert("extra".into(), json!(1));
    let received = ReceivedPdu::check(tampered, rules).unwrap();
    assert_eq!(received.verify_signatures(rules, find_key), Ok(()));
    let redacted = received.into_pdu(rules).unwrap();
    assert_eq!((redacted.content.get(), redacted.event_id), ("{}", pdu.event_id));
    assert!(!String::from_utf8_lossy(&redacted.json).contains("extra"));
}

#[test]
fn signatures_by_unknown_keys_are_skipped_but_one_must_count() {
    let rules = RoomVersion::V11.rules();
    let pdu = Pdu::sign(message(RoomVersion::V11), &server(), &key(), rules).unwrap();
    let check = |object| ReceivedPdu::check(object, rules).unwrap();
    let signed = pdu.to_object().unwrap();
    assert_eq!(
        check(signed.clone()).verify_signatures(rules, |_, _| None),
        Err(SignatureFailure::NoKnownKey(server()))
    );
    let mut extra = signed.clone();
    extra["signatures"]["example.org"]["ed25519:unknown"] = json!("AAAA");
    extra["signatures"]["policy.example"] = json!({"ed25519:p": "AAAA"});
    assert_eq!(check(extra).verify_signatures(rules, find_key), Ok(()));
    let mut forged = signed.clone();
    forged["depth"] = json!(8);
    let failure = check(forged).verify_signatures(rules, find_key);
    assert!(matches!(failure, Err(SignatureFailure::Wrong { error: crate::signing::VerifyError::Mismatch, .. })));
    let mut unsigned = signed;
    unsigned["signatures"] = json!({});
    assert_eq!(check(unsigned).verify_signatures(rules, find_key), Err(SignatureFailure::NoKnownKey(server())));
}

#[test]
fn knows_which_servers_must_sign() {
    let signers = |version: RoomVersion, changes: Value| {
        let mut event = message(version);
        event.extend(object(changes));
        let names = ReceivedPdu::check(event, version.rules()).unwrap().required_signers(version.rules());
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let join = json!({"type": "m.room.member", "state_key": "@alice:example.org",
        "content": {"membership": "join", "join_authorised_via_users_server": "@bob:other.example"}});
    let invite = json!({"type": "m.room.member", "state_key": "@bob:other.example",
        "content": {"membership": "invite", "third_party_invite": {"signed": {}}}});
    assert_eq!(signers(RoomVersion::V11, json!({})), ["example.org"]);
    assert_eq!(signers(RoomVersion::V1, json!({})), ["example.org"]);
    assert_eq!(signers(RoomVersion::V1, json!({"event_id": "$a:third.example"})), ["example.org", "third.example"]);
    assert_eq!(signers(RoomVersion::V7, join.clone()), ["example.org"]);
    assert_eq!(signers(RoomVersion::V8, join), ["example.org", "other.example"]);
    for version in [RoomVersion::V10, RoomVersion::V11] {
        let mut event = message(version);
        event.extend(object(invite.clone()));
        event["hashes"] = json!({"sha256": content_hash(&event)});
        assert!(ReceivedPdu::check(event, version.rules()).unwrap().required_signers(version.rules()).is_empty());
        // Redacted for its wrong hash, it would be an invitation without a third party, and nobody's signature.
        assert_eq!(signers(version, invite.clone()), ["example.org"]);
    }
}

#[test]
fn content_hash_is_that_of_the_specification() {
    let mut event = message(RoomVersion::V11);
    event.remove("hashes");
    let hash = content_hash(&event);
    assert_eq!(BASE64.decode(&hash).unwrap().len(), 32);
    let pdu = Pdu::sign(event, &server(), &key(), RoomVersion::V11.rules()).unwrap();
    assert_eq!(pdu.to_object().unwrap()["hashes"]["sha256"], hash);
}

proptest! {
    /// Any bytes, and any valid event with a few bytes changed, are parsed or refused, never a panic.
    #[test]
    fn parsing_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        version in prop::sample::select(RoomVersion::ALL.to_vec()),
    ) {
        let rules = version.rules();
        let _ = Pdu::from_json(&bytes, rules);
        let mut event = serde_json::to_vec(&message(version)).unwrap();
        for (index, byte) in edits {
            let index = index.index(event.len());
            event[index] = byte;
        }
        if let Ok(pdu) = Pdu::from_json(&event, rules) {
            let again = Pdu::from_trusted(pdu.event_id.clone(), &pdu.json).unwrap();
            prop_assert_eq!(format!("{:?}", pdu), format!("{:?}", again));
            prop_assert!(UserId::parse(pdu.sender.as_str()).is_ok() && RoomId::parse(pdu.room_id.as_str()).is_ok());
        }
        let _ = Pdu::from_trusted(EventId::parse("$x").unwrap(), &event);
    }
}

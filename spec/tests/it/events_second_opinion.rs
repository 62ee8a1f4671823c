//! Canonical JSON, hashes, redaction and signatures against another implementation, on generated events of every room
//! version.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use ruma_common::{
    RoomVersionId,
    canonical_json::{CanonicalJsonObject, redact, try_from_json_map},
    room_version_rules::RoomVersionRules as OtherRules,
    serde::Base64,
};
use ruma_signatures::{Ed25519KeyPair, PublicKeyMap, PublicKeySet, Verified};
use serde_json::{Map, Value, json};
use spec::{
    canonical,
    hash::{self, hash_and_sign},
    ids::{ServerName, UserId},
    pdu::ReceivedPdu,
    redact::redact_event,
    signing::SigningKey,
    version::RoomVersion,
};

const SEED: [u8; 32] = [42; 32];

fn other_rules(version: RoomVersion) -> OtherRules {
    RoomVersionId::try_from(version.as_str()).unwrap().rules().unwrap()
}

fn to_other(event: &Map<String, Value>) -> CanonicalJsonObject {
    try_from_json_map(event.clone()).unwrap()
}

fn to_ours(event: &CanonicalJsonObject) -> Map<String, Value> {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

/// The other implementation reads PKCS#8, which is a fixed prefix before the seed.
fn other_key() -> Ed25519KeyPair {
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    Ed25519KeyPair::from_der(&[&prefix[..], &SEED].concat(), "1".to_owned()).unwrap()
}

fn our_key() -> SigningKey {
    SigningKey::from_seed(SEED, "1").unwrap()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-canonical::MAX_INTEGER..=canonical::MAX_INTEGER).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn any_content() -> impl Strategy<Value = Map<String, Value>> {
    let keys = [
        "membership",
        "displayname",
        "join_authorised_via_users_server",
        "creator",
        "m.federate",
        "join_rule",
        "allow",
        "ban",
        "events",
        "events_default",
        "invite",
        "kick",
        "redact",
        "state_default",
        "users",
        "users_default",
        "notifications",
        "aliases",
        "history_visibility",
        "redacts",
        "reason",
        "body",
        "signed",
    ];
    // A `third_party_invite` that is no object has no `signed`; the other implementation keeps it, we do not.
    let third_party = prop::option::of(prop::collection::btree_map("(signed|display_name)", any_json(), 0..3));
    let content = prop::collection::btree_map(prop::sample::select(keys.to_vec()), any_json(), 0..8);
    (content, third_party).prop_map(|(content, third_party)| {
        let mut content: Map<String, Value> = content.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        content.extend(third_party.map(|invite| ("third_party_invite".to_owned(), json!(invite))));
        content
    })
}

fn any_kind() -> impl Strategy<Value = String> {
    let kinds = [
        "m.room.member",
        "m.room.create",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.aliases",
        "m.room.redaction",
        "m.room.history_visibility",
        "m.room.message",
        "m.room.third_party_invite",
    ];
    prop::sample::select(kinds.to_vec()).prop_map(str::to_owned)
}

fn any_event() -> impl Strategy<Value = (RoomVersion, Map<String, Value>)> {
    let version = prop::sample::select(RoomVersion::ALL.to_vec());
    let extra = prop::collection::btree_map(
        prop_oneof!["(origin|membership|prev_state|redacts|state_key)", "x[a-z]{0,4}"],
        "\\PC{0,10}",
        0..5,
    );
    (version, any_kind(), any_content(), extra, 0..1_000_i64).prop_map(|(version, kind, content, extra, depth)| {
        let mut event: Map<String, Value> = extra.into_iter().map(|(key, value)| (key, json!(value))).collect();
        event.insert("type".into(), json!(kind));
        event.insert("sender".into(), json!("@alice:example.org"));
        event.insert("content".into(), Value::Object(content));
        event.insert("depth".into(), json!(depth));
        event.insert("origin_server_ts".into(), json!(1_700_000_000_000_i64 + depth));
        event.insert("unsigned".into(), json!({"age": depth}));
        let is_hash = version.rules().room_id_is_create_hash;
        if !(is_hash && kind == "m.room.create") {
            let room = if is_hash { "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ" } else { "!room:example.org" };
            event.insert("room_id".into(), json!(room));
        }
        let pairs = version.rules().pair_references;
        let reference = if pairs { json!([["$prev:example.org", {"sha256": "x"}]]) } else { json!(["$prev"]) };
        event.insert("prev_events".into(), reference.clone());
        event.insert("auth_events".into(), reference);
        if pairs {
            event.insert("event_id".into(), json!("$own:example.org"));
        }
        (version, event)
    })
}

proptest! {
    #[test]
    fn canonical_json_agrees(object in prop::collection::btree_map(any::<String>(), any_json(), 0..6)) {
        let object: Map<String, Value> = object.into_iter().collect();
        let ours = canonical::to_canonical(&Value::Object(object.clone())).unwrap();
        prop_assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&to_other(&object)).unwrap());
    }

    #[test]
    fn redaction_and_hashes_agree((version, event) in any_event()) {
        let (rules, other) = (version.rules(), other_rules(version));
        let theirs = redact(to_other(&event), &other.redaction, None).unwrap();
        prop_assert_eq!(redact_event(&event, rules), to_ours(&theirs));
        let theirs = to_other(&event);
        prop_assert_eq!(hash::content_hash(&event), ruma_signatures::content_hash(&theirs).unwrap().encode());
        prop_assert_eq!(hash::reference_hash(&event, rules), ruma_signatures::reference_hash(&theirs, &other).unwrap());
    }

    #[test]
    fn signing_agrees_and_each_verifies_the_other((version, mut event) in any_event()) {
        let (rules, other) = (version.rules(), other_rules(version));
        // Whether these two ask for more signatures than ours is a question of its own, below.
        if let Some(content) = event.get_mut("content").and_then(Value::as_object_mut) {
            content.remove("third_party_invite");
            content.remove("join_authorised_via_users_server");
            content.insert("membership".into(), json!("join"));
        }
        let mut theirs = to_other(&event);
        ruma_signatures::hash_and_sign_event("example.org", &other_key(), &mut theirs, &other.redaction).unwrap();
        let server = ServerName::parse("example.org").unwrap();
        hash_and_sign(&mut event, &server, &our_key(), rules).unwrap();
        prop_assert_eq!(&event, &to_ours(&theirs));

        let received = ReceivedPdu::check(event.clone(), rules).unwrap();
        prop_assert_eq!(received.verify_signatures(rules, |_, _| Some(our_key().verify_key())), Ok(()));
        let set = PublicKeySet::from([("ed25519:1".to_owned(), Base64::parse(our_key().public_base64()).unwrap())]);
        let keys = PublicKeyMap::from([("example.org".to_owned(), set)]);
        prop_assert_eq!(ruma_signatures::verify_event(&keys, &theirs, &other).unwrap(), Verified::All);
    }

    #[test]
    fn required_signers_agree((version, mut event) in any_event(), membership in "(join|invite|leave)",
        authoriser in prop::option::of("@bob:[a-z]{1,5}\\.example"), third_party in any::<bool>()) {
        event.insert("type".into(), json!("m.room.member"));
        event.insert("room_id".into(), json!("!room:example.org"));
        event.insert("hashes".into(), json!({"sha256": "x"}));
        event.insert("signatures".into(), json!({}));
        if version.rules().room_id_is_create_hash {
            event.insert("room_id".into(), json!("!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ"));
        }
        let mut content = json!({"membership": membership});
        if let Some(user) = authoriser {
            content["join_authorised_via_users_server"] = json!(user);
        }
        if third_party {
            content["third_party_invite"] = json!({"signed": {}});
        }
        event.insert("content".into(), content);
        // Only with the right hash is it what it says it is; the other implementation does not look at that.
        let hash = hash::content_hash(&event);
        event.insert("hashes".into(), json!({"sha256": hash}));
        let theirs = ruma_signatures::required_server_signatures_to_verify_event(
            &to_other(&event), &other_rules(version).signatures).unwrap();
        let received = ReceivedPdu::check(event, version.rules()).unwrap();
        let mut ours = received.required_signers(version.rules());
        ours.sort();
        prop_assert_eq!(
            ours.iter().map(ServerName::as_str).collect::<Vec<_>>(),
            theirs.iter().map(|server| server.as_str()).collect::<Vec<_>>()
        );
    }

    /// Whatever the other implementation takes for a user id or server name, we take as well.
    #[test]
    fn identifiers_are_no_stricter(localpart in "\\PC{0,12}", server in "[a-z0-9.-]{1,12}(:[0-9]{1,5})?") {
        let id = format!("@{localpart}:{server}");
        if <&ruma_common::UserId>::try_from(id.as_str()).is_ok() {
            prop_assert!(UserId::parse(&id).is_ok());
        }
        if <&ruma_common::ServerName>::try_from(server.as_str()).is_ok() {
            prop_assert!(ServerName::parse(&server).is_ok());
        }
    }
}

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{canonical::write, version::RoomVersion};

fn content_after(kind: &str, content: &Value, version: RoomVersion) -> Value {
    Value::Object(redact_content(kind, content.as_object().unwrap(), version.rules()))
}

#[test]
fn keeps_the_content_that_each_version_protects() {
    use RoomVersion::{V1, V5, V6, V7, V8, V9, V10, V11, V12};
    let member = json!({"membership": "invite", "displayname": "x", "join_authorised_via_users_server": "@a:b",
        "third_party_invite": {"display_name": "x", "signed": {"token": "t"}}});
    let levels = json!({"ban": 1, "events": {}, "events_default": 1, "invite": 1, "kick": 1, "redact": 1,
        "state_default": 1, "users": {}, "users_default": 1, "notifications": {}});
    let mut old_levels = levels.clone();
    old_levels.as_object_mut().unwrap().retain(|key, _| key != "invite" && key != "notifications");
    let mut new_levels = levels.clone();
    new_levels.as_object_mut().unwrap().remove("notifications");
    let create = json!({"creator": "@a:b", "m.federate": false});
    let rules = json!({"join_rule": "restricted", "allow": [], "x": 1});
    let via = json!({"membership": "invite", "join_authorised_via_users_server": "@a:b"});
    let signed = json!({"membership": "invite", "join_authorised_via_users_server": "@a:b",
        "third_party_invite": {"signed": {"token": "t"}}});
    let cases = [
        (V1, "m.room.member", &member, json!({"membership": "invite"})),
        (V8, "m.room.member", &member, json!({"membership": "invite"})),
        (V9, "m.room.member", &member, via),
        (V11, "m.room.member", &member, signed),
        (V10, "m.room.power_levels", &levels, old_levels),
        (V11, "m.room.power_levels", &levels, new_levels),
        (V10, "m.room.create", &create, json!({"creator": "@a:b"})),
        (V11, "m.room.create", &create, create.clone()),
        (V7, "m.room.join_rules", &rules, json!({"join_rule": "restricted"})),
        (V8, "m.room.join_rules", &rules, json!({"join_rule": "restricted", "allow": []})),
        (V5, "m.room.aliases", &json!({"aliases": [], "x": 1}), json!({"aliases": []})),
        (V6, "m.room.aliases", &json!({"aliases": [], "x": 1}), json!({})),
        (
            V12,
            "m.room.history_visibility",
            &json!({"history_visibility": "shared", "x": 1}),
            json!({"history_visibility": "shared"}),
        ),
        (V10, "m.room.redaction", &json!({"redacts": "$a", "reason": "x"}), json!({})),
        (V11, "m.room.redaction", &json!({"redacts": "$a", "reason": "x"}), json!({"redacts": "$a"})),
        (V12, "m.room.message", &json!({"body": "x", "membership": "join"}), json!({})),
        (V11, "m.room.member", &json!({"third_party_invite": {}}), json!({"third_party_invite": {}})),
        (V11, "m.room.member", &json!({"third_party_invite": "signed"}), json!({})),
    ];
    for (version, kind, content, expected) in cases {
        assert_eq!(content_after(kind, content, version), expected, "{kind} in version {version}");
    }
}

#[test]
fn keeps_the_properties_that_each_version_protects() {
    let always = [
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "auth_events",
        "origin_server_ts",
    ];
    let before_v11 = ["origin", "membership", "prev_state"];
    let never = ["unsigned", "redacts", "age", "x"];
    let event: Map<String, Value> =
        always.iter().chain(&before_v11).chain(&never).map(|key| ((*key).to_owned(), json!("x"))).collect();
    for version in RoomVersion::ALL {
        let redacted = redact_event(&event, version.rules());
        let expected = if version < RoomVersion::V11 { always.len() + before_v11.len() } else { always.len() };
        assert_eq!(redacted.len(), expected);
        assert!(always.iter().all(|key| redacted.contains_key(*key)));
        assert_eq!(redacted.contains_key("origin"), version < RoomVersion::V11);
    }
}

fn any_event() -> impl Strategy<Value = Map<String, Value>> {
    let kinds = [
        "m.room.member",
        "m.room.create",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.aliases",
        "m.room.redaction",
        "m.room.history_visibility",
        "m.room.message",
    ];
    let keys = [
        "membership",
        "creator",
        "join_rule",
        "allow",
        "users",
        "invite",
        "aliases",
        "redacts",
        "body",
        "third_party_invite",
        "join_authorised_via_users_server",
        "history_visibility",
        "signed",
    ];
    let value = prop_oneof![Just(json!(1)), Just(json!({"signed": {"a": 1}, "b": 2})), Just(json!("x"))];
    let content = prop::collection::btree_map(prop::sample::select(keys.to_vec()), value, 0..8);
    let extra =
        prop::collection::vec(prop::sample::select(vec!["origin", "unsigned", "redacts", "membership", "z"]), 0..4);
    (prop::sample::select(kinds.to_vec()), content, extra).prop_map(|(kind, content, extra)| {
        let mut event = Map::new();
        event.insert("type".into(), json!(kind));
        event.insert("content".into(), json!(content));
        event.insert("signatures".into(), json!({"a": {"ed25519:1": "x"}}));
        event.extend(extra.into_iter().map(|key| (key.to_owned(), json!("x"))));
        event
    })
}

proptest! {
    #[test]
    fn redaction_is_idempotent(event in any_event(), version in prop::sample::select(RoomVersion::ALL.to_vec())) {
        let once = redact_event(&event, version.rules());
        prop_assert_eq!(redact_event(&once, version.rules()), once);
    }

    /// The view that hashes use and the copy that is stored are the same event.
    #[test]
    fn view_and_copy_agree(event in any_event(), version in prop::sample::select(RoomVersion::ALL.to_vec())) {
        let rules = version.rules();
        let mut copy = redact_event(&event, rules);
        copy.remove("signatures");
        prop_assert_eq!(write(&RedactedView { event: &event, rules }), write(&copy));
    }
}

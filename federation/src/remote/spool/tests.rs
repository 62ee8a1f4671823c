use serde_json::json;
use serde_json::value::to_raw_value;
use spec::version::RoomVersion;

use super::*;

const ROOM: &str = "!room:a.test";

fn spool(version: RoomVersion) -> Spool {
    Spool::new(RoomId::parse(ROOM).unwrap(), version.rules())
}

/// An event of room version 1, whose id is what its maker says.
fn event(id: &str, kind: &str, state_key: Option<&str>, auth: &[&str]) -> Box<RawValue> {
    let auth: Vec<Value> = auth.iter().map(|id| json!([format!("${id}:a.test"), {"sha256": "aGFzaA"}])).collect();
    let mut event = json!({
        "event_id": format!("${id}:a.test"), "room_id": ROOM, "sender": "@x:a.test", "type": kind, "content": {"id": id},
        "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": auth, "hashes": {"sha256": "aGFzaA"},
        "signatures": {"a.test": {"ed25519:1": "c2ln"}}, "origin": "a.test",
    });
    if let Some(state_key) = state_key {
        event["state_key"] = state_key.into();
    }
    to_raw_value(&event).unwrap()
}

fn ids(spool: &mut Spool, order: Vec<EventNumber>) -> Vec<String> {
    let id = |number| spool.read(number).unwrap().event_id().as_str().trim_end_matches(":a.test").to_owned();
    order.into_iter().map(id).collect()
}

#[test]
fn events_come_after_those_that_authorise_them() {
    let mut spool = spool(RoomVersion::V1);
    spool.add(List::State, &event("name", "m.room.name", Some(""), &["create", "join", "power"])).unwrap();
    spool.add(List::State, &event("power", "m.room.power_levels", Some(""), &["create", "join"])).unwrap();
    spool.add(List::AuthChain, &event("join", "m.room.member", Some("@x:a.test"), &["create", "unknown"])).unwrap();
    spool.add(List::AuthChain, &event("create", "m.room.create", Some(""), &[])).unwrap();
    spool.add(List::State, &event("create", "m.room.create", Some(""), &[])).unwrap();
    assert_eq!((spool.len(), spool.left_out()), (4, 0));
    let create = spool.find_state("m.room.create", "").unwrap();
    let order = spool.order(Some(create));
    assert_eq!(ids(&mut spool, order), ["$create", "$join", "$power", "$name"]);
    let join = spool.find_event(&EventId::parse("$join:a.test").unwrap()).unwrap();
    assert!(!spool.is_in_state(join) && spool.is_in_state(create));
    assert_eq!(spool.find_state("m.room.member", "@x:a.test"), None);
}

#[test]
fn circles_are_left_out_of_the_order() {
    let mut spool = spool(RoomVersion::V1);
    spool.add(List::State, &event("create", "m.room.create", Some(""), &[])).unwrap();
    spool.add(List::State, &event("a", "m.room.member", Some("@a:a.test"), &["create", "c"])).unwrap();
    spool.add(List::State, &event("b", "m.room.member", Some("@b:a.test"), &["a"])).unwrap();
    spool.add(List::State, &event("c", "m.room.member", Some("@c:a.test"), &["b"])).unwrap();
    spool.add(List::State, &event("self", "m.room.member", Some("@s:a.test"), &["self"])).unwrap();
    let order = spool.order(None);
    assert_eq!(ids(&mut spool, order), ["$create"]);
}

#[test]
fn what_is_no_state_of_the_room_is_left_out() {
    let mut spool = spool(RoomVersion::V1);
    let mut other: Value = serde_json::from_str(event("x", "m.room.name", Some(""), &[]).get()).unwrap();
    other["room_id"] = "!other:a.test".into();
    spool.add(List::State, &to_raw_value(&other).unwrap()).unwrap();
    spool.add(List::State, &event("message", "m.room.message", None, &[])).unwrap();
    spool.add(List::State, &to_raw_value(&json!([1, 2])).unwrap()).unwrap();
    spool.add(List::State, &to_raw_value(&json!({"type": "m.room.name"})).unwrap()).unwrap();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
    spool.add(List::AuthChain, &RawValue::from_string(deep).unwrap()).unwrap();
    assert_eq!((spool.len(), spool.left_out()), (0, 5));
}

#[test]
fn the_state_has_one_event_for_each_key() {
    let mut spool = spool(RoomVersion::V1);
    spool.add(List::State, &event("a", "m.room.name", Some(""), &[])).unwrap();
    spool.add(List::State, &event("a", "m.room.name", Some(""), &[])).unwrap();
    spool.add(List::AuthChain, &event("b", "m.room.name", Some(""), &[])).unwrap();
    spool.add(List::State, &event("c", "m.room.name", Some("x"), &[])).unwrap();
    assert_eq!(spool.len(), 3);
    assert!(spool.add(List::State, &event("d", "m.room.name", Some(""), &[])).is_err());
}

#[test]
fn the_number_of_events_is_bounded() {
    let mut spool = spool(RoomVersion::V1);
    let entry = || Entry { offset: 0, length: 0, auth_events: Box::default(), in_state: false };
    spool.entries = std::iter::repeat_with(entry).take(MAX_EVENTS - 1).collect();
    spool.add(List::State, &event("create", "m.room.create", Some(""), &[])).unwrap();
    assert!(spool.add(List::State, &event("name", "m.room.name", Some(""), &[])).is_err());
    assert_eq!(spool.len(), MAX_EVENTS);
}

use std::sync::Arc;

use serde_json::{json, value::to_raw_value};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;

use super::*;

fn message(prev: &[&EventId], depth: i64) -> Arc<Pdu> {
    let server = ServerName::parse("a.test").unwrap();
    let key = SigningKey::from_seed([3; 32], "1").unwrap();
    let event = json!({
        "auth_events": [], "prev_events": prev, "depth": depth, "origin_server_ts": 1, "room_id": "!room:a.test",
        "sender": "@x:a.test", "type": "m.room.message", "content": {},
    });
    let Value::Object(event) = event else { unreachable!() };
    Arc::new(Pdu::sign(event, &server, &key, RoomVersion::V10.rules()).unwrap())
}

#[test]
fn events_come_after_those_that_they_follow() {
    let first = message(&[], 9);
    let second = message(&[&first.event_id], 2);
    let third = message(&[&second.event_id, &first.event_id], 1);
    let loose = message(&[&EventId::parse("$elsewhere").unwrap()], 5);
    let events = [&third, &loose, &second, &first].map(|pdu| CheckedPdu::of_ours(pdu.clone())).to_vec();
    let sorted: Vec<EventId> = sort_by_prev(events).iter().map(|event| event.pdu().event_id.clone()).collect();
    assert_eq!(sorted, [&loose, &first, &second, &third].map(|pdu| pdu.event_id.clone()));
}

#[test]
fn only_events_of_the_room_are_taken_each_once() {
    let (server, room) = (ServerName::parse("a.test").unwrap(), RoomId::parse("!room:a.test").unwrap());
    let raw = |pdu: &Pdu| to_raw_value(&pdu.to_object().unwrap()).unwrap();
    let (one, two) = (message(&[], 1), message(&[], 2));
    let mut elsewhere = two.to_object().unwrap();
    elsewhere.insert("room_id".into(), "!other:a.test".into());
    let list = [raw(&one), raw(&one), to_raw_value(&elsewhere).unwrap(), to_raw_value(&json!("x")).unwrap(), raw(&two)];
    let rules = RoomVersion::V10.rules();
    let ids = |most| -> Vec<EventId> {
        parse_pdus(&server, &room, rules, &list, most).iter().map(|pdu| pdu.event_id().clone()).collect()
    };
    assert_eq!(ids(10), [one.event_id.clone(), two.event_id.clone()]);
    assert_eq!(ids(4), *std::slice::from_ref(&one.event_id));
}

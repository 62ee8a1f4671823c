use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::fixture::Fixture;

fn message(to: &UserId, target: DeviceTarget, body: &str) -> ToDeviceMessages {
    let content = to_raw_value(&json!({ "body": body })).unwrap();
    BTreeMap::from([(to.clone(), BTreeMap::from([(target, content)]))])
}

fn bodies(queued: &QueuedMessages) -> Vec<String> {
    let body = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap()["content"]["body"].clone();
    queued.events.iter().map(|event| body(event).as_str().unwrap().to_owned()).collect()
}

#[test]
fn messages_wait_until_they_are_acknowledged() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("bob", "B"));
    for body in ["1", "2", "3"] {
        let messages = message(&b.user_id, DeviceTarget::One("B".into()), body);
        assert!(f.run(f.users.queue_to_device(&a.user_id, "m.x", None, &messages)).unwrap());
    }
    let until = f.store.visible();
    let first = f.users.queued_messages(b.device, StreamPos::ZERO, until, 2).unwrap();
    assert_eq!(bodies(&first), ["1", "2"]);
    assert!(first.has_more);
    let again = f.users.queued_messages(b.device, StreamPos::ZERO, until, 2).unwrap();
    assert_eq!(bodies(&again), ["1", "2"], "not acknowledged, so sent again");
    let event: Value = serde_json::from_str(first.events[0].get()).unwrap();
    assert_eq!((&event["sender"], &event["type"]), (&json!(a.user_id), &json!("m.x")));
    f.run(f.users.acknowledge_messages(b.device, first.last.unwrap())).unwrap();
    let rest = f.users.queued_messages(b.device, StreamPos::ZERO, until, 2).unwrap();
    assert_eq!((bodies(&rest), rest.has_more), (vec!["3".to_owned()], false));
}

#[test]
fn a_repeated_transaction_queues_nothing() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("bob", "B"));
    let messages = message(&b.user_id, DeviceTarget::All, "x");
    let send = |scope| f.run(f.users.queue_to_device(&a.user_id, "m.x", Some((scope, "t")), &messages)).unwrap();
    assert!(send(TransactionScope::Device(a.device)));
    assert!(!send(TransactionScope::Device(a.device)));
    assert!(send(TransactionScope::Device(b.device)));
    assert!(send(TransactionScope::Server("remote.example")));
    assert!(!send(TransactionScope::Server("remote.example")));
    let queued = f.users.queued_messages(b.device, StreamPos::ZERO, f.store.visible(), 100).unwrap();
    assert_eq!(queued.events.len(), 3);

    f.clock.advance(std::time::Duration::from_secs(30 * 3_600));
    f.run(f.users.delete_expired()).unwrap();
    assert!(send(TransactionScope::Device(a.device)), "forgotten after a day");
}

#[test]
fn a_wildcard_reaches_every_device_and_unknown_receivers_are_skipped() {
    let f = Fixture::new();
    let (a, b, c) = (f.session("alice", "A"), f.session("bob", "B"), f.session("bob", "C"));
    let mut messages = message(&b.user_id, DeviceTarget::All, "x");
    messages.extend(message(&a.user_id, DeviceTarget::One("NONE".into()), "y"));
    messages.extend(message(&UserId::parse("@nobody:example.org").unwrap(), DeviceTarget::All, "z"));
    f.run(f.users.queue_to_device(&a.user_id, "m.x", None, &messages)).unwrap();
    let count = |device| f.users.queued_messages(device, StreamPos::ZERO, f.store.visible(), 9).unwrap().events.len();
    assert_eq!((count(a.device), count(b.device), count(c.device)), (0, 1, 1));
}

#[test]
fn messages_of_one_commit_are_never_split() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("bob", "B"));
    let content = || to_raw_value(&json!({ "body": "x" })).unwrap();
    let targets = BTreeMap::from([(DeviceTarget::All, content()), (DeviceTarget::One("B".into()), content())]);
    let messages = BTreeMap::from([(b.user_id.clone(), targets)]);
    f.run(f.users.queue_to_device(&a.user_id, "m.x", None, &messages)).unwrap();
    let queued = f.users.queued_messages(b.device, StreamPos::ZERO, f.store.visible(), 1).unwrap();
    assert_eq!((queued.events.len(), queued.has_more), (2, false));
}

#[test]
fn oversized_and_malformed_contents_are_refused() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("bob", "B"));
    let big = message(&b.user_id, DeviceTarget::All, &"x".repeat(70_000));
    assert!(matches!(f.run(f.users.queue_to_device(&a.user_id, "m.x", None, &big)), Err(UserError::TooLarge(_))));
    let text =
        BTreeMap::from([(b.user_id.clone(), BTreeMap::from([(DeviceTarget::All, to_raw_value("text").unwrap())]))]);
    assert!(matches!(f.run(f.users.queue_to_device(&a.user_id, "m.x", None, &text)), Err(UserError::BadJson(_))));
}

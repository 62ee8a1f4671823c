use serde_json::{json, value::to_raw_value};

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

fn direct(sender: &str, message_id: &str, messages: Value) -> Map<String, Value> {
    let content = json!({"sender": sender, "type": "m.x", "message_id": message_id, "messages": messages});
    content.as_object().unwrap().clone()
}

#[test]
fn messages_of_other_servers_are_queued_once() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("alice", "B"));
    let remote = ServerName::parse("remote.example").unwrap();
    let deep: Value = serde_json::from_str(&format!("{}1{}", "[".repeat(110), "]".repeat(110))).unwrap();
    let messages = json!({
        "@alice:example.org": {"*": {"body": "1"}, "A": {"body": "2"}, "B": {"deep": deep}, "NONE": {}},
        "@nobody:example.org": {"*": {"body": "3"}},
        "@alice:other.example": {"A": {"body": "4"}},
    });
    for _ in 0..2 {
        let content = direct("@bob:remote.example", "m1", messages.clone());
        f.run(f.users.receive_to_device(&remote, content)).unwrap();
    }
    let queued = |device| bodies(&f.users.queued_messages(device, StreamPos::ZERO, f.store.visible(), 9).unwrap());
    assert_eq!((queued(a.device), queued(b.device)), (vec!["1".to_owned(), "2".to_owned()], vec!["1".to_owned()]));
    let again = direct("@bob:remote.example", "m2", json!({"@alice:example.org": {"B": {"body": "5"}}}));
    f.run(f.reopen().receive_to_device(&remote, again)).unwrap();
    let repeated = direct("@bob:remote.example", "m1", messages);
    f.run(f.reopen().receive_to_device(&remote, repeated)).unwrap();
    assert_eq!(queued(b.device), ["1", "5"], "also after a restart");
}

#[test]
fn forged_and_oversized_messages_of_other_servers_leave_nothing() {
    let f = Fixture::new();
    let a = f.session("alice", "A");
    let remote = ServerName::parse("remote.example").unwrap();
    let before = f.store.visible();
    let to_alice = json!({"@alice:example.org": {"A": {}}});
    for sender in ["@alice:example.org", "@bob:other.example", "@bob:sub.remote.example"] {
        let refused = f.run(f.users.receive_to_device(&remote, direct(sender, "m", to_alice.clone())));
        assert!(matches!(refused, Err(UserError::Forbidden(_))), "{sender}");
    }
    let many: Map<String, Value> = (0..=MAX_REMOTE_TARGETS).map(|n| (format!("D{n}"), json!({}))).collect();
    for (id, messages) in [
        ("x".repeat(MAX_MESSAGE_ID_BYTES + 1), to_alice.clone()),
        ("m".to_owned(), json!({"@alice:example.org": many})),
    ] {
        let refused = f.run(f.users.receive_to_device(&remote, direct("@bob:remote.example", &id, messages)));
        assert!(matches!(refused, Err(UserError::TooLarge(_))));
    }
    let nobody = json!({"@nobody:example.org": {"*": {}}, "@alice:example.org": {"A": "text"}});
    f.run(f.users.receive_to_device(&remote, direct("@bob:remote.example", "m", nobody))).unwrap();
    assert!(matches!(f.run(f.users.receive_to_device(&remote, Map::new())), Err(UserError::BadJson(_))));
    assert_eq!(f.store.visible(), before, "nothing is written");
    assert!(f.users.queued_messages(a.device, StreamPos::ZERO, before, 9).unwrap().events.is_empty());
}

/// What other servers were sent, by message ID, and whether the next one is refused.
#[derive(Default)]
struct Outbox {
    sent: parking_lot::Mutex<Vec<(String, usize)>>,
    is_full: std::sync::atomic::AtomicBool,
}

impl RemoteUsers for Outbox {
    fn query_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: BTreeMap<UserId, Vec<String>>,
        _: std::time::Duration,
    ) -> crate::RemoteAnswer<'a, crate::QueriedKeys> {
        Box::pin(async { Ok(crate::QueriedKeys::default()) })
    }

    fn claim_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: BTreeMap<UserId, BTreeMap<String, String>>,
        _: std::time::Duration,
    ) -> crate::RemoteAnswer<'a, crate::ClaimedKeys> {
        Box::pin(async { Ok(crate::ClaimedKeys::new()) })
    }

    fn profile<'a>(&'a self, _: &'a UserId, _: Option<&'a str>) -> crate::RemoteAnswer<'a, Map<String, Value>> {
        Box::pin(async { Ok(Map::new()) })
    }

    fn send_to_device<'a>(
        &'a self,
        _: &'a UserId,
        _: &'a str,
        message_id: &'a str,
        messages: ToDeviceMessages,
    ) -> crate::RemoteAnswer<'a, ()> {
        Box::pin(async move {
            if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(UserError::ShuttingDown);
            }
            self.sent.lock().push((message_id.to_owned(), messages.len()));
            Ok(())
        })
    }

    fn user_devices<'a>(&'a self, _: &'a UserId) -> crate::RemoteAnswer<'a, Box<RawValue>> {
        Box::pin(async { Err(UserError::NotFound("the user")) })
    }
}

#[test]
fn a_transaction_reaches_both_sides_or_can_be_repeated() {
    let f = Fixture::new();
    let (a, b) = (f.session("alice", "A"), f.session("bob", "B"));
    let outbox = Outbox::default();
    let mut messages = message(&b.user_id, DeviceTarget::All, "x");
    messages.extend(message(&UserId::parse("@eve:remote.example").unwrap(), DeviceTarget::One("E".into()), "x"));
    let send = |transaction: &str| f.run(f.users.send_to_devices(&outbox, &a, "m.x", transaction, messages.clone()));
    outbox.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    send("t").unwrap_err();
    outbox.is_full.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(send("t").unwrap(), "what failed is not remembered");
    assert!(!send("t").unwrap());
    assert!(send("u").unwrap());
    let sent = outbox.sent.lock().clone();
    assert_eq!(sent.iter().map(|(_, users)| *users).collect::<Vec<_>>(), [1, 1]);
    assert!(sent[0].0 != sent[1].0 && sent.iter().all(|(id, _)| id.len() <= 32));
    assert_eq!(f.users.queued_messages(b.device, StreamPos::ZERO, f.store.visible(), 9).unwrap().events.len(), 2);

    let big = message(&UserId::parse("@eve:remote.example").unwrap(), DeviceTarget::All, &"x".repeat(70_000));
    let refused = f.run(f.users.send_to_devices(&outbox, &a, "m.x", "v", big));
    assert!(matches!(refused, Err(UserError::TooLarge(_))));
    assert_eq!(outbox.sent.lock().len(), 2, "nothing is sent of what is refused");
}

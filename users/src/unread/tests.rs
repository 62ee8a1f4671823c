use rooms::{Draft, ReceiptKind};
use serde_json::Map;
use spec::ids::EventId;

use super::*;

fn receipt(thread: Option<&str>, seq: i64) -> Receipt {
    Receipt {
        user: UserNid(1),
        kind: ReceiptKind::Read,
        thread: thread.map(Box::from),
        event_id: "$e".into(),
        seq: RoomSeq(seq),
        at: 0,
    }
}

fn tally(notable: &[(i64, Option<&str>, bool)]) -> Tally {
    let mut tally = Tally::default();
    for (seq, thread, highlight) in notable {
        tally.add(Notable { seq: RoomSeq(*seq), thread: thread.map(Box::from), highlight: *highlight });
    }
    tally
}

fn totals(tally: &mut Tally, receipts: &[Receipt]) -> (u64, u64, u64) {
    let unread = tally.count(&ReadMarks::of(receipts, RoomSeq(0)));
    let in_thread = unread.threads.get("$t").copied().unwrap_or_default().notifications;
    (unread.main.notifications, in_thread, unread.total().highlights)
}

const EVENTS: &[(i64, Option<&str>, bool)] =
    &[(1, None, false), (2, Some("$t"), true), (3, None, true), (4, Some("$t"), false), (5, Some("$u"), false)];

#[test]
fn an_unthreaded_receipt_reads_everything_before_it() {
    assert_eq!(totals(&mut tally(EVENTS), &[]), (2, 2, 2));
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(None, 2)]), (1, 1, 1));
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(None, 5)]), (0, 0, 0));
}

#[test]
fn a_threaded_receipt_reads_its_thread_only() {
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(Some("main"), 3)]), (0, 2, 1));
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(Some("$t"), 4)]), (2, 0, 1));
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(Some("$t"), 2), receipt(None, 1)]), (1, 1, 1));
}

#[test]
fn of_two_kinds_of_receipt_the_later_counts() {
    let private = Receipt { kind: ReceiptKind::ReadPrivate, ..receipt(None, 4) };
    assert_eq!(totals(&mut tally(EVENTS), &[receipt(None, 1), private]), (0, 0, 0));
}

#[test]
fn without_receipts_reading_begins_at_the_own_member_event() {
    let marks = ReadMarks::of(&[], RoomSeq(3));
    assert!(marks.has_read(RoomSeq(3), None));
    assert!(!marks.has_read(RoomSeq(4), None));
}

#[test]
fn counting_stops_at_the_bound() {
    let mut tally = Tally::default();
    for seq in 0..1_500 {
        tally.add(Notable { seq: RoomSeq(seq), thread: None, highlight: false });
    }
    assert_eq!(tally.count(&ReadMarks::of(&[], RoomSeq(-1))).main.notifications, 1_000);
}

#[test]
fn the_thread_is_found_in_the_relation_only() {
    let root = |content: &str| thread_root(content).map(String::from);
    let threaded = r#"{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"$t"}}"#;
    assert_eq!(root(threaded).as_deref(), Some("$t"));
    assert_eq!(root(r#"{"body":"m.thread"}"#), None);
    assert_eq!(root(r#"{"m.relates_to":{"rel_type":"m.replace","event_id":"$t"},"body":"m.thread"}"#), None);
    assert_eq!(root(r#"{"m.relates_to":"m.thread"}"#), None);
}

/// A room with alice (who reads) and bob (who writes), made by the real room domain.
struct Chat {
    f: crate::fixture::Fixture,
    alice: crate::Account,
    bob: crate::Account,
    room: RoomNid,
}

impl Chat {
    fn new() -> Self {
        let f = crate::fixture::Fixture::new();
        let (alice, bob) = (f.account("alice"), f.account("bob"));
        let room_id = f
            .run(f.rooms.create_room(rooms::CreateRoom::new(
                bob.user_id.clone(),
                spec::version::RoomVersion::V11,
                rooms::Preset::PublicChat,
            )))
            .unwrap();
        let join = rooms::MembershipChange {
            sender: alice.user_id.clone(),
            target: alice.user_id.clone(),
            membership: Membership::Join,
            content: Map::new(),
        };
        f.run(f.rooms.change_membership(&room_id, join)).unwrap();
        let room = f.rooms.room_nid(&room_id).unwrap().unwrap();
        Self { f, alice, bob, room }
    }

    fn send(&self, draft: Draft) -> EventId {
        self.f.run(self.f.rooms.append(self.room, vec![draft], None)).unwrap().remove(0)
    }

    fn say(&self, sender: &crate::Account, body: &str) -> EventId {
        let content = serde_json::json!({ "msgtype": "m.text", "body": body });
        self.send(Draft::message(sender.user_id.clone(), "m.room.message", content.as_object().unwrap().clone()))
    }

    fn unread(&self) -> UnreadCounts {
        self.f.users.unread_counts(self.alice.user, self.room).unwrap().total()
    }

    fn notifications(&self) -> u64 {
        self.unread().notifications
    }
}

#[test]
fn messages_of_others_count_until_they_are_read() {
    let chat = Chat::new();
    assert_eq!(chat.notifications(), 0, "what came before one's own join is not news");
    chat.say(&chat.bob, "one");
    assert_eq!(chat.notifications(), 1);
    let read = chat.say(&chat.bob, "two");
    chat.say(&chat.bob, "three");
    chat.say(&chat.alice, "mine");
    assert_eq!(chat.notifications(), 3);
    let receipts = [(ReceiptKind::ReadPrivate, None, &read)];
    chat.f.run(chat.f.rooms.set_receipts(chat.room, chat.alice.user, &receipts)).unwrap();
    assert_eq!(chat.notifications(), 1);
    assert_eq!(chat.f.reopen().unread_counts(chat.alice.user, chat.room).unwrap().total().notifications, 1);
}

#[test]
fn mentions_are_highlighted() {
    let chat = Chat::new();
    let content = serde_json::json!({
        "msgtype": "m.text", "body": "hey", "m.mentions": { "user_ids": [chat.alice.user_id] }
    });
    let content = content.as_object().unwrap().clone();
    chat.send(Draft::message(chat.bob.user_id.clone(), "m.room.message", content));
    assert_eq!(chat.unread(), UnreadCounts { notifications: 1, highlights: 1 });
}

#[test]
fn a_redacted_message_is_unread_no_more() {
    let chat = Chat::new();
    let doomed = chat.say(&chat.bob, "oops");
    chat.say(&chat.bob, "fine");
    assert_eq!(chat.notifications(), 2);
    chat.send(Draft::redaction(chat.bob.user_id.clone(), doomed, Map::new()));
    assert_eq!(chat.notifications(), 1);
}

#[test]
fn a_muted_room_counts_nothing_from_then_on() {
    let chat = Chat::new();
    chat.say(&chat.bob, "one");
    assert_eq!(chat.notifications(), 1);
    let kind = spec::push::RuleKind::Override;
    chat.f.run(chat.f.users.set_push_rule_enabled(chat.alice.user, kind, ".m.rule.master", true)).unwrap();
    chat.say(&chat.bob, "two");
    assert_eq!(chat.notifications(), 1);
}

#[test]
fn messages_of_ignored_users_are_not_counted() {
    let chat = Chat::new();
    let ignored = serde_json::json!({ "ignored_users": { chat.bob.user_id.as_str(): {} } });
    let ignored = serde_json::value::to_raw_value(&ignored).unwrap();
    chat.f.run(chat.f.users.set_account_data(chat.alice.user, "m.ignored_user_list", &ignored)).unwrap();
    chat.say(&chat.bob, "nobody hears");
    assert_eq!(chat.notifications(), 0);
}

#[test]
fn what_was_purged_counts_no_more() {
    let chat = Chat::new();
    assert_eq!(chat.notifications(), 0);
    let tally = chat.f.users.inner.tallies.of(chat.alice.user, chat.room);
    // An event that is here no more.
    tally.lock().add(Notable { seq: RoomSeq(1_000_000), thread: None, highlight: false });
    let doomed = chat.say(&chat.bob, "oops");
    chat.send(Draft::redaction(chat.bob.user_id.clone(), doomed, Map::new()));
    chat.say(&chat.bob, "fine");
    assert_eq!(chat.notifications(), 1);
    assert_eq!(tally.lock().notable.len(), 1);
}

impl Chat {
    fn has_unread(&self) -> bool {
        self.f.users.has_unread(self.alice.user, self.room).unwrap()
    }

    fn read(&self, event: &EventId, thread: Option<&str>) {
        let receipts = [(ReceiptKind::ReadPrivate, thread, event)];
        self.f.run(self.f.rooms.set_receipts(self.room, self.alice.user, &receipts)).unwrap();
    }

    fn mute(&self, is_muted: bool) {
        let kind = spec::push::RuleKind::Override;
        self.f.run(self.f.users.set_push_rule_enabled(self.alice.user, kind, ".m.rule.master", is_muted)).unwrap();
    }
}

#[test]
fn a_glance_finds_what_is_unread_without_counting() {
    let chat = Chat::new();
    assert!(!chat.has_unread());
    let first = chat.say(&chat.bob, "one");
    let second = chat.say(&chat.bob, "two");
    assert!(chat.has_unread());
    let newest = chat.f.users.inner.glances.newest(chat.alice.user, chat.room);
    assert_eq!(newest, Some(chat.f.rooms.head(chat.room).unwrap().last_seq()));
    assert_eq!(chat.f.users.inner.tallies.0.len(), 0, "counting is left to those who need counts");
    chat.send(Draft::redaction(chat.bob.user_id.clone(), second, Map::new()));
    assert!(chat.has_unread(), "the first one");
    chat.read(&first, None);
    assert!(!chat.has_unread());
    chat.say(&chat.alice, "mine");
    assert!(!chat.has_unread());
    chat.say(&chat.bob, "three");
    assert!(chat.has_unread());
}

#[test]
fn a_glance_looks_at_nothing_twice() {
    let chat = Chat::new();
    chat.mute(true);
    chat.say(&chat.bob, "one");
    assert!(!chat.has_unread());
    // Were it looked at again, it would notify now.
    chat.mute(false);
    assert!(!chat.has_unread());
    chat.say(&chat.bob, "two");
    assert!(chat.has_unread());
}

#[test]
fn of_a_glance_that_is_read_the_older_events_may_be_unread() {
    let chat = Chat::new();
    let root = chat.say(&chat.bob, "root");
    chat.read(&root, None);
    chat.say(&chat.bob, "in the room");
    let relation = serde_json::json!({
        "msgtype": "m.text", "body": "in a thread", "m.relates_to": { "rel_type": "m.thread", "event_id": root }
    });
    let content = relation.as_object().unwrap().clone();
    let in_thread = chat.send(Draft::message(chat.bob.user_id.clone(), "m.room.message", content));
    assert!(chat.has_unread());
    chat.read(&in_thread, Some(root.as_str()));
    assert!(chat.has_unread(), "what was said in the room");
    chat.read(&in_thread, None);
    assert!(!chat.has_unread());
}

//! Push against gateways that only record what they are sent.

mod fixture;

use std::time::Duration;

use rooms::{Draft, Membership, RoomSeq, UserNid};
use runtime::config::Span;
use serde_json::json;
use spec::ids::EventId;
use spec::push::RuleKind;
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use super::{BadgeCount, PushConfig, rows};
use fixture::{Fixture, Gateway, object, user};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_described_in_full() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.session("carol").await;
    here.set_pusher(&bob, "key", "push.example", json!({"default_payload": {"aps": 1}})).await;
    // Between two people each message would make a sound.
    let room = here.room("alice", &["bob", "carol"]).await;
    let said = here.say(&room, "alice", "hello").await;
    here.until(|| here.gateways.events_for("key") == [said.clone()]).await;
    let expected = json!({
        "event_id": said, "room_id": room, "type": "m.room.message", "sender": "@alice:us",
        "sender_display_name": "ALICE", "room_name": "The Room",
        "content": {"msgtype": "m.text", "body": "hello"},
        "prio": "low", "counts": {"unread": 1},
        "devices": [{
            "app_id": "org.app", "pushkey": "key", "pushkey_ts": 1_700_000_000,
            "data": {"default_payload": {"aps": 1}},
        }],
    });
    assert_eq!(here.gateways.taken(), [expected]);
    here.until(|| here.is_at_rest()).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wants_ids_only_gets_no_more() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    let data = json!({"format": "event_id_only", "org.matrix.msc4076.disable_badge_count": true});
    here.set_pusher(&bob, "key", "push.example", data.clone()).await;
    let room = here.room("alice", &["bob"]).await;
    let content = object(json!({"body": "hey", "msgtype": "m.text", "m.mentions": {"user_ids": ["@bob:us"]}}));
    let said = here.append(&room, Draft::message(user("alice"), "m.room.message", content)).await;
    here.until(|| here.gateways.events_for("key") == [said.clone()]).await;
    let expected = json!({
        "event_id": said, "room_id": room, "prio": "high",
        "devices": [{
            "app_id": "org.app", "pushkey": "key", "pushkey_ts": 1_700_000_000, "data": data,
            "tweaks": {"sound": "default", "highlight": true},
        }],
    });
    assert_eq!(here.gateways.taken(), [expected]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_message_is_urgent() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    let content = object(json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}));
    here.append(&room, Draft::message(user("alice"), "m.room.encrypted", content)).await;
    here.until(|| !here.gateways.taken().is_empty()).await;
    assert_eq!(here.gateways.taken()[0]["prio"], "high");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_notifies_its_target() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    let room = here.room("alice", &[]).await;
    here.change(&room, "alice", "bob", Membership::Invite).await;
    here.until(|| here.gateways.taken().len() == 1).await;
    let told = here.gateways.taken().remove(0);
    assert_eq!((&told["user_is_target"], &told["membership"]), (&json!(true), &json!("invite")));
    assert_eq!((&told["type"], &told["counts"]["unread"]), (&json!("m.room.member"), &json!(1)));
    // Going there is not news, and leaves nothing to count.
    here.change(&room, "bob", "bob", Membership::Join).await;
    here.until_later(SECOND, || here.gateways.badge_of("key") == Some(0)).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_the_user_does_not_want_to_see_is_neither_told_nor_counted() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.session("mallory").await;
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    let hidden = serde_json::value::to_raw_value(&json!({"ignored_users": ["@mallory:*"]})).unwrap();
    let kind = "org.matrix.msc4155.invite_permission_config";
    here.users.set_account_data(bob.user, kind, &hidden).await.unwrap();
    let spam = here.room("mallory", &[]).await;
    here.change(&spam, "mallory", "bob", Membership::Invite).await;
    let room = here.room("alice", &[]).await;
    here.change(&room, "alice", "bob", Membership::Invite).await;
    here.until(|| !here.gateways.taken().is_empty() && here.is_at_rest()).await;
    let told = here.gateways.taken();
    assert_eq!((told.len(), &told[0]["room_id"]), (1, &json!(room)));
    assert_eq!(told[0]["counts"]["unread"], 1);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_muted_ignored_own_or_from_before_the_join_notifies_nobody() {
    let here = Fixture::new().await;
    let (alice, bob) = (here.session("alice").await, here.session("bob").await);
    let carol = here.session("carol").await;
    for (session, key) in [(&alice, "a"), (&bob, "b"), (&carol, "c")] {
        here.set_pusher(session, key, "push.example", json!({})).await;
    }
    let room = here.room("alice", &["bob"]).await;
    let muted = here.room("alice", &["bob"]).await;
    let rule = serde_json::from_value(json!({"actions": []})).unwrap();
    here.users.put_push_rule(bob.user, RuleKind::Room, muted.as_str(), rule, Default::default()).await.unwrap();
    here.say(&muted, "alice", "psst").await;
    here.say(&room, "bob", "own").await;
    here.change(&room, "carol", "carol", Membership::Join).await;
    let ignored = serde_json::value::to_raw_value(&json!({"ignored_users": {"@alice:us": {}}})).unwrap();
    here.users.set_account_data(carol.user, "m.ignored_user_list", &ignored).await.unwrap();
    let seen = here.say(&room, "alice", "for bob").await;
    here.until(|| here.gateways.events_for("b").last() == Some(&seen)).await;
    here.until(|| here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("b"), [seen]);
    assert!(here.gateways.events_for("c").is_empty());
    assert_eq!(here.gateways.events_for("a").len(), 1, "bob's message");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_gateway_is_tried_ever_later_and_gets_everything_in_order() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("dead.example", Gateway::Down);
    let mut said = vec![here.say(&room, "alice", "0").await];
    here.until(|| here.gateways.tries("dead.example") == 1).await;
    for number in 1..5 {
        said.push(here.say(&room, "alice", &number.to_string()).await);
    }
    here.until_later(SECOND, || here.gateways.tries("dead.example") == 3).await;
    let before = here.clock.now_ms();
    here.until_later(SECOND, || here.gateways.tries("dead.example") == 6).await;
    assert!(here.clock.now_ms() - before > 20_000, "the pauses grow");
    here.gateways.repair("dead.example");
    here.until_later(10 * SECOND, || here.gateways.events_for("key").len() == said.len()).await;
    assert_eq!(here.gateways.events_for("key"), said);
    here.until(|| here.is_at_rest()).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_is_given_up_after_a_time() {
    let here = Fixture::with_config(PushConfig { retry_for: Span::seconds(600), ..PushConfig::default() }).await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("dead.example", Gateway::Answers(500));
    here.say(&room, "alice", "old").await;
    here.until(|| here.gateways.tries("dead.example") == 1).await;
    here.until_later(MINUTE, || here.is_at_rest()).await;
    here.gateways.repair("dead.example");
    let new = here.say(&room, "alice", "new").await;
    here.until(|| here.gateways.events_for("key") == [new.clone()]).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_queue_the_newest_remain() {
    let here = Fixture::with_config(PushConfig { max_queued: 3, ..PushConfig::default() }).await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("dead.example", Gateway::Down);
    let mut said = Vec::new();
    for number in 0..8 {
        said.push(here.say(&room, "alice", &number.to_string()).await);
    }
    here.until(|| here.gateways.tries("dead.example") > 0).await;
    let queued = || here.store.scan(&rows::QUEUE, &()).keys().count();
    let newest = here.rooms.head(here.rooms.known_room(&room).unwrap()).unwrap().last_seq();
    let last = || here.store.scan(&rows::QUEUE, &()).reverse().keys().next().map(|key| key.unwrap().4);
    here.until(|| queued() == 3 && last() == Some(newest)).await;
    here.gateways.repair("dead.example");
    here.until_later(SECOND, || here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("key"), said[5..]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_pusher_is_removed_and_others_are_not() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "gone", "rejecting.example", json!({})).await;
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("rejecting.example", Gateway::Rejects);
    let said = here.say(&room, "alice", "hello").await;
    here.until(|| here.users.pushers(bob.user).unwrap().len() == 1 && here.is_at_rest()).await;
    assert_eq!(here.users.pushers(bob.user).unwrap()[0].pusher.pushkey, "key");
    here.gateways.repair("rejecting.example");
    let again = here.say(&room, "alice", "again").await;
    here.until(|| here.gateways.events_for("key") == [said.clone(), again.clone()]).await;
    here.until(|| here.is_at_rest()).await;
    assert!(here.gateways.events_for("gone").is_empty());
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_an_outage_and_restarts_and_nothing_is_told_twice() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    let mut said = vec![here.say(&room, "alice", "one").await];
    here.until(|| here.gateways.events_for("key") == said && here.is_at_rest()).await;
    here.gateways.set("dead.example", Gateway::Down);
    said.push(here.say(&room, "alice", "two").await);
    here.until(|| here.gateways.tries("dead.example") > 0).await;
    let here = here.restart(true).await;
    said.push(here.say(&room, "alice", "three").await);
    // A sudden end: it may not have been looked at.
    let here = here.restart(false).await;
    said.push(here.say(&room, "alice", "four").await);
    here.gateways.repair("dead.example");
    here.until_later(SECOND, || here.gateways.events_for("key").len() == said.len()).await;
    assert_eq!(here.gateways.events_for("key"), said);
    here.until(|| here.is_at_rest()).await;
    let here = here.restart(true).await;
    here.until(|| here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("key"), said);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_before_a_pusher_or_while_push_was_off_is_no_news() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    let room = here.room("alice", &["bob"]).await;
    here.say(&room, "alice", "before").await;
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    here.until(|| here.store.contains(&rows::FOLLOWER, &()).unwrap()).await;
    let here = here.restart_with(false, PushConfig { enabled: false, ..PushConfig::default() }).await;
    here.say(&room, "alice", "while it was off").await;
    here.until(|| !here.store.contains(&rows::FOLLOWER, &()).unwrap()).await;
    let here = here.restart_with(true, PushConfig::default()).await;
    let said = here.say(&room, "alice", "news").await;
    here.until(|| !here.gateways.taken().is_empty() && here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("key"), [said]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_takes_the_badge_back_and_what_was_read_is_not_told() {
    let here = Fixture::with_config(PushConfig { badge: BadgeCount::Messages, ..PushConfig::default() }).await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    here.set_pusher(&bob, "slow", "dead.example", json!({})).await;
    here.gateways.set("dead.example", Gateway::Down);
    let room = here.room("alice", &["bob"]).await;
    let first = here.say(&room, "alice", "one").await;
    let second = here.say(&room, "alice", "two").await;
    here.until(|| here.gateways.events_for("key").len() == 2).await;
    here.until(|| rows::badges(&here.store).any(|row| row.unwrap().1.shown == 2)).await;
    here.read(&room, &bob, &first).await;
    here.until_later(SECOND, || here.gateways.badge_of("key") == Some(1)).await;
    let cleared = here.gateways.taken().pop().unwrap();
    assert!(cleared.get("event_id").is_none() && cleared.get("room_id").is_none(), "{cleared}");
    here.read(&room, &bob, &second).await;
    here.until_later(SECOND, || here.gateways.badge_of("key") == Some(0)).await;
    here.gateways.repair("dead.example");
    here.until_later(SECOND, || here.is_at_rest()).await;
    assert!(here.gateways.events_for("slow").is_empty());
    assert_eq!(here.gateways.badge_of("slow"), None, "it was never told another");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_badge_counts_rooms_unless_it_is_told_to_count_messages() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    let (one, two) = (here.room("alice", &["bob"]).await, here.room("alice", &["bob"]).await);
    here.say(&one, "alice", "1").await;
    here.say(&one, "alice", "2").await;
    here.say(&two, "alice", "3").await;
    here.until(|| here.gateways.taken().len() == 3).await;
    assert_eq!(here.gateways.badge_of("key"), Some(2));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redacted_message_is_not_told() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("dead.example", Gateway::Down);
    let doomed = here.say(&room, "alice", "oops").await;
    here.until(|| here.gateways.tries("dead.example") > 0).await;
    here.append(&room, Draft::redaction(user("alice"), EventId::parse(doomed).unwrap(), Default::default())).await;
    let said = here.say(&room, "alice", "fine").await;
    here.gateways.repair("dead.example");
    here.until_later(SECOND, || here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("key"), [said]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushers_that_are_switched_off_or_logged_out_hear_nothing() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "dead.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("dead.example", Gateway::Down);
    here.say(&room, "alice", "waits").await;
    here.until(|| here.gateways.tries("dead.example") > 0).await;
    let mut off = here.users.pusher(bob.user, "org.app", "key").unwrap().unwrap().pusher;
    off.enabled = Some(false);
    here.users.set_pusher(&bob, off.clone(), false).await.unwrap();
    here.gateways.repair("dead.example");
    here.until_later(SECOND, || here.is_at_rest()).await;
    here.say(&room, "alice", "nobody hears").await;
    off.enabled = Some(true);
    here.users.set_pusher(&bob, off, false).await.unwrap();
    here.until(|| here.push.arrivals.is_empty()).await;
    let said = here.say(&room, "alice", "heard").await;
    here.until(|| here.gateways.events_for("key").last() == Some(&said)).await;
    here.users.delete_device(bob.user, "PHONE").await.unwrap();
    here.say(&room, "alice", "nobody is there").await;
    here.until(|| here.is_at_rest() && here.store.scan(&rows::BADGES, &()).is_empty().unwrap()).await;
    assert_eq!(here.gateways.events_for("key").last(), Some(&said));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_silent_gateways_take_no_more_than_their_places_and_keep_nobody_waiting_for_long() {
    let config = PushConfig { max_concurrent_requests: 4, ..PushConfig::default() };
    let here = Fixture::with_config(config).await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    let carol = here.session("carol").await;
    for number in 0..50 {
        let host = format!("silent{}.example", number % 25);
        here.gateways.set(&host, Gateway::Silent);
        here.set_pusher(&bob, &format!("key{number}"), &host, json!({})).await;
    }
    here.set_pusher(&carol, "living", "push.example", json!({})).await;
    let room = here.room("alice", &["bob", "carol"]).await;
    here.say(&room, "alice", "one").await;
    here.until_later(SECOND, || !here.gateways.events_for("living").is_empty()).await;
    // From then on the silent ones stand in the other line.
    here.until_later(SECOND, || here.push.metrics.failed.get() >= 50).await;
    here.until_later(10 * MINUTE, || here.push.metrics.failed.get() >= 60).await;
    let said = here.say(&room, "alice", "two").await;
    here.until(|| here.gateways.events_for("living").last() == Some(&said)).await;
    assert!(here.gateways.most_under_way() <= 4, "{}", here.gateways.most_under_way());
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_noted_after_its_row_was_sent_does_not_stay() {
    let here = Fixture::new().await;
    let bob = here.session("bob").await;
    for (pushkey, is_set) in [("key", true), ("unknown", false)] {
        if is_set {
            here.set_pusher(&bob, pushkey, "push.example", json!({})).await;
        }
        let pusher = rows::PusherKey { user: bob.user, app_id: "org.app".into(), pushkey: pushkey.into() };
        here.push.table.lock().add(&pusher, (StreamPos(1), RoomSeq(1)));
        here.push.wake.notify_one();
        here.until(|| here.is_at_rest()).await;
    }
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_takes_a_notification_and_then_stalls_is_sent_it_once() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "stalling.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("stalling.example", Gateway::Stalls);
    let said = here.say(&room, "alice", "hello").await;
    here.until_later(SECOND, || !here.gateways.taken().is_empty() && here.is_at_rest()).await;
    assert_eq!(here.gateways.events_for("key"), [said]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_its_gateway_refuses_does_not_block_the_next_ones() {
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    here.set_pusher(&bob, "key", "odd.example", json!({})).await;
    let room = here.room("alice", &["bob"]).await;
    here.gateways.set("odd.example", Gateway::Answers(413));
    here.say(&room, "alice", "too large").await;
    here.until_later(SECOND, || here.gateways.tries("odd.example") == 3 && here.is_at_rest()).await;
    assert_eq!(here.push.metrics.given_up.get(), 1);
    here.gateways.repair("odd.example");
    let said = here.say(&room, "alice", "small").await;
    here.until_later(SECOND, || here.gateways.events_for("key") == [said.clone()]).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_that_cannot_be_read_keeps_no_others_from_being_told() {
    const PUSHERS: Keyspace<(UserNid, String, String), Vec<u8>> = Keyspace::new("pushers", Profile::Points);
    let here = Fixture::new().await;
    let (_alice, bob) = (here.session("alice").await, here.session("bob").await);
    let carol = here.session("carol").await;
    here.set_pusher(&bob, "key", "push.example", json!({})).await;
    here.set_pusher(&carol, "damaged", "push.example", json!({})).await;
    let room = here.room("alice", &["bob", "carol"]).await;
    let mut batch = Batch::new();
    batch.put(&PUSHERS, &(carol.user, "org.app".into(), "damaged".into()), &b"damaged".to_vec());
    here.store.commit(batch).await.unwrap();
    // It is read again when the user's rooms change.
    here.change(&room, "carol", "carol", Membership::Leave).await;
    let mut said = vec![here.say(&room, "alice", "hello").await];
    here.until(|| here.gateways.events_for("key") == said).await;
    let here = here.restart(true).await;
    said.push(here.say(&room, "alice", "after a start").await);
    here.until(|| here.gateways.events_for("key") == said).await;
    here.stop().await;
}

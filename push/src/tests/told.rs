//! What is told to whom, and what is counted.

use rooms::{Draft, Membership};
use serde_json::json;
use spec::ids::EventId;
use spec::push::RuleKind;
use storage::Read;

use super::SECOND;
use super::fixture::{Fixture, Gateway, object, user};
use crate::{BadgeCount, PushConfig, rows};

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

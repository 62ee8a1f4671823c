//! Gateways that are away, refuse or stall, restarts, and what of a queue survives them.

use rooms::{Membership, RoomSeq, UserNid};
use runtime::config::Span;
use serde_json::json;
use storage::{Batch, Keyspace, Profile, Read, StreamPos};

use super::fixture::{Fixture, Gateway};
use super::{MINUTE, SECOND};
use crate::{PushConfig, rows};

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

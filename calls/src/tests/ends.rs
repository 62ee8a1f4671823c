//! What ends a participation, and what is kept of it.

use std::sync::Arc;
use std::time::Duration;

use rooms::{Membership, RoomData};
use runtime::config::Span;

use super::fixture::{Fixture, PHONE, join, member, seat, user};
use crate::{CallsConfig, Entrance, LegStatistics, room_name};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_room_or_is_removed_is_put_out_of_the_call() {
    let here = Fixture::new();
    for name in ["alice", "bob", "dave"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob", "dave", "carol:far"]).await;
    let other = here.room(&["alice", "bob"]).await;
    let mut names = Vec::new();
    for name in ["alice", "bob", "dave"] {
        names.push(join(&here, &room, name).await);
    }
    let carol = join(&here, &room, "carol:far").await;
    let elsewhere = join(&here, &other, "bob").await;
    here.change(&room, "alice", "bob", Membership::Leave).await;
    here.until(|| here.media.take_disconnected() == ["@bob:us:PHONE"]).await;
    here.change(&room, "dave", "dave", Membership::Leave).await;
    here.until(|| here.media.take_disconnected() == ["@dave:us:PHONE"]).await;
    here.change(&room, "alice", "carol:far", Membership::Ban).await;
    here.until(|| here.media.take_disconnected() == ["@carol:far:PHONE"]).await;
    // Their tokens are worth nothing any more.
    assert!(!here.calls.may_join(&names[1].0, &names[1].1) && !here.calls.may_join(&carol.0, &carol.1));
    assert!(here.calls.may_join(&names[0].0, &names[0].1) && here.calls.may_join(&elsewhere.0, &elsewhere.1));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_ends_the_legs_of_the_device() {
    let here = Fixture::new();
    let (alice, bob) = (here.account("alice").await, here.account("bob").await);
    let room = here.room(&["alice", "bob"]).await;
    join(&here, &room, "alice").await;
    join(&here, &room, "bob").await;
    here.users.delete_device(alice, PHONE).await.unwrap();
    here.until(|| here.media.take_disconnected() == ["@alice:us:PHONE"]).await;
    here.users.deactivate(bob).await.unwrap();
    here.until(|| here.media.take_disconnected().contains(&"@bob:us:PHONE".to_owned())).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_to_the_call_are_sent_away() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice"]).await;
    let name = room_name(&room, "m.call#ROOM");
    assert!(!here.calls.may_join(&name, "@alice:us:PHONE"), "nobody gave her a token");
    here.events.joined(&name, "@alice:us:PHONE");
    here.until(|| here.media.take_disconnected() == ["@alice:us:PHONE"]).await;
    assert_eq!(here.present(), 0);
    here.calls.admit(&user("alice"), &seat(&room), Entrance::Service).await.unwrap();
    here.clock.advance(HOUR);
    assert!(here.calls.may_join(&name, "@alice:us:PHONE"), "she was just in time");
    here.clock.advance(Duration::from_secs(60));
    assert!(!here.calls.may_join(&name, "@alice:us:PHONE"), "the token has expired");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_may_come_back_however_long_ago_they_joined() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice"]).await;
    let (call, alice) = join(&here, &room, "alice").await;
    here.clock.advance(2 * HOUR);
    assert!(here.calls.may_join(&call, &alice));
    here.calls.sweep().await.unwrap();
    // Also after this server was away.
    let here = here.restart().await;
    assert!(here.calls.may_join(&call, &alice));
    here.clock.advance(HOUR + Duration::from_secs(60));
    here.calls.sweep().await.unwrap();
    assert!(!here.calls.may_join(&call, &alice));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_who_was_in_a_call() {
    let config = CallsConfig { history: Span::seconds(100), history_entries: 2, ..CallsConfig::default() };
    let here = Fixture::with_config(config);
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob"]).await;
    let began = here.clock.now_ms();
    let (call, alice) = join(&here, &room, "alice").await;
    here.clock.advance(Duration::from_secs(5));
    let (_, bob) = join(&here, &room, "bob").await;
    let shown = here.calls.overview().unwrap();
    assert_eq!((shown.len(), shown[0].since_ms, &shown[0].room), (1, began, &room));
    assert_eq!((&shown[0].legs[1].user, shown[0].legs[1].since_ms), (&user("bob"), began + 5_000));
    here.clock.advance(Duration::from_secs(5));
    let statistics = LegStatistics { transport: "udp".to_owned(), rtt_ms: Some(20), ..LegStatistics::default() };
    here.events.left(&call, &bob, statistics.clone());
    here.until(|| here.present() == 1).await;
    here.until(|| here.calls.history(None, u64::MAX, 10).unwrap().len() == 1).await;
    let kept = here.calls.history(None, u64::MAX, 10).unwrap().remove(0);
    assert_eq!((&kept.user, &kept.room, kept.device.as_deref()), (&user("bob"), &room, Some(PHONE)));
    assert_eq!((kept.call_ms, kept.joined_ms, kept.left_ms), (began, began + 5_000, began + 10_000));
    assert_eq!(kept.statistics, statistics);
    // The end of the server is the end of those who are still in.
    let here = here.restart().await;
    let kept = here.calls.history(None, u64::MAX, 10).unwrap();
    assert_eq!(kept.iter().map(|leg| leg.identity.clone()).collect::<Vec<_>>(), [alice, bob]);
    assert_eq!(here.calls.history(None, began + 10_000, 10).unwrap().len(), 0);
    let elsewhere = here.room(&["alice"]).await;
    let elsewhere = here.rooms.known_room(&elsewhere).unwrap();
    assert_eq!(here.calls.history(Some(elsewhere), u64::MAX, 10).unwrap(), []);
    let (call, alice) = join(&here, &room, "alice").await;
    here.clock.advance(Duration::from_secs(1));
    here.events.left(&call, &alice, LegStatistics::default());
    here.until(|| here.calls.history(None, u64::MAX, 10).unwrap().len() == 3).await;
    here.calls.sweep().await.unwrap();
    assert_eq!(here.calls.history(None, u64::MAX, 10).unwrap().len(), 2, "the oldest goes");
    here.clock.advance(Duration::from_secs(200));
    here.calls.sweep().await.unwrap();
    assert_eq!(here.calls.history(None, u64::MAX, 10).unwrap().len(), 0);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_can_be_followed_by_another_of_its_name() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice"]).await;
    let (call, alice) = join(&here, &room, "alice").await;
    here.events.left(&call, &alice, LegStatistics::default());
    here.events.joined(&call, &alice);
    here.until(|| here.calls.history(None, u64::MAX, 10).unwrap().len() == 1).await;
    here.until(|| here.present() == 1).await;
    // Two devices of a user are two participants.
    here.calls.admit(&user("alice"), &member(&room, "m", None), Entrance::Client).await.unwrap();
    here.events.joined(&call, &here.media.last().identity);
    here.until(|| here.present() == 2).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_room_ends_its_calls_and_is_forgotten() {
    let here = Fixture::new();
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let (room, other) = (here.room(&["alice", "bob"]).await, here.room(&["alice"]).await);
    let (call, alice) = join(&here, &room, "alice").await;
    let (_, bob) = join(&here, &room, "bob").await;
    let (elsewhere, there) = join(&here, &other, "alice").await;
    here.events.left(&call, &bob, LegStatistics::default());
    here.events.left(&elsewhere, &there, LegStatistics::default());
    here.until(|| here.calls.history(None, u64::MAX, 10).unwrap().len() == 2).await;
    let nid = here.rooms.known_room(&room).unwrap();
    let others: Vec<Arc<dyn RoomData>> = vec![Arc::new(here.calls.clone())];
    here.rooms.begin_deletion(nid, true).await.unwrap();
    while !here.rooms.delete_on(nid, &others).await.unwrap() {}
    here.until(|| here.media.take_disconnected() == ["@alice:us:PHONE"]).await;
    assert!(!here.calls.may_join(&call, &alice));
    // Her participation ends after the room: there is nowhere to show it.
    here.events.left(&call, &alice, LegStatistics::default());
    here.until(|| here.present() == 0).await;
    let kept = here.calls.history(None, u64::MAX, 10).unwrap();
    assert_eq!(kept.iter().map(|leg| &leg.room).collect::<Vec<_>>(), [&other]);
    assert!(here.calls.overview().unwrap().is_empty());
    here.stop().await;
}

//! Leave events that are delegated.

use std::time::Duration;

use rooms::Membership;

use super::fixture::{Fixture, member, seat, user};
use crate::{CallError, Entrance, LegStatistics};

const SECOND: Duration = Duration::from_secs(1);
const HOUR_MS: u64 = 3_600_000;

async fn start() -> (Fixture, spec::ids::RoomId) {
    let here = Fixture::new();
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob", "carol:far"]).await;
    (here, room)
}

async fn admit(here: &Fixture, room: &spec::ids::RoomId, name: &str) -> (String, String) {
    here.calls.admit(&user(name), &seat(room), Entrance::Service).await.unwrap();
    let grant = here.media.last();
    (grant.room, grant.identity)
}

async fn delegate(here: &Fixture, room: &spec::ids::RoomId, name: &str, id: &str) -> Result<(), CallError> {
    here.calls.delegate_leave(&user(name), &seat(room), id, Entrance::Service).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_is_restarted_while_its_participant_is_there_and_sent_afterwards() {
    let (here, room) = start().await;
    let (call, alice) = admit(&here, &room, "alice").await;
    let id = here.schedule(&room, "alice", HOUR_MS).await;
    here.announce(&room, "alice").await;
    delegate(&here, &room, "alice", &id).await.unwrap();
    here.clock.advance(10 * SECOND);
    here.events.joined(&call, &alice);
    let joined = here.clock.now_ms();
    here.until(|| here.since_ms(&id) == joined).await;
    here.clock.advance(Duration::from_millis(HOUR_MS / 5 * 4));
    here.until(|| here.since_ms(&id) == joined + HOUR_MS / 5 * 4).await;
    assert!(!here.was_sent(&id));
    here.events.left(&call, &alice, LegStatistics::default());
    here.until(|| here.present() == 0).await;
    here.until(|| {
        here.clock.advance(SECOND);
        here.was_sent(&id)
    })
    .await;
    here.until(|| here.calls.is_watching_nothing()).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_the_call_already_is_looked_after_from_then_on() {
    let (here, room) = start().await;
    let (call, alice) = admit(&here, &room, "alice").await;
    here.events.joined(&call, &alice);
    here.until(|| here.present() == 1).await;
    let first = here.schedule(&room, "alice", HOUR_MS).await;
    let second = here.schedule(&room, "alice", HOUR_MS).await;
    here.clock.advance(SECOND);
    delegate(&here, &room, "alice", &first).await.unwrap();
    here.until(|| here.since_ms(&first) == here.clock.now_ms()).await;
    here.clock.advance(SECOND);
    // The newer one takes its place.
    delegate(&here, &room, "alice", &second).await.unwrap();
    here.until(|| here.since_ms(&second) == here.clock.now_ms()).await;
    here.events.left(&call, &alice, LegStatistics::default());
    here.until(|| {
        here.clock.advance(SECOND);
        here.was_sent(&second)
    })
    .await;
    assert!(!here.was_sent(&first));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_makes_nobody_leave_who_comes_back() {
    let (here, room) = start().await;
    let mut ids = Vec::new();
    for name in ["alice", "bob"] {
        let (call, identity) = admit(&here, &room, name).await;
        here.events.joined(&call, &identity);
        let id = here.schedule(&room, name, HOUR_MS).await;
        delegate(&here, &room, name, &id).await.unwrap();
        ids.push((call, identity, id));
    }
    here.until(|| here.present() == 2).await;
    let here = here.restart().await;
    assert!(ids.iter().all(|(_, _, id)| !here.was_sent(id)), "the end of the server is nobody's leaving");
    let (call, alice, id) = &ids[0];
    here.clock.advance(5 * SECOND);
    here.events.joined(call, alice);
    here.until(|| here.since_ms(id) == here.clock.now_ms()).await;
    here.clock.advance(60 * SECOND);
    here.until(|| here.was_sent(&ids[1].2)).await;
    assert!(!here.was_sent(id));
    // And what was delegated is still looked after.
    here.events.left(call, alice, LegStatistics::default());
    here.until(|| {
        here.clock.advance(SECOND);
        here.was_sent(id)
    })
    .await;
    let here = here.restart().await;
    here.until(|| here.calls.is_watching_nothing()).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_ones_own_leave_in_this_room_can_be_delegated() {
    let (here, room) = start().await;
    let other = here.room(&["alice"]).await;
    let unknown = |result: Result<(), CallError>| matches!(result, Err(CallError::UnknownDelay));
    assert!(unknown(delegate(&here, &room, "alice", "guess").await));
    let of_bob = here.schedule(&room, "bob", HOUR_MS).await;
    assert!(unknown(delegate(&here, &room, "alice", &of_bob).await));
    assert!(unknown(delegate(&here, &room, "carol:far", &of_bob).await));
    let elsewhere = here.schedule(&other, "alice", HOUR_MS).await;
    assert!(unknown(delegate(&here, &room, "alice", &elsewhere).await));
    let sent = here.schedule(&room, "alice", HOUR_MS).await;
    here.rooms.send_delayed(&sent).await.unwrap();
    assert!(unknown(delegate(&here, &room, "alice", &sent).await));
    here.change(&room, "alice", "bob", Membership::Leave).await;
    assert!(matches!(delegate(&here, &room, "bob", &of_bob).await, Err(CallError::NotInRoom)));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_does_not_fill_the_list() {
    let (here, room) = start().await;
    let id = here.schedule(&room, "alice", HOUR_MS).await;
    let mut results = Vec::new();
    for number in 0..40 {
        let seat = member(&room, &format!("m{number}"), None);
        results.push(here.calls.delegate_leave(&user("alice"), &seat, &id, Entrance::Client).await.is_ok());
    }
    assert_eq!(results.iter().filter(|ok| **ok).count(), 32);
    let bob = here.schedule(&room, "bob", HOUR_MS).await;
    delegate(&here, &room, "bob", &bob).await.unwrap();
    here.stop().await;
}

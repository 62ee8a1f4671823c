//! Events that are sent later: when, by whom, once, and not at all.

use std::time::Duration;

use rooms::{
    DelayError, DelayedOutcome, Draft, Membership, NewDelayedEvent, Preset, RoomError, RoomNid, Transaction, UserNid,
};
use serde_json::json;
use spec::ids::RoomId;
use spec::version::RoomVersion;

use crate::server::{Server, object, run, text};

/// Runs the task that sends while `work` runs.
async fn while_sending(server: &Server, work: impl Future<Output = ()>) {
    tokio::select! {
        () = server.rooms.run_delayed_events(|_| true) => unreachable!(),
        () = work => {}
    }
}

/// Waits until the event has ended.
async fn outcome(server: &Server, id: &str) -> DelayedOutcome {
    for _ in 0..60_000 {
        if let Some(outcome) = server.rooms.delayed_event(id).unwrap().unwrap().outcome {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{id} did not end");
}

fn message(body: &str, delay_ms: u64) -> NewDelayedEvent {
    NewDelayedEvent { kind: "m.room.message".into(), state_key: None, content: text(body), delay_ms, sticky_ms: None }
}

fn state(key: &str, value: &str, delay_ms: u64) -> NewDelayedEvent {
    let content = object(json!({"value": value}));
    NewDelayedEvent { kind: "com.example".into(), state_key: Some(key.into()), content, delay_ms, sticky_ms: None }
}

async fn delay(server: &Server, room: RoomNid, owner: UserNid, event: NewDelayedEvent) -> String {
    server.rooms.delay_event(room, owner, event, None).await.unwrap()
}

fn value_of(server: &Server, room: &RoomId, user: UserNid, key: &str) -> Option<String> {
    let event = server.view(room, user).state_event("com.example", key).ok()?;
    let content: serde_json::Value = event.content_as()?;
    Some(content["value"].as_str()?.to_owned())
}

fn bodies(server: &Server, room: RoomNid) -> Vec<String> {
    let events = server.rooms.events_after(room, rooms::RoomSeq(0), 1000).unwrap();
    let body = |event: &rooms::Event| event.content_as::<serde_json::Value>()?["body"].as_str().map(ToOwned::to_owned);
    events.iter().filter(|event| event.kind() == "m.room.message").filter_map(body).collect()
}

#[test]
fn events_are_sent_when_their_time_has_come_and_in_that_order() {
    run(async |server| {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let number = server.rooms.known_room(&room).unwrap();
        let last = delay(&server, number, nid, message("third", 3000)).await;
        let first = delay(&server, number, nid, message("first", 1000)).await;
        let second = delay(&server, number, nid, state("key", "second", 2000)).await;
        let listed: Vec<String> = server.rooms.delayed_events(nid).unwrap().into_iter().map(|event| event.id).collect();
        assert_eq!(listed, [first.clone(), second.clone(), last.clone()]);
        while_sending(&server, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(bodies(&server, number).is_empty());
            server.clock.advance(Duration::from_millis(1000));
            let DelayedOutcome::Sent { event_id, .. } = outcome(&server, &first).await else { panic!() };
            let event = server.view(&room, nid).event(&spec::ids::EventId::parse(&*event_id).unwrap()).unwrap();
            assert_eq!((event.delay_id(), event.transaction()), (Some(&*first), None));
            assert_eq!(server.rooms.delayed_events(nid).unwrap().len(), 2);
            assert_eq!(value_of(&server, &room, nid, "key"), None);
            server.clock.advance(Duration::from_millis(5000));
            outcome(&server, &last).await;
            assert_eq!(value_of(&server, &room, nid, "key").as_deref(), Some("second"));
            assert_eq!(bodies(&server, number), ["first", "third"]);
        })
        .await;
        server.assert_sound();
    });
}

#[test]
fn what_became_due_during_a_stop_is_sent_at_once_and_only_once() {
    run(async |server| {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let number = server.rooms.known_room(&room).unwrap();
        let ids = [
            delay(&server, number, nid, message("one", 1000)).await,
            delay(&server, number, nid, message("two", 2000)).await,
            delay(&server, number, nid, message("far", 80_000_000)).await,
        ];
        // The clock of the second start is a thousand seconds ahead.
        let again = Server::start_on(server.store.clone(), 8);
        while_sending(&again, async {
            outcome(&again, &ids[1]).await;
        })
        .await;
        assert_eq!(bodies(&again, number), ["one", "two"]);
        let third = Server::start_on(server.store.clone(), 9);
        while_sending(&third, tokio::time::sleep(Duration::from_millis(50))).await;
        assert_eq!(bodies(&third, number), ["one", "two"]);
        assert_eq!(third.rooms.delayed_events(nid).unwrap().len(), 1);
    });
}

#[test]
fn they_are_restarted_cancelled_and_sent_early() {
    run(async |server| {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let number = server.rooms.known_room(&room).unwrap();
        let rooms = &server.rooms;
        let id = delay(&server, number, nid, message("kept alive", 1000)).await;
        while_sending(&server, async {
            for _ in 0..3 {
                server.clock.advance(Duration::from_millis(900));
                tokio::time::sleep(Duration::from_millis(10)).await;
                rooms.restart_delayed(&id).await.unwrap();
            }
            assert!(bodies(&server, number).is_empty());
            server.clock.advance(Duration::from_millis(1000));
            outcome(&server, &id).await;
        })
        .await;
        assert!(matches!(rooms.restart_delayed(&id).await, Err(DelayError::Ended)));
        assert!(matches!(rooms.cancel_delayed(&id).await, Err(DelayError::Ended)));
        let sent = rooms.send_delayed(&id).await.unwrap();

        let cancelled = delay(&server, number, nid, message("never", 1000)).await;
        rooms.cancel_delayed(&cancelled).await.unwrap();
        rooms.cancel_delayed(&cancelled).await.unwrap();
        assert!(matches!(rooms.send_delayed(&cancelled).await, Err(DelayError::Ended)));
        assert!(matches!(rooms.restart_delayed(&cancelled).await, Err(DelayError::Ended)));

        let early = delay(&server, number, nid, message("early", 1000)).await;
        let event = rooms.send_delayed(&early).await.unwrap();
        assert_eq!(rooms.send_delayed(&early).await.unwrap(), event);
        assert_ne!(event, sent);
        assert_eq!(bodies(&server, number), ["kept alive", "early"]);
        assert!(matches!(rooms.cancel_delayed("unknown").await, Err(DelayError::NotFound)));
        // After a day nobody can ask any more.
        server.clock.advance(Duration::from_secs(90_000));
        while_sending(&server, async {
            while rooms.delayed_event(&early).unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(bodies(&server, number), ["kept alive", "early"]);
    });
}

#[test]
fn state_of_others_overtakes_what_is_scheduled() {
    run(async |server| {
        let ((alice, nid), (bob, other)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V11, Preset::TrustedPrivateChat).await;
        server.change(&room, &alice, &bob, Membership::Invite).await.unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let number = server.rooms.known_room(&room).unwrap();
        let levels = object(json!({"users": {alice.as_str(): 100, bob.as_str(): 50}}));
        let draft = rooms::Draft::state(alice.clone(), "m.room.power_levels", "", levels);
        server.append(&room, draft).await.unwrap();
        let mine = delay(&server, number, nid, state("a", "alice later", 1000)).await;
        let other_key = delay(&server, number, nid, state("b", "alice later", 1000)).await;
        let own = object(json!({"value": "alice now"}));
        server.append(&room, rooms::Draft::state(alice.clone(), "com.example", "a", own)).await.unwrap();
        assert_eq!(server.rooms.delayed_events(nid).unwrap().len(), 2);
        let theirs = object(json!({"value": "bob now"}));
        server.append(&room, rooms::Draft::state(bob.clone(), "com.example", "a", theirs)).await.unwrap();
        assert!(matches!(outcome(&server, &mine).await, DelayedOutcome::Cancelled { .. }));
        server.clock.advance(Duration::from_millis(1000));
        while_sending(&server, async { drop(outcome(&server, &other_key).await) }).await;
        assert_eq!(value_of(&server, &room, other, "a").as_deref(), Some("bob now"));
        assert_eq!(value_of(&server, &room, other, "b").as_deref(), Some("alice later"));
        server.assert_sound();
    });
}

#[test]
fn whoever_may_not_send_any_more_does_not() {
    run(async |server| {
        let ((alice, _), (bob, nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let number = server.rooms.known_room(&room).unwrap();
        let outside = server.rooms.delay_event(number, nid, message("outside", 1000), None).await;
        assert!(matches!(outside, Err(DelayError::Room(RoomError::NotInRoom))));
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let id = delay(&server, number, nid, message("gone", 1000)).await;
        let suspended = delay(&server, number, nid, message("suspended", 500)).await;
        server.clock.advance(Duration::from_millis(500));
        tokio::select! {
            () = server.rooms.run_delayed_events(|_| false) => unreachable!(),
            ended = outcome(&server, &suspended) => {
                assert!(matches!(ended, DelayedOutcome::Failed { forbidden: true, .. }));
            }
        }
        server.change(&room, &alice, &bob, Membership::Leave).await.unwrap();
        // A client that sends by hand is told why, and the event stays scheduled.
        assert!(matches!(server.rooms.send_delayed(&id).await, Err(DelayError::Room(_))));
        assert_eq!(server.rooms.delayed_events(nid).unwrap().len(), 1);
        server.clock.advance(Duration::from_millis(500));
        while_sending(&server, async {
            assert!(matches!(outcome(&server, &id).await, DelayedOutcome::Failed { forbidden: true, .. }));
        })
        .await;
        assert!(bodies(&server, number).is_empty());
    });
}

#[test]
fn delays_numbers_and_sizes_are_bounded_and_transactions_are_remembered() {
    run(async |server| {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let number = server.rooms.known_room(&room).unwrap();
        let rooms = &server.rooms;
        let refused = rooms.delay_event(number, nid, message("x", 86_400_001), None).await;
        assert!(matches!(refused, Err(DelayError::TooLong { max_ms: 86_400_000 })));
        let refused = rooms.delay_event(number, nid, message(&"x".repeat(66_000), 1), None).await;
        assert!(matches!(refused, Err(DelayError::Room(RoomError::BadEvent(_)))));
        let transaction = Transaction { device: "D".into(), scope: "delay".into(), id: "1".into() };
        let first = rooms.delay_event(number, nid, message("x", 7000), Some(transaction.clone())).await.unwrap();
        let again = rooms.delay_event(number, nid, message("y", 9000), Some(transaction)).await.unwrap();
        assert_eq!(first, again);
        for _ in 1..100 {
            delay(&server, number, nid, message("x", 60_000)).await;
        }
        let refused = rooms.delay_event(number, nid, message("x", 1), None).await;
        assert!(matches!(refused, Err(DelayError::TooMany { retry_after_ms: 7000 })));
        // Of what has ended, as much is kept as may be scheduled.
        for event in rooms.delayed_events(nid).unwrap() {
            rooms.cancel_delayed(&event.id).await.unwrap();
        }
        let extra = delay(&server, number, nid, message("x", 60_000)).await;
        server.clock.advance(Duration::from_millis(1));
        server.assert_sound();
        rooms.cancel_delayed(&extra).await.unwrap();
        assert!(rooms.delayed_event(&extra).unwrap().is_some());
        server.assert_sound();
    });
}

#[test]
fn what_is_overtaken_keeps_no_state_from_being_set() {
    run(async |server| {
        let (alice, alice_nid) = server.user("alice").await;
        let (bob, bob_nid) = server.user("bob").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let number = server.rooms.known_room(&room).unwrap();
        let mut scheduled = Vec::new();
        for _ in 0..80 {
            scheduled.push(delay(&server, number, bob_nid, state("key", &"x".repeat(60_000), 60_000)).await);
        }
        let content = object(json!({"value": "mine"}));
        server.append(&room, Draft::state(alice, "com.example", "key", content)).await.unwrap();
        assert_eq!(value_of(&server, &room, alice_nid, "key").as_deref(), Some("mine"));
        for id in scheduled {
            let row = server.rooms.delayed_event(&id).unwrap().unwrap();
            assert!(matches!(row.outcome, Some(DelayedOutcome::Cancelled { .. })));
        }
        server.assert_sound();
    });
}

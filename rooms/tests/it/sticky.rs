//! Sticky events: which are, until when, and for whom (MSC4354).

use std::time::Duration;

use rooms::{Draft, MAX_STICKY_MS, Membership, Preset, RoomNid, Rooms};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use spec::version::RoomVersion;

use crate::foreign::Foreign;
use crate::server::{Server, object, run, text};

fn sticky(sender: &UserId, ms: u64) -> Draft {
    Draft { sticky_ms: Some(ms), ..Draft::message(sender.clone(), "com.example", text("sticky")) }
}

fn ids(rooms: &Rooms, room: RoomNid) -> Vec<String> {
    rooms.sticky_events(room).unwrap().iter().map(|event| event.event_id().to_owned()).collect()
}

/// Fred's event, which claims to be `age` milliseconds old and to be sticky as given.
async fn receive(server: &Server, room: &RoomId, fred: &UserId, far: &Foreign, age: i64, sticky: Value) -> String {
    let nid = server.rooms.known_room(room).unwrap();
    let draft = Draft::message(fred.clone(), "com.example", text("sticky"));
    let mut event: Map<String, Value> = server.rooms.prepare(nid, draft).unwrap();
    event.insert("origin_server_ts".into(), (server.clock.now_ms() as i64 - age).into());
    event.insert("msc4354_sticky".into(), sticky);
    let pdu = far.sign(event, server.rooms.head(nid).unwrap().rules());
    let id = pdu.pdu().event_id.as_str().to_owned();
    server.rooms.receive(pdu).await.unwrap();
    id
}

#[test]
fn every_room_version_has_them_and_they_are_forgotten_in_time() {
    run(async |server| {
        let (alice, nid) = server.user("alice").await;
        for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
            let room = server.create(&alice, version, Preset::PrivateChat).await;
            let number = server.rooms.known_room(&room).unwrap();
            let id = server.append(&room, sticky(&alice, 1000)).await.unwrap();
            assert_eq!(ids(&server.rooms, number), [id.as_str()]);
            let event = server.view(&room, nid).event(&id).unwrap();
            assert_eq!(event.sticky_duration(), Some(1000));
            let json: Value = serde_json::from_str(event.json()).unwrap();
            assert_eq!(json["msc4354_sticky"], json!({"duration_ms": 1000}));
            server.assert_sound();
            assert_eq!(server.rooms.forget_sticky().await.unwrap(), 0);
            server.clock.advance(Duration::from_millis(1000));
            assert!(ids(&server.rooms, number).is_empty());
            assert_eq!(server.rooms.forget_sticky().await.unwrap(), 1);
            server.assert_sound();
        }
    });
}

#[test]
fn the_time_runs_from_when_it_was_sent_but_never_from_the_future() {
    run(async |server| {
        let (alice, _) = server.user("alice").await;
        let (far, room) = (Foreign::new("far.test"), server.create(&alice, RoomVersion::V11, Preset::PublicChat).await);
        let (fred, nid) = (far.user("fred"), server.rooms.known_room(&room).unwrap());
        far.turn(&server, &room, &fred, Membership::Join).await;
        let minute = json!({"duration_ms": 60_000});
        let future = receive(&server, &room, &fred, &far, -3_600_000, minute.clone()).await;
        let older = receive(&server, &room, &fred, &far, 50_000, minute.clone()).await;
        receive(&server, &room, &fred, &far, 60_000, minute).await;
        receive(&server, &room, &fred, &far, 0, json!({"duration_ms": MAX_STICKY_MS + 1})).await;
        receive(&server, &room, &fred, &far, 0, json!("sticky")).await;
        assert_eq!(ids(&server.rooms, nid), [future.clone(), older]);
        server.clock.advance(Duration::from_millis(10_000));
        assert_eq!(ids(&server.rooms, nid), [future]);
        server.clock.advance(Duration::from_millis(50_000));
        assert!(ids(&server.rooms, nid).is_empty());
        server.assert_sound();
    });
}

#[test]
fn what_is_refused_or_redacted_is_not_sticky() {
    run(async |server| {
        let (alice, _) = server.user("alice").await;
        let (far, room) = (Foreign::new("far.test"), server.create(&alice, RoomVersion::V11, Preset::PublicChat).await);
        let (fred, nid) = (far.user("fred"), server.rooms.known_room(&room).unwrap());
        far.turn(&server, &room, &fred, Membership::Join).await;
        let theirs = receive(&server, &room, &fred, &far, 0, json!({"duration_ms": 60_000})).await;
        let ours = server.append(&room, sticky(&alice, 60_000)).await.unwrap();
        assert_eq!(ids(&server.rooms, nid), [theirs.as_str(), ours.as_str()]);
        server.append(&room, Draft::redaction(alice.clone(), ours, Map::new())).await.unwrap();
        assert_eq!(ids(&server.rooms, nid), [theirs.as_str()]);
        // Fred is banned; what he sends beside that is kept and not shown.
        let draft = Draft::message(fred.clone(), "com.example", text("late"));
        let mut late: Map<String, Value> = server.rooms.prepare(nid, draft).unwrap();
        late.insert("msc4354_sticky".into(), json!({"duration_ms": 60_000}));
        let late = far.sign(late, server.rooms.head(nid).unwrap().rules());
        server.change(&room, &alice, &fred, Membership::Ban).await.unwrap();
        let verdict = server.rooms.receive(late).await.unwrap();
        assert!(matches!(verdict, rooms::Verdict::SoftFailed(_)), "{verdict:?}");
        assert_eq!(ids(&server.rooms, nid), [theirs.as_str()]);
        server.assert_sound();
    });
}

#[test]
fn only_those_who_are_joined_see_them_whatever_the_history_visibility_is() {
    run(async |server| {
        let ((alice, _), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let hidden = object(json!({"history_visibility": "joined"}));
        server.append(&room, Draft::state(alice.clone(), "m.room.history_visibility", "", hidden)).await.unwrap();
        let id = server.append(&room, sticky(&alice, 60_000)).await.unwrap();
        let nid = server.rooms.known_room(&room).unwrap();
        let seen = || {
            let view = server.rooms.view(nid, bob_nid).unwrap();
            let sticky = view.sticky_events(server.store.visible()).unwrap().len();
            (sticky, view.event(&id).is_ok())
        };
        assert_eq!(seen(), (0, false));
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        assert_eq!(seen(), (1, true));
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        assert_eq!(seen(), (0, false));
    });
}

#[test]
fn no_sender_makes_too_many() {
    run(async |server| {
        let ((alice, _), (bob, _)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        for _ in 0..260 {
            server.append(&room, sticky(&alice, 60_000)).await.unwrap();
        }
        assert_eq!(ids(&server.rooms, nid).len(), 250);
        server.append(&room, sticky(&bob, 60_000)).await.unwrap();
        assert_eq!(ids(&server.rooms, nid).len(), 251);
        server.clock.advance(Duration::from_millis(60_000));
        server.append(&room, sticky(&alice, 60_000)).await.unwrap();
        assert_eq!(ids(&server.rooms, nid).len(), 1);
    });
}

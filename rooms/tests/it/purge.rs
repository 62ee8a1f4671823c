//! History is purged while the room goes on: what is old is gone with all that hangs on it, what is needed stays.

use rooms::{
    Direction, Draft, Membership, Preset, PurgeOrder, PurgeProgress, ReceiptKind, RelationQuery, RoomError, UserNid,
};
use serde_json::json;
use spec::ids::{EventId, RoomId, UserId};
use spec::version::RoomVersion;
use storage::{FailStep, MemoryDisk};

use crate::crash::{crash_at, open_store};
use crate::server::{Server, object, run, text};

async fn purge(server: &Server, room: &RoomId, before: &EventId, local_too: bool) -> PurgeProgress {
    let room = server.rooms.known_room(room).unwrap();
    let cut = server.rooms.cut_before_event(room, before).unwrap();
    server.rooms.begin_purge(PurgeOrder { room, cut, local_too }).await.unwrap().run().await.unwrap()
}

/// The bodies of all messages that the user sees, newest first.
fn bodies(server: &Server, room: &RoomId, user: UserNid) -> Vec<String> {
    let view = server.view(room, user);
    let newest = view.newest().unwrap();
    let page = view.page(newest, None, Direction::Backward, 1000, &|event| event.kind() == "m.room.message").unwrap();
    page.events
        .iter()
        .map(|event| event.content_as::<serde_json::Value>().unwrap()["body"].as_str().unwrap_or("-").to_owned())
        .collect()
}

async fn say_many(server: &Server, room: &RoomId, by: &UserId, name: &str, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    for number in 0..count {
        server.clock.advance(std::time::Duration::from_secs(1));
        ids.push(server.say(room, by, &format!("{name} {number}")).await);
    }
    ids
}

#[test]
fn what_is_old_goes_with_all_that_hangs_on_it() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        let (bob, bob_nid) = server.user("bob").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let old = say_many(&server, &room, &alice, "old", 150).await;
        let nid = server.rooms.known_room(&room).unwrap();
        // A thread, an edit of something old that is new, names that replaced each other, receipts, a redaction.
        let relates = |kind: &str, to: &EventId| {
            object(json!({"msgtype": "m.text", "body": kind,
            "m.relates_to": {"rel_type": kind, "event_id": to.as_str()}}))
        };
        for _ in 0..3 {
            let draft = Draft::message(bob.clone(), "m.room.message", relates("m.thread", &old[3]));
            server.append(&room, draft).await.unwrap();
        }
        for number in 0..100 {
            let name = object(json!({"name": format!("name {number}")}));
            server.append(&room, Draft::state(alice.clone(), "m.room.name", "", name)).await.unwrap();
        }
        server.append(&room, Draft::redaction(alice.clone(), old[5].clone(), object(json!({})))).await.unwrap();
        server.rooms.set_receipts(nid, bob_nid, &[(ReceiptKind::Read, None, &old[9])]).await.unwrap();
        let new = say_many(&server, &room, &alice, "new", 30).await;
        let late = Draft::message(bob.clone(), "m.room.message", relates("m.thread", &old[3]));
        let late = server.append(&room, late).await.unwrap();
        server.assert_sound();

        let progress = purge(&server, &room, &new[10], true).await;
        server.assert_sound();
        assert!(progress.deleted > 250, "{progress:?}");
        assert!(progress.nodes > 90, "{progress:?}");
        let seen = bodies(&server, &room, bob_nid);
        assert_eq!(seen.len(), 21);
        assert_eq!(seen.last().unwrap(), "new 10");
        for id in old.iter().chain(&new[..10]) {
            assert!(matches!(server.view(&room, alice_nid).event(id), Err(RoomError::EventNotFound)), "{id}");
            assert_eq!(server.rooms.room_of_event(id).unwrap(), None);
        }
        let query = RelationQuery::default();
        let view = server.view(&room, alice_nid);
        assert!(view.relations(&old[3], &query, None, None, Direction::Backward, 10).is_err());
        assert!(view.threads(None, 10, false).unwrap().events.is_empty());
        assert!(view.event(&late).is_ok());
        assert!(server.rooms.user_receipts(nid, bob_nid).unwrap().is_empty());
        // The state is whole, and the room goes on.
        assert_eq!(view.state_event("m.room.name", "").unwrap().content(), r#"{"name":"name 99"}"#);
        assert_eq!(view.state_events().unwrap().len(), 8);
        assert!(server.rooms.backward_extremities(nid).unwrap().is_empty());
        server.say(&room, &bob, "after").await;
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        assert_eq!(bodies(&server, &room, alice_nid).len(), 22);

        // Again, further: what was kept for the earlier end is not needed now.
        let again = server.say(&room, &alice, "again").await;
        purge(&server, &room, &again, true).await;
        server.assert_sound();
        assert_eq!(bodies(&server, &room, alice_nid), ["again"]);
    });
}

#[test]
fn events_of_ours_stay_out_of_sight_unless_they_go_too() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let old = say_many(&server, &room, &alice, "old", 5).await;
        let new = server.say(&room, &alice, "new").await;
        let progress = purge(&server, &room, &new, false).await;
        server.assert_sound();
        assert_eq!(progress.deleted, 0);
        assert_eq!(bodies(&server, &room, alice_nid), ["new"]);
        assert!(server.view(&room, alice_nid).event(&old[0]).is_err());
        assert!(server.rooms.room_of_event(&old[0]).unwrap().is_some());
        let progress = purge(&server, &room, &new, true).await;
        server.assert_sound();
        assert_eq!(progress.deleted, 5);
        assert_eq!(server.rooms.room_of_event(&old[0]).unwrap(), None);
    });
}

#[test]
fn former_members_still_find_nothing_and_break_nothing() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let (bob, bob_nid) = server.user("bob").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        server.say(&room, &bob, "seen").await;
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        server.change(&room, &alice, &bob, Membership::Ban).await.unwrap();
        say_many(&server, &room, &alice, "unseen", 3).await;
        let new = server.say(&room, &alice, "new").await;
        purge(&server, &room, &new, true).await;
        server.assert_sound();
        assert!(bodies(&server, &room, bob_nid).is_empty());
        assert!(server.view(&room, bob_nid).state_events().unwrap().is_empty());
    });
}

#[test]
fn times_are_those_of_most_events() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let cut = |time| server.rooms.cut_before_time(nid, time).unwrap();
        let start = server.clock.now_ms() as i64;
        assert_eq!(cut(start - 1), None);
        say_many(&server, &room, &alice, "old", 50).await;
        // One claims to be of another age.
        let liar = Draft {
            timestamp: Some(start + 500_000_000),
            ..Draft::message(alice.clone(), "m.room.message", text("liar"))
        };
        server.append(&room, liar).await.unwrap();
        say_many(&server, &room, &alice, "old", 50).await;
        server.clock.advance(std::time::Duration::from_secs(1_000_000));
        let time = server.clock.now_ms() as i64;
        say_many(&server, &room, &alice, "new", 20).await;
        let found = cut(time).unwrap();
        server
            .rooms
            .begin_purge(PurgeOrder { room: nid, cut: found, local_too: true })
            .await
            .unwrap()
            .run()
            .await
            .unwrap();
        server.assert_sound();
        let seen = bodies(&server, &room, alice_nid);
        assert_eq!((seen.len(), seen.last().unwrap().as_str()), (20, "new 0"));
        // The newest event stays, however old it is.
        let cut = cut(time + 1_000_000_000_000).unwrap();
        server.rooms.begin_purge(PurgeOrder { room: nid, cut, local_too: true }).await.unwrap().run().await.unwrap();
        assert_eq!(bodies(&server, &room, alice_nid), ["new 19"]);
        server.assert_sound();
    });
}

#[test]
fn people_chat_meanwhile() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        let (bob, _) = server.user("bob").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        say_many(&server, &room, &alice, "old", 300).await;
        let new = server.say(&room, &alice, "new").await;
        let nid = server.rooms.known_room(&room).unwrap();
        let cut = server.rooms.cut_before_event(nid, &new).unwrap();
        let mut purge = server.rooms.begin_purge(PurgeOrder { room: nid, cut, local_too: true }).await.unwrap();
        let mut said = 0;
        while !purge.step().await.unwrap().done {
            said += 1;
            let name = object(json!({"name": format!("name {said}")}));
            server.append(&room, Draft::state(alice.clone(), "m.room.name", "", name)).await.unwrap();
            let membership = if said % 2 == 0 { Membership::Leave } else { Membership::Join };
            server.change(&room, &bob, &bob, membership).await.unwrap();
            server.say(&room, &alice, "meanwhile").await;
            server.assert_sound();
        }
        assert_eq!(bodies(&server, &room, alice_nid).len(), said + 1);
        server.assert_sound();
    });
}

#[test]
fn a_purge_that_was_cut_off_is_begun_again() {
    for step in FailStep::ALL {
        for commits in 0..14 {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let disk = MemoryDisk::new();
                let (room, new, alice_nid) = {
                    let server = Server::start_on(open_store(&disk, None), 1);
                    let (alice, alice_nid) = server.user("alice").await;
                    let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
                    say_many(&server, &room, &alice, "old", 200).await;
                    let new = server.say(&room, &alice, "new").await;
                    server.store.close().unwrap();
                    (room, new, alice_nid)
                };
                let order = |server: &Server| {
                    let nid = server.rooms.known_room(&room).unwrap();
                    let cut = server.rooms.cut_before_event(nid, &new).unwrap();
                    PurgeOrder { room: nid, cut, local_too: true }
                };
                {
                    let server = Server::start_on(open_store(&disk, Some(crash_at(step, commits))), 2);
                    if let Ok(purge) = server.rooms.begin_purge(order(&server)).await {
                        drop(purge.run().await);
                    }
                    drop(server.store.close());
                }
                let server = Server::start_on(open_store(&disk, None), 3);
                server.assert_sound();
                server.rooms.begin_purge(order(&server)).await.unwrap().run().await.unwrap();
                server.assert_sound();
                assert_eq!(bodies(&server, &room, alice_nid), ["new"]);
            });
        }
    }
}

#[test]
fn what_has_expired_is_hidden_and_then_purged() {
    const DAY: u64 = 24 * 3600;
    run(|plain| async move {
        let mut config = rooms::RoomsConfig::default();
        config.retention.enabled = true;
        let server = Server::with_config(plain.store.clone(), config);
        let (alice, alice_nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let kept = server.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let lifetime = object(json!({"max_lifetime": 2 * DAY * 1000}));
        server.append(&room, Draft::state(alice.clone(), "m.room.retention", "", lifetime)).await.unwrap();
        let old = say_many(&server, &room, &alice, "old", 20).await;
        server.say(&kept, &alice, "kept").await;
        server.clock.advance(std::time::Duration::from_secs(3 * DAY));
        say_many(&server, &room, &alice, "new", 10).await;
        // Hidden before anything is deleted.
        assert_eq!(bodies(&server, &room, alice_nid).len(), 10);
        assert!(server.view(&room, alice_nid).event(&old[0]).is_err());
        assert!(server.rooms.room_of_event(&old[0]).unwrap().is_some());
        let done = purge_expired(&server).await;
        assert!(done.deleted >= 20, "{done:?}");
        assert_eq!(server.rooms.room_of_event(&old[0]).unwrap(), None);
        assert_eq!(bodies(&server, &room, alice_nid).len(), 10);
        assert_eq!(bodies(&server, &kept, alice_nid), ["kept"]);
        server.assert_sound();
    });
}

/// The steps rest by the clock, which has to be moved.
async fn purge_expired(server: &Server) -> PurgeProgress {
    let mut purging = std::pin::pin!(server.rooms.purge_expired());
    loop {
        tokio::select! {
            done = &mut purging => return done.unwrap(),
            () = tokio::task::yield_now() => server.clock.advance(std::time::Duration::from_millis(50)),
        }
    }
}

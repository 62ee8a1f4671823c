//! Writing: creation, authorisation, transactions, redaction, concurrency.

use rooms::{Cursor, Direction, Draft, EventFlags, EventFormat, Membership, Preset, Renderer, RoomError, Transaction};
use serde_json::{Value, json};
use spec::ids::RoomAlias;
use spec::version::RoomVersion;

use crate::server::{object, request, run, text};

#[test]
fn a_room_of_every_version_takes_messages() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        for version in RoomVersion::ALL {
            let room = server.create(&alice, version, Preset::PrivateChat).await;
            let id = server.say(&room, &alice, "hello").await;
            let event = server.view(&room, alice_nid).event(&id).unwrap();
            assert_eq!(event.content_as::<serde_json::Value>().unwrap()["body"], "hello", "version {version}");
            assert_eq!(room.server_name().is_none(), version == RoomVersion::V12);
        }
        server.assert_sound();
    });
}

#[test]
fn outsiders_are_kept_out_and_the_invited_come_in() {
    run(|server| async move {
        let ((alice, _), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        assert!(matches!(server.rooms.as_user(&room, bob_nid), Err(RoomError::NotInRoom)));
        let refused = server.append(&room, Draft::message(bob.clone(), "m.room.message", text("let me in"))).await;
        assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
        assert!(matches!(server.change(&room, &bob, &bob, Membership::Join).await, Err(RoomError::Forbidden(_))));
        server.change(&room, &alice, &bob, Membership::Invite).await.unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        server.say(&room, &bob, "thanks").await;
        let nid = server.rooms.known_room(&room).unwrap();
        assert_eq!(server.rooms.head(nid).unwrap().joined_count(), 2);
        assert_eq!(server.rooms.joined_members(nid).unwrap().len(), 2);
        assert!(matches!(server.change(&room, &bob, &alice, Membership::Ban).await, Err(RoomError::Forbidden(_))));
        server.change(&room, &alice, &bob, Membership::Ban).await.unwrap();
        assert!(matches!(server.change(&room, &bob, &bob, Membership::Join).await, Err(RoomError::Forbidden(_))));
        server.assert_sound();
    });
}

#[test]
fn a_profile_change_brings_nobody_back() {
    run(|server| async move {
        let ((alice, _), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V12, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        server.rooms.update_member(nid, &bob, object(json!({"displayname": "Bob"}))).await.unwrap();
        let member = server.view(&room, bob_nid).state_event("m.room.member", bob.as_str()).unwrap();
        assert!(member.content().contains("Bob"));
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        let refused = server.rooms.update_member(nid, &bob, object(json!({"displayname": "Bobby"}))).await;
        assert!(matches!(refused, Err(RoomError::NotInRoom)), "{refused:?}");
        assert_eq!(server.rooms.membership(nid, bob_nid).unwrap().unwrap().membership, Membership::Leave);
    });
}

#[test]
fn a_failed_creation_leaves_nothing() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let alias = RoomAlias::parse("#team:hs.test").unwrap();
        let mut first = request(&alice, RoomVersion::V12, Preset::PublicChat);
        first.alias = Some(alias.clone());
        let room = server.rooms.create_room(first.clone()).await.unwrap();
        assert!(matches!(server.rooms.create_room(first).await, Err(RoomError::AliasTaken)));
        let mut bad = request(&alice, RoomVersion::V11, Preset::PublicChat);
        bad.power_levels = object(json!({"users": {"@alice:hs.test": 10}}));
        assert!(matches!(server.rooms.create_room(bad).await, Err(RoomError::Forbidden(_))));
        assert_eq!(server.rooms.find_alias(&alias).unwrap().0, room);
        assert_eq!(rooms::fsck::check(&server.store, &mut |_| {}).unwrap().rooms, 1);
        server.assert_sound();
    });
}

#[test]
fn a_transaction_makes_one_event_even_when_raced() {
    run(|server| async move {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let room_nid = server.rooms.known_room(&room).unwrap();
        let send = || {
            let txn = Transaction { device: "D".into(), scope: "send".into(), id: "t1".into() };
            let draft = Draft::message(alice.clone(), "m.room.message", text("once"));
            let rooms = server.rooms.clone();
            async move { rooms.append(room_nid, vec![draft], Some((nid, txn))).await.unwrap() }
        };
        let (a, b, c) = tokio::join!(send(), send(), send());
        assert!(a == b && b == c);
        assert_eq!(send().await, a);
        let page = server
            .view(&room, nid)
            .page(Cursor::START, None, Direction::Forward, 100, &|event| event.kind() == "m.room.message");
        assert_eq!(page.unwrap().events.len(), 1);
    });
}

#[test]
fn many_writers_get_one_chain() {
    run(|server| async move {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let room_nid = server.rooms.known_room(&room).unwrap();
        let mut sends = tokio::task::JoinSet::new();
        for n in 0..200 {
            let (rooms, draft) =
                (server.rooms.clone(), Draft::message(alice.clone(), "m.room.message", text(&n.to_string())));
            sends.spawn(async move { rooms.append(room_nid, vec![draft], None).await.unwrap() });
        }
        sends.join_all().await;
        let page = server.view(&room, nid).page(Cursor::START, None, Direction::Forward, 500, &|_| true).unwrap();
        let mut previous: Option<String> = None;
        for event in &page.events {
            let pdu = event.to_pdu().unwrap();
            assert_eq!(pdu.prev_events.first().map(|id| id.as_str().to_owned()), previous);
            previous = Some(event.event_id().to_owned());
        }
        assert_eq!(page.events.iter().filter(|event| event.kind() == "m.room.message").count(), 200);
        server.assert_sound();
    });
}

#[test]
fn a_command_of_several_events_happens_whole_or_not_at_all() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let before = server.rooms.head(nid).unwrap().last_seq();
        let drafts = vec![
            Draft::message(alice.clone(), "m.room.message", text("first")),
            Draft::message(alice.clone(), "m.room.message", text(&"x".repeat(70_000))),
        ];
        assert!(matches!(server.rooms.append(nid, drafts, None).await, Err(RoomError::BadEvent(_))));
        assert_eq!(server.rooms.head(nid).unwrap().last_seq(), before);
        server.say(&room, &alice, "second").await;
        assert_eq!(server.rooms.head(nid).unwrap().last_seq(), before.next());
        server.assert_sound();
    });
}

#[test]
fn redaction_empties_the_event_and_its_relation() {
    run(|server| async move {
        let ((alice, nid), (bob, _)) = (server.user("alice").await, server.user("bob").await);
        for version in [RoomVersion::V10, RoomVersion::V12] {
            let room = server.create(&alice, version, Preset::PublicChat).await;
            server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
            let id = server.say(&room, &alice, "secret").await;
            let mut reply = text("in thread");
            reply.insert("m.relates_to".into(), json!({"rel_type": "m.thread", "event_id": id.as_str()}));
            let child = server.append(&room, Draft::message(alice.clone(), "m.room.message", reply)).await.unwrap();
            let refused = server.append(&room, Draft::redaction(bob.clone(), id.clone(), Default::default())).await;
            assert!(matches!(refused, Err(RoomError::Refused(_))), "{refused:?}");
            let view = server.view(&room, nid);
            assert_eq!(view.bundle(&view.event(&id).unwrap()).unwrap().thread.unwrap().0, 1);
            server.append(&room, Draft::redaction(alice.clone(), child.clone(), Default::default())).await.unwrap();
            let redaction = Draft::redaction(alice.clone(), id.clone(), object(json!({"reason": "a slip"})));
            let redaction = server.append(&room, redaction).await.unwrap();
            // Clients find what is redacted at both places, whatever the room version.
            let mut shown = Vec::new();
            let seen = server.view(&room, nid);
            Renderer::new(&seen, None, EventFormat::Client)
                .render(&seen.event(&redaction).unwrap(), &mut shown)
                .unwrap();
            let shown: Value = serde_json::from_slice(&shown).unwrap();
            assert_eq!(shown["redacts"], id.as_str(), "version {version}");
            assert_eq!(shown["content"], json!({"reason": "a slip", "redacts": id.as_str()}));
            let event = view.event(&id).unwrap();
            assert_eq!(event.content(), "{}");
            assert!(event.flags().has(EventFlags::REDACTED));
            assert!(view.bundle(&event).unwrap().thread.is_none());
            assert!(view.threads(None, 10, false).unwrap().events.is_empty());
        }
        server.assert_sound();
    });
}

#[test]
fn too_large_events_are_refused_and_change_nothing() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let before = server.rooms.head(nid).unwrap().last_seq();
        let refused =
            server.append(&room, Draft::message(alice.clone(), "m.room.message", text(&"x".repeat(65_536)))).await;
        assert!(matches!(refused, Err(RoomError::BadEvent(_))), "{refused:?}");
        let float =
            server.append(&room, Draft::message(alice.clone(), "m.room.message", object(json!({"pi": 2.5})))).await;
        assert!(matches!(float, Err(RoomError::BadEvent(_))), "{float:?}");
        assert_eq!(server.rooms.head(nid).unwrap().last_seq(), before);
    });
}

#[test]
fn an_upgrade_moves_members_to_a_successor() {
    run(|server| async move {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let new =
            server.rooms.upgrade_room(&room, &alice, Default::default(), RoomVersion::V12, Vec::new()).await.unwrap();
        let tombstone = server.view(&room, nid).state_event("m.room.tombstone", "").unwrap();
        assert!(tombstone.content().contains(new.as_str()));
        let create = server.view(&new, nid).state_event("m.room.create", "").unwrap();
        assert!(create.content().contains(room.as_str()));
        assert_eq!(server.view(&new, nid).state_event("m.room.name", "").unwrap().content(), r#"{"name":"A room"}"#);
        server.assert_sound();
    });
}

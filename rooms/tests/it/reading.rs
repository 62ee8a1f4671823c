//! Reading: visibility, paging, relations, receipts, rendering.

use rooms::{
    Cursor, Direction, Draft, EventFormat, Membership, Preset, ReceiptKind, RelationQuery, Renderer, RoomError,
    RoomNid, RoomSeq,
};
use serde_json::{Value, json};
use spec::version::RoomVersion;
use storage::{Batch, Keyspace, Profile, StreamPos};

use crate::server::{object, run, text};

#[test]
fn history_visibility_decides_what_a_later_member_sees() {
    run(|server| async move {
        let ((alice, _), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        for (visibility, sees_before, sees_invited) in
            [("joined", false, false), ("invited", false, true), ("shared", true, true), ("world_readable", true, true)]
        {
            let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
            let content = object(json!({"history_visibility": visibility}));
            server.append(&room, Draft::state(alice.clone(), "m.room.history_visibility", "", content)).await.unwrap();
            let before = server.say(&room, &alice, "before").await;
            server.change(&room, &alice, &bob, Membership::Invite).await.unwrap();
            let invited = server.say(&room, &alice, "invited").await;
            server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
            let joined = server.say(&room, &alice, "joined").await;
            server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
            let after = server.say(&room, &alice, "after").await;
            let view = server.view(&room, bob_nid);
            assert_eq!(view.event(&before).is_ok(), sees_before, "{visibility}: before");
            assert_eq!(view.event(&invited).is_ok(), sees_invited, "{visibility}: invited");
            assert!(view.event(&joined).is_ok(), "{visibility}: joined");
            assert_eq!(view.event(&after).is_ok(), visibility == "world_readable", "{visibility}: after");
        }
    });
}

#[test]
fn pages_meet_without_gap_or_overlap() {
    run(|server| async move {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        for n in 0..250 {
            server.say(&room, &alice, &n.to_string()).await;
        }
        let view = server.view(&room, nid);
        let all = view.page(Cursor::START, None, Direction::Forward, 1000, &|_| true).unwrap();
        assert!(all.end.is_none());
        let (mut seen, mut at) = (Vec::new(), view.newest().unwrap());
        loop {
            let page = view.page(at, None, Direction::Backward, 7, &|_| true).unwrap();
            seen.extend(page.events.iter().map(|event| event.event_id().to_owned()));
            match page.end {
                Some(end) => at = end.to_string().parse::<Cursor>().unwrap(),
                None => break,
            }
        }
        seen.reverse();
        assert_eq!(seen, all.events.iter().map(|event| event.event_id().to_owned()).collect::<Vec<_>>());
        for malformed in ["c2_x", "5", "c2_-02", "c2_+5", "c2_"] {
            assert!(malformed.parse::<Cursor>().is_err(), "{malformed}");
        }
    });
}

#[test]
fn a_former_member_reads_the_state_at_leaving() {
    run(|server| async move {
        let ((alice, _), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V12, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        server
            .append(&room, Draft::state(alice.clone(), "m.room.name", "", object(json!({"name": "Renamed"}))))
            .await
            .unwrap();
        let view = server.view(&room, bob_nid);
        assert_eq!(view.state_event("m.room.name", "").unwrap().content(), r#"{"name":"A room"}"#);
        server.rooms.forget(&room, bob_nid).await.unwrap();
        assert!(matches!(server.rooms.as_user(&room, bob_nid), Err(RoomError::NotInRoom)));
    });
}

#[test]
fn relations_are_bundled_and_listed() {
    run(|server| async move {
        let ((alice, nid), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V12, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let root = server.say(&room, &alice, "first").await;
        let relate = |rel: &str, extra: Value| {
            let mut content = text("x");
            let mut relates = json!({"rel_type": rel, "event_id": root.as_str()});
            relates.as_object_mut().unwrap().extend(object(extra));
            content.insert("m.relates_to".into(), relates);
            content.insert("m.new_content".into(), json!({"body": "x"}));
            content
        };
        let edit = server
            .append(&room, Draft::message(alice.clone(), "m.room.message", relate("m.replace", json!({}))))
            .await
            .unwrap();
        server
            .append(&room, Draft::message(bob.clone(), "m.room.message", relate("m.replace", json!({}))))
            .await
            .unwrap();
        // Without new content it is no edit.
        let mut empty = relate("m.replace", json!({}));
        empty.insert("m.new_content".into(), json!("x"));
        server.append(&room, Draft::message(alice.clone(), "m.room.message", empty)).await.unwrap();
        let reply = server
            .append(&room, Draft::message(bob.clone(), "m.room.message", relate("m.thread", json!({}))))
            .await
            .unwrap();
        let like = || Draft::message(bob.clone(), "m.reaction", relate("m.annotation", json!({"key": "+1"})));
        server.append(&room, like()).await.unwrap();
        assert!(matches!(server.append(&room, like()).await, Err(RoomError::DuplicateAnnotation)));
        let view = server.view(&room, nid);
        let mut out = Vec::new();
        Renderer::new(&view, None, EventFormat::Client).render(&view.event(&root).unwrap(), &mut out).unwrap();
        let rendered: Value = serde_json::from_slice(&out).unwrap();
        let relations = &rendered["unsigned"]["m.relations"];
        assert_eq!(relations["m.replace"]["event_id"], edit.as_str());
        assert_eq!(relations["m.thread"]["latest_event"]["event_id"], reply.as_str());
        assert_eq!(relations["m.thread"]["count"], 1);
        let query = RelationQuery { rel_type: Some("m.annotation".into()), ..RelationQuery::default() };
        let page = view.relations(&root, &query, None, None, Direction::Backward, 10).unwrap();
        assert_eq!(page.events.len(), 1);
        assert_eq!(view.threads(None, 10, false).unwrap().events[0].event_id(), root.as_str());
        assert!(server.view(&room, bob_nid).threads(None, 10, true).unwrap().events.len() == 1);
        // What is said in the thread after one left is not bundled for one.
        server.change(&room, &bob, &bob, Membership::Leave).await.unwrap();
        let later = server
            .append(&room, Draft::message(alice.clone(), "m.room.message", relate("m.thread", json!({}))))
            .await
            .unwrap();
        let thread_for = |viewer| {
            let view = server.view(&room, viewer);
            let (count, latest, _) = view.bundle(&view.event(&root).unwrap()).unwrap().thread.unwrap();
            (count, latest.event_id().to_owned())
        };
        assert_eq!(thread_for(nid), (2, later.as_str().to_owned()));
        assert_eq!(thread_for(bob_nid), (1, reply.as_str().to_owned()));
        server.assert_sound();
    });
}

#[test]
fn receipts_move_forward_and_private_ones_stay_private() {
    run(|server| async move {
        let ((alice, nid), (bob, bob_nid)) = (server.user("alice").await, server.user("bob").await);
        let room = server.create(&alice, RoomVersion::V12, Preset::PublicChat).await;
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let (first, second) = (server.say(&room, &alice, "1").await, server.say(&room, &alice, "2").await);
        let room = server.rooms.known_room(&room).unwrap();
        server.rooms.set_receipts(room, bob_nid, &[(ReceiptKind::Read, None, &second)]).await.unwrap();
        server
            .rooms
            .set_receipts(room, bob_nid, &[(ReceiptKind::Read, None, &first), (ReceiptKind::ReadPrivate, None, &first)])
            .await
            .unwrap();
        let until = server.store.visible();
        let seen = |viewer| server.rooms.receipts_since(room, viewer, StreamPos(0), until).unwrap();
        assert_eq!(seen(nid).len(), 1);
        assert_eq!(&*seen(nid)[0].event_id, second.as_str());
        assert_eq!(seen(bob_nid).len(), 2);
        assert!(server.rooms.receipts_since(room, nid, until, until).unwrap().is_empty());
        server.assert_sound();
    });
}

#[test]
fn rendered_events_are_what_was_sent() {
    run(|server| async move {
        let (alice, nid) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let odd = "quote \" backslash \\ \u{1f600} \u{0001} \"content\":{";
        let mut content = text(odd);
        content.insert("nested".into(), json!({"content": {"a": [1, "}"]}}));
        let id = server.append(&room, Draft::message(alice.clone(), "m.room.message", content.clone())).await.unwrap();
        let view = server.view(&room, nid);
        let mut out = Vec::new();
        Renderer::new(&view, None, EventFormat::Client).render(&view.event(&id).unwrap(), &mut out).unwrap();
        let rendered: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(rendered["content"], Value::Object(content));
        assert_eq!(rendered["room_id"], room.as_str());
        assert_eq!(rendered["sender"], "@alice:hs.test");
        let first = view.event_near(0, Direction::Forward).unwrap();
        assert_eq!((first.kind(), first.seq()), ("m.room.create", RoomSeq(1)));
    });
}

/// The timeline as raw rows.
const TIMELINE: Keyspace<(RoomNid, RoomSeq), Vec<u8>> = Keyspace::new("timeline", Profile::Log);

#[test]
fn a_position_is_found_without_reading_the_timeline() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        let other = server.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        for n in 0..40 {
            server.say(&room, &alice, &n.to_string()).await;
            server.say(&other, &alice, &n.to_string()).await;
        }
        let room = server.rooms.known_room(&room).unwrap();
        let events = server.rooms.events_after(room, RoomSeq(0), 1000).unwrap();
        for pos in 0..=server.store.visible().0 {
            let last = events.iter().rev().find(|event| event.pos().0 <= pos);
            let found = server.rooms.seq_at(room, StreamPos(pos)).unwrap();
            assert_eq!(found, last.map_or(RoomSeq(0), |event| event.seq()), "{pos}");
        }
        // Whoever reads everything back to the first event reads this one too.
        let last = events.last().unwrap().seq();
        let mut batch = Batch::new();
        batch.put(&TIMELINE, &(room, RoomSeq(last.0 - 1)), &b"damaged".to_vec());
        server.store.commit(batch).await.unwrap();
        assert_eq!(server.rooms.seq_at(room, StreamPos::ZERO).unwrap(), RoomSeq(0));
    });
}

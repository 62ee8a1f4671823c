//! Rooms that were deleted: whoever was in one is told that they are no more, however late they ask.

use std::time::Duration;

use rooms::Membership;
use serde_json::{Map, Value, json};
use spec::ids::RoomId;
use users::Session;

use crate::server::{Server, filtered, room, run, token};

async fn everybody_leaves(server: &Server, room: &RoomId) {
    let nid = server.nid(room);
    for member in server.rooms.local_members(nid).unwrap() {
        server.rooms.remove_local_user(nid, member.user).await.unwrap();
    }
}

async fn delete(server: &Server, room: &RoomId, force: bool) {
    let nid = server.nid(room);
    server.rooms.begin_deletion(nid, force).await.unwrap();
    while !server.rooms.delete_on(nid, &[]).await.unwrap() {}
    assert_eq!(server.rooms.room_nid(room).unwrap(), None);
}

/// The membership that an answer tells of the user in a room that is gone.
fn told(answer: &Value, gone: &RoomId, who: &Session) -> Option<String> {
    let timeline = &room(answer, "leave", gone)["timeline"];
    let event = timeline["events"].as_array()?.first()?;
    assert_eq!((&event["type"], &event["state_key"]), (&json!("m.room.member"), &json!(who.user_id)));
    assert!(event["event_id"].is_string() && event["sender"].is_string() && event["origin_server_ts"].is_u64());
    assert!(room(answer, "join", gone).is_null() && room(answer, "invite", gone).is_null());
    event["content"]["membership"].as_str().map(str::to_owned)
}

fn lists(pos: Option<&str>) -> Value {
    let mut request = json!({"lists": {"all": {
        "ranges": [[0, 20]], "timeline_limit": 5, "required_state": [["m.room.member", "$ME"]],
    }}});
    if let Some(pos) = pos {
        request["pos"] = pos.into();
    }
    request
}

fn pos(answer: &Value) -> &str {
    answer["pos"].as_str().unwrap()
}

#[test]
fn who_was_offline_is_told_once() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let (carol, dave) = (server.login("carol", "C").await, server.login("dave", "D").await);
        let gone = server.create(&alice, |_| ()).await;
        for user in [&bob, &carol] {
            server.join(&gone, user).await;
        }
        server.change(&gone, &alice, &dave, Membership::Ban).await;
        let before = server.v3(&bob, None).await;
        let dave_before = token(&before).to_owned();
        everybody_leaves(&server, &gone).await;
        let seen = server.v3(&carol, Some(token(&before))).await;
        assert!(!room(&seen, "leave", &gone).is_null());
        delete(&server, &gone, false).await;
        let late = server.v3(&bob, Some(token(&before))).await;
        assert_eq!(told(&late, &gone, &bob).as_deref(), Some("leave"));
        assert_eq!(told(&server.v3(&bob, Some(token(&late))).await, &gone, &bob), None);
        // Who knows it already, who did not know of the room, and whoever is not interested.
        assert_eq!(told(&server.v3(&carol, Some(token(&seen))).await, &gone, &carol), None);
        assert_eq!(told(&server.v3(&dave, Some(&dave_before)).await, &gone, &dave), None);
        let filter = filtered(Some(token(&before)), json!({"room": {"not_rooms": [gone.as_str()]}}));
        assert_eq!(told(&server.v3_with(&bob, filter).await.unwrap(), &gone, &bob), None);
        assert_eq!(told(&server.v3(&bob, None).await, &gone, &bob), None);
        // It is not kept for ever.
        server.clock.advance(Duration::from_secs(91 * 24 * 3600));
        assert_eq!(server.rooms.forget_departures().await.unwrap(), 4);
        assert_eq!(told(&server.v3(&bob, Some(token(&before))).await, &gone, &bob), None);
    });
}

#[test]
fn who_is_in_a_room_that_is_deleted_by_force_is_told() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let gone = server.create(&alice, |request| request.invites = vec![(bob.user_id.clone(), Map::new())]).await;
        let (joined, invited) = (server.v3(&alice, None).await, server.v3(&bob, None).await);
        assert!(!room(&invited, "invite", &gone).is_null());
        delete(&server, &gone, true).await;
        for (who, before) in [(&alice, &joined), (&bob, &invited)] {
            let after = server.v3(who, Some(token(before))).await;
            assert_eq!(told(&after, &gone, who).as_deref(), Some("leave"));
            assert_eq!(told(&server.v3(who, Some(token(&after))).await, &gone, who), None);
        }
    });
}

#[test]
fn a_forgotten_room_is_not_told_of() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let gone = server.create(&alice, |_| ()).await;
        server.join(&gone, &bob).await;
        let before = server.v3(&bob, None).await;
        everybody_leaves(&server, &gone).await;
        server.rooms.forget(&gone, bob.user).await.unwrap();
        delete(&server, &gone, false).await;
        assert_eq!(told(&server.v3(&bob, Some(token(&before))).await, &gone, &bob), None);
    });
}

#[test]
fn sliding_sync_tells_it_too() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let (gone, forced) = (server.create(&alice, |_| ()).await, server.create(&bob, |_| ()).await);
        server.join(&gone, &bob).await;
        let first = server.sliding(&bob, lists(None)).await.unwrap();
        let second = server.sliding(&bob, lists(Some(pos(&first)))).await.unwrap();
        everybody_leaves(&server, &gone).await;
        delete(&server, &gone, false).await;
        delete(&server, &forced, true).await;
        let third = server.sliding(&bob, lists(Some(pos(&second)))).await.unwrap();
        let check = |answer: &Value| {
            for room in [&gone, &forced] {
                let told = &answer["rooms"][room.as_str()];
                assert_eq!(told["membership"], "leave", "{answer}");
                let event = &told["required_state"][0];
                assert_eq!(
                    (&event["state_key"], &event["content"]["membership"]),
                    (&json!(bob.user_id), &json!("leave"))
                );
            }
        };
        check(&third);
        assert_eq!(third["lists"]["all"]["count"], 0);
        // The answer was lost, and is asked for again; then it is known.
        let again = server.sliding(&bob, lists(Some(pos(&second)))).await.unwrap();
        check(&again);
        let fourth = server.sliding(&bob, lists(Some(pos(&again)))).await.unwrap();
        assert_eq!(fourth["rooms"], json!({}));
        // A new connection may be that of a client which knows the rooms from before.
        let fresh = server.sliding(&bob, lists(None)).await.unwrap();
        check(&fresh);
        let after = server.sliding(&bob, lists(Some(pos(&fresh)))).await.unwrap();
        assert_eq!(after["rooms"], json!({}));
        // One that is about no rooms is told of none.
        let none =
            server.sliding(&bob, json!({"conn_id": "keys", "extensions": {"e2ee": {"enabled": true}}})).await.unwrap();
        assert_eq!(none["rooms"], json!({}));
    });
}

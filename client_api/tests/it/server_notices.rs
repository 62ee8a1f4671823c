//! Messages of the server to its users.

use http::Method;
use serde_json::{Value, json};

use crate::server::{Client, Server, run};

const SEND: &str = "/_synapse/admin/v1/send_server_notice";
const SENDER: &str = "@_server:hs.test";

/// An administrator, who is the first to register, and another user.
async fn users(server: &Server) -> (Client<'_>, Client<'_>) {
    (server.register("admin").await, server.register("alice").await)
}

fn notice(user: &Client<'_>) -> Value {
    json!({"user_id": user.user_id, "content": {"msgtype": "m.text", "body": "hello from server notices!"}})
}

async fn send(admin: &Client<'_>, to: &Client<'_>) -> String {
    admin.post(SEND, notice(to)).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// The one room that the user is invited to, by the sender of the notices.
async fn invitation(user: &Client<'_>) -> String {
    let sync = user.get("sync").await.ok();
    let invites = sync["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invites.len(), 1, "{sync}");
    let (room, invite) = invites.iter().next().unwrap();
    assert_eq!(invite["invite_state"]["events"][0]["sender"], SENDER);
    room.clone()
}

async fn timeline_of(user: &Client<'_>, room: &str) -> Vec<String> {
    let sync = user.get("sync").await.ok();
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().unwrap();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_administrators_send_notices() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        alice.call(Method::POST, SEND, "").await.refused(403, "M_FORBIDDEN");
        alice.post(SEND, notice(&admin)).await.refused(403, "M_FORBIDDEN");
        alice.put(&format!("{SEND}/1"), notice(&admin)).await.refused(403, "M_FORBIDDEN");
        send(&admin, &alice).await;
    });
}

#[test]
fn a_user_is_invited_cannot_reject_and_may_leave_once_joined() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        let event = send(&admin, &alice).await;
        let room = invitation(&alice).await;
        alice.post(&format!("rooms/{room}/leave"), json!({})).await.refused(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
        alice.post(&format!("join/{room}"), json!({})).await.ok();
        assert!(timeline_of(&alice, &room).await.contains(&event));
        alice.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        // Told again, they are invited again: to the same room.
        send(&admin, &alice).await;
        assert_eq!(invitation(&alice).await, room);
    });
}

#[test]
fn there_is_no_other_way_to_reject() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        send(&admin, &alice).await;
        let room = invitation(&alice).await;
        let code = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
        let member = format!("rooms/{room}/state/m.room.member/{}", alice.user_id);
        alice.put(&member, json!({"membership": "leave"})).await.refused(403, code);
        let target = json!({"user_id": alice.user_id});
        alice.post(&format!("rooms/{room}/kick"), target).await.refused(403, code);
        assert_eq!(invitation(&alice).await, room);
        // Of other rooms invitations can be rejected.
        let other = admin.create_room(json!({"invite": [alice.user_id]})).await;
        alice.post(&format!("rooms/{other}/leave"), json!({})).await.ok();
    });
}

#[test]
fn a_transaction_tells_once() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        let other = server.register("other").await;
        let path = format!("{SEND}/1");
        let first = admin.put(&path, notice(&alice)).await.ok();
        assert!(first["event_id"].is_string());
        assert_eq!(admin.put(&path, notice(&alice)).await.ok(), first);
        // The id is for one user.
        assert_ne!(admin.put(&path, notice(&other)).await.ok(), first);
        let room = invitation(&alice).await;
        alice.post(&format!("join/{room}"), json!({})).await.ok();
        alice.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        // Nobody is invited again by a request that was answered before.
        assert_eq!(admin.put(&path, notice(&alice)).await.ok(), first);
        assert!(alice.get("sync").await.ok()["rooms"]["invite"].is_null());
    });
}

#[test]
fn the_room_is_the_users_alone_tagged_and_read_only() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        let other = server.register("other").await;
        send(&admin, &alice).await;
        send(&admin, &other).await;
        let room = invitation(&alice).await;
        assert_ne!(invitation(&other).await, room);
        alice.post(&format!("join/{room}"), json!({})).await.ok();
        let tags = alice.get(&format!("user/{}/rooms/{room}/tags", alice.user_id)).await.ok();
        assert_eq!(tags, json!({"tags": {"m.server_notice": {}}}));
        let sync = alice.get("sync").await.ok();
        let data = sync["rooms"]["join"][&room]["account_data"]["events"].as_array().unwrap();
        assert!(data.iter().any(|event| event["type"] == "m.tag"), "{data:?}");
        let name = alice.get(&format!("rooms/{room}/state/m.room.name")).await.ok();
        assert_eq!(name, json!({"name": "Server Notices"}));
        let message = json!({"msgtype": "m.text", "body": "answer"});
        alice.put(&format!("rooms/{room}/send/m.room.message/1"), message).await.refused(403, "M_FORBIDDEN");
        let invite = json!({"user_id": admin.user_id});
        alice.post(&format!("rooms/{room}/invite"), invite).await.refused(403, "M_FORBIDDEN");
        // A second notice to who is there invites nobody, and repeats no state.
        let before = timeline_of(&alice, &room).await;
        let event = send(&admin, &alice).await;
        assert_eq!(timeline_of(&alice, &room).await, [&before[before.len() - 9..], &[event]].concat());
    });
}

#[test]
fn several_users_are_told_at_once_or_nobody() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        let content = json!({"msgtype": "m.text", "body": "maintenance"});
        let missing = json!({"user_ids": [alice.user_id, "@nobody:hs.test"], "content": content});
        admin.post(SEND, missing).await.refused(404, "M_NOT_FOUND");
        assert!(alice.get("sync").await.ok()["rooms"]["invite"].is_null());
        let body = json!({"user_ids": [alice.user_id, admin.user_id], "content": content});
        let events = admin.post(SEND, body).await.ok();
        assert!(events["event_ids"][&alice.user_id].is_string() && events["event_ids"][&admin.user_id].is_string());
        invitation(&alice).await;
        invitation(&admin).await;
    });
}

#[test]
fn what_is_no_notice_is_refused() {
    run(async |server| {
        let (admin, alice) = users(&server).await;
        let body = |key: &str, value: Value| {
            let mut body = notice(&alice);
            body[key] = value;
            body
        };
        admin.post(SEND, json!({"user_id": alice.user_id})).await.refused(400, "M_MISSING_PARAM");
        admin.post(SEND, json!({"content": {}})).await.refused(400, "M_MISSING_PARAM");
        admin.post(SEND, body("user_id", json!("@a:elsewhere.test"))).await.refused(400, "M_INVALID_PARAM");
        admin.post(SEND, body("user_id", json!("@nobody:hs.test"))).await.refused(404, "M_NOT_FOUND");
        admin.post(SEND, body("user_id", json!(SENDER))).await.refused(400, "M_INVALID_PARAM");
        admin.post(SEND, body("user_ids", json!([]))).await.refused(400, "M_INVALID_PARAM");
        admin.post(SEND, body("type", json!("m.room.member"))).await.refused(400, "M_INVALID_PARAM");
        assert!(alice.get("sync").await.ok()["rooms"]["invite"].is_null());
        let taken = json!({"username": "_server", "password": "correct horse", "auth": {"type": "m.login.dummy"}});
        server.post("/_matrix/client/v3/register", taken).await.refused(400, "M_EXCLUSIVE");
        // State is a notice too: what is pinned is shown at once.
        let event = admin.post(SEND, notice(&alice)).await.ok()["event_id"].clone();
        let pinned = json!({
            "user_id": alice.user_id, "type": "m.room.pinned_events", "state_key": "", "content": {"pinned": [event]},
        });
        admin.post(SEND, pinned).await.ok();
    });
}

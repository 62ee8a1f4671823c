//! What a role may not do is refused where it is asked for, and done for another role.

use http::Method;
use serde_json::{Value, json};
use spec::ids::UserId;
use users::{GuestRights, Role, RolesConfig};

use crate::server::{Client, Reply, Server, Setup, run_as};

const FAR_ROOM: &str = "!room:far.test";

/// A server on which the role `guest` may do nothing of what roles are about.
fn nothing_for_guests() -> Setup {
    let guest = GuestRights { federate: false, call: false, ..GuestRights::default() };
    Setup { roles: RolesConfig { guest, ..RolesConfig::default() }, ..Setup::default() }
}

/// A member, and somebody who was given the role `guest`.
async fn member_and_guest(server: &Server) -> (Client<'_>, Client<'_>) {
    server.register("admin").await;
    let (member, guest) = (server.register("member").await, server.register("guest").await);
    let user = server.rooms.user_nid(&UserId::parse(&*guest.user_id).unwrap()).unwrap().unwrap();
    server.users.set_role(user, Role::Guest).await.unwrap();
    (member, guest)
}

/// Refused, and told that it is for the role.
#[track_caller]
fn is_refused(reply: &Reply, what: &str) {
    let body = reply.refused(403, "M_FORBIDDEN");
    let message = body["error"].as_str().unwrap();
    assert!(message.contains("your role on this server") && message.contains(what), "{message}");
}

#[test]
fn rooms_are_made_and_upgraded_by_those_who_may() {
    run_as(nothing_for_guests(), async |server| {
        let (member, guest) = member_and_guest(&server).await;
        let room = member.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
        is_refused(&guest.post("createRoom", json!({})).await, "create rooms");
        guest.post(&format!("join/{room}"), json!({})).await.ok();
        let powers = json!({"users": {&member.user_id: 100, &guest.user_id: 100}});
        member.put(&format!("rooms/{room}/state/m.room.power_levels"), powers).await.ok();
        let upgrade = format!("rooms/{room}/upgrade");
        is_refused(&guest.post(&upgrade, json!({"new_version": "11"})).await, "create rooms");
        member.post(&upgrade, json!({"new_version": "11"})).await.ok();
    });
}

#[test]
fn people_are_invited_by_those_who_may() {
    run_as(nothing_for_guests(), async |server| {
        let (member, guest) = member_and_guest(&server).await;
        server.register("carol").await;
        let room = member.create_room(json!({"preset": "public_chat"})).await;
        guest.post(&format!("join/{room}"), json!({})).await.ok();
        let invite = format!("rooms/{room}/invite");
        let state = format!("rooms/{room}/state/m.room.member/@carol:hs.test");
        is_refused(&guest.post(&invite, json!({"user_id": "@carol:hs.test"})).await, "invite");
        is_refused(&guest.put(&state, json!({"membership": "invite"})).await, "invite");
        member.post(&invite, json!({"user_id": "@carol:hs.test"})).await.ok();
        member.put(&state, json!({"membership": "invite", "reason": "again"})).await.ok();
    });
}

#[test]
fn files_are_uploaded_by_those_who_may() {
    run_as(nothing_for_guests(), async |server| {
        let (member, guest) = member_and_guest(&server).await;
        let upload = "/_matrix/media/v3/upload";
        let create = "/_matrix/media/v1/create";
        is_refused(&guest.call(Method::POST, upload, "content").await, "upload");
        is_refused(&guest.post(create, json!({})).await, "upload");
        member.call(Method::POST, upload, "content").await.ok();
        member.post(create, json!({})).await.ok();
    });
}

#[test]
fn rooms_and_users_of_other_servers_are_for_those_who_may() {
    run_as(nothing_for_guests(), async |server| {
        let (member, guest) = member_and_guest(&server).await;
        *server.elsewhere.accepts.lock().unwrap() = true;
        let join = format!("join/{FAR_ROOM}?via=far.test");
        let knock = format!("knock/{FAR_ROOM}?via=far.test");
        is_refused(&guest.post(&join, json!({})).await, "other servers");
        is_refused(&guest.post(&knock, json!({})).await, "other servers");
        assert_eq!(server.elsewhere.take_asked(), Vec::<String>::new());
        member.post(&join, json!({})).await.ok();
        member.post(&knock, json!({})).await.ok();
    });
}

/// Somebody who may invite, but not over the borders of the server.
#[test]
fn users_of_other_servers_are_invited_by_those_who_may() {
    let guest = GuestRights { federate: false, invite: true, create_rooms: true, ..GuestRights::default() };
    let setup = Setup { roles: RolesConfig { guest, ..RolesConfig::default() }, ..Setup::default() };
    run_as(setup, async |server| {
        let (member, guest) = member_and_guest(&server).await;
        *server.elsewhere.accepts.lock().unwrap() = true;
        let far = json!({"user_id": "@dan:far.test"});
        for (user, may) in [(&guest, false), (&member, true)] {
            let room = user.create_room(json!({})).await;
            let invited = user.post(&format!("rooms/{room}/invite"), far.clone()).await;
            let created = user.post("createRoom", json!({"invite": ["@dan:far.test"]})).await;
            if may {
                invited.ok();
                created.ok();
            } else {
                is_refused(&invited, "other servers");
                is_refused(&created, "other servers");
                let state = format!("rooms/{room}/state/m.room.member/@dan:far.test");
                is_refused(&user.put(&state, json!({"membership": "invite"})).await, "other servers");
                let create = user.get(&format!("rooms/{room}/state/m.room.create")).await.ok();
                assert_eq!(create["m.federate"], false);
            }
        }
    });
}

#[test]
fn calls_are_for_those_who_may() {
    run_as(nothing_for_guests(), async |server| {
        let (member, guest) = member_and_guest(&server).await;
        let room = member.create_room(json!({"preset": "public_chat"})).await;
        guest.post(&format!("join/{room}"), json!({})).await.ok();
        is_refused(&guest.get("voip/turnServer").await, "calls");
        member.get("voip/turnServer").await.ok();
        let newest = |user: &Client<'_>| {
            json!({
                "url": "wss://hs.test/_rtc/sfu", "room_id": room, "slot_id": "m.call#ROOM",
                "member": {"id": "m1", "claimed_device_id": user.device_id},
            })
        };
        for path in ["/_matrix/client/v1/rtc/livekit/get_token", "/_rtc/jwt/sfu/get"] {
            for (user, may) in [(&guest, false), (&member, true)] {
                let body: Value = match path.starts_with("/_rtc") {
                    false => newest(user),
                    true => {
                        let openid = format!("user/{}/openid/request_token", user.user_id);
                        let openid = user.post(&openid, json!({})).await.ok();
                        json!({"room": room, "openid_token": openid, "device_id": user.device_id})
                    }
                };
                let reply = user.post(path, body).await;
                if may {
                    reply.ok();
                } else {
                    is_refused(&reply, "calls");
                }
            }
        }
    });
}

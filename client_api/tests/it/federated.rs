//! Rooms and users of other servers, as far as this edge goes: what it asks whom, and what it answers.

use std::sync::Arc;

use rooms::CheckedPdu;
use serde_json::{Value, json};
use spec::ids::{RoomId, ServerName};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;

use crate::server::{Server, run};

const ROOM: &str = "!room:far.test";

/// An invitation of a user of this server to a room that it is not in.
async fn receive_invite(server: &Server, user: &str) {
    let far = ServerName::parse("far.test").unwrap();
    let key = SigningKey::from_seed([9; 32], "1").unwrap();
    let version = RoomVersion::V10;
    let event = json!({
        "auth_events": [], "prev_events": ["$before"], "depth": 5, "origin_server_ts": 1, "room_id": ROOM,
        "sender": "@host:far.test", "state_key": user, "type": "m.room.member", "content": {"membership": "invite"},
    });
    let pdu = Pdu::sign(event.as_object().unwrap().clone(), &far, &key, version.rules()).unwrap();
    server.rooms.receive_invite(CheckedPdu::of_ours(Arc::new(pdu)), version, Vec::new()).await.unwrap();
}

#[test]
fn rooms_elsewhere_are_joined_through_the_servers_that_the_client_names() {
    run(async |server| {
        let alice = server.register("alice").await;
        let join = format!("join/{ROOM}?via=a.test&via=not%20a%20name&via=b.test&server_name=c.test");
        alice.post(&join, json!({})).await.refused(502, "M_UNKNOWN");
        assert_eq!(server.elsewhere.take_asked(), [format!("join @alice:hs.test {ROOM} a.test,b.test")]);
        *server.elsewhere.accepts.lock().unwrap() = true;
        let joined = alice.post(&format!("join/{ROOM}?server_name=c.test"), json!({})).await.ok();
        assert_eq!(joined["room_id"], ROOM);
        assert_eq!(server.elsewhere.take_asked(), [format!("join @alice:hs.test {ROOM} c.test")]);
        alice.post(&format!("rooms/{ROOM}/join"), json!({})).await.ok();
        alice.post(&format!("knock/{ROOM}?via=a.test"), json!({})).await.ok();
        let asked = [format!("join @alice:hs.test {ROOM} "), format!("knock @alice:hs.test {ROOM} a.test")];
        assert_eq!(server.elsewhere.take_asked(), asked);
    });
}

#[test]
fn aliases_of_other_servers_are_resolved_there() {
    run(async |server| {
        let alice = server.register("alice").await;
        alice.get("directory/room/%23tea:far.test").await.refused(404, "M_NOT_FOUND");
        alice.post("join/%23tea:far.test", json!({})).await.refused(404, "M_NOT_FOUND");
        let servers = ["far.test", "near.test"].map(|name| ServerName::parse(name).unwrap()).to_vec();
        let answer = (RoomId::parse(ROOM).unwrap(), servers);
        server.elsewhere.aliases.lock().unwrap().insert("#tea:far.test".into(), answer);
        let found = alice.get("directory/room/%23tea:far.test").await.ok();
        assert_eq!(found, json!({"room_id": ROOM, "servers": ["far.test", "near.test"]}));
        server.elsewhere.take_asked();
        *server.elsewhere.accepts.lock().unwrap() = true;
        alice.post("join/%23tea:far.test?via=near.test", json!({})).await.ok();
        let asked = server.elsewhere.take_asked();
        let join = format!("join @alice:hs.test {ROOM} near.test,far.test");
        assert_eq!(asked, ["alias #tea:far.test".to_owned(), join]);
    });
}

#[test]
fn rooms_here_are_left_and_joined_without_other_servers() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
        bob.post(&format!("join/{room}?via=a.test"), json!({})).await.ok();
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        alice.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        // Nobody is in it any more, and it is nowhere else.
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let closed = alice.create_room(json!({"preset": "private_chat"})).await;
        bob.post(&format!("join/{closed}?via=a.test"), json!({})).await.refused(403, "M_FORBIDDEN");
        assert_eq!(server.elsewhere.take_asked(), Vec::<String>::new());
    });
}

#[test]
fn invitations_from_elsewhere_are_refused_through_other_servers() {
    run(async |server| {
        let alice = server.register("alice").await;
        alice.post(&format!("rooms/{ROOM}/leave"), json!({})).await.refused(403, "M_FORBIDDEN");
        receive_invite(&server, "@alice:hs.test").await;
        *server.elsewhere.accepts.lock().unwrap() = true;
        alice.post(&format!("rooms/{ROOM}/leave"), json!({"reason": "no"})).await.ok();
        assert_eq!(server.elsewhere.take_asked(), [format!("leave @alice:hs.test {ROOM}")]);
        let message = json!({"msgtype": "m.text", "body": "hello"});
        alice.put(&format!("rooms/{ROOM}/send/m.room.message/1"), message).await.refused(403, "M_FORBIDDEN");
        let bob = json!({"user_id": "@bob:hs.test"});
        alice.post(&format!("rooms/{ROOM}/invite"), bob).await.refused(403, "M_FORBIDDEN");
        let carol = json!({"user_id": "@carol:far.test"});
        alice.post(&format!("rooms/{ROOM}/invite"), carol).await.refused(403, "M_FORBIDDEN");
        assert_eq!(server.elsewhere.take_asked(), Vec::<String>::new());
    });
}

#[test]
fn users_of_other_servers_are_invited_through_their_servers() {
    run(async |server| {
        let alice = server.register("alice").await;
        let invite = json!(["@carol:far.test", "@bob:hs.test"]);
        server.register("bob").await;
        let body = json!({"preset": "trusted_private_chat", "room_version": "10", "invite": invite, "is_direct": true});
        let room = alice.create_room(body).await;
        assert_eq!(server.elsewhere.take_asked(), [r#"invite @alice:hs.test @carol:far.test {"is_direct":true}"#]);
        let levels = alice.get(&format!("rooms/{room}/state/m.room.power_levels")).await.ok();
        assert_eq!((&levels["users"]["@carol:far.test"], &levels["users"]["@bob:hs.test"]), (&json!(100), &json!(100)));
        alice.get(&format!("rooms/{room}/state/m.room.member/@carol:far.test")).await.refused(404, "M_NOT_FOUND");
        alice.get(&format!("rooms/{room}/state/m.room.member/@bob:hs.test")).await.ok();
        let carol = json!({"user_id": "@carol:far.test", "reason": "tea"});
        alice.post(&format!("rooms/{room}/invite"), carol.clone()).await.refused(502, "M_UNKNOWN");
        *server.elsewhere.accepts.lock().unwrap() = true;
        alice.post(&format!("rooms/{room}/invite"), carol).await.ok();
        let asked = server.elsewhere.take_asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1], r#"invite @alice:hs.test @carol:far.test {"reason":"tea"}"#);
    });
}

#[test]
fn public_rooms_of_other_servers_are_asked_for_by_users_only() {
    run(async |server| {
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v3/publicRooms?server=far.test";
        server.get(path).await.refused(401, "M_MISSING_TOKEN");
        assert_eq!(server.elsewhere.take_asked(), Vec::<String>::new());
        alice.get("publicRooms?server=far.test&limit=7&since=x").await.refused(403, "M_FORBIDDEN");
        let body = json!({"filter": {"generic_search_term": "tea", "room_types": [null, "m.space"]}});
        alice.post("publicRooms?server=far.test", body).await.refused(403, "M_FORBIDDEN");
        alice.post("publicRooms?server=hs.test", json!({})).await.ok();
        let asked = server.elsewhere.take_asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0], r#"public rooms far.test {"limit":7,"since":"x"}"#);
        assert!(
            asked[1].contains(r#""filter":{"generic_search_term":"tea","room_types":[null,"m.space"]}"#),
            "{asked:?}"
        );
    });
}

fn summary(room: &str, join_rule: &str, room_type: Option<&str>) -> Value {
    json!({
        "room_id": room, "num_joined_members": 1, "world_readable": false, "guest_can_join": false,
        "join_rule": join_rule, "room_type": room_type,
    })
}

fn child(room: &str, via: &[&str], order: &str) -> Value {
    json!({
        "type": "m.space.child", "state_key": room, "sender": "@x:far.test", "origin_server_ts": 1,
        "content": {"via": via, "order": order},
    })
}

#[test]
fn the_hierarchy_goes_on_at_other_servers() {
    run(async |server| {
        let alice = server.register("alice").await;
        let top = alice.create_room(json!({"creation_content": {"type": "m.space"}})).await;
        let link = |room: &str| format!("rooms/{top}/state/m.space.child/{room}");
        alice.put(&link("!space:far.test"), json!({"via": ["a.test", "b.test"], "order": "1"})).await.ok();
        alice.put(&link("!lost:far.test"), json!({"via": ["c.test"], "order": "2"})).await.ok();
        let mut space = summary("!space:far.test", "public", Some("m.space"));
        space["children_state"] = json!([
            child("!told:far.test", &["a.test"], "b"),
            child("!shut:far.test", &["a.test"], "a"),
            child("!closed:far.test", &["a.test"], "c"),
            child("!space:far.test", &["a.test"], "d"),
        ]);
        let answer = json!({
            "room": space, "inaccessible_children": ["!shut:far.test"],
            "children": [summary("!told:far.test", "knock", None), summary("!closed:far.test", "invite", None)],
        });
        server.elsewhere.hierarchies.lock().unwrap().insert("!space:far.test".into(), answer);
        server.elsewhere.take_asked();
        let path = |query: &str| format!("/_matrix/client/v1/rooms/{top}/hierarchy{query}");
        let found = alice.get(&path("")).await.ok();
        let ids: Vec<&str> =
            found["rooms"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect();
        assert_eq!(ids, [top.as_str(), "!space:far.test", "!told:far.test"]);
        assert_eq!(found["rooms"][1]["children_state"][0]["state_key"], "!shut:far.test");
        assert_eq!(found["rooms"][2]["children_state"], json!([]));
        let asked = ["hierarchy !space:far.test a.test,b.test", "hierarchy !lost:far.test c.test"];
        assert_eq!(server.elsewhere.take_asked(), asked);
        let first = alice.get(&path("?limit=2")).await.ok();
        let next = first["next_batch"].as_str().unwrap();
        let rest = alice.get(&path(&format!("?limit=2&from={next}"))).await.ok();
        assert_eq!(
            (first["rooms"].as_array().unwrap().len(), rest["rooms"][0]["room_id"].as_str()),
            (2, Some("!told:far.test"))
        );
        let shallow = alice.get(&path("?max_depth=1")).await.ok();
        assert_eq!(shallow["rooms"].as_array().unwrap().len(), 2);
        let unknown = "/_matrix/client/v1/rooms/!no:far.test/hierarchy";
        alice.get(unknown).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn summaries_of_rooms_elsewhere_are_for_users_who_could_come_in() {
    run(async |server| {
        let alice = server.register("alice").await;
        for (room, rule) in [("!open:far.test", "public"), ("!closed:far.test", "invite")] {
            let mut told = summary(room, rule, None);
            told["children_state"] = json!([]);
            let answer = json!({"room": told, "children": [], "inaccessible_children": []});
            server.elsewhere.hierarchies.lock().unwrap().insert(room.into(), answer);
        }
        let path = |room: &str| format!("/_matrix/client/v1/room_summary/{room}?via=a.test");
        server.get(&path("!open:far.test")).await.refused(404, "M_NOT_FOUND");
        assert_eq!(server.elsewhere.take_asked(), Vec::<String>::new());
        let open = alice.get(&path("!open:far.test")).await.ok();
        assert_eq!((&open["membership"], &open["children_state"]), (&json!("leave"), &Value::Null));
        alice.get(&path("!closed:far.test")).await.refused(404, "M_NOT_FOUND");
        let asked = ["hierarchy !open:far.test a.test", "hierarchy !closed:far.test a.test"];
        assert_eq!(server.elsewhere.take_asked(), asked);
    });
}

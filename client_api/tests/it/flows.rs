//! What clients do, from end to end.

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::server::{Client, eventually, run};

async fn invite_and_join(host: &Client<'_>, guest: &Client<'_>, room: &str) {
    host.post(&format!("rooms/{room}/invite"), json!({"user_id": guest.user_id})).await.ok();
    guest.post(&format!("rooms/{room}/join"), json!({})).await.ok();
}

#[test]
fn accounts_are_registered_and_logged_in() {
    run(async |server| {
        let register = "/_matrix/client/v3/register";
        let reply = server.post(register, json!({"username": "alice", "password": "correct horse"})).await;
        assert_eq!(reply.status, 401);
        let challenge = reply.json();
        assert_eq!(challenge["flows"], json!([{"stages": ["m.login.dummy"]}]));
        let auth = json!({"type": "m.login.dummy", "session": challenge["session"]});
        let body = json!({"username": "alice", "password": "correct horse", "auth": auth, "device_id": "PHONE"});
        let session = server.post(register, body.clone()).await.ok();
        assert_eq!((&session["user_id"], &session["device_id"]), (&json!("@alice:hs.test"), &json!("PHONE")));
        server.post(register, body).await.refused(400, "M_USER_IN_USE");
        server
            .post(register, json!({"username": "Ünsinn", "password": "correct horse"}))
            .await
            .refused(400, "M_INVALID_USERNAME");
        server.post(register, json!({"username": "bob", "password": "short"})).await.refused(400, "M_WEAK_PASSWORD");
        server.get("/_matrix/client/v3/register/available?username=alice").await.refused(400, "M_USER_IN_USE");
        assert_eq!(server.get("/_matrix/client/v3/register/available?username=bob").await.ok()["available"], true);

        let login = "/_matrix/client/v3/login";
        let attempt = |user: &str, password: &str| json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": password, "refresh_token": true});
        server.post(login, attempt("alice", "wrong")).await.refused(403, "M_FORBIDDEN");
        server.post(login, attempt("nobody", "wrong")).await.refused(403, "M_FORBIDDEN");
        server.post(login, json!({"type": "m.login.unknown"})).await.refused(400, "M_UNKNOWN");
        let session = server.post(login, attempt("@alice:hs.test", "correct horse")).await.ok();
        assert!(session["expires_in_ms"].as_u64().unwrap() > 0);
        assert_eq!(session["well_known"]["m.homeserver"]["base_url"], "https://hs.test");
        let refreshed =
            server.post("/_matrix/client/v3/refresh", json!({"refresh_token": session["refresh_token"]})).await.ok();
        assert_ne!(refreshed["access_token"], session["access_token"]);
        let alice = server.client(&session);
        alice.get("account/whoami").await.ok();
        server.clock.advance(std::time::Duration::from_secs(7200));
        assert_eq!(alice.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN")["soft_logout"], true);
    });
}

#[test]
fn tokens_end_with_their_device() {
    run(async |server| {
        let alice = server.register("alice").await;
        let again = server.client(&server.post("/_matrix/client/v3/login", alice.password()).await.ok());
        let path = format!("devices/{}", again.device_id);
        let challenge = alice.delete(&path, json!({})).await;
        assert_eq!(challenge.status, 401);
        let mut auth = alice.password();
        auth["session"] = challenge.json()["session"].clone();
        alice.delete(&path, json!({"auth": auth})).await.ok();
        again.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        alice.get(&path).await.refused(404, "M_NOT_FOUND");
        assert_eq!(alice.get("devices").await.ok()["devices"].as_array().unwrap().len(), 1);
        alice.put(&format!("devices/{}", alice.device_id), json!({"display_name": "Phone"})).await.ok();
        assert_eq!(alice.get(&format!("devices/{}", alice.device_id)).await.ok()["display_name"], "Phone");
        let token = alice.post("/_matrix/client/v1/login/get_token", json!({"auth": alice.password()})).await.ok();
        let login = json!({"type": "m.login.token", "token": token["login_token"]});
        let other = server.client(&server.post("/_matrix/client/v3/login", login.clone()).await.ok());
        server.post("/_matrix/client/v3/login", login).await.refused(403, "M_FORBIDDEN");
        let change = json!({"new_password": "battery staple", "auth": alice.password()});
        alice.post("account/password", change).await.ok();
        other.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        alice.call(Method::POST, "logout", Body::empty()).await.ok();
        alice.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        server.post("/_matrix/client/v3/login", alice.password()).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn a_conversation_reaches_sync_and_messages() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"name": "Room", "topic": "Talk", "preset": "private_chat"})).await;
        alice.say(&room, "1", "before").await;
        bob.get(&format!("rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
        bob.put(&format!("rooms/{room}/send/m.room.message/1"), json!({"body": "x"})).await.refused(403, "M_FORBIDDEN");
        alice.post(&format!("rooms/{room}/invite"), json!({"user_id": bob.user_id, "reason": "come"})).await.ok();
        let invited = bob.get("sync").await.ok();
        assert!(invited["rooms"]["invite"][&room]["invite_state"]["events"].is_array(), "{invited}");
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let since = bob.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        let event = alice.say(&room, "2", "hello").await;
        let news = bob.get(&format!("sync?since={since}&timeout=1000")).await.ok();
        let timeline = &news["rooms"]["join"][&room]["timeline"]["events"];
        assert_eq!(timeline[0]["event_id"], event, "{news}");
        // Repeating a transaction gives the same event and sends nothing.
        assert_eq!(alice.say(&room, "2", "hello").await, event);
        let page = bob.get(&format!("rooms/{room}/messages?dir=b&limit=2")).await.ok();
        assert_eq!(page["chunk"][0]["content"]["body"], "hello");
        assert_eq!(page["chunk"][0]["room_id"], room);
        let next = page["end"].as_str().unwrap();
        let older = bob.get(&format!("rooms/{room}/messages?dir=b&limit=100&from={next}")).await.ok();
        assert_eq!(older["chunk"].as_array().unwrap().last().unwrap()["type"], "m.room.create");
        assert!(older.get("end").is_none(), "{older}");
        // A token of /sync is a place, too.
        let forward = bob.get(&format!("rooms/{room}/messages?dir=f&from={since}")).await.ok();
        assert_eq!(forward["chunk"][0]["event_id"], event);
        bob.get(&format!("rooms/{room}/messages?dir=b&from=nonsense")).await.refused(400, "M_INVALID_PARAM");
        bob.get(&format!("rooms/{room}/messages")).await.refused(400, "M_MISSING_PARAM");
        let filter = "%7B%22types%22%3A%5B%22m.room.name%22%5D%2C%22lazy_load_members%22%3Atrue%7D";
        let named = bob.get(&format!("rooms/{room}/messages?dir=b&filter={filter}")).await.ok();
        assert_eq!(named["chunk"].as_array().unwrap().len(), 1, "{named}");
        assert_eq!(named["state"][0]["state_key"], alice.user_id);
    });
}

#[test]
fn events_are_redacted() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let event = alice.say(&room, "1", "secret").await;
        let redact = format!("rooms/{room}/redact/{event}/r1");
        bob.put(&redact, json!({})).await.refused(403, "M_FORBIDDEN");
        let first = alice.put(&redact, json!({"reason": "oops"})).await.ok();
        assert_eq!(alice.put(&redact, json!({"reason": "oops"})).await.ok(), first);
        let emptied = bob.get(&format!("rooms/{room}/event/{event}")).await.ok();
        assert_eq!(emptied["content"], json!({}));
        assert_eq!(emptied["unsigned"]["redacted_because"]["content"]["reason"], "oops");
        alice.put(&format!("rooms/{room}/redact/$unknown/r2"), json!({})).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn state_is_set_and_read() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"room_alias_name": "here", "name": "First"})).await;
        let name = format!("rooms/{room}/state/m.room.name");
        assert_eq!(alice.get(&name).await.ok(), json!({"name": "First"}));
        let event = alice.put(&name, json!({"name": "Second"})).await.ok();
        assert_eq!(alice.put(&format!("{name}/"), json!({"name": "Second"})).await.ok(), event);
        assert_eq!(alice.get(&format!("{name}/?format=event")).await.ok()["event_id"], event["event_id"]);
        alice.get(&format!("rooms/{room}/state/m.room.nothing")).await.refused(404, "M_NOT_FOUND");
        bob.get(&name).await.refused(403, "M_FORBIDDEN");
        bob.put(&name, json!({"name": "Mine"})).await.refused(403, "M_FORBIDDEN");
        let state = alice.get(&format!("rooms/{room}/state")).await.ok();
        assert!(state.as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
        let alias = format!("rooms/{room}/state/m.room.canonical_alias");
        alice.put(&alias, json!({"alias": "#nowhere:hs.test"})).await.refused(400, "M_BAD_ALIAS");
        alice.put(&alias, json!({"alias": "nonsense"})).await.refused(400, "M_INVALID_PARAM");
        alice.put(&alias, json!({"alias": "#here:hs.test", "alt_aliases": []})).await.ok();
        let member = format!("rooms/{room}/state/m.room.member/{}", bob.user_id);
        let invited = alice.put(&member, json!({"membership": "invite"})).await.ok();
        assert!(invited["event_id"].is_string());
        alice.put(&member, json!({"membership": "nonsense"})).await.refused(400, "M_BAD_JSON");
        assert_eq!(bob.get("sync").await.ok()["rooms"]["invite"].as_object().unwrap().len(), 1);
    });
}

#[test]
fn rooms_are_created_as_asked() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        alice
            .post("createRoom", json!({"room_version": "unheard-of"}))
            .await
            .refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        alice.post("createRoom", json!({"room_alias_name": "a:b"})).await.refused(400, "M_INVALID_PARAM");
        alice.post("createRoom", json!({"invite": ["nonsense"]})).await.refused(400, "M_BAD_JSON");
        alice.post("createRoom", json!({"invite_3pid": [{}]})).await.refused(403, "M_THREEPID_DENIED");
        let levels = json!({"users": {&alice.user_id: "x"}});
        let broken = json!({"power_level_content_override": levels, "room_version": "11"});
        alice.post("createRoom", broken).await.refused(400, "M_INVALID_ROOM_STATE");
        for version in 1..=12 {
            let body = json!({
                "room_version": version.to_string(), "room_alias_name": format!("v{version}"), "visibility": "public",
                "invite": [bob.user_id], "is_direct": true, "topic": "T",
                "initial_state": [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}],
            });
            let room = alice.create_room(body.clone()).await;
            alice.post("createRoom", body).await.refused(400, "M_ROOM_IN_USE");
            let found = server.get(&format!("/_matrix/client/v3/directory/room/%23v{version}:hs.test")).await.ok();
            assert_eq!(found["room_id"], room);
            bob.post(&format!("join/%23v{version}:hs.test"), json!({})).await.ok();
            // Event ids of version 3 hold slashes.
            let event = bob.say(&room, "1", "hi").await.replace('/', "%2F");
            assert_eq!(alice.get(&format!("rooms/{room}/event/{event}")).await.ok()["sender"], bob.user_id);
            let algorithm = alice.get(&format!("rooms/{room}/state/m.room.encryption")).await.ok();
            assert_eq!(algorithm["algorithm"], "m.megolm.v1.aes-sha2");
        }
        let list = server.get("/_matrix/client/v3/publicRooms?limit=5").await.ok();
        assert_eq!((list["chunk"].as_array().unwrap().len(), &list["total_room_count_estimate"]), (5, &json!(12)));
        server.get("/_matrix/client/v3/publicRooms?server=%20").await.refused(400, "M_INVALID_PARAM");
        let next = format!("/_matrix/client/v3/publicRooms?since={}", list["next_batch"].as_str().unwrap());
        assert_eq!(server.get(&next).await.ok()["chunk"].as_array().unwrap().len(), 7);
        let search = json!({"filter": {"generic_search_term": "v12"}});
        assert_eq!(bob.post("publicRooms", search).await.ok()["chunk"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn members_come_and_go() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
        bob.post("join/!unknown:hs.test", json!({})).await.refused(404, "M_NOT_FOUND");
        bob.post("join/%23unknown:hs.test", json!({})).await.refused(404, "M_NOT_FOUND");
        alice.post(&format!("rooms/{room}/kick"), json!({"user_id": bob.user_id})).await.refused(403, "M_FORBIDDEN");
        invite_and_join(&alice, &bob, &room).await;
        assert_eq!(bob.get("joined_rooms").await.ok()["joined_rooms"], json!([room]));
        let members = bob.get(&format!("rooms/{room}/joined_members")).await.ok();
        assert_eq!(members["joined"].as_object().unwrap().len(), 2);
        let at = bob.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        alice.post(&format!("rooms/{room}/kick"), json!({"user_id": bob.user_id, "reason": "out"})).await.ok();
        bob.get(&format!("rooms/{room}/joined_members")).await.refused(403, "M_FORBIDDEN");
        let count = async |query: &str| {
            let reply = alice.get(&format!("rooms/{room}/members?{query}")).await.ok();
            reply["chunk"].as_array().unwrap().len()
        };
        assert_eq!(count("membership=join").await, 1);
        assert_eq!(count("not_membership=join").await, 1);
        assert_eq!(count(&format!("membership=join&at={at}")).await, 2);
        alice.get(&format!("rooms/{room}/members?membership=x")).await.refused(400, "M_INVALID_PARAM");
        alice.post(&format!("rooms/{room}/unban"), json!({"user_id": bob.user_id})).await.refused(403, "M_FORBIDDEN");
        alice.post(&format!("rooms/{room}/ban"), json!({"user_id": bob.user_id})).await.ok();
        alice.post(&format!("rooms/{room}/invite"), json!({"user_id": bob.user_id})).await.refused(403, "M_FORBIDDEN");
        alice.post(&format!("rooms/{room}/ban"), json!({"user_id": "@stranger:elsewhere.test"})).await.ok();
        alice.post(&format!("rooms/{room}/unban"), json!({"user_id": bob.user_id})).await.ok();
        bob.post(&format!("rooms/{room}/forget"), json!({})).await.ok();
        bob.get(&format!("rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
        alice.post(&format!("rooms/{room}/forget"), json!({})).await.refused(400, "M_UNKNOWN");
        alice.post(&format!("rooms/{room}/leave"), json!({"reason": "bye"})).await.ok();
        alice.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        alice
            .post(&format!("rooms/{room}/invite"), json!({"user_id": "@x:elsewhere.test"}))
            .await
            .refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn knocking_and_restricted_rooms() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let knock = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
        let room = alice.create_room(json!({"initial_state": [knock]})).await;
        bob.post(&format!("knock/{room}"), json!({"reason": "please"})).await.ok();
        assert!(bob.get("sync").await.ok()["rooms"]["knock"][&room]["knock_state"]["events"].is_array());
        invite_and_join(&alice, &bob, &room).await;
        let allow = json!([{"type": "m.room_membership", "room_id": room}]);
        let restricted = json!({"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}});
        let inner = alice.create_room(json!({"initial_state": [restricted]})).await;
        let carol = server.register("carol").await;
        carol.post(&format!("join/{inner}"), json!({})).await.refused(403, "M_FORBIDDEN");
        carol.get(&format!("/_matrix/client/v1/room_summary/{inner}")).await.refused(404, "M_NOT_FOUND");
        assert_eq!(bob.get(&format!("/_matrix/client/v1/room_summary/{inner}")).await.ok()["membership"], "leave");
        bob.post(&format!("join/{inner}"), json!({})).await.ok();
        alice
            .put("user/@alice:hs.test/account_data/m.invite_permission_config", json!({"default_action": "block"}))
            .await
            .ok();
        let other = bob.create_room(json!({})).await;
        bob.post(&format!("rooms/{other}/invite"), json!({"user_id": alice.user_id}))
            .await
            .refused(403, "M_INVITE_BLOCKED");
    });
}

#[test]
fn profiles_reach_member_events() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        alice.put("profile/@alice:hs.test/displayname", json!({"displayname": "Alice"})).await.ok();
        alice.put("profile/@alice:hs.test/avatar_url", json!({"avatar_url": "mxc://hs.test/a"})).await.ok();
        bob.put("profile/@alice:hs.test/displayname", json!({"displayname": "Bob"})).await.refused(403, "M_FORBIDDEN");
        alice.put("profile/@alice:hs.test/displayname", json!({})).await.refused(400, "M_MISSING_PARAM");
        alice.put("profile/@alice:hs.test/m.tz", json!({"m.tz": "Europe/London"})).await.ok();
        let profile = server.get("/_matrix/client/v3/profile/@alice:hs.test").await.ok();
        assert_eq!(profile, json!({"displayname": "Alice", "avatar_url": "mxc://hs.test/a", "m.tz": "Europe/London"}));
        let zone = server.get("/_matrix/client/v3/profile/@alice:hs.test/m.tz").await.ok();
        assert_eq!(zone, json!({"m.tz": "Europe/London"}));
        server.get("/_matrix/client/v3/profile/@nobody:hs.test").await.refused(404, "M_NOT_FOUND");
        let member = format!("rooms/{room}/state/m.room.member/{}", alice.user_id);
        eventually("the member's picture", async || alice.get(&member).await.ok()["avatar_url"] == "mxc://hs.test/a")
            .await;
        assert_eq!(
            alice.get(&member).await.ok(),
            json!({"membership": "join", "displayname": "Alice", "avatar_url": "mxc://hs.test/a"})
        );
        alice.delete("profile/@alice:hs.test/m.tz", json!({})).await.ok();
        server.get("/_matrix/client/v3/profile/@alice:hs.test/m.tz").await.refused(404, "M_NOT_FOUND");
        let found: Value = bob.post("user_directory/search", json!({"search_term": "ali"})).await.ok();
        assert_eq!(found["results"][0]["display_name"], "Alice");
    });
}

#[test]
fn guests_suspended_and_locked_accounts_are_kept_out() {
    run(async |server| {
        let alice = server.register("alice").await; // The first account administers the server.
        let bob = server.register("bob").await;
        let guest = server.client(&server.post("/_matrix/client/v3/register?kind=guest", json!({})).await.ok());
        assert_eq!(guest.get("account/whoami").await.ok()["is_guest"], true);
        guest.get("pushers").await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        let open = json!({"type": "m.room.guest_access", "content": {"guest_access": "can_join"}});
        let room = alice.create_room(json!({"preset": "public_chat", "initial_state": [open]})).await;
        guest.post(&format!("join/{room}"), json!({})).await.ok();
        let closed = alice.create_room(json!({"preset": "public_chat"})).await;
        guest.post(&format!("join/{closed}"), json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        let name = |key: &str| format!("profile/{}/{key}", guest.user_id);
        guest.put(&name("displayname"), json!({"displayname": "Guest"})).await.ok();
        guest.put(&name("m.tz"), json!({"m.tz": "UTC"})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let event = bob.say(&room, "1", "hello").await;
        let suspend = "/_matrix/client/v1/admin/suspend/@bob:hs.test";
        bob.put(suspend, json!({"suspended": true})).await.refused(403, "M_FORBIDDEN");
        alice
            .put("/_matrix/client/v1/admin/suspend/@alice:hs.test", json!({"suspended": true}))
            .await
            .refused(403, "M_FORBIDDEN");
        alice.put(suspend, json!({"suspended": true})).await.ok();
        assert_eq!(alice.get(suspend).await.ok()["suspended"], true);
        let send = format!("rooms/{room}/send/m.room.message/2");
        bob.put(&send, json!({"body": "x"})).await.refused(403, "M_USER_SUSPENDED");
        bob.get("sync").await.ok();
        bob.put(&format!("rooms/{room}/redact/{event}/r"), json!({})).await.ok();
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        alice.put("/_matrix/client/v1/admin/lock/@bob:hs.test", json!({"locked": true})).await.ok();
        assert_eq!(bob.get("sync").await.refused(401, "M_USER_LOCKED")["soft_logout"], true);
        bob.call(Method::POST, "logout", Body::empty()).await.ok();
        // Once a room is closed to guests, they leave it.
        alice.put(&format!("rooms/{room}/state/m.room.guest_access"), json!({"guest_access": "forbidden"})).await.ok();
        eventually("the guest's leave", async || guest.get("joined_rooms").await.ok()["joined_rooms"] == json!([]))
            .await;
    });
}

#[test]
fn a_deactivated_account_leaves_everything() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        invite_and_join(&alice, &bob, &room).await;
        let reply = bob.post("account/deactivate", json!({"auth": bob.password()})).await.ok();
        assert_eq!(reply["id_server_unbind_result"], "no-support");
        bob.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        server.post("/_matrix/client/v3/login", bob.password()).await.refused(403, "M_USER_DEACTIVATED");
        server.get("/_matrix/client/v3/register/available?username=bob").await.refused(400, "M_USER_IN_USE");
        eventually("the leave", async || {
            let members = alice.get(&format!("rooms/{room}/joined_members")).await.ok();
            members["joined"].as_object().unwrap().len() == 1
        })
        .await;
    });
}

#[test]
fn sliding_sync_brings_rooms_and_news() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"name": "Room", "invite": [bob.user_id]})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        let list = json!({"ranges": [[0, 19]], "timeline_limit": 5, "required_state": [["m.room.name", ""]]});
        let body = json!({"conn_id": "main", "lists": {"all": list}, "extensions": {"to_device": {"enabled": true}}});
        let first = bob.post(path, body.clone()).await.ok();
        assert_eq!(first["lists"]["all"]["count"], 1, "{first}");
        assert_eq!(first["rooms"][&room]["name"], "Room");
        assert_eq!(first["rooms"][&room]["required_state"][0]["content"]["name"], "Room");
        let event = alice.say(&room, "1", "hello").await;
        let pos = first["pos"].as_str().unwrap();
        let news = bob.post(&format!("{path}?pos={pos}&timeout=1000"), body.clone()).await.ok();
        assert_eq!(news["rooms"][&room]["timeline"][0]["event_id"], event, "{news}");
        bob.post("/_matrix/client/v4/sync", json!({"lists": {"a": {"ranges": [[5, 1]]}}}))
            .await
            .refused(400, "M_INVALID_PARAM");
        bob.post(path, json!({"lists": []})).await.refused(400, "M_BAD_JSON");
        alice.post(&format!("{path}?pos={pos}"), body).await.refused(400, "M_UNKNOWN_POS");
    });
}

#[test]
fn a_waiting_sync_is_woken() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let since = alice.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        let path = format!("sync?since={since}&timeout=30000");
        let (news, event) = tokio::join!(alice.get(&path), async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            alice.say(&room, "1", "wake up").await
        });
        assert_eq!(news.ok()["rooms"]["join"][&room]["timeline"]["events"][0]["event_id"], event);
    });
}

#[test]
fn one_transaction_makes_one_event_even_at_once() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let path = format!("rooms/{room}/send/m.room.message/same");
        let replies = futures_util::future::join_all((0..20).map(|n| alice.put(&path, json!({"body": n})))).await;
        let first = replies[0].ok();
        assert!(replies.iter().all(|reply| reply.ok() == first));
        // Another device, another type and another endpoint have transaction ids of their own.
        let other = server.client(&server.post("/_matrix/client/v3/login", alice.password()).await.ok());
        assert_ne!(other.put(&path, json!({"body": "x"})).await.ok(), first);
        let kind = format!("rooms/{room}/send/com.example/same");
        assert_ne!(alice.put(&kind, json!({"body": "x"})).await.ok(), first);
        let redact = format!("rooms/{room}/redact/{}/same", first["event_id"].as_str().unwrap());
        assert_ne!(alice.put(&redact, json!({})).await.ok(), first);
    });
}

#[test]
fn history_before_joining_stays_hidden_where_the_room_says_so() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let joined = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}});
        let room = alice.create_room(json!({"preset": "public_chat", "initial_state": [joined]})).await;
        let at = alice.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        let hidden = alice.say(&room, "1", "before").await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let seen = alice.say(&room, "2", "during").await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        let later = alice.say(&room, "3", "after").await;
        bob.get(&format!("rooms/{room}/event/{hidden}")).await.refused(404, "M_NOT_FOUND");
        bob.get(&format!("rooms/{room}/event/{seen}")).await.ok();
        bob.get(&format!("rooms/{room}/event/{later}")).await.refused(404, "M_NOT_FOUND");
        bob.get(&format!("rooms/{room}/context/{hidden}")).await.refused(404, "M_NOT_FOUND");
        bob.get(&format!("rooms/{room}/members?at={at}")).await.refused(403, "M_FORBIDDEN");
        let page = bob.get(&format!("rooms/{room}/messages?dir=b&limit=100")).await.ok();
        let ids: Vec<&str> =
            page["chunk"].as_array().unwrap().iter().filter_map(|event| event["event_id"].as_str()).collect();
        assert!(
            ids.contains(&seen.as_str()) && !ids.contains(&hidden.as_str()) && !ids.contains(&later.as_str()),
            "{page}"
        );
        alice.put(&format!("rooms/{room}/state/m.room.name"), json!({"name": "Later"})).await.ok();
        bob.get(&format!("rooms/{room}/state/m.room.name")).await.refused(404, "M_NOT_FOUND");
    });
}

//! Joining, inviting, knocking, leaving, forgetting.

use http::StatusCode;
use serde_json::{Value, json};

use super::{events, ids};
use crate::server::{Client, Reply, run};

async fn act(client: &Client<'_>, room: &str, action: &str, target: &Client<'_>) -> Reply {
    client.post(&format!("rooms/{room}/{action}"), json!({"user_id": target.user_id})).await
}

async fn membership(client: &Client<'_>, room: &str, of: &Client<'_>) -> Value {
    let member = client.get(&format!("rooms/{room}/state/m.room.member/{}", of.user_id)).await.ok();
    member["membership"].clone()
}

#[test]
fn whoever_is_not_there_is_not_kicked_and_bans_nobody() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        act(&alice, &room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
        bob.join(&room).await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        act(&alice, &room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
        act(&bob, &room, "ban", &alice).await.refused(403, "M_FORBIDDEN");
        act(&carol, &room, "ban", &alice).await.refused(403, "M_FORBIDDEN");
        // Banning by setting the state is the same, and an invite ends a ban only after it was taken back.
        let path = format!("rooms/{room}/state/m.room.member/{}", bob.user_id);
        alice.put(&path, json!({"membership": "ban"})).await.ok();
        assert_eq!(membership(&alice, &room, &bob).await, "ban");
        bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
        act(&alice, &room, "invite", &bob).await.refused(403, "M_FORBIDDEN");
        act(&alice, &room, "unban", &bob).await.ok();
        act(&alice, &room, "invite", &bob).await.ok();
        bob.join(&room).await;
    });
}

#[test]
fn what_a_client_adds_to_its_join_is_kept() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let room = alice.create_room(json!({"preset": "public_chat", "room_alias_name": "door"})).await;
        for (client, name) in [(&bob, room.as_str()), (&carol, "%23door:hs.test")] {
            let joined = client.post(&format!("join/{name}"), json!({"foo": "bar", "reason": "why not"})).await.ok();
            assert_eq!(joined["room_id"], room);
            let path = format!("rooms/{room}/state/m.room.member/{}", client.user_id);
            let content = alice.get(&path).await.ok();
            assert_eq!((&content["membership"], &content["foo"]), (&json!("join"), &json!("bar")), "{content}");
            assert_eq!(content["reason"], "why not");
        }
    });
}

#[test]
fn a_name_for_one_room_stays_in_that_room() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        alice.put("profile/@alice:hs.test/displayname", json!({"displayname": "Alice"})).await.ok();
        let public = alice.create_room(json!({"preset": "public_chat", "visibility": "public"})).await;
        bob.join(&public).await;
        let private = alice.create_room(json!({"invite": [bob.user_id]})).await;
        bob.join(&private).await;
        let member = format!("rooms/{private}/state/m.room.member/{}", alice.user_id);
        alice.put(&member, json!({"membership": "join", "displayname": "Secret"})).await.ok();
        assert_eq!(bob.get(&member).await.ok()["displayname"], "Secret");
        let profile = bob.get("profile/@alice:hs.test/displayname").await.ok();
        assert_eq!(profile, json!({"displayname": "Alice"}));
        let found = async |term: &str| {
            let found = bob.post("user_directory/search", json!({"search_term": term})).await.ok();
            found["results"].as_array().unwrap().len()
        };
        assert_eq!((found("Alice").await, found("Secret").await), (1, 0));
    });
}

#[test]
fn invitations_are_shown_accepted_refused_and_given_again() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"name": "Inner", "preset": "private_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
        act(&alice, &room, "invite", &alice).await.refused(403, "M_FORBIDDEN");
        let since = bob.now().await;
        act(&alice, &room, "invite", &bob).await.ok();
        let told = bob.sync(&format!("since={since}")).await;
        let shown = events(&told, &format!("/rooms/invite/{room}/invite_state/events"));
        for kind in ["m.room.name", "m.room.join_rules", "m.room.create", "m.room.member"] {
            assert!(shown.iter().any(|event| event["type"] == kind), "{kind}: {told}");
        }
        let member = shown.iter().find(|event| event["state_key"] == bob.user_id).unwrap();
        assert_eq!((&member["sender"], &member["content"]["membership"]), (&json!(alice.user_id), &json!("invite")));
        // Refused, which both are told; without another invite there is no way in.
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        let told = bob.sync(&format!("since={since}")).await;
        assert!(told.pointer(&format!("/rooms/leave/{room}")).is_some(), "{told}");
        assert!(told.pointer(&format!("/rooms/invite/{room}")).is_none(), "{told}");
        assert_eq!(membership(&alice, &room, &bob).await, "leave");
        bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        act(&alice, &room, "invite", &bob).await.ok();
        bob.join(&room).await;
        act(&alice, &room, "invite", &bob).await.refused(403, "M_FORBIDDEN");
        // Whoever made a room can be invited back to it.
        let levels = json!({"users": {&bob.user_id: 100}, "invite": 0});
        let own = alice.create_room(json!({"invite": [bob.user_id], "power_level_content_override": levels})).await;
        bob.join(&own).await;
        alice.post(&format!("rooms/{own}/leave"), json!({})).await.ok();
        act(&bob, &own, "invite", &alice).await.ok();
        alice.join(&own).await;
    });
}

#[test]
fn a_direct_chat_is_said_to_be_one() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"is_direct": true, "invite": [bob.user_id]})).await;
        let told = bob.sync("").await;
        let shown = events(&told, &format!("/rooms/invite/{room}/invite_state/events"));
        let member = shown.iter().find(|event| event["state_key"] == bob.user_id).unwrap();
        assert_eq!(member["content"]["is_direct"], true);
        bob.join(&room).await;
        let path = format!("rooms/{room}/state/m.room.member/{}?format=event", bob.user_id);
        let joined = bob.get(&path).await.ok();
        assert_eq!(joined["unsigned"]["prev_content"]["is_direct"], true, "{joined}");
        bob.put("user/@bob:hs.test/account_data/m.direct", json!({&alice.user_id: [room]})).await.ok();
        let direct = bob.get("user/@bob:hs.test/account_data/m.direct").await.ok();
        assert_eq!(direct, json!({&alice.user_id: [room]}));
    });
}

#[test]
fn invitations_of_ignored_users_are_not_shown() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let ignored = json!({"ignored_users": {&alice.user_id: {}}});
        bob.put("user/@bob:hs.test/account_data/m.ignored_user_list", ignored).await.ok();
        let since = bob.now().await;
        alice.create_room(json!({"invite": [bob.user_id]})).await;
        let room = carol.create_room(json!({"invite": [bob.user_id]})).await;
        for arguments in [String::new(), format!("since={since}")] {
            let told = bob.sync(&arguments).await;
            let invites: Vec<_> = told["rooms"]["invite"].as_object().unwrap().keys().collect();
            assert_eq!(invites, [&room]);
        }
    });
}

async fn knock(client: &Client<'_>, room: &str, body: Value) -> Reply {
    client.post(&format!("knock/{room}"), body).await
}

#[test]
fn knocks_are_seen_repeated_withdrawn_and_refused() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"room_version": "10", "preset": "private_chat"})).await;
        knock(&bob, &room, json!({})).await.refused(403, "M_FORBIDDEN");
        for rule in [
            json!({"join_rule": "knock"}),
            json!({"join_rule": "knock_restricted", "allow": [{"type": "m.room_membership", "room_id": "!x:hs.test"}]}),
        ] {
            alice.put(&format!("rooms/{room}/state/m.room.join_rules"), rule).await.ok();
            bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
            let since = alice.now().await;
            knock(&bob, &room, json!({"reason": "Let me in"})).await.ok();
            knock(&bob, &room, json!({"reason": "Let me in, please"})).await.ok();
            let told = alice.sync(&format!("since={since}")).await;
            let timeline = events(&told, &format!("/rooms/join/{room}/timeline/events"));
            let last = timeline.last().unwrap();
            assert_eq!((&last["sender"], &last["content"]["membership"]), (&json!(bob.user_id), &json!("knock")));
            assert_eq!(last["content"]["reason"], "Let me in, please");
            let mine = bob.sync("").await;
            assert!(!events(&mine, &format!("/rooms/knock/{room}/knock_state/events")).is_empty(), "{mine}");
            bob.post(&format!("rooms/{room}/leave"), json!({"reason": "never mind"})).await.ok();
            assert_eq!(membership(&alice, &room, &bob).await, "leave");
            knock(&bob, &room, json!({})).await.ok();
            act(&alice, &room, "kick", &bob).await.ok();
            assert_eq!(membership(&alice, &room, &bob).await, "leave");
            knock(&bob, &room, json!({})).await.ok();
            act(&alice, &room, "invite", &bob).await.ok();
            // Who is invited or in the room has nothing to knock for.
            knock(&bob, &room, json!({})).await.refused(403, "M_FORBIDDEN");
            bob.join(&room).await;
            knock(&bob, &room, json!({})).await.refused(403, "M_FORBIDDEN");
            act(&alice, &room, "ban", &bob).await.ok();
            knock(&bob, &room, json!({})).await.refused(403, "M_FORBIDDEN");
            act(&alice, &room, "unban", &bob).await.ok();
        }
    });
}

#[test]
fn restricted_rooms_let_in_members_of_others_as_long_as_they_are_members() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        for (version, rule) in
            [("8", "restricted"), ("10", "knock_restricted"), ("11", "restricted"), ("12", "restricted")]
        {
            let other = alice.create_room(json!({"preset": "public_chat"})).await;
            let allow = json!([
                {"type": "m.room_membership", "room_id": other}, {"type": "m.unheard-of", "room_id": other},
                {"type": "m.room_membership"}, "nonsense", {"type": "m.room_membership", "room_id": 3},
            ]);
            let rules = json!({"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}});
            let room = alice.create_room(json!({"room_version": version, "initial_state": [rules]})).await;
            bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
            bob.join(&other).await;
            bob.join(&room).await;
            let member = alice.get(&format!("rooms/{room}/state/m.room.member/{}", bob.user_id)).await.ok();
            assert_eq!(member["join_authorised_via_users_server"], alice.user_id, "{version}");
            // Joining again is no change; once out of both, the way in is closed.
            bob.join(&room).await;
            for left in [&room, &other] {
                bob.post(&format!("rooms/{left}/leave"), json!({})).await.ok();
            }
            bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
            act(&alice, &room, "invite", &bob).await.ok();
            bob.join(&room).await;
            bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
            let path = format!("rooms/{room}/state/m.room.join_rules");
            alice.put(&path, json!({"join_rule": rule, "allow": "nonsense"})).await.ok();
            bob.join(&other).await;
            bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
            bob.post(&format!("rooms/{other}/leave"), json!({})).await.ok();
        }
    });
}

#[test]
fn forgotten_rooms_stay_forgotten_until_one_is_back() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        let forget = format!("rooms/{room}/forget");
        assert_eq!(bob.post(&forget, json!({})).await.status, StatusCode::BAD_REQUEST);
        alice.say(&room, "1", "before").await;
        let since = bob.now().await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        bob.get(&format!("rooms/{room}/messages?dir=b")).await.ok();
        bob.post(&forget, json!({})).await.ok();
        bob.get(&format!("rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
        // A client that has not heard of the leave yet hears of it all the same.
        let told = bob.sync(&format!("since={since}")).await;
        assert!(told.pointer(&format!("/rooms/leave/{room}")).is_some(), "{told}");
        let filter = super::argument(&json!({"room": {"include_leave": true}}));
        let told = bob.sync(&format!("filter={filter}")).await;
        assert!(told.pointer(&format!("/rooms/leave/{room}")).is_none(), "{told}");
        alice.say(&room, "2", "meanwhile").await;
        act(&alice, &room, "invite", &bob).await.ok();
        bob.join(&room).await;
        let page = bob.get(&format!("rooms/{room}/messages?dir=b&limit=100")).await.ok();
        let bodies: Vec<&Value> = events(&page, "/chunk").iter().map(|event| &event["content"]["body"]).collect();
        assert!(bodies.contains(&&json!("before")) && bodies.contains(&&json!("meanwhile")), "{page}");
        assert!(!ids(&page, "/chunk").is_empty());
    });
}

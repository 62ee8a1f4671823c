//! Rooms: how they are made, what their state is, and the list of public ones.

use serde_json::{Value, json};

use super::events;
use crate::server::run;

#[test]
fn rooms_begin_with_what_was_asked_for() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        for (preset, rule) in
            [("private_chat", "invite"), ("public_chat", "public"), ("trusted_private_chat", "invite")]
        {
            let room = alice.create_room(json!({"preset": preset})).await;
            assert_eq!(alice.get(&format!("rooms/{room}/state/m.room.join_rules")).await.ok()["join_rule"], rule);
        }
        let topic = |text: &str| json!([{"type": "m.room.topic", "state_key": "", "content": {"topic": text}}]);
        // What is named directly goes over what is in the initial state.
        let asked = json!({"topic": "Test Room", "initial_state": topic("Shadowed")});
        let room = alice.create_room(asked).await;
        let content = alice.get(&format!("rooms/{room}/state/m.room.topic")).await.ok();
        assert_eq!(
            (&content["topic"], &content["m.topic"]["m.text"][0]["body"]),
            (&json!("Test Room"), &json!("Test Room"))
        );
        let room = alice.create_room(json!({"initial_state": topic("Alone")})).await;
        assert_eq!(alice.get(&format!("rooms/{room}/state/m.room.topic")).await.ok()["topic"], "Alone");
        let room = alice.create_room(json!({"room_version": "10", "creation_content": {"m.federate": false}})).await;
        let create = alice.get(&format!("rooms/{room}/state/m.room.create")).await.ok();
        assert_eq!((&create["room_version"], &create["m.federate"]), (&json!("10"), &json!(false)));
        assert_eq!(create["creator"], alice.user_id);
        alice
            .post("createRoom", json!({"room_version": "ahfgwjyerhgiuveisbruvybseyrugvi"}))
            .await
            .refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        alice.post("createRoom", json!({"room_version": 1})).await.refused(400, "M_BAD_JSON");
        let room = alice.create_room(json!({"invite": [bob.user_id]})).await;
        let member = format!("rooms/{room}/state/m.room.member/{}", bob.user_id);
        assert_eq!(alice.get(&member).await.ok()["membership"], "invite");
    });
}

#[test]
fn the_creator_hears_of_the_room_and_of_what_is_set_once() {
    run(async |server| {
        let alice = server.register("alice").await;
        let since = alice.now().await;
        let room = alice.create_room(json!({})).await;
        let told = alice.sync(&format!("since={since}")).await;
        let timeline = events(&told, &format!("/rooms/join/{room}/timeline/events"));
        assert_eq!(timeline[0]["type"], "m.room.create");
        assert_eq!((&timeline[1]["type"], &timeline[1]["state_key"]), (&json!("m.room.member"), &json!(alice.user_id)));
        let since = told["next_batch"].as_str().unwrap();
        let path = format!("rooms/{room}/state/m.room.topic");
        let first = alice.put(&path, json!({"topic": "Same"})).await.ok();
        assert_eq!(alice.put(&path, json!({"topic": "Same"})).await.ok(), first);
        let told = alice.sync(&format!("since={since}")).await;
        assert_eq!(events(&told, &format!("/rooms/join/{room}/timeline/events")).len(), 1, "{told}");
    });
}

#[test]
fn state_is_read_by_members_only() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"visibility": "public", "preset": "public_chat"})).await;
        let member = alice.get(&format!("rooms/{room}/state/m.room.member/{}", alice.user_id)).await.ok();
        assert_eq!(member["membership"], "join");
        let joined = alice.get(&format!("rooms/{room}/joined_members")).await.ok();
        assert!(joined["joined"][&alice.user_id].is_object(), "{joined}");
        alice.get(&format!("rooms/{room}/state/m.room.member/@nobody:hs.test")).await.refused(404, "M_NOT_FOUND");
        alice.get(&format!("rooms/{room}/state/m.room.topic")).await.refused(404, "M_NOT_FOUND");
        let levels = alice.get(&format!("rooms/{room}/state/m.room.power_levels")).await.ok();
        for key in ["ban", "kick", "redact", "state_default", "events_default", "users_default", "invite"] {
            assert!(levels[key].is_i64(), "{levels}");
        }
        assert!(levels["events"].is_object() && levels["users"].is_object());
        for path in ["state", "joined_members", "members", "state/m.room.power_levels"] {
            bob.get(&format!("rooms/{room}/{path}")).await.refused(403, "M_FORBIDDEN");
            bob.get(&format!("rooms/!nowhere:hs.test/{path}")).await.refused(403, "M_FORBIDDEN");
        }
        bob.get("rooms/!nowhere:hs.test/messages?dir=b").await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn levels_hold_whom_they_should() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": "11"})).await;
        bob.join(&room).await;
        let path = format!("rooms/{room}/state/m.room.power_levels");
        let levels = alice.get(&path).await.ok();
        assert_eq!(levels["users"][&alice.user_id], 100);
        let changed = |changes: &dyn Fn(&mut Value)| {
            let mut levels = levels.clone();
            changes(&mut levels);
            levels
        };
        bob.put(&path, changed(&|levels| levels["users"]["@bob:hs.test"] = 100.into()))
            .await
            .refused(403, "M_FORBIDDEN");
        alice
            .put(&path, changed(&|levels| levels["users"]["@bob:hs.test"] = "50".into()))
            .await
            .refused(403, "M_FORBIDDEN");
        // Everybody else is put below zero, and stays so although they could not raise themselves.
        alice.put(&path, changed(&|levels| levels["users_default"] = (-40).into())).await.ok();
        bob.put(&format!("rooms/{room}/send/m.room.message/1"), json!({"body": "x"})).await.refused(403, "M_FORBIDDEN");
        alice.put(&path, changed(&|levels| levels["users"]["@bob:hs.test"] = 50.into())).await.ok();
        bob.put(&format!("rooms/{room}/state/m.room.name"), json!({"name": "Bob's"})).await.ok();
        bob.post(&format!("rooms/{room}/kick"), json!({"user_id": alice.user_id})).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn creators_of_version_12_are_no_part_of_the_levels() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let v12 = |more: Value| {
            let mut body = json!({"room_version": "12", "preset": "public_chat"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let room = alice.create_room(v12(json!({}))).await;
        let path = format!("rooms/{room}/state/m.room.power_levels");
        let levels = alice.get(&path).await.ok();
        assert!(levels["users"].get(&alice.user_id).is_none(), "{levels}");
        let with = |user: &str, level: Value| {
            let mut levels = levels.clone();
            levels["users"][user] = level;
            levels
        };
        alice.put(&path, with(&alice.user_id, 100.into())).await.refused(403, "M_FORBIDDEN");
        assert_eq!(alice.put(&path, with(&bob.user_id, json!(9_007_199_254_740_992_i64))).await.status, 400);
        let overriding = v12(json!({"power_level_content_override": {"users": {&alice.user_id: 100}}}));
        assert_eq!(alice.post("createRoom", overriding).await.status, 400);
        bob.join(&room).await;
        alice.put(&path, with(&bob.user_id, json!(9_007_199_254_740_991_i64))).await.ok();
        bob.post(&format!("rooms/{room}/kick"), json!({"user_id": alice.user_id})).await.refused(403, "M_FORBIDDEN");
        for wrong in [json!("@bob:hs.test"), json!([1]), json!(["bob"]), json!(["@bob:in valid"]), json!({"a": 1})] {
            let reply =
                alice.post("createRoom", v12(json!({"creation_content": {"additional_creators": wrong}}))).await;
            assert_eq!(reply.status, 400, "{wrong}");
        }
        let shared = v12(json!({"creation_content": {"additional_creators": [bob.user_id]}}));
        let shared = alice.create_room(shared).await;
        bob.join(&shared).await;
        bob.put(&format!("rooms/{shared}/state/m.room.name"), json!({"name": "Ours"})).await.ok();
        // In a trusted room those who are invited are creators too.
        let trusted = json!({"room_version": "12", "preset": "trusted_private_chat", "invite": [bob.user_id]});
        let trusted = alice.create_room(trusted).await;
        let create = alice.get(&format!("rooms/{trusted}/state/m.room.create")).await.ok();
        assert_eq!(create["additional_creators"], json!([bob.user_id]));
    });
}

#[test]
fn a_room_of_version_12_is_named_by_its_create_event() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({"room_version": "12"})).await;
        let create = alice.get(&format!("rooms/{room}/state/m.room.create?format=event")).await.ok();
        assert_eq!(create["event_id"].as_str().unwrap().replacen('$', "!", 1), room);
        assert_eq!(create["room_id"], room);
        let synced = alice.sync("").await;
        let timeline = events(&synced, &format!("/rooms/join/{room}/timeline/events"));
        assert!(timeline.iter().all(|event| event.get("room_id").is_none_or(|id| id == &room)), "{synced}");
        let another = json!({"room_version": "12"});
        let reply = alice.put(&format!("rooms/{room}/state/m.room.create/"), another.clone()).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403), "{}", reply.status);
        let reply = alice.put(&format!("rooms/{room}/send/m.room.create/1"), another).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403), "{}", reply.status);
    });
}

#[test]
fn the_public_list_says_who_may_come_in_and_what_changed() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let knock = json!([{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]);
        let room = alice.create_room(json!({"visibility": "public", "initial_state": knock})).await;
        let space = json!({"visibility": "public", "preset": "public_chat", "creation_content": {"type": "m.space"}});
        let space = alice.create_room(space).await;
        let listed = async |body: Value| bob.post("publicRooms", body).await.ok()["chunk"].as_array().unwrap().clone();
        let all = listed(json!({})).await;
        let find = |id: &str| all.iter().find(|entry| entry["room_id"] == id).unwrap();
        assert_eq!(find(&room)["join_rule"], "knock");
        assert_eq!((&find(&space)["join_rule"], &find(&space)["room_type"]), (&json!("public"), &json!("m.space")));
        let spaces = listed(json!({"filter": {"room_types": ["m.space"]}})).await;
        assert_eq!((spaces.len(), &spaces[0]["room_id"]), (1, &json!(space)));
        let others = listed(json!({"filter": {"room_types": [null]}})).await;
        assert_eq!((others.len(), &others[0]["room_id"]), (1, &json!(room)));
        alice.put(&format!("rooms/{room}/state/m.room.name"), json!({"name": "Ünusual"})).await.ok();
        alice.put(&format!("rooms/{room}/state/m.room.topic"), json!({"topic": "Of knocking"})).await.ok();
        alice.put("directory/room/%23door:hs.test", json!({"room_id": room})).await.ok();
        alice.put(&format!("rooms/{room}/state/m.room.canonical_alias"), json!({"alias": "#door:hs.test"})).await.ok();
        for term in ["ünusual", "knocking", "door"] {
            let found = listed(json!({"filter": {"generic_search_term": term}})).await;
            assert_eq!(found.len(), 1, "{term}");
            assert_eq!(found[0]["name"], "Ünusual");
            assert_eq!(found[0]["topic"], "Of knocking");
            assert_eq!(found[0]["canonical_alias"], "#door:hs.test");
            assert_eq!(found[0]["num_joined_members"], 1);
        }
    });
}

#[test]
fn a_summary_names_the_rooms_that_let_in() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let space = alice.create_room(json!({"creation_content": {"type": "m.space"}, "preset": "public_chat"})).await;
        let allow = json!([{"type": "m.room_membership", "room_id": space}]);
        let rules = json!({"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}});
        let room = alice.create_room(json!({"initial_state": [rules], "name": "Inner"})).await;
        bob.join(&space).await;
        for prefix in ["v1/room_summary", "unstable/im.nheko.summary/summary"] {
            let summary = bob.get(&format!("/_matrix/client/{prefix}/{room}")).await.ok();
            assert_eq!(summary["join_rule"], "restricted");
            assert_eq!(summary["allowed_room_ids"], json!([space]), "{summary}");
        }
    });
}

#[test]
fn aliases_belong_to_who_made_them_and_to_those_with_power() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        let path = |name: &str| format!("directory/room/%23{name}:hs.test");
        for (client, name) in [(&alice, "first"), (&bob, "second"), (&bob, "third")] {
            client.put(&path(name), json!({"room_id": room})).await.ok();
        }
        let listed = bob.get(&format!("rooms/{room}/aliases")).await.ok();
        assert_eq!(listed["aliases"].as_array().unwrap().len(), 3);
        server.register("carol").await.get(&format!("rooms/{room}/aliases")).await.refused(403, "M_FORBIDDEN");
        let main = format!("rooms/{room}/state/m.room.canonical_alias");
        alice.put(&main, json!({"alias": "#second:hs.test"})).await.ok();
        bob.delete(&path("first"), json!({})).await.refused(403, "M_FORBIDDEN");
        bob.delete(&path("second"), json!({})).await.ok();
        alice.delete(&path("third"), json!({})).await.ok();
        assert_eq!(bob.get(&format!("rooms/{room}/aliases")).await.ok(), json!({"aliases": ["#first:hs.test"]}));
        // What leads nowhere, or elsewhere, is no name of the room. (A name that the room has is not asked about again.)
        alice.put(&main, json!({"alias": "#first:hs.test"})).await.ok();
        let other = alice.create_room(json!({"room_alias_name": "elsewhere"})).await;
        for wrong in ["#second:hs.test", "#never:hs.test", "#elsewhere:hs.test"] {
            alice.put(&main, json!({"alias": wrong})).await.refused(400, "M_BAD_ALIAS");
            alice.put(&main, json!({"alt_aliases": [wrong]})).await.refused(400, "M_BAD_ALIAS");
        }
        assert_ne!(other, room);
        alice.put(&main, json!({"alias": "#first:hs.test", "alt_aliases": ["#first:hs.test"]})).await.ok();
        for wrong in [json!({"alias": "%"}), json!({"alias": 1}), json!({"alt_aliases": ["x"]})] {
            assert_eq!(alice.put(&main, wrong.clone()).await.status, 400, "{wrong}");
        }
    });
}

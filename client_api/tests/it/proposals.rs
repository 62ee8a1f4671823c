//! Smaller proposals that clients use.

use http::Method;
use serde_json::{Value, json};

use crate::server::{Client, run};

async fn sync(user: &Client<'_>, arguments: &str) -> Value {
    user.get(&format!("sync?{arguments}")).await.ok()
}

fn data_of<'a>(events: &'a Value, kind: &str) -> Option<&'a Value> {
    events.as_array()?.iter().find(|event| event["type"] == kind).map(|event| &event["content"])
}

#[test]
fn deleted_account_data_is_told_once_and_then_gone() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let unstable = "/_matrix/client/unstable/org.matrix.msc3391";
        let global = "user/@alice:hs.test/account_data/com.example".to_owned();
        let of_room = format!("user/@alice:hs.test/rooms/{room}/account_data/com.example");
        for (path, place) in
            [(global, "/account_data/events".to_owned()), (of_room, format!("/rooms/join/{room}/account_data/events"))]
        {
            for by_put in [false, true] {
                alice.put(&path, json!({"a": 1})).await.ok();
                let since = sync(&alice, "").await["next_batch"].as_str().unwrap().to_owned();
                if by_put {
                    alice.call(Method::PUT, &path, "{ }").await.ok();
                } else {
                    bob.delete(&format!("{unstable}/{path}"), json!({})).await.refused(403, "M_FORBIDDEN");
                    alice.delete(&format!("{unstable}/{path}"), json!({})).await.ok();
                }
                alice.get(&path).await.refused(404, "M_NOT_FOUND");
                let told = sync(&alice, &format!("since={since}")).await;
                assert_eq!(data_of(told.pointer(&place).unwrap(), "com.example"), Some(&json!({})), "{told}");
                let since = told["next_batch"].as_str().unwrap();
                let told = sync(&alice, &format!("since={since}")).await;
                assert_eq!(told.pointer(&place), None);
                let all = sync(&alice, "").await;
                assert_eq!(all.pointer(&place).and_then(|events| data_of(events, "com.example")), None);
                // Deleting what is not there is no news.
                alice.delete(&format!("{unstable}/{path}"), json!({})).await.ok();
                assert_eq!(sync(&alice, &format!("since={since}")).await.pointer(&place), None);
            }
        }
        alice
            .delete(&format!("{unstable}/user/@alice:hs.test/account_data/m.push_rules"), json!({}))
            .await
            .refused(405, "M_BAD_JSON");
    });
}

#[test]
fn what_silences_a_device_ends_with_it() {
    run(async |server| {
        let alice = server.register("alice").await;
        let other = server.client(&server.post("/_matrix/client/v3/login", alice.password()).await.ok());
        let path = |device: &str| {
            format!("user/@alice:hs.test/account_data/org.matrix.msc3890.local_notification_settings.{device}")
        };
        for device in [&alice.device_id, &other.device_id] {
            alice.put(&path(device), json!({"is_silenced": true})).await.ok();
        }
        other.post("logout", json!({})).await.ok();
        alice.get(&path(&other.device_id)).await.refused(404, "M_NOT_FOUND");
        assert_eq!(alice.get(&path(&alice.device_id)).await.ok()["is_silenced"], true);
    });
}

#[test]
fn messages_are_filtered_by_relations() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let from = sync(&alice, "").await["next_batch"].as_str().unwrap().to_owned();
        let root = alice.say(&room, "root", "root").await;
        let lonely = alice.say(&room, "lonely", "lonely").await;
        let relate = async |user: &Client<'_>, rel_type: &str| {
            let content = json!({"body": "x", "m.relates_to": {"rel_type": rel_type, "event_id": root}});
            let sent = user.put(&format!("rooms/{room}/send/m.room.message/{rel_type}"), content).await.ok();
            sent["event_id"].as_str().unwrap().to_owned()
        };
        let (thread, reference) = (relate(&alice, "m.thread").await, relate(&bob, "m.reference").await);
        let found = async |filter: Value| {
            let filter = percent_encoding::utf8_percent_encode(&filter.to_string(), percent_encoding::NON_ALPHANUMERIC)
                .to_string();
            let page = alice.get(&format!("rooms/{room}/messages?dir=f&from={from}&filter={filter}")).await.ok();
            let ids =
                page["chunk"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(found(json!({"org.matrix.msc3874.rel_types": ["m.thread"]})).await, [thread.as_str()]);
        assert_eq!(found(json!({"rel_types": ["m.thread", "m.reference"]})).await, [thread.clone(), reference.clone()]);
        let without = found(json!({"org.matrix.msc3874.not_rel_types": ["m.thread"]})).await;
        assert_eq!(without, [root.clone(), lonely.clone(), reference.clone()]);
        assert_eq!(found(json!({"related_by_rel_types": ["m.thread"]})).await, [root.as_str()]);
        assert_eq!(found(json!({"related_by_senders": ["@bob:hs.test"]})).await, [root.as_str()]);
        let both = json!({"related_by_rel_types": ["m.thread"], "related_by_senders": ["@bob:hs.test"]});
        assert!(found(both).await.is_empty());
    });
}

#[test]
fn invitations_are_blocked_or_ignored_as_the_user_wants() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let config = "user/@alice:hs.test/account_data/org.matrix.msc4155.invite_permission_config";
        let invite = async || {
            let room = bob.create_room(json!({})).await;
            (bob.post(&format!("rooms/{room}/invite"), json!({"user_id": alice.user_id})).await, room)
        };
        let invites = async || sync(&alice, "").await["rooms"]["invite"].as_object().map_or(0, serde_json::Map::len);
        alice.put(config, json!({"blocked_users": ["@bob:*"]})).await.ok();
        let (reply, room) = invite().await;
        reply.refused(403, "M_INVITE_BLOCKED");
        let member = format!("rooms/{room}/state/m.room.member/@alice:hs.test");
        bob.put(&member, json!({"membership": "invite"})).await.refused(403, "M_INVITE_BLOCKED");
        bob.post("createRoom", json!({"invite": [alice.user_id]})).await.refused(403, "M_INVITE_BLOCKED");
        assert_eq!(invites().await, 0);
        alice.put(config, json!({"ignored_servers": ["hs.*"]})).await.ok();
        invite().await.0.ok();
        assert_eq!(invites().await, 0);
        let lists = json!({"lists": {"all": {"range": [0, 9], "timeline_limit": 1, "required_state": []}}});
        let sliding = alice.post("/_matrix/client/v4/sync", lists).await.ok();
        assert_eq!(sliding["lists"]["all"]["count"], 0);
        alice.put(config, json!({"ignored_servers": ["hs.*"], "allowed_users": ["@bob:hs.test"]})).await.ok();
        let (reply, room) = invite().await;
        reply.ok();
        // What was ignored before is shown now as well.
        assert_eq!(invites().await, 2);
        alice.post(&format!("join/{room}"), json!({})).await.ok();
    });
}

#[test]
fn owned_state_is_set_by_its_owner_and_by_those_above() {
    run(async |server| {
        let (admin, user, other) =
            (server.register("admin").await, server.register("user").await, server.register("other").await);
        let levels = json!({"events": {"com.example": 0}});
        let request = json!({"room_version": "org.matrix.msc3757.10", "preset": "public_chat", "power_level_content_override": levels});
        let room = admin.create_room(request).await;
        for guest in [&user, &other] {
            guest.post(&format!("join/{room}"), json!({})).await.ok();
        }
        let suffix = "_state_key_suffix:!@%23$123";
        let set = async |sender: &Client<'_>, key: String| {
            sender.put(&format!("rooms/{room}/state/com.example/{key}"), json!({})).await
        };
        set(&user, format!("{}{suffix}", user.user_id)).await.ok();
        set(&admin, user.user_id.clone()).await.ok();
        set(&admin, format!("{}{suffix}", user.user_id)).await.ok();
        set(&user, other.user_id.clone()).await.refused(403, "M_FORBIDDEN");
        set(&user, format!("{}{suffix}", other.user_id)).await.refused(403, "M_FORBIDDEN");
        set(&admin, "@oops".to_owned()).await.refused(400, "M_BAD_JSON");
        set(&admin, format!("{}@suffix", admin.user_id)).await.refused(400, "M_BAD_JSON");
        let versions = &admin.get("capabilities").await.ok()["capabilities"]["m.room_versions"]["available"];
        assert_eq!((&versions["org.matrix.msc3757.11"], &versions["11"]), (&json!("unstable"), &json!("stable")));
    });
}

#[test]
fn state_after_timelines_has_the_name_that_the_client_knows() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        for (argument, name) in [
            ("use_state_after=true", "state_after"),
            ("org.matrix.msc4222.use_state_after=true", "org.matrix.msc4222.state_after"),
            ("use_state_after=false", "state"),
        ] {
            let joined = sync(&alice, argument).await["rooms"]["join"][&room].clone();
            assert!(joined[name]["events"].is_array(), "{argument}: {joined}");
            for others in ["state_after", "org.matrix.msc4222.state_after", "state"] {
                assert_eq!(joined.get(others).is_some(), others == name, "{argument}: {joined}");
            }
        }
    });
}

#[test]
fn profiles_of_acquaintances_are_told_as_they_change() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let field = |user: &Client<'_>, name: &str| format!("profile/{}/{name}", user.user_id);
        let status = json!({"text": "swimming", "emoji": "🏊"});
        for user in [&bob, &carol] {
            user.put(&field(user, "m.status"), json!({"m.status": status})).await.ok();
            user.put(&field(user, "com.example"), json!({"com.example": 1})).await.ok();
        }
        let filter = json!({"org.matrix.msc4429.profile_fields": {"ids": ["m.status"]}}).to_string();
        let filter = percent_encoding::utf8_percent_encode(&filter, percent_encoding::NON_ALPHANUMERIC).to_string();
        let classic = async |since: Option<&str>, more: &str| {
            let since = since.map_or(String::new(), |since| format!("&since={since}"));
            let told = sync(&alice, &format!("filter={filter}{since}{more}")).await;
            (told["next_batch"].as_str().unwrap().to_owned(), told["org.matrix.msc4429.users"].clone())
        };
        let sliding = async |pos: Option<&str>| {
            let mut body = json!({
                "lists": {"all": {"range": [0, 9], "timeline_limit": 1, "required_state": []}},
                "extensions": {"org.matrix.msc4262.profiles": {"enabled": true, "fields": ["m.status"]}},
            });
            if let Some(pos) = pos {
                body["pos"] = pos.into();
            }
            let told = alice.post("/_matrix/client/v4/sync", body).await.ok();
            let users = told["extensions"]["org.matrix.msc4262.profiles"]["users"].clone();
            (told["pos"].as_str().unwrap().to_owned(), users)
        };
        let (next, told) = classic(None, "").await;
        assert_eq!(told, json!({"@bob:hs.test": {"profile_updates": {"m.status": status}}}));
        let (pos, told) = sliding(None).await;
        assert_eq!(told, json!({"@bob:hs.test": {"updated": {"m.status": status}}}));
        // Without a filter nothing is told.
        assert_eq!(sync(&alice, "").await.get("org.matrix.msc4429.users"), None);

        carol.put(&field(&carol, "m.status"), json!({"m.status": "elsewhere"})).await.ok();
        bob.put(&field(&bob, "com.example"), json!({"com.example": 2})).await.ok();
        let (next, told) = classic(Some(&next), "").await;
        assert_eq!(told, Value::Null);
        // A client that waits is woken.
        let change = async {
            bob.delete(&field(&bob, "m.status"), json!({})).await.ok();
            // Changes of profiles are gathered for a second, which may begin somewhat later.
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                server.clock.advance(std::time::Duration::from_millis(100));
            }
        };
        let told = tokio::select! {
            told = classic(Some(&next), "&timeout=30000") => told,
            () = change => unreachable!(),
        };
        assert_eq!(told.1, json!({"@bob:hs.test": {"profile_updates": {"m.status": null}}}));
        let (pos, told) = sliding(Some(&pos)).await;
        assert_eq!(told, json!({"@bob:hs.test": {"removed": ["m.status"]}}));
        // Whoever is new comes with their profile, whoever leaves is forgotten; one's own changes count.
        carol.post(&format!("join/{room}"), json!({})).await.ok();
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        alice.put(&field(&alice, "m.status"), json!({"m.status": 1})).await.ok();
        let (_, told) = sliding(Some(&pos)).await;
        let expected = json!({
            "@alice:hs.test": {"updated": {"m.status": 1}},
            "@bob:hs.test": null,
            "@carol:hs.test": {"updated": {"m.status": "elsewhere"}},
        });
        assert_eq!(told, expected);
    });
}

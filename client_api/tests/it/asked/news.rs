//! What /sync tells.

use serde_json::{Value, json};

use super::{argument, events, ids};
use crate::server::{Client, run};

async fn leave(client: &Client<'_>, room: &str) {
    client.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
}

fn has(answer: &Value, section: &str, room: &str) -> bool {
    answer.pointer(&format!("/rooms/{section}/{room}")).is_some()
}

#[test]
fn rooms_left_are_told_once() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let since = bob.now().await;
        // Joined, left and joined again at once: joined is what counts.
        bob.join(&room).await;
        leave(&bob, &room).await;
        bob.join(&room).await;
        let told = bob.sync(&format!("since={since}")).await;
        assert!(has(&told, "join", &room) && !has(&told, "leave", &room), "{told}");
        let since = told["next_batch"].as_str().unwrap().to_owned();
        leave(&bob, &room).await;
        for number in 0..15 {
            alice.say(&room, &number.to_string(), "after").await;
        }
        // However small the timeline is, it ends with the leave and holds nothing from after it.
        let filter = argument(&json!({"room": {"timeline": {"limit": 1}}}));
        let told = bob.sync(&format!("since={since}&filter={filter}")).await;
        let timeline = events(&told, &format!("/rooms/leave/{room}/timeline/events"));
        assert_eq!(timeline.len(), 1, "{told}");
        assert_eq!(
            (&timeline[0]["state_key"], &timeline[0]["content"]["membership"]),
            (&json!(bob.user_id), &json!("leave"))
        );
        let since = told["next_batch"].as_str().unwrap().to_owned();
        // Later it is not told again, neither for what happens there nor for what happens elsewhere.
        alice.say(&room, "more", "after").await;
        let other = bob.create_room(json!({})).await;
        let told = bob.sync(&format!("since={since}")).await;
        assert!(has(&told, "join", &other) && !has(&told, "leave", &room), "{told}");
        // At the beginning only whoever asks for rooms that were left is told of them.
        assert!(!has(&bob.sync("").await, "leave", &room));
        let filter = argument(&json!({"room": {"include_leave": true}}));
        assert!(has(&bob.sync(&format!("filter={filter}")).await, "leave", &room));
    });
}

#[test]
fn a_room_that_was_left_ends_with_the_leave() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        let since = bob.now().await;
        let last = alice.say(&room, "1", "before").await;
        leave(&bob, &room).await;
        alice.say(&room, "2", "after").await;
        alice.put(&format!("rooms/{room}/state/m.room.topic"), json!({"topic": "after"})).await.ok();
        for types in [None, Some("m.room.nothing")] {
            let mut filter = json!({"room": {"include_leave": true, "timeline": {"limit": 20}}});
            if let Some(types) = types {
                filter["room"]["timeline"]["types"] = json!([types]);
            }
            for since in [String::new(), format!("&since={since}")] {
                let told = bob.sync(&format!("filter={}{since}", argument(&filter))).await;
                let part = told.pointer(&format!("/rooms/leave/{room}")).unwrap();
                let shown = ids(part, "/timeline/events");
                assert_eq!(shown.contains(&last.as_str()), types.is_none(), "{told}");
                let all = [events(part, "/timeline/events"), events(part, "/state/events")].concat();
                assert!(all.iter().all(|event| event["content"]["body"] != "after"), "{told}");
                assert!(all.iter().all(|event| event["type"] != "m.room.topic"), "{told}");
            }
        }
    });
}

#[test]
fn counts_and_heroes_are_told_as_they_change() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let filter = argument(&json!({"room": {"state": {"lazy_load_members": true}}}));
        let told = alice.sync(&format!("filter={filter}")).await;
        let since = told["next_batch"].as_str().unwrap().to_owned();
        assert_eq!(told["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 1);
        bob.join(&room).await;
        let told = alice.sync(&format!("filter={filter}&since={since}")).await;
        let summary = &told["rooms"]["join"][&room]["summary"];
        assert_eq!((&summary["m.joined_member_count"], &summary["m.heroes"]), (&json!(2), &json!([bob.user_id])));
        let since = told["next_batch"].as_str().unwrap().to_owned();
        leave(&bob, &room).await;
        let told = alice.sync(&format!("filter={filter}&since={since}")).await;
        let summary = &told["rooms"]["join"][&room]["summary"];
        assert_eq!(summary["m.joined_member_count"], 1);
        // Where nobody else is left, those who were there name the room.
        assert_eq!(summary["m.heroes"], json!([bob.user_id]));
    });
}

#[test]
fn typing_stays_in_its_room() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let mine = alice.create_room(json!({"preset": "public_chat"})).await;
        let theirs = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&mine).await;
        carol.join(&theirs).await;
        let (of_bob, of_carol) = (bob.now().await, carol.now().await);
        let typing = json!({"typing": true, "timeout": 20_000});
        alice.put(&format!("rooms/{mine}/typing/@alice:hs.test"), typing).await.ok();
        let told = bob.sync(&format!("since={of_bob}")).await;
        let typing = &events(&told, &format!("/rooms/join/{mine}/ephemeral/events"))[0];
        assert_eq!(typing["content"]["user_ids"], json!([alice.user_id]));
        let told = carol.sync(&format!("since={of_carol}")).await;
        assert!(told.pointer("/rooms/join").is_none(), "{told}");
    });
}

#[test]
fn a_receipt_without_a_thread_is_not_hidden_by_one_with() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        let root = alice.say(&room, "1", "root").await;
        let since = alice.now().await;
        let path = format!("rooms/{room}/receipt/m.read/{root}");
        bob.post(&path, json!({})).await.ok();
        bob.post(&path, json!({"thread_id": "main"})).await.ok();
        for arguments in [format!("since={since}"), String::new()] {
            let told = alice.sync(&arguments).await;
            let ephemeral = events(&told, &format!("/rooms/join/{room}/ephemeral/events"));
            let receipts: Vec<&Value> = ephemeral
                .iter()
                .filter(|event| event["type"] == "m.receipt")
                .map(|event| &event["content"][&root]["m.read"][&bob.user_id])
                .collect();
            // One object has one receipt for a user and an event: that which every client understands.
            assert!(receipts.iter().any(|receipt| receipt.is_object() && receipt.get("thread_id").is_none()), "{told}");
        }
    });
}

#[test]
fn a_read_marker_is_account_data_and_a_receipt() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let event = alice.say(&room, "1", "read").await;
        let since = alice.now().await;
        alice.post(&format!("rooms/{room}/read_markers"), json!({"m.fully_read": event, "m.read": event})).await.ok();
        let told = alice.sync(&format!("since={since}")).await;
        let data = events(&told, &format!("/rooms/join/{room}/account_data/events"));
        let expected = json!({"type": "m.fully_read", "content": {"event_id": event}});
        assert!(data.contains(&expected), "{told}");
        let receipts = events(&told, &format!("/rooms/join/{room}/ephemeral/events"));
        assert!(receipts[0]["content"][&event]["m.read"][&alice.user_id]["ts"].is_u64(), "{told}");
    });
}

#[test]
fn push_rules_come_with_the_first_sync_and_with_each_change() {
    run(async |server| {
        let alice = server.register("alice").await;
        let rules = |told: &Value| {
            let data = events(told, "/account_data/events");
            data.iter().find(|event| event["type"] == "m.push_rules").map(|event| event["content"].clone())
        };
        let told = alice.sync("").await;
        assert!(rules(&told).unwrap()["global"]["override"].is_array());
        let mut since = told["next_batch"].as_str().unwrap().to_owned();
        let rule = "pushrules/global/room/!room:hs.test";
        let steps: [(&str, Value); 3] = [
            ("", json!({"actions": ["notify"]})),
            ("/enabled", json!({"enabled": false})),
            ("/actions", json!({"actions": []})),
        ];
        for (part, body) in steps {
            alice.put(&format!("{rule}{part}"), body).await.ok();
            let told = alice.sync(&format!("since={since}")).await;
            let found = rules(&told).unwrap();
            let found = &found["global"]["room"][0];
            assert_eq!(found["rule_id"], "!room:hs.test");
            assert_eq!(*found, alice.get(rule).await.ok());
            since = told["next_batch"].as_str().unwrap().to_owned();
        }
        alice.delete(rule, json!({})).await.ok();
        let told = alice.sync(&format!("since={since}")).await;
        assert_eq!(rules(&told).unwrap()["global"]["room"], json!([]));
    });
}

#[test]
fn state_that_a_filter_keeps_out_of_the_timeline_is_not_lost() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let filter = argument(&json!({"room": {"timeline": {"types": ["m.room.message"], "limit": 10}}}));
        let since = alice.sync(&format!("filter={filter}")).await["next_batch"].as_str().unwrap().to_owned();
        alice.put(&format!("rooms/{room}/state/m.room.name"), json!({"name": "Changed"})).await.ok();
        alice.say(&room, "1", "hello").await;
        let told = alice.sync(&format!("filter={filter}&since={since}")).await;
        let part = &told["rooms"]["join"][&room];
        assert_eq!(events(part, "/timeline/events").len(), 1, "{told}");
        let state = events(part, "/state/events");
        assert!(state.iter().any(|event| event["content"]["name"] == "Changed"), "{told}");
    });
}

#[test]
fn what_is_unread_in_threads_is_told_to_clients_that_know_threads() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        let root = alice.say(&room, "root", "root").await;
        let reply = async |txn: &str| {
            let relates = json!({"rel_type": "m.thread", "event_id": root});
            let content = json!({"msgtype": "m.text", "body": txn, "m.relates_to": relates});
            let sent = alice.put(&format!("rooms/{room}/send/m.room.message/{txn}"), content).await.ok();
            sent["event_id"].as_str().unwrap().to_owned()
        };
        let first = reply("first").await;
        let filter = argument(&json!({"room": {"timeline": {"unread_thread_notifications": true}}}));
        // In the main timeline, in the thread, and for a client that does not tell them apart.
        let counts = async || {
            let threaded = bob.sync(&format!("filter={filter}")).await["rooms"]["join"][&room].clone();
            let plain = bob.sync("").await["rooms"]["join"][&room].clone();
            assert!(plain.get("unread_thread_notifications").is_none(), "{plain}");
            let count = |part: &Value| part["notification_count"].as_u64().unwrap_or(0);
            let thread = &threaded["unread_thread_notifications"][&root];
            (count(&threaded["unread_notifications"]), count(thread), count(&plain["unread_notifications"]))
        };
        assert_eq!(counts().await, (1, 1, 2));
        let read = async |event: &str, body: Value| {
            bob.post(&format!("rooms/{room}/receipt/m.read/{event}"), body).await.ok();
        };
        read(&first, json!({"thread_id": root})).await;
        assert_eq!(counts().await, (1, 0, 1));
        read(&root, json!({"thread_id": "main"})).await;
        assert_eq!(counts().await, (0, 0, 0));
        let second = reply("second").await;
        assert_eq!(counts().await, (0, 1, 1));
        read(&second, json!({})).await;
        assert_eq!(counts().await, (0, 0, 0));
    });
}

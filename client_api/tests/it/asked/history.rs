//! What is read of the past, and by whom.

use serde_json::{Value, json};

use super::{argument, events, ids};
use crate::server::{Client, run};

async fn room_with(alice: &Client<'_>, visibility: &str) -> String {
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}]);
    alice.create_room(json!({"preset": "public_chat", "initial_state": state})).await
}

#[test]
fn history_is_shown_from_where_its_visibility_says() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        // Which of the events before the invite, before the join and after it a member sees, and a stranger.
        for (visibility, member, stranger) in [
            ("world_readable", [true, true, true], true),
            ("shared", [true, true, true], false),
            ("invited", [false, true, true], false),
            ("joined", [false, false, true], false),
        ] {
            let room = room_with(&alice, visibility).await;
            let before = alice.say(&room, "1", "before the invite").await;
            alice.post(&format!("rooms/{room}/invite"), json!({"user_id": bob.user_id})).await.ok();
            let between = alice.say(&room, "2", "before the join").await;
            bob.join(&room).await;
            let after = alice.say(&room, "3", "after the join").await;
            let page = bob.get(&format!("rooms/{room}/messages?dir=b&limit=50")).await.ok();
            for (event, seen) in [&before, &between, &after].into_iter().zip(member) {
                let status = bob.get(&format!("rooms/{room}/event/{event}")).await.status.as_u16();
                assert_eq!(status == 200, seen, "{visibility}: {status}");
                assert!(seen || status == 404);
                assert_eq!(ids(&page, "/chunk").contains(&event.as_str()), seen, "{visibility}: {page}");
                let status = carol.get(&format!("rooms/{room}/event/{event}")).await.status.as_u16();
                assert_eq!(status == 200, stranger, "{visibility}: {status}");
            }
        }
    });
}

#[test]
fn events_say_what_the_reader_was_when_they_came() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = room_with(&alice, "shared").await;
        let before = alice.say(&room, "1", "before").await;
        bob.join(&room).await;
        let after = alice.say(&room, "2", "after").await;
        let since = bob.now().await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        let page = bob.get(&format!("rooms/{room}/messages?dir=b&limit=50")).await.ok();
        let of = |id: &str| {
            let event = events(&page, "/chunk").iter().find(|event| event["event_id"] == id).unwrap();
            event["unsigned"]["membership"].clone()
        };
        assert_eq!((of(&before), of(&after)), (json!("leave"), json!("join")), "{page}");
        let told = bob.sync(&format!("since={since}")).await;
        let own = events(&told, &format!("/rooms/leave/{room}/timeline/events")).last().unwrap();
        assert_eq!(own["unsigned"]["membership"], "leave", "{told}");
    });
}

#[test]
fn a_departed_room_is_as_it_was_left() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat", "name": "Before"})).await;
        bob.join(&room).await;
        alice.say(&room, "1", "before").await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        let end = bob.get(&format!("rooms/{room}/messages?dir=b&limit=1")).await.ok()["start"].clone();
        alice.put(&format!("rooms/{room}/state/m.room.name"), json!({"name": "After"})).await.ok();
        alice.put(&format!("rooms/{room}/state/org.example.new"), json!({})).await.ok();
        server.register("carol").await.join(&room).await;
        alice.say(&room, "2", "after").await;
        assert_eq!(bob.get(&format!("rooms/{room}/state/m.room.name")).await.ok(), json!({"name": "Before"}));
        let state = bob.get(&format!("rooms/{room}/state")).await.ok();
        let state = state.as_array().unwrap();
        assert!(state.iter().any(|event| event["content"]["name"] == "Before"));
        assert!(state.iter().all(|event| event["type"] != "org.example.new" && event["state_key"] != "@carol:hs.test"));
        let members = bob.get(&format!("rooms/{room}/members")).await.ok();
        let members: Vec<&Value> = events(&members, "/chunk").iter().map(|event| &event["state_key"]).collect();
        assert!(members.contains(&&json!(bob.user_id)) && !members.contains(&&json!("@carol:hs.test")), "{members:?}");
        let forward = bob.get(&format!("rooms/{room}/messages?dir=f&from={}", end.as_str().unwrap())).await.ok();
        assert!(events(&forward, "/chunk").is_empty(), "{forward}");
    });
}

#[test]
fn pages_of_history_bring_their_senders() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let room = room_with(&alice, "shared").await;
        for user in [&bob, &carol] {
            user.join(&room).await;
        }
        for (number, user) in [&alice, &bob, &bob].into_iter().enumerate() {
            user.say(&room, &number.to_string(), "hello").await;
        }
        let filter = argument(&json!({"lazy_load_members": true, "types": ["m.room.message"]}));
        let page = carol.get(&format!("rooms/{room}/messages?dir=b&limit=3&filter={filter}")).await.ok();
        let mut senders: Vec<&str> =
            events(&page, "/state").iter().filter_map(|event| event["state_key"].as_str()).collect();
        senders.sort_unstable();
        assert_eq!(senders, [&alice.user_id, &bob.user_id]);
        let without = carol.get(&format!("rooms/{room}/messages?dir=b&limit=3")).await.ok();
        assert!(events(&without, "/state").is_empty(), "{without}");
    });
}

async fn relate(client: &Client<'_>, room: &str, root: &str, txn: &str) -> String {
    let relates = json!({"rel_type": "m.thread", "event_id": root});
    let content = json!({"msgtype": "m.text", "body": txn, "m.relates_to": relates});
    let sent = client.put(&format!("rooms/{room}/send/m.room.message/{txn}"), content).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

#[test]
fn relations_are_read_in_pages_both_ways() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let root = alice.say(&room, "root", "root").await;
        let mut sent = Vec::new();
        for number in 0..10 {
            sent.push(relate(&alice, &room, &root, &number.to_string()).await);
        }
        let path = format!("/_matrix/client/v1/rooms/{room}/relations/{root}");
        let mut newest_first = sent.clone();
        newest_first.reverse();
        for (dir, expected) in [("", &newest_first), ("&dir=b", &newest_first), ("&dir=f", &sent)] {
            let (mut found, mut from) = (Vec::new(), String::new());
            for page in 0.. {
                assert!(page < 5);
                let answer = alice.get(&format!("{path}?limit=3{dir}{from}")).await.ok();
                found.extend(ids(&answer, "/chunk").into_iter().map(str::to_owned));
                let Some(next) = answer["next_batch"].as_str() else { break };
                from = format!("&from={next}");
            }
            assert_eq!(&found, expected, "{dir}");
        }
        // A place of /sync or /messages is one here, too.
        let since = alice.now().await;
        let later = relate(&alice, &room, &root, "later").await;
        let answer = alice.get(&format!("{path}?from={since}&limit=4")).await.ok();
        assert_eq!(ids(&answer, "/chunk"), newest_first[..4], "{answer}");
        let answer = alice.get(&format!("{path}?from={since}&dir=f")).await.ok();
        assert_eq!(ids(&answer, "/chunk"), [later]);
        let filter = argument(&json!({"types": ["m.room.message"]}));
        let page = alice.get(&format!("rooms/{room}/messages?dir=b&limit=1&filter={filter}")).await.ok();
        let answer = alice.get(&format!("{path}?from={}&limit=2", page["end"].as_str().unwrap())).await.ok();
        assert_eq!(ids(&answer, "/chunk"), newest_first[..2], "{answer}");
    });
}

#[test]
fn threads_are_listed_by_their_last_reply() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let (first, second) = (alice.say(&room, "a", "first").await, alice.say(&room, "b", "second").await);
        let path = format!("/_matrix/client/v1/rooms/{room}/threads");
        assert!(events(&alice.get(&path).await.ok(), "/chunk").is_empty());
        relate(&alice, &room, &first, "1").await;
        relate(&alice, &room, &second, "2").await;
        assert_eq!(ids(&alice.get(&path).await.ok(), "/chunk"), [&second, &first]);
        let last = relate(&alice, &room, &first, "3").await;
        let listed = alice.get(&path).await.ok();
        assert_eq!(ids(&listed, "/chunk"), [&first, &second]);
        let thread = &listed["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
        assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(2), &json!(last)));
        assert_eq!(thread["current_user_participated"], true);
        let page = alice.get(&format!("{path}?limit=1")).await.ok();
        let rest = alice.get(&format!("{path}?limit=1&from={}", page["next_batch"].as_str().unwrap())).await.ok();
        assert_eq!((ids(&page, "/chunk"), ids(&rest, "/chunk")), (vec![first.as_str()], vec![second.as_str()]));
    });
}

#[test]
fn an_event_is_found_by_its_time_by_members_only() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let mut sent = Vec::new();
        for number in 0..3 {
            server.clock.advance(std::time::Duration::from_secs(60));
            sent.push((
                alice.say(&room, &number.to_string(), "hello").await,
                1_700_000_000_000 + (number + 1) * 60_000,
            ));
        }
        let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event");
        let near = async |ts: i64, dir: &str| alice.get(&format!("{path}?ts={ts}&dir={dir}")).await;
        for ((before, _), (after, time)) in sent.iter().zip(&sent[1..]) {
            assert_eq!(near(time - 1, "f").await.ok()["event_id"], json!(after));
            assert_eq!(near(time - 1, "b").await.ok()["event_id"], json!(before));
            let exact = near(*time, "f").await.ok();
            assert_eq!((&exact["event_id"], &exact["origin_server_ts"]), (&json!(after), &json!(time)));
        }
        near(sent[2].1 + 1, "f").await.refused(404, "M_NOT_FOUND");
        near(0, "b").await.refused(404, "M_NOT_FOUND");
        bob.get(&format!("{path}?ts=0&dir=f")).await.refused(403, "M_FORBIDDEN");
    });
}

//! What was there before `/sync`, and peeking.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Client, Server, run};

async fn guest(server: &Server) -> Client<'_> {
    server.client(&server.post("/_matrix/client/v3/register?kind=guest", json!({})).await.ok())
}

fn world_readable() -> Value {
    let visibility = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}});
    json!({"preset": "public_chat", "initial_state": [visibility]})
}

fn bodies(answer: &Value) -> Vec<&str> {
    let chunk = answer["chunk"].as_array().unwrap();
    chunk.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn text<'v>(answer: &'v Value, key: &str) -> &'v str {
    answer[key].as_str().unwrap()
}

#[test]
fn events_are_told_in_order_from_a_token_on() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let first = alice.create_room(json!({"preset": "public_chat"})).await;
        let second = alice.create_room(json!({"preset": "private_chat"})).await;
        bob.post(&format!("join/{first}"), json!({})).await.ok();
        let start = alice.get("initialSync").await.ok();
        let now = alice.get("events?timeout=0").await.ok();
        assert_eq!((&now["chunk"], &now["start"], &now["end"]), (&json!([]), &start["end"], &start["end"]));
        for (at, room) in [&first, &second, &first].into_iter().enumerate() {
            alice.say(room, &format!("t{at}"), &format!("{at}")).await;
        }
        let from = text(&start, "end");
        let of_alice = alice.get(&format!("events?from={from}")).await.ok();
        assert_eq!(bodies(&of_alice), ["0", "1", "2"]);
        assert_eq!(of_alice["chunk"][1]["room_id"], second);
        let of_bob = bob.get(&format!("events?from={from}")).await.ok();
        assert_eq!(bodies(&of_bob), ["0", "2"], "of his rooms alone");
        let end = text(&of_alice, "end");
        assert_eq!(alice.get(&format!("events?from={end}")).await.ok()["chunk"], json!([]));
        // An invitation, and a room that was left.
        alice.post(&format!("rooms/{second}/invite"), json!({"user_id": bob.user_id})).await.ok();
        bob.post(&format!("rooms/{first}/leave"), json!({})).await.ok();
        alice.say(&first, "after", "unseen").await;
        let news = bob.get(&format!("events?from={end}")).await.ok();
        let chunk = news["chunk"].as_array().unwrap();
        let memberships: Vec<_> = chunk.iter().map(|event| text(&event["content"], "membership")).collect();
        assert_eq!(memberships, ["invite", "leave"], "{news}");
        for bad in ["s2_1", "nonsense", "s2_99999999_0_0_0_0"] {
            alice.get(&format!("events?from={bad}")).await.refused(400, "M_INVALID_PARAM");
        }
    });
}

#[test]
fn many_events_come_in_several_answers() {
    run(async |server| {
        let alice = server.register("alice").await;
        let rooms = [alice.create_room(json!({})).await, alice.create_room(json!({})).await];
        let mut from = text(&alice.get("events").await.ok(), "end").to_owned();
        let expected: Vec<String> = (0..230).map(|at| at.to_string()).collect();
        for (at, body) in expected.iter().enumerate() {
            alice.say(&rooms[at % 2], body, body).await;
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let answer = alice.get(&format!("events?from={from}")).await.ok();
            assert!((1..=150).contains(&answer["chunk"].as_array().unwrap().len()));
            seen.extend(bodies(&answer).into_iter().map(str::to_owned));
            from = text(&answer, "end").to_owned();
        }
        assert_eq!(seen, expected);
    });
}

#[test]
fn a_waiting_request_is_woken_by_what_comes() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(world_readable()).await;
        let guest = guest(&server).await;
        for who in [&guest, &alice] {
            let snapshot = who.get(&format!("rooms/{room}/initialSync")).await.ok();
            let from = text(&snapshot["messages"], "end");
            let only = if who.user_id == guest.user_id { format!("&room_id={room}") } else { String::new() };
            let path = format!("events?from={from}&timeout=30000{only}");
            let speaking = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                alice.say(&room, &who.device_id, "hello").await;
            };
            // The clock stands still, so that only a wake-up ends the waiting.
            let both = async { tokio::join!(who.get(&path), speaking) };
            let (answer, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("it was woken");
            assert_eq!(bodies(&answer.ok()), ["hello"]);
        }
    });
}

#[test]
fn guests_peek_into_rooms_that_anyone_may_read_and_no_others() {
    run(async |server| {
        let alice = server.register("alice").await;
        let guest = guest(&server).await;
        let open = alice.create_room(world_readable()).await;
        let closed = alice.create_room(json!({"preset": "public_chat"})).await;
        for room in [&open, &closed] {
            alice.say(room, "one", "one").await;
        }
        let peek = guest.get(&format!("rooms/{open}/initialSync?limit=1")).await.ok();
        assert_eq!((text(&peek, "room_id"), peek.get("membership")), (&*open, None));
        assert_eq!((text(&peek, "visibility"), bodies(&peek["messages"])), ("private", vec!["one"]));
        assert!(peek["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
        let from = text(&peek["messages"], "end");
        let before = text(&peek["messages"], "start");
        let older = guest.get(&format!("rooms/{open}/messages?dir=b&limit=1&from={before}")).await.ok();
        assert_ne!(older["chunk"][0]["event_id"], peek["messages"]["chunk"][0]["event_id"]);
        alice.say(&open, "two", "two").await;
        alice.say(&closed, "two", "two").await;
        let news = guest.get(&format!("events?room_id={open}&from={from}")).await.ok();
        assert_eq!(bodies(&news), ["two"]);
        assert_eq!(guest.get(&format!("events?from={from}")).await.ok()["chunk"], json!([]), "they are in no room");
        for path in [format!("rooms/{closed}/initialSync"), format!("events?room_id={closed}&from={from}")] {
            guest.get(&path).await.refused(403, "M_FORBIDDEN");
        }
        guest.get(&format!("events?room_id=!none:hs.test&from={from}")).await.refused(403, "M_FORBIDDEN");
        guest.get("events?room_id=nonsense").await.refused(400, "M_INVALID_PARAM");
        // Closed to others, it is told no further.
        let path = format!("rooms/{open}/state/m.room.history_visibility");
        alice.put(&path, json!({"history_visibility": "joined"})).await.ok();
        guest.get(&format!("events?room_id={open}&from={from}")).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn one_event_is_found_without_its_room_by_those_who_may_see_it() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let event = alice.say(&room, "one", "one").await;
        let found = alice.get(&format!("events/{event}")).await.ok();
        assert_eq!((&found["event_id"], &found["room_id"]), (&json!(event), &json!(room)));
        bob.get(&format!("events/{event}")).await.refused(404, "M_NOT_FOUND");
        alice.get("events/$nothing").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn the_initial_sync_has_every_room() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let joined = alice.create_room(json!({"visibility": "public"})).await;
        let left = alice.create_room(json!({})).await;
        let invited = bob.create_room(json!({"invite": [alice.user_id]})).await;
        for (at, room) in [&joined, &left, &joined].into_iter().enumerate() {
            alice.say(room, &at.to_string(), &at.to_string()).await;
        }
        alice.post(&format!("rooms/{left}/leave"), json!({})).await.ok();
        alice.put(&format!("user/{}/account_data/x.y", alice.user_id), json!({"a": 1})).await.ok();
        alice.put(&format!("user/{}/rooms/{joined}/account_data/x.z", alice.user_id), json!({"b": 2})).await.ok();
        let find = |answer: &Value, room: &str| -> Option<Value> {
            answer["rooms"].as_array().unwrap().iter().find(|info| info["room_id"] == room).cloned()
        };
        let answer = alice.get("initialSync?limit=1").await.ok();
        let info = find(&answer, &joined).unwrap();
        assert_eq!((text(&info, "membership"), text(&info, "visibility")), ("join", "public"));
        assert_eq!(bodies(&info["messages"]), ["2"]);
        assert_eq!(info["account_data"], json!([{"type": "x.z", "content": {"b": 2}}]));
        assert!(answer["account_data"].as_array().unwrap().contains(&json!({"type": "x.y", "content": {"a": 1}})));
        assert!(answer["presence"].is_array());
        let info = find(&answer, &invited).unwrap();
        assert_eq!((text(&info, "membership"), info.get("messages")), ("invite", None));
        assert_eq!(info["invite"]["content"]["membership"], "invite");
        assert_eq!((find(&answer, &left), answer["rooms"].as_array().unwrap().len()), (None, 2));
        let archived = alice.get("initialSync?archived=true").await.ok();
        assert_eq!(find(&archived, &left).unwrap()["membership"], "leave");
        // What comes after is told from its end on.
        alice.say(&joined, "later", "later").await;
        let news = alice.get(&format!("events?from={}", text(&answer, "end"))).await.ok();
        assert_eq!(bodies(&news), ["later"]);
    });
}

//! `POST /search`.

use serde_json::{Value, json};

use crate::server::{Client, Reply, run};

async fn post(client: &Client<'_>, next: Option<&str>, events: Value) -> Reply {
    client.server.search.catch_up().await.unwrap();
    let query = next.map(|next| format!("?next_batch={next}")).unwrap_or_default();
    client.post(&format!("search{query}"), json!({"search_categories": {"room_events": events}})).await
}

async fn search(client: &Client<'_>, events: Value) -> Value {
    post(client, None, events).await.ok()["search_categories"]["room_events"].clone()
}

fn bodies(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|result| result["result"]["content"]["body"].as_str().unwrap_or_default()).collect()
}

fn ids(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|result| result["result"]["event_id"].as_str().unwrap()).collect()
}

#[test]
fn messages_are_found_by_their_words() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({"name": "Martians"})).await;
        let event = alice.say(&room, "1", "Martians and Mén").await;
        alice.say(&room, "2", "Nobody else").await;
        let found = search(&alice, json!({"search_term": "men martians"})).await;
        assert_eq!((found["count"].as_u64(), ids(&found)), (Some(1), vec![&*event]));
        assert_eq!(found["highlights"], json!(["martians", "mén"]));
        assert!(found["results"][0]["rank"].as_f64().unwrap() > 0.0);
        assert_eq!(found["results"][0]["result"]["room_id"], room);
        assert!(found["next_batch"].is_null() && found["groups"].is_null() && found["state"].is_null());
        assert!(found["results"][0]["context"].is_null());
        let all = search(&alice, json!({"search_term": "martians", "order_by": "recent"})).await;
        assert_eq!(all["results"].as_array().unwrap().len(), 2, "also the name: {all}");
        let names = search(&alice, json!({"search_term": "martians", "keys": ["content.name"]})).await;
        assert_eq!(names["results"][0]["result"]["type"], "m.room.name");
        assert_eq!(search(&alice, json!({"search_term": ""})).await["count"], 0);
        let nothing = alice.post("search", json!({"search_categories": {}})).await.ok();
        assert_eq!(nothing, json!({"search_categories": {}}));
    });
}

#[test]
fn results_come_with_their_surroundings() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        bob.put("profile/@bob:hs.test/displayname", json!({"displayname": "Bob"})).await.ok();
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        for number in 0..4 {
            alice.say(&room, &format!("a{number}"), &format!("before {number}")).await;
        }
        let needle = bob.say(&room, "b", "the needle").await;
        for number in 0..4 {
            alice.say(&room, &format!("c{number}"), &format!("after {number}")).await;
        }
        let context = json!({"before_limit": 2, "after_limit": 3, "include_profile": true});
        let found =
            search(&alice, json!({"search_term": "needle", "event_context": context, "include_state": true})).await;
        assert_eq!(ids(&found), [needle.as_str()]);
        let context = &found["results"][0]["context"];
        let texts = |key: &str| -> Vec<String> {
            let events = context[key].as_array().unwrap().iter();
            events.map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(texts("events_before"), ["before 3", "before 2"]);
        assert_eq!(texts("events_after"), ["after 0", "after 1", "after 2"]);
        assert_eq!(context["profile_info"]["@bob:hs.test"]["displayname"], "Bob");
        assert!(context["profile_info"]["@alice:hs.test"].is_object());
        let start = context["start"].as_str().unwrap();
        let page = alice.get(&format!("rooms/{room}/messages?dir=b&limit=1&from={start}")).await.ok();
        assert_eq!(page["chunk"][0]["content"]["body"], "before 1");
        let end = context["end"].as_str().unwrap();
        let page = alice.get(&format!("rooms/{room}/messages?dir=f&limit=1&from={end}")).await.ok();
        assert_eq!(page["chunk"][0]["content"]["body"], "after 3");
        let state = found["state"][&room].as_array().unwrap();
        assert!(state.iter().any(|event| event["type"] == "m.room.create"));
        let bare =
            search(&alice, json!({"search_term": "needle", "event_context": {"before_limit": 0, "after_limit": 0}}))
                .await;
        let context = &bare["results"][0]["context"];
        assert_eq!((&context["events_before"], &context["events_after"]), (&json!([]), &json!([])));
        assert!(context["profile_info"].is_null());
    });
}

#[test]
fn filters_choose_rooms_senders_and_types() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let first = alice.create_room(json!({"preset": "public_chat", "topic": "word"})).await;
        let second = alice.create_room(json!({"preset": "public_chat"})).await;
        for room in [&first, &second] {
            bob.post(&format!("join/{room}"), json!({})).await.ok();
            alice.say(room, "1", "alice's word").await;
        }
        bob.say(&first, "2", "bob's word").await;
        let image = json!({"msgtype": "m.image", "body": "word.png", "url": "mxc://hs.test/a"});
        alice.put(&format!("rooms/{second}/send/m.room.message/3"), image).await.ok();
        let count = async |filter: Value| {
            let found = search(&alice, json!({"search_term": "word", "filter": filter})).await;
            found["results"].as_array().unwrap().len()
        };
        assert_eq!(count(json!({})).await, 5);
        assert_eq!(count(json!({"rooms": [first]})).await, 3);
        assert_eq!(count(json!({"not_rooms": [first]})).await, 2);
        assert_eq!(count(json!({"rooms": []})).await, 0);
        assert_eq!(count(json!({"senders": ["@bob:hs.test"]})).await, 1);
        assert_eq!(count(json!({"not_senders": ["@bob:hs.test", "@nobody:hs.test"]})).await, 4);
        assert_eq!(count(json!({"types": ["m.room.topic"]})).await, 1);
        assert_eq!(count(json!({"not_types": ["m.room.mess*"]})).await, 1);
        assert_eq!(count(json!({"contains_url": true})).await, 1);
        assert_eq!(count(json!({"contains_url": false})).await, 4);
        assert_eq!(count(json!({"limit": 2})).await, 2);
        let ignoring = json!({"ignored_users": {"@bob:hs.test": {}}});
        alice.put("user/@alice:hs.test/account_data/m.ignored_user_list", ignoring).await.ok();
        assert_eq!(count(json!({})).await, 4);
    });
}

#[test]
fn pages_and_groups_hold_everything_once() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let rooms = [
            alice.create_room(json!({"preset": "public_chat"})).await,
            alice.create_room(json!({"preset": "public_chat"})).await,
        ];
        let mut said = 0;
        for room in &rooms {
            bob.post(&format!("join/{room}"), json!({})).await.ok();
            for number in 0..6 {
                let sender = if number % 2 == 0 { &alice } else { &bob };
                sender.say(room, &format!("{room}{number}").replace(['!', ':'], ""), &format!("pie {said}")).await;
                said += 1;
                server.clock.advance(std::time::Duration::from_secs(1));
            }
        }
        for order in ["recent", "rank"] {
            let asked = json!({
                "search_term": "pie", "order_by": order, "filter": {"limit": 5},
                "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
            });
            let (mut seen, mut next, mut pages) = (Vec::new(), None::<String>, 0);
            loop {
                let reply = post(&alice, next.as_deref(), asked.clone()).await.ok();
                let found = &reply["search_categories"]["room_events"];
                assert_eq!(found["count"], 12);
                seen.extend(bodies(found).into_iter().map(str::to_owned));
                next = found["next_batch"].as_str().map(str::to_owned);
                pages += 1;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!((pages, seen.len()), (3, 12), "{order}");
            if order == "recent" {
                assert_eq!(
                    seen.iter().map(|body| body[4..].parse().unwrap()).collect::<Vec<u32>>(),
                    (0..12).rev().collect::<Vec<_>>()
                );
            }
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 12, "{order}");
        }
        let asked = json!({
            "search_term": "pie", "order_by": "recent", "filter": {"limit": 4},
            "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
        });
        let found = search(&alice, asked.clone()).await;
        let group = &found["groups"]["room_id"][&rooms[1]];
        assert_eq!((&group["order"], group["results"].as_array().unwrap().len()), (&json!(1), 4));
        assert!(found["groups"]["room_id"].get(&rooms[0]).is_none());
        assert_eq!(found["groups"]["sender"]["@bob:hs.test"]["results"].as_array().unwrap().len(), 2);
        let rest = post(&alice, group["next_batch"].as_str(), asked.clone()).await.ok();
        assert_eq!(bodies(&rest["search_categories"]["room_events"]), ["pie 7", "pie 6"]);
        let of_bob = found["groups"]["sender"]["@bob:hs.test"]["next_batch"].as_str();
        let rest = post(&alice, of_bob, asked).await.ok();
        assert_eq!(bodies(&rest["search_categories"]["room_events"]), ["pie 7", "pie 5", "pie 3", "pie 1"]);
    });
}

#[test]
fn rooms_are_searched_as_far_as_they_may_be_seen() {
    run(async |server| {
        let (alice, bob, eve) =
            (server.register("alice").await, server.register("bob").await, server.register("eve").await);
        let visibility = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}});
        let room = alice.create_room(json!({"preset": "public_chat", "initial_state": [visibility]})).await;
        alice.say(&room, "1", "honey one").await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        alice.say(&room, "2", "honey two").await;
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        alice.say(&room, "3", "honey three").await;
        let asked = json!({"search_term": "honey", "event_context": {}});
        let found = search(&bob, asked.clone()).await;
        assert_eq!((bodies(&found), &found["count"]), (vec!["honey two"], &json!(1)));
        let context = found["results"][0]["context"].to_string();
        assert!(!context.contains("honey one") && !context.contains("honey three"), "{context}");
        assert_eq!(search(&eve, asked).await["count"], 0);
        assert_eq!(search(&eve, json!({"search_term": "honey", "filter": {"rooms": [room]}})).await["count"], 0);
    });
}

#[test]
fn an_upgraded_room_is_searched_with_its_predecessor() {
    run(async |server| {
        let alice = server.register("alice").await;
        let old = alice.create_room(json!({"room_version": "11"})).await;
        let first = alice.say(&old, "1", "message in the old room").await;
        let reply = alice.post(&format!("rooms/{old}/upgrade"), json!({"new_version": "12"})).await.ok();
        let new = reply["replacement_room"].as_str().unwrap().to_owned();
        server.clock.advance(std::time::Duration::from_secs(1));
        let second = alice.say(&new, "2", "message in the new room").await;
        let asked = json!({
            "search_term": "message", "order_by": "recent", "keys": ["content.body"], "filter": {"rooms": [new]},
        });
        let found = search(&alice, asked).await;
        assert_eq!(ids(&found), [second.as_str(), first.as_str()]);
        let only = json!({"search_term": "message", "filter": {"rooms": [new], "not_rooms": [old]}});
        assert_eq!(ids(&search(&alice, only).await), [second.as_str()]);
    });
}

#[test]
fn malformed_searches_are_refused() {
    run(async |server| {
        let alice = server.register("alice").await;
        alice.post("search", json!({})).await.refused(400, "M_BAD_JSON");
        for wrong in [
            json!({}),
            json!({"search_term": 1}),
            json!({"search_term": "x", "order_by": "best"}),
            json!({"search_term": "x", "keys": ["content.formatted_body"]}),
            json!({"search_term": "x", "groupings": {"group_by": [{"key": "type"}]}}),
            json!({"search_term": "x", "filter": {"rooms": ["nonsense"]}}),
            json!({"search_term": "x", "filter": {"limit": "1"}}),
            json!({"search_term": "x", "filter": []}),
            json!({"search_term": "x", "event_context": {"before_limit": -1}}),
        ] {
            post(&alice, None, wrong).await.refused(400, "M_BAD_JSON");
        }
        post(&alice, None, json!({"search_term": "x", "filter": {"limit": 0}})).await.refused(400, "M_INVALID_PARAM");
        let asked = json!({"search_term": "x"});
        for token in ["nonsense", "s2_1", "q1_ka_0_0_0_0_0_00"] {
            post(&alice, Some(token), asked.clone()).await.refused(400, "M_INVALID_PARAM");
        }
        // A token of another order.
        post(&alice, Some("q1_ta_0_0_0_1_1_0"), asked.clone()).await.refused(400, "M_INVALID_PARAM");
        let guest = server.post("/_matrix/client/v3/register?kind=guest", json!({})).await.ok();
        server.client(&guest).post("search", json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    });
}

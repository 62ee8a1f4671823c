//! Timelines and state of `/v3/sync`: limits, gaps, joining, leaving.

use std::time::Duration;

use rooms::Membership;
use serde_json::{Value, json};
use spec::ids::RoomId;
use sync::SyncToken;

use crate::server::{filtered, outline, request, room, run, token};

fn keys(events: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events.as_array().unwrap().iter().map(|event| (text(&event["type"]), text(&event["state_key"]))).collect()
}

#[test]
fn an_initial_sync_has_the_newest_events_and_the_state_before_them() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |new| new.name = Some("Room".into())).await;
        for body in 0..12 {
            server.say(&alice, &id, &body.to_string()).await;
        }
        server.set(&alice, &id, "m.room.topic", "", json!({"topic": "new"})).await;
        let answer = server.v3(&alice, None).await;
        let joined = room(&answer, "join", &id);
        let expected: Vec<String> = (3..12).map(|body| body.to_string()).chain(["m.room.topic".to_owned()]).collect();
        assert_eq!(outline(&joined["timeline"]["events"]), expected);
        assert_eq!(joined["timeline"]["limited"], true);
        let state = outline(&joined["state"]["events"]);
        assert!(state.contains(&"m.room.create".to_owned()) && state.contains(&"m.room.member".to_owned()));
        assert!(!state.contains(&"m.room.topic".to_owned()), "state after the start of the timeline");
        assert!(joined["timeline"]["events"][0].get("room_id").is_none());
        assert_eq!(joined["summary"]["m.joined_member_count"], 1);
        assert_eq!(joined["unread_notifications"]["notification_count"], 0);
    });
}

#[test]
fn state_after_holds_the_state_at_the_end() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        server.set(&alice, &id, "m.room.topic", "", json!({"topic": "new"})).await;
        let mut wish = request(Some(token(&first)));
        wish.state_after = Some("state_after");
        let answer = server.v3_with(&alice, wish).await.unwrap();
        let joined = room(&answer, "join", &id);
        assert!(joined.get("state").is_none());
        assert_eq!(keys(&joined["state_after"]["events"]), [("m.room.topic".to_owned(), String::new())]);
    });
}

#[test]
fn an_incremental_sync_has_only_what_is_new() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let other = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        let nothing = server.v3(&alice, Some(token(&first))).await;
        assert!(nothing.get("rooms").is_none(), "{nothing}");
        server.say(&alice, &id, "hello").await;
        let answer = server.v3(&alice, Some(token(&nothing))).await;
        let joined = room(&answer, "join", &id);
        assert_eq!(outline(&joined["timeline"]["events"]), ["hello"]);
        assert_eq!(joined["timeline"]["limited"], false);
        assert_eq!(joined["state"]["events"], json!([]));
        assert!(joined.get("summary").is_none());
        assert!(room(&answer, "join", &other).is_null());
        assert_eq!(answer, server.v3(&alice, Some(token(&nothing))).await, "a repeated request is answered alike");
    });
}

#[test]
fn a_gap_brings_the_state_that_changed_in_it() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let bob = server.login("bob", "B").await;
        let id = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        server.set(&alice, &id, "m.room.topic", "", json!({"topic": "in the gap"})).await;
        server.join(&id, &bob).await;
        server.set(&alice, &id, "m.room.name", "", json!({"name": "first"})).await;
        for body in 0..9 {
            server.say(&alice, &id, &body.to_string()).await;
        }
        server.set(&alice, &id, "m.room.name", "", json!({"name": "second"})).await;
        let answer = server.v3(&alice, Some(token(&first))).await;
        let joined = room(&answer, "join", &id);
        assert_eq!(joined["timeline"]["limited"], true);
        assert_eq!(outline(&joined["timeline"]["events"]).len(), 10);
        let mut state = keys(&joined["state"]["events"]);
        state.sort();
        let name = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
        let expected = [name("m.room.member", "@bob:hs.test"), name("m.room.name", ""), name("m.room.topic", "")];
        assert_eq!(state, expected);
        let events = joined["state"]["events"].as_array().unwrap();
        assert!(events.iter().any(|event| event["content"]["name"] == "first"), "the name before the timeline");
        assert_eq!(joined["summary"]["m.joined_member_count"], 2);
        let prev: rooms::Cursor = joined["timeline"]["prev_batch"].as_str().unwrap().parse().unwrap();
        let view = server.rooms.as_user(&id, alice.user).unwrap();
        let page = view.page(prev, None, rooms::Direction::Backward, 1, &|_| true).unwrap();
        assert_eq!(page.events[0].content(), r#"{"name":"first"}"#, "prev_batch leads to the event before");
    });
}

#[test]
fn a_filter_chooses_types_and_limits() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let other = server.create(&alice, |_| ()).await;
        for body in ["one", "two", "three"] {
            server.say(&alice, &id, body).await;
            server.set(&alice, &id, "m.room.topic", "", json!({"topic": body})).await;
        }
        let filter = json!({
            "event_fields": ["type", "content.body"],
            "room": {
                "rooms": [id.as_str()],
                "timeline": {"types": ["m.room.message"], "limit": 2},
                "state": {"types": ["m.room.create"]},
            },
        });
        let answer = server.v3_with(&alice, filtered(None, filter)).await.unwrap();
        let joined = room(&answer, "join", &id);
        let expected = json!([
            {"type": "m.room.message", "content": {"body": "two"}},
            {"type": "m.room.message", "content": {"body": "three"}},
        ]);
        assert_eq!(joined["timeline"]["events"], expected);
        assert_eq!(joined["timeline"]["limited"], true);
        assert_eq!(outline(&joined["state"]["events"]), ["m.room.create"]);
        assert!(room(&answer, "join", &other).is_null());
        let whole = json!({"room": {"timeline": {"types": ["m.room.message"], "limit": 3}}});
        let answer = server.v3_with(&alice, filtered(None, whole)).await.unwrap();
        assert_eq!(outline(&room(&answer, "join", &id)["timeline"]["events"]), ["one", "two", "three"]);
    });
}

#[test]
fn a_room_joined_since_comes_whole() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.say(&alice, &id, "before").await;
        let first = server.v3(&bob, None).await;
        server.join(&id, &bob).await;
        let answer = server.v3(&bob, Some(token(&first))).await;
        let joined = room(&answer, "join", &id);
        let outlined = outline(&joined["timeline"]["events"]);
        assert!(outlined.contains(&"before".to_owned()), "{outlined:?}");
        let events = joined["timeline"]["events"].as_array().unwrap();
        let state = joined["state"]["events"].as_array().unwrap();
        assert!(events.iter().chain(state).any(|event| event["type"] == "m.room.create"));
        assert_eq!(joined["summary"]["m.heroes"], json!(["@alice:hs.test"]));

        // A new profile is no new membership; leaving and coming back is.
        let join = json!({"membership": "join", "displayname": "Bob"});
        server.set(&bob, &id, "m.room.member", "@bob:hs.test", join).await;
        let profile = server.v3(&bob, Some(token(&answer))).await;
        assert_eq!(outline(&room(&profile, "join", &id)["timeline"]["events"]), ["m.room.member"]);
        server.leave(&id, &bob).await;
        server.say(&alice, &id, "while away").await;
        server.join(&id, &bob).await;
        let again = server.v3(&bob, Some(token(&profile))).await;
        let joined = room(&again, "join", &id);
        let events = joined["timeline"]["events"].as_array().unwrap();
        assert!(events.len() > 3, "the room comes whole again: {joined}");
        assert!(room(&again, "leave", &id).is_null());
    });
}

async fn leave_section(server: &crate::server::Server, who: &users::Session, since: &str, id: &RoomId) -> Value {
    room(&server.v3(who, Some(since)).await, "leave", id).clone()
}

#[test]
fn a_room_left_shows_its_end_and_no_more() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let first = server.v3(&bob, None).await;
        server.say(&alice, &id, "last words").await;
        server.change(&id, &alice, &bob, Membership::Leave).await;
        server.say(&alice, &id, "behind their back").await;
        server.set(&alice, &id, "m.room.topic", "", json!({"topic": "secret"})).await;
        let answer = server.v3(&bob, Some(token(&first))).await;
        let left = room(&answer, "leave", &id);
        assert_eq!(outline(&left["timeline"]["events"]), ["last words", "m.room.member"]);
        assert_eq!(left["state"]["events"], json!([]));
        assert!(room(&answer, "join", &id).is_null());
        assert!(!answer.to_string().contains("secret") && !answer.to_string().contains("behind"));
        let next = token(&answer).to_owned();
        assert!(leave_section(&server, &bob, &next, &id).await.is_null(), "told once");

        let all = server.v3(&bob, None).await;
        assert!(all["rooms"]["leave"].is_null());
        let archived = filtered(None, json!({"room": {"include_leave": true}}));
        let archived = server.v3_with(&bob, archived).await.unwrap();
        let left = room(&archived, "leave", &id);
        assert_eq!(outline(&left["timeline"]["events"]).last().unwrap(), "m.room.member");
        assert!(!archived.to_string().contains("secret") && !archived.to_string().contains("behind"));

        server.change(&id, &alice, &bob, Membership::Ban).await;
        let banned = leave_section(&server, &bob, &next, &id).await;
        assert_eq!(banned["timeline"]["events"][0]["content"]["membership"], "ban");

        server.rooms.forget(&id, bob.user).await.unwrap();
        let archived = filtered(None, json!({"room": {"include_leave": true}}));
        assert!(server.v3_with(&bob, archived).await.unwrap()["rooms"].is_null(), "forgotten");
    });
}

#[test]
fn invites_and_knocks_show_the_outline_of_the_room() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server
            .create(&alice, |new| {
                new.preset = rooms::Preset::PrivateChat;
                new.name = Some("Party".into());
            })
            .await;
        let first = server.v3(&bob, None).await;
        server.change(&id, &alice, &bob, Membership::Invite).await;
        for answer in [server.v3(&bob, Some(token(&first))).await, server.v3(&bob, None).await] {
            let state = &room(&answer, "invite", &id)["invite_state"]["events"];
            let kinds = outline(state);
            for kind in ["m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"] {
                assert!(kinds.contains(&kind.to_owned()), "{kind} is missing in {kinds:?}");
            }
            let own = state.as_array().unwrap().iter().find(|event| event["state_key"] == "@bob:hs.test").unwrap();
            assert_eq!(own["content"]["membership"], "invite");
            assert!(own.get("event_id").is_none());
        }
        let invited = server.v3(&bob, Some(token(&first))).await;
        server.leave(&id, &bob).await;
        let declined = leave_section(&server, &bob, token(&invited), &id).await;
        assert_eq!(outline(&declined["timeline"]["events"]), ["m.room.member"]);
        assert!(!declined.to_string().contains("Party"));

        server.set(&alice, &id, "m.room.join_rules", "", json!({"join_rule": "knock"})).await;
        let before = server.v3(&bob, None).await;
        server.change(&id, &bob, &bob, Membership::Knock).await;
        let knocking = server.v3(&bob, Some(token(&before))).await;
        assert!(!outline(&room(&knocking, "knock", &id)["knock_state"]["events"]).is_empty());
    });
}

#[test]
fn full_state_sends_the_state_again() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        let mut wish = request(Some(token(&first)));
        wish.full_state = true;
        let answer = server.v3_with(&alice, wish).await.unwrap();
        let joined = room(&answer, "join", &id);
        assert_eq!(joined["timeline"]["events"], json!([]));
        assert!(outline(&joined["state"]["events"]).contains(&"m.room.create".to_owned()));
    });
}

#[test]
fn lazy_loading_sends_senders_once() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |new| new.name = Some("Room".into())).await;
        let mut others = Vec::new();
        for name in ["bob", "carol", "dave"] {
            let other = server.login(name, "D").await;
            server.join(&id, &other).await;
            others.push(other);
        }
        for body in 0..10 {
            server.say(&others[0], &id, &body.to_string()).await;
        }
        let members = |answer: &Value| {
            let state = room(answer, "join", &id)["state"]["events"].clone();
            let mut members: Vec<String> =
                keys(&state).into_iter().filter(|(kind, _)| kind == "m.room.member").map(|(_, key)| key).collect();
            members.sort();
            members
        };
        let filter = json!({"room": {"state": {"lazy_load_members": true}}});
        let first = server.v3_with(&alice, filtered(None, filter.clone())).await.unwrap();
        assert_eq!(members(&first), ["@alice:hs.test", "@bob:hs.test"]);
        assert!(outline(&room(&first, "join", &id)["state"]["events"]).contains(&"m.room.create".to_owned()));

        server.say(&others[0], &id, "again").await;
        server.say(&others[1], &id, "new face").await;
        for _ in 0..2 {
            // Also when the request is repeated.
            let second = server.v3_with(&alice, filtered(Some(token(&first)), filter.clone())).await.unwrap();
            assert_eq!(members(&second), ["@carol:hs.test"]);
        }
        let second = server.v3_with(&alice, filtered(Some(token(&first)), filter.clone())).await.unwrap();
        server.say(&others[1], &id, "known now").await;
        let third = server.v3_with(&alice, filtered(Some(token(&second)), filter)).await.unwrap();
        assert_eq!(members(&third), Vec::<String>::new());
        let redundant = json!({"room": {"state": {"lazy_load_members": true, "include_redundant_members": true}}});
        let third = server.v3_with(&alice, filtered(Some(token(&second)), redundant)).await.unwrap();
        assert_eq!(members(&third), ["@carol:hs.test"]);
    });
}

#[test]
fn the_old_stream_tells_all_rooms_in_order_in_small_answers() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let rooms = [server.create(&alice, |_| {}).await, server.create(&alice, |_| {}).await];
        let mut said = Vec::new();
        for n in 0..260 {
            // First one room alone, then both by turns.
            let room = &rooms[if n < 130 { 0 } else { n % 2 }];
            said.push(server.say(&alice, room, &n.to_string()).await.as_str().to_owned());
        }
        let (mut told, mut from) = (Vec::new(), "s2_0_0_0_0_0".to_owned());
        loop {
            let token = SyncToken::parse(&from).unwrap();
            let answer = server.sync.events(&alice, Some(token), Duration::ZERO).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let chunk = answer["chunk"].as_array().unwrap();
            if chunk.is_empty() {
                break;
            }
            assert!(chunk.len() <= 110, "{}", chunk.len());
            let messages = chunk.iter().filter(|event| event["type"] == "m.room.message");
            told.extend(messages.map(|event| event["event_id"].as_str().unwrap().to_owned()));
            from = answer["end"].as_str().unwrap().to_owned();
        }
        assert_eq!(told, said);
    });
}

//! Reading rooms from another server.

use federation::Ask;
use rooms::{Membership, Preset};
use serde_json::{Value, json};
use spec::ids::{EventId, RoomId};
use spec::version::RoomVersion;

use crate::bed::{Server, assert_refused, escape, run};

fn ids(events: &Value) -> Vec<String> {
    let pdus = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| spec::hash::event_id(event.as_object().unwrap(), RoomVersion::V11.rules()));
    pdus.map(|id| id.unwrap().as_str().to_owned()).collect()
}

fn texts(events: &Value) -> Vec<Option<String>> {
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
}

async fn missing(
    there: &Server,
    here: &Server,
    room: &RoomId,
    latest: &EventId,
    earliest: &EventId,
) -> Result<Value, federation::RemoteError> {
    let path = format!("/_matrix/federation/v1/get_missing_events/{}", escape(room.as_str()));
    let body = json!({"latest_events": [latest], "earliest_events": [earliest], "limit": 10});
    there.ask(here, Ask::post(path, &body)).await
}

#[test]
fn servers_in_the_room_read_it() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        there.join(&here, &room, &bob).await.unwrap();
        let mut sent = Vec::new();
        for text in ["one", "two", "three"] {
            sent.push(here.send(&room, &alice, text).await);
        }
        let (room_id, last) = (escape(room.as_str()), escape(sent[2].as_str()));
        let event = there.get(&here, &format!("event/{last}")).await.unwrap();
        assert_eq!(event["origin"], "hs.test");
        assert_eq!(texts(&event["pdus"]), [Some("three".to_owned())]);
        let state = there.get(&here, &format!("state/{room_id}?event_id={last}")).await.unwrap();
        let state_ids = there.get(&here, &format!("state_ids/{room_id}?event_id={last}")).await.unwrap();
        assert_eq!(json!(ids(&state["pdus"])), state_ids["pdu_ids"]);
        assert_eq!(json!(ids(&state["auth_chain"])), state_ids["auth_chain_ids"]);
        assert!(state["pdus"].as_array().unwrap().iter().any(|event| event["state_key"] == bob.as_str()));
        assert!(!state_ids["auth_chain_ids"].as_array().unwrap().is_empty());
        let chain = there.get(&here, &format!("event_auth/{room_id}/{last}")).await.unwrap();
        let kinds: Vec<&Value> = chain["auth_chain"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
        assert!(kinds.contains(&&json!("m.room.create")) && kinds.contains(&&json!("m.room.power_levels")));
        let history = there.get(&here, &format!("backfill/{room_id}?v={last}&limit=2")).await.unwrap();
        let mut found = texts(&history["pdus"]);
        found.sort();
        assert_eq!(found, [Some("three".to_owned()), Some("two".to_owned())]);
        let gap = missing(&there, &here, &room, &sent[2], &sent[0]).await.unwrap();
        assert_eq!(texts(&gap["events"]), [Some("two".to_owned())]);
        let near = there.get(&here, &format!("timestamp_to_event/{room_id}?ts=9999999999999&dir=b")).await.unwrap();
        assert_eq!(near["event_id"], sent[2].as_str());
        let none = there.get(&here, &format!("timestamp_to_event/{room_id}?ts=9999999999999&dir=f")).await;
        assert_refused(none, 404, "M_NOT_FOUND");
    });
}

#[test]
fn servers_outside_of_the_room_read_nothing() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let event = here.send(&room, &alice, "secret").await;
        let (room_id, event_id) = (escape(room.as_str()), escape(event.as_str()));
        for path in [
            format!("event/{event_id}"),
            format!("state/{room_id}?event_id={event_id}"),
            format!("state_ids/{room_id}?event_id={event_id}"),
            format!("event_auth/{room_id}/{event_id}"),
            format!("backfill/{room_id}?v={event_id}&limit=10"),
            format!("timestamp_to_event/{room_id}?ts=1&dir=f"),
        ] {
            assert_refused(there.get(&here, &path).await, 403, "M_FORBIDDEN");
        }
        assert_refused(missing(&there, &here, &room, &event, &event).await, 403, "M_FORBIDDEN");
    });
}

#[test]
fn history_from_before_the_join_is_given_redacted_where_it_is_hidden() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let hidden = vec![("m.room.history_visibility", json!({"history_visibility": "joined"}))];
        let room = here.create_with(&alice, RoomVersion::V11, Preset::PublicChat, hidden).await;
        let before = here.send(&room, &alice, "before").await;
        there.join(&here, &room, &bob).await.unwrap();
        let after = here.send(&room, &alice, "after").await;
        let (room_id, last) = (escape(room.as_str()), escape(after.as_str()));
        let history = there.get(&here, &format!("backfill/{room_id}?v={last}&limit=100")).await.unwrap();
        let found = ids(&history["pdus"]);
        let place = found.iter().position(|id| *id == before.as_str()).unwrap();
        assert_eq!(history["pdus"][place]["content"], json!({}));
        assert!(texts(&history["pdus"]).contains(&Some("after".to_owned())));
        assert!(!history.to_string().contains("before"));
        // By itself it is given so too: it is followed by the join, the state before which is asked for in this way.
        let alone = there.get(&here, &format!("event/{}", escape(before.as_str()))).await.unwrap();
        assert_eq!((ids(&alone["pdus"]), &alone["pdus"][0]["content"]), (vec![before.to_string()], &json!({})));
        let event = there.get(&here, &format!("event/{last}")).await.unwrap();
        assert_eq!(texts(&event["pdus"]), [Some("after".to_owned())]);
    });
}

#[test]
fn what_comes_after_a_server_has_left_stays_in_the_room() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        there.join(&here, &room, &bob).await.unwrap();
        here.change(&room, &alice, &bob, Membership::Leave).await.unwrap();
        let after = here.send(&room, &alice, "after").await;
        assert_refused(there.get(&here, &format!("event/{}", escape(after.as_str()))).await, 403, "M_FORBIDDEN");
    });
}

#[test]
fn malformed_questions_are_refused() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        there.join(&here, &room, &bob).await.unwrap();
        let room_id = escape(room.as_str());
        for (path, errcode) in [
            (format!("state/{room_id}"), "M_MISSING_PARAM"),
            (format!("state/{room_id}?event_id=nonsense"), "M_INVALID_PARAM"),
            (format!("backfill/{room_id}?limit=1"), "M_MISSING_PARAM"),
            (format!("backfill/{room_id}?v=%24a"), "M_MISSING_PARAM"),
            (format!("backfill/{room_id}?v=%24a&limit=-1"), "M_INVALID_PARAM"),
            (format!("timestamp_to_event/{room_id}?ts=1&dir=x"), "M_INVALID_PARAM"),
            ("event/nonsense".to_owned(), "M_INVALID_PARAM"),
        ] {
            assert_refused(there.get(&here, &path).await, 400, errcode);
        }
        for path in [
            format!("state/{room_id}?event_id=%24none"),
            format!("event_auth/{room_id}/%24none"),
            "event/%24none".into(),
        ] {
            assert_refused(there.get(&here, &path).await, 404, "M_NOT_FOUND");
        }
        let named: Vec<String> = (0..101).map(|number| format!("${number}")).collect();
        let path = format!("/_matrix/federation/v1/get_missing_events/{room_id}");
        let body = json!({"latest_events": named, "earliest_events": []});
        assert_refused(there.ask(&here, Ask::post(path, &body)).await, 413, "M_TOO_LARGE");
    });
}

use std::collections::{BTreeMap, HashSet};
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rooms::{CheckedPdu, Draft, RoomNid};
use serde_json::{Value, json};
use spec::ids::EventId;
use spec::pdu::{Pdu, ReceivedPdu};

mod bounds;

use super::{latest_ends, min_depth, take_connected};
use crate::FederationConfig;
use crate::inbound::fixture::{Here, VERSION, user, wire};
use crate::inbound::order::Incoming;

/// A room that Bob has joined.
async fn joined(here: &Here) -> (RoomNid, Arc<Pdu>) {
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("join", from_ref(&join)).await;
    assert!(here.has(room, &join));
    (room, join)
}

/// A server that delivers missing events as the specification says: back from the latest, as many as are wanted.
fn deliver_missing(known: Vec<Arc<Pdu>>) -> impl Fn(&str, &str, &Value) -> Option<Value> {
    move |path, _, body| {
        if !path.contains("get_missing_events") {
            return None;
        }
        let limit = usize::try_from(body["limit"].as_u64()?).ok()?;
        let ids = |name: &str| -> Vec<String> { serde_json::from_value(body[name].clone()).unwrap() };
        let earliest = ids("earliest_events");
        let find = |id: &str| known.iter().find(|event| event.event_id == *id);
        let mut wanted = ids("latest_events");
        let mut events = Vec::new();
        while let Some(id) = wanted.pop() {
            for prev in find(&id).map(|event| event.prev_events.clone()).unwrap_or_default() {
                if let Some(event) = find(prev.as_str()).filter(|_| !earliest.contains(&prev.to_string()))
                    && events.len() < limit
                {
                    events.insert(0, wire(event));
                    wanted.push(prev.to_string());
                }
            }
        }
        Some(json!({ "events": events }))
    }
}

/// The ids of the current state.
fn state_ids(here: &Here, room: RoomNid) -> Vec<String> {
    let rooms = &here.federation.rooms;
    let state = rooms.state_seqs(room, rooms.head(room).unwrap().state()).unwrap();
    state.into_iter().map(|seq| rooms.event_at(room, seq).unwrap().event_id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_between_are_fetched_from_who_delivered_the_last_one() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 45);
    here.peer.answer(deliver_missing(messages.clone()));
    here.deliver("t1", &[messages[44].clone()]).await;
    for (place, message) in messages.iter().enumerate() {
        assert!(here.has(room, message), "message {place}");
    }
    // 44 events are missing and 20 come at a time.
    assert_eq!(here.peer.take_asked(), ["get_missing_events"; 3]);
    assert_eq!(here.federation.inbound.counters.fetched.get(), 44);
    assert_eq!(here.ends(room), [messages[44].event_id.clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_is_left_and_the_state_after_it_is_asked_for() {
    let config = FederationConfig { max_gap_events: 10, ..FederationConfig::default() };
    let here = Here::with_config(config);
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 30);
    // In the gap somebody set a topic; nobody here knows it.
    let topic = json!({
        "type": "m.room.name", "sender": "@bob:there.test", "state_key": "", "content": {"name": "unknown here"},
    });
    let topic = here.event(room, topic, from_ref(&join.event_id), from_ref(&join.event_id));
    let mut state = state_ids(&here, room);
    state.push(topic.event_id.to_string());
    let (missing, set) = (deliver_missing(messages.clone()), topic.clone());
    here.peer.answer(move |path, query, body| {
        if path.contains("/state_ids/") {
            return Some(json!({"pdu_ids": state, "auth_chain_ids": []}));
        }
        if path.contains("/event/") {
            return Some(json!({"pdus": [wire(&set)]}));
        }
        missing(path, query, body)
    });
    here.deliver("t1", &[messages[29].clone()]).await;
    assert!(here.has(room, &messages[29]) && here.has(room, &messages[19]));
    assert!(!here.has(room, &messages[18]), "no more than ten events are fetched");
    let asked = here.peer.take_asked();
    assert_eq!(asked, ["get_missing_events", "state_ids", "event"], "{asked:?}");
    let unknown = here.federation.rooms.unknown_events(room, from_ref(&topic.event_id), true).unwrap();
    assert!(unknown.is_empty(), "the event of the state is stored");
    // The topic is rejected: Bob may not set it. It is no part of the state, and the message is accepted all the same.
    assert_eq!(here.federation.inbound.counters.accepted.get(), 1 + 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_delivers_is_given_up_and_the_rest_goes_on() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 3);
    let lost = here.messages(room, &messages[2], 2);
    let outcomes = here.deliver("t1", &[messages[0].clone(), messages[2].clone()]).await;
    assert!(outcomes.values().all(|outcome| *outcome == json!({})), "they were taken in");
    assert!(here.has(room, &messages[0]));
    assert!(!here.has(room, &messages[2]));
    assert_eq!(here.federation.inbound.counters.postponed.get(), 1);
    // Cited again, with a server that answers, it comes in after all.
    let known: Vec<_> = messages.iter().chain(&lost).cloned().collect();
    here.peer.answer(deliver_missing(known));
    here.deliver("t2", &[messages[2].clone()]).await;
    assert!(here.has(room, &messages[1]) && here.has(room, &messages[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_of_the_version_is_left_out_and_what_follows_it_comes() {
    let large = "x".repeat(70_000);
    for (what, body) in [("a float", json!(1.5)), ("a number", json!(1_u64 << 53)), ("a length", json!(large))] {
        let here = Here::new();
        let (room, join) = joined(&here).await;
        let messages = here.messages(room, &join, 2);
        // The id of a message says nothing of its content.
        let mut malformed = wire(&messages[0]);
        malformed["content"] = json!({"msgtype": "m.text", "body": body});
        let state = state_ids(&here, room);
        here.peer.answer(move |path, _, _| {
            if path.contains("get_missing_events") {
                return Some(json!({"events": [malformed]}));
            }
            path.contains("/state_ids/").then(|| json!({"pdu_ids": state, "auth_chain_ids": []}))
        });
        here.deliver("t1", from_ref(&messages[1])).await;
        assert!(!here.has(room, &messages[0]), "{what} beyond what events may hold");
        assert!(here.has(room, &messages[1]), "what follows {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_without_the_create_event_is_not_believed() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 2);
    let create = here.federation.rooms.head(room).unwrap().create().unwrap().event_id.to_string();
    let state: Vec<String> = state_ids(&here, room).into_iter().filter(|id| *id != create).collect();
    here.peer.answer(move |path, _, _| {
        path.contains("/state_ids/").then(|| json!({"pdu_ids": state, "auth_chain_ids": []}))
    });
    here.deliver("t1", &[messages[1].clone()]).await;
    assert!(!here.has(room, &messages[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_cannot_be_had_is_not_used() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 2);
    let mut state = state_ids(&here, room);
    state.extend((0..90).map(|n| format!("${n:0>43}")));
    let asks = Arc::new(AtomicUsize::new(0));
    let counted = asks.clone();
    here.peer.answer(move |path, _, _| {
        counted.fetch_add(usize::from(path.contains("/event/")), Ordering::Relaxed);
        path.contains("/state_ids/").then(|| json!({"pdu_ids": state, "auth_chain_ids": []}))
    });
    here.deliver("t1", &[messages[1].clone()]).await;
    assert!(!here.has(room, &messages[1]));
    assert_eq!(asks.load(Ordering::Relaxed), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_with_much_that_is_unknown_is_fetched_at_once() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 2);
    let mut users = Vec::new();
    for n in 0..150 {
        let id = format!("@u{n}:there.test");
        let member = json!({"type": "m.room.member", "sender": id, "state_key": id, "content": {"membership": "join"}});
        users.push(here.event(room, member, from_ref(&join.event_id), &[]));
    }
    let mut state = state_ids(&here, room);
    state.extend(users.iter().map(|event| event.event_id.to_string()));
    let events: Vec<Value> = users.iter().map(|event| wire(event)).collect();
    here.peer.answer(move |path, _, _| {
        if path.contains("/state_ids/") {
            return Some(json!({"pdu_ids": state, "auth_chain_ids": []}));
        }
        path.contains("/state/").then(|| json!({"pdus": events, "auth_chain": []}))
    });
    here.deliver("t1", &[messages[1].clone()]).await;
    assert!(here.has(room, &messages[1]));
    assert_eq!(here.peer.take_asked(), ["get_missing_events", "state_ids", "state"]);
    let rooms = &here.federation.rooms;
    assert_eq!(rooms.head(room).unwrap().joined_count(), 152, "Alice, Bob and the members that were fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_auth_events_are_fetched_one_by_one_or_as_a_chain() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let bob = "@bob:there.test";
    let profile = |name: &str, auth: &Pdu| {
        let content = json!({"membership": "join", "displayname": name});
        let member = json!({"type": "m.room.member", "sender": bob, "state_key": bob, "content": content});
        here.event(room, member, from_ref(&join.event_id), from_ref(&auth.event_id))
    };
    let first = profile("Bob", &join);
    let second = profile("Bobby", &first);
    let message = |text: &str| {
        let message = json!({"type": "m.room.message", "sender": bob, "content": {"body": text, "msgtype": "m.text"}});
        here.event(room, message, from_ref(&join.event_id), from_ref(&second.event_id))
    };
    let (single, chained) = (message("single"), message("chained"));
    here.deliver("t1", from_ref(&single)).await;
    assert!(!here.has(room, &single));
    assert!(here.peer.take_asked().contains(&"event_auth".to_owned()));

    // Only as a chain.
    let chain = json!({"auth_chain": [wire(&second), wire(&first), wire(&join)]});
    here.peer.answer(move |path, _, _| path.contains("/event_auth/").then(|| chain.clone()));
    here.deliver("t2", from_ref(&chained)).await;
    assert!(here.has(room, &chained));

    // One by one, in another room.
    let other = Here::new();
    let (room, join) = joined(&other).await;
    let member = |name: &str, auth: &EventId| {
        let content = json!({"membership": "join", "displayname": name});
        let member = json!({"type": "m.room.member", "sender": bob, "state_key": bob, "content": content});
        other.event(room, member, from_ref(&join.event_id), from_ref(auth))
    };
    let first = member("Bob", &join.event_id);
    let second = member("Bobby", &first.event_id);
    let message = json!({"type": "m.room.message", "sender": bob, "content": {"body": "x", "msgtype": "m.text"}});
    let message = other.event(room, message, from_ref(&join.event_id), from_ref(&second.event_id));
    other.peer.answer(move |path, _, _| {
        let event = [&first, &second]
            .into_iter()
            .find(|event| path.contains(event.event_id.as_str().trim_start_matches('$')))?;
        path.contains("/event/").then(|| json!({"pdus": [wire(event)]}))
    });
    other.deliver("t1", from_ref(&message)).await;
    assert!(other.has(room, &message));
    assert_eq!(other.peer.take_asked(), ["event", "event"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_auth_chain_is_taken_in_whatever_its_order() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let bob = "@bob:there.test";
    let mut chain = vec![join.clone()];
    for number in 0..150 {
        let content = json!({"membership": "join", "displayname": format!("Bob {number}")});
        let member = json!({"type": "m.room.member", "sender": bob, "state_key": bob, "content": content});
        let last = &chain.last().unwrap().event_id;
        chain.push(here.event(room, member, from_ref(&join.event_id), from_ref(last)));
    }
    let message = json!({"type": "m.room.message", "sender": bob, "content": {"body": "x", "msgtype": "m.text"}});
    let last = &chain.last().unwrap().event_id;
    let message = here.event(room, message, from_ref(&join.event_id), from_ref(last));
    let told: Vec<Value> = chain.iter().rev().map(|event| wire(event)).collect();
    here.peer.answer(move |path, _, _| path.contains("/event_auth/").then(|| json!({"auth_chain": told})));
    here.deliver("t1", from_ref(&message)).await;
    assert!(here.has(room, &message));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gap_of_one_server_does_not_hold_up_what_needs_nothing() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 1);
    let hanging = here.messages(room, &here.messages(room, &join, 2)[1], 1);
    let seen = Arc::new(parking_lot::Mutex::new(None));
    let (noted, rooms, id) = (seen.clone(), here.federation.rooms.clone(), messages[0].event_id.clone());
    here.peer.answer(move |path, _, _| {
        if path.contains("get_missing_events") {
            let unknown = rooms.unknown_events(room, from_ref(&id), false).unwrap();
            noted.lock().get_or_insert(unknown.is_empty());
        }
        None
    });
    here.deliver("t1", &[hanging[0].clone(), messages[0].clone()]).await;
    assert_eq!(*seen.lock(), Some(true), "the message was in the room before anybody was asked for anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_holds_up_its_own_room_only() {
    let here = Here::new();
    let (slow, slow_join) = joined(&here).await;
    let (_, other) = here.room().await;
    let hanging = here.messages(slow, &slow_join, 2).remove(1);
    here.peer.hangs.store(true, Ordering::Relaxed);
    let (status, _) = here.send("slow", here.transaction(from_ref(&hanging), json!([]))).await;
    assert_eq!(status, http::StatusCode::OK, "the transaction is acknowledged before the gap is looked at");
    let join = here.join_of_bob(other);
    let messages = here.messages(other, &join, 3);
    let (status, _) = here.send("other", here.transaction(&[&[join][..], &messages].concat(), json!([]))).await;
    assert_eq!(status, http::StatusCode::OK);
    // Stored a moment before they count as dealt with; the slow room's event still waits.
    here.until(|| here.has(other, &messages[2]) && here.federation.staged_events() == 1).await;
    assert!(!here.has(slow, &hanging));
}

fn incoming(events: &[Arc<Pdu>]) -> BTreeMap<EventId, Incoming> {
    let origin = spec::ids::ServerName::parse("there.test").unwrap();
    let incoming = |event: &Arc<Pdu>| Incoming { origin: origin.clone(), pdu: CheckedPdu::of_ours(event.clone()) };
    events.iter().map(|event| (event.event_id.clone(), incoming(event))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_taken_of_an_answer() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 4);
    let stray = here.messages(room, &messages[0], 1);
    let read = |event: &Arc<Pdu>| {
        let Value::Object(object) = wire(event) else { unreachable!() };
        ReceivedPdu::check(object, VERSION.rules()).unwrap()
    };
    let answer: Vec<_> = messages[..3].iter().chain(&stray).map(read).collect();
    let missing = HashSet::from([messages[2].event_id.clone()]);
    let known = messages[0].event_id.clone();
    let taken = take_connected(answer, missing, |id| Ok(*id != known)).unwrap();
    let taken: Vec<_> = taken.iter().map(|event| event.event_id().clone()).collect();
    assert_eq!(taken, [messages[2].event_id.clone(), messages[1].event_id.clone()]);

    let events = incoming(&messages[2..]);
    let missing = HashSet::from([messages[1].event_id.clone()]);
    assert_eq!(latest_ends(&events, &missing), [messages[2].event_id.clone()]);
    assert_eq!((min_depth(&events, 100), min_depth(&events, 3)), (3, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_before_an_event_is_had_from_the_first_server_that_has_it() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let message = here.messages(room, &join, 1).remove(0);
    let state = state_ids(&here, room);
    let answer = state.clone();
    here.peer.answer(move |path, query, _| {
        assert!(query.starts_with("event_id=%24"), "{query}");
        path.contains("/state_ids/").then(|| json!({"pdu_ids": answer, "auth_chain_ids": []}))
    });
    let gone = spec::ids::ServerName::parse("gone.test").unwrap();
    let servers = [gone.clone(), here.peer.name.clone()];
    let ids = super::fetch_state_before(&here.federation, room, &message.event_id, &servers).await.unwrap();
    let ids: HashSet<String> = ids.iter().map(EventId::to_string).collect();
    assert_eq!(ids, state.into_iter().collect::<HashSet<_>>());
    assert!(super::fetch_state_before(&here.federation, room, &message.event_id, &[gone]).await.is_err());
    assert!(super::fetch_state_before(&here.federation, room, &message.event_id, &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_banned_users_that_cite_old_ones_are_soft_failed() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let message = here.messages(room, &join, 1).remove(0);
    let ban = json!({"membership": "ban"}).as_object().unwrap().clone();
    let ban = Draft::state(user("@alice:here.test"), "m.room.member", "@bob:there.test", ban);
    here.federation.rooms.append(room, vec![ban], None).await.unwrap();
    here.deliver("t1", from_ref(&message)).await;
    assert!(here.has(room, &message));
    assert_eq!(here.federation.inbound.counters.soft_failed.get(), 1);
}

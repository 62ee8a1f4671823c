//! Each bound of what is fetched for a gap, crossed.

use std::time::Duration;

use rooms::Received;
use spec::ids::{ServerName, UserId};
use spec::signing::SigningKey;

use super::super::{FILL_TIME, MAX_ENDS, MAX_SERVERS, MAX_STATES};
use super::*;

/// An id of no event.
fn nothing(number: usize) -> EventId {
    EventId::parse(format!("${number:0>43}")).unwrap()
}

/// Bob's messages, each of which follows an event of its own that nobody has.
fn messages_out_of_nowhere(here: &Here, room: RoomNid, join: &Pdu, count: usize) -> Vec<Arc<Pdu>> {
    let message = |number: usize| {
        let content = json!({"msgtype": "m.text", "body": format!("{number}")});
        let message = json!({"type": "m.room.message", "sender": "@bob:there.test", "content": content});
        here.event(room, message, &[nothing(number)], from_ref(&join.event_id))
    };
    (0..count).map(message).collect()
}

/// Bob's new profile.
fn profile(here: &Here, room: RoomNid, join: &Pdu, name: &str, auth: &[EventId]) -> Arc<Pdu> {
    let bob = "@bob:there.test";
    let content = json!({"membership": "join", "displayname": name});
    let member = json!({"type": "m.room.member", "sender": bob, "state_key": bob, "content": content});
    here.event(room, member, from_ref(&join.event_id), auth)
}

fn count(asked: &[String], endpoint: &str) -> usize {
    asked.iter().filter(|asked| *asked == endpoint).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_ends_are_named_in_a_question() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let events = incoming(&messages_out_of_nowhere(&here, room, &join, 30));
    let missing: HashSet<EventId> = (0..30).map(nothing).collect();
    assert_eq!(latest_ends(&events, &missing).len(), MAX_ENDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_asked_for_before_few_events() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    here.deliver("t1", &messages_out_of_nowhere(&here, room, &join, 20)).await;
    assert_eq!(count(&here.peer.take_asked(), "state_ids"), MAX_STATES);
    assert_eq!(here.federation.inbound.counters.postponed.get(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_a_gap_has_a_time_limit() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    // Fast enough for each question, and too slow for all of them.
    *here.peer.slow.lock() = Some((here.federation.clock.clone(), Duration::from_secs(14)));
    let before = here.federation.clock.monotonic();
    let messages = messages_out_of_nowhere(&here, room, &join, 20);
    let (status, _) = here.send("t1", here.transaction(&messages, json!([]))).await;
    assert_eq!(status, http::StatusCode::OK);
    here.pass_time(here.settle()).await;
    let took = here.federation.clock.monotonic() - before;
    assert!(took >= FILL_TIME, "{took:?}");
    let asked = count(&here.peer.take_asked(), "state_ids");
    assert!(asked < MAX_STATES, "{asked} states were asked for");
    assert!(!here.has(room, &messages[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gaps_of_few_servers_are_looked_at_in_a_round() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let delivered = |(number, event): (usize, &Arc<Pdu>)| Incoming {
        origin: ServerName::parse(format!("s{number}.test")).unwrap(),
        pdu: CheckedPdu::of_ours(event.clone()),
    };
    let events: Vec<_> = messages_out_of_nowhere(&here, room, &join, 7).iter().enumerate().map(delivered).collect();
    let held = here.federation.work_on(room, Vec::new(), events, false).await.unwrap();
    assert!(held.is_empty(), "nothing waits for ever");
    assert_eq!(here.peer.take_strangers().len(), 4);
    assert_eq!(here.federation.inbound.counters.postponed.get(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_servers_are_asked_for_the_same() {
    let here = Here::new();
    let (room, _) = joined(&here).await;
    let head = here.federation.rooms.head(room).unwrap();
    let auth: Vec<EventId> = [head.create(), head.power_levels(), head.join_rules()]
        .into_iter()
        .flatten()
        .map(|event| event.event_id.clone())
        .collect();
    for number in 0..6 {
        let server = ServerName::parse(format!("s{number}.test")).unwrap();
        let user = UserId::new("u", &server).unwrap();
        let member = json!({
            "type": "m.room.member", "sender": user, "state_key": user, "content": {"membership": "join"},
            "room_id": head.room_id(), "prev_events": here.ends(room), "auth_events": auth, "depth": 100,
            "origin_server_ts": 1_700_000_000_000_u64,
        });
        let key = SigningKey::from_seed([7; 32], "x").unwrap();
        let pdu = Pdu::sign(member.as_object().unwrap().clone(), &server, &key, VERSION.rules()).unwrap();
        let join = Received::from(CheckedPdu::of_ours(Arc::new(pdu)));
        here.federation.rooms.receive_all(room, vec![join]).await.unwrap().remove(0).unwrap();
    }
    let place = here.federation.find_place(room).unwrap();
    let event = messages_out_of_nowhere(&here, room, &here.join_of_bob(room), 1).remove(0);
    let event = incoming(&[event]).into_values().next().unwrap();
    let servers = here.federation.servers_to_ask(&place, &event).unwrap();
    assert_eq!(servers.len(), MAX_SERVERS);
    assert_eq!(servers[0], here.peer.name, "who delivered it comes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_very_many_events_is_not_looked_at() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let messages = here.messages(room, &join, 2);
    let mut state: Vec<Value> = state_ids(&here, room).into_iter().map(Value::from).collect();
    state.extend((0..200_000).map(|number| Value::from(nothing(number).as_str())));
    let answer = json!({"pdu_ids": state, "auth_chain_ids": []});
    here.peer.answer(move |path, _, _| path.contains("/state_ids/").then(|| answer.clone()));
    here.deliver("t1", &[messages[1].clone()]).await;
    assert_eq!(here.peer.take_asked(), ["get_missing_events", "state_ids"]);
    assert!(!here.has(room, &messages[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_events_are_bounded_in_size() {
    for (padding, comes_in) in [(100 * 1024, true), (300 * 1024, false)] {
        let here = Here::new();
        let (room, join) = joined(&here).await;
        let new = profile(&here, room, &join, "Bobby", from_ref(&join.event_id));
        let message = json!({"type": "m.room.message", "sender": "@bob:there.test", "content": {}});
        let message = here.event(room, message, from_ref(&join.event_id), from_ref(&new.event_id));
        here.peer.answer(move |path, _, _| {
            path.contains("/event/").then(|| json!({"pdus": [wire(&new)], "padding": "x".repeat(padding)}))
        });
        here.deliver("t1", from_ref(&message)).await;
        assert_eq!(here.has(room, &message), comes_in, "one event with {padding} bytes");
    }
    for (padding, comes_in) in [(1024 * 1024, true), (5 * 1024 * 1024, false)] {
        let here = Here::new();
        let (room, join) = joined(&here).await;
        let messages = here.messages(room, &join, 2);
        let deliver = deliver_missing(messages.clone());
        here.peer.answer(move |path, query, body| {
            let mut answer = deliver(path, query, body)?;
            answer["padding"] = "x".repeat(padding).into();
            Some(answer)
        });
        here.deliver("t1", &[messages[1].clone()]).await;
        assert_eq!(here.has(room, &messages[1]), comes_in, "events with {padding} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_events_are_followed_back_few_levels() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let mut chain = vec![join.clone()];
    for number in 0..7 {
        let last = chain.last().unwrap().event_id.clone();
        chain.push(profile(&here, room, &join, &format!("Bob {number}"), &[last]));
    }
    let message = json!({"type": "m.room.message", "sender": "@bob:there.test", "content": {}});
    let message = here.event(room, message, from_ref(&join.event_id), from_ref(&chain[7].event_id));
    here.peer.answer(move |path, _, _| {
        let found = chain.iter().find(|event| path.contains(event.event_id.as_str().trim_start_matches('$')))?;
        path.contains("/event/").then(|| json!({"pdus": [wire(found)]}))
    });
    here.deliver("t1", from_ref(&message)).await;
    let asked = here.peer.take_asked();
    assert_eq!((count(&asked, "event"), count(&asked, "event_auth")), (4, 1), "{asked:?}");
    assert!(!here.has(room, &message));
}

#[tokio::test(flavor = "multi_thread")]
async fn few_auth_events_are_fetched_one_by_one() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    // Seven that are missing, each of which lacks seven others.
    let first: Vec<_> = (0..7)
        .map(|number| {
            let lacking: Vec<EventId> = (0..7).map(|other| nothing(number * 10 + other)).collect();
            profile(&here, room, &join, &format!("Bob {number}"), &lacking)
        })
        .collect();
    let cited: Vec<EventId> = first.iter().map(|event| event.event_id.clone()).collect();
    let message = json!({"type": "m.room.message", "sender": "@bob:there.test", "content": {}});
    let message = here.event(room, message, from_ref(&join.event_id), &cited);
    here.peer.answer(move |path, _, _| {
        let found = first.iter().find(|event| path.contains(event.event_id.as_str().trim_start_matches('$')))?;
        path.contains("/event/").then(|| json!({"pdus": [wire(found)]}))
    });
    here.deliver("t1", from_ref(&message)).await;
    let asked = here.peer.take_asked();
    assert_eq!((count(&asked, "event"), count(&asked, "event_auth")), (7, 1), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_chains_are_asked_for_few_events() {
    let here = Here::new();
    let (room, join) = joined(&here).await;
    let message = |number: usize| {
        let message = json!({"type": "m.room.message", "sender": "@bob:there.test", "content": {}});
        here.event(room, message, from_ref(&join.event_id), &[nothing(number)])
    };
    let messages: Vec<_> = (0..6).map(message).collect();
    here.deliver("t1", &messages).await;
    let asked = here.peer.take_asked();
    assert_eq!((count(&asked, "event"), count(&asked, "event_auth")), (6, 3), "{asked:?}");
}

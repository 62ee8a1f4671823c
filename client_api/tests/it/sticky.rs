//! Sticky events as clients send and get them (MSC4354, MSC4480).

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Client, Server, run};

const DURATION: &str = "org.matrix.msc4354.sticky_duration_ms";
const EXTENSION: &str = "org.matrix.msc4354.sticky_events";
const SLIDING: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
const TTL: &str = "msc4354_sticky_duration_ttl_ms";

async fn stick(user: &Client<'_>, room: &str, txn: &str, ms: u64) -> String {
    let path = format!("rooms/{room}/send/com.example/{txn}?{DURATION}={ms}");
    user.put(&path, json!({"txn": txn})).await.ok()["event_id"].as_str().unwrap().to_owned()
}

/// More messages than a timeline holds.
async fn talk(user: &Client<'_>, room: &str, name: &str) {
    for index in 0..12 {
        user.say(room, &format!("{name}{index}"), "words").await;
    }
}

fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

/// What `/sync` tells of a room: its timeline, its sticky events, and where to go on.
async fn sync(user: &Client<'_>, room: &str, since: &str) -> (Vec<String>, Value, String) {
    let from = if since.is_empty() { String::new() } else { format!("&since={since}") };
    let answer = user.get(&format!("sync?timeout=0{from}")).await.ok();
    let told = &answer["rooms"]["join"][room];
    let next = answer["next_batch"].as_str().unwrap().to_owned();
    (ids(&told["timeline"]["events"]), told["msc4354_sticky"]["events"].clone(), next)
}

async fn slide(user: &Client<'_>, pos: Option<&str>, extension: Value) -> Value {
    let list = json!({"timeline_limit": 10, "required_state": [], "ranges": [[0, 100]]});
    let body = json!({"lists": {"any": list}, "extensions": {EXTENSION: extension}});
    let pos = pos.map(|pos| format!("&pos={pos}")).unwrap_or_default();
    user.post(&format!("{SLIDING}?timeout=0{pos}"), body).await.ok()
}

fn sticky_in(answer: &Value, room: &str) -> Vec<String> {
    ids(&answer["extensions"][EXTENSION]["rooms"][room]["events"])
}

#[test]
fn a_sticky_event_is_told_once_in_the_timeline_or_beside_it() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let start = sync(&alice, &room, "").await.2;
        let sticky = stick(&alice, &room, "a", 60_000).await;
        let (timeline, beside, _) = sync(&alice, &room, &start).await;
        assert!(timeline.contains(&sticky) && beside.is_null());
        talk(&alice, &room, "m").await;
        for since in ["", &start] {
            let (timeline, beside, next) = sync(&alice, &room, since).await;
            assert!(!timeline.contains(&sticky));
            assert_eq!(ids(&beside), std::slice::from_ref(&sticky));
            assert_eq!(beside[0]["msc4354_sticky"], json!({"duration_ms": 60_000}));
            assert_eq!(beside[0]["unsigned"][TTL], 60_000);
            assert!(sync(&alice, &room, &next).await.1.is_null());
            alice.say(&room, &format!("after{since}"), "more").await;
            assert!(sync(&alice, &room, &next).await.1.is_null());
        }
    });
}

#[test]
fn a_filter_of_timelines_does_not_keep_sticky_events_out() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let sticky = stick(&alice, &room, "a", 60_000).await;
        let filter = json!({"room": {"timeline": {"not_types": ["com.example"]}}}).to_string();
        let filter: String = url_encode(&filter);
        let answer = alice.get(&format!("sync?filter={filter}")).await.ok();
        assert_eq!(ids(&answer["rooms"]["join"][&room]["msc4354_sticky"]["events"]), [sticky]);
    });
}

fn url_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn stickiness_ends_with_its_time_and_with_a_redaction() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let (short, long) = (stick(&alice, &room, "a", 1000).await, stick(&alice, &room, "b", 60_000).await);
        let redacted = stick(&alice, &room, "c", 60_000).await;
        alice.put(&format!("rooms/{room}/redact/{redacted}/r"), json!({})).await.ok();
        let never = stick(&alice, &room, "d", 0).await;
        talk(&alice, &room, "m").await;
        assert_eq!(ids(&sync(&alice, &room, "").await.1), [short.clone(), long.clone()]);
        let read = async |id: &str| alice.get(&format!("rooms/{room}/event/{id}")).await.ok();
        assert_eq!(read(&short).await["unsigned"][TTL], 1000);
        assert!(read(&redacted).await.get("msc4354_sticky").is_none());
        assert!(read(&never).await["unsigned"].get(TTL).is_none());
        server.clock.advance(Duration::from_millis(1000));
        assert_eq!(ids(&sync(&alice, &room, "").await.1), std::slice::from_ref(&long));
        let expired = read(&short).await;
        assert_eq!(expired["msc4354_sticky"], json!({"duration_ms": 1000}));
        assert!(expired["unsigned"].get(TTL).is_none());
        assert_eq!(read(&long).await["unsigned"][TTL], 59_000);
    });
}

async fn hide_history(alice: &Client<'_>, room: &str) {
    let path = format!("rooms/{room}/state/m.room.history_visibility");
    alice.put(&path, json!({"history_visibility": "joined"})).await.ok();
}

#[test]
fn who_joins_gets_what_is_sticky_whatever_the_history_visibility_is() {
    run(async |server: std::sync::Arc<Server>| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        hide_history(&alice, &room).await;
        let (first, start) = (stick(&alice, &room, "a", 60_000).await, sync(&bob, &room, "").await.2);
        let pos = slide(&bob, None, json!({"enabled": true})).await;
        talk(&alice, &room, "m").await;
        let second = stick(&alice, &room, "b", 60_000).await;
        let hidden = alice.say(&room, "hidden", "words").await;
        bob.get(&format!("rooms/{room}/event/{first}")).await.refused(404, "M_NOT_FOUND");
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let both = [first.clone(), second];
        for since in ["", &start] {
            let (timeline, beside, next) = sync(&bob, &room, since).await;
            assert!(!timeline.contains(&hidden));
            assert_eq!(ids(&beside), both);
            assert!(sync(&bob, &room, &next).await.1.is_null());
        }
        let token = "k1_1";
        for extension in [json!({"enabled": true}), json!({"enabled": true, "since": token, "limit": 1})] {
            let told = slide(&bob, pos["pos"].as_str(), extension).await;
            assert_eq!(sticky_in(&told, &room), both);
        }
        bob.get(&format!("rooms/{room}/event/{first}")).await.ok();
        bob.get(&format!("rooms/{room}/event/{hidden}")).await.refused(404, "M_NOT_FOUND");
        server.clock.advance(Duration::from_millis(60_000));
        bob.get(&format!("rooms/{room}/event/{first}")).await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn those_who_are_ignored_stick_to_nobody() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let sticky = stick(&bob, &room, "a", 60_000).await;
        talk(&alice, &room, "m").await;
        assert_eq!(ids(&sync(&alice, &room, "").await.1), [sticky]);
        let ignored = json!({"ignored_users": {&bob.user_id: {}}});
        alice.put(&format!("user/{}/account_data/m.ignored_user_list", alice.user_id), ignored).await.ok();
        assert!(sync(&alice, &room, "").await.1.is_null());
        assert!(sticky_in(&slide(&alice, None, json!({"enabled": true})).await, &room).is_empty());
    });
}

#[test]
fn sliding_sync_tells_them_in_pages_and_not_twice() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let mut sent = Vec::new();
        for txn in ["a", "b", "c"] {
            sent.push(stick(&alice, &room, txn, 60_000).await);
        }
        talk(&alice, &room, "m").await;
        assert!(slide(&alice, None, json!({})).await["extensions"].get(EXTENSION).is_none());
        let first = slide(&alice, None, json!({"enabled": true, "limit": 2})).await;
        assert_eq!(sticky_in(&first, &room), sent[..2]);
        let next = |answer: &Value| answer["extensions"][EXTENSION]["next_batch"].clone();
        let wish = json!({"enabled": true, "limit": 2, "since": next(&first)});
        let second = slide(&alice, first["pos"].as_str(), wish).await;
        assert_eq!(sticky_in(&second, &room), sent[2..]);
        let wish = json!({"enabled": true, "since": next(&second)});
        let third = slide(&alice, second["pos"].as_str(), wish.clone()).await;
        assert!(third["extensions"].get(EXTENSION).is_none());
        // One that the timeline tells is not told beside it; the token moves past it.
        stick(&alice, &room, "d", 60_000).await;
        let fourth = slide(&alice, third["pos"].as_str(), wish).await;
        assert!(fourth["rooms"][&room]["timeline"][0]["unsigned"][TTL].is_u64(), "{fourth}");
        assert!(sticky_in(&fourth, &room).is_empty() && next(&fourth).is_string());
        let body = json!({"extensions": {EXTENSION: {"enabled": true, "since": "x"}}});
        alice.post(SLIDING, body).await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn a_delayed_event_is_sticky_from_when_it_is_sent() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let path = format!("rooms/{room}/send/com.example/a?{DURATION}=60000&org.matrix.msc4140.delay=5000");
        let first = alice.put(&path, json!({})).await.ok()["delay_id"].as_str().unwrap().to_owned();
        let path = format!("rooms/{room}/delayed_event/com.example/b?{DURATION}=50000");
        let second = alice.put(&path, json!({"delay_ms": 5000, "content": {}})).await.ok();
        assert!(sync(&alice, &room, "").await.1.is_null());
        server.clock.advance(Duration::from_millis(4000));
        for id in [first.as_str(), second["delay_id"].as_str().unwrap()] {
            alice.post(&format!("/_matrix/client/v1/delayed_events/{id}/send"), json!({})).await.ok();
        }
        talk(&alice, &room, "m").await;
        let beside = sync(&alice, &room, "").await.1;
        assert_eq!((&beside[0]["unsigned"][TTL], &beside[1]["unsigned"][TTL]), (&json!(60_000), &json!(50_000)));
    });
}

#[test]
fn impossible_durations_are_refused() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        for duration in ["3600001", "-1", "1.5", "soon"] {
            let path = format!("rooms/{room}/send/com.example/a?{DURATION}={duration}");
            alice.put(&path, json!({})).await.refused(400, "M_INVALID_PARAM");
        }
        stick(&alice, &room, "a", 3_600_000).await;
        let features = server.get("/_matrix/client/versions").await.ok();
        assert_eq!(features["unstable_features"]["org.matrix.msc4354"], true);
    });
}

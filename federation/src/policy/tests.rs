use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use parking_lot::Mutex;
use rooms::{Draft, Event, EventFlags, RemoteRooms, RoomError, RoomNid, RoomSeq};
use serde_json::{Map, Value, json};
use spec::hash::redacted_bytes;
use spec::ids::{EventId, RoomId, ServerName};
use spec::pdu::Pdu;
use spec::policy::POLICY_KEY_ID;
use spec::signing::SigningKey;
use spec::xmatrix::XMatrix;

use crate::client::encode_path;
use crate::error::RemoteError;
use crate::inbound::fixture::{Here, VERSION, user, wire};

const ALICE: &str = "@alice:here.test";

fn policy_key() -> SigningKey {
    SigningKey::from_seed([9; 32], "policy_server").unwrap()
}

/// What the policy server answers for an event.
fn sign(event: &Value) -> Value {
    let signature = policy_key().sign(&redacted_bytes(event.as_object().unwrap(), VERSION.rules()));
    json!({"there.test": {POLICY_KEY_ID: signature}})
}

fn is_signed(event: &Value) -> bool {
    event["signatures"]["there.test"][POLICY_KEY_ID].is_string()
}

/// Lets the other server sign whatever comes.
fn sign_all(here: &Here) {
    here.peer.answer(|path, _, body| (path == "/_matrix/policy/v1/sign").then(|| sign(body)));
}

async fn name_policy_server(here: &Here, room: RoomNid, via: &str) {
    let content = json!({"via": via, "public_keys": {"ed25519": policy_key().public_base64()}});
    let draft = Draft::state(user(ALICE), "m.room.policy", "", content.as_object().unwrap().clone());
    here.federation.rooms.append(room, vec![draft], None).await.unwrap();
}

/// A room that uses the other server, whose Bob has joined it, as policy server.
async fn guarded_room(here: &Here) -> (RoomId, RoomNid, Arc<Pdu>) {
    let (id, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("join", from_ref(&join)).await;
    name_policy_server(here, room, "there.test").await;
    here.peer.take_asked();
    (id, room, join)
}

async fn say(here: &Here, room: RoomNid, text: &str) -> Result<EventId, RoomError> {
    let content = json!({"msgtype": "m.text", "body": text}).as_object().unwrap().clone();
    let draft = Draft::message(user(ALICE), "m.room.message", content);
    here.federation.rooms.append(room, vec![draft], None).await.map(|mut ids| ids.remove(0))
}

fn stored(here: &Here, room: RoomNid, id: &EventId) -> Option<Event> {
    let events = here.federation.rooms.events_after(room, RoomSeq(0), usize::MAX).unwrap();
    events.into_iter().find(|event| event.event_id() == id.as_str())
}

fn json_of(event: &Event) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_signed_first() {
    let here = Here::new();
    let (_, room, _) = guarded_room(&here).await;
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = asked.clone();
    here.peer.answer(move |path, _, body| {
        (path == "/_matrix/policy/v1/sign").then(|| {
            noted.lock().push(body.clone());
            sign(body)
        })
    });
    let id = say(&here, room, "hello").await.unwrap();
    let event = json_of(&stored(&here, room, &id).unwrap());
    assert!(is_signed(&event));
    let asked = asked.lock().pop().unwrap();
    // The whole event as others will get it, but for the signature that is asked for.
    assert!(asked["signatures"]["here.test"].is_object() && !is_signed(&asked));
    assert_eq!((&asked["content"], &asked["hashes"]), (&event["content"], &event["hashes"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_carries_the_signature() {
    let here = Here::new();
    let (_, room, _) = guarded_room(&here).await;
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = sent.clone();
    here.peer.answer(move |path, _, body| match path {
        "/_matrix/policy/v1/sign" => Some(sign(body)),
        path if path.starts_with("/_matrix/federation/v1/send/") => {
            noted.lock().extend(body["pdus"].as_array().unwrap().clone());
            Some(json!({"pdus": {}}))
        }
        _ => None,
    });
    here.federation.start();
    say(&here, room, "to all").await.unwrap();
    let is_message = |event: &&Value| event["content"]["body"] == "to all";
    here.until(|| sent.lock().iter().any(|event| is_message(&event))).await;
    assert!(is_signed(sent.lock().iter().find(is_message).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_passed_on_in_its_words() {
    let here = Here::new();
    let (_, room, _) = guarded_room(&here).await;
    here.peer.answer(|_, _, _| None);
    match say(&here, room, "buy").await {
        Err(RoomError::NotRecommended { server, status: 404, errcode, message, .. }) => {
            assert_eq!((server.as_str(), &*errcode, &*message), ("there.test", "M_NOT_FOUND", "nothing"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn when_to_ask_again_is_passed_on() {
    let refused = |retry_after| RemoteError::Refused {
        server: ServerName::parse("there.test").unwrap(),
        status: StatusCode::TOO_MANY_REQUESTS,
        errcode: "M_LIMIT_EXCEEDED".into(),
        message: String::new(),
        body: String::new(),
        retry_after,
    };
    for (said, told) in [(None, None), (Some(2), Some(2000)), (Some(u64::MAX), Some(3_600_000))] {
        match super::into_room_error(refused(said.map(Duration::from_secs))) {
            RoomError::NotRecommended { status: 429, retry_after_ms, .. } => assert_eq!(retry_after_ms, told),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_policy_server_is_waited_for_as_long_as_configured() {
    let here = Here::new();
    let (_, room, join) = guarded_room(&here).await;
    here.peer.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..2 {
        // Also when it failed lately: a user waits.
        let started = here.federation.clock.monotonic();
        let failed = here.pass_time(say(&here, room, "hello?")).await;
        assert!(matches!(failed, Err(RoomError::RemoteUnavailable(_))), "{failed:?}");
        let elapsed = here.federation.clock.monotonic() - started;
        assert!(elapsed >= Duration::from_secs(10) && elapsed < Duration::from_secs(29), "{elapsed:?}");
        assert_eq!(here.peer.take_asked(), ["sign"]);
    }
    // That says nothing of the rest of that server.
    assert!(here.federation.client.destinations().check(&here.peer.name).is_ok());
    // What others send does not wait for a policy server that failed lately.
    let (room_id, message) = (here.federation.rooms.room_id(room).unwrap(), here.messages(room, &join, 1).remove(0));
    let pdu = rooms::CheckedPdu::of_ours(message.clone());
    let verdict = here.federation.rooms.receive(pdu).await.unwrap();
    assert!(matches!(verdict, rooms::Verdict::SoftFailed(_)), "{room_id}: {verdict:?}");
    assert!(here.peer.take_asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_bounded() {
    let here = Here::new();
    let (_, room, _) = guarded_room(&here).await;
    here.peer.answer(|_, _, body| {
        let mut answer = sign(body);
        answer["padding"] = "x".repeat(super::MAX_ANSWER).into();
        Some(answer)
    });
    let failed = say(&here, room, "x").await;
    assert!(matches!(failed, Err(RoomError::RemoteUnavailable(_))), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_have_our_own_name() {
    let here = Here::new();
    let (_, room) = here.room().await;
    name_policy_server(&here, room, "here.test").await;
    let failed = say(&here, room, "x").await;
    assert!(matches!(failed, Err(RoomError::RemoteUnavailable(_))), "{failed:?}");
    // Whoever answers for our name outside was looked for.
    assert!(here.peer.take_strangers().iter().any(|server| server.as_str() == "here.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn received_events_are_asked_for() {
    let here = Here::new();
    let (_, room, join) = guarded_room(&here).await;
    sign_all(&here);
    let messages = here.messages(room, &join, 3);
    here.deliver("one", &messages[..1]).await;
    assert_eq!(here.peer.take_asked(), ["sign"]);
    let first = stored(&here, room, &messages[0].event_id).unwrap();
    assert!(is_signed(&json_of(&first)) && first.flags().is_visible());
    here.peer.answer(|_, _, _| None);
    here.deliver("two", &messages[1..2]).await;
    let second = stored(&here, room, &messages[1].event_id).unwrap();
    assert!(second.flags().has(EventFlags::SOFT_FAILED) && !second.flags().has(EventFlags::REJECTED));
    // Sent again, it is known.
    here.peer.take_asked();
    here.deliver("again", &messages[1..2]).await;
    assert!(here.peer.take_asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_gap_are_asked_for_once_each() {
    let here = Here::new();
    let (_, room, join) = guarded_room(&here).await;
    let messages = here.messages(room, &join, 5);
    let missing: Vec<Value> = messages[..4].iter().map(|event| wire(event)).collect();
    here.peer.answer(move |path, _, body| match path {
        "/_matrix/policy/v1/sign" => Some(sign(body)),
        path if path.contains("get_missing_events") => Some(json!({"events": missing})),
        _ => None,
    });
    here.deliver("last", &messages[4..]).await;
    for message in &messages {
        assert!(is_signed(&json_of(&stored(&here, room, &message.event_id).unwrap())));
    }
    assert_eq!(here.peer.take_asked().iter().filter(|endpoint| *endpoint == "sign").count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_policy_server_holds_up_no_other_room() {
    let here = Here::new();
    let (_, guarded, join) = guarded_room(&here).await;
    let (_, other) = here.room().await;
    let other_join = here.join_of_bob(other);
    sign_all(&here);
    *here.peer.slow.lock() = Some((here.federation.clock.clone(), Duration::from_secs(5)));
    let message = here.messages(guarded, &join, 1).remove(0);
    let (status, _) = here.send("slow", here.transaction(from_ref(&message), json!([]))).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = here.send("fast", here.transaction(from_ref(&other_join), json!([]))).await;
    assert_eq!(status, StatusCode::OK);
    here.until(|| here.has(other, &other_join)).await;
    assert!(!here.has(guarded, &message));
    here.pass_time(here.settle()).await;
    assert!(stored(&here, guarded, &message.event_id).unwrap().flags().is_visible());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_send_is_asked_for_again_after_a_rest() {
    let here = Here::new();
    let (_, room, join) = guarded_room(&here).await;
    let messages = here.messages(room, &join, 3);
    here.peer.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    let receive = |n: usize| here.federation.rooms.receive(rooms::CheckedPdu::of_ours(messages[n].clone()));
    let verdict = here.pass_time(receive(0)).await.unwrap();
    assert!(matches!(verdict, rooms::Verdict::SoftFailed(_)));
    assert_eq!(here.peer.take_asked(), ["sign"]);
    here.peer.hangs.store(false, std::sync::atomic::Ordering::Relaxed);
    sign_all(&here);
    assert!(matches!(receive(1).await.unwrap(), rooms::Verdict::SoftFailed(_)));
    assert!(here.peer.take_asked().is_empty());
    here.federation.clock.advance(super::REST);
    assert_eq!(receive(2).await.unwrap(), rooms::Verdict::Accepted);
    assert_eq!(here.peer.take_asked(), ["sign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_the_naming_of_a_policy_server_waits_for_it() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("join", from_ref(&join)).await;
    let power = json!({"users": {ALICE: 100, "@bob:there.test": 100}}).as_object().unwrap().clone();
    let power = Draft::state(user(ALICE), "m.room.power_levels", "", power);
    here.federation.rooms.append(room, vec![power], None).await.unwrap();
    let content = json!({"via": "there.test", "public_keys": {"ed25519": policy_key().public_base64()}});
    let named = json!({"type": "m.room.policy", "state_key": "", "sender": "@bob:there.test", "content": content});
    let named = here.event(room, named, &here.ends(room), from_ref(&join.event_id));
    let message =
        json!({"type": "m.room.message", "sender": "@bob:there.test", "depth": 101, "content": {"body": "x"}});
    let message = here.event(room, message, from_ref(&named.event_id), from_ref(&join.event_id));
    here.peer.take_asked();
    here.deliver("both", &[named.clone(), message.clone()]).await;
    assert_eq!(here.peer.take_asked(), ["sign"]);
    assert!(stored(&here, room, &named.event_id).unwrap().flags().is_visible());
    assert!(stored(&here, room, &message.event_id).unwrap().flags().has(EventFlags::SOFT_FAILED));
}

/// Carol of the other server joins through this one.
async fn send_join(here: &Here, room_id: &RoomId, room: RoomNid) -> (StatusCode, Value, Arc<Pdu>) {
    let carol = "@carol:there.test";
    let join = json!({"type": "m.room.member", "sender": carol, "state_key": carol, "content": {"membership": "join"}});
    let join = here.event(room, join, &here.ends(room), &[]);
    let uri = encode_path(&["_matrix", "federation", "v2", "send_join", room_id.as_str(), join.event_id.as_str()]);
    let body = wire(&join);
    let own = &here.federation.server_name;
    let header = XMatrix::sign(&here.peer.key, &here.peer.name, own, "PUT", &uri, body.as_object()).to_header();
    let (status, answer) = here.request("PUT", &uri, Some(header), Body::from(body.to_string())).await;
    (status, answer, join)
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_fail_with_the_policy_server() {
    let here = Here::new();
    let (room_id, room, _) = guarded_room(&here).await;
    here.peer.answer(|_, _, _| None);
    let (status, answer, join) = send_join(&here, &room_id, room).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
    assert!(stored(&here, room, &join.event_id).is_none());
    sign_all(&here);
    let (status, answer, join) = send_join(&here, &room_id, room).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(is_signed(&answer["event"]));
    assert!(is_signed(&json_of(&stored(&here, room, &join.event_id).unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_the_room_forbids_are_not_asked_for() {
    let here = Here::new();
    let (room_id, room, _) = guarded_room(&here).await;
    sign_all(&here);
    let content = json!({"membership": "ban"}).as_object().unwrap().clone();
    let carol = user("@carol:there.test");
    here.federation.rooms.intern_user(&carol).await.unwrap();
    let ban = Draft::state(user(ALICE), "m.room.member", carol.as_str(), content);
    here.federation.rooms.append(room, vec![ban], None).await.unwrap();
    here.peer.take_asked();
    let (status, answer, _) = send_join(&here, &room_id, room).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
    assert!(here.peer.take_asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_signed_before_the_other_server_sees_them() {
    let here = Here::new();
    let (room_id, room, _) = guarded_room(&here).await;
    let shown: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (noted, key) = (shown.clone(), here.peer.key.clone());
    let invite = |here: &Here| {
        let (federation, room_id) = (here.federation.clone(), room_id.clone());
        async move { federation.invite(&user(ALICE), &room_id, &user("@carol:there.test"), Map::new()).await }
    };
    here.peer.answer(|_, _, _| None);
    assert!(matches!(invite(&here).await, Err(RoomError::NotRecommended { .. })));
    assert_eq!(here.peer.take_asked(), ["sign"]);
    here.peer.answer(move |path, _, body| {
        if path == "/_matrix/policy/v1/sign" {
            return Some(sign(body));
        }
        let mut event = body["event"].clone();
        noted.lock().push(event.clone());
        let signature = key.sign(&redacted_bytes(event.as_object().unwrap(), VERSION.rules()));
        event["signatures"]["there.test"] = json!({ key.key_id(): signature });
        Some(json!({ "event": event }))
    });
    invite(&here).await.unwrap();
    assert_eq!(here.peer.take_asked(), ["sign", "invite"]);
    assert!(is_signed(&shown.lock()[0]));
    let head = here.federation.rooms.head(room).unwrap();
    let member = here.federation.rooms.state_event(room, head.state(), "m.room.member", "@carol:there.test");
    let signatures = &json_of(&member.unwrap().unwrap())["signatures"]["there.test"];
    assert!(signatures[POLICY_KEY_ID].is_string() && signatures["ed25519:t"].is_string(), "{signatures}");
}

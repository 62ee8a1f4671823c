//! What other servers send into a room whose members are not known yet, and what they may ask about it.

use std::slice::from_ref;
use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use rooms::{CheckedPdu, Membership, RoomNid};
use serde_json::{Value, json};
use spec::ids::{EventId, RoomId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::xmatrix::XMatrix;

use super::fixture::{Here, NOW_MS, VERSION, user, wire};

/// A room of Bob's on the other server that Alice has entered without members; Carol is one of them.
struct Partial {
    here: Here,
    room_id: RoomId,
    room: RoomNid,
    carol: Arc<Pdu>,
    create: Arc<Pdu>,
    host: Arc<Pdu>,
    levels: Arc<Pdu>,
    rules: Arc<Pdu>,
    join: Arc<Pdu>,
}

fn event(
    kind: &str,
    sender: &str,
    state_key: Option<&str>,
    content: Value,
    cites: &[&Arc<Pdu>],
    prev: &[&Arc<Pdu>],
) -> Value {
    let ids = |events: &[&Arc<Pdu>]| events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>();
    let mut event = json!({
        "type": kind, "sender": sender, "content": content, "auth_events": ids(cites), "prev_events": ids(prev),
        "origin_server_ts": NOW_MS, "depth": 10, "room_id": "!room:there.test",
    });
    if let Some(state_key) = state_key {
        event["state_key"] = state_key.into();
    }
    event
}

async fn partial() -> Partial {
    let here = Here::new();
    let (bob, carol, alice) = ("@bob:there.test", "@carol:there.test", "@alice:here.test");
    let sign = |object: Value| here.peer.sign(object);
    let joined = || json!({"membership": "join"});
    let create = sign(event("m.room.create", bob, Some(""), json!({"room_version": "11"}), &[], &[]));
    let member = |id: &str, more: &[&Arc<Pdu>]| {
        let cites: Vec<&Arc<Pdu>> = [&create].into_iter().chain(more.iter().copied()).collect();
        sign(event("m.room.member", id, Some(id), joined(), &cites, &[&create]))
    };
    let host = member(bob, &[]);
    let levels = json!({"users": {bob: 100}});
    let levels = sign(event("m.room.power_levels", bob, Some(""), levels, &[&create, &host], &[&host]));
    let rules = json!({"join_rule": "public"});
    let rules = sign(event("m.room.join_rules", bob, Some(""), rules, &[&create, &host, &levels], &[&levels]));
    let carol = member(carol, &[&levels, &rules]);
    let join = event("m.room.member", alice, Some(alice), joined(), &[&create, &levels, &rules], &[&carol]);
    let Value::Object(join) = join else { unreachable!() };
    let key = SigningKey::from_seed([1; 32], "h").unwrap();
    let join = Arc::new(Pdu::sign(join, &here.federation.server_name, &key, VERSION.rules()).unwrap());
    let rooms = &here.federation.rooms;
    let room_id = RoomId::parse("!room:there.test").unwrap();
    let room = rooms.begin_room(&room_id, VERSION).await.unwrap();
    let told: Vec<CheckedPdu> =
        [&create, &host, &levels, &rules].map(|event| CheckedPdu::of_ours(event.clone())).into();
    for verdict in rooms.receive_outliers(room, told).await.unwrap() {
        verdict.unwrap();
    }
    let state = [&create, &levels, &rules].map(|event| event.event_id.clone()).into();
    let via = here.peer.name.clone();
    rooms.enter_partial(room, CheckedPdu::of_ours(join.clone()), state, &via, vec![via.clone()]).await.unwrap();
    Partial { here, room_id, room, carol, create, host, levels, rules, join }
}

impl Partial {
    async fn apply(&self, kind: &str, content: Value) {
        let edu = json!({"edu_type": kind, "content": content});
        let body = self.here.transaction(&[], json!([edu]));
        static TXN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let txn = TXN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(self.here.send(&format!("edu{txn}"), body).await.0, StatusCode::OK);
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask("GET", path, None).await
    }

    async fn ask(&self, method: &str, path: &str, content: Option<&Value>) -> (StatusCode, Value) {
        let (own, peer) = (&self.here.federation.server_name, &self.here.peer);
        let body = content.map_or_else(Body::empty, |content| Body::from(content.to_string()));
        let object = content.and_then(Value::as_object);
        let header = XMatrix::sign(&peer.key, &peer.name, own, method, path, object).to_header();
        self.here.request(method, path, Some(header), body).await
    }

    fn membership(&self, id: &str) -> Option<Membership> {
        let rooms = &self.here.federation.rooms;
        let user = rooms.user_nid(&user(id)).unwrap()?;
        rooms.membership(self.room, user).unwrap().map(|row| row.membership)
    }

    fn message(&self, prev: &[EventId]) -> Arc<Pdu> {
        let content = json!({"msgtype": "m.text", "body": "hello"});
        let mut message = event(
            "m.room.message",
            "@carol:there.test",
            None,
            content,
            &[&self.create, &self.levels, &self.carol],
            &[],
        );
        message["prev_events"] = json!(prev);
        self.here.peer.sign(message)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_members_send_who_are_not_known_is_taken() {
    let here = partial().await;
    let rooms = &here.here.federation.rooms;
    let nid = |id: &str| rooms.user_nid(&user(id)).unwrap();
    here.apply("m.typing", json!({"room_id": here.room_id, "user_id": "@dan:there.test", "typing": true})).await;
    assert_eq!(rooms.typing_since(here.room, 0).unwrap_or_default(), [nid("@dan:there.test").unwrap()]);
    let receipt = |id: &str, ts: u64| json!({here.room_id.as_str(): {"m.read": {"@dan:there.test": {"event_ids": [id], "data": {"ts": ts}}}}});
    here.apply("m.receipt", receipt("mytesteventid", 1436)).await;
    let receipts = rooms.user_receipts(here.room, nid("@dan:there.test").unwrap()).unwrap();
    assert_eq!((&*receipts[0].event_id, receipts[0].at), ("mytesteventid", 1436));
    here.apply("m.receipt", receipt(&"x".repeat(256), 1)).await;
    here.apply("m.receipt", receipt(here.join.event_id.as_str(), NOW_MS * 2)).await;
    let receipts = rooms.user_receipts(here.room, nid("@dan:there.test").unwrap()).unwrap();
    assert_eq!(&*receipts[0].event_id, here.join.event_id.as_str(), "a known event is newer");
    assert_eq!(receipts[0].at, (NOW_MS + 60_000) as i64, "and no clock is far ahead");
    // Another server's users are not.
    here.apply("m.typing", json!({"room_id": here.room_id, "user_id": "@eve:else.test", "typing": true})).await;
    assert_eq!(nid("@eve:else.test"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_gap_only_events_are_asked_for() {
    let here = partial().await;
    let lost = here.message(from_ref(&here.carol.event_id));
    let first = here.message(from_ref(&lost.event_id));
    let carol = wire(&here.carol);
    here.here.peer.answer(move |path, _, _| match path {
        path if path.contains("get_missing_events") => Some(json!({"events": []})),
        path if path.contains("/event/") => Some(json!({"pdus": [carol]})),
        _ => None,
    });
    here.here.deliver("gap", from_ref(&first)).await;
    assert!(here.here.has(here.room, &first), "it is placed, whatever it follows");
    let asked = here.here.peer.take_asked();
    assert!(asked.iter().all(|asked| asked == "get_missing_events" || asked == "event"), "{asked:?}");
    assert_eq!(asked.iter().filter(|asked| *asked == "get_missing_events").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_sent_elsewhere() {
    let here = partial().await;
    let room = here.room_id.as_str().replace('!', "%21").replace(':', "%3A");
    for kind in ["make_join", "make_knock", "make_leave"] {
        let path = format!("/_matrix/federation/v1/{kind}/{room}/%40dan%3Athere.test?ver=11");
        let (status, answer) = here.get(&path).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")), "{kind}");
    }
    let join = here.join.event_id.as_str().replace('$', "%24");
    for kind in ["state", "state_ids"] {
        // Carol's server is in the room by what it said of itself; no member of it is known.
        let (status, answer) = here.get(&format!("/_matrix/federation/v1/{kind}/{room}?event_id={join}")).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_through_the_second_half_either() {
    let here = partial().await;
    let dan = "@dan:there.test";
    for (kind, membership) in [("v1/send_join", "join"), ("v2/send_join", "join"), ("v1/send_knock", "knock")] {
        let cites = [&here.create, &here.levels];
        let event = event("m.room.member", dan, Some(dan), json!({"membership": membership}), &cites, &[&here.join]);
        let event = here.here.peer.sign(event);
        let escaped = |text: &str| text.replace('!', "%21").replace(':', "%3A").replace('$', "%24");
        let (room, id) = (escaped(here.room_id.as_str()), escaped(event.event_id.as_str()));
        let path = format!("/_matrix/federation/{kind}/{room}/{id}");
        let (status, answer) = here.ask("PUT", &path, Some(&wire(&event))).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")), "{kind}");
        assert_eq!(here.membership(dan), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kicked_or_banned_meanwhile_is_out() {
    for membership in ["leave", "ban"] {
        let here = partial().await;
        let (bob, alice) = ("@bob:there.test", "@alice:here.test");
        let cites = [&here.create, &here.host, &here.levels, &here.join];
        let kick = event("m.room.member", bob, Some(alice), json!({"membership": membership}), &cites, &[&here.join]);
        let kick = here.here.peer.sign(kick);
        here.here.deliver("kick", from_ref(&kick)).await;
        assert_eq!(here.membership(alice), Membership::parse(membership));
        assert!(!here.here.federation.rooms.is_resident(here.room).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_list_of_somebody_unknown_is_told_when_they_turn_out_to_be_a_member() {
    for kind in ["m.device_list_update", "m.signing_key_update"] {
        let here = partial().await;
        let (rooms, users) = (&here.here.federation.rooms, &here.here.federation.users);
        let dan = "@dan:there.test";
        here.apply(kind, json!({"user_id": dan, "device_id": "D", "stream_id": 1})).await;
        let cites = [&here.create, &here.levels, &here.rules];
        let join = event("m.room.member", dan, Some(dan), json!({"membership": "join"}), &cites, &[&here.join]);
        here.here.deliver("join", from_ref(&here.here.peer.sign(join))).await;
        assert_eq!(here.membership(dan), Some(Membership::Join));
        let before = users.latest_device_list_change();
        users.settle_unsure_lists().await.unwrap();
        let changes = users.device_list_changes(before, here.here.federation.store.visible()).unwrap();
        let told: Vec<_> = changes.iter().map(|change| change.user).collect();
        assert_eq!(told, [rooms.user_nid(&user(dan)).unwrap().unwrap()], "{kind}");
    }
}

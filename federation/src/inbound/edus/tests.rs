use std::slice::from_ref;

use rooms::{Draft, ReceiptKind, RoomNid, UserNid};
use serde_json::{Value, json};
use spec::ids::RoomId;
use users::PresenceState;

use super::receipts::ParkedReceipts;
use crate::FederationConfig;
use crate::inbound::fixture::{Here, user};

async fn joined(here: &Here) -> (RoomId, RoomNid) {
    let (room_id, room) = here.room().await;
    here.deliver("join", &[here.join_of_bob(room)]).await;
    (room_id, room)
}

/// Sends one EDU; says whether it was applied.
async fn apply(here: &Here, kind: &str, content: Value) -> bool {
    let counters = &here.federation.inbound.counters;
    let before = counters.edus_applied.get();
    let edu = json!({"edu_type": kind, "content": content});
    let serde_json::Value::Object(edu) = edu else { unreachable!() };
    here.federation.apply_edus(&here.peer.name, vec![edu]).await.unwrap();
    counters.edus_applied.get() > before
}

fn nid(here: &Here, id: &str) -> UserNid {
    here.federation.rooms.user_nid(&user(id)).unwrap().unwrap()
}

async fn shut_out(here: &Here, room: RoomNid) {
    let acl = json!({"allow": ["*"], "deny": ["there.test"]}).as_object().unwrap().clone();
    let draft = Draft::state(user("@alice:here.test"), "m.room.server_acl", "", acl);
    here.federation.rooms.append(room, vec![draft], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_of_joined_users_of_the_server() {
    let here = Here::new();
    let (room_id, room) = joined(&here).await;
    let typing = |user: &str, typing: bool| json!({"room_id": room_id, "user_id": user, "typing": typing});
    let who = || here.federation.rooms.typing_since(room, 0).unwrap_or_default();

    assert!(!apply(&here, "m.typing", typing("@alice:here.test", true)).await, "not its user");
    assert!(!apply(&here, "m.typing", typing("@eve:there.test", true)).await, "not in the room");
    assert!(!apply(&here, "m.typing", json!({"room_id": room_id, "user_id": "@bob:there.test"})).await);
    let elsewhere = json!({"room_id": "!else:there.test", "user_id": "@bob:there.test", "typing": true});
    assert!(!apply(&here, "m.typing", elsewhere).await);
    assert_eq!(who(), []);
    assert!(apply(&here, "m.typing", typing("@bob:there.test", true)).await);
    assert_eq!(who(), [nid(&here, "@bob:there.test")]);
    assert!(apply(&here, "m.typing", typing("@bob:there.test", false)).await);
    assert_eq!(who(), []);
    shut_out(&here, room).await;
    assert!(!apply(&here, "m.typing", typing("@bob:there.test", true)).await, "shut out by the room");
    assert_eq!(here.federation.inbound.counters.edus_refused.get(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_of_joined_users_of_the_server() {
    let here = Here::new();
    let (room_id, room) = joined(&here).await;
    let end = here.ends(room).remove(0);
    let receipt = json!({"event_ids": [end], "data": {"ts": 1}});
    let threaded = json!({"event_ids": [end], "data": {"ts": 1, "thread_id": "main"}});
    let content = json!({
        room_id.as_str(): {
            "m.read": {"@bob:there.test": receipt, "@alice:here.test": receipt, "@eve:there.test": receipt, "bad": 1},
            "m.read.private": {"@bob:there.test": receipt},
        },
        "!else:there.test": {"m.read": {"@bob:there.test": receipt}},
    });
    assert!(apply(&here, "m.receipt", content).await);
    let of = |id: &str| here.federation.rooms.user_receipts(room, nid(&here, id)).unwrap();
    let receipts = of("@bob:there.test");
    assert_eq!(receipts.len(), 1);
    assert_eq!((receipts[0].kind, receipts[0].thread.as_deref()), (ReceiptKind::Read, None));
    assert_eq!(&*receipts[0].event_id, end.as_str());
    assert_eq!(of("@alice:here.test"), []);

    apply(&here, "m.receipt", json!({ room_id.as_str(): {"m.read": {"@bob:there.test": threaded}} })).await;
    assert!(of("@bob:there.test").iter().any(|receipt| receipt.thread.as_deref() == Some("main")));
    let made_up = json!({"event_ids": [end], "data": {"ts": 1, "thread_id": "$never:there.test"}});
    apply(&here, "m.receipt", json!({ room_id.as_str(): {"m.read": {"@bob:there.test": made_up}} })).await;
    assert!(!of("@bob:there.test").iter().any(|receipt| receipt.thread.as_deref() == Some("$never:there.test")));
    let odd = json!({"event_ids": [end], "data": {"ts": 1, "thread_id": "no event"}});
    apply(&here, "m.receipt", json!({ room_id.as_str(): {"m.read": {"@bob:there.test": odd}} })).await;
    assert_eq!(of("@bob:there.test").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_may_come_before_its_event() {
    let here = Here::new();
    let (room_id, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("t1", from_ref(&join)).await;
    let message = here.messages(room, &join, 1).remove(0);
    let receipt = json!({"event_ids": [message.event_id], "data": {"ts": 1}});
    let edu = json!({
        "edu_type": "m.receipt",
        "content": { room_id.as_str(): {"m.read": {"@bob:there.test": receipt}} },
    });
    let (status, _) = here.send("t2", here.transaction(from_ref(&message), json!([edu]))).await;
    assert_eq!(status, http::StatusCode::OK);
    here.settle().await;
    let receipts = here.federation.rooms.user_receipts(room, nid(&here, "@bob:there.test")).unwrap();
    assert_eq!(receipts.iter().map(|receipt| &*receipt.event_id).collect::<Vec<_>>(), [message.event_id.as_str()]);
}

#[test]
fn receipts_that_wait_are_bounded_in_number_and_time() {
    use std::time::Duration;
    let parked = ParkedReceipts::default();
    for n in 0..300 {
        parked.park_for_test(RoomNid(1), UserNid(n), "$later", Duration::ZERO);
    }
    assert_eq!(parked.take_for_test(RoomNid(1), Duration::ZERO), 100);
    // A user's newer receipt takes the place of the older.
    parked.park_for_test(RoomNid(1), UserNid(1), "$later", Duration::ZERO);
    parked.park_for_test(RoomNid(1), UserNid(1), "$last", Duration::ZERO);
    assert_eq!(parked.take_for_test(RoomNid(1), Duration::ZERO), 1);
    parked.park_for_test(RoomNid(1), UserNid(1), "$later", Duration::ZERO);
    assert_eq!(parked.take_for_test(RoomNid(1), Duration::from_secs(301)), 0);
    for room in 0..3000 {
        parked.park_for_test(RoomNid(room), UserNid(1), "$later", Duration::ZERO);
    }
    let kept = (0..3000).filter(|room| parked.take_for_test(RoomNid(*room), Duration::ZERO) > 0).count();
    assert_eq!(kept, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_of_users_of_the_server_who_are_in_a_room_here() {
    let here = Here::new();
    joined(&here).await;
    let push = |id: &str| json!({"push": [{"user_id": id, "presence": "online", "last_active_ago": 5, "currently_active": true}]});
    assert!(apply(&here, "m.presence", push("@bob:there.test")).await);
    let presence = here.federation.users.presence(nid(&here, "@bob:there.test")).unwrap();
    assert_eq!((presence.state, presence.currently_active), (PresenceState::Online, true));
    assert!(!apply(&here, "m.presence", push("@alice:here.test")).await, "not its user");
    assert_eq!(here.federation.users.presence(nid(&here, "@alice:here.test")), None);
    apply(&here, "m.presence", push("@nobody:there.test")).await;
    assert_eq!(here.federation.rooms.user_nid(&user("@nobody:there.test")).unwrap(), None, "strangers leave no trace");

    let here = Here::with_config(FederationConfig { presence: false, ..FederationConfig::default() });
    joined(&here).await;
    apply(&here, "m.presence", push("@bob:there.test")).await;
    assert_eq!(here.federation.users.presence(nid(&here, "@bob:there.test")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_users_of_others() {
    let here = Here::new();
    joined(&here).await;
    let message = json!({"sender": "@alice:here.test", "type": "m.x", "message_id": "1", "messages": {}});
    assert!(!apply(&here, "m.direct_to_device", message).await);
    let list = json!({"user_id": "@alice:here.test", "device_id": "D", "stream_id": 1, "prev_id": []});
    assert!(!apply(&here, "m.device_list_update", list).await);
    assert!(!apply(&here, "m.signing_key_update", json!({"user_id": "@alice:here.test"})).await);
    for kind in ["m.direct_to_device", "m.device_list_update", "m.signing_key_update", "m.receipt", "m.presence"] {
        apply(&here, kind, json!({"user_id": 5, "push": 5, "!": []})).await;
    }
    assert!(!apply(&here, "org.example.unknown", json!({})).await);
    assert_eq!(here.federation.inbound.counters.edus_unknown.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_and_receipts_of_one_edu_are_bounded() {
    for (strangers, is_told) in [(499, true), (500, false)] {
        let here = Here::new();
        joined(&here).await;
        let online = |id: String| json!({"user_id": id, "presence": "online"});
        let mut push: Vec<Value> = (0..strangers).map(|n| online(format!("@u{n}:there.test"))).collect();
        push.push(online("@bob:there.test".into()));
        apply(&here, "m.presence", json!({ "push": push })).await;
        assert_eq!(here.federation.users.presence(nid(&here, "@bob:there.test")).is_some(), is_told, "{strangers}");
    }
    for (rooms, is_told) in [(199, true), (200, false)] {
        let here = Here::new();
        let (room_id, room) = joined(&here).await;
        let receipt = json!({"event_ids": [here.ends(room).remove(0)], "data": {"ts": 1}});
        let of_bob = json!({"m.read": {"@bob:there.test": receipt}});
        // Before the room in the order of the object.
        let mut content: serde_json::Map<String, Value> =
            (0..rooms).map(|n| (format!("!!{n}:there.test"), of_bob.clone())).collect();
        content.insert(room_id.as_str().to_owned(), of_bob);
        assert_eq!(content.keys().next_back().map(String::as_str), Some(room_id.as_str()));
        apply(&here, "m.receipt", content.into()).await;
        let receipts = here.federation.rooms.user_receipts(room, nid(&here, "@bob:there.test")).unwrap();
        assert_eq!(!receipts.is_empty(), is_told, "{rooms}");
    }
}

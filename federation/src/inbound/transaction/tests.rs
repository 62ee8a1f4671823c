use std::slice::from_ref;

use http::StatusCode;
use rooms::{CheckedPdu, Draft, Membership};
use serde_json::{Map, Value, json};
use spec::ids::RoomId;
use spec::signing::SigningKey;

use crate::FederationConfig;
use crate::inbound::fixture::{Here, NOW_MS, VERSION, user, wire};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_bounded() {
    let here = Here::new();
    let edu = json!({"edu_type": "m.unknown", "content": {}});
    let many = |count: usize, item: Value| Value::Array(vec![item; count]);
    let body = |pdus, edus| json!({"origin": "there.test", "origin_server_ts": 1, "pdus": pdus, "edus": edus});

    let (status, answer) = here.send("t1", body(many(51, json!({})), json!([]))).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")));
    let (status, answer) = here.send("t2", body(json!([]), many(101, edu.clone()))).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM")));
    let (status, answer) = here.send("t3", body(many(50, json!({})), many(100, edu))).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"pdus": {}})));
    let (status, _) = here.send(&"t".repeat(256), body(json!([]), json!([]))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(here.federation.inbound.counters.edus_unknown.get(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_of_its_origin_and_complete() {
    let here = Here::new();
    let (status, answer) = here.send("t1", json!({"origin": "else.test", "pdus": []})).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
    let (status, answer) = here.send("t2", json!({"pdus": []})).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_MISSING_PARAM")));
    let (status, _) = here.send("t3", json!({"origin": "there.test"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = here.send("t4", json!({"origin": "there.test", "pdus": {}})).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_BAD_JSON")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_limit_is_not_read() {
    let config =
        FederationConfig { max_transaction: runtime::config::ByteSize::kib(16), ..FederationConfig::default() };
    let here = Here::with_config(config);
    let padding = "x".repeat(17 * 1024);
    let (status, answer) = here.send("t1", json!({"origin": "there.test", "pdus": [], "padding": padding})).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("M_TOO_LARGE")));
    let (status, _) = here.send("t2", json!({"origin": "there.test", "pdus": [], "padding": "x"})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_taken_in_whatever_their_order() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    let mut events = here.messages(room, &join, 20);
    events.push(join);
    events.reverse();
    let outcomes = here.deliver("t1", &events).await;
    assert_eq!(outcomes.len(), 21);
    assert!(outcomes.values().all(|outcome| *outcome == json!({})), "{outcomes:?}");
    assert!(events.iter().all(|event| here.has(room, event)));
    assert_eq!(here.ends(room), [events[1].event_id.clone()], "the last message is the only extremity");
    let counters = &here.federation.inbound.counters;
    assert_eq!((counters.accepted.get(), counters.staged.get()), (21, 21));
    assert_eq!(here.peer.take_asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_taken_in_once_and_answered_alike() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    let body = here.transaction(from_ref(&join), json!([]));
    let first = here.send("t1", body.clone()).await;
    assert_eq!(first, (StatusCode::OK, json!({"pdus": { join.event_id.as_str(): {} }})));
    // The id decides, not the content.
    assert_eq!(here.send("t1", here.transaction(&[], json!([]))).await, first);
    // An event on its way from the staged ones into its room may be staged again, which changes nothing.
    here.settle().await;
    let (a, b) = tokio::join!(here.send("t2", body.clone()), here.send("t2", body));
    assert_eq!(a, b);
    here.settle().await;
    assert_eq!(here.federation.inbound.counters.staged.get(), 1);
    // What is here already is no news under another id either.
    assert_eq!(here.deliver("t3", from_ref(&join)).await[join.event_id.as_str()], json!({}));
    assert_eq!(here.federation.inbound.counters.staged.get(), 1);
    assert!(here.federation.inbound.under_way.locks.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_answers_are_forgotten() {
    use storage::Read;
    let here = Here::new();
    let (_, room) = here.room().await;
    let body = here.transaction(&[here.join_of_bob(room)], json!([]));
    here.send("t1", body).await;
    let key = ("there.test".to_owned(), "t1".to_owned());
    let hour = NOW_MS / super::HOUR_MS;
    here.federation.delete_answers(hour).await.unwrap();
    assert!(here.federation.store.contains(&super::ANSWERS, &key).unwrap());
    here.federation.delete_answers(hour + 1).await.unwrap();
    assert!(!here.federation.store.contains(&super::ANSWERS, &key).unwrap());
    assert!(here.federation.store.scan(&super::ANSWERS_BY_HOUR, &()).is_empty().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_three_days() {
    use storage::Read;
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    let take = async |txn_id: &str, event: &std::sync::Arc<spec::pdu::Pdu>| {
        let Value::Object(body) = here.transaction(from_ref(event), json!([])) else { unreachable!() };
        here.federation.take_transaction(here.peer.name.clone(), txn_id.to_owned(), body).await.unwrap();
    };
    take("t1", &join).await;
    here.settle().await;
    let key = ("there.test".to_owned(), "t1".to_owned());
    let is_kept = || here.federation.store.contains(&super::ANSWERS, &key).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    for (hours, number) in [(71, 0), (2, 1)] {
        here.federation.clock.advance(hour * hours);
        // Another transaction with an event is the occasion to look.
        take(&format!("later{number}"), &here.messages(room, &join, 1)[0]).await;
        if number == 0 {
            here.settle().await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert!(is_kept(), "after {hours} hours");
        } else {
            here.until(|| !is_kept()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_the_room_shuts_out_is_told_so_for_each_event() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("t1", from_ref(&join)).await;
    let messages = here.messages(room, &join, 2);
    let acl = json!({"allow": ["*"], "deny": ["there.test"]}).as_object().unwrap().clone();
    let draft = Draft::state(user("@alice:here.test"), "m.room.server_acl", "", acl);
    here.federation.rooms.append(room, vec![draft], None).await.unwrap();
    let outcomes = here.deliver("t2", &messages).await;
    for message in &messages {
        let error = outcomes[message.event_id.as_str()]["error"].as_str().unwrap();
        assert!(error.contains("M_FORBIDDEN"), "{error}");
        assert!(!here.has(room, message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_of_a_room_here_fails_nothing_else() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    let mut foreign = wire(&join);
    foreign["room_id"] = "!elsewhere:there.test".into();
    let mut unsent = wire(&join);
    unsent.as_object_mut().unwrap().remove("sender");
    let mut huge = wire(&join);
    huge["content"]["padding"] = "x".repeat(70_000).into();
    let mut float = wire(&join);
    float["content"]["half"] = json!(0.5);
    let pdus = json!([foreign, unsent, huge, float, 7, {"room_id": 7}, {}, wire(&join)]);
    let body = json!({"origin": "there.test", "origin_server_ts": 1, "pdus": pdus});
    let (status, answer) = here.send("t1", body).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"pdus": { join.event_id.as_str(): {} }})));
    here.settle().await;
    assert!(here.has(room, &join));
    assert_eq!(here.federation.inbound.counters.invalid.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_changed_events_do_not_get_in() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("t1", from_ref(&join)).await;
    // Signed by a key that is not the sender's.
    let mut forged = wire(&here.messages(room, &join, 1)[0]);
    let thief = SigningKey::from_seed([9; 32], "t").unwrap();
    forged.as_object_mut().unwrap().remove("signatures");
    forged["content"]["body"] = "forged".into();
    let Value::Object(mut forged) = forged else { unreachable!() };
    forged.remove("hashes");
    let forged = spec::pdu::Pdu::sign(forged, &here.peer.name, &thief, VERSION.rules()).unwrap();
    // Of a server that never signed it.
    let mut borrowed = wire(&here.messages(room, &join, 1)[0]);
    borrowed["sender"] = "@alice:here.test".into();
    // Changed on the way: it comes in without its content.
    let whole = here.messages(room, &join, 1)[0].clone();
    let mut changed = wire(&whole);
    changed["content"]["body"] = "changed".into();
    let pdus = json!([wire(&forged), borrowed, changed]);
    let (status, _) = here.send("t2", json!({"origin": "there.test", "origin_server_ts": 1, "pdus": pdus})).await;
    assert_eq!(status, StatusCode::OK);
    here.settle().await;
    assert!(!here.has(room, &forged));
    assert_eq!(here.federation.inbound.counters.invalid.get(), 2);
    assert!(here.has(room, &whole), "the redacted event has the same id");
    assert_eq!(here.federation.inbound.counters.accepted.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_taken_back_by_who_gave_it() {
    let here = Here::new();
    let room_id = RoomId::parse("!elsewhere:there.test").unwrap();
    let alice = user("@alice:here.test");
    let member = |sender: &str, membership: &str, depth: u32| {
        here.peer.sign(json!({
            "type": "m.room.member", "room_id": room_id, "sender": sender, "state_key": alice,
            "content": {"membership": membership}, "origin_server_ts": NOW_MS, "depth": depth,
            "prev_events": ["$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], "auth_events": [],
        }))
    };
    let invite = CheckedPdu::of_ours(member("@bob:there.test", "invite", 5));
    here.federation.rooms.receive_invite(invite, VERSION, Vec::new()).await.unwrap();
    let room = here.federation.rooms.known_room(&room_id).unwrap();
    let nid = here.federation.rooms.user_nid(&alice).unwrap().unwrap();
    let membership = || here.federation.rooms.membership(room, nid).unwrap().unwrap().membership;
    assert_eq!(membership(), Membership::Invite);

    let message = json!({
        "type": "m.room.message", "room_id": room_id, "sender": "@bob:there.test", "content": {},
        "origin_server_ts": NOW_MS, "depth": 5, "prev_events": [], "auth_events": [],
    });
    let foreign = member("@mallory:there.test", "leave", 6);
    let old = member("@bob:there.test", "leave", 5);
    for (txn, event) in [("t1", here.peer.sign(message)), ("t2", foreign), ("t3", old)] {
        let outcomes = here.deliver(txn, from_ref(&event)).await;
        assert!(outcomes[event.event_id.as_str()]["error"].is_string(), "{outcomes:?}");
        assert_eq!(membership(), Membership::Invite);
    }
    let leave = member("@bob:there.test", "leave", 6);
    assert_eq!(here.deliver("t4", from_ref(&leave)).await[leave.event_id.as_str()], json!({}));
    assert_eq!(membership(), Membership::Leave);
}

#[test]
fn long_errors_are_cut() {
    let id = spec::ids::EventId::parse("$event").unwrap();
    let outcomes = super::Outcomes::from([(id, Some("ü".repeat(5000)))]);
    let answer: Map<String, Value> = serde_json::from_slice(&super::render_answer(&outcomes)).unwrap();
    assert_eq!(answer["pdus"]["$event"]["error"].as_str().unwrap().chars().count(), 200);
}

//! What an enemy puts into transactions.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use spec::pdu::Pdu;
use spec::xmatrix::XMatrix;
use testkit::sim::wire;

use crate::arena::{Arena, in_each_version};

#[test]
fn nobody_speaks_for_another_server() {
    in_each_version(|arena| {
        let Arena { world, enemy, .. } = &arena;
        let anna = world.users[0].1.as_str().to_owned();
        // An event of a user of another server, signed by the enemy alone.
        let stolen = arena.message("I am anna").with("sender", anna.as_str().into());
        let stolen = arena.sign(stolen);
        // The same with the enemy's signature under the other server's name.
        let mut renamed: Map<String, Value> = serde_json::from_slice(&stolen.json).unwrap();
        let signatures = renamed["signatures"].as_object().unwrap()["evil.test"].clone();
        renamed.insert("signatures".into(), json!({"one.test": signatures}));
        let (status, _) = arena.send(1, vec![wire(&stolen), renamed.into()]);
        assert_eq!(status, StatusCode::OK);
        // A request in another server's name, with the enemy's key.
        let uri = "/_matrix/federation/v1/send/stolen";
        let body = json!({"origin": "one.test", "origin_server_ts": 1, "pdus": [], "edus": []});
        let one = arena.name(0);
        let forged = XMatrix::sign(&enemy.key, &one, &arena.name(1), "PUT", uri, body.as_object());
        let status = arena.ask_as(1, Method::PUT, uri, body.clone(), &forged.to_header());
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        // A request of the enemy's own that another server is named in.
        let (status, answer) = arena.ask(1, Method::PUT, uri, Some(body.clone()));
        assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
        // A request that was meant for another server.
        let elsewhere = XMatrix::sign(&enemy.key, &enemy.name, &arena.name(2), "PUT", uri, body.as_object());
        let status = arena.ask_as(1, Method::PUT, uri, body, &elsewhere.to_header());
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        arena.end(&[&stolen.event_id]);
    });
}

#[test]
fn a_changed_event_is_redacted_and_nothing_else() {
    in_each_version(|arena| {
        let event = arena.sign(arena.message("as it was"));
        let mut changed = wire(&event);
        changed["content"]["body"] = "as it never was".into();
        arena.send(1, vec![changed]);
        arena.send_events(0, &[&event]);
        arena.end(&[]);
        for picture in arena.world.pictures() {
            let stored = &picture.events[event.event_id.as_str()];
            assert!(!stored.content.contains("never"), "{} believed {}", picture.server, stored.content);
        }
    });
}

#[test]
fn what_is_too_large_or_malformed_is_dropped_alone() {
    in_each_version(|arena| {
        let good = arena.sign(arena.message("the only good one"));
        let large = arena.message(&"x".repeat(70_000)).into_object();
        let many: Vec<String> = (0..30).map(|n| format!("$prev{n}{}", "A".repeat(38))).collect();
        let too_many_prev = arena.message("too many").with("prev_events", json!(many)).into_object();
        let too_many_auth = arena.message("too many").with("auth_events", json!(many)).into_object();
        let long_type = arena.event(&"t".repeat(300), None, json!({})).into_object();
        let float = arena.message("a float").with("depth", json!(1.5)).into_object();
        let negative = arena.message("negative").with("depth", json!(-1)).into_object();
        let beyond = arena.message("beyond").with("depth", json!(9_007_199_254_740_993_u64)).into_object();
        let no_sender = arena.message("nobody").with("sender", Value::Null).into_object();
        let no_content = arena.message("nothing").with("content", json!([1])).into_object();
        let deep = (0..100).fold(json!("bottom"), |inner, _| json!([inner]));
        let deep = arena.message("deep").with("content", json!({"deep": deep})).into_object();
        let bad =
            [large, too_many_prev, too_many_auth, long_type, float, negative, beyond, no_sender, no_content, deep];
        let mut pdus: Vec<Value> = bad.iter().map(|object| sign_anything(&arena, object.clone())).collect();
        pdus.extend([json!(17), json!("event"), json!({}), json!({"room_id": arena.world.room.as_str()}), Value::Null]);
        pdus.push(wire(&good));
        let (status, answer) = arena.send(1, pdus);
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert!(arena.has_accepted(1, &good.event_id), "the good one among them is taken in");
        let before = arena.world.pictures();
        let of_enemy = |picture: &testkit::sim::Picture| {
            let messages = picture.events.values().filter(|event| event.kind != "m.room.member");
            messages.filter(|event| event.sender.ends_with(":evil.test") && event.flags.is_visible()).count()
        };
        let counts: Vec<usize> = before.iter().map(of_enemy).collect();
        assert!(counts.iter().all(|count| *count <= 2), "only the good one and the deep one may come in: {counts:?}");
        arena.end(&[]);
    });
}

/// Hashes and signs what may be no event at all.
fn sign_anything(arena: &Arena, mut object: Map<String, Value>) -> Value {
    let hash = spec::hash::content_hash(&object);
    object.insert("hashes".into(), json!({"sha256": hash}));
    let mut redacted = spec::redact::redact_event(&object, arena.version().rules());
    arena.enemy.key.sign_json(&mut redacted, arena.enemy.name.as_str()).unwrap();
    object.insert("signatures".into(), redacted["signatures"].clone());
    object.into()
}

#[test]
fn a_transaction_out_of_bounds_is_refused() {
    in_each_version(|arena| {
        let event = wire(&arena.sign(arena.message("again and again")));
        let (status, _) = arena.send(1, vec![event.clone(); 51]);
        assert_eq!(status, StatusCode::BAD_REQUEST, "51 events");
        let edu = json!({"edu_type": "m.typing", "content": {}});
        let body = |pdus: Value, edus: Value| json!({"origin": "evil.test", "origin_server_ts": 1, "pdus": pdus, "edus": edus});
        let put = |name: &str, body: Value| {
            let uri = format!("/_matrix/federation/v1/send/{name}");
            arena.ask(1, Method::PUT, &uri, Some(body)).0
        };
        assert_eq!(put("a", body(json!([]), json!(vec![edu; 101]))), StatusCode::BAD_REQUEST, "101 EDUs");
        assert_eq!(put("b", body(json!({}), json!([]))), StatusCode::BAD_REQUEST, "no list");
        assert_eq!(put("c", json!({"origin": "evil.test"})), StatusCode::BAD_REQUEST, "no events at all");
        let huge = "x".repeat(9 * 1024 * 1024);
        assert_eq!(put("d", body(json!([]), json!([huge]))), StatusCode::PAYLOAD_TOO_LARGE, "too many bytes");
        assert_eq!(put(&"n".repeat(300), body(json!([]), json!([]))), StatusCode::BAD_REQUEST, "a long id");
        arena.end(&[]);
    });
}

#[test]
fn a_transaction_is_carried_out_once() {
    in_each_version(|arena| {
        let (first, second) = (arena.sign(arena.message("first")), arena.sign(arena.message("second")));
        let body =
            |event: &Pdu| json!({"origin": "evil.test", "origin_server_ts": 1, "pdus": [wire(event)], "edus": []});
        let uri = "/_matrix/federation/v1/send/same";
        let (_, answer) = arena.ask(1, Method::PUT, uri, Some(body(&first)));
        let (_, again) = arena.ask(1, Method::PUT, uri, Some(body(&second)));
        assert_eq!(answer, again, "the second request is taken for a repetition");
        arena.settle();
        assert!(arena.has_accepted(1, &first.event_id) && !arena.has_accepted(1, &second.event_id));
        arena.end(&[&second.event_id]);
    });
}

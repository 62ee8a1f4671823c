//! Floods, sizes and odd content.

use axum::body::Body;
use client_api::RateLimitsConfig;
use http::Method;
use runtime::config::RateLimit;
use serde_json::{Value, json};

use crate::server::{run, run_with};

#[test]
fn floods_are_slowed_down() {
    let limits = RateLimitsConfig {
        message: RateLimit::new(1.0, 3),
        login: RateLimit::new(0.5, 2),
        ..RateLimitsConfig::default()
    };
    run_with(limits, async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        for txn in 0..3 {
            alice.say(&room, &txn.to_string(), "hello").await;
        }
        let path = format!("rooms/{room}/send/m.room.message/4");
        let reply = alice.put(&path, json!({"body": "x"})).await;
        let body = reply.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(body["retry_after_ms"], 1000);
        assert_eq!(reply.headers["retry-after"], "1");
        // Others are not slowed down, and reading never is.
        alice.get("account/whoami").await.ok();
        server.clock.advance(std::time::Duration::from_secs(1));
        alice.put(&path, json!({"body": "x"})).await.ok();
        let attempt =
            json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "nobody"}, "password": "x"});
        for _ in 0..2 {
            server.post("/_matrix/client/v3/login", attempt.clone()).await.refused(403, "M_FORBIDDEN");
        }
        server.post("/_matrix/client/v3/login", attempt).await.refused(429, "M_LIMIT_EXCEEDED");
    });
}

#[test]
fn events_that_are_too_large_are_refused() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let path = format!("rooms/{room}/send/m.room.message/large");
        alice.put(&path, json!({"body": "x".repeat(65_536)})).await.refused(413, "M_TOO_LARGE");
        alice.put(&path, json!({"body": "x".repeat(300_000)})).await.refused(413, "M_TOO_LARGE");
        alice.put(&path, json!({"body": "x".repeat(60_000)})).await.ok();
        let state = format!("rooms/{room}/state/com.example/{}", "k".repeat(300));
        alice.put(&state, json!({})).await.refused(413, "M_TOO_LARGE");
        let kind = format!("rooms/{room}/send/{}/1", "t".repeat(256));
        alice.put(&kind, json!({})).await.refused(413, "M_TOO_LARGE");
        let txn = format!("rooms/{room}/send/m.room.message/{}", "t".repeat(300));
        alice.put(&txn, json!({})).await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn odd_numbers_and_nesting_are_refused() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let path = format!("rooms/{room}/send/m.room.message/odd");
        let put = async |body: &str| alice.call(Method::PUT, &path, body.to_owned()).await;
        for body in [r#"{"n":1.5}"#, r#"{"n":9007199254740992}"#, r#"{"n":-9007199254740992}"#, r#"{"n":1e3}"#] {
            put(body).await.refused(400, "M_BAD_JSON");
        }
        for body in [r#"{"n":1e999}"#, "{\"n\":\"\u{1}\"}", r#"{"a":"\ud800"}"#, "{\"a\":1}}"] {
            assert_eq!(put(body).await.status, 400, "{body}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(put(&deep).await.status, 400);
        put(r#"{"n":9007199254740991,"text":"\u0000 \ud83d\ude00","dup":1,"dup":2}"#).await.ok();
    });
}

#[test]
fn strange_content_comes_back_as_it_was() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let content = json!({"body": "\u{0}\u{1f}\"\\/\u{7f}\u{2028}😀", "nested": {"a": [null, true, -1, {"": ""}]}});
        let path = format!("rooms/{room}/send/com.example.%2F%20odd/a%2Fb");
        let event = alice.put(&path, content.clone()).await.ok()["event_id"].as_str().unwrap().to_owned();
        let stored = alice.get(&format!("rooms/{room}/event/{event}")).await.ok();
        assert_eq!(stored["content"], content);
        assert_eq!(stored["type"], "com.example./ odd");
        assert_eq!(stored["unsigned"]["transaction_id"], "a/b");
    });
}

#[test]
fn a_body_that_is_announced_too_large_is_not_read() {
    run(async |server| {
        let alice = server.register("alice").await;
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 1 << 16]));
        let reply = alice.call(Method::POST, "createRoom", Body::from_stream(endless)).await;
        reply.refused(413, "M_TOO_LARGE");
        let body: Value = alice.get("capabilities").await.ok();
        assert_eq!(body["capabilities"]["m.room_versions"]["available"].as_object().unwrap().len(), 14);
    });
}

#[test]
fn what_is_told_to_many_or_costs_much_is_limited() {
    let limits = RateLimitsConfig {
        profile: RateLimit::new(0.1, 2),
        initial_sync: RateLimit::new(0.1, 2),
        events: RateLimit::new(0.1, 2),
        ..RateLimitsConfig::default()
    };
    run_with(limits, async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let field = "profile/@alice:hs.test/m.status";
        alice.put(field, json!({"m.status": 1})).await.ok();
        alice.delete(field, json!({})).await.ok();
        alice.put(field, json!({"m.status": 2})).await.refused(429, "M_LIMIT_EXCEEDED");
        alice.delete(field, json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        alice.get("initialSync").await.ok();
        alice.get(&format!("rooms/{room}/initialSync")).await.ok();
        for path in ["initialSync".to_owned(), format!("rooms/{room}/initialSync")] {
            alice.get(&path).await.refused(429, "M_LIMIT_EXCEEDED");
        }
        alice.get("events?timeout=0").await.ok();
        alice.get(&format!("events?timeout=0&room_id={room}")).await.ok();
        alice.get("events?timeout=0").await.refused(429, "M_LIMIT_EXCEEDED");
        server.register("bob").await.get("events?timeout=0").await.ok();
    });
}

#[test]
fn delayed_events_are_limited_by_owner_and_guesses_by_address() {
    let limits = RateLimitsConfig { delayed_events: RateLimit::new(0.1, 3), ..RateLimitsConfig::default() };
    run_with(limits, async |server| {
        let unstable = "/_matrix/client/unstable/org.matrix.msc4140";
        let mut ids = Vec::new();
        for name in ["alice", "bob"] {
            let user = server.register(name).await;
            let room = user.create_room(json!({})).await;
            let path = format!("rooms/{room}/send/com.example/1?org.matrix.msc4140.delay=60000");
            ids.push(user.put(&path, json!({})).await.ok()["delay_id"].as_str().unwrap().to_owned());
        }
        let restart = async |id: &str| server.post(&format!("{unstable}/delayed_events/{id}/restart"), json!({})).await;
        // A service restarts the events of many users, all from one address.
        for id in &ids {
            for _ in 0..3 {
                restart(id).await.ok();
            }
            restart(id).await.refused(429, "M_LIMIT_EXCEEDED");
        }
        for _ in 0..3 {
            restart("unknown").await.refused(404, "M_NOT_FOUND");
        }
        restart("unknown").await.refused(429, "M_LIMIT_EXCEEDED");
        restart("others").await.refused(429, "M_LIMIT_EXCEEDED");
    });
}

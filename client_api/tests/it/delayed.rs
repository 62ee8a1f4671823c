//! Delayed events as clients use them (MSC4140).

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Client, Server, eventually, run};

const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.msc4140";
const DELAY: &str = "org.matrix.msc4140.delay";

async fn scheduled(user: &Client<'_>) -> Vec<Value> {
    let list = user.get(&format!("{UNSTABLE}/delayed_events")).await.ok();
    list["delayed_events"].as_array().unwrap().clone()
}

async fn delay_state(user: &Client<'_>, room: &str, key: &str, ms: u64) -> String {
    let path = format!("rooms/{room}/state/com.example/{key}?{DELAY}={ms}");
    let reply = user.put(&path, json!({"set": "later"})).await.ok();
    assert!(reply.get("event_id").is_none());
    reply["delay_id"].as_str().unwrap().to_owned()
}

/// Runs the task that sends while `work` runs.
async fn while_sending(server: &Server, work: impl Future<Output = ()>) {
    tokio::select! {
        () = server.rooms.run_delayed_events(|_| true) => unreachable!(),
        () = work => {}
    }
}

async fn eventually_scheduled(user: &Client<'_>, count: usize) {
    eventually("what is scheduled", async || scheduled(user).await.len() == count).await;
}

#[test]
fn messages_and_state_are_scheduled_by_an_argument() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let path = format!("rooms/{room}/send/com.example/txn?{DELAY}=700");
        let id = alice.put(&path, json!({"count": 1})).await.ok()["delay_id"].clone();
        // Again, as after a lost answer, even without the body.
        assert_eq!(alice.call(http::Method::PUT, &path, "").await.ok()["delay_id"], id);
        delay_state(&alice, &room, "key", 900).await;
        let list = scheduled(&alice).await;
        assert_eq!(list.len(), 2);
        assert_eq!((&list[0]["delay_id"], &list[0]["content"]), (&id, &json!({"count": 1})));
        assert_eq!((&list[0]["delay"], &list[0]["delay_ms"]), (&json!(700), &json!(700)));
        assert_eq!(list[0]["running_since"], list[0]["delayed_since_ts"]);
        assert_eq!((&list[1]["state_key"], &list[1]["room_id"]), (&json!("key"), &json!(room)));
        assert!(scheduled(&bob).await.is_empty());
        server.get(&format!("{UNSTABLE}/delayed_events")).await.refused(401, "M_MISSING_TOKEN");
        let state = format!("rooms/{room}/state/com.example/key");
        alice.get(&state).await.refused(404, "M_NOT_FOUND");
        while_sending(&server, async {
            server.clock.advance(Duration::from_millis(1000));
            eventually_scheduled(&alice, 0).await;
        })
        .await;
        assert_eq!(alice.get(&state).await.ok(), json!({"set": "later"}));
        let lookup = format!("/_matrix/client/v1/delayed_events/{}", id.as_str().unwrap());
        let ended = alice.get(&lookup).await.ok();
        bob.get(&lookup).await.refused(404, "M_NOT_FOUND");
        assert!(ended["finalised"]["finalised_ts"].is_u64() && ended["finalised"].get("error").is_none());
        let event = format!("rooms/{room}/event/{}", ended["finalised"]["event_id"].as_str().unwrap());
        let event = async |user: &Client<'_>| user.get(&event).await.ok();
        let seen = event(&alice).await;
        assert_eq!(seen["content"], json!({"count": 1}));
        assert_eq!(seen["unsigned"]["org.matrix.msc4140.delay_id"], id);
        assert!(seen["unsigned"].get("transaction_id").is_none());
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        assert!(event(&bob).await["unsigned"].get("org.matrix.msc4140.delay_id").is_none());
    });
}

#[test]
fn whoever_knows_the_id_may_act_but_no_other_user() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let id = delay_state(&alice, &room, "a", 60_000).await;
        let act = |action: &str| format!("{UNSTABLE}/delayed_events/{id}/{action}");
        server.post(&act("restart"), json!({})).await.ok();
        server.post(&act("oops"), json!({})).await.refused(404, "M_UNRECOGNIZED");
        bob.post(&act("cancel"), json!({})).await.refused(404, "M_NOT_FOUND");
        alice.post(&act("restart"), json!({})).await.ok();
        for action in ["restart", "cancel", "send"] {
            let unknown = format!("{UNSTABLE}/delayed_events/abc/{action}");
            server.post(&unknown, json!({})).await.refused(404, "M_NOT_FOUND");
        }
        let stable = |action: &str| format!("/_matrix/client/v1/delayed_events/{id}/{action}");
        server.post(&stable("cancel"), json!({})).await.refused(401, "M_MISSING_TOKEN");
        bob.post(&stable("cancel"), json!({})).await.refused(404, "M_NOT_FOUND");
        // The oldest form: the action in the body.
        let older = format!("{UNSTABLE}/delayed_events/{id}");
        server.post(&older, json!({})).await.refused(400, "M_BAD_JSON");
        server.post(&older, json!({"action": "send"})).await.ok();
        assert_eq!(alice.get(&format!("rooms/{room}/state/com.example/a")).await.ok()["set"], "later");
        alice.post(&stable("send"), json!({})).await.ok();
        alice.post(&stable("cancel"), json!({})).await.refused(409, "M_UNKNOWN");
        alice.post(&stable("restart"), json!({})).await.refused(409, "M_UNKNOWN");
        // Clients of the unstable paths look for this, and schedule another one.
        server.post(&act("restart"), json!({})).await.refused(404, "M_NOT_FOUND");
        server.post(&act("send"), json!({})).await.ok();
    });
}

#[test]
fn the_endpoint_of_its_own_takes_messages_and_state() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let stable = format!("rooms/{room}/delayed_event/com.example");
        let body = json!({"delay_ms": 60_000, "content": {"a": 1}, "state_key": ""});
        let first = alice.put(&format!("{stable}/1"), body.clone()).await.ok();
        assert_eq!(alice.put(&format!("{stable}/1"), body.clone()).await.ok(), first);
        let unstable = format!("{UNSTABLE}/rooms/{room}/delayed_event/com.example/2");
        assert_ne!(alice.put(&unstable, body).await.ok(), first);
        assert_eq!(scheduled(&alice).await[0]["state_key"], "");
        let put = async |body: Value| alice.put(&format!("{stable}/3"), body).await;
        put(json!({"content": {}})).await.refused(400, "M_MISSING_PARAM");
        put(json!({"delay_ms": 5})).await.refused(400, "M_MISSING_PARAM");
        put(json!({"delay_ms": 0, "content": {}})).await.refused(400, "M_INVALID_PARAM");
        put(json!({"delay_ms": -5, "content": {}})).await.refused(400, "M_BAD_JSON");
        let refused = put(json!({"delay_ms": 86_400_001, "content": {}})).await.refused(400, "M_UNKNOWN");
        assert_eq!(refused["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
        assert_eq!(refused["org.matrix.msc4140.max_delay"], 86_400_000);
        let zero = format!("rooms/{room}/send/com.example/4?{DELAY}=0");
        alice.put(&zero, json!({})).await.refused(400, "M_INVALID_PARAM");
        let member = format!("rooms/{room}/state/m.room.member/{}?{DELAY}=5", alice.user_id);
        alice.put(&member, json!({"membership": "join"})).await.refused(400, "M_INVALID_PARAM");
        alice.put(&member, json!({"membership": "leave"})).await.ok();
        let capabilities = alice.get("capabilities").await.ok();
        let limits = json!({"max_delay_ms": 86_400_000, "max_scheduled": 100});
        assert_eq!(capabilities["capabilities"]["m.delayed_events"], limits);
        assert_eq!(capabilities["capabilities"]["org.matrix.msc4140.delayed_events"], limits);
        let versions = server.get("/_matrix/client/versions").await.ok();
        assert_eq!(versions["unstable_features"]["org.matrix.msc4140"], true);
    });
}

#[test]
fn suspended_accounts_send_nothing_by_others_either() {
    run(async |server| {
        let (admin, alice) = (server.register("admin").await, server.register("alice").await);
        let room = alice.create_room(json!({})).await;
        let id = delay_state(&alice, &room, "a", 60_000).await;
        let path = format!("/_matrix/client/v1/admin/suspend/{}", alice.user_id);
        admin.put(&path, json!({"suspended": true})).await.ok();
        let send = format!("{UNSTABLE}/delayed_events/{id}/send");
        server.post(&send, json!({})).await.refused(403, "M_FORBIDDEN");
        server.post(&format!("{UNSTABLE}/delayed_events/{id}/cancel"), json!({})).await.ok();
    });
}

#[test]
fn deactivated_accounts_leave_nothing_scheduled() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let id = delay_state(&alice, &room, "a", 60_000).await;
        alice.post("account/deactivate", json!({"auth": alice.password()})).await.ok();
        let send = format!("{UNSTABLE}/delayed_events/{id}/send");
        server.post(&send, json!({})).await.refused(403, "M_FORBIDDEN");
        let event = server.rooms.delayed_event(&id).unwrap().unwrap();
        assert!(matches!(event.outcome, Some(rooms::DelayedOutcome::Cancelled { .. })), "{event:?}");
    });
}

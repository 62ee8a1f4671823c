//! Sending in a room that uses a policy server: what the client is told.

use serde_json::json;

use crate::elsewhere::policy_key;
use crate::server::{Client, Server, run};

/// A room that names this server as policy server: its creator is in it.
async fn guarded_room(server: &Server, alice: &Client<'_>) -> String {
    let room = alice.create_room(json!({})).await;
    let content = json!({"via": "hs.test", "public_keys": {"ed25519": policy_key().public_base64()}});
    alice.put(&format!("rooms/{room}/state/m.room.policy"), content).await.ok();
    assert!(server.elsewhere.take_asked().is_empty());
    room
}

#[test]
fn what_the_policy_server_signs_is_sent() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = guarded_room(&server, &alice).await;
        let path = format!("rooms/{room}/send/m.room.message/t1");
        let sent = alice.put(&path, json!({"body": "hello", "msgtype": "m.text"})).await.ok();
        assert_eq!(server.elsewhere.take_asked(), ["sign hs.test m.room.message"]);
        // Again: the same event, and nobody is asked.
        assert_eq!(alice.put(&path, json!({"body": "hello", "msgtype": "m.text"})).await.ok(), sent);
        assert!(server.elsewhere.take_asked().is_empty());
        alice.put(&format!("rooms/{room}/state/m.room.topic"), json!({"topic": "t"})).await.ok();
        let id = sent["event_id"].as_str().unwrap();
        alice.put(&format!("rooms/{room}/redact/{id}/t2"), json!({})).await.ok();
        let asked = ["sign hs.test m.room.topic", "sign hs.test m.room.redaction"];
        assert_eq!(server.elsewhere.take_asked(), asked);
    });
}

#[test]
fn a_refusal_reaches_the_client_as_it_is() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = guarded_room(&server, &alice).await;
        let send = |n: usize| {
            let path = format!("rooms/{room}/send/m.room.message/t{n}");
            let alice = &alice;
            async move { alice.put(&path, json!({"body": "x", "msgtype": "m.text"})).await }
        };
        let refusals = [
            ((400, "M_FORBIDDEN"), (400, "M_FORBIDDEN")),
            ((403, "M_FORBIDDEN"), (403, "M_FORBIDDEN")),
            ((404, "M_NOT_FOUND"), (404, "M_NOT_FOUND")),
            ((429, "M_LIMIT_EXCEEDED"), (429, "M_LIMIT_EXCEEDED")),
            ((400, "ORG.EXAMPLE_SPAM"), (400, "ORG.EXAMPLE_SPAM")),
            // Its troubles are not the client's, and the client's session is not its business.
            ((500, "M_UNKNOWN"), (502, "M_UNKNOWN")),
            ((200, "M_FORBIDDEN"), (502, "M_FORBIDDEN")),
            ((401, "M_UNKNOWN_TOKEN"), (502, "M_FORBIDDEN")),
            ((403, "M_USER_LOCKED"), (403, "M_FORBIDDEN")),
        ];
        for (n, (said, (status, errcode))) in refusals.into_iter().enumerate() {
            *server.elsewhere.policy.lock().unwrap() = Some(Some(said));
            let reply = send(n).await;
            assert_eq!(reply.json()["error"], "not like this");
            // When it may be tried again is told along.
            let retry = (said.0 == 429).then_some(2500);
            assert_eq!(reply.json()["retry_after_ms"].as_u64(), retry);
            reply.refused(status, errcode);
        }
        *server.elsewhere.policy.lock().unwrap() = Some(None);
        send(100).await.refused(502, "M_UNKNOWN");
        let page = alice.get(&format!("rooms/{room}/messages?dir=b&limit=50")).await.ok();
        let events = page["chunk"].as_array().unwrap();
        assert!(events.iter().all(|event| event["type"] != "m.room.message"), "{page}");
        // What was refused may be tried again, under the same transaction id.
        *server.elsewhere.policy.lock().unwrap() = None;
        send(0).await.ok();
    });
}

#[test]
fn an_upgrade_that_this_servers_policy_server_refuses_leaves_nobody_behind() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = guarded_room(&server, &alice).await;
        *server.elsewhere.policy.lock().unwrap() = Some(Some((400, "M_FORBIDDEN")));
        // The successor is asked for as the room is: its creator is of the policy server.
        let upgrade = alice.post(&format!("rooms/{room}/upgrade"), json!({"new_version": "12"})).await;
        upgrade.refused(400, "M_FORBIDDEN");
        let joined = alice.get("joined_rooms").await.ok();
        assert_eq!(joined["joined_rooms"], json!([room]));
    });
}

#[test]
fn nobody_is_told_that_this_server_is_a_policy_server() {
    run(async |server| {
        server.get("/.well-known/matrix/policy_server").await.refused(404, "M_UNRECOGNIZED");
    });
}

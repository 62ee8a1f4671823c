//! Keys of devices.

use serde_json::{Value, json};

use crate::server::{Client, run};

fn device_keys(user: &str, device: &str) -> Value {
    json!({
        "user_id": user, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {format!("curve25519:{device}"): "k"}, "signatures": {user: {format!("ed25519:{device}"): "s"}},
    })
}

async fn upload(client: &Client<'_>) {
    client.post("keys/upload", json!({"device_keys": device_keys(&client.user_id, &client.device_id)})).await.ok();
}

#[test]
fn keys_are_of_the_device_that_uploads_them() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        for (user, device) in [(&bob.user_id, &alice.device_id), (&alice.user_id, &bob.device_id)] {
            let reply = alice.post("keys/upload", json!({"device_keys": device_keys(user, device)})).await;
            assert_eq!(reply.status, 400, "{}", String::from_utf8_lossy(&reply.bytes));
        }
        let broken = json!({"device_keys": {"algorithms": ["x"]}});
        alice.post("keys/upload", broken).await.refused(400, "M_BAD_JSON");
        upload(&alice).await;
        let asked = json!({"device_keys": {&alice.user_id: {}}});
        alice.post("keys/query", asked).await.refused(400, "M_BAD_JSON");
        let asked = json!({"device_keys": {&alice.user_id: {&alice.device_id: []}}});
        alice.post("keys/query", asked).await.refused(400, "M_BAD_JSON");
        let asked = json!({"device_keys": {&alice.user_id: []}});
        let found = bob.post("keys/query", asked).await.ok();
        let device = &found["device_keys"][&alice.user_id][&alice.device_id];
        assert_eq!(device["keys"], json!({format!("curve25519:{}", alice.device_id): "k"}));
    });
}

#[test]
fn one_time_keys_are_counted_claimed_and_uploaded_again() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let key = |value: &str| json!({"key": value, "signatures": {&alice.user_id: {"ed25519:X": "s"}}});
        let keys = json!({"signed_curve25519:AAAA": key("a"), "signed_curve25519:AAAB": key("b")});
        for _ in 0..2 {
            let counts = alice.post("keys/upload", json!({"one_time_keys": keys})).await.ok();
            assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
        }
        // The same key beside a new one is fine, another key of the same name is not.
        let more = json!({"signed_curve25519:AAAB": key("b"), "signed_curve25519:AAAC": key("c")});
        let counts = alice.post("keys/upload", json!({"one_time_keys": more})).await.ok();
        assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 3);
        let other = json!({"signed_curve25519:AAAB": key("other")});
        assert_eq!(alice.post("keys/upload", json!({"one_time_keys": other})).await.status, 400);
        for (id, value) in [("AAAA", "a"), ("AAAB", "b"), ("AAAC", "c")] {
            let claim = json!({"one_time_keys": {&alice.user_id: {&alice.device_id: "signed_curve25519"}}});
            let claimed = bob.post("keys/claim", claim).await.ok();
            let name = format!("signed_curve25519:{id}");
            assert_eq!(claimed["one_time_keys"][&alice.user_id][&alice.device_id][&name]["key"], value);
        }
        assert_eq!(alice.sync("").await["device_one_time_keys_count"]["signed_curve25519"].as_u64().unwrap_or(0), 0);
    });
}

#[test]
fn a_new_device_with_keys_is_told_to_those_who_share_a_room() {
    run(async |server| {
        let (alice, bob, carol) =
            (server.register("alice").await, server.register("bob").await, server.register("carol").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.join(&room).await;
        upload(&alice).await;
        let (since, elsewhere) = (bob.now().await, carol.now().await);
        let again = alice.other_device().await;
        upload(&again).await;
        let told = bob.sync(&format!("since={since}")).await;
        assert_eq!(told["device_lists"]["changed"], json!([alice.user_id]), "{told}");
        let to = told["next_batch"].as_str().unwrap();
        let changes = bob.get(&format!("keys/changes?from={since}&to={to}")).await.ok();
        assert_eq!(changes["changed"], json!([alice.user_id]));
        let told = carol.sync(&format!("since={elsewhere}")).await;
        assert!(told["device_lists"].get("changed").is_none_or(|changed| changed == &json!([])), "{told}");
        // Also when the device goes.
        again.post("logout", json!({})).await.ok();
        let told = bob.sync(&format!("since={to}")).await;
        assert_eq!(told["device_lists"]["changed"], json!([alice.user_id]), "{told}");
    });
}

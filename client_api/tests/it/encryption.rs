//! Cross-signing, signatures, key backups and devices, as clients use them.

use serde_json::{Map, Value, json};
use spec::signing::{SigningKey, signed_bytes};

use crate::server::{Client, run};

/// A key pair by number; the same number gives the same pair.
fn pair(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32], "x").unwrap()
}

fn sign(object: &Value, user: &str, signer: &SigningKey) -> Value {
    let mut object: Map<String, Value> = object.as_object().unwrap().clone();
    let signature = signer.sign(&signed_bytes(&object));
    object.insert("signatures".into(), json!({user: {format!("ed25519:{}", signer.public_base64()): signature}}));
    object.into()
}

fn cross_key(user: &str, usage: &str, number: u8) -> Value {
    let public = pair(number).public_base64();
    json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{public}"): public}})
}

/// Three keys of a user, from one number on.
fn cross_keys(user: &str, first: u8) -> Value {
    json!({
        "master_key": cross_key(user, "master", first),
        "self_signing_key": sign(&cross_key(user, "self_signing", first + 1), user, &pair(first)),
        "user_signing_key": sign(&cross_key(user, "user_signing", first + 2), user, &pair(first)),
    })
}

async fn upload_device(client: &Client<'_>, number: u8) -> Value {
    let (user, device) = (&client.user_id, &client.device_id);
    let keys = json!({
        "user_id": user, "device_id": device, "algorithms": ["m.olm.v1"], "signatures": {},
        "keys": {format!("ed25519:{device}"): pair(number).public_base64()},
    });
    client.post("keys/upload", json!({"device_keys": keys})).await.ok();
    json!({"user_id": user, "device_id": device, "algorithms": ["m.olm.v1"], "keys": keys["keys"]})
}

#[test]
fn devices_are_signed_by_the_keys_of_their_user() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let device = upload_device(&alice, 9).await;
        alice.post("keys/device_signing/upload", cross_keys(&alice.user_id, 1)).await.ok();
        alice.post("keys/device_signing/upload", cross_keys(&alice.user_id, 1)).await.ok();
        let mut changed = cross_keys(&alice.user_id, 4);
        assert_eq!(alice.post("keys/device_signing/upload", changed.clone()).await.status, 401);
        let signed = sign(&device, &alice.user_id, &pair(2));
        let upload = json!({&alice.user_id: {&alice.device_id: signed, "UNKNOWN": signed}});
        let failures = alice.post("keys/signatures/upload", upload).await.ok()["failures"].clone();
        let failed: Vec<&String> = failures[&alice.user_id].as_object().unwrap().keys().collect();
        assert_eq!(failed, ["UNKNOWN"]);
        let found = bob.post("keys/query", json!({"device_keys": {&alice.user_id: []}})).await.ok();
        let seen = &found["device_keys"][&alice.user_id][&alice.device_id]["signatures"];
        assert_eq!(seen[&alice.user_id], signed["signatures"][&alice.user_id]);
        assert_eq!(found["master_keys"][&alice.user_id]["usage"], json!(["master"]));
        assert!(found["user_signing_keys"].get(&alice.user_id).is_none(), "that key is for its owner");
        changed["auth"] = alice.password();
        alice.post("keys/device_signing/upload", changed).await.ok();
    });
}

#[test]
fn devices_are_deleted_together() {
    run(async |server| {
        let alice = server.register("alice").await;
        let mut others = Vec::new();
        for _ in 0..2 {
            others.push(server.client(&server.post("/_matrix/client/v3/login", alice.password()).await.ok()));
        }
        let ids: Vec<&str> = others.iter().map(|other| other.device_id.as_str()).collect();
        assert_eq!(alice.post("delete_devices", json!({"devices": ids})).await.status, 401);
        alice.post("delete_devices", json!({"devices": ids, "auth": alice.password()})).await.ok();
        for other in &others {
            other.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        }
        assert_eq!(alice.get("devices").await.ok()["devices"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn key_backups_are_filled_and_emptied_at_once() {
    run(async |server| {
        let alice = server.register("alice").await;
        let created = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "k"}});
        let version = alice.post("room_keys/version", created).await.ok()["version"].as_str().unwrap().to_owned();
        let key = |first: u32| json!({"first_message_index": first, "forwarded_count": 0, "is_verified": false, "session_data": {}});
        let one = json!({"sessions": {"s1": key(0), "s2": key(5)}});
        let keys = json!({"rooms": {"!a:hs.test": one, "!b:hs.test": {"sessions": {"s3": key(1)}}}});
        assert_eq!(alice.put(&format!("room_keys/keys?version={version}"), keys).await.ok()["count"], 3);
        let earlier = json!({"sessions": {"s2": key(2)}});
        let room = format!("room_keys/keys/!a:hs.test?version={version}");
        assert_eq!(alice.put(&room, earlier).await.ok()["count"], 3, "a key from further back replaces the other");
        assert_eq!(alice.get(&room).await.ok()["sessions"]["s2"], key(2));
        let changed = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "l"}});
        alice.put(&format!("room_keys/version/{version}"), changed).await.ok();
        let current = alice.get("room_keys/version").await.ok();
        assert_eq!((&current["version"], &current["auth_data"]["public_key"]), (&json!(version), &json!("l")));
        assert_eq!(alice.get(&format!("room_keys/version/{version}")).await.ok(), current);
        assert_eq!(alice.delete(&room, json!({})).await.ok()["count"], 1);
        assert_eq!(alice.delete(&format!("room_keys/keys?version={version}"), json!({})).await.ok()["count"], 0);
    });
}

//! What users take along when a room is replaced.

use serde_json::{Value, json};

use crate::server::{Client, run};

async fn rule(client: &Client<'_>, room: &str) -> Option<Value> {
    let reply = client.get(&format!("pushrules/global/room/{room}")).await;
    (reply.status == 200).then(|| reply.json()["actions"].clone())
}

async fn silence(client: &Client<'_>, room: &str) {
    client.put(&format!("pushrules/global/room/{room}"), json!({"actions": ["dont_notify"]})).await.ok();
}

#[test]
fn push_rules_for_a_room_hold_for_its_successor() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let old = alice.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
        bob.join(&old).await;
        for user in [&alice, &bob] {
            silence(user, &old).await;
        }
        let new = alice.post(&format!("rooms/{old}/upgrade"), json!({"new_version": "11"})).await.ok();
        let new = new["replacement_room"].as_str().unwrap();
        assert_eq!(rule(&bob, new).await, None);
        bob.join(new).await;
        for user in [&alice, &bob] {
            assert_eq!(rule(user, new).await, rule(user, &old).await);
            assert!(rule(user, new).await.is_some());
        }
        // What the user has decided about the new room since is left alone.
        bob.put(&format!("pushrules/global/room/{new}"), json!({"actions": ["notify"]})).await.ok();
        bob.post(&format!("rooms/{new}/leave"), json!({})).await.ok();
        bob.join(new).await;
        assert_eq!(rule(&bob, new).await, Some(json!(["notify"])));
    });
}

#[test]
fn a_successor_that_was_made_by_hand_counts_if_the_old_room_says_so() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let old = alice.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
        bob.join(&old).await;
        for user in [&alice, &bob] {
            silence(user, &old).await;
        }
        let creation = json!({"predecessor": {"room_id": old, "event_id": "$last"}});
        let body = json!({"preset": "public_chat", "room_version": "11", "creation_content": creation});
        // Anybody can claim that a room follows another.
        let stranger = bob.create_room(body.clone()).await;
        assert_eq!(rule(&bob, &stranger).await, None);
        let new = alice.create_room(body).await;
        let tombstone = json!({"body": "moved", "replacement_room": new});
        alice.put(&format!("rooms/{old}/state/m.room.tombstone"), tombstone).await.ok();
        bob.join(&new).await;
        for user in [&alice, &bob] {
            assert_eq!(rule(user, &new).await, rule(user, &old).await);
            assert!(rule(user, &new).await.is_some());
        }
    });
}

#[test]
fn an_upgrade_names_its_creators_anew() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let levels = json!({"users": {&alice.user_id: 100, &bob.user_id: 100}});
        let old = json!({"preset": "public_chat", "room_version": "11", "power_level_content_override": levels});
        let old = alice.create_room(old).await;
        bob.join(&old).await;
        let upgrade = async |client: &Client<'_>, room: &str, more: Value| {
            let mut body = json!({"new_version": "12"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let new = client.post(&format!("rooms/{room}/upgrade"), body).await.ok();
            new["replacement_room"].as_str().unwrap().to_owned()
        };
        let create_of = async |client: &Client<'_>, room: &str| {
            client.get(&format!("rooms/{room}/state/m.room.create?format=event")).await.ok()
        };
        let shared = upgrade(&alice, &old, json!({"additional_creators": [bob.user_id]})).await;
        let create = create_of(&alice, &shared).await;
        assert_eq!(create["content"]["additional_creators"], json!([bob.user_id]));
        assert_eq!(create["content"]["predecessor"]["room_id"], old);
        let levels = alice.get(&format!("rooms/{shared}/state/m.room.power_levels")).await.ok();
        assert_eq!(levels["users"].as_object().map_or(0, serde_json::Map::len), 0, "{levels}");
        // Who upgrades is the creator of the new room, and no other one is carried over.
        bob.join(&shared).await;
        let alone = upgrade(&bob, &shared, json!({})).await;
        let create = create_of(&bob, &alone).await;
        assert_eq!((&create["sender"], create["content"].get("additional_creators")), (&json!(bob.user_id), None));
        alice.join(&alone).await;
        let kick = json!({"user_id": bob.user_id});
        alice.post(&format!("rooms/{alone}/kick"), kick).await.refused(403, "M_FORBIDDEN");
    });
}

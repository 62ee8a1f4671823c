//! What `/v3/sync` tells besides timelines and state.

use std::collections::BTreeMap;
use std::time::Duration;

use rooms::{Membership, ReceiptKind};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use spec::ids::EventId;
use users::{DeviceTarget, KeyUpload, PresenceState, ToDeviceMessages};

use crate::server::{Server, filtered, request, room, run, token};

fn raw(value: Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

#[test]
fn account_data_comes_once_globally_and_by_room() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        let kinds = |answer: &Value| -> Vec<String> {
            let events = answer["account_data"]["events"].as_array().cloned().unwrap_or_default();
            events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(&first), ["m.push_rules"]);
        server.users.set_account_data(alice.user, "x.global", &raw(json!({"a": 1}))).await.unwrap();
        server.users.set_room_account_data(alice.user, server.nid(&id), "x.room", &raw(json!({"b": 2}))).await.unwrap();
        let second = server.v3(&alice, Some(token(&first))).await;
        assert_eq!(second["account_data"]["events"], json!([{"type": "x.global", "content": {"a": 1}}]));
        let data = &room(&second, "join", &id)["account_data"]["events"];
        assert_eq!(data, &json!([{"type": "x.room", "content": {"b": 2}}]));
        let third = server.v3(&alice, Some(token(&second))).await;
        assert!(third.get("account_data").is_none() && third.get("rooms").is_none());
        let initial = server.v3(&alice, None).await;
        assert_eq!(&room(&initial, "join", &id)["account_data"]["events"], data);
        assert_eq!(kinds(&initial), ["x.global", "m.push_rules"]);
    });
}

#[test]
fn receipts_are_grouped_and_private_ones_stay_private() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let event = server.say(&alice, &id, "read me").await;
        let (before_a, before_b) = (server.v3(&alice, None).await, server.v3(&bob, None).await);
        assert_eq!(room(&before_b, "join", &id)["unread_notifications"]["notification_count"], 1);
        let read = |event: &EventId, kind: ReceiptKind, thread: Option<&'static str>| {
            let (rooms, nid, user, event) = (server.rooms.clone(), server.nid(&id), bob.user, event.clone());
            async move { rooms.set_receipts(nid, user, &[(kind, thread, &event)]).await.unwrap() }
        };
        read(&event, ReceiptKind::ReadPrivate, None).await;
        let hidden = server.v3(&alice, Some(token(&before_a))).await;
        assert!(hidden.get("rooms").is_none(), "{hidden}");
        let own = server.v3(&bob, Some(token(&before_b))).await;
        let joined = room(&own, "join", &id);
        assert!(!joined["ephemeral"]["events"][0]["content"][event.as_str()]["m.read.private"].is_null());
        assert_eq!(joined["unread_notifications"]["notification_count"], 0);
        read(&event, ReceiptKind::Read, None).await;
        read(&event, ReceiptKind::Read, Some("main")).await;
        let shown = server.v3(&alice, Some(token(&before_a))).await;
        let events = room(&shown, "join", &id)["ephemeral"]["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), 2, "two threads need two events");
        assert!(events.iter().all(|receipt| receipt["type"] == "m.receipt"));
        let of = |index: usize| &events[index]["content"][event.as_str()]["m.read"]["@bob:hs.test"];
        let threads = [of(0)["thread_id"].as_str(), of(1)["thread_id"].as_str()];
        assert!(threads.contains(&None) && threads.contains(&Some("main")));
        assert!(!shown.to_string().contains("private"));
    });
}

#[test]
fn typing_is_told_when_it_begins_and_when_it_ends() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let first = server.v3(&alice, None).await;
        server.rooms.set_typing(server.nid(&id), bob.user, Some(Duration::from_secs(30)));
        let second = server.v3(&alice, Some(token(&first))).await;
        let typing = |answer: &Value| room(answer, "join", &id)["ephemeral"]["events"].clone();
        assert_eq!(typing(&second), json!([{"type": "m.typing", "content": {"user_ids": ["@bob:hs.test"]}}]));
        assert!(server.v3(&alice, Some(token(&second))).await.get("rooms").is_none());
        server.rooms.set_typing(server.nid(&id), bob.user, None);
        let third = server.v3(&alice, Some(token(&second))).await;
        assert_eq!(typing(&third), json!([{"type": "m.typing", "content": {"user_ids": []}}]));
    });
}

async fn send(server: &Server, to: &users::Session, n: usize) {
    let from = &to.user_id;
    let target = DeviceTarget::from(to.device_id.to_string());
    let messages: ToDeviceMessages = BTreeMap::from([(from.clone(), BTreeMap::from([(target, raw(json!({"n": n})))]))]);
    server.users.queue_to_device(from, "x.test", None, &messages).await.unwrap();
}

#[test]
fn messages_to_the_device_stay_until_they_are_acknowledged() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        for n in 0..120 {
            send(&server, &alice, n).await;
        }
        let count = |answer: &Value| answer["to_device"]["events"].as_array().map_or(0, Vec::len);
        let first = server.v3(&alice, None).await;
        assert_eq!(count(&first), 100);
        assert_eq!(count(&server.v3(&alice, None).await), 100, "not acknowledged yet");
        send(&server, &alice, 120).await;
        let second = server.v3(&alice, Some(token(&first))).await;
        assert_eq!(count(&second), 21);
        assert_eq!(second["to_device"]["events"][0]["content"]["n"], 100);
        let third = server.v3(&alice, Some(token(&second))).await;
        assert_eq!(count(&third), 0);
        // Deletion runs in the background.
        for _ in 0..6000 {
            if count(&server.v3(&alice, None).await) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("acknowledged messages are still queued");
    });
}

#[test]
fn key_counts_are_always_told() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let first = server.v3(&alice, None).await;
        assert_eq!(first["device_one_time_keys_count"], json!({"signed_curve25519": 0}));
        assert_eq!(first["device_unused_fallback_key_types"], json!([]));
        let upload = json!({"one_time_keys": {"signed_curve25519:A": {"key": "abc", "signatures": {}}}});
        let upload: KeyUpload = serde_json::from_value(upload).unwrap();
        server.users.upload_keys(&alice, &upload).await.unwrap();
        let second = server.v3(&alice, Some(token(&first))).await;
        assert_eq!(second["device_one_time_keys_count"], json!({"signed_curve25519": 1}));
    });
}

#[test]
fn device_lists_name_who_came_and_who_went() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let carol = server.login("carol", "C").await;
        let id = server.create(&alice, |_| ()).await;
        let other = server.create(&carol, |_| ()).await;
        let mut last = token(&server.v3(&alice, None).await).to_owned();
        let mut next = async |server: &Server| {
            let answer = server.v3(&alice, Some(&last)).await;
            last = token(&answer).to_owned();
            answer.get("device_lists").cloned().unwrap_or_default()
        };
        server.join(&id, &bob).await;
        assert_eq!(next(&server).await, json!({"changed": ["@bob:hs.test"], "left": []}));
        server.say(&bob, &id, "hi").await;
        let profile = json!({"membership": "join", "displayname": "Bob"});
        server.set(&bob, &id, "m.room.member", "@bob:hs.test", profile).await;
        assert_eq!(next(&server).await, Value::Null);
        // Somebody without a common room does not matter.
        server.users.record_remote_device_list_changes(&[carol.user]).await.unwrap();
        assert_eq!(next(&server).await, Value::Null);
        server.users.record_remote_device_list_changes(&[bob.user]).await.unwrap();
        assert_eq!(next(&server).await, json!({"changed": ["@bob:hs.test"], "left": []}));
        server.leave(&id, &bob).await;
        assert_eq!(next(&server).await, json!({"changed": [], "left": ["@bob:hs.test"]}));
        server.join(&other, &alice).await;
        assert_eq!(next(&server).await, json!({"changed": ["@carol:hs.test"], "left": []}));
        server.leave(&other, &alice).await;
        assert_eq!(next(&server).await, json!({"changed": [], "left": ["@carol:hs.test"]}));
    });
}

#[test]
fn presence_is_told_to_those_who_share_a_room() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let carol = server.login("carol", "C").await;
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let first = server.v3(&alice, None).await;
        server.users.set_presence(carol.user, PresenceState::Online, None).unwrap();
        assert!(server.v3(&alice, Some(token(&first))).await.get("presence").is_none());
        server.users.set_presence(bob.user, PresenceState::Online, Some("here")).unwrap();
        let second = server.v3(&alice, Some(token(&first))).await;
        let event = &second["presence"]["events"][0];
        assert_eq!((event["sender"].as_str(), event["type"].as_str()), (Some("@bob:hs.test"), Some("m.presence")));
        assert_eq!(event["content"]["presence"], "online");
        assert_eq!(event["content"]["status_msg"], "here");
        assert!(server.v3(&alice, Some(token(&second))).await.get("presence").is_none());
        let without = filtered(Some(token(&first)), json!({"presence": {"not_types": ["m.presence"]}}));
        assert!(server.v3_with(&alice, without).await.unwrap().get("presence").is_none());
    });
}

#[test]
fn ignored_users_are_not_heard() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let own = server.create(&bob, |_| ()).await;
        let ignored = raw(json!({"ignored_users": {"@bob:hs.test": {}}}));
        server.users.set_account_data(alice.user, "m.ignored_user_list", &ignored).await.unwrap();
        let first = server.v3(&alice, None).await;
        server.say(&bob, &id, "buy this").await;
        server.change(&own, &bob, &alice, Membership::Invite).await;
        let second = server.v3(&alice, Some(token(&first))).await;
        assert!(second.get("rooms").is_none(), "{second}");
        let list = json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}});
        let sliding = server.sliding(&alice, list).await.unwrap();
        assert_eq!(sliding["lists"]["all"]["count"], 1, "{sliding}");
        assert!(sliding["rooms"].get(own.as_str()).is_none(), "{sliding}");
    });
}

#[test]
fn tokens_of_the_future_are_refused() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let mut wish = request(Some(token(&server.v3(&alice, None).await)));
        let since = wish.since.as_mut().unwrap();
        since.pos = since.pos.next();
        assert!(server.v3_with(&alice, wish).await.is_err());
    });
}

#[test]
fn a_stored_filter_is_found_by_its_owner_only() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let json = json!({"room": {"timeline": {"limit": 3}}}).to_string().into_bytes();
        let id = server.users.store_filter(alice.user, json).await.unwrap();
        for _ in 0..2 {
            let filter = server.sync.stored_filter(alice.user, id).unwrap().unwrap();
            assert_eq!(filter.room.timeline.events.limit, Some(3));
        }
        assert!(server.sync.stored_filter(bob.user, id).unwrap().is_none());
    });
}

#[test]
fn after_many_changes_of_profiles_those_of_acquaintances_are_still_told() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let set = async |user, field: &str, value| {
            server.users.set_profile_field(user, field, value).await.unwrap();
        };
        set(bob.user, "m.old", Some(json!("as it was"))).await;
        set(bob.user, "m.gone", Some(json!(1))).await;
        let since = token(&server.v3(&alice, None).await).to_owned();
        set(bob.user, "m.gone", None).await;
        set(bob.user, "m.new", Some(json!(2))).await;
        for stranger in 0..51 {
            let stranger = server.login(&format!("stranger{stranger}"), "S").await;
            for field in 0..99 {
                set(stranger.user, &format!("m.new.{field}"), Some(json!(1))).await;
            }
        }
        let filter = json!({"org.matrix.msc4429.profile_fields": {"ids": ["m.old", "m.gone", "m.new"]}});
        let answer = server.v3_with(&alice, filtered(Some(&since), filter)).await.unwrap();
        let told = json!({"@bob:hs.test": {"profile_updates": {"m.gone": null, "m.new": 2}}});
        assert_eq!(answer["org.matrix.msc4429.users"], told);
    });
}

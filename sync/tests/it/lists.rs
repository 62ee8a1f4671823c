//! Sliding sync: lists, windows, subscriptions, required state, extensions, connections.

use std::collections::BTreeMap;

use rooms::Membership;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use spec::ids::RoomId;
use sync::SyncError;
use users::{DeviceTarget, Session, ToDeviceMessages};

use crate::server::{Server, outline, run};

async fn rooms(server: &Server, who: &Session, count: usize) -> Vec<RoomId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(server.create(who, |new| new.name = Some(format!("Room {n}"))).await);
    }
    ids
}

fn names(answer: &Value) -> Vec<&str> {
    let mut names: Vec<_> =
        answer["rooms"].as_object().unwrap().values().filter_map(|room| room["name"].as_str()).collect();
    names.sort_unstable();
    names
}

fn list(range: [u64; 2], limit: u64) -> Value {
    json!({"all": {"ranges": [range], "timeline_limit": limit, "required_state": [["m.room.create", ""]]}})
}

#[test]
fn a_window_shows_the_most_recent_rooms_and_grows() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let ids = rooms(&server, &alice, 5).await;
        server.say(&alice, &ids[0], "bump").await;
        let first = server.sliding(&alice, json!({"lists": list([0, 1], 1)})).await.unwrap();
        assert_eq!(first["lists"]["all"]["count"], 5);
        assert_eq!(names(&first), ["Room 0", "Room 4"]);
        let room = &first["rooms"][ids[0].as_str()];
        assert_eq!(room["initial"], true);
        assert_eq!(room["membership"], "join");
        assert_eq!(outline(&room["timeline"]), ["bump"]);
        assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(0)));
        assert_eq!(outline(&room["required_state"]), ["m.room.create"]);
        assert_eq!((&room["joined_count"], &room["invited_count"]), (&json!(1), &json!(0)));
        assert!(room["prev_batch"].is_string() && room["bump_stamp"].is_u64());
        assert_eq!(room["lists"], json!(["all"]));

        let grown = json!({"lists": list([0, 9], 1), "pos": first["pos"]});
        let second = server.sliding(&alice, grown).await.unwrap();
        assert_eq!(names(&second), ["Room 1", "Room 2", "Room 3"]);
        let nothing = json!({"lists": list([0, 9], 1), "pos": second["pos"]});
        let third = server.sliding(&alice, nothing).await.unwrap();
        assert_eq!(third["rooms"], json!({}));
        assert_eq!(third["lists"]["all"]["count"], 5);

        server.say(&alice, &ids[2], "news").await;
        server.set(&alice, &ids[2], "m.room.topic", "", json!({"topic": "unasked for"})).await;
        let fourth = json!({"lists": list([0, 9], 10), "pos": third["pos"]});
        let narrow = json!({"lists": list([0, 9], 1), "pos": third["pos"]});
        let fourth_narrow = server.sliding(&alice, narrow).await.unwrap();
        let room = &fourth_narrow["rooms"][ids[2].as_str()];
        assert_eq!(outline(&room["timeline"]), ["m.room.topic"]);
        assert_eq!((&room["limited"], &room["num_live"]), (&json!(true), &json!(1)));
        assert!(room.get("initial").is_none() && room.get("name").is_none() && room.get("required_state").is_none());
        // The same again with a larger limit: the older events come along.
        let wide = server.sliding(&alice, fourth).await.unwrap();
        assert_eq!(wide["rooms"].as_object().unwrap().len(), 5);
        let room = &wide["rooms"][ids[2].as_str()];
        assert_eq!(room["expanded_timeline"], true);
        assert_eq!(outline(&room["timeline"]).iter().rev().take(2).collect::<Vec<_>>(), ["m.room.topic", "news"]);
        assert_eq!(room["num_live"], 2);
        let again = server.sliding(&alice, json!({"lists": list([0, 9], 10), "pos": wide["pos"]})).await.unwrap();
        assert_eq!(again["rooms"], json!({}), "expanded once");
    });
}

#[test]
fn a_room_that_comes_back_into_the_window_tells_what_was_missed() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let ids = rooms(&server, &alice, 3).await;
        let first = server.sliding(&alice, json!({"lists": list([0, 2], 9)})).await.unwrap();
        server.say(&alice, &ids[0], "missed").await;
        server.say(&alice, &ids[2], "seen").await;
        let second = server.sliding(&alice, json!({"lists": list([0, 0], 9), "pos": first["pos"]})).await.unwrap();
        assert!(second["rooms"].get(ids[0].as_str()).is_none());
        assert_eq!(outline(&second["rooms"][ids[2].as_str()]["timeline"]), ["seen"]);
        let third = server.sliding(&alice, json!({"lists": list([0, 2], 9), "pos": second["pos"]})).await.unwrap();
        let room = &third["rooms"][ids[0].as_str()];
        assert_eq!(outline(&room["timeline"]), ["missed"]);
        assert_eq!(room["num_live"], 0, "it came before the last answer");
    });
}

#[test]
fn repeating_a_request_loses_nothing_and_old_positions_are_refused() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let ids = rooms(&server, &alice, 1).await;
        let first = server.sliding(&alice, json!({"lists": list([0, 9], 5)})).await.unwrap();
        let wish = json!({"lists": list([0, 9], 5), "pos": first["pos"]});
        server.say(&alice, &ids[0], "one").await;
        let lost = server.sliding(&alice, wish.clone()).await.unwrap();
        server.say(&alice, &ids[0], "two").await;
        let second = server.sliding(&alice, wish.clone()).await.unwrap();
        assert_eq!(outline(&second["rooms"][ids[0].as_str()]["timeline"]), ["one", "two"]);
        let third = server.sliding(&alice, json!({"lists": list([0, 9], 5), "pos": second["pos"]})).await.unwrap();
        assert_eq!(third["rooms"], json!({}));
        for old in [&first, &lost] {
            let stale = json!({"lists": list([0, 9], 5), "pos": old["pos"]});
            assert!(matches!(server.sliding(&alice, stale).await, Err(SyncError::UnknownPos)));
        }
        let bob = server.login("bob", "B").await;
        for pos in [third["pos"].clone(), json!("nonsense")] {
            let stolen = json!({"lists": list([0, 9], 5), "pos": pos});
            assert!(matches!(server.sliding(&bob, stolen).await, Err(SyncError::UnknownPos)));
        }
    });
}

#[test]
fn filters_choose_rooms() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let ids = rooms(&server, &alice, 3).await;
        let space = server
            .create(&alice, |new| {
                new.name = Some("Space".into());
                new.creation_content.insert("type".into(), "m.space".into());
            })
            .await;
        let invite = server.create(&bob, |new| new.name = Some("Invite".into())).await;
        server.change(&invite, &bob, &alice, Membership::Invite).await;
        let algorithm = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        server.set(&alice, &ids[0], "m.room.encryption", "", algorithm).await;
        server.set(&alice, &space, "m.space.child", ids[1].as_str(), json!({"via": ["hs.test"]})).await;
        server.set(&alice, &space, "m.space.child", ids[2].as_str(), json!({})).await;
        let data = |value: Value| RawValue::from_string(value.to_string()).unwrap();
        let direct = data(json!({"@bob:hs.test": [ids[2].as_str()]}));
        server.users.set_account_data(alice.user, "m.direct", &direct).await.unwrap();
        let tags = data(json!({"tags": {"m.favourite": {}}}));
        server.users.set_room_account_data(alice.user, server.nid(&ids[1]), "m.tag", &tags).await.unwrap();
        for (filters, expected) in [
            (json!({}), 5),
            (json!({"is_dm": true}), 1),
            (json!({"is_dm": false}), 4),
            (json!({"is_encrypted": true}), 1),
            (json!({"is_invite": true}), 1),
            (json!({"is_invited": false}), 4),
            (json!({"room_types": ["m.space"]}), 1),
            (json!({"room_types": [null], "is_invited": false}), 3),
            (json!({"not_room_types": ["m.space"]}), 4),
            (json!({"tags": ["m.favourite"]}), 1),
            (json!({"not_tags": ["m.favourite"]}), 4),
            (json!({"room_name_like": "ROOM"}), 3),
            (json!({"spaces": [space.as_str()]}), 1),
            (json!({"spaces": ["!unknown:hs.test"]}), 0),
            (json!({"is_dm": true, "is_encrypted": true}), 0),
        ] {
            let lists = json!({"l": {"ranges": [[0, 9]], "timeline_limit": 0, "filters": filters}});
            let answer = server.sliding(&alice, json!({"lists": lists})).await.unwrap();
            assert_eq!(answer["lists"]["l"]["count"], expected, "{filters}");
            assert_eq!(answer["rooms"].as_object().unwrap().len(), expected, "{filters}");
        }
    });
}

#[test]
fn subscriptions_widen_what_lists_show() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let ids = rooms(&server, &alice, 2).await;
        let foreign = server.create(&bob, |_| ()).await;
        server.join(&ids[0], &bob).await;
        for n in 0..4 {
            server.say(&bob, &ids[0], &n.to_string()).await;
        }
        let first = server.sliding(&alice, json!({"lists": list([0, 9], 1)})).await.unwrap();
        let subscription =
            json!({"timeline_limit": 3, "required_state": [["m.room.name", ""], ["m.room.member", "$LAZY"]]});
        let wish = json!({
            "lists": list([0, 9], 1),
            "pos": first["pos"],
            "room_subscriptions": {(ids[0].as_str()): subscription.clone(), (foreign.as_str()): subscription},
        });
        let second = server.sliding(&alice, wish.clone()).await.unwrap();
        assert_eq!(second["rooms"].as_object().unwrap().len(), 1, "a foreign room is not shown: {second}");
        let room = &second["rooms"][ids[0].as_str()];
        assert_eq!(outline(&room["timeline"]), ["1", "2", "3"]);
        assert_eq!(room["unstable_expanded_timeline"], true);
        let state = outline(&room["required_state"]);
        assert_eq!(state, ["m.room.create", "m.room.name", "m.room.member"]);
        let mut next = wish;
        next["pos"] = second["pos"].clone();
        assert_eq!(server.sliding(&alice, next.clone()).await.unwrap()["rooms"], json!({}));
    });
}

#[test]
fn memberships_change_what_is_told() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&bob, |new| new.name = Some("Bob's".into())).await;
        let mut pos = Value::Null;
        let mut next = async |server: &Server| {
            let mut wish = json!({"lists": list([0, 9], 9)});
            if pos.is_string() {
                wish["pos"] = pos.clone();
            }
            let answer = server.sliding(&alice, wish).await.unwrap();
            pos = answer["pos"].clone();
            answer["rooms"].get(id.as_str()).cloned()
        };
        assert_eq!(next(&server).await, None);
        server.change(&id, &bob, &alice, Membership::Invite).await;
        let invited = next(&server).await.unwrap();
        assert_eq!(invited["membership"], "invite");
        assert!(outline(&invited["invite_state"]).contains(&"m.room.name".to_owned()));
        assert_eq!(invited["invite_state"], invited["stripped_state"]);
        assert!(invited.get("timeline").is_none());
        server.join(&id, &alice).await;
        let joined = next(&server).await.unwrap();
        assert_eq!((&joined["membership"], &joined["initial"]), (&json!("join"), &json!(true)));
        assert_eq!(joined["name"], "Bob's");
        server.set(&bob, &id, "m.room.name", "", json!({})).await;
        let unnamed = next(&server).await.unwrap();
        assert_eq!(unnamed["name"], Value::Null);
        assert_eq!(unnamed["heroes"][0]["user_id"], "@bob:hs.test");
        server.change(&id, &bob, &alice, Membership::Leave).await;
        server.say(&bob, &id, "secret").await;
        server.set(&bob, &id, "m.room.name", "", json!({"name": "hidden"})).await;
        let kicked = next(&server).await.unwrap();
        assert_eq!(kicked["membership"], "leave");
        assert_eq!(outline(&kicked["timeline"]), ["m.room.member"]);
        assert!(!kicked.to_string().contains("hidden") && !kicked.to_string().contains("secret"));
        assert_eq!(next(&server).await, None);
        server.say(&bob, &id, "more secrets").await;
        assert_eq!(next(&server).await, None);

        // Fresh connections show who was removed, not who went.
        let fresh = server.sliding(&alice, json!({"conn_id": "2", "lists": list([0, 9], 9)})).await.unwrap();
        assert_eq!(fresh["rooms"][id.as_str()]["membership"], "leave");
        assert!(!fresh.to_string().contains("secret") && !fresh.to_string().contains("hidden"));
        server.join(&id, &alice).await;
        server.leave(&id, &alice).await;
        let fresh = server.sliding(&alice, json!({"conn_id": "3", "lists": list([0, 9], 9)})).await.unwrap();
        assert_eq!(fresh["rooms"], json!({}));
    });
}

#[test]
fn extensions_tell_the_rest() {
    run(|server| async move {
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        let nid = server.nid(&id);
        server.join(&id, &bob).await;
        let event = server.say(&alice, &id, "read me").await;
        server.rooms.set_receipts(nid, bob.user, &[(rooms::ReceiptKind::Read, None, &event)]).await.unwrap();
        let data = RawValue::from_string("{\"a\":1}".to_owned()).unwrap();
        server.users.set_account_data(alice.user, "x.global", &data).await.unwrap();
        server.users.set_room_account_data(alice.user, nid, "x.room", &data).await.unwrap();
        let target = DeviceTarget::from("A".to_owned());
        let messages: ToDeviceMessages =
            BTreeMap::from([(alice.user_id.clone(), BTreeMap::from([(target, data.clone())]))]);
        server.users.queue_to_device(&bob.user_id, "x.msg", None, &messages).await.unwrap();
        let on = json!({"enabled": true});
        let all = json!({"to_device": on, "e2ee": on, "account_data": on, "receipts": on, "typing": on});
        let first = json!({"lists": list([0, 9], 3), "extensions": all});
        let answer = server.sliding(&alice, first.clone()).await.unwrap();
        let told = &answer["extensions"];
        assert_eq!(told["to_device"]["events"][0]["type"], "x.msg");
        assert_eq!(told["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 0);
        let global: Vec<_> = outline(&told["account_data"]["global"]);
        assert_eq!(global, ["x.global", "m.push_rules"]);
        assert_eq!(told["account_data"]["rooms"][id.as_str()][0]["type"], "x.room");
        let receipt = &told["receipts"]["rooms"][id.as_str()];
        assert!(!receipt["content"][event.as_str()]["m.read"]["@bob:hs.test"].is_null());
        assert!(told.get("typing").is_none());

        let mut next = first;
        next["pos"] = answer["pos"].clone();
        next["extensions"]["to_device"]["since"] = told["to_device"]["next_batch"].clone();
        let quiet = server.sliding(&alice, next.clone()).await.unwrap();
        let told = &quiet["extensions"];
        assert_eq!(told["to_device"]["events"], json!([]));
        assert!(told.get("account_data").is_none() && told.get("receipts").is_none(), "{told}");

        next["pos"] = quiet["pos"].clone();
        server.rooms.set_typing(nid, bob.user, Some(std::time::Duration::from_secs(9)));
        let event = server.say(&alice, &id, "and me").await;
        server.rooms.set_receipts(nid, bob.user, &[(rooms::ReceiptKind::Read, None, &event)]).await.unwrap();
        server.users.set_room_account_data(alice.user, nid, "x.room", &data).await.unwrap();
        server.users.record_remote_device_list_changes(&[bob.user]).await.unwrap();
        let news = server.sliding(&alice, next.clone()).await.unwrap();
        let told = &news["extensions"];
        assert_eq!(told["typing"]["rooms"][id.as_str()]["content"]["user_ids"], json!(["@bob:hs.test"]));
        assert_eq!(told["typing"]["rooms"][id.as_str()]["type"], "m.typing");
        assert!(!told["receipts"]["rooms"][id.as_str()]["content"][event.as_str()].is_null());
        assert_eq!(told["account_data"]["rooms"][id.as_str()][0]["type"], "x.room");
        assert_eq!(told["e2ee"]["device_lists"]["changed"], json!(["@bob:hs.test"]));
        next["extensions"]["to_device"]["since"] = "nonsense".into();
        assert!(matches!(server.sliding(&alice, next).await, Err(SyncError::Invalid(_))));
    });
}

#[test]
fn a_new_direct_chat_is_told() {
    run(|server| async move {
        let alice = server.login("alice", "A").await;
        let ids = rooms(&server, &alice, 1).await;
        let first = server.sliding(&alice, json!({"lists": list([0, 9], 1)})).await.unwrap();
        assert!(first["rooms"][ids[0].as_str()].get("is_dm").is_none());
        let direct = RawValue::from_string(json!({"@x:y.z": [ids[0].as_str()]}).to_string()).unwrap();
        server.users.set_account_data(alice.user, "m.direct", &direct).await.unwrap();
        let second = server.sliding(&alice, json!({"lists": list([0, 9], 1), "pos": first["pos"]})).await.unwrap();
        assert_eq!(second["rooms"][ids[0].as_str()]["is_dm"], true);
    });
}

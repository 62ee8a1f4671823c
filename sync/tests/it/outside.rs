//! Invitations to, and knocks on, rooms that the server is not in.

use std::sync::Arc;

use rooms::{CheckedPdu, RoomNid};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use spec::ids::{RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use users::Session;

use crate::server::{Server, object, run};

const ROOM: &str = "!away:far.test";

fn member(sender: &str, target: &UserId, membership: &str, depth: i64) -> CheckedPdu {
    let event = object(json!({
        "type": "m.room.member", "room_id": ROOM, "sender": sender, "state_key": target.as_str(),
        "content": {"membership": membership}, "depth": depth, "origin_server_ts": 1_700_000_000_000_i64,
        "prev_events": ["$prev"], "auth_events": ["$create"],
    }));
    let key = SigningKey::from_seed([9; 32], "1").unwrap();
    let pdu = Pdu::sign(event, &ServerName::parse("far.test").unwrap(), &key, RoomVersion::V11.rules()).unwrap();
    CheckedPdu::of_ours(Arc::new(pdu))
}

fn told(target: &UserId) -> Vec<Box<RawValue>> {
    let event = |kind: &str, key: &str, content: Value| {
        let sender = "@fred:far.test";
        to_raw_value(&json!({"type": kind, "state_key": key, "sender": sender, "content": content})).unwrap()
    };
    vec![
        event("m.room.create", "", json!({"room_version": "11", "type": "m.space"})),
        event("m.room.name", "", json!({"name": "Away"})),
        event("m.room.encryption", "", json!({"algorithm": "m.megolm.v1.aes-sha2"})),
        event("m.room.member", "@fred:far.test", json!({"membership": "join"})),
        event("m.room.member", target.as_str(), json!({"membership": "invite", "reason": "as told"})),
    ]
}

async fn invite(server: &Server, who: &Session, depth: i64) -> RoomNid {
    let invite = member("@fred:far.test", &who.user_id, "invite", depth);
    server.rooms.receive_invite(invite, RoomVersion::V11, told(&who.user_id)).await.unwrap();
    server.nid(&RoomId::parse(ROOM).unwrap())
}

fn kinds(events: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events.as_array().unwrap().iter().map(|event| (text(&event["type"]), text(&event["state_key"]))).collect()
}

#[test]
fn an_invitation_is_shown_with_what_was_told_of_the_room() {
    run(|server| async move {
        let bob = server.login("bob", "B").await;
        let before = server.v3(&bob, None).await["next_batch"].as_str().unwrap().to_owned();
        let room = invite(&server, &bob, 5).await;
        for since in [None, Some(before.as_str())] {
            let answer = server.v3(&bob, since).await;
            let shown = &answer["rooms"]["invite"][ROOM]["invite_state"]["events"];
            let expected = [
                ("m.room.create", ""),
                ("m.room.name", ""),
                ("m.room.encryption", ""),
                ("m.room.member", "@fred:far.test"),
                ("m.room.member", "@bob:hs.test"),
            ];
            assert_eq!(kinds(shown), expected.map(|(kind, key)| (kind.to_owned(), key.to_owned())));
            assert_eq!(
                shown[4]["content"],
                json!({"membership": "invite"}),
                "the event itself, not what was told of it"
            );
            assert!(answer["rooms"].get("leave").is_none());
        }

        // Refused, with no other server to tell: the client learns that it is over.
        let next = server.v3(&bob, None).await["next_batch"].as_str().unwrap().to_owned();
        server.rooms.leave_unresident(&bob.user_id, room, None).await.unwrap();
        let answer = server.v3(&bob, Some(&next)).await;
        let left = &answer["rooms"]["leave"][ROOM]["timeline"]["events"];
        assert_eq!(left[0]["content"]["membership"], "leave");
        assert_eq!(left[0]["unsigned"]["prev_content"]["membership"], "invite");
        assert!(answer["rooms"].get("invite").is_none());
        assert_eq!(server.v3(&bob, None).await.get("rooms"), None);
    });
}

#[test]
fn a_knock_is_shown_until_it_is_answered() {
    run(|server| async move {
        let bob = server.login("bob", "B").await;
        let knock = member(bob.user_id.as_str(), &bob.user_id, "knock", 5);
        server.rooms.receive_knock(knock, RoomVersion::V11, told(&bob.user_id)).await.unwrap();
        let answer = server.v3(&bob, None).await;
        let shown = &answer["rooms"]["knock"][ROOM]["knock_state"]["events"];
        assert_eq!(shown[4]["content"]["membership"], "knock");
        let next = answer["next_batch"].as_str().unwrap().to_owned();
        invite(&server, &bob, 6).await;
        let answer = server.v3(&bob, Some(&next)).await;
        assert_eq!(answer["rooms"]["invite"][ROOM]["invite_state"]["events"][4]["content"]["membership"], "invite");
        assert!(answer["rooms"].get("knock").is_none());
    });
}

#[test]
fn sliding_lists_know_the_room_by_what_was_told() {
    run(|server| async move {
        let bob = server.login("bob", "B").await;
        let room = invite(&server, &bob, 5).await;
        let list = |filters: Value| {
            json!({"conn_id": filters.to_string(), "lists": {"all": {
                "ranges": [[0, 9]], "timeline_limit": 5, "required_state": [["*", "*"]], "filters": filters,
            }}})
        };
        for (filters, found) in [
            (json!({}), true),
            (json!({"is_invite": true}), true),
            (json!({"is_encrypted": true}), true),
            (json!({"is_encrypted": false}), false),
            (json!({"room_types": ["m.space"]}), true),
            (json!({"not_room_types": ["m.space"]}), false),
            (json!({"room_name_like": "away"}), true),
            (json!({"room_name_like": "home"}), false),
        ] {
            let answer = server.sliding(&bob, list(filters.clone())).await.unwrap();
            let shown = answer["rooms"].get(ROOM);
            assert_eq!(shown.is_some(), found, "{filters}: {answer}");
            if let Some(shown) = shown {
                assert_eq!(shown["membership"], "invite");
                assert_eq!(kinds(&shown["invite_state"]).len(), 5);
            }
        }
        let first = server.sliding(&bob, list(json!({}))).await.unwrap();
        server.rooms.leave_unresident(&bob.user_id, room, None).await.unwrap();
        let mut next = list(json!({}));
        next["pos"] = first["pos"].clone();
        let after = server.sliding(&bob, next).await.unwrap();
        assert_eq!(after["rooms"][ROOM]["membership"], "leave");
        assert!(!after.to_string().contains("Away"), "{after}");
    });
}

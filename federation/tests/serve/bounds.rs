//! Each bound of what one answer gives, and of what one request may be about, crossed.

use std::sync::Arc;

use federation::Ask;
use rooms::{CheckedPdu, CreateRoom, Draft, Preset, Received};
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;

use crate::bed::{assert_refused, escape, object, run, send_path};

#[test]
fn history_is_given_in_parts() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        there.join(&here, &room, &there.user_id("bob")).await.unwrap();
        let mut last = here.send(&room, &alice, "first").await;
        let first = last.clone();
        for number in 0..130 {
            last = here.send(&room, &alice, &format!("{number}")).await;
        }
        let (room, last_id) = (escape(room.as_str()), escape(last.as_str()));
        let answer = there.get(&here, &format!("backfill/{room}?v={last_id}&limit=100000")).await.unwrap();
        assert_eq!(answer["pdus"].as_array().unwrap().len(), 100);
        let path = format!("/_matrix/federation/v1/get_missing_events/{room}");
        let body = json!({"limit": 100_000, "earliest_events": [first.as_str()], "latest_events": [last.as_str()]});
        let answer = there.ask(&here, Ask::post(path, &body)).await.unwrap();
        assert_eq!(answer["events"].as_array().unwrap().len(), 20);
        // Of very many ids the first hundred are looked at: what stands behind them does not matter.
        let many = format!("backfill/{room}?limit=1{}&v=nonsense", format!("&v={last_id}").repeat(100));
        assert_eq!(there.get(&here, &many).await.unwrap()["pdus"].as_array().unwrap().len(), 1);
        let fewer = format!("backfill/{room}?limit=1{}&v=nonsense", format!("&v={last_id}").repeat(99));
        assert_refused(there.get(&here, &fewer).await, 400, "M_INVALID_PARAM");
    });
}

#[test]
fn few_versions_and_claims_are_looked_at() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let path = |unknown: usize| {
            format!("make_join/{}/%40bob%3Aremote.test?{}ver=11", escape(room.as_str()), "ver=x&".repeat(unknown))
        };
        assert!(there.get(&here, &path(99)).await.is_ok());
        assert_refused(there.get(&here, &path(100)).await, 400, "M_INCOMPATIBLE_ROOM_VERSION");
        let claim = |count: usize| {
            let devices: Map<String, Value> =
                (0..count).map(|number| (format!("D{number}"), "signed_curve25519".into())).collect();
            let body = json!({"one_time_keys": {"@alice:hs.test": devices}});
            Ask::post("/_matrix/federation/v1/user/keys/claim".into(), &body)
        };
        assert!(there.ask(&here, claim(1000)).await.is_ok());
        assert_refused(there.ask(&here, claim(1001)).await, 413, "M_TOO_LARGE");
    });
}

#[test]
fn a_space_tells_so_many_children() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let child = |number: usize| {
            let content = object(json!({"via": ["hs.test"]}));
            ("m.space.child".to_owned(), format!("!r{number}:far.test"), content)
        };
        let space = CreateRoom {
            creation_content: object(json!({"type": "m.space"})),
            initial_state: (0..510).map(child).collect(),
            ..CreateRoom::new(alice, RoomVersion::V11, Preset::PublicChat)
        };
        let space = here.rooms.create_room(space).await.unwrap();
        let answer = there.get(&here, &format!("hierarchy/{}", escape(space.as_str()))).await.unwrap();
        assert_eq!(answer["room"]["children_state"].as_array().unwrap().len(), 500);
    });
}

#[test]
fn an_alias_names_so_many_servers() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let alias = RoomAlias::parse("#room:hs.test").unwrap();
        here.rooms.create_alias(&alias, &room, nid).await.unwrap();
        for number in 0..101 {
            let server = ServerName::parse(format!("s{number}.test")).unwrap();
            let user = UserId::new("u", &server).unwrap();
            let content = object(json!({"membership": "join"}));
            let draft = Draft::state(user.clone(), "m.room.member", user.as_str(), content);
            let event = here.rooms.prepare(here.nid(&room), draft).unwrap();
            let key = SigningKey::from_seed([3; 32], "x").unwrap();
            let pdu = Pdu::sign(event, &server, &key, RoomVersion::V11.rules()).unwrap();
            let join = Received::from(CheckedPdu::of_ours(Arc::new(pdu)));
            here.rooms.receive_all(here.nid(&room), vec![join]).await.unwrap().remove(0).unwrap();
        }
        let answer = there.get(&here, "query/directory?room_alias=%23room%3Ahs.test").await.unwrap();
        let servers = answer["servers"].as_array().unwrap();
        assert_eq!((servers.len(), &servers[0]), (100, &json!("hs.test")));
    });
}

#[test]
fn an_invitation_shows_so_much_of_a_room() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let room: RoomId = there.create(&bob, RoomVersion::V11, Preset::PrivateChat).await;
        let content = object(json!({"membership": "invite"}));
        let draft = Draft::state(bob.clone(), "m.room.member", alice.as_str(), content);
        let invite = there.rooms.prepare_signed(there.nid(&room), draft).unwrap();
        let entry = |number: usize| {
            // The last ones that are looked at, and one that is too large.
            let text = if number == 3 { "x".repeat(70 * 1024) } else { "x".to_owned() };
            json!({"type": "m.x", "state_key": number.to_string(), "sender": bob.as_str(), "content": {"x": text}})
        };
        let shown: Vec<Value> = (0..150).map(entry).collect();
        let body = json!({"room_version": "11", "event": invite.to_object().unwrap(), "invite_room_state": shown});
        there.put(&here, &send_path("v2/invite", &room, &invite.event_id), &body).await.unwrap();
        let user = here.rooms.user_nid(&alice).unwrap().unwrap();
        let stripped = here.rooms.stripped_state(here.nid(&room), user).unwrap().unwrap();
        let own = stripped.iter().filter(|event| event.get().contains("\"m.x\"")).count();
        assert_eq!(own, 63, "64 are looked at, and one of them is too large");
    });
}

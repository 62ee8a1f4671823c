//! Rooms that are blocked here, and users and servers whom the gate keeps away, as a followed policy list does: what
//! their servers are answered, and that nothing of it is stored.

use std::sync::Arc;
use std::time::Duration;

use federation::Ask;
use rooms::{Deed, Draft, Gate, Membership, Preset, RoomSeq};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, UserId};
use spec::pdu::Pdu;
use spec::version::RoomVersion;
use storage::StreamPos;
use users::{DeviceLogin, PresenceState};

use crate::bed::{Server, assert_refused, escape, make_path, object, run, send_path};

/// Keeps users away by their ids or servers.
struct List(&'static [&'static str]);

impl List {
    fn names(&self, user: &UserId) -> bool {
        self.0.iter().any(|name| *name == user.as_str() || *name == user.server_name())
    }
}

impl Gate for List {
    fn judge(&self, deed: &Deed<'_>) -> Result<(), &'static str> {
        match self.names(deed.sender) || self.names(deed.target) {
            true => Err("a list names them"),
            false => Ok(()),
        }
    }

    fn hears(&self, user: &UserId) -> bool {
        !self.names(user)
    }
}

/// What a user of `there` sends, completed from what `here` prepares.
async fn event_of(here: &Server, there: &Server, room: &RoomId, draft: Draft) -> (Map<String, Value>, EventId) {
    here.rooms.intern_user(&draft.sender).await.unwrap();
    let version = here.rooms.head(here.nid(room)).unwrap().version();
    let event = here.rooms.prepare(here.nid(room), draft).unwrap();
    let pdu = Pdu::sign(event, &there.name, &there.key, version.rules()).unwrap();
    (pdu.to_object().unwrap(), pdu.event_id)
}

fn member(user: &UserId, membership: Membership) -> Draft {
    let content = object(json!({"membership": membership.as_str()}));
    Draft::state(user.clone(), "m.room.member", user.as_str(), content)
}

/// Neither half of a join, or of a knock, is possible, and nobody has come.
async fn expect_no_entry(here: &Server, there: &Server, room: &RoomId, user: &UserId, by: Membership) {
    let before = here.rooms.head(here.nid(room)).unwrap().last_seq();
    for kind in ["make_join", "make_knock"] {
        assert_refused(there.get(here, &make_path(kind, room, user)).await, 403, "M_FORBIDDEN");
    }
    // Whoever has an event already that the room would allow does not come in with it either.
    let (event, id) = event_of(here, there, room, member(user, by)).await;
    let kind = if by == Membership::Join { "v2/send_join" } else { "v1/send_knock" };
    assert_refused(there.put(here, &send_path(kind, room, &id), &Value::Object(event)).await, 403, "M_FORBIDDEN");
    assert_eq!(here.rooms.room_of_event(&id).unwrap(), None);
    assert_eq!(here.membership(room, user), None);
    assert_eq!(here.rooms.head(here.nid(room)).unwrap().last_seq(), before);
}

/// An invitation into a room of `there` is refused, and not kept.
async fn expect_no_invitation(here: &Server, there: &Server, room: &RoomId, by: &UserId, whom: &UserId) {
    let content = object(json!({"membership": "invite"}));
    let draft = Draft::state(by.clone(), "m.room.member", whom.as_str(), content);
    let pdu = there.rooms.prepare_signed(there.nid(room), draft).unwrap();
    let body = json!({"room_version": "11", "event": pdu.to_object().unwrap(), "invite_room_state": []});
    let path = send_path("v2/invite", room, &pdu.event_id);
    assert_refused(there.put(here, &path, &body).await, 403, "M_FORBIDDEN");
    assert_eq!((here.membership(room, whom), here.rooms.room_nid(room).unwrap()), (None, None));
}

#[test]
fn nobody_comes_into_a_blocked_room() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let knockable = vec![("m.room.join_rules", json!({"join_rule": "knock"}))];
        for (room, by) in [
            (here.create(&alice, RoomVersion::V11, Preset::PublicChat).await, Membership::Join),
            (here.create_with(&alice, RoomVersion::V12, Preset::PrivateChat, knockable).await, Membership::Knock),
        ] {
            here.send(&room, &alice, "hello").await;
            here.rooms.block_room(&room, None, None).await.unwrap();
            expect_no_entry(&here, &there, &room, &bob, by).await;
            // Once everybody here has left, the room is not served any more.
            let newest = here.send(&room, &alice, "farewell").await;
            here.change(&room, &alice, &alice, Membership::Leave).await.unwrap();
            let path = format!("backfill/{}?v={}&limit=10", escape(room.as_str()), escape(newest.as_str()));
            let refused = there.get(&here, &path).await;
            assert!(refused.is_err(), "{refused:?}");
        }
        let theirs = there.create(&bob, RoomVersion::V11, Preset::PublicChat).await;
        here.rooms.block_room(&theirs, None, None).await.unwrap();
        expect_no_invitation(&here, &there, &theirs, &bob, &alice).await;
    });
}

#[test]
fn who_is_kept_away_neither_comes_nor_invites() {
    for names in [&["@bob:remote.test"][..], &["remote.test"]] {
        run(async |here, there| {
            here.rooms.set_gate(Arc::new(List(names)));
            let (alice, _) = here.user("alice").await;
            let (bob, _) = there.user("bob").await;
            let (carol, _) = there.user("carol").await;
            let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
            expect_no_entry(&here, &there, &room, &bob, Membership::Join).await;
            let theirs = there.create(&bob, RoomVersion::V11, Preset::PublicChat).await;
            expect_no_invitation(&here, &there, &theirs, &bob, &alice).await;
            // Others of the server come if it is not the server that is named.
            let is_server = names == ["remote.test"];
            assert_eq!(there.join(&here, &room, &carol).await.is_err(), is_server);
        });
    }
}

#[test]
fn who_is_kept_away_and_in_a_room_is_heard_there_and_nowhere_else() {
    run(async |here, there| {
        let (alice, alice_nid) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let (carol, _) = there.user("carol").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let said = here.send(&room, &alice, "hello").await;
        for user in [&bob, &carol] {
            there.join(&here, &room, user).await.unwrap();
        }
        here.rooms.set_gate(Arc::new(List(&["@bob:remote.test"])));
        let login = DeviceLogin { device_id: Some("PHONE"), ..DeviceLogin::default() };
        let session = here.users.start_session(alice_nid, login).await.unwrap();
        let session = here.users.authenticate(&session.tokens.access_token).await.unwrap();
        let edus = |user: &UserId| {
            let message = json!({"sender": user, "type": "test", "message_id": user,
                "messages": {alice.as_str(): {"PHONE": {"from": user}}}});
            let receipt = json!({room.as_str(): {"m.read": {user.as_str(): {"event_ids": [said], "data": {"ts": 1}}}}});
            let presence = json!({"push": [{"user_id": user, "presence": "online", "last_active_ago": 1}]});
            vec![
                json!({"edu_type": "m.typing", "content": {"room_id": room, "user_id": user, "typing": true}}),
                json!({"edu_type": "m.direct_to_device", "content": message}),
                json!({"edu_type": "m.receipt", "content": receipt}),
                json!({"edu_type": "m.presence", "content": presence}),
            ]
        };
        let (event, id) = {
            let content = object(json!({"msgtype": "m.text", "body": "from bob"}));
            event_of(&here, &there, &room, Draft::message(bob.clone(), "m.room.message", content)).await
        };
        let edus = [edus(&bob), edus(&carol)].concat();
        let body = json!({"origin": "remote.test", "origin_server_ts": 1, "pdus": [event], "edus": edus});
        let answer = there.ask(&here, Ask::put("/_matrix/federation/v1/send/1".to_owned(), &body)).await.unwrap();
        assert_eq!(answer["pdus"][id.as_str()], json!({}), "{answer}");
        // The room's events are for the room to forbid: without this one the servers in it would not agree any more.
        for _ in 0..400 {
            if here.rooms.room_of_event(&id).unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(here.rooms.room_of_event(&id).unwrap().is_some());
        let nid = here.nid(&room);
        let carol_nid = here.rooms.user_nid(&carol).unwrap().unwrap();
        assert_eq!(here.rooms.typing_since(nid, 0), Some(vec![carol_nid]));
        let until = here.rooms.store().visible();
        let queued = here.users.queued_messages(session.device, StreamPos::ZERO, until, 10).unwrap().events;
        let from: Vec<String> = queued.iter().map(|message| message.get().to_owned()).collect();
        assert!(from.len() == 1 && from[0].contains("@carol"), "{from:?}");
        let receipts = here.rooms.receipts_since(nid, alice_nid, StreamPos::ZERO, until).unwrap();
        let readers: Vec<_> = receipts.iter().map(|receipt| receipt.user).collect();
        assert_eq!(readers, [carol_nid]);
        let bob_nid = here.rooms.user_nid(&bob).unwrap().unwrap();
        let state = |user| here.users.presence(user).map(|presence| presence.state);
        assert_eq!((state(bob_nid), state(carol_nid)), (None, Some(PresenceState::Online)));
        assert!(
            here.rooms.events_after(nid, RoomSeq(0), 100).unwrap().iter().any(|event| event.sender() == bob.as_str())
        );
    });
}

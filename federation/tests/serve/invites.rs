//! Invitations from other servers.

use rooms::{Draft, Membership, Preset};
use serde_json::{Map, Value, json};
use spec::hash;
use spec::ids::{EventId, RoomId, UserId};
use spec::pdu::Pdu;
use spec::version::RoomVersion;
use users::AccountFlags;

use crate::bed::{Server, assert_refused, object, run, send_path};

/// An invitation to a room of `there`, signed by it.
async fn invitation(there: &Server, room: &RoomId, sender: &UserId, target: &UserId) -> (Map<String, Value>, EventId) {
    let content = object(json!({"membership": "invite"}));
    let draft = Draft::state(sender.clone(), "m.room.member", target.as_str(), content);
    let pdu = there.rooms.prepare_signed(there.nid(room), draft).unwrap();
    (pdu.to_object().unwrap(), pdu.event_id.clone())
}

fn shown(there: &Server, room: &RoomId) -> Value {
    let head = there.rooms.head(there.nid(room)).unwrap();
    let event = |kind| there.rooms.state_event(there.nid(room), head.state(), kind, "").unwrap().unwrap();
    let events =
        ["m.room.create", "m.room.name"].map(|kind| serde_json::from_str::<Value>(event(kind).json()).unwrap());
    json!(events)
}

#[test]
fn an_invitation_is_signed_and_shown() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        for version in [RoomVersion::V6, RoomVersion::V10, RoomVersion::V12] {
            let room = there.create(&bob, version, Preset::PrivateChat).await;
            let (event, id) = invitation(&there, &room, &bob, &alice).await;
            let body =
                json!({"room_version": version.as_str(), "event": event, "invite_room_state": shown(&there, &room)});
            let answer = there.put(&here, &send_path("v2/invite", &room, &id), &body).await.unwrap();
            let signed = object(answer["event"].clone());
            let signature = signed["signatures"]["hs.test"][here.key.key_id()].as_str().unwrap();
            here.key.verify_key().verify(&hash::redacted_bytes(&signed, version.rules()), signature).unwrap();
            let mut stripped = signed;
            stripped["signatures"].as_object_mut().unwrap().remove("hs.test");
            assert_eq!(stripped, event, "{version}: nothing else was changed");
            assert_eq!(here.membership(&room, &alice), Some(Membership::Invite));
            let kept = here.rooms.stripped_state(here.nid(&room), nid).unwrap().unwrap();
            assert!(kept.iter().any(|event| event.get().contains("The room")), "{version}: {kept:?}");
        }
    });
}

#[test]
fn the_first_version_takes_the_event_alone() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let room = there.create(&bob, RoomVersion::V2, Preset::PrivateChat).await;
        let (mut event, id) = invitation(&there, &room, &bob, &alice).await;
        event.insert("unsigned".into(), json!({"invite_room_state": shown(&there, &room)}));
        let answer = there.put(&here, &send_path("v1/invite", &room, &id), &Value::Object(event)).await.unwrap();
        assert_eq!(answer[0], 200);
        assert!(answer[1]["event"]["signatures"]["hs.test"].is_object());
        assert_eq!(here.membership(&room, &alice), Some(Membership::Invite));
        assert_eq!(here.rooms.head(here.nid(&room)).unwrap().version(), RoomVersion::V2);
    });
}

#[test]
fn invitations_of_those_who_cannot_be_invited_are_refused() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        let (locked, locked_nid) = here.user("locked").await;
        let (blocking, blocking_nid) = here.user("blocking").await;
        here.users
            .set_account_flags(locked_nid, AccountFlags { locked: Some(true), ..AccountFlags::default() })
            .await
            .unwrap();
        let (bob, _) = there.user("bob").await;
        let ignored = serde_json::value::to_raw_value(&json!({"ignored_users": {bob.as_str(): {}}})).unwrap();
        here.users.set_account_data(nid, "m.ignored_user_list", &ignored).await.unwrap();
        let block = serde_json::value::to_raw_value(&json!({"default_action": "block"})).unwrap();
        here.users.set_account_data(blocking_nid, "m.invite_permission_config", &block).await.unwrap();
        let room = there.create(&bob, RoomVersion::V10, Preset::PrivateChat).await;
        let nobody = here.user_id("nobody");
        for (target, errcode) in [
            (&alice, "M_FORBIDDEN"),
            (&locked, "M_FORBIDDEN"),
            (&nobody, "M_FORBIDDEN"),
            (&blocking, "M_INVITE_BLOCKED"),
        ] {
            let (event, id) = invitation(&there, &room, &bob, target).await;
            let body = json!({"room_version": "10", "event": event});
            assert_refused(there.put(&here, &send_path("v2/invite", &room, &id), &body).await, 403, errcode);
            assert_eq!(here.membership(&room, target), None);
        }
    });
}

#[test]
fn users_choose_whose_invitations_they_take() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let room = there.create(&bob, RoomVersion::V10, Preset::PrivateChat).await;
        let set = async |rules: Value| {
            let rules = serde_json::value::to_raw_value(&rules).unwrap();
            let kind = "org.matrix.msc4155.invite_permission_config";
            here.users.set_account_data(nid, kind, &rules).await.unwrap();
        };
        let (event, id) = invitation(&there, &room, &bob, &alice).await;
        let (path, body) = (send_path("v2/invite", &room, &id), json!({"room_version": "10", "event": event}));
        set(json!({"blocked_servers": [bob.server_name()]})).await;
        assert_refused(there.put(&here, &path, &body).await, 403, "M_INVITE_BLOCKED");
        assert_eq!(here.membership(&room, &alice), None);
        // Who is ignored does not learn it.
        set(json!({"ignored_users": [bob.as_str()]})).await;
        there.put(&here, &path, &body).await.unwrap();
        assert_eq!(here.membership(&room, &alice), Some(Membership::Invite));
    });
}

#[test]
fn what_is_no_invitation_is_not_signed() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let room = there.create(&bob, RoomVersion::V10, Preset::PrivateChat).await;
        let (event, id) = invitation(&there, &room, &bob, &alice).await;
        let path = send_path("v2/invite", &room, &id);
        let body = json!({"room_version": "99", "event": event});
        assert_refused(there.put(&here, &path, &body).await, 400, "M_INCOMPATIBLE_ROOM_VERSION");
        type Change<'a> = &'a dyn Fn(&mut Map<String, Value>);
        let changes: [Change<'_>; 5] = [
            &|event| drop(event.insert("type".into(), "m.room.name".into())),
            &|event| event["content"]["membership"] = "ban".into(),
            &|event| drop(event.insert("sender".into(), "@mallory:third.test".into())),
            &|event| drop(event.insert("state_key".into(), "@carol:remote.test".into())),
            &|event| drop(event.insert("room_id".into(), "!other:remote.test".into())),
        ];
        for change in changes {
            let mut event = event.clone();
            event.remove("signatures");
            event.remove("hashes");
            change(&mut event);
            let pdu = Pdu::sign(event, &there.name, &there.key, RoomVersion::V10.rules()).unwrap();
            let body = json!({"room_version": "10", "event": pdu.to_object().unwrap()});
            let path = send_path("v2/invite", &room, &pdu.event_id);
            assert_refused(there.put(&here, &path, &body).await, 400, "M_INVALID_PARAM");
        }
        let mut changed = event.clone();
        changed["content"]["reason"] = "changed after it was signed".into();
        let body = json!({"room_version": "10", "event": changed});
        assert_refused(there.put(&here, &path, &body).await, 400, "M_INVALID_PARAM");
        let mut unsigned = event;
        unsigned.insert("signatures".into(), json!({}));
        let body = json!({"room_version": "10", "event": unsigned});
        assert_refused(there.put(&here, &path, &body).await, 400, "M_INVALID_PARAM");
        assert_eq!(here.membership(&room, &alice), None);
    });
}

#[test]
fn the_invited_may_refuse_through_the_inviting_server() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V10, Preset::PrivateChat).await;
        assert_refused(there.make(&here, "make_leave", &room, &bob, |_| ()).await, 403, "M_FORBIDDEN");
        let content = object(json!({"membership": "invite"}));
        here.rooms.intern_user(&bob).await.unwrap();
        let draft = Draft::state(alice.clone(), "m.room.member", bob.as_str(), content);
        here.rooms.append(here.nid(&room), vec![draft], None).await.unwrap();
        let (event, id) = there.make(&here, "make_leave", &room, &bob, |_| ()).await.unwrap();
        there.put(&here, &send_path("v2/send_leave", &room, &id), &Value::Object(event)).await.unwrap();
        assert_eq!(here.membership(&room, &bob), Some(Membership::Leave));
    });
}

#[test]
fn an_offer_to_an_address_becomes_an_invitation() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, _) = there.user("bob").await;
        let room = here.create(&alice, RoomVersion::V10, Preset::PrivateChat).await;
        let identity = spec::signing::SigningKey::from_seed([9; 32], "0").unwrap();
        let offer = json!({
            "display_name": "b…@example.org",
            "key_validity_url": "https://id.test/valid",
            "public_key": identity.public_base64(),
        });
        here.set(&room, &alice, "m.room.third_party_invite", "token", offer).await;
        let mut signed = object(json!({"mxid": bob.as_str(), "token": "token"}));
        identity.sign_json(&mut signed, "id.test").unwrap();
        let exchange = |signed: &Map<String, Value>| {
            json!({
                "type": "m.room.member",
                "room_id": room.as_str(),
                "sender": alice.as_str(),
                "state_key": bob.as_str(),
                "content": {"membership": "invite", "third_party_invite": {"display_name": "x", "signed": signed}},
            })
        };
        let path = format!("v1/exchange_third_party_invite/{}", crate::bed::escape(room.as_str()));
        let mut forged = signed.clone();
        forged.insert("token".into(), "other".into());
        assert_refused(there.put(&here, &path, &exchange(&forged)).await, 403, "M_FORBIDDEN");
        // The identity server tells the user's server, which asks ours for the invitation and is asked to sign it.
        let binding = json!({
            "medium": "email",
            "address": "bob@example.org",
            "mxid": bob.as_str(),
            "invites": [{
                "medium": "email", "address": "bob@example.org", "mxid": bob.as_str(),
                "room_id": room.as_str(), "sender": alice.as_str(), "signed": signed,
            }],
        });
        let body = serde_json::to_vec(&binding).unwrap();
        let (status, answer) = there.call(http::Method::PUT, "/_matrix/federation/v1/3pid/onbind", body.into()).await;
        assert_eq!((status.as_u16(), answer), (200, json!({})));
        assert_eq!(here.membership(&room, &bob), Some(Membership::Invite));
        assert_eq!(there.membership(&room, &bob), Some(Membership::Invite));
    });
}

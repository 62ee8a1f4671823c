//! Invitations to, and knocks on, rooms that the server is not in.

use rooms::{CheckedPdu, Membership, RoomError, RoomNid, UserNid};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use spec::version::RoomVersion;

use crate::foreign::Foreign;
use crate::server::{Server, object, run};

const ROOM: &str = "!away:far.test";

struct Scene {
    server: Server,
    far: Foreign,
    fred: UserId,
    bob: UserId,
    bob_nid: UserNid,
}

fn pdu(far: &Foreign, sender: &UserId, target: &UserId, membership: &str, depth: i64) -> CheckedPdu {
    far.sign(
        object(json!({
            "type": "m.room.member", "room_id": ROOM, "sender": sender.as_str(), "state_key": target.as_str(),
            "content": {"membership": membership}, "depth": depth, "origin_server_ts": 1_700_000_000_000_i64,
            "prev_events": ["$prev"], "auth_events": ["$create"],
        })),
        RoomVersion::V11.rules(),
    )
}

fn told() -> Vec<Box<RawValue>> {
    let event = |kind: &str, content: Value| {
        let event = json!({"type": kind, "state_key": "", "sender": "@fred:far.test", "content": content, "depth": 7});
        to_raw_value(&event).unwrap()
    };
    vec![event("m.room.create", json!({"room_version": "11"})), event("m.room.name", json!({"name": "Away"}))]
}

impl Scene {
    async fn new(server: Server) -> Scene {
        let (bob, bob_nid) = server.user("bob").await;
        let far = Foreign::new("far.test");
        let fred = far.user("fred");
        Scene { server, far, fred, bob, bob_nid }
    }

    async fn invite(&self, depth: i64) -> CheckedPdu {
        let invite = pdu(&self.far, &self.fred, &self.bob, "invite", depth);
        self.server.rooms.receive_invite(invite.clone(), RoomVersion::V11, told()).await.unwrap();
        invite
    }

    fn room(&self) -> RoomNid {
        self.server.rooms.known_room(&RoomId::parse(ROOM).unwrap()).unwrap()
    }

    fn membership(&self) -> Option<Membership> {
        self.server.rooms.membership(self.room(), self.bob_nid).unwrap().map(|row| row.membership)
    }
}

#[test]
fn an_invitation_is_kept_with_what_was_told_of_the_room() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let invite = scene.invite(10).await;
        let (rooms, room) = (&scene.server.rooms, scene.room());
        assert_eq!(scene.membership(), Some(Membership::Invite));
        assert!(!rooms.is_resident(room).unwrap());
        let row = rooms.membership(room, scene.bob_nid).unwrap().unwrap();
        assert_eq!(rooms.event_at(room, row.seq).unwrap().event_id(), invite.pdu().event_id.as_str());
        let told = rooms.stripped_state(room, scene.bob_nid).unwrap().unwrap();
        let told: Vec<Value> = told.iter().map(|event| serde_json::from_str(event.get()).unwrap()).collect();
        assert_eq!(told[1]["content"]["name"], "Away");
        assert_eq!(told[1].as_object().unwrap().len(), 4, "stripped of all else");
        scene.server.assert_sound();

        // It cannot be judged here, so nothing can stand on it.
        let unknown = rooms.unknown_events(room, &[invite.pdu().event_id.clone()], true).unwrap();
        assert_eq!(unknown, [invite.pdu().event_id.clone()]);
        // The same again changes nothing, another one replaces it.
        rooms.receive_invite(invite, RoomVersion::V11, Vec::new()).await.unwrap();
        assert_eq!(rooms.stripped_state(room, scene.bob_nid).unwrap().unwrap().len(), 2);
        let second = pdu(&scene.far, &scene.fred, &scene.bob, "invite", 11);
        rooms.receive_invite(second, RoomVersion::V11, Vec::new()).await.unwrap();
        assert_eq!(rooms.stripped_state(room, scene.bob_nid).unwrap().unwrap().len(), 0);
        assert_eq!(rooms.head(room).unwrap().invited_count(), 1);
        scene.server.assert_sound();

        // Nothing can be done in the room from here.
        let (bob, id) = (&scene.bob, RoomId::parse(ROOM).unwrap());
        for to in [Membership::Join, Membership::Leave, Membership::Knock] {
            let done = scene.server.change(&id, bob, bob, to).await;
            assert!(matches!(done, Err(RoomError::NotResident)), "{to:?}: {done:?}");
        }
        assert!(matches!(rooms.as_user(&id, scene.bob_nid).map(drop), Err(RoomError::NotInRoom)));
        assert!(matches!(rooms.as_server(&id, &scene.far.name).map(drop), Err(RoomError::NotInRoom)));
    });
}

#[test]
fn an_invitation_ends_by_its_user_its_sender_or_alone() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let rooms = &scene.server.rooms;
        scene.invite(10).await;
        let room = scene.room();
        // Nobody else has a say, and not for others.
        let mallory = scene.far.user("mallory");
        let forged = pdu(&scene.far, &mallory, &scene.bob, "leave", 11);
        let refused = rooms.leave_unresident(&scene.bob, room, Some(forged)).await;
        assert!(matches!(refused, Err(RoomError::Refused(_))), "{refused:?}");
        let foreign = pdu(&scene.far, &scene.fred, &scene.fred, "leave", 11);
        assert!(rooms.leave_unresident(&scene.bob, room, Some(foreign)).await.is_err());
        assert_eq!(scene.membership(), Some(Membership::Invite));

        let rescinded = pdu(&scene.far, &scene.fred, &scene.bob, "leave", 11);
        rooms.leave_unresident(&scene.bob, room, Some(rescinded.clone())).await.unwrap();
        assert_eq!(scene.membership(), Some(Membership::Leave));
        assert!(rooms.stripped_state(room, scene.bob_nid).unwrap().is_none());
        assert_eq!(rooms.head(room).unwrap().invited_count(), 0);
        let again = rooms.leave_unresident(&scene.bob, room, None).await;
        assert!(matches!(again, Err(RoomError::NotInRoom)), "{again:?}");
        scene.server.assert_sound();

        scene.invite(12).await;
        let replayed = rooms.leave_unresident(&scene.bob, room, Some(rescinded)).await;
        assert!(matches!(replayed, Err(RoomError::Refused(_))), "{replayed:?}");
        assert_eq!(scene.membership(), Some(Membership::Invite));
        rooms.leave_unresident(&scene.bob, room, None).await.unwrap();
        assert_eq!(scene.membership(), Some(Membership::Leave));
        let row = rooms.membership(room, scene.bob_nid).unwrap().unwrap();
        let leave = rooms.event_at(room, row.seq).unwrap();
        assert_eq!((leave.sender(), leave.depth()), (scene.bob.as_str(), 13));
        assert!(!leave.flags().is_visible());
        rooms.forget(&RoomId::parse(ROOM).unwrap(), scene.bob_nid).await.unwrap();
        scene.server.assert_sound();
    });
}

#[test]
fn a_knock_is_answered_by_an_invitation() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let rooms = &scene.server.rooms;
        let knock = pdu(&scene.far, &scene.bob, &scene.bob, "knock", 4);
        rooms.receive_knock(knock, RoomVersion::V11, told()).await.unwrap();
        assert_eq!(scene.membership(), Some(Membership::Knock));
        let forged = pdu(&scene.far, &scene.fred, &scene.bob, "knock", 4);
        assert!(rooms.receive_knock(forged, RoomVersion::V11, told()).await.is_err());
        scene.invite(5).await;
        assert_eq!(scene.membership(), Some(Membership::Invite));
        assert_eq!(rooms.stripped_state(scene.room(), scene.bob_nid).unwrap().unwrap().len(), 2);
        scene.server.assert_sound();
    });
}

#[test]
fn what_is_no_invitation_of_ours_is_refused() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let rooms = &scene.server.rooms;
        let (fred, bob) = (&scene.fred, &scene.bob);
        for (sender, target, membership) in [(fred, fred, "invite"), (fred, bob, "join"), (fred, bob, "leave")] {
            let invite = pdu(&scene.far, sender, target, membership, 3);
            let refused = rooms.receive_invite(invite, RoomVersion::V11, told()).await;
            assert!(matches!(refused, Err(RoomError::Invalid(_))), "{membership}: {refused:?}");
        }
    });
}

#[test]
fn what_is_told_of_a_room_is_bounded() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let event = |state_key: &str, name: &str| {
            let content = json!({"name": name});
            to_raw_value(&json!({"type": "x", "state_key": state_key, "sender": "@fred:far.test", "content": content}))
                .unwrap()
        };
        let mut told = vec![to_raw_value(&7).unwrap(), to_raw_value(&json!({"type": "x"})).unwrap()];
        told.push(event("too large", &"x".repeat(70_000)));
        told.extend((0..200).map(|index| event(&index.to_string(), "x")));
        let invite = pdu(&scene.far, &scene.fred, &scene.bob, "invite", 1);
        scene.server.rooms.receive_invite(invite, RoomVersion::V11, told).await.unwrap();
        let kept = scene.server.rooms.stripped_state(scene.room(), scene.bob_nid).unwrap().unwrap();
        assert_eq!(kept.len(), 100);
        let large: Vec<_> = (0..100).map(|index| event(&index.to_string(), &"y".repeat(1000))).collect();
        let invite = pdu(&scene.far, &scene.fred, &scene.bob, "invite", 2);
        scene.server.rooms.receive_invite(invite, RoomVersion::V11, large).await.unwrap();
        let kept = scene.server.rooms.stripped_state(scene.room(), scene.bob_nid).unwrap().unwrap();
        let bytes: usize = kept.iter().map(|event| event.get().len() + 1).sum();
        assert!(bytes > 60_000 && bytes <= 64 * 1024, "{bytes}");
    });
}

#[test]
fn in_a_room_that_the_server_is_in_the_event_comes_with_the_others() {
    run(|server| async move {
        let scene = Scene::new(server).await;
        let (alice, _) = scene.server.user("alice").await;
        let room = scene.server.create(&alice, RoomVersion::V11, rooms::Preset::PrivateChat).await;
        let mut object: Map<String, Value> =
            serde_json::from_slice(&pdu(&scene.far, &scene.fred, &scene.bob, "invite", 9).pdu().json).unwrap();
        object.insert("room_id".into(), room.as_str().into());
        object.remove("hashes");
        object.remove("signatures");
        let invite = scene.far.sign(object, RoomVersion::V11.rules());
        scene.server.rooms.receive_invite(invite, RoomVersion::V11, told()).await.unwrap();
        let nid = scene.server.rooms.known_room(&room).unwrap();
        assert_eq!(scene.server.rooms.membership(nid, scene.bob_nid).unwrap(), None);
        assert!(scene.server.rooms.stripped_state(nid, scene.bob_nid).unwrap().is_none());
        scene.server.assert_sound();
    });
}

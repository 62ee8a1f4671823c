//! What a server in a room, or one that only knows its id, might do to make it unusable.

use rooms::{CheckedPdu, Draft, Membership, Preset, RoomError, RoomNid, Verdict};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, UserId};
use spec::version::RoomVersion;

use crate::foreign::Foreign;
use crate::server::{Server, object, run, text};

/// The most forward extremities that a room may have.
const MOST: usize = 100;

struct Scene {
    server: Server,
    far: Foreign,
    fred: UserId,
}

impl Scene {
    fn new(server: Server) -> Scene {
        let far = Foreign::new("far.test");
        let fred = far.user("fred");
        Scene { server, far, fred }
    }

    /// A room of a local user with Fred in it.
    async fn room(&self, version: RoomVersion) -> (UserId, RoomId, RoomNid) {
        let (alice, _) = self.server.user("alice").await;
        let room = self.server.create(&alice, version, Preset::PublicChat).await;
        self.far.turn(&self.server, &room, &self.fred, Membership::Join).await;
        let nid = self.server.rooms.known_room(&room).unwrap();
        (alice, room, nid)
    }

    /// An event of Fred's that follows others than the newest.
    fn fork(&self, room: RoomNid, draft: Draft, follows: &[&EventId]) -> CheckedPdu {
        let mut event: Map<String, Value> = self.server.rooms.prepare(room, draft).unwrap();
        event["prev_events"] = json!(follows);
        self.far.sign(event, self.server.rooms.head(room).unwrap().rules())
    }

    fn extremities(&self, room: RoomNid) -> usize {
        self.server.rooms.head(room).unwrap().extremities().count()
    }

    async fn receive(&self, room: RoomNid, pdu: CheckedPdu) -> Result<Verdict, RoomError> {
        self.server.rooms.receive_all(room, vec![pdu.into()]).await.unwrap().pop().unwrap()
    }
}

#[test]
fn forks_of_a_room_are_bounded() {
    run(|server| async {
        let scene = Scene::new(server);
        let (alice, room, nid) = scene.room(RoomVersion::V11).await;
        let old = scene.server.say(&room, &alice, "old").await;
        for number in 0..MOST + 20 {
            let draft = Draft::message(scene.fred.clone(), "m.room.message", text(&number.to_string()));
            assert_eq!(scene.receive(nid, scene.fork(nid, draft, &[&old])).await.unwrap(), Verdict::Accepted);
        }
        assert!(scene.extremities(nid) <= MOST);
        // Forks that differ in state all count: which of them holds depends on all of them.
        let mut last = Ok(Verdict::Accepted);
        for number in 0..MOST + 20 {
            let content = object(json!({"membership": "join", "displayname": number.to_string()}));
            let draft = Draft::state(scene.fred.clone(), "m.room.member", scene.fred.as_str(), content);
            last = scene.receive(nid, scene.fork(nid, draft, &[&old])).await;
        }
        assert!(matches!(last, Err(RoomError::Refused(_))), "{last:?}");
        assert!(scene.extremities(nid) <= MOST);
        // Others can go on, and take the forks together.
        scene.server.say(&room, &alice, "still here").await;
        assert!(scene.extremities(nid) < MOST);
        scene.server.assert_sound();
    });
}

#[test]
fn an_id_of_another_rooms_event_is_refused_alone() {
    run(|server| async {
        let scene = Scene::new(server);
        let (alice, first, _) = scene.room(RoomVersion::V1).await;
        let taken = scene.far.say(&scene.server, &first, &scene.fred, "mine").await;
        let first = scene.server.rooms.head(scene.server.rooms.known_room(&first).unwrap()).unwrap();
        let depth = scene.server.rooms.event_at(first.room(), first.last_seq()).unwrap().depth();
        // The id that Fred's server gives follows from the depth: his join of the other room gets one that is free.
        let second = scene.server.create(&alice, RoomVersion::V1, Preset::PublicChat).await;
        for _ in 0..5 {
            scene.server.say(&second, &alice, "on").await;
        }
        scene.far.turn(&scene.server, &second, &scene.fred, Membership::Join).await;
        let nid = scene.server.rooms.known_room(&second).unwrap();
        let draft = Draft::message(scene.fred.clone(), "m.room.message", text("again"));
        let mut event = scene.server.rooms.prepare(nid, draft).unwrap();
        event["depth"] = depth.into();
        let again = scene.far.sign(event, RoomVersion::V1.rules());
        assert_eq!(again.pdu().event_id, taken);
        assert!(matches!(scene.receive(nid, again.clone()).await, Err(RoomError::Invalid(_))));
        let outlier = scene.server.rooms.receive_outliers(nid, vec![again]).await.unwrap().pop().unwrap();
        assert!(matches!(outlier, Err(RoomError::Invalid(_))));
    });
}

#[test]
fn what_is_new_is_not_taken_for_history() {
    run(|server| async {
        let scene = Scene::new(server);
        let (alice, room, nid) = scene.room(RoomVersion::V11).await;
        scene.server.say(&room, &alice, "last").await;
        let content = object(json!({"membership": "leave"}));
        let draft = Draft::state(scene.fred.clone(), "m.room.member", scene.fred.as_str(), content);
        let leave = scene.far.prepare(&scene.server, nid, draft);
        assert_eq!(scene.server.rooms.backfill(nid, vec![leave.clone().into()]).await.unwrap(), 0);
        assert_eq!(scene.receive(nid, leave).await.unwrap(), Verdict::Accepted);
        let fred = scene.server.rooms.user_nid(&scene.fred).unwrap().unwrap();
        assert_eq!(scene.server.rooms.membership(nid, fred).unwrap().unwrap().membership, Membership::Leave);
    });
}

#[test]
fn a_wrong_version_in_an_invitation_does_not_keep_anybody_out() {
    run(|server| async move {
        let room = RoomId::parse("!good:far.test").unwrap();
        let nid = server.rooms.begin_room(&room, RoomVersion::V6).await.unwrap();
        assert_eq!(server.rooms.begin_room(&room, RoomVersion::V10).await.unwrap(), nid);
        assert_eq!(server.rooms.head(nid).unwrap().version(), RoomVersion::V10);
        // A room that was entered keeps its version.
        let (alice, _) = server.user("alice").await;
        let own = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        assert!(matches!(server.rooms.begin_room(&own, RoomVersion::V10).await, Err(RoomError::Invalid(_))));
    });
}

//! Rooms that a server leaves and enters again: what former members see of the time between, and what becomes of
//! invitations from outside.

use std::sync::Arc;

use rooms::{CheckedPdu, Cursor, Direction, Membership, Preset, Received, RoomNid, RoomSeq, Verdict};
use spec::ids::{EventId, RoomId, UserId};
use spec::pdu::Pdu;
use spec::version::RoomVersion;

use crate::foreign::{member, set_member};
use crate::server::{Server, run};

const VERSION: RoomVersion = RoomVersion::V11;

/// Alice's server has the room; the users of the second come and go.
struct World {
    one: Server,
    two: Server,
    room: RoomId,
}

impl World {
    fn nid(&self, server: &Server) -> RoomNid {
        server.rooms.known_room(&self.room).unwrap()
    }

    fn events_of_one(&self) -> Vec<CheckedPdu> {
        let events = self.one.rooms.events_after(self.nid(&self.one), RoomSeq(0), usize::MAX).unwrap();
        events.iter().map(|event| CheckedPdu::of_ours(Arc::new(event.to_pdu().unwrap()))).collect()
    }

    async fn enter(&self, user: &UserId) {
        let one = self.nid(&self.one);
        let two = self.two.rooms.begin_room(&self.room, VERSION).await.unwrap();
        self.one.rooms.intern_user(user).await.unwrap();
        let template = self.one.rooms.prepare(one, member(user, user, Membership::Join)).unwrap();
        let key = Server::key(2);
        let join = Pdu::sign(template, self.two.rooms.server_name(), &key, VERSION.rules()).unwrap();
        let join = CheckedPdu::of_ours(Arc::new(join));
        let head = self.one.rooms.head(one).unwrap();
        let state = self.one.rooms.state_seqs(one, head.state()).unwrap();
        let state: Vec<EventId> = state
            .into_iter()
            .map(|seq| EventId::parse(self.one.rooms.event_at(one, seq).unwrap().event_id()).unwrap())
            .collect();
        let known = self.events_of_one().into_iter().filter(|pdu| pdu.pdu().is_state()).collect();
        self.two.rooms.receive_outliers(two, known).await.unwrap();
        assert_eq!(self.one.rooms.receive(join.clone()).await.unwrap(), Verdict::Accepted);
        self.two.rooms.enter(two, join, state).await.unwrap();
    }

    async fn leave(&self, user: &UserId) {
        self.two.change(&self.room, user, user, Membership::Leave).await.unwrap();
        let two = self.nid(&self.two);
        let last = self.two.rooms.event_at(two, self.two.rooms.head(two).unwrap().last_seq()).unwrap();
        let leave = CheckedPdu::of_ours(Arc::new(last.to_pdu().unwrap()));
        assert_eq!(self.one.rooms.receive(leave).await.unwrap(), Verdict::Accepted);
    }

    async fn backfill(&self) -> usize {
        let two = self.nid(&self.two);
        let mut lacking = Vec::new();
        for pdu in self.events_of_one() {
            let id = pdu.pdu().event_id.clone();
            if !self.two.rooms.unknown_events(two, &[id], false).unwrap().is_empty() {
                lacking.push(Received::from(pdu));
            }
        }
        self.two.rooms.backfill(two, lacking).await.unwrap()
    }

    fn read(&self, user: &UserId) -> Vec<String> {
        let view = self.two.view(&self.room, self.two.rooms.user_nid(user).unwrap().unwrap());
        let wanted = |event: &rooms::Event| event.kind() == "m.room.message";
        // From beyond what is shown: not the place to begin at, but the lens decides.
        let beyond = Cursor { depth: i64::MAX, seq: RoomSeq(i64::MAX) };
        let page = view.page(beyond, None, Direction::Backward, 1000, &wanted).unwrap();
        let mut bodies: Vec<String> = page
            .events
            .iter()
            .map(|event| event.content_as::<serde_json::Value>().unwrap()["body"].to_string())
            .collect();
        bodies.reverse();
        bodies
    }
}

#[test]
fn a_gap_after_they_left_stays_hidden_when_it_is_filled() {
    run(|_| async {
        let (one, two) = (Server::named("one.test", 1), Server::named("two.test", 2));
        let (alice, _) = one.user("alice").await;
        let ((bob, bob_nid), (bea, _)) = (two.user("bob").await, two.user("bea").await);
        let room = one.create(&alice, VERSION, Preset::PublicChat).await;
        let world = World { one, two, room };
        world.one.say(&world.room, &alice, "before").await;
        world.enter(&bob).await;
        world.two.say(&world.room, &bob, "inside").await;
        let two = world.nid(&world.two);
        let last = world.two.rooms.event_at(two, world.two.rooms.head(two).unwrap().last_seq()).unwrap();
        let said = CheckedPdu::of_ours(Arc::new(last.to_pdu().unwrap()));
        assert_eq!(world.one.rooms.receive(said).await.unwrap(), Verdict::Accepted);
        world.leave(&bob).await;
        assert!(!world.two.rooms.is_resident(two).unwrap());
        let in_gap = world.one.say(&world.room, &alice, "in the gap").await;
        world.enter(&bea).await;
        world.two.say(&world.room, &bea, "later").await;
        assert!(world.backfill().await >= 2);
        world.two.assert_sound();

        assert_eq!(world.read(&bob), ["\"before\"", "\"inside\""]);
        assert_eq!(world.read(&bea), ["\"before\"", "\"inside\"", "\"in the gap\"", "\"later\""]);
        let view = world.two.view(&world.room, bob_nid);
        assert!(!view.can_see(&in_gap), "not by its id either");
        let gap = world.two.view(&world.room, world.two.rooms.user_nid(&bea).unwrap().unwrap()).event(&in_gap).unwrap();
        assert!(gap.seq() < RoomSeq::FIRST, "the test is about history");
    });
}

#[test]
fn entering_replaces_what_was_known_from_outside() {
    run(|_| async {
        let (one, two) = (Server::named("one.test", 1), Server::named("two.test", 2));
        let (alice, _) = one.user("alice").await;
        let ((bob, bob_nid), (bea, bea_nid), (ben, ben_nid)) =
            (two.user("bob").await, two.user("bea").await, two.user("ben").await);
        let room = one.create(&alice, VERSION, Preset::PrivateChat).await;
        let world = World { one, two, room };
        for user in [&bob, &bea, &ben] {
            let id = set_member(&world.one, &world.room, &alice, user, Membership::Invite).await;
            let invite = world.events_of_one().into_iter().find(|pdu| pdu.pdu().event_id == id).unwrap();
            world.two.rooms.receive_invite(invite, VERSION, Vec::new()).await.unwrap();
        }
        // Of this the second server hears only by the state.
        set_member(&world.one, &world.room, &alice, &ben, Membership::Leave).await;
        let two = world.nid(&world.two);
        world.two.assert_sound();
        world.enter(&bob).await;
        let membership = |user| world.two.rooms.membership(two, user).unwrap().map(|row| row.membership);
        assert_eq!(membership(bob_nid), Some(Membership::Join));
        assert_eq!(membership(bea_nid), Some(Membership::Invite));
        assert_eq!(membership(ben_nid), Some(Membership::Leave));
        for user in [bob_nid, bea_nid, ben_nid] {
            assert!(world.two.rooms.stripped_state(two, user).unwrap().is_none());
        }
        let servers = world.two.rooms.room_servers(two).unwrap();
        assert_eq!(
            servers.iter().map(|(name, stay)| (name.as_str(), stay.joined)).collect::<Vec<_>>(),
            [("one.test", 1), ("two.test", 1)]
        );
        let judged = world.two.rooms.as_server(&world.room, world.one.rooms.server_name()).unwrap();
        let row = world.two.rooms.membership(two, bea_nid).unwrap().unwrap();
        let invite = EventId::parse(world.two.rooms.event_at(two, row.seq).unwrap().event_id()).unwrap();
        assert!(judged.event(&invite).is_ok(), "now it is found by its id");
        world.two.change(&world.room, &bea, &bea, Membership::Join).await.unwrap();
        world.two.assert_sound();
    });
}

//! A room of another server's: entering it, history before, gaps, and events that come in the wrong order.

use rooms::{
    CheckedPdu, Cursor, Direction, Draft, Membership, Preset, Received, RoomError, RoomNid, RoomSeq, UserNid, Verdict,
};
use serde_json::{Map, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;

use crate::server::{Server, object};

const NAMES: [&str; 2] = ["one.test", "two.test"];
const VERSIONS: [RoomVersion; 5] =
    [RoomVersion::V1, RoomVersion::V6, RoomVersion::V10, RoomVersion::V11, RoomVersion::V12];

/// Alice's server has the room; Bob's has nobody in it.
struct World {
    one: Server,
    two: Server,
    room: RoomId,
    version: RoomVersion,
    alice: UserId,
    bob: UserId,
    bob_nid: UserNid,
}

impl World {
    async fn new(version: RoomVersion) -> World {
        let (one, two) = (Server::named(NAMES[0], 1), Server::named(NAMES[1], 2));
        let (alice, _) = one.user("alice").await;
        let (bob, bob_nid) = two.user("bob").await;
        let room = one.create(&alice, version, Preset::PublicChat).await;
        World { one, two, room, version, alice, bob, bob_nid }
    }

    fn check(&self, json: &str) -> CheckedPdu {
        let rules = self.version.rules();
        let received = ReceivedPdu::check(serde_json::from_str(json).unwrap(), rules).unwrap();
        CheckedPdu::check(received, rules, |server, _| {
            let index = NAMES.iter().position(|name| *name == server.as_str())?;
            Some(Server::key(index as u8 + 1).verify_key())
        })
        .unwrap()
    }

    fn nid(&self, server: &Server) -> RoomNid {
        server.rooms.known_room(&self.room).unwrap()
    }

    /// The current state of a server's room, as ids.
    fn state(&self, server: &Server) -> Vec<EventId> {
        let nid = self.nid(server);
        let state = server.rooms.head(nid).unwrap().state();
        let seqs = server.rooms.state_seqs(nid, state).unwrap();
        let mut ids: Vec<EventId> = seqs.into_iter().map(|seq| self.id(server, seq)).collect();
        ids.sort();
        ids
    }

    fn id(&self, server: &Server, seq: RoomSeq) -> EventId {
        EventId::parse(server.rooms.event_at(self.nid(server), seq).unwrap().event_id()).unwrap()
    }

    /// Everything in the first server's timeline, in order of arrival.
    fn events_of_one(&self) -> Vec<CheckedPdu> {
        let events = self.one.rooms.events_after(self.nid(&self.one), RoomSeq(0), usize::MAX).unwrap();
        events.iter().map(|event| self.check(event.json())).collect()
    }

    /// Bob joins through the first server.
    async fn enter(&self) {
        let nid = self.two.rooms.begin_room(&self.room, self.version).await.unwrap();
        let one = self.nid(&self.one);
        self.one.rooms.intern_user(&self.bob).await.unwrap();
        let draft =
            Draft::state(self.bob.clone(), "m.room.member", self.bob.as_str(), object(json!({"membership": "join"})));
        let mut template = self.one.rooms.prepare(one, draft).unwrap();
        if self.version.rules().pair_references {
            template.insert("event_id".into(), "$join:two.test".into());
        }
        let server = ServerName::parse(NAMES[1]).unwrap();
        let join = Pdu::sign(template, &server, &Server::key(2), self.version.rules()).unwrap();
        let join = self.check(std::str::from_utf8(&join.json).unwrap());
        let state = self.state(&self.one);
        let received = Received { relay: true, ..join.clone().into() };
        assert_eq!(
            self.one.rooms.receive_all(one, vec![received]).await.unwrap().pop().unwrap().unwrap(),
            Verdict::Accepted
        );
        let outliers: Vec<CheckedPdu> = self.events_of_one().into_iter().filter(|pdu| pdu.pdu().is_state()).collect();
        let outliers = outliers.into_iter().filter(|pdu| pdu.pdu().event_id != join.pdu().event_id).collect();
        for verdict in self.two.rooms.receive_outliers(nid, outliers).await.unwrap() {
            assert!(matches!(verdict.unwrap(), Verdict::Accepted | Verdict::Known));
        }
        self.two.rooms.enter(nid, join, state).await.unwrap();
    }

    /// What the second server lacks of the first's timeline, in order.
    fn missing_at_two(&self) -> Vec<Received> {
        let events = self.events_of_one().into_iter();
        let known = |pdu: &CheckedPdu| {
            let unknown = self.two.rooms.unknown_events(self.nid(&self.two), &[pdu.pdu().event_id.clone()], false);
            unknown.unwrap().is_empty()
        };
        events.filter(|pdu| !known(pdu)).map(Received::from).collect()
    }

    async fn catch_up(&self) {
        let missing = self.missing_at_two();
        for verdict in self.two.rooms.receive_all(self.nid(&self.two), missing).await.unwrap() {
            assert_eq!(verdict.unwrap(), Verdict::Accepted);
        }
    }

    /// Bodies of the messages Bob may see, oldest first.
    fn read(&self) -> Vec<String> {
        let view = self.two.view(&self.room, self.bob_nid);
        let page = view.page(Cursor::START, None, Direction::Forward, 1000, &|event| event.kind() == "m.room.message");
        page.unwrap().events.iter().map(|event| event.content_as::<Body>().unwrap_or_default().body).collect()
    }

    fn assert_same_state(&self) {
        assert_eq!(self.state(&self.one), self.state(&self.two));
        self.one.assert_sound();
        self.two.assert_sound();
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Body {
    body: String,
}

fn test<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in VERSIONS {
        runtime.block_on(async { test(World::new(version).await).await });
    }
}

#[test]
fn a_room_of_another_server_is_entered_and_history_comes_after() {
    test(|world| async move {
        for body in ["first", "second", "third"] {
            world.one.say(&world.room, &world.alice, body).await;
        }
        world.enter().await;
        world.assert_same_state();
        assert!(world.two.rooms.begin_room(&world.room, RoomVersion::V3).await.is_err(), "another version");
        assert_eq!(world.read(), Vec::<String>::new());
        world.one.say(&world.room, &world.alice, "welcome").await;
        world.catch_up_timeline(1).await;
        assert_eq!(world.read(), ["welcome"]);

        let nid = world.nid(&world.two);
        let backward = world.two.rooms.backward_extremities(nid).unwrap();
        assert_eq!(backward.len(), 1, "{backward:?}");
        let history = world.missing_at_two();
        let before = world.two.rooms.store().visible();
        assert_eq!(world.two.rooms.rooms_grown_after(before).unwrap(), []);
        // Nothing can be added that does not say where it stands.
        assert_eq!(world.two.rooms.backfill(nid, vec![history.last().unwrap().clone()]).await.unwrap(), 0);
        assert_eq!(world.two.rooms.backfill(nid, history).await.unwrap(), 10);
        assert_eq!(world.two.rooms.backward_extremities(nid).unwrap(), []);
        assert_eq!(world.read(), ["first", "second", "third", "welcome"]);
        world.assert_same_state();
        // Who follows the room sees the history that came, and not what was there before.
        assert_eq!(world.two.rooms.rooms_grown_after(before).unwrap(), [nid]);
        let mut came = Vec::new();
        let mut note = |event: rooms::Event| {
            came.push(event.seq());
            Ok::<(), rooms::RoomError>(())
        };
        world.two.rooms.visit_events_after(nid, before, &mut note).unwrap();
        assert_eq!(came.len(), 10);
        assert!(came.iter().all(|seq| *seq < rooms::RoomSeq::FIRST), "{came:?}");
    });
}

impl World {
    /// The last events of the first server arrive at the second.
    async fn catch_up_timeline(&self, count: usize) {
        let mut missing = self.missing_at_two();
        let missing = missing.split_off(missing.len() - count);
        for verdict in self.two.rooms.receive_all(self.nid(&self.two), missing).await.unwrap() {
            assert_eq!(verdict.unwrap(), Verdict::Accepted);
        }
    }
}

#[test]
fn a_gap_is_crossed_with_the_state_after_it_and_filled_in_order_later() {
    test(|world| async move {
        world.enter().await;
        let nid = world.nid(&world.two);
        let history = world.missing_at_two();
        world.two.rooms.backfill(nid, history).await.unwrap();
        world.one.say(&world.room, &world.alice, "before").await;
        world.catch_up().await;
        for body in ["missed", "missed too"] {
            world.one.say(&world.room, &world.alice, body).await;
        }
        let topic = Draft::state(world.alice.clone(), "m.room.topic", "", object(json!({"topic": "gaps"})));
        world.one.append(&world.room, topic).await.unwrap();
        world.one.say(&world.room, &world.alice, "after").await;
        let mut missing = world.missing_at_two();
        let last = missing.pop().unwrap();
        let verdict = world.two.rooms.receive_all(nid, vec![last.clone()]).await.unwrap().pop().unwrap();
        assert!(matches!(verdict, Err(RoomError::Missing(_))), "{verdict:?}");
        let topic = missing.last().unwrap().pdu.clone();
        world.two.rooms.receive_outliers(nid, vec![topic]).await.unwrap().pop().unwrap().unwrap();
        let with_state = Received { state_before: Some(world.state(&world.one)), ..last };
        let verdict = world.two.rooms.receive_all(nid, vec![with_state]).await.unwrap().pop().unwrap();
        assert_eq!(verdict.unwrap(), Verdict::Accepted);
        world.assert_same_state();
        assert_eq!(world.read(), ["before", "after"]);
        assert_eq!(world.two.rooms.backfill(nid, missing).await.unwrap(), 3);
        assert_eq!(world.read(), ["before", "missed", "missed too", "after"]);
        world.one.say(&world.room, &world.alice, "and on").await;
        world.catch_up().await;
        world.assert_same_state();
    });
}

#[test]
fn a_redaction_that_comes_first_is_applied_when_its_target_comes() {
    test(|world| async move {
        world.one.say(&world.room, &world.alice, "kept").await;
        let target = world.one.say(&world.room, &world.alice, "regretted").await;
        world.enter().await;
        let nid = world.nid(&world.two);
        world.one.append(&world.room, Draft::redaction(world.alice.clone(), target, Map::new())).await.unwrap();
        world.catch_up_timeline(1).await;
        // The first server's copy is redacted by now, so the second is handed the event as it was sent.
        let history = world.missing_at_two();
        world.two.rooms.backfill(nid, history).await.unwrap();
        assert_eq!(world.read(), ["kept", ""]);
        world.assert_same_state();
    });
}

#[test]
fn what_is_not_here_is_redacted_where_others_may_have_it() {
    test(|world| async move {
        let users = if world.version == RoomVersion::V12 {
            json!({ world.bob.as_str(): 100 })
        } else {
            json!({ world.alice.as_str(): 100, world.bob.as_str(): 100 })
        };
        let levels = Draft::state(world.alice.clone(), "m.room.power_levels", "", object(json!({"users": users})));
        world.one.append(&world.room, levels).await.unwrap();
        world.one.say(&world.room, &world.alice, "kept").await;
        let target = world.one.say(&world.room, &world.alice, "regretted").await;
        world.enter().await;
        let nid = world.nid(&world.two);
        world.two.append(&world.room, Draft::redaction(world.bob.clone(), target, Map::new())).await.unwrap();
        world.two.rooms.backfill(nid, world.missing_at_two()).await.unwrap();
        assert_eq!(world.read(), ["kept", ""]);
        // Where nobody else is, there is nothing else.
        let (dave, _) = world.two.user("dave").await;
        let alone = world.two.create(&dave, world.version, Preset::PublicChat).await;
        let unknown = EventId::parse("$unknown:three.test").unwrap();
        let refused = world.two.append(&alone, Draft::redaction(dave, unknown, Map::new())).await;
        assert!(matches!(refused, Err(RoomError::EventNotFound)));
    });
}

#[test]
fn who_comes_back_finds_the_room_as_it_is_now() {
    test(|world| async move {
        world.enter().await;
        world.two.change(&world.room, &world.bob, &world.bob, Membership::Leave).await.unwrap();
        let nid = world.nid(&world.two);
        let leave = world.two.rooms.head(nid).unwrap().last_seq();
        let leave = world.check(world.two.rooms.event_at(nid, leave).unwrap().json());
        world.one.rooms.receive(leave).await.unwrap();
        let (carol, _) = world.one.user("carol").await;
        world.one.change(&world.room, &carol, &carol, Membership::Join).await.unwrap();
        world.one.say(&world.room, &world.alice, "meanwhile").await;
        if world.version == RoomVersion::V1 {
            // Its join would have the id of the first one.
            return;
        }
        world.enter().await;
        world.assert_same_state();
        assert_eq!(world.two.rooms.joined_members(nid).unwrap().len(), 3);
        let missing = world.missing_at_two();
        world.two.rooms.backfill(nid, missing).await.unwrap();
        assert_eq!(world.read(), ["meanwhile"]);
        world.assert_same_state();
    });
}

#[test]
fn states_that_cannot_be_are_refused() {
    test(|world| async move {
        world.one.say(&world.room, &world.alice, "hello").await;
        let nid = world.two.rooms.begin_room(&world.room, world.version).await.unwrap();
        let events = world.events_of_one();
        let last = events.last().unwrap().clone();
        let verdict = world.two.rooms.receive_outliers(nid, vec![last.clone()]).await.unwrap().pop().unwrap();
        assert!(matches!(verdict, Err(RoomError::Missing(_))), "its auth events are not here");
        let other = world.one.create(&world.alice, world.version, Preset::PublicChat).await;
        let other = world.one.rooms.known_room(&other).unwrap();
        let foreign = world.one.rooms.event_at(other, RoomSeq(1)).unwrap();
        let verdict =
            world.two.rooms.receive_outliers(nid, vec![world.check(foreign.json())]).await.unwrap().pop().unwrap();
        assert!(matches!(verdict, Err(RoomError::Invalid(_))), "{verdict:?}");
        let state: Vec<EventId> = world.state(&world.one);
        let refused = world.two.rooms.enter(nid, last, state).await;
        assert!(matches!(refused, Err(RoomError::Missing(_))), "{refused:?}");
        world.two.assert_sound();
    });
}

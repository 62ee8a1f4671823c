//! Two servers that write at the same time and hear of each other's events late and out of order
//! end with the same state, at every event and now.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{CheckedPdu, Draft, Membership, Preset, RoomError, RoomSeq, SnapshotId, UserNid, Verdict};
use runtime::Random;
use serde_json::json;
use spec::ids::{RoomId, UserId};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersion;

use crate::server::{Server, object, text};

const NAMES: [&str; 2] = ["one.test", "two.test"];

struct World {
    servers: [Server; 2],
    room: RoomId,
    version: RoomVersion,
    /// Events of each server that the other has not taken in yet.
    outbox: [Vec<Vec<u8>>; 2],
    sent: [i64; 2],
}

impl World {
    async fn new(version: RoomVersion) -> (World, Vec<(usize, UserId, UserNid)>) {
        let servers = [Server::named(NAMES[0], 1), Server::named(NAMES[1], 2)];
        let mut people = Vec::new();
        for (index, name) in [(0, "alice"), (0, "anna"), (1, "bob"), (1, "bea")] {
            let (user, nid) = servers[index].user(name).await;
            people.push((index, user, nid));
        }
        let room = servers[0].create(&people[0].1, version, Preset::PublicChat).await;
        let mut world = World { servers, room, version, outbox: [Vec::new(), Vec::new()], sent: [0, 0] };
        world.collect(0);
        let mut events = std::mem::take(&mut world.outbox[0]).into_iter();
        let create = world.check(&events.next().unwrap());
        world.servers[1].rooms.receive_create(create, version).await.unwrap();
        world.sent[1] = 1;
        for event in events {
            assert_eq!(world.servers[1].rooms.receive(world.check(&event)).await.unwrap(), Verdict::Accepted);
        }
        world.sent[1] = world.sent[0];
        (world, people)
    }

    fn check(&self, json: &[u8]) -> CheckedPdu {
        let rules = self.version.rules();
        let received = ReceivedPdu::check(serde_json::from_slice(json).unwrap(), rules).unwrap();
        CheckedPdu::check(received, rules, |server, _| {
            let index = NAMES.iter().position(|name| *name == server.as_str())?;
            Some(Server::key(index as u8 + 1).verify_key())
        })
        .unwrap()
    }

    /// Puts what the server has written itself since the last time into its outbox.
    fn collect(&mut self, index: usize) {
        let rooms = &self.servers[index].rooms;
        let nid = rooms.known_room(&self.room).unwrap();
        for event in rooms.events_after(nid, RoomSeq(self.sent[index]), usize::MAX).unwrap() {
            self.sent[index] = event.seq().0;
            if event.sender_id().unwrap().server_name() == NAMES[index] {
                self.outbox[index].push(event.json().as_bytes().to_vec());
            }
        }
    }

    /// Hands the other server some or all of what it has not heard, in any order; what misses others waits.
    async fn deliver(&mut self, from: usize, random: &Random, all: bool) {
        self.collect(from);
        let mut waiting = std::mem::take(&mut self.outbox[from]);
        let mut rounds = 0;
        while !waiting.is_empty() && (all || random.below(4) > 0) {
            rounds += 1;
            assert!(rounds < 20_000, "events wait for ever");
            let event = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            match self.servers[1 - from].rooms.receive(self.check(&event)).await {
                Ok(_) => {}
                Err(RoomError::Missing(_)) => waiting.push(event),
                Err(error) => panic!("{error}"),
            }
        }
        self.outbox[from] = waiting;
    }

    fn state_at(&self, index: usize, snapshot: SnapshotId) -> BTreeMap<(String, String), String> {
        let rooms = &self.servers[index].rooms;
        let nid = rooms.known_room(&self.room).unwrap();
        let events = rooms.state_seqs(nid, snapshot).unwrap().into_iter().map(|seq| rooms.event_at(nid, seq).unwrap());
        events
            .map(|event| {
                ((event.kind().to_owned(), event.state_key().unwrap().to_owned()), event.event_id().to_owned())
            })
            .collect()
    }

    fn states_at_events(&self, index: usize) -> BTreeMap<String, BTreeMap<(String, String), String>> {
        let rooms = &self.servers[index].rooms;
        let nid = rooms.known_room(&self.room).unwrap();
        let events = rooms.events_after(nid, RoomSeq(0), usize::MAX).unwrap();
        events
            .into_iter()
            .map(|event| (event.event_id().to_owned(), self.state_at(index, event.state_before())))
            .collect()
    }

    fn extremities(&self, index: usize) -> BTreeSet<String> {
        let rooms = &self.servers[index].rooms;
        let head = rooms.head(rooms.known_room(&self.room).unwrap()).unwrap();
        head.extremities().map(str::to_owned).collect()
    }

    fn soft_failed(&self, index: usize) -> bool {
        let rooms = &self.servers[index].rooms;
        let nid = rooms.known_room(&self.room).unwrap();
        rooms.events_after(nid, RoomSeq(0), usize::MAX).unwrap().iter().any(|event| !event.flags().is_visible())
    }
}

async fn act(
    world: &World,
    person: &(usize, UserId, UserNid),
    others: &[(usize, UserId, UserNid)],
    random: &Random,
    step: u64,
) {
    let (index, user, _) = person;
    let server = &world.servers[*index];
    let target = &others[random.below(others.len() as u64) as usize].1;
    // Most of these are refused at one time or another: that is the point.
    let _ = match random.below(8) {
        0 => server.change(&world.room, user, user, Membership::Join).await,
        1 => server.change(&world.room, user, user, Membership::Leave).await,
        2 => server.change(&world.room, user, target, Membership::Ban).await,
        3 => server.change(&world.room, user, target, Membership::Leave).await,
        4 => {
            let level = [0, 50, 100][random.below(3) as usize];
            let content = json!({"users": {others[0].1.as_str(): 100, target.as_str(): level}, "state_default": 0});
            server
                .append(&world.room, Draft::state(user.clone(), "m.room.power_levels", "", object(content)))
                .await
                .map(drop)
        }
        5 => {
            let content = object(json!({"topic": format!("{user} {step}")}));
            server.append(&world.room, Draft::state(user.clone(), "m.room.topic", "", content)).await.map(drop)
        }
        _ => server
            .append(&world.room, Draft::message(user.clone(), "m.room.message", text(&step.to_string())))
            .await
            .map(drop),
    };
}

#[test]
fn servers_that_fork_a_room_agree_in_the_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for seed in 0..24 {
            let version = [RoomVersion::V6, RoomVersion::V10, RoomVersion::V11, RoomVersion::V12][seed as usize % 4];
            let random = Random::seeded(seed);
            let (mut world, people) = World::new(version).await;
            for step in 0..40 {
                let person = &people[random.below(people.len() as u64) as usize];
                act(&world, person, &people, &random, step).await;
                if random.below(5) == 0 {
                    world.deliver(random.below(2) as usize, &random, false).await;
                }
            }
            for _ in 0..2 {
                world.deliver(0, &random, true).await;
                world.deliver(1, &random, true).await;
            }
            assert_eq!(world.states_at_events(0), world.states_at_events(1), "state at events, seed {seed}");
            if !world.soft_failed(0) && !world.soft_failed(1) {
                assert_eq!(world.extremities(0), world.extremities(1), "extremities, seed {seed}");
                let now = |index: usize| {
                    let rooms = &world.servers[index].rooms;
                    world.state_at(index, rooms.head(rooms.known_room(&world.room).unwrap()).unwrap().state())
                };
                assert_eq!(now(0), now(1), "current state, seed {seed}");
            }
            world.servers.iter().for_each(Server::assert_sound);
        }
    });
}

#[test]
fn forged_and_unauthorised_events_do_not_get_in() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut world, people) = World::new(RoomVersion::V11).await;
        let (_, alice, _) = &people[0];
        world.servers[0].say(&world.room, alice, "hello").await;
        world.collect(0);
        let json = world.outbox[0].pop().unwrap();
        let rules = world.version.rules();
        let forged = ReceivedPdu::check(serde_json::from_slice(&json).unwrap(), rules).unwrap();
        assert!(CheckedPdu::check(forged.clone(), rules, |_, _| None).is_err(), "no key");
        assert!(CheckedPdu::check(forged, rules, |_, _| Some(Server::key(9).verify_key())).is_err(), "another key");
        // A changed content is redacted, not believed.
        let mut changed: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).unwrap();
        changed["content"]["body"] = "bye".into();
        let checked = world.check(&serde_json::to_vec(&changed).unwrap());
        assert_eq!(checked.pdu().content.get(), "{}");
        // Somebody who never joined speaks: kept as rejected, shown to nobody.
        let (_, bob, _) = &people[2];
        let nid = world.servers[1].rooms.known_room(&world.room).unwrap();
        let head = world.servers[1].rooms.head(nid).unwrap();
        let last = head.extremities().next().unwrap().to_owned();
        let event = object(json!({
            "type": "m.room.message", "content": text("let me in"), "sender": bob.as_str(), "room_id": world.room.as_str(),
            "prev_events": [last], "auth_events": [head.create().unwrap().event_id.as_str()], "depth": 50, "origin_server_ts": 1,
        }));
        let server = spec::ids::ServerName::parse(NAMES[1]).unwrap();
        let pdu = spec::pdu::Pdu::sign(event, &server, &Server::key(2), rules).unwrap();
        let verdict = world.servers[0].rooms.receive(world.check(&pdu.json)).await;
        // Server one has one event more by now, so the event is of a fork; it is not allowed there either.
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))), "{verdict:?}");
        let nid = world.servers[0].rooms.user_nid(bob).unwrap().unwrap();
        assert!(world.servers[0].rooms.as_user(&world.room, nid).is_err());
        world.servers[0].assert_sound();
    });
}

//! Measures state resolution: a room with many members, forked by state events that all follow one event, and merged by
//! an event that follows them all. Run: `cargo run --release -p rooms --example forks -- 10000 20`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::sync::Arc;
use std::time::Duration;

use rooms::{CheckedPdu, CreateRoom, Draft, Preset, Received, Rooms, RoomsConfig, RoomsParts, Verdict};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let members: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let forks: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in [RoomVersion::V10, RoomVersion::V12] {
        let spent = runtime.block_on(measure(version, members, forks));
        println!("version {version}: {members} members, {forks} forks: {:.2} ms", spent.as_secs_f64() * 1000.0);
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32], "1").unwrap()
}

fn open() -> (Rooms, Clock) {
    let clock = Clock::system();
    let rooms = Rooms::new(RoomsParts {
        store: Store::open(Options::new(Backend::Memory, rooms::KEYSPACES.to_vec())).unwrap(),
        clock: clock.clone(),
        random: Random::seeded(1),
        tasks: Tasks::new(&Metrics::new()),
        server_name: ServerName::parse("one.test").unwrap(),
        signing_key: Arc::new(key()),
        config: RoomsConfig::default(),
        policy_servers: None,
    });
    (rooms.unwrap(), clock)
}

/// The time that the merging event takes, until it is stored with the resolved state.
async fn measure(version: RoomVersion, members: usize, forks: usize) -> Duration {
    let (rooms, clock) = open();
    let alice = UserId::parse("@alice:one.test").unwrap();
    let request = CreateRoom {
        power_levels: object(json!({"state_default": 0, "events": {}})),
        ..CreateRoom::new(alice.clone(), version, Preset::PublicChat)
    };
    let room_id = rooms.create_room(request).await.unwrap();
    let room = rooms.known_room(&room_id).unwrap();
    for member in 0..members {
        let user = UserId::parse(format!("@m{member}:one.test")).unwrap();
        rooms.intern_user(&user).await.unwrap();
        let join = Draft::state(user.clone(), "m.room.member", user.as_str(), object(json!({"membership": "join"})));
        rooms.append(room, vec![join], None).await.unwrap();
    }
    let mut branches = Vec::new();
    for fork in 0..forks {
        let user = UserId::parse(format!("@m{fork}:one.test")).unwrap();
        let (kind, content) = match fork % 4 {
            0 => ("m.room.topic", json!({"topic": fork.to_string()})),
            1 => ("m.room.name", json!({"name": fork.to_string()})),
            2 => ("m.room.member", json!({"membership": "leave"})),
            _ => ("m.room.member", json!({"membership": "join", "displayname": fork.to_string()})),
        };
        let state_key = if kind == "m.room.member" { user.as_str().to_owned() } else { String::new() };
        branches.push(rooms.prepare_signed(room, Draft::state(user, kind, &state_key, object(content))).unwrap());
    }
    let message = Draft::message(alice, "m.room.message", object(json!({"body": "merged", "msgtype": "m.text"})));
    let mut merged = rooms.prepare(room, message).unwrap();
    merged.insert("prev_events".into(), branches.iter().map(|pdu| Value::from(pdu.event_id.as_str())).collect());
    let merged = Pdu::sign(merged, rooms.server_name(), &key(), version.rules()).unwrap();
    let received = branches.into_iter().map(|pdu| Received::from(CheckedPdu::of_ours(pdu))).collect();
    for verdict in rooms.receive_all(room, received).await.unwrap() {
        assert!(matches!(verdict.unwrap(), Verdict::Accepted | Verdict::SoftFailed(_)));
    }
    let merged = vec![Received::from(CheckedPdu::of_ours(Arc::new(merged)))];
    let started = clock.monotonic();
    let verdict = rooms.receive_all(room, merged).await.unwrap().pop().unwrap();
    let spent = clock.monotonic().saturating_sub(started);
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    spent
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

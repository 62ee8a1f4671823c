//! Three honest servers in a room, and an enemy who has joined it.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use rooms::EventFlags;
use serde_json::{Value, json};
use spec::ids::{EventId, ServerName};
use spec::pdu::Pdu;
use spec::version::RoomVersion;
use testkit::sim::{Enemy, Forged, Mood, World, compare_pictures, compare_present, wire};

/// How long a request of the enemy may take in simulated time.
const LIMIT: Duration = Duration::from_secs(120);
/// The versions in which the attacks are tried: the rules of the oldest and the newest differ most.
const VERSIONS: [RoomVersion; 3] = [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12];

pub struct Arena {
    pub world: World,
    pub enemy: Arc<Enemy>,
    /// How the enemy came in.
    pub join: Arc<Pdu>,
}

/// Tries an attack in a room of each version.
pub fn in_each_version(attack: impl Fn(Arena)) {
    for (seed, version) in VERSIONS.into_iter().enumerate() {
        attack(Arena::new(seed as u64, version));
    }
}

impl Arena {
    pub fn new(seed: u64, version: RoomVersion) -> Arena {
        let world = World::with(seed, Mood::Peaceful, version, 3, "shared");
        world.gather();
        let enemy = Arc::new(Enemy::new("evil.test", seed + 77, &world.network, world.runtime.clock()));
        let (joining, room, via) = (enemy.clone(), world.room.clone(), world.servers[0].name().clone());
        let join = world.runtime.run(LIMIT, async move { joining.join(&via, &room, version).await });
        world.drain();
        Arena { world, enemy, join }
    }

    pub fn version(&self) -> RoomVersion {
        self.world.version
    }

    pub fn name(&self, server: usize) -> ServerName {
        self.world.servers[server].name().clone()
    }

    /// An event that fits the room as the first server has it.
    pub fn event(&self, kind: &str, key: Option<&str>, content: Value) -> Forged {
        self.enemy.event(&self.world.servers[0], &self.world.room, kind, key, content)
    }

    pub fn message(&self, body: &str) -> Forged {
        self.event("m.room.message", None, json!({"msgtype": "m.text", "body": body}))
    }

    pub fn sign(&self, forged: Forged) -> Arc<Pdu> {
        self.enemy.sign(forged, self.version())
    }

    /// Sends a server a transaction and waits until it has dealt with it.
    pub fn send(&self, server: usize, pdus: Vec<Value>) -> (StatusCode, Value) {
        let (enemy, to) = (self.enemy.clone(), self.name(server));
        let answer = self.world.runtime.run(LIMIT, async move { enemy.send(&to, pdus).await });
        self.settle();
        answer
    }

    /// [`Arena::send`] for events that are signed.
    pub fn send_events(&self, server: usize, events: &[&Arc<Pdu>]) -> (StatusCode, Value) {
        self.send(server, events.iter().map(|event| wire(event)).collect())
    }

    /// Waits until no server has events to judge.
    pub fn settle(&self) {
        for _ in 0..600 {
            self.world.runtime.pass(Duration::from_millis(200));
            if self.world.servers.iter().all(|server| server.federation().staged_events() == 0) {
                return;
            }
        }
        panic!("events are never dealt with");
    }

    pub fn ask(&self, server: usize, method: Method, uri: &str, body: Option<Value>) -> (StatusCode, Value) {
        let (enemy, asked, uri) = (self.enemy.clone(), self.name(server), uri.to_owned());
        self.world.runtime.run(LIMIT, async move { enemy.ask(&asked, method, &uri, body).await })
    }

    pub fn ask_as(&self, server: usize, method: Method, uri: &str, body: Value, header: &str) -> StatusCode {
        let (enemy, asked) = (self.enemy.clone(), self.name(server));
        let (uri, header) = (uri.to_owned(), header.to_owned());
        self.world.runtime.run(LIMIT, async move { enemy.ask_as(&asked, method, &uri, Some(body), &header).await }).0
    }

    /// Whether a server has the event as part of the room.
    pub fn has_accepted(&self, server: usize, id: &EventId) -> bool {
        self.flags(server, id).is_some_and(EventFlags::is_visible)
    }

    /// What a server thinks of an event; `None` if it is not in its timeline.
    pub fn flags(&self, server: usize, id: &EventId) -> Option<EventFlags> {
        let pictures = self.world.all_pictures();
        let name = self.name(server);
        let picture = pictures.iter().find(|picture| picture.server == name).unwrap();
        picture.events.get(id.as_str()).map(|event| event.flags)
    }

    /// Ends the fight: the honest servers agree, none has taken in what is forged, and all go on.
    pub fn end(&self, forged: &[&EventId]) {
        self.world.come_to_rest();
        let pictures = self.world.pictures();
        assert_eq!(pictures.len(), 3, "all honest servers are in the room");
        let mut problems = compare_pictures(&pictures);
        problems.extend(compare_present(&pictures));
        assert!(problems.is_empty(), "version {}: {problems:#?}", self.version().as_str());
        for picture in &pictures {
            for id in forged {
                let in_state = picture.state.values().any(|of| of == id.as_str());
                assert!(!in_state, "{} has {id} in its state", picture.server);
                let accepted = picture.events.get(id.as_str()).is_some_and(|event| event.flags.is_visible());
                assert!(!accepted, "{} has accepted {id}", picture.server);
            }
            // Everybody's last words are with everybody.
            for server in 0..3 {
                let word = format!("last word 2 of {}", self.name(server));
                let has_heard = picture.events.values().any(|event| event.content.contains(&word));
                assert!(has_heard, "{} has heard {}", picture.server, self.name(server));
            }
        }
        for server in 0..3 {
            let (status, _) = self.ask(server, Method::GET, "/_matrix/federation/v1/version", None);
            assert_eq!(status, StatusCode::OK, "the server still answers");
        }
        self.world.assert_sound();
    }
}

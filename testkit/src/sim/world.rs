//! Servers that share a room, and users who do there at random whatever they may.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, RemoteRooms, RoomError, RoomSeq};
use runtime::Random;
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::version::RoomVersion;

use super::network::{Conditions, SimNetwork};
use super::picture::Picture;
use super::server::{Member, SimServer};
use super::time::SimRuntime;

/// The versions that worlds have rooms of.
const VERSIONS: [RoomVersion; 4] = [RoomVersion::V6, RoomVersion::V10, RoomVersion::V11, RoomVersion::V12];
/// How long one action may take in simulated time: a join asks several servers.
const ACTION: Duration = Duration::from_secs(180);
/// For how long nothing has to be carried until all is said: longer than any back-off.
const SILENCE: Duration = Duration::from_secs(9);
/// When at the latest all has to be said, in simulated time.
const DRAIN: Duration = Duration::from_secs(900);
/// How many times everybody speaks in the end, so that the last words of each reach all others.
const LAST_WORDS: usize = 3;
/// The longest that the state of a room is held back from who joins it.
const STATE_HELD_MS: u64 = 9_000;
/// How many requests for history a server makes in the end at most.
const BACKFILLS: usize = 60;

/// What happens in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Talk, topics, people who come and go: nobody is stripped of anything, so nothing is soft-failed.
    Peaceful,
    /// Also kicks, bans, changes of power and of the join rules.
    Quarrelsome,
}

/// Some servers, their users and one room.
pub struct World {
    /// What all is drawn from.
    pub seed: u64,
    /// What runs it.
    pub runtime: SimRuntime,
    /// What connects the servers.
    pub network: SimNetwork,
    /// The servers.
    pub servers: Vec<SimServer>,
    /// The users: the number of their server, and they.
    pub users: Vec<(usize, UserId)>,
    /// The room.
    pub room: RoomId,
    /// The room's version.
    pub version: RoomVersion,
    random: Random,
    mood: Mood,
    steps: u64,
    log: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Three to five servers with two users each, and a room of the first one's. What is not given is drawn from the
    /// seed. In half of the worlds rooms are entered before their members are known, which come late.
    ///
    /// # Panics
    /// If anything cannot be made.
    #[must_use]
    pub fn new(seed: u64, mood: Mood, history_visibility: &str) -> World {
        let random = Random::seeded(seed ^ 0x5eed);
        let count = 3 + random.below(3);
        let version = VERSIONS[random.below(VERSIONS.len() as u64) as usize];
        World::with(seed, mood, version, count, history_visibility)
    }

    /// As [`World::new`], of a version and with so many servers.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn with(seed: u64, mood: Mood, version: RoomVersion, servers: u64, history_visibility: &str) -> World {
        let random = Random::seeded(seed);
        let runtime = SimRuntime::new();
        let network = SimNetwork::new(seed, runtime.clock().clone());
        let names = ["one.test", "two.test", "three.test", "four.test", "five.test"];
        let names: Vec<&str> = names.into_iter().take(servers as usize).collect();
        let partial_joins = seed.is_multiple_of(2);
        if partial_joins {
            let time = Duration::from_millis(Random::seeded(seed ^ 0x51a7e).below(STATE_HELD_MS));
            network.hold("/_matrix/federation/v1/state_ids/", time);
        }
        let start = |(index, name): (usize, &&str)| {
            SimServer::start(name, seed * 10 + index as u64 + 1, &names, partial_joins, &runtime, &network)
        };
        let servers: Vec<SimServer> = names.iter().enumerate().map(start).collect();
        introduce(&servers, &runtime);
        let mut users = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            for name in ["anna", "bert"] {
                users.push((index, server.add_user(name, &runtime)));
            }
        }
        let request = room_of(&users[0].1, version, history_visibility);
        let rooms = servers[0].rooms().clone();
        let room = runtime.run(ACTION, async move { rooms.create_room(request).await }).expect("a room");
        let log = Arc::default();
        World { seed, runtime, network, servers, users, room, version, random, mood, steps: 0, log }
    }

    /// A number below `bound`, drawn from the seed.
    #[must_use]
    pub fn draw(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// The server of a name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn server(&self, name: &str) -> &SimServer {
        self.servers.iter().find(|server| server.name().as_str() == name).expect("a server of this name")
    }

    /// What a user acts with.
    #[must_use]
    pub fn member(&self, user: usize) -> Member {
        let (server, user) = &self.users[user];
        self.servers[*server].member(user)
    }

    /// What happened, for the report of a failure.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    /// Everybody joins, one after the other, over a calm network.
    ///
    /// # Panics
    /// If somebody cannot.
    pub fn gather(&self) {
        self.drain();
        for index in 1..self.users.len() {
            let (member, room, via) = (self.member(index), self.room.clone(), self.via());
            let joined = self.runtime.run(ACTION, async move { join(&member, &room, &via).await });
            joined.unwrap_or_else(|error| panic!("seed {}: {} cannot join: {error}", self.seed, self.users[index].1));
            // Whoever does not know all members lets nobody in.
            for _ in 0..100 {
                if !self.lacks_members() {
                    break;
                }
                self.runtime.pass(Duration::from_millis(500));
            }
        }
        self.drain();
    }

    fn via(&self) -> Vec<ServerName> {
        self.servers.iter().map(|server| server.name().clone()).collect()
    }

    /// Lets users act, links fail and servers restart. Returns with everything still under way.
    pub fn wander(&mut self, steps: u64) {
        for _ in 0..steps {
            self.steps += 1;
            match self.random.below(40) {
                0 => self.cut_off(),
                1 | 2 => self.mend(),
                3 => self.restart_one(),
                4 => self.network.set_conditions(Conditions::rough()),
                5 => self.network.set_conditions(Conditions::calm()),
                _ => self.act(),
            }
            let pause = Duration::from_millis(self.random.below(400));
            self.runtime.pass(pause);
        }
    }

    fn note(&self, text: String) {
        let at = self.runtime.clock().monotonic();
        self.log.lock().push(format!("{at:?} {text}"));
    }

    /// Cuts the servers into two parts.
    fn cut_off(&self) {
        let side: Vec<bool> = self.servers.iter().map(|_| self.random.below(2) == 0).collect();
        self.note(format!("a partition: {side:?}"));
        for (one, on_one) in self.servers.iter().zip(&side) {
            for (other, _) in self.servers.iter().zip(&side).filter(|(_, on_other)| *on_other != on_one) {
                self.network.cut(one.name(), other.name());
            }
        }
    }

    fn mend(&self) {
        self.note("all links are mended".to_owned());
        self.network.mend();
    }

    fn restart_one(&mut self) {
        let index = self.random.below(self.servers.len() as u64) as usize;
        self.note(format!("{} restarts", self.servers[index].name()));
        self.servers[index].restart(&self.runtime, &self.network);
    }

    /// Somebody does something, which may take its time and may well be refused.
    fn act(&mut self) {
        let index = self.random.below(self.users.len() as u64) as usize;
        let target = self.users[self.random.below(self.users.len() as u64) as usize].1.clone();
        let (member, room, step) = (self.member(index), self.room.clone(), self.steps);
        let number = self.random.below(1000);
        let choice = self.random.below(match self.mood {
            Mood::Peaceful => 14,
            Mood::Quarrelsome => 22,
        });
        let (via, log, clock) = (self.via(), self.log.clone(), self.runtime.clock().clone());
        let server = &self.servers[self.users[index].0];
        let everybody: Vec<UserId> = self.users.iter().map(|(_, user)| user.clone()).collect();
        let _entered = self.runtime.handle().enter();
        server.tasks().clone().spawn("an action", async move {
            let action = Action { member: &member, room: &room, target: &target, everybody: &everybody, via: &via };
            let begun = clock.monotonic();
            let (what, result) = action.take(choice, number, step).await;
            let result = result.map_or_else(|error| error.to_string(), |()| "done".to_owned());
            log.lock().push(format!("{begun:?} {} {what} {target}: {result}", member.user));
        });
    }

    /// Mends everything and waits until all is said, and no server lacks members of the room.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn drain(&self) {
        self.network.mend();
        self.network.set_conditions(Conditions::calm());
        let clock = self.runtime.clock();
        let until = clock.monotonic() + DRAIN;
        loop {
            self.runtime.pass(Duration::from_secs(1));
            let staged: usize = self.servers.iter().map(|server| server.federation().staged_events()).sum();
            if staged == 0 && !self.lacks_members() && self.network.idle_for() >= SILENCE {
                return;
            }
            assert!(clock.monotonic() < until, "seed {}: the servers never fall silent\n{}", self.seed, self.log());
        }
    }

    /// Whether a server that is in the room does not know all members yet.
    fn lacks_members(&self) -> bool {
        self.users.iter().any(|(server, user)| self.servers[*server].member(user).is_partial(&self.room))
    }

    /// Brings the world to rest: everybody says a last word until all know each other's, and asks for what is missing
    /// of the history.
    pub fn come_to_rest(&self) {
        self.drain();
        // Events that could not be judged while links were cut are tried again after half a minute, then after two.
        self.runtime.pass(Duration::from_secs(200));
        self.drain();
        for round in 0..LAST_WORDS {
            for (index, server) in self.servers.iter().enumerate() {
                self.say_last_word(index, &format!("last word {round} of {}", server.name()));
            }
            self.drain();
        }
        for server in &self.servers {
            let (remote, rooms, room) = (server.federation().clone(), server.rooms().clone(), self.room.clone());
            self.runtime.run(ACTION * 4, async move {
                let Ok(nid) = rooms.known_room(&room) else { return };
                for _ in 0..BACKFILLS {
                    match remote.backfill(nid, 100).await {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return,
                    }
                }
            });
        }
        self.drain();
    }

    /// Somebody of a server who may speak says something; servers that nobody of is in the room are silent.
    fn say_last_word(&self, server: usize, body: &str) {
        for (of, user) in &self.users {
            if *of != server {
                continue;
            }
            let (member, room, content) = (self.servers[server].member(user), self.room.clone(), text(body));
            if !member.is_resident(&room) {
                return;
            }
            let draft = Draft::message(user.clone(), "m.room.message", content);
            if self.runtime.run(ACTION, async move { append(&member, &room, draft).await }).is_ok() {
                return;
            }
        }
    }

    /// What the servers have of the room that are in it.
    #[must_use]
    pub fn pictures(&self) -> Vec<Picture> {
        self.all_pictures().into_iter().filter(|picture| picture.is_resident).collect()
    }

    /// What all servers have of the room, those too that have left it.
    #[must_use]
    pub fn all_pictures(&self) -> Vec<Picture> {
        self.servers.iter().filter_map(|server| Picture::take(server, &self.room)).collect()
    }

    /// A user of the world changes a membership.
    ///
    /// # Errors
    /// What forbids it.
    pub fn change(&self, by: usize, of: &UserId, membership: Membership) -> Result<(), RoomError> {
        let (member, room, target) = (self.member(by), self.room.clone(), of.clone());
        self.runtime.run(ACTION, async move {
            let change = MembershipChange { sender: member.user, target, membership, content: Map::new() };
            member.rooms.change_membership(&room, change).await
        })
    }

    /// A user of the world sends an event; with a key it is a state event.
    ///
    /// # Errors
    /// What forbids it.
    pub fn send(&self, by: usize, kind: &str, key: Option<&str>, content: Value) -> Result<(), RoomError> {
        let (member, room) = (self.member(by), self.room.clone());
        let draft = match key {
            Some(key) => Draft::state(member.user.clone(), kind, key, object(content)),
            None => Draft::message(member.user.clone(), kind, object(content)),
        };
        self.runtime.run(ACTION, async move { append(&member, &room, draft).await })
    }

    /// The current state event of a key as a server has it: its id and content.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn state_event(&self, server: usize, kind: &str, key: &str) -> Option<(EventId, Value)> {
        let rooms = self.servers[server].rooms();
        let nid = rooms.known_room(&self.room).expect("a known room");
        let head = rooms.head(nid).expect("a head");
        let event = rooms.state_event(nid, head.state(), kind, key).expect("the state can be read")?;
        let id = EventId::parse(event.event_id()).expect("an event id");
        Some((id, event.content_as().unwrap_or(Value::Null)))
    }

    /// Checks what every server stores.
    ///
    /// # Panics
    /// If rows contradict each other.
    pub fn assert_sound(&self) {
        for server in &self.servers {
            let findings = rooms::fsck::check(server.store(), &mut |_| {}).expect("the store can be read");
            let problems = &findings.problems;
            assert!(problems.is_empty(), "seed {}: {} is damaged: {problems:#?}", self.seed, server.name());
        }
    }
}

/// Something a user does.
struct Action<'a> {
    member: &'a Member,
    room: &'a RoomId,
    target: &'a UserId,
    everybody: &'a [UserId],
    via: &'a [ServerName],
}

impl Action<'_> {
    async fn take(&self, choice: u64, number: u64, step: u64) -> (&'static str, Result<(), RoomError>) {
        match choice {
            0..=3 => ("joins", join(self.member, self.room, self.via).await),
            4..=6 => ("speaks", self.send("m.room.message", None, text(&format!("message {step}"))).await),
            7 => ("sets the topic", self.send("m.room.topic", Some(""), object(json!({"topic": step}))).await),
            8 => ("sets the name", self.send("m.room.name", Some(""), object(json!({"name": step}))).await),
            9 => ("reacts", self.send("test.state", Some(self.target.as_str()), object(json!({"n": step}))).await),
            10 => ("invites", self.invite().await),
            11 => ("redacts", self.redact(number).await),
            12 => ("looks back", self.look_back().await),
            13 => ("leaves", self.leave().await),
            14 | 15 => ("bans", self.change(Membership::Ban).await),
            16 | 17 => ("kicks or unbans", self.change(Membership::Leave).await),
            18 | 19 => ("changes power", self.change_power(number).await),
            20 => ("changes the join rule", self.change_join_rule(number).await),
            _ => ("changes their name", self.rename(step).await),
        }
    }

    async fn send(&self, kind: &str, key: Option<&str>, content: Map<String, Value>) -> Result<(), RoomError> {
        let user = self.member.user.clone();
        let draft = match key {
            Some(key) => Draft::state(user, kind, key, content),
            None => Draft::message(user, kind, content),
        };
        append(self.member, self.room, draft).await
    }

    async fn change(&self, membership: Membership) -> Result<(), RoomError> {
        let (sender, target) = (self.member.user.clone(), self.target.clone());
        let change = MembershipChange { sender, target, membership, content: Map::new() };
        self.member.rooms.change_membership(self.room, change).await
    }

    async fn leave(&self) -> Result<(), RoomError> {
        if !self.member.is_resident(self.room) {
            return self.member.port().leave(&self.member.user, self.room, Map::new()).await;
        }
        let user = &self.member.user;
        let (sender, target, membership) = (user.clone(), user.clone(), Membership::Leave);
        let change = MembershipChange { sender, target, membership, content: Map::new() };
        self.member.rooms.change_membership(self.room, change).await
    }

    async fn invite(&self) -> Result<(), RoomError> {
        if self.target.server_name() == self.member.user.server_name() {
            return self.change(Membership::Invite).await;
        }
        self.member.port().invite(&self.member.user, self.room, self.target, Map::new()).await
    }

    /// Redacts one of the last events.
    async fn redact(&self, number: u64) -> Result<(), RoomError> {
        let rooms = &self.member.rooms;
        let nid = rooms.known_room(self.room)?;
        let last = rooms.head(nid)?.last_seq();
        let after = RoomSeq(last.0.saturating_sub(1 + number as i64 % 12));
        let events = rooms.events_after(nid, after, 1)?;
        let event = events.first().ok_or(RoomError::EventNotFound)?;
        let id = EventId::parse(event.event_id()).map_err(|_| RoomError::EventNotFound)?;
        let mut content = Map::new();
        if rooms.head(nid)?.rules().redacts_in_content {
            content.insert("redacts".into(), id.as_str().into());
        }
        append(self.member, self.room, Draft::redaction(self.member.user.clone(), id, content)).await
    }

    async fn look_back(&self) -> Result<(), RoomError> {
        let nid = self.member.rooms.known_room(self.room)?;
        self.member.port().backfill(nid, 20).await.map(drop)
    }

    /// Gives or takes power: somebody else's, or their own.
    async fn change_power(&self, number: u64) -> Result<(), RoomError> {
        let rooms = &self.member.rooms;
        let nid = rooms.known_room(self.room)?;
        let current = rooms.state_event(nid, rooms.head(nid)?.state(), "m.room.power_levels", "")?;
        let mut content: Map<String, Value> =
            current.and_then(|event| event.content_as()).unwrap_or_else(|| object(json!({"users": {}})));
        let level = [0, 25, 50, 100][number as usize % 4];
        if let Some(Value::Object(users)) = content.get_mut("users") {
            users.insert(self.target.as_str().into(), level.into());
        }
        // Now and then everybody may do more.
        if number.is_multiple_of(7) {
            content.insert("kick".into(), 0.into());
            content.insert("state_default".into(), 0.into());
        }
        // A creator's power is not written down from version 12 on.
        if rooms.head(nid)?.rules().explicitly_privilege_room_creators && self.everybody.first() == Some(self.target) {
            return Err(RoomError::Refused("the creator's power is what it is"));
        }
        self.send("m.room.power_levels", Some(""), content).await
    }

    async fn change_join_rule(&self, number: u64) -> Result<(), RoomError> {
        let rule = ["public", "public", "invite"][number as usize % 3];
        self.send("m.room.join_rules", Some(""), object(json!({"join_rule": rule}))).await
    }

    async fn rename(&self, step: u64) -> Result<(), RoomError> {
        let nid = self.member.rooms.known_room(self.room)?;
        let content = object(json!({"displayname": format!("number {step}")}));
        self.member.rooms.update_member(nid, &self.member.user, content).await
    }
}

/// Joins as a client's request does: here if the server is in the room, else through others.
///
/// # Errors
/// What forbids it.
pub async fn join(member: &Member, room: &RoomId, via: &[ServerName]) -> Result<(), RoomError> {
    let (sender, target) = (member.user.clone(), member.user.clone());
    let change = MembershipChange { sender, target, membership: Membership::Join, content: Map::new() };
    match member.rooms.change_membership(room, change).await {
        Err(RoomError::NotResident | RoomError::RoomNotFound) => {
            member.port().join(&member.user, room, via, Map::new()).await
        }
        result => result,
    }
}

async fn append(member: &Member, room: &RoomId, draft: Draft) -> Result<(), RoomError> {
    let nid = member.rooms.known_room(room)?;
    member.rooms.append(nid, vec![draft], None).await.map(drop)
}

/// Every server asks every other something, so that all know each other's keys: what cannot be verified while a server
/// is away is left out of states, and then servers differ for a reason that is nobody's mistake.
///
/// # Panics
/// If one does not answer.
pub fn introduce(servers: &[SimServer], runtime: &SimRuntime) {
    for server in servers {
        for other in servers.iter().filter(|other| other.name() != server.name()) {
            let (remote, asked) = (server.federation().clone(), other.name().clone());
            let listed = runtime.run(ACTION, async move { remote.public_rooms(&asked, Map::new()).await });
            listed.unwrap_or_else(|error| panic!("{} does not know {}: {error}", other.name(), server.name()));
        }
    }
}

fn room_of(creator: &UserId, version: RoomVersion, history_visibility: &str) -> CreateRoom {
    let visibility = object(json!({"history_visibility": history_visibility}));
    CreateRoom {
        initial_state: vec![("m.room.history_visibility".to_owned(), String::new(), visibility)],
        power_levels: object(json!({"state_default": 0, "invite": 0, "redact": 25})),
        ..CreateRoom::new(creator.clone(), version, Preset::PublicChat)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn text(body: &str) -> Map<String, Value> {
    object(json!({"msgtype": "m.text", "body": body}))
}

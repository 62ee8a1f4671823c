//! Whatever happens, and whenever a client asks: one that applies every answer knows what one that
//! starts afresh is told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rooms::{Draft, Membership, MembershipChange};
use serde_json::{Map, Value, json};
use spec::ids::RoomId;
use users::Session;

use crate::server::{Server, filtered, request, run, token};

#[derive(Clone, Debug)]
enum Step {
    Say(usize, usize),
    Set(usize, usize, usize),
    Move(usize, usize, usize, usize),
    SyncClassic(usize),
    SyncSliding,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, 0..3usize).prop_map(|(room, user)| Step::Say(room, user)),
        3 => (0..3usize, 0..3usize, 0..2usize).prop_map(|(room, user, key)| Step::Set(room, user, key)),
        3 => (0..3usize, 0..3usize, 0..3usize, 0..4usize).prop_map(|(r, by, of, to)| Step::Move(r, by, of, to)),
        2 => (0..2usize).prop_map(Step::SyncClassic),
        1 => Just(Step::SyncSliding),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Room {
    state: BTreeMap<(String, String), String>,
    timeline: Vec<String>,
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap().to_owned()
}

impl Room {
    fn apply_state(&mut self, events: &Value) {
        for event in events.as_array().into_iter().flatten().filter(|event| event.get("state_key").is_some()) {
            self.state.insert((text(event, "type"), text(event, "state_key")), text(event, "event_id"));
        }
    }

    fn apply_timeline(&mut self, events: &Value, limited: bool) {
        if limited {
            self.timeline.clear();
        }
        self.timeline.extend(events.as_array().into_iter().flatten().map(|event| text(event, "event_id")));
    }

    /// The same, as far as both reach back.
    fn agrees_with(&self, other: &Room) -> bool {
        let common = self.timeline.len().min(other.timeline.len());
        let tail = |room: &Room| room.timeline[room.timeline.len() - common..].to_vec();
        self.state == other.state && tail(self) == tail(other)
    }
}

type Rooms = BTreeMap<String, Room>;

fn apply_classic(rooms: &mut Rooms, answer: &Value, state_after: bool) {
    for (id, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
        let known = rooms.entry(id.clone()).or_default();
        let timeline = &room["timeline"];
        if state_after {
            known.apply_state(&room["state_after"]["events"]);
        } else {
            known.apply_state(&room["state"]["events"]);
            known.apply_state(&timeline["events"]);
        }
        known.apply_timeline(&timeline["events"], timeline["limited"] == true);
    }
    // Whoever is invited again is no longer in, whether or not they are told how they went.
    for section in ["leave", "invite", "knock"] {
        for (id, _) in answer["rooms"][section].as_object().into_iter().flatten() {
            rooms.remove(id);
        }
    }
}

fn apply_sliding(rooms: &mut Rooms, answer: &Value) {
    for (id, room) in answer["rooms"].as_object().into_iter().flatten() {
        if room["membership"] != "join" {
            rooms.remove(id);
            continue;
        }
        if room["initial"] == true {
            rooms.remove(id);
        }
        let known = rooms.entry(id.clone()).or_default();
        known.apply_state(&room["required_state"]);
        let afresh = room["limited"] == true || room["expanded_timeline"] == true;
        known.apply_timeline(&room["timeline"], afresh);
    }
}

struct World {
    server: Server,
    users: Vec<std::sync::Arc<Session>>,
    ids: Vec<RoomId>,
}

impl World {
    async fn new(server: Server) -> World {
        let mut users = Vec::new();
        for name in ["alice", "bob", "carol"] {
            users.push(server.login(name, "D").await);
        }
        let mut ids = Vec::new();
        for user in &users {
            ids.push(server.create(user, |new| new.power_levels = levels()).await);
        }
        World { server, users, ids }
    }

    /// Does what a step says, if it is allowed.
    async fn act(&self, n: usize, step: &Step) {
        let rooms = &self.server.rooms;
        match *step {
            Step::Say(room, user) => {
                let draft = Draft::message(self.users[user].user_id.clone(), "m.room.message", body(n));
                let _ = rooms.append(self.server.nid(&self.ids[room]), vec![draft], None).await;
            }
            Step::Set(room, user, key) => {
                let kind = ["m.room.topic", "m.room.name"][key];
                let draft = Draft::state(self.users[user].user_id.clone(), kind, "", body(n));
                let _ = rooms.append(self.server.nid(&self.ids[room]), vec![draft], None).await;
            }
            Step::Move(room, by, of, to) => {
                let membership = [Membership::Join, Membership::Leave, Membership::Invite, Membership::Join][to];
                let by = if to == 2 || to == 1 { by } else { of };
                let (sender, target) = (self.users[by].user_id.clone(), self.users[of].user_id.clone());
                let change = MembershipChange { sender, target, membership, content: body(n) };
                let _ = rooms.change_membership(&self.ids[room], change).await;
            }
            Step::SyncClassic(_) | Step::SyncSliding => {}
        }
    }
}

fn levels() -> Map<String, Value> {
    json!({"state_default": 0, "kick": 0, "invite": 0, "events": {}, "users_default": 0}).as_object().unwrap().clone()
}

fn body(n: usize) -> Map<String, Value> {
    json!({"body": n.to_string(), "name": n.to_string(), "topic": n.to_string()}).as_object().unwrap().clone()
}

/// A client's side: what it knows and where it stands.
struct Clients {
    classic: [(Rooms, Option<String>); 2],
    sliding: (Rooms, Option<String>),
}

impl Clients {
    async fn sync_classic(&mut self, world: &World, which: usize) {
        let (rooms, since) = &mut self.classic[which];
        let filter = json!({"room": {"timeline": {"limit": 4}}});
        let mut wish = filtered(since.as_deref(), filter);
        wish.state_after = (which == 1).then_some("state_after");
        let answer = world.server.v3_with(&world.users[0], wish).await.unwrap();
        apply_classic(rooms, &answer, which == 1);
        *since = Some(token(&answer).to_owned());
    }

    async fn sync_sliding(&mut self, world: &World, all: bool) {
        let (rooms, pos) = &mut self.sliding;
        let mut wish =
            json!({"lists": {"all": {"ranges": [[0, 1]], "timeline_limit": 3, "required_state": [["*", "*"]]}}});
        if all || pos.is_none() || rooms.len() > 1 {
            wish["lists"]["all"]["ranges"] = json!([[0, 9]]);
        }
        if let Some(pos) = pos {
            wish["pos"] = pos.as_str().into();
        }
        let answer = world.server.sliding(&world.users[0], wish).await.unwrap();
        apply_sliding(rooms, &answer);
        *pos = Some(answer["pos"].as_str().unwrap().to_owned());
    }
}

async fn check(server: Server, steps: Vec<Step>) {
    let world = World::new(server).await;
    let mut clients = Clients { classic: Default::default(), sliding: Default::default() };
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::SyncClassic(which) => clients.sync_classic(&world, *which).await,
            Step::SyncSliding => clients.sync_sliding(&world, false).await,
            other => world.act(n, other).await,
        }
    }
    clients.sync_classic(&world, 0).await;
    clients.sync_classic(&world, 1).await;
    clients.sync_sliding(&world, true).await;
    let mut fresh = Rooms::new();
    let answer = world.server.v3_with(&world.users[0], request(None)).await.unwrap();
    apply_classic(&mut fresh, &answer, false);
    for (name, known) in [
        ("classic", &clients.classic[0].0),
        ("classic with state_after", &clients.classic[1].0),
        ("sliding", &clients.sliding.0),
    ] {
        assert_eq!(known.keys().collect::<Vec<_>>(), fresh.keys().collect::<Vec<_>>(), "{name}: rooms");
        for (id, room) in known {
            assert!(room.agrees_with(&fresh[id]), "{name}: {id}\nknows   {room:#?}\nshould  {:#?}", fresh[id]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_that_follows_knows_what_a_fresh_one_is_told(steps in prop::collection::vec(step(), 1..60)) {
        run(|server| check(server, steps));
    }
}

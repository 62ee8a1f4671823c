use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    auth::{
        CREATE, JOIN_RULES, MEMBER, POWER_LEVELS,
        tests::{ALICE, BOB, CAROL, event, pdu},
    },
    version::RoomVersion,
};

/// The versions that cover the three algorithms.
const ALGORITHMS: [RoomVersion; 3] = [RoomVersion::V1, RoomVersion::V11, RoomVersion::V12];

/// Events by name, made one after the other: each is a second and a depth later than the one before.
struct Dag {
    version: RoomVersion,
    events: HashMap<EventId, Arc<Pdu>>,
    clock: i64,
}

fn id(name: &str) -> EventId {
    EventId::parse(format!("${name}")).unwrap()
}

impl Dag {
    /// A public room by Alice with Bob in it, who has level 50: `create`, `alice`, `levels`, `rules`, `bob`.
    fn new(version: RoomVersion) -> Self {
        let mut dag = Self { version, events: HashMap::new(), clock: 0 };
        let users = if version == RoomVersion::V12 { json!({ BOB: 50 }) } else { json!({ ALICE: 100, BOB: 50 }) };
        dag.add("create", ALICE, CREATE, "", json!({ "creator": ALICE }), &[]);
        dag.add("alice", ALICE, MEMBER, ALICE, json!({ "membership": "join" }), &[]);
        dag.add("levels", ALICE, POWER_LEVELS, "", json!({ "users": users }), &["alice"]);
        dag.add("rules", ALICE, JOIN_RULES, "", json!({ "join_rule": "public" }), &["alice", "levels"]);
        dag.add("bob", BOB, MEMBER, BOB, json!({ "membership": "join" }), &["rules", "levels"]);
        dag
    }

    /// Adds a state event; the create event is added to its auth events where the version wants it.
    fn add(&mut self, name: &str, sender: &str, kind: &str, key: &str, content: Value, auth: &[&str]) {
        self.clock += 1;
        let mut new = event(self.version, name, sender, kind, Some(key), content);
        let mut auth: Vec<String> = auth.iter().map(|name| format!("${name}")).collect();
        if kind != CREATE && self.version != RoomVersion::V12 {
            auth.push("$create".into());
        }
        new["auth_events"] = json!(auth);
        new["depth"] = self.clock.into();
        new["origin_server_ts"] = (self.clock * 1000).into();
        if name == "alice" {
            new["prev_events"] = json!(["$create"]);
        }
        let new = pdu(self.version, new);
        self.events.insert(new.event_id.clone(), new);
    }

    /// The state of the base room with these events on top.
    fn state(&self, changes: &[&str]) -> StateMap<EventId> {
        let base = ["create", "alice", "levels", "rules", "bob"];
        let event = |name: &&str| Arc::clone(&self.events[&id(name)]);
        let entry = |event: Arc<Pdu>| ((event.kind.clone(), event.state_key.clone().unwrap()), event.event_id.clone());
        base.iter().chain(changes).map(event).map(entry).collect()
    }

    /// Resolves in both orders, which must not matter, and gives the event name for a key.
    fn resolve(&self, sets: &[StateMap<EventId>]) -> StateMap<EventId> {
        let fetch = |id: &EventId| self.events.get(id).cloned();
        let rules = self.version.rules();
        let result = resolve(rules, sets, &fetch).unwrap();
        let reversed: Vec<_> = sets.iter().rev().cloned().collect();
        assert_eq!(result, resolve(rules, &reversed, &fetch).unwrap());
        result
    }
}

fn winner<'s>(state: &'s StateMap<EventId>, kind: &str, key: &str) -> Option<&'s str> {
    state.get(&(kind.into(), key.into())).and_then(|id| id.as_str().strip_prefix('$'))
}

#[test]
fn equal_states_stay() {
    for version in RoomVersion::ALL {
        let dag = Dag::new(version);
        let state = dag.state(&[]);
        assert_eq!(dag.resolve(&[state.clone(), state.clone()]), state);
        assert_eq!(resolve(version.rules(), &[], &|_| None).unwrap(), StateMap::new());
    }
}

#[test]
fn an_event_that_only_one_state_has_is_kept_if_allowed() {
    for version in ALGORITHMS {
        let mut dag = Dag::new(version);
        dag.add("topic", ALICE, "m.room.topic", "", json!({}), &["alice", "levels"]);
        let result = dag.resolve(&[dag.state(&[]), dag.state(&["topic"])]);
        assert_eq!(winner(&result, "m.room.topic", ""), Some("topic"));
    }
}

#[test]
fn a_ban_beats_what_the_banned_user_did_meanwhile() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let mut dag = Dag::new(version);
        dag.add("ban", ALICE, MEMBER, BOB, json!({ "membership": "ban" }), &["alice", "levels", "bob"]);
        dag.add("topic", BOB, "m.room.topic", "", json!({}), &["bob", "levels"]);
        let users = json!({ BOB: 50, CAROL: 50 });
        dag.add("evil", BOB, POWER_LEVELS, "", json!({ "users": users }), &["bob", "levels"]);
        let result = dag.resolve(&[dag.state(&["ban"]), dag.state(&["topic", "evil"])]);
        assert_eq!(winner(&result, MEMBER, BOB), Some("ban"));
        assert_eq!(winner(&result, "m.room.topic", ""), None);
        assert_eq!(winner(&result, POWER_LEVELS, ""), Some("levels"));
    }
}

#[test]
fn a_closed_door_stays_closed_to_a_late_join() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let mut dag = Dag::new(version);
        dag.add("closed", ALICE, JOIN_RULES, "", json!({ "join_rule": "invite" }), &["alice", "levels"]);
        dag.add("carol", CAROL, MEMBER, CAROL, json!({ "membership": "join" }), &["rules", "levels"]);
        let result = dag.resolve(&[dag.state(&["closed"]), dag.state(&["carol"])]);
        assert_eq!(winner(&result, JOIN_RULES, ""), Some("closed"));
        assert_eq!(winner(&result, MEMBER, CAROL), None);
    }
}

#[test]
fn the_stronger_demotion_wins() {
    for version in [RoomVersion::V2, RoomVersion::V11] {
        let mut dag = Dag::new(version);
        let by_bob = json!({ "users": { ALICE: 100, BOB: 50 }, "users_default": 50 });
        dag.add("by_bob", BOB, POWER_LEVELS, "", by_bob, &["bob", "levels"]);
        dag.add("demote", ALICE, POWER_LEVELS, "", json!({ "users": { ALICE: 100 } }), &["alice", "levels"]);
        let result = dag.resolve(&[dag.state(&["by_bob"]), dag.state(&["demote"])]);
        assert_eq!(winner(&result, POWER_LEVELS, ""), Some("demote"));
    }
}

#[test]
fn topics_follow_the_mainline_before_the_clock() {
    for version in [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12] {
        let mut dag = Dag::new(version);
        let users = if version == RoomVersion::V12 { json!({ BOB: 51 }) } else { json!({ ALICE: 100, BOB: 51 }) };
        dag.add("levels2", ALICE, POWER_LEVELS, "", json!({ "users": users }), &["alice", "levels"]);
        dag.add("new_topic", ALICE, "m.room.topic", "", json!({}), &["alice", "levels2"]);
        // Later by the clock, but resting on older levels.
        dag.add("old_topic", ALICE, "m.room.topic", "", json!({}), &["alice", "levels"]);
        let result = dag.resolve(&[dag.state(&["levels2", "new_topic"]), dag.state(&["old_topic"])]);
        assert_eq!(winner(&result, POWER_LEVELS, ""), Some("levels2"));
        assert_eq!(winner(&result, "m.room.topic", ""), Some("new_topic"));
    }
}

#[test]
fn equal_footing_is_decided_by_time() {
    for version in ALGORITHMS {
        let mut dag = Dag::new(version);
        for name in ["first", "second", "third"] {
            dag.add(name, BOB, "m.room.topic", "", json!({ "topic": name }), &["bob", "levels"]);
        }
        let sets = [dag.state(&["second"]), dag.state(&["third"]), dag.state(&["first"])];
        assert_eq!(winner(&dag.resolve(&sets), "m.room.topic", ""), Some("third"));
    }
}

#[test]
fn version_1_goes_by_depth_as_long_as_each_step_is_allowed() {
    let mut dag = Dag::new(RoomVersion::V1);
    dag.add("weaker", ALICE, POWER_LEVELS, "", json!({ "users": { ALICE: 100 } }), &["alice", "levels"]);
    dag.add("by_bob", BOB, POWER_LEVELS, "", json!({ "users": { ALICE: 100, BOB: 50 } }), &["bob", "levels"]);
    let result = dag.resolve(&[dag.state(&["weaker"]), dag.state(&["by_bob"])]);
    assert_eq!(winner(&result, POWER_LEVELS, ""), Some("weaker"));
}

#[test]
fn missing_events_are_an_error() {
    for version in ALGORITHMS {
        let mut dag = Dag::new(version);
        dag.add("topic", ALICE, "m.room.topic", "", json!({}), &["alice", "levels"]);
        dag.add("other", ALICE, "m.room.topic", "", json!({ "topic": "" }), &["alice", "levels"]);
        let sets = [dag.state(&["other"]), dag.state(&["topic"])];
        dag.events.remove(&id("topic"));
        let result = resolve(version.rules(), &sets, &|id: &EventId| dag.events.get(id).cloned());
        assert_eq!(result, Err(ResolveError::MissingEvent(id("topic"))));
    }
}

#[test]
fn cycles_of_given_ids_end() {
    let mut dag = Dag::new(RoomVersion::V2);
    dag.add("one", ALICE, POWER_LEVELS, "", json!({}), &["alice", "two"]);
    dag.add("two", ALICE, POWER_LEVELS, "", json!({ "ban": 1 }), &["alice", "one"]);
    dag.add("topic", ALICE, "m.room.topic", "", json!({}), &["alice", "two"]);
    let result = dag.resolve(&[dag.state(&["one"]), dag.state(&["two", "topic"])]);
    assert_eq!(winner(&result, POWER_LEVELS, ""), None);
}

/// Counts fetches, and knows the order of arrival.
struct Counted<'a> {
    dag: &'a Dag,
    fetched: std::cell::Cell<usize>,
}

impl EventSource for Counted<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.fetched.set(self.fetched.get() + 1);
        self.dag.events.get(id).cloned()
    }

    fn arrival(&self, id: &EventId) -> Option<u64> {
        self.dag.events.get(id).map(|event| event.depth as u64)
    }
}

#[test]
fn old_members_of_a_large_room_are_not_fetched() {
    let mut dag = Dag::new(RoomVersion::V11);
    let members: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    for name in &members {
        let user = format!("@{name}:m.example");
        dag.add(name, &user, MEMBER, &user, json!({ "membership": "join" }), &["rules", "levels"]);
    }
    let late = "@late:l.example";
    dag.add("late", late, MEMBER, late, json!({ "membership": "join" }), &["rules", "levels"]);
    dag.add("invite", late, MEMBER, CAROL, json!({ "membership": "invite" }), &["late", "levels", "rules"]);
    dag.add("carol", CAROL, MEMBER, CAROL, json!({ "membership": "join" }), &["invite", "levels", "rules"]);
    let members: Vec<&str> = members.iter().map(|name| &**name).chain(["late"]).collect();
    let sets = [dag.state(&members), dag.state(&[&members[..], &["carol"]].concat())];
    let source = Counted { dag: &dag, fetched: 0.into() };
    let resolution = resolve_conflicts(dag.version.rules(), &sets, &source).unwrap();
    assert_eq!(resolution.decided.values().flatten().collect::<Vec<_>>(), [&id("carol")]);
    assert!(source.fetched.get() < 20, "{}", source.fetched.get());
}

/// Knows what all of some states say, for resolution of what differs only.
struct Agreed<'a> {
    dag: &'a Dag,
    state: StateMap<EventId>,
}

impl EventSource for Agreed<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.dag.events.get(id).cloned()
    }

    fn agreed(&self, kind: &str, state_key: &str) -> Option<EventId> {
        self.state.get(&(kind.into(), state_key.into())).cloned()
    }

    fn all_agreed(&self) -> Vec<(EventId, Option<u64>)> {
        self.state.values().map(|id| (id.clone(), None)).collect()
    }
}

#[test]
fn what_differs_alone_is_resolved_like_the_whole() {
    for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let mut dag = Dag::new(version);
        dag.add("ban", ALICE, MEMBER, BOB, json!({ "membership": "ban" }), &["alice", "levels", "bob"]);
        dag.add("topic", BOB, "m.room.topic", "", json!({}), &["bob", "levels"]);
        dag.add("name", ALICE, "m.room.name", "", json!({}), &["alice", "levels"]);
        dag.add("carol", CAROL, MEMBER, CAROL, json!({ "membership": "join" }), &["rules", "levels"]);
        let sets = [dag.state(&["ban", "name"]), dag.state(&["topic", "name"]), dag.state(&["carol", "name"])];
        let whole = resolve_conflicts(version.rules(), &sets, &Agreed { dag: &dag, state: StateMap::new() }).unwrap();
        let agreed: StateMap<EventId> = sets[0]
            .clone()
            .into_iter()
            .filter(|entry| sets.iter().all(|set| set.get(&entry.0) == Some(&entry.1)))
            .collect();
        let parts = sets.map(|mut set| {
            set.retain(|key, _| !agreed.contains_key(key));
            set
        });
        let part = resolve_differences(version.rules(), &parts, &Agreed { dag: &dag, state: agreed }).unwrap();
        assert!(!whole.decided.is_empty());
        assert_eq!(whole, part, "{version}");
    }
}

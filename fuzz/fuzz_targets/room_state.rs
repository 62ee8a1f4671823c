//! Authorisation and state resolution over made-up rooms: no panic, and a result that does not
//! depend on the order of the states.
#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use spec::{
    auth::{auth_types, check_auth_events, check_state, join_authoriser},
    ids::EventId,
    pdu::Pdu,
    power::PowerLevels,
    state_res::{StateMap, resolve},
    version::{RoomVersion, RoomVersionRules},
};

const USERS: [&str; 4] = ["@a:one", "@b:one", "@c:two", "@d:two"];
const MAX_EVENTS: usize = 24;

/// What an event is made from; `prev` and `auth` are bit masks over the events before it.
#[derive(Arbitrary, Debug)]
struct Step {
    kind: Kind,
    sender: u8,
    subject: u8,
    level: i16,
    variant: u8,
    prev: u32,
    auth: u32,
    ts: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Create,
    Member,
    PowerLevels,
    JoinRules,
    ThirdPartyInvite,
    Aliases,
    Redaction,
    Topic,
    Message,
}

#[derive(Debug)]
struct Room {
    version: RoomVersion,
    steps: Vec<Step>,
    /// Each mask picks the events whose state is one of the states to be resolved.
    sets: [u32; 3],
    text: String,
}

impl<'a> Arbitrary<'a> for Room {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let version = *u.choose(&RoomVersion::ALL)?;
        let count = u.int_in_range(1..=MAX_EVENTS)?;
        let sets = u.arbitrary()?;
        let steps = (0..count).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        Ok(Room { version, steps, sets, text: u.arbitrary()? })
    }
}

fuzz_target!(|room: Room| {
    let rules = room.version.rules();
    let mut events: Vec<Arc<Pdu>> = Vec::new();
    for (index, step) in room.steps.iter().enumerate() {
        let object = build_event(&room, rules, index, step, &events);
        if let Ok(pdu) = Pdu::from_object(object, rules) {
            events.push(Arc::new(pdu));
        }
    }
    let by_id: BTreeMap<EventId, Arc<Pdu>> = events.iter().map(|pdu| (pdu.event_id.clone(), Arc::clone(pdu))).collect();
    let mut state: StateMap<Arc<Pdu>> = StateMap::new();
    for pdu in &events {
        authorise(rules, pdu, &events, &state);
        if let Some(key) = &pdu.state_key {
            state.insert((pdu.kind.clone(), key.clone()), Arc::clone(pdu));
        }
    }
    if let Some(create) = state.get(&("m.room.create".into(), "".into())) {
        let levels = state.get(&("m.room.power_levels".into(), "".into()));
        let levels = PowerLevels::from_state(levels.map(|pdu| &**pdu), create, rules);
        let _ = (levels.required_for_event("m.room.topic", true), levels.notification("room"));
    }
    resolve_in_any_order(rules, &room.sets, &events, &by_id);
});

fn authorise(rules: &RoomVersionRules, pdu: &Pdu, events: &[Arc<Pdu>], state: &StateMap<Arc<Pdu>>) {
    let types = auth_types(rules, &pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content);
    let lookup = |kind: &str, key: &str| {
        let wanted = (Box::from(kind), Box::from(key));
        assert!(kind == "m.room.create" || types.contains(&wanted), "{wanted:?} is asked for, but not an auth type");
        state.get(&wanted).cloned()
    };
    let _ = check_auth_events(rules, pdu, events);
    if let Err(failure) = check_state(rules, pdu, &lookup) {
        assert!(!failure.to_string().is_empty());
    }
    let _ = join_authoriser(rules, pdu);
}

fn resolve_in_any_order(
    rules: &RoomVersionRules,
    masks: &[u32],
    events: &[Arc<Pdu>],
    by_id: &BTreeMap<EventId, Arc<Pdu>>,
) {
    let mut sets: Vec<StateMap<EventId>> = masks
        .iter()
        .map(|mask| {
            let chosen = events.iter().enumerate().filter(|(index, _)| mask >> (index % 32) & 1 == 1);
            let keyed =
                chosen.filter_map(|(_, pdu)| Some(((pdu.kind.clone(), pdu.state_key.clone()?), pdu.event_id.clone())));
            keyed.collect()
        })
        .collect();
    let fetch = |id: &EventId| by_id.get(id).cloned();
    let resolved = resolve(rules, &sets, &fetch);
    sets.reverse();
    assert_eq!(resolve(rules, &sets, &fetch), resolved, "the order of the states matters");
    if let Ok(state) = resolved {
        for (key, id) in &state {
            let pdu = by_id.get(id).expect("only known events win");
            assert_eq!((&*pdu.kind, pdu.state_key.as_deref()), (&*key.0, Some(&*key.1)));
        }
        assert_eq!(resolve(rules, &[state.clone(), state.clone()], &fetch), Ok(state));
    }
}

fn build_event(
    room: &Room,
    rules: &RoomVersionRules,
    index: usize,
    step: &Step,
    earlier: &[Arc<Pdu>],
) -> Map<String, Value> {
    let sender = user(step.sender);
    let (kind, state_key, content) = describe(step, &room.text);
    let refer = |mask: u32, most: usize| -> Vec<Value> {
        let chosen = earlier.iter().enumerate().filter(|(at, _)| mask >> (at % 32) & 1 == 1).take(most);
        chosen.map(|(_, pdu)| reference(rules, &pdu.event_id)).collect()
    };
    let mut event = json!({
        "type": kind, "sender": sender, "content": content, "depth": index, "origin_server_ts": step.ts,
        "prev_events": refer(step.prev, 20), "auth_events": refer(step.auth, 10),
        "hashes": {"sha256": ""}, "signatures": {"one": {"ed25519:k": "c2ln"}}, "room_id": "!r:one",
    });
    if let Some(state_key) = state_key {
        event["state_key"] = state_key.into();
    }
    if matches!(room.version, RoomVersion::V1 | RoomVersion::V2) {
        event["event_id"] = format!("$e{index}:one").into();
    }
    let Value::Object(mut event) = event else { return Map::new() };
    if rules.room_id_is_create_hash {
        event.remove("room_id");
        if let Some(first) = earlier.first().filter(|_| kind != "m.room.create") {
            event.insert("room_id".into(), first.room_id.as_str().into());
        }
    }
    event
}

/// As the room version refers to events: with their hashes in the first two.
fn reference(rules: &RoomVersionRules, id: &EventId) -> Value {
    if rules.event_id == spec::version::EventIdFormat::Given { json!([id, {"sha256": ""}]) } else { json!(id) }
}

fn describe(step: &Step, text: &str) -> (&'static str, Option<String>, Value) {
    let subject = user(step.subject);
    let memberships = ["join", "invite", "leave", "ban", "knock", "", text];
    let pick = |choices: &[&str]| choices[usize::from(step.variant) % choices.len()].to_owned();
    match step.kind {
        Kind::Create => {
            let content = json!({
                "creator": subject, "room_version": text, "m.federate": step.variant % 4 != 1,
                "additional_creators": if step.variant % 2 == 0 { json!([subject]) } else { json!(text) },
            });
            ("m.room.create", Some(String::new()), content)
        }
        Kind::Member => {
            let mut content = json!({"membership": pick(&memberships)});
            if step.level % 3 == 1 {
                content["join_authorised_via_users_server"] = user(step.variant / 8).into();
            }
            if step.level % 5 == 1 {
                content["third_party_invite"] = json!({"signed": {"mxid": subject, "token": text, "signatures": {}}});
            }
            ("m.room.member", Some(subject.into()), content)
        }
        Kind::PowerLevels => ("m.room.power_levels", Some(String::new()), power_levels(step, text)),
        Kind::JoinRules => {
            let rule = pick(&["public", "invite", "knock", "restricted", "knock_restricted", "private", text]);
            ("m.room.join_rules", Some(String::new()), json!({"join_rule": rule, "allow": [{"room_id": "!s:one"}]}))
        }
        Kind::ThirdPartyInvite => {
            ("m.room.third_party_invite", Some(text.into()), json!({"public_key": text, "public_keys": [{}]}))
        }
        Kind::Aliases => ("m.room.aliases", Some(pick(&["one", "two", text])), json!({"aliases": [text]})),
        Kind::Redaction => ("m.room.redaction", None, json!({"redacts": text})),
        Kind::Topic => ("m.room.topic", Some(pick(&["", USERS[0], text])), json!({"topic": text})),
        Kind::Message => ("m.room.message", None, json!({"body": text})),
    }
}

fn power_levels(step: &Step, text: &str) -> Value {
    let level: Value = match step.variant % 5 {
        0..=2 => step.level.into(),
        3 => step.level.to_string().into(),
        _ => text.into(),
    };
    let mut content = json!({"users": {user(step.subject): level}, "users_default": step.ts});
    let field = ["ban", "kick", "invite", "redact", "events_default", "state_default"][usize::from(step.ts) % 6];
    content[field] = level.clone();
    content["events"] = json!({"m.room.topic": level, text: 1});
    content["notifications"] = json!({"room": level});
    content
}

fn user(index: u8) -> &'static str {
    USERS[usize::from(index) % USERS.len()]
}

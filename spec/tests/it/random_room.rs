//! Rooms grown at random from a seed, as events that both implementations can read.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use spec::{
    auth::auth_types,
    ids::{EventId, UserId},
    pdu::Pdu,
    state_res::StateMap,
    version::RoomVersion,
};

const USERS: [&str; 4] = ["@alice:a.example", "@bob:b.example", "@carol:c.example", "@dave:a.example"];

/// SplitMix64: enough randomness for tests, and the same on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// The events of a room by id.
pub struct RandomRoom {
    pub version: RoomVersion,
    pub events: BTreeMap<EventId, Arc<Pdu>>,
    pub dice: Dice,
}

impl RandomRoom {
    /// A room with its first four events, and the state after them.
    pub fn new(version: RoomVersion, seed: u64) -> (Self, StateMap<EventId>) {
        let mut room = Self { version, events: BTreeMap::new(), dice: Dice(seed) };
        let mut state = StateMap::new();
        let alice = USERS[0];
        let users =
            if version == RoomVersion::V12 { json!({ USERS[1]: 50 }) } else { json!({ alice: 100, USERS[1]: 50 }) };
        let rule = room.dice.pick(&["public", "invite", "knock", "restricted", "knock_restricted"]);
        let first = [
            ("m.room.create", "", json!({ "creator": alice, "room_version": version.as_str() })),
            ("m.room.member", alice, json!({ "membership": "join" })),
            ("m.room.power_levels", "", json!({ "users": users })),
            ("m.room.join_rules", "", json!({ "join_rule": rule })),
        ];
        for (kind, key, content) in first {
            let event = room.build(&state, alice, kind, Some(key), content);
            room.accept(&mut state, event);
        }
        (room, state)
    }

    /// Something that somebody might try, allowed or not, with the auth events that `state` selects.
    pub fn propose(&mut self, state: &StateMap<EventId>) -> Pdu {
        let sender = self.dice.pick(&USERS);
        let target = if self.dice.roll(2) == 0 { sender } else { self.dice.pick(&USERS) };
        match self.dice.roll(10) {
            0..=4 => {
                let membership = self.dice.pick(&["join", "join", "join", "invite", "leave", "ban", "knock"]);
                let mut content = json!({ "membership": membership });
                if membership == "join" && self.dice.roll(3) == 0 {
                    content["join_authorised_via_users_server"] = self.dice.pick(&USERS).into();
                }
                self.build(state, sender, "m.room.member", Some(target), content)
            }
            5 | 6 => {
                let content = self.random_levels(state);
                self.build(state, sender, "m.room.power_levels", Some(""), content)
            }
            7 => {
                let rule = self.dice.pick(&["public", "public", "invite", "knock", "restricted", "knock_restricted"]);
                self.build(state, sender, "m.room.join_rules", Some(""), json!({ "join_rule": rule }))
            }
            8 => {
                let kind = self.dice.pick(&["m.room.topic", "m.room.name"]);
                self.build(state, sender, kind, Some(""), json!({}))
            }
            _ => {
                let key = self.dice.pick(&[None, Some(target)]);
                self.build(state, sender, "org.example.note", key, json!({}))
            }
        }
    }

    /// Makes a proposal part of the room and of `state`.
    pub fn accept(&mut self, state: &mut StateMap<EventId>, event: Pdu) {
        if let Some(state_key) = event.state_key.clone() {
            state.insert((event.kind.clone(), state_key), event.event_id.clone());
        }
        self.events.insert(event.event_id.clone(), Arc::new(event));
    }

    fn random_levels(&mut self, state: &StateMap<EventId>) -> Value {
        let current = state.get(&("m.room.power_levels".into(), "".into())).and_then(|id| self.events.get(id));
        let mut content: Value = current.map(|event| event.content().unwrap()).unwrap_or_else(|| json!({}));
        let level = self.dice.pick(&[0, 10, 50, 50, 60, 100]);
        match self.dice.roll(5) {
            0..=2 => content["users"][self.dice.pick(&USERS)] = level.into(),
            3 => content[self.dice.pick(&["ban", "kick", "invite", "state_default", "users_default"])] = level.into(),
            _ => content[self.dice.pick(&["events", "notifications"])]["m.room.topic"] = level.into(),
        }
        content
    }

    fn build(
        &mut self,
        state: &StateMap<EventId>,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Pdu {
        // Ids are shuffled and times collide, so that every tie-break is exercised.
        let id = EventId::parse(if kind == "m.room.create" {
            "$create".to_owned()
        } else {
            format!("${:04}x{}", self.dice.roll(10_000), self.events.len())
        })
        .unwrap();
        let raw = serde_json::value::to_raw_value(&content).unwrap();
        let user = UserId::parse(sender).unwrap();
        let types = auth_types(self.version.rules(), kind, &user, state_key, &raw);
        let auth_events: Vec<&EventId> = types.iter().filter_map(|key| state.get(key)).collect();
        let mut event = json!({
            "sender": sender, "type": kind, "content": content, "auth_events": auth_events,
            "origin_server_ts": (self.events.len() + self.dice.roll(6)) * 10, "depth": self.events.len(),
            "prev_events": if kind == "m.room.create" { json!([]) } else { json!(["$create"]) },
        });
        if self.events.len() > 1 {
            event["prev_events"] = json!(["$elsewhere"]);
        }
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        if self.version != RoomVersion::V12 {
            event["room_id"] = "!room:a.example".into();
        } else if kind != "m.room.create" {
            event["room_id"] = "!create".into();
        }
        Pdu::from_trusted(id, &serde_json::to_vec(&event).unwrap()).unwrap()
    }
}

//! Who was given which event, and whether history visibility allows that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::Membership;
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::pdu::Pdu;
use spec::redact::redact_event;
use spec::version::RoomVersion;

use super::network::{Carried, SimNetwork};
use super::picture::{EventPicture, Picture, StateMap};

/// The parts of an answer that hold events.
const LISTS: [&str; 5] = ["pdus", "events", "auth_chain", "state", "event"];

/// An event that reached a server with all that it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    receiver: ServerName,
    event_id: String,
    giver: ServerName,
    /// The endpoint's name.
    endpoint: String,
}

/// An event that a server got although history visibility forbids it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak(pub String);

/// Sees everything that the network of one world carries. A cheap handle.
#[derive(Clone)]
pub struct Witness {
    version: RoomVersion,
    seen: Arc<Mutex<BTreeSet<Delivery>>>,
}

impl Witness {
    /// Watches the network of a world with a room of this version.
    #[must_use]
    pub fn install(network: &SimNetwork, version: RoomVersion) -> Witness {
        let witness = Witness { version, seen: Arc::default() };
        let watching = witness.clone();
        network.observe(move |carried| watching.look_at(carried));
        witness
    }

    /// How many times some server was given an event.
    #[must_use]
    pub fn deliveries(&self) -> usize {
        self.seen.lock().len()
    }

    fn look_at(&self, carried: &Carried<'_>) {
        let endpoint = carried.uri.path().split('/').nth(4).unwrap_or_default();
        if endpoint == "send" {
            let list = serde_json::from_slice(carried.request).ok();
            let events = list.as_ref().map(events_of).unwrap_or_default();
            return self.note(carried.asker, carried.asked, endpoint, &events);
        }
        // Invitations show stripped state, which is for the invited (Client-Server API §Stripped state).
        if endpoint == "invite" || endpoint.starts_with("make_") || !carried.status.is_success() {
            return;
        }
        let answer: Option<Value> = serde_json::from_slice(carried.answer).ok();
        let answer = match &answer {
            // Version 1 of send_join: status, then answer.
            Some(Value::Array(parts)) => parts.get(1),
            answer => answer.as_ref(),
        };
        let events = answer.map(events_of).unwrap_or_default();
        self.note(carried.asked, carried.asker, endpoint, &events);
    }

    fn note(&self, giver: &ServerName, receiver: &ServerName, endpoint: &str, events: &[&Map<String, Value>]) {
        let rules = self.version.rules();
        for event in events {
            let Ok(pdu) = Pdu::from_object((*event).clone(), rules) else { continue };
            // What a redaction leaves may be known to everybody.
            if redact_event(event, rules).get("content") == event.get("content") {
                continue;
            }
            let (receiver, giver) = (receiver.clone(), giver.clone());
            let (event_id, endpoint) = (pdu.event_id.as_str().to_owned(), endpoint.to_owned());
            self.seen.lock().insert(Delivery { receiver, event_id, giver, endpoint });
        }
    }

    /// The deliveries that were not allowed, judged by what all servers together know in the end. `pictures` are those of all
    /// honest servers, whether they are in the room or not.
    #[must_use]
    pub fn leaks(&self, pictures: &[Picture]) -> Vec<Leak> {
        let judge = Judge::new(pictures);
        let seen = self.seen.lock();
        let leaks = seen.iter().filter(|delivery| !judge.allows(delivery));
        let describe = |delivery: &Delivery| {
            let Delivery { receiver, event_id, giver, endpoint } = delivery;
            let what = judge.events.get(event_id.as_str()).map(|event| event.describe()).unwrap_or_default();
            Leak(format!("{giver} gave {receiver} {event_id} by {endpoint}: {what}"))
        };
        leaks.map(describe).collect()
    }
}

/// The events in a transaction or an answer.
fn events_of(body: &Value) -> Vec<&Map<String, Value>> {
    let mut events = Vec::new();
    for list in LISTS.iter().filter_map(|name| body.get(*name)) {
        match list {
            Value::Array(list) => events.extend(list.iter().filter_map(Value::as_object)),
            Value::Object(event) => events.push(event),
            _ => {}
        }
    }
    events
}

/// What history visibility allows, worked out from states alone.
struct Judge<'a> {
    events: BTreeMap<&'a str, &'a EventPicture>,
    memberships: BTreeMap<&'a str, Membership>,
    /// By server the events by which its users came into the room.
    joins: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Judge<'a> {
    fn new(pictures: &'a [Picture]) -> Judge<'a> {
        let (mut events, mut memberships) = (BTreeMap::new(), BTreeMap::new());
        let mut joins: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for picture in pictures {
            memberships.extend(picture.memberships.iter().map(|(id, membership)| (id.as_str(), *membership)));
            for (id, event) in &picture.events {
                events.entry(id.as_str()).or_insert(event);
            }
        }
        for (id, event) in &events {
            if event.kind == "m.room.member"
                && let Some((_, server)) = event.state_key.as_deref().and_then(|user| user.split_once(':'))
                && event.content.contains("\"join\"")
            {
                joins.entry(server).or_default().push(id);
            }
        }
        Judge { events, memberships, joins }
    }

    fn allows(&self, delivery: &Delivery) -> bool {
        // What no honest server has in its timeline was refused, or is an enemy's own.
        let Some(event) = self.events.get(delivery.event_id.as_str()) else { return true };
        let server = delivery.receiver.as_str();
        let is_theirs = |user: &str| user.split_once(':').is_some_and(|(_, of)| of == server);
        if is_theirs(&event.sender) || event.state_key.as_deref().is_some_and(is_theirs) {
            return true;
        }
        let was_ever_in = self.joins.get(server).is_some_and(|joins| !joins.is_empty());
        // State is what later events are authorised by: who is in the room, or was, has it.
        if event.state_key.is_some() && was_ever_in {
            return true;
        }
        let (joined, invited) = self.presence(&event.before, server);
        match self.visibility(&event.before) {
            "world_readable" => true,
            "joined" => joined,
            "invited" => joined || invited,
            _ => joined || self.comes_later(server, &delivery.event_id),
        }
    }

    fn visibility(&self, state: &StateMap) -> &'a str {
        let id = state.get(&("m.room.history_visibility".to_owned(), String::new()));
        let content = id.and_then(|id| self.events.get(id.as_str())).map_or("", |event| event.content.as_str());
        let known = ["world_readable", "joined", "invited"];
        known.into_iter().find(|known| content.contains(&format!("\"{known}\""))).unwrap_or("shared")
    }

    /// Whether a user of the server is joined, and whether one is invited.
    fn presence(&self, state: &StateMap, server: &str) -> (bool, bool) {
        let members = state.iter().filter(|((kind, user), _)| {
            kind == "m.room.member" && user.split_once(':').is_some_and(|(_, of)| of == server)
        });
        let (mut joined, mut invited) = (false, false);
        for (_, id) in members {
            match self.memberships.get(id.as_str()) {
                Some(Membership::Join) => joined = true,
                Some(Membership::Invite) => invited = true,
                _ => {}
            }
        }
        (joined, invited)
    }

    /// Whether somebody of the server joined after the event, or beside it.
    fn comes_later(&self, server: &str, event_id: &str) -> bool {
        let mut before = BTreeSet::new();
        let mut waiting = vec![event_id];
        while let Some(id) = waiting.pop() {
            if let Some(event) = self.events.get(id) {
                waiting.extend(event.prev_events.iter().map(String::as_str).filter(|id| before.insert(*id)));
            }
        }
        self.joins.get(server).is_some_and(|joins| joins.iter().any(|join| !before.contains(join)))
    }
}

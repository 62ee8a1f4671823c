//! Which events of a transaction are written down: of rooms that this server is in, from servers that the room lets
//! take part, and well formed. What else is wrong with an event shows later, when it is checked.

use std::collections::{BTreeMap, HashSet};

use rooms::{CheckedPdu, Membership, RoomError, RoomNid};
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::{PduError, ReceivedPdu};
use spec::version::RoomVersionRules;

use super::Outcomes;
use crate::Federation;
use crate::inbound::error::ServeError;

/// What an event is told whose server the room's access control list shuts out.
const SHUT_OUT: &str = "M_FORBIDDEN: your server is denied access to the room";
/// What an event is told whose room has nobody of this server in it.
const NOT_HERE: &str = "M_NOT_FOUND: nobody on this server is in the room";

/// The events of a transaction, sorted by what is to become of them.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// To be written down.
    pub staged: Vec<(RoomNid, ReceivedPdu)>,
    /// What the sender is told.
    pub outcomes: Outcomes,
}

/// What is known of a room that events are sent to.
#[derive(Clone, Copy)]
struct Gate {
    room: RoomNid,
    rules: &'static RoomVersionRules,
    is_resident: bool,
    is_server_allowed: bool,
}

impl Federation {
    /// Sorts the events of a transaction. Those of rooms that are not known here have no id, because their version is
    /// not known: they are not mentioned in the outcomes.
    pub(super) async fn admit(
        &self,
        origin: &ServerName,
        pdus: Vec<Map<String, Value>>,
    ) -> Result<Admitted, ServeError> {
        let mut gates: BTreeMap<String, Option<Gate>> = BTreeMap::new();
        let mut jobs = Vec::with_capacity(pdus.len());
        for pdu in pdus {
            let Some(room_id) = pdu.get("room_id").and_then(Value::as_str) else { continue };
            let gate = match gates.get(room_id) {
                Some(gate) => *gate,
                None => *gates.entry(room_id.to_owned()).or_insert(self.find_gate(room_id, origin)?),
            };
            match gate {
                Some(gate) => jobs.push((gate, pdu)),
                None => {
                    self.inbound.counters.refused.add(1);
                    tracing::debug!(%origin, room_id, "an event of a room that is not known here");
                }
            }
        }
        let read = self.tasks.compute("reading of events", move || read_pdus(jobs)).await;
        let read = read.map_err(|error| ServeError::internal(&error))?;
        let mut admitted = Admitted::default();
        let mut by_room: BTreeMap<RoomNid, Vec<ReceivedPdu>> = BTreeMap::new();
        for (gate, read) in read {
            match read {
                Err(error) => {
                    self.inbound.counters.invalid.add(1);
                    tracing::debug!(%origin, room = gate.room.0, %error, "a malformed event");
                }
                Ok(pdu) if !gate.is_resident => {
                    let event_id = pdu.event_id().clone();
                    let outcome = self.leave_from_outside(origin, gate, pdu).await?;
                    admitted.outcomes.insert(event_id, outcome);
                }
                Ok(pdu) if !gate.is_server_allowed => {
                    self.inbound.counters.refused.add(1);
                    admitted.outcomes.insert(pdu.event_id().clone(), Some(SHUT_OUT.to_owned()));
                }
                Ok(pdu) => by_room.entry(gate.room).or_default().push(pdu),
            }
        }
        for (room, pdus) in by_room {
            self.skip_known(room, pdus, &mut admitted)?;
        }
        Ok(admitted)
    }

    fn find_gate(&self, room_id: &str, origin: &ServerName) -> Result<Option<Gate>, ServeError> {
        let Ok(room_id) = RoomId::parse(room_id) else { return Ok(None) };
        let Some(room) = self.rooms.room_nid(&room_id)? else { return Ok(None) };
        let head = match self.rooms.head(room) {
            Ok(head) => head,
            Err(RoomError::RoomNotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Gate {
            room,
            rules: head.rules(),
            is_resident: self.rooms.is_resident(room)?,
            is_server_allowed: self.rooms.is_server_allowed(room, origin)?,
        }))
    }

    /// Leaves out what is here already, and what the transaction holds twice.
    fn skip_known(&self, room: RoomNid, pdus: Vec<ReceivedPdu>, admitted: &mut Admitted) -> Result<(), ServeError> {
        let ids: Vec<EventId> = pdus.iter().map(|pdu| pdu.event_id().clone()).collect();
        let mut unknown: HashSet<EventId> = self.rooms.unknown_events(room, &ids, false)?.into_iter().collect();
        for pdu in pdus {
            admitted.outcomes.insert(pdu.event_id().clone(), None);
            if unknown.remove(pdu.event_id()) {
                admitted.staged.push((room, pdu));
            } else {
                self.inbound.counters.known.add(1);
            }
        }
        Ok(())
    }

    /// An event of a room in which nobody of this server is: of use only if it takes back an invitation of a local
    /// user, or refuses their knock. Returns what the sender is told.
    async fn leave_from_outside(
        &self,
        origin: &ServerName,
        gate: Gate,
        pdu: ReceivedPdu,
    ) -> Result<Option<String>, ServeError> {
        let Some(user) = leaving_user(&pdu).filter(|user| *user.server_name() == *self.server_name.as_str()) else {
            self.inbound.counters.refused.add(1);
            return Ok(Some(NOT_HERE.to_owned()));
        };
        let membership = match self.rooms.user_nid(&user)? {
            Some(user) => self.rooms.membership(gate.room, user)?.map(|row| row.membership),
            None => None,
        };
        if !matches!(membership, Some(Membership::Invite | Membership::Knock)) {
            self.inbound.counters.refused.add(1);
            return Ok(Some(NOT_HERE.to_owned()));
        }
        let checked: Option<(EventId, Result<CheckedPdu, _>)> = self.keys.check_pdus(gate.rules, vec![pdu]).await.pop();
        let checked = match checked {
            Some((_, Ok(checked))) => checked,
            Some((event_id, Err(error))) => {
                self.inbound.counters.invalid.add(1);
                tracing::debug!(%origin, %event_id, %error, "an event that cannot be used");
                return Ok(Some(error.to_string()));
            }
            None => return Ok(Some(NOT_HERE.to_owned())),
        };
        match self.rooms.leave_unresident(&user, gate.room, Some(checked)).await {
            Ok(()) => Ok(None),
            Err(error @ (RoomError::Storage(_) | RoomError::Commit(_))) => Err(error.into()),
            Err(error) => Ok(Some(error.to_string())),
        }
    }
}

/// Reads events by the rules of their rooms: format, size, id. Hashing them is most of the work.
fn read_pdus(jobs: Vec<(Gate, Map<String, Value>)>) -> Vec<(Gate, Result<ReceivedPdu, PduError>)> {
    jobs.into_iter().map(|(gate, pdu)| (gate, ReceivedPdu::check(pdu, gate.rules))).collect()
}

/// The user whom a member event makes leave, or bans.
fn leaving_user(pdu: &ReceivedPdu) -> Option<UserId> {
    let pdu = pdu.unverified();
    if &*pdu.kind != "m.room.member" {
        return None;
    }
    let content: Map<String, Value> = pdu.content().ok()?;
    let membership = content.get("membership").and_then(Value::as_str).and_then(Membership::parse);
    if !matches!(membership, Some(Membership::Leave | Membership::Ban)) {
        return None;
    }
    UserId::parse(pdu.state_key.as_deref()?).ok()
}

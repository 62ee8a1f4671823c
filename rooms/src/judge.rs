//! Judging events of other servers: by the events that they cite, by the state before them, and by the current state
//! (Server-Server API §Checks performed on receipt of a PDU, steps 4 to 6).

use std::collections::BTreeMap;
use std::sync::Arc;

use spec::auth::{self, AuthFailure};
use spec::ids::EventId;
use spec::pdu::Pdu;

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::ids::SnapshotId;
use crate::place::Stored;
use crate::receive::Verdict;

impl Append<'_> {
    /// The auth events that are stored, and the ids of those that are not.
    pub(crate) fn cited_auth_events(&self, pdu: &Pdu) -> Result<(Vec<Stored>, Vec<EventId>), RoomError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in &pdu.auth_events {
            match self.stored_by_id(id)? {
                Some(event) => found.push(event),
                None => missing.push(id.clone()),
            }
        }
        Ok((found, missing))
    }

    /// The rules that the event and its auth events decide (steps 1 to 4 on receipt): the reason to reject it.
    pub(crate) fn judge_by_auth_events(
        &self,
        pdu: &Pdu,
        auth_events: &[Stored],
    ) -> Result<Option<AuthFailure>, RoomError> {
        let rules = self.head.rules();
        if auth_events.iter().any(|event| event.flags.has(EventFlags::REJECTED)) {
            return Ok(Some(AuthFailure::AuthEventMissing));
        }
        let auth_pdus: Vec<Arc<Pdu>> = auth_events.iter().map(|event| event.pdu.clone()).collect();
        if let Err(failure) = auth::check_auth_events(rules, pdu, &auth_pdus) {
            return Ok(Some(failure));
        }
        let create = self.find_create(&auth_pdus)?;
        let cited = |kind: &str, key: &str| match kind {
            "m.room.create" => create.clone(),
            _ => auth_pdus.iter().find(|auth| *auth.kind == *kind && auth.state_key.as_deref() == Some(key)).cloned(),
        };
        Ok(auth::check_state(rules, pdu, &cited).err())
    }

    /// The room's create event: of a room that is being entered, among the auth events or by the room's id.
    fn find_create(&self, auth_events: &[Arc<Pdu>]) -> Result<Option<Arc<Pdu>>, RoomError> {
        if self.head.create.is_some() {
            return Ok(self.head.create.clone());
        }
        if let Some(id) = self.head.room_id.create_event_id() {
            return Ok(self.stored_by_id(&id)?.map(|stored| stored.pdu));
        }
        Ok(auth_events.iter().find(|auth| &*auth.kind == "m.room.create").cloned())
    }

    /// The rules of steps 4 to 6 on receipt: by its auth events, by the state before it (else rejected), and, for what
    /// happens now, by the current state (else soft-failed).
    pub(crate) fn judge(
        &self,
        pdu: &Pdu,
        auth_events: &[Stored],
        before: SnapshotId,
        is_new: bool,
    ) -> Result<Verdict, RoomError> {
        if let Some(failure) = self.judge_by_auth_events(pdu, auth_events)? {
            return Ok(Verdict::Rejected(failure.to_string()));
        }
        let current = Some(self.head.row.state).filter(|current| is_new && *current != before);
        let lenient = Some(auth_events).filter(|_| self.head.is_partial());
        for (state, soft) in [(Some(before), false), (current, true)] {
            let Some(state) = state else { continue };
            match (self.check_by_state(pdu, state, lenient)?, soft) {
                (Ok(()), _) => {}
                (Err(failure), true) => return Ok(Verdict::SoftFailed(failure.to_string())),
                (Err(failure), false) => return Ok(Verdict::Rejected(failure.to_string())),
            }
        }
        Ok(Verdict::Accepted)
    }

    /// Whether a state of the room allows the event. In one that lacks members, `lenient` are the event's auth events:
    /// they say who a member is of whom the state says nothing.
    pub(crate) fn check_by_state(
        &self,
        pdu: &Pdu,
        state: SnapshotId,
        lenient: Option<&[Stored]>,
    ) -> Result<Result<(), AuthFailure>, RoomError> {
        self.check_by(pdu, |kind, key| {
            let found = self.state_pdu(state, kind, key)?;
            let cited = lenient.filter(|_| found.is_none() && kind == "m.room.member").and_then(|auth_events| {
                let is_it = |auth: &&Stored| *auth.pdu.kind == *kind && auth.pdu.state_key.as_deref() == Some(key);
                auth_events.iter().find(is_it).map(|auth| auth.pdu.clone())
            });
            Ok(found.or(cited))
        })
    }

    /// Whether the state that `find` reads allows the event.
    pub(crate) fn check_by(
        &self,
        pdu: &Pdu,
        find: impl Fn(&str, &str) -> Result<Option<Arc<Pdu>>, RoomError>,
    ) -> Result<Result<(), AuthFailure>, RoomError> {
        let rules = self.head.rules();
        let mut at = BTreeMap::new();
        for (kind, key) in auth::auth_types(rules, &pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content) {
            if let Some(event) = find(&kind, &key)? {
                at.insert((kind, key), event);
            }
        }
        let create = match self.head.create.clone() {
            Some(create) => Some(create),
            None => find("m.room.create", "")?,
        };
        let lookup = |kind: &str, key: &str| match kind {
            "m.room.create" => create.clone(),
            _ => at.get(&(Box::from(kind), Box::from(key))).cloned(),
        };
        Ok(auth::check_state(rules, pdu, &lookup))
    }
}

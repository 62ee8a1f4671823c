//! Events of other servers: from the wire into the room's one pipeline.
//!
//! The order of checks is that of Server-Server API §Checks performed on receipt of a PDU. What needs
//! the network (keys, missing events) happens before, outside of the queue: a [`CheckedPdu`] has its
//! hash and signatures verified, and [`RoomError::Missing`] names what is to be fetched first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spec::auth::{self, AuthFailure};
use spec::ids::{EventId, ServerName, UserId};
use spec::pdu::{Pdu, PduError, ReceivedPdu, SignatureFailure};
use spec::power::PowerLevels;
use spec::signing::VerifyKey;
use spec::state_res::{EventSource, StateMap, resolve_conflicts};
use spec::version::{RoomVersion, RoomVersionRules};
use storage::{CommitError, Read, StreamPos};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::head::Head;
use crate::ids::{RoomSeq, SnapshotId};
use crate::keyspaces::{HEADS, ROOM_NIDS, SLOT_KEYS, STATE_LOG, SlotKey};
use crate::rooms::Rooms;
use crate::snapshot;

/// An event of another server's whose format, hash and signatures were checked.
#[derive(Clone, Debug)]
pub struct CheckedPdu(Arc<Pdu>);

/// Why an event is dropped before anything else is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no event of this room version.
    #[error(transparent)]
    Malformed(#[from] PduError),
    /// A signature is wrong, or cannot be checked.
    #[error(transparent)]
    Signature(#[from] SignatureFailure),
}

impl CheckedPdu {
    /// Verifies hash and signatures; an event whose content hash is wrong goes on redacted.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn check(
        received: ReceivedPdu,
        rules: &RoomVersionRules,
        key: impl FnMut(&ServerName, &str) -> Option<VerifyKey>,
    ) -> Result<CheckedPdu, Unusable> {
        received.verify_signatures(rules, key)?;
        Ok(CheckedPdu(Arc::new(received.into_pdu(rules)?)))
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.0
    }
}

/// What became of a received event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was here already.
    Known,
    /// It is part of the room.
    Accepted,
    /// It is allowed where it stands, but no more: it is kept and not shown.
    SoftFailed(String),
    /// It is not allowed; it is kept so that it is not asked for again.
    Rejected(String),
}

impl Rooms {
    /// Takes in an event of a room that is known here. Cancel-safe: once submitted, it is carried out.
    ///
    /// # Errors
    /// [`RoomError::Missing`] with events to fetch first; [`RoomError::RoomNotFound`].
    pub async fn receive(&self, pdu: CheckedPdu) -> Result<Verdict, RoomError> {
        let room = self.known_room(&pdu.0.room_id)?;
        self.intern_people(&pdu.0).await?;
        self.submit_received(room, pdu).await
    }

    /// Begins a room of another server's at its create event. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if it is no acceptable create event.
    pub async fn receive_create(&self, pdu: CheckedPdu, version: RoomVersion) -> Result<(), RoomError> {
        let pdu = pdu.0;
        if &*pdu.kind != "m.room.create" {
            return Err(RoomError::Invalid("a room begins with its create event"));
        }
        auth::check_auth_events(version.rules(), &pdu, &[])?;
        self.intern_people(&pdu).await?;
        let sender = self.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let room = self.new_room_nid();
        let mut append = Append::new(self, Head::empty(room, pdu.room_id.clone(), version));
        append.add_event(&pdu, sender, None)?;
        let mut change = append.finish().ok_or(RoomError::Inconsistent("a room without events"))?;
        let id = pdu.room_id.as_str().to_owned();
        change.batch.expect_absent(&ROOM_NIDS, &id).expect_absent(&HEADS, &room).put(&ROOM_NIDS, &id, &room);
        match self.commit_new(room, change.head, change.batch).await {
            // It was here already, or somebody was faster.
            Err(RoomError::Commit(CommitError::Expectation { .. })) => Ok(()),
            result => result,
        }
    }

    /// Numbers for the sender and, for a member event, for whom it is about: the writer commits no batch but its own.
    async fn intern_people(&self, pdu: &Pdu) -> Result<(), RoomError> {
        self.intern_user(&pdu.sender).await?;
        if let (Some(user), "m.room.member") = (pdu.state_key.as_deref(), &*pdu.kind)
            && let Ok(user) = UserId::parse(user)
        {
            self.intern_user(&user).await?;
        }
        Ok(())
    }
}

/// The stored events of a room, and those of the batch under way, for state resolution.
struct Events<'a, 'b>(&'a Append<'b>);

impl EventSource for Events<'_, '_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.pdu(id).ok().flatten().map(|(pdu, _)| pdu)
    }

    fn is_rejected(&self, id: &EventId) -> bool {
        matches!(self.0.pdu(id), Ok(Some((_, flags))) if flags.has(EventFlags::REJECTED))
    }

    fn arrival(&self, id: &EventId) -> Option<u64> {
        // Auth events are always stored before the events that cite them.
        let seq = self.0.place_of(id.as_str()).ok().flatten()?;
        u64::try_from(seq.0).ok()
    }
}

impl Append<'_> {
    /// An event of this room by its id, with what is known of it.
    fn pdu(&self, id: &EventId) -> Result<Option<(Arc<Pdu>, EventFlags)>, RoomError> {
        let Some(seq) = self.place_of(id.as_str())? else { return Ok(None) };
        if let Some(row) = self.events.get(&seq) {
            return Ok(Some((row.pdu.clone(), row.flags)));
        }
        let event = self.rooms.event_at(self.head.room, seq)?;
        Ok(Some((Arc::new(event.to_pdu()?), event.flags())))
    }

    /// Authorises a received event and adds it.
    pub(crate) fn receive(&mut self, pdu: CheckedPdu) -> Result<Verdict, RoomError> {
        let pdu = pdu.0;
        if self.place_of(pdu.event_id.as_str())?.is_some() {
            return Ok(Verdict::Known);
        }
        let auth_events = self.cited_auth_events(&pdu)?;
        let before = self.state_before(&pdu)?;
        let verdict = self.judge(&pdu, &auth_events, before)?;
        let flags = match &verdict {
            Verdict::Rejected(_) => EventFlags::REJECTED,
            Verdict::SoftFailed(_) => EventFlags::SOFT_FAILED,
            Verdict::Accepted | Verdict::Known => EventFlags::default(),
        };
        let sender = self.rooms.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let placed = self.place_event(&pdu, sender, before, flags, None)?;
        if verdict == Verdict::Accepted {
            let cited: BTreeSet<&str> = pdu.prev_events.iter().map(EventId::as_str).collect();
            self.head.row.extremities.retain(|(id, _)| !cited.contains(&**id));
            self.head.row.extremities.push((pdu.event_id.as_str().into(), placed.seq));
            self.head.row.depth = self.head.row.depth.max(pdu.depth);
            let roots = self.states_after(&self.head.row.extremities.clone())?;
            let current = self.resolve(&roots)?;
            self.move_current_state(current)?;
            self.apply_redaction(&pdu, placed.seq)?;
            if let Some(relation) = self.find_relation(&pdu)? {
                self.add_relation(relation, &pdu, sender, placed.seq)?;
            }
        }
        Ok(verdict)
    }

    /// Empties what an accepted redaction names, if it is here and its sender may (Room Versions §Handling redactions).
    fn apply_redaction(&mut self, pdu: &Pdu, by: RoomSeq) -> Result<(), RoomError> {
        let Some(id) = pdu.redacts(self.head.rules()) else { return Ok(()) };
        let (Some(seq), Some((target, _))) = (self.place_of(id.as_str())?, self.pdu(&id)?) else { return Ok(()) };
        let create = self.head.create.as_ref().ok_or(RoomError::Inconsistent("room without a create event"))?;
        let levels = PowerLevels::from_state(self.head.power_levels.as_deref(), create, self.head.rules());
        let may = target.sender.server_name() == pdu.sender.server_name()
            || levels.user(&pdu.sender).at_least(levels.redact());
        if may && &*target.kind != "m.room.create" {
            self.redact(seq, by)?;
        }
        Ok(())
    }

    fn cited_auth_events(&self, pdu: &Pdu) -> Result<Vec<(Arc<Pdu>, EventFlags)>, RoomError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in &pdu.auth_events {
            match self.pdu(id)? {
                Some(event) => found.push(event),
                None => missing.push(id.clone()),
            }
        }
        for id in &pdu.prev_events {
            if self.place_of(id.as_str())?.is_none() {
                missing.push(id.clone());
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(RoomError::Missing(missing)) }
    }

    fn state_before(&mut self, pdu: &Pdu) -> Result<SnapshotId, RoomError> {
        let mut places = Vec::with_capacity(pdu.prev_events.len());
        for id in &pdu.prev_events {
            let seq = self.place_of(id.as_str())?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?;
            places.push((id.as_str().into(), seq));
        }
        if places.is_empty() {
            return Err(RoomError::Invalid("only the create event has no previous events"));
        }
        let roots = self.states_after(&places)?;
        self.resolve(&roots)
    }

    fn states_after(&self, events: &[(Box<str>, RoomSeq)]) -> Result<BTreeSet<SnapshotId>, RoomError> {
        let mut roots = BTreeSet::new();
        for (_, seq) in events {
            roots.insert(match self.events.get(seq) {
                Some(row) => row.after,
                None => self.rooms.event_at(self.head.room, *seq)?.state_after(),
            });
        }
        Ok(roots)
    }

    /// The rules of steps 4 to 6 on receipt: by its auth events, by the state before it (else rejected), by the
    /// current state (else soft-failed).
    fn judge(
        &self,
        pdu: &Pdu,
        auth_events: &[(Arc<Pdu>, EventFlags)],
        before: SnapshotId,
    ) -> Result<Verdict, RoomError> {
        let rejected = |failure: AuthFailure| Ok(Verdict::Rejected(failure.to_string()));
        let rules = self.head.rules();
        if auth_events.iter().any(|(_, flags)| flags.has(EventFlags::REJECTED)) {
            return rejected(AuthFailure::AuthEventMissing);
        }
        let auth_pdus: Vec<Arc<Pdu>> = auth_events.iter().map(|(pdu, _)| pdu.clone()).collect();
        if let Err(failure) = auth::check_auth_events(rules, pdu, &auth_pdus) {
            return rejected(failure);
        }
        let create = self.head.create.clone();
        let cited = |kind: &str, key: &str| match kind {
            "m.room.create" => create.clone(),
            _ => auth_pdus.iter().find(|auth| *auth.kind == *kind && auth.state_key.as_deref() == Some(key)).cloned(),
        };
        if let Err(failure) = auth::check_state(rules, pdu, &cited) {
            return rejected(failure);
        }
        for (state, soft) in [(before, false), (self.head.row.state, true)] {
            let wanted = auth::auth_types(rules, &pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content);
            let mut at = BTreeMap::new();
            for (kind, key) in wanted {
                if let Some(event) = self.state_pdu(state, &kind, &key)? {
                    at.insert((kind, key), event);
                }
            }
            let lookup = |kind: &str, key: &str| match kind {
                "m.room.create" => create.clone(),
                _ => at.get(&(Box::from(kind), Box::from(key))).cloned(),
            };
            match auth::check_state(rules, pdu, &lookup) {
                Ok(()) => {}
                Err(failure) if soft => return Ok(Verdict::SoftFailed(failure.to_string())),
                Err(failure) => return rejected(failure),
            }
        }
        Ok(Verdict::Accepted)
    }

    /// The state event of a key in any snapshot.
    fn state_pdu(&self, state: SnapshotId, kind: &str, key: &str) -> Result<Option<Arc<Pdu>>, RoomError> {
        let Some(slot) = self.known_slot(kind, key)? else { return Ok(None) };
        let nodes = self.rooms.nodes(self.head.room);
        let Some(seq) = snapshot::get(&nodes, &self.nodes, state, slot)? else { return Ok(None) };
        if let Some(row) = self.events.get(&seq) {
            return Ok(Some(row.pdu.clone()));
        }
        Ok(Some(Arc::new(self.rooms.event_at(self.head.room, seq)?.to_pdu()?)))
    }

    /// One state out of several, by the algorithm of the room version.
    fn resolve(&mut self, roots: &BTreeSet<SnapshotId>) -> Result<SnapshotId, RoomError> {
        let mut rest = roots.iter();
        let Some(&first) = rest.next() else { return Ok(SnapshotId::EMPTY) };
        if rest.next().is_none() {
            return Ok(first);
        }
        let sets = roots.iter().map(|root| self.state_map(*root)).collect::<Result<Vec<_>, _>>()?;
        let resolution = resolve_conflicts(self.head.rules(), &sets, &Events(self))?;
        let mut resolved = first;
        for ((kind, key), winner) in resolution.decided {
            let slot = self.intern_slot(&kind, &key)?;
            let seq = match winner {
                Some(id) => Some(self.place_of(id.as_str())?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?),
                None => None,
            };
            let nodes = self.rooms.nodes(self.head.room);
            if snapshot::get(&nodes, &self.nodes, resolved, slot)? != seq {
                resolved = snapshot::set(&nodes, &mut self.nodes, resolved, slot, seq)?;
            }
        }
        Ok(resolved)
    }

    fn state_map(&self, root: SnapshotId) -> Result<StateMap<EventId>, RoomError> {
        let mut map = StateMap::new();
        for (slot, seq) in snapshot::full(&self.rooms.nodes(self.head.room).with(&self.nodes), root)? {
            let SlotKey { kind, state_key } = self.slot_key(slot)?;
            let id = match self.events.get(&seq) {
                Some(row) => row.pdu.event_id.clone(),
                None => EventId::parse(self.rooms.event_at(self.head.room, seq)?.event_id())
                    .map_err(|_| RoomError::Inconsistent("malformed event id"))?,
            };
            map.insert((kind, state_key), id);
        }
        Ok(map)
    }

    fn slot_key(&self, slot: u32) -> Result<SlotKey, RoomError> {
        if let Some(key) = self.new_slot_key(slot) {
            return Ok(key);
        }
        let key = self.rooms.store.get(&SLOT_KEYS, &(self.head.room, slot))?;
        key.ok_or(RoomError::Inconsistent("state slot without a key"))
    }

    /// Makes a resolved state the current one: the log, the memberships and the head follow what differs.
    fn move_current_state(&mut self, current: SnapshotId) -> Result<(), RoomError> {
        let room = self.head.room;
        let changes = snapshot::diff(&self.rooms.nodes(room).with(&self.nodes), self.head.row.state, current)?;
        self.head.row.state = current;
        for (slot, _, seq) in changes {
            let SlotKey { kind, state_key } = self.slot_key(slot)?;
            let Some(seq) = seq else { continue };
            self.batch.put(&STATE_LOG, &(room, StreamPos::PENDING, slot), &seq);
            let Some(pdu) = self.state_pdu(current, &kind, &state_key)? else { continue };
            self.head.remember_state(&pdu);
            if let Some((user, membership)) = self.read_member(&pdu)? {
                self.add_membership(user, membership, seq)?;
            }
        }
        Ok(())
    }
}

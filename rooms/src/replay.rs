//! Judging again what came while a room was partial, once the state before our join is here (MSC3902).
//!
//! Each marked event is judged after those that it follows or cites, by the true state before it, and its row is written
//! anew at its old position; that takes its mark. Parts of a few events are a commit each. When no mark is left, one
//! commit makes the result the room's present ([`crate::resync`]). While this goes on, new events are placed on the
//! current state as it is, and marked: they are next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};

use spec::ids::{EventId, UserId};
use spec::pdu::Pdu;
use storage::{Read, StreamPos};

use crate::append::Append;
use crate::error::RoomError;
use crate::event::{Event, EventFlags, bounded_depth};
use crate::ids::{RoomNid, RoomSeq, SnapshotId};
use crate::keyspaces::{ORDER, PARTIAL_EVENTS, PARTIAL_ROOMS, STATE_LOG};
use crate::membership::Membership;
use crate::partial::{GivenState, PartialRow};
use crate::place::Stored;
use crate::rooms::Rooms;
use crate::server_view::{Citation, cited_ids};
use crate::snapshot;
use crate::sticky::STICKY;

/// The most events that are judged again in one commit.
const MAX_PART: usize = 64;

/// A marked event.
#[derive(Clone, Debug)]
pub struct PartialEvent {
    /// Its id.
    pub id: EventId,
    /// Its number.
    pub seq: RoomSeq,
    /// The size of its JSON.
    pub bytes: usize,
    /// The events that it follows the states after which are not to be had from this server. None for our join.
    pub unknown: Vec<EventId>,
}

/// Whether a partial room has become a full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It has, now or before.
    Done,
    /// There are marked events: more came meanwhile, or some follow others that are marked.
    More,
}

impl Rooms {
    /// Gives the state before our join of a partial room: what came since can now be judged by it. Several are resolved,
    /// one for each event that the join follows. Does nothing if it was given before. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if the state does not allow the join, [`RoomError::Invalid`] if it is not one of this
    /// room: the fault of who gave it. [`RoomError::Missing`] for events that are not stored; [`RoomError::Refused`] if
    /// the room is not partial, or was entered anew by another join.
    pub async fn begin_replay(&self, room: RoomNid, join: &EventId, given: Vec<GivenState>) -> Result<(), RoomError> {
        let join = join.clone();
        self.submit_job(room, move |append| append.begin_replay(&join, &given)).await
    }

    /// The marked events of a partial room from our join on, each after those that it follows or cites. Looks at each of
    /// them: there may be many.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn partial_events(&self, room: RoomNid) -> Result<Vec<PartialEvent>, RoomError> {
        let Some(partial) = self.store.get(&PARTIAL_ROOMS, &room)? else { return Ok(Vec::new()) };
        let mut marked = Vec::new();
        for key in self.store.scan(&PARTIAL_EVENTS, &room).from(&(room, partial.join)).keys() {
            marked.push(self.read_marked(&partial, self.event_at(room, key?.1)?)?);
        }
        Ok(in_order(marked))
    }

    /// Judges marked events again, in the order given and in commits of a few. One that follows another marked event
    /// keeps its mark. `given` are states after events that are not placed here; without one, such an event counts for
    /// nothing in the state before those that follow it. Cancel-safe: what is submitted is carried out.
    ///
    /// # Errors
    /// [`RoomError::Refused`] if the room is not being replayed; storage errors.
    pub async fn replay(
        &self,
        room: RoomNid,
        part: Vec<RoomSeq>,
        given: Vec<(EventId, GivenState)>,
    ) -> Result<(), RoomError> {
        for few in part.chunks(MAX_PART) {
            let (few, given) = (few.to_vec(), given.clone());
            self.submit_job(room, move |append| Replay::new(append)?.judge_all(&few, &given)).await?;
        }
        Ok(())
    }

    /// A marked event, and the marked events that it follows or cites.
    fn read_marked(&self, partial: &PartialRow, event: Event) -> Result<(PartialEvent, Vec<RoomSeq>), RoomError> {
        let room = event.room();
        let (mut unknown, mut after) = (Vec::new(), Vec::new());
        let follows = cited_ids(&event, Citation::Prev)?;
        let cites = cited_ids(&event, Citation::Auth)?;
        for (id, is_followed) in follows.iter().map(|id| (id, true)).chain(cites.iter().map(|id| (id, false))) {
            let place = self.find_event(id)?.filter(|place| place.room == room);
            let placed = place.map(|place| place.seq).filter(|seq| *seq < RoomSeq::FIRST_OUTLIER);
            let is_marked = placed.map(|seq| self.store.contains(&PARTIAL_EVENTS, &(room, seq))).transpose()?;
            match (placed, is_marked) {
                (Some(seq), Some(true)) if seq >= partial.join => after.push(seq),
                (Some(_), Some(false)) => {}
                // Not here, or of an earlier stay that ended before its states were known.
                _ if is_followed && event.seq() != partial.join => {
                    unknown.push(EventId::parse(id).map_err(|_| RoomError::Inconsistent("malformed event id"))?);
                }
                _ => {}
            }
        }
        let id = EventId::parse(event.event_id()).map_err(|_| RoomError::Inconsistent("malformed event id"))?;
        Ok((PartialEvent { id, seq: event.seq(), bytes: event.json().len(), unknown }, after))
    }
}

/// Events with those that they come after, in such an order; otherwise as they came.
fn in_order(marked: Vec<(PartialEvent, Vec<RoomSeq>)>) -> Vec<PartialEvent> {
    let mut followers: HashMap<RoomSeq, Vec<RoomSeq>> = HashMap::new();
    let mut waiting: BTreeMap<RoomSeq, (PartialEvent, usize)> = BTreeMap::new();
    let mut ready = BinaryHeap::new();
    for (event, after) in marked {
        let after: BTreeSet<RoomSeq> = after.into_iter().collect();
        after.iter().for_each(|before| followers.entry(*before).or_default().push(event.seq));
        if after.is_empty() {
            ready.push(Reverse(event.seq));
        }
        waiting.insert(event.seq, (event, after.len()));
    }
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some(Reverse(seq)) = ready.pop() {
        ordered.extend(waiting.remove(&seq).map(|(event, _)| event));
        for follower in followers.remove(&seq).into_iter().flatten() {
            if let Some((_, left)) = waiting.get_mut(&follower) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    ready.push(Reverse(follower));
                }
            }
        }
    }
    // Ids are hashes of what they name, so no event comes after itself.
    ordered.extend(waiting.into_values().map(|(event, _)| event));
    ordered
}

impl Append<'_> {
    fn begin_replay(&mut self, join: &EventId, given: &[GivenState]) -> Result<(), RoomError> {
        let partial = self.head.partial.clone().ok_or(RoomError::Refused("the room is not partial"))?;
        if *partial.join_id != *join.as_str() {
            return Err(RoomError::Refused("the room was entered anew"));
        }
        if partial.full.is_some() {
            return Ok(());
        }
        let mut roots = BTreeSet::new();
        for given in given {
            roots.insert(self.given_state(given, self.head.row.state)?);
        }
        let full = self.resolve(&roots)?;
        let create = self.state_pdu(full, "m.room.create", "")?.map(|create| create.event_id.clone());
        if create.is_none() || create != self.head.create.as_ref().map(|create| create.event_id.clone()) {
            return Err(RoomError::Invalid("the state does not have the room's create event"));
        }
        let join = self.stored(partial.join)?.pdu;
        self.check_by_state(&join, full, None)??;
        self.set_partial(Some(PartialRow { full: Some(full), ..(*partial).clone() }));
        Ok(())
    }

    /// The snapshot of a state that another server gave, which shares with `base` what is the same.
    fn given_state(&mut self, given: &GivenState, base: SnapshotId) -> Result<SnapshotId, RoomError> {
        let state = self.state_on(&given.state, base)?;
        let Some(id) = &given.then else { return Ok(state) };
        let Stored { seq, pdu, flags, .. } =
            self.stored_by_id(id)?.ok_or_else(|| RoomError::Missing(vec![id.clone()]))?;
        let Some(state_key) = pdu.state_key.as_deref().filter(|_| !flags.has(EventFlags::REJECTED)) else {
            return Ok(state);
        };
        // Of an outlier only its auth events were looked at.
        if self.check_by_state(&pdu, state, None)?.is_err() {
            return Ok(state);
        }
        let slot = self.intern_slot(&pdu.kind, state_key)?;
        snapshot::set(&self.rooms.nodes(self.head.room), &mut self.nodes, state, slot, Some(seq))
    }
}

/// One commit of the replay.
struct Replay<'r, 'a> {
    append: &'r mut Append<'a>,
    join: RoomSeq,
    full: SnapshotId,
    /// The states after events that are not placed here.
    given: HashMap<EventId, SnapshotId>,
    /// What this commit has judged.
    done: HashSet<RoomSeq>,
}

/// What became of an event: its new flags, and the state before it.
struct Judged {
    before: SnapshotId,
    flags: EventFlags,
}

impl<'r, 'a> Replay<'r, 'a> {
    fn new(append: &'r mut Append<'a>) -> Result<Replay<'r, 'a>, RoomError> {
        let partial = append.head.partial.clone();
        let (join, full) = partial
            .and_then(|partial| Some((partial.join, partial.full?)))
            .ok_or(RoomError::Refused("the room is not being replayed"))?;
        Ok(Replay { append, join, full, given: HashMap::new(), done: HashSet::new() })
    }

    fn judge_all(mut self, part: &[RoomSeq], given: &[(EventId, GivenState)]) -> Result<(), RoomError> {
        for seq in part {
            let event = match self.is_marked(*seq)? && *seq >= self.join {
                true => self.append.stored(*seq)?,
                false => continue,
            };
            if self.is_too_early(&event.pdu)? {
                continue;
            }
            self.take_given(&event.pdu, given)?;
            let judged = self.judge(&event)?;
            self.rewrite(&event, &judged)?;
            self.done.insert(*seq);
        }
        Ok(())
    }

    fn is_marked(&self, seq: RoomSeq) -> Result<bool, RoomError> {
        let key = (self.append.head.room, seq);
        Ok(!self.done.contains(&seq) && self.append.rooms.store.contains(&PARTIAL_EVENTS, &key)?)
    }

    /// Whether an event follows or cites one that is still to be judged.
    fn is_too_early(&self, pdu: &Pdu) -> Result<bool, RoomError> {
        for id in pdu.prev_events.iter().chain(&pdu.auth_events) {
            if let Some(seq) = self.append.anchored(id)?.filter(|seq| *seq >= self.join)
                && self.is_marked(seq)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes snapshots of the given states that the event needs.
    fn take_given(&mut self, pdu: &Pdu, given: &[(EventId, GivenState)]) -> Result<(), RoomError> {
        for (id, state) in given.iter().filter(|(id, _)| pdu.prev_events.contains(id)) {
            if self.given.contains_key(id) {
                continue;
            }
            match self.append.given_state(state, self.full) {
                Ok(state) => drop(self.given.insert(id.clone(), state)),
                Err(error @ (RoomError::Missing(_) | RoomError::Invalid(_))) => {
                    tracing::debug!(event_id = id.as_str(), %error, "a state after an unknown event cannot be used");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn state_before(&mut self, event: &Stored) -> Result<SnapshotId, RoomError> {
        if event.seq == self.join {
            return Ok(self.full);
        }
        let mut roots = BTreeSet::new();
        for id in &event.pdu.prev_events {
            match self.append.anchored(id)? {
                // Of an earlier stay that ended before its states were known.
                Some(seq) if seq < self.join && self.is_marked(seq)? => roots.extend(self.given.get(id)),
                Some(seq) => drop(roots.insert(self.append.stored(seq)?.after)),
                None => roots.extend(self.given.get(id)),
            }
        }
        if roots.is_empty() {
            return Ok(self.full);
        }
        match self.append.resolve(&roots) {
            // One event must not keep the whole room waiting.
            Err(error @ (RoomError::Resolve(_) | RoomError::Missing(_))) => {
                tracing::warn!(event_id = event.pdu.event_id.as_str(), %error, "the state before an event is not known");
                Ok(self.full)
            }
            resolved => resolved,
        }
    }

    fn judge(&mut self, event: &Stored) -> Result<Judged, RoomError> {
        let before = self.state_before(event)?;
        let (auth_events, _) = self.append.cited_auth_events(&event.pdu)?;
        let mut flags = event.flags.without(EventFlags::REJECTED);
        if self.append.head.policy.is_none() {
            // Otherwise it may be that the policy server did not recommend it.
            flags = flags.without(EventFlags::SOFT_FAILED);
        }
        if self.append.judge_by_auth_events(&event.pdu, &auth_events)?.is_some()
            || self.append.check_by_state(&event.pdu, before, None)?.is_err()
        {
            flags = flags.with(EventFlags::REJECTED);
        } else if !flags.has(EventFlags::SOFT_FAILED) && self.is_overtaken(event, before)? {
            flags = flags.with(EventFlags::SOFT_FAILED);
        }
        Ok(Judged { before, flags })
    }

    /// Whether an event that is allowed where it stands would have been soft-failed, had the state been here when it
    /// came. Without this, who was banned before we came, or is rejected here and comes again by other previous events,
    /// could speak from before the ban.
    fn is_overtaken(&self, event: &Stored, before: SnapshotId) -> Result<bool, RoomError> {
        let append = &*self.append;
        let verdict = append.check_by(&event.pdu, |kind, key| {
            let current = append.state_pdu(append.head.row.state, kind, key)?;
            let known = match &current {
                Some(current) => self.held_against(event, current)?.then(|| current.clone()),
                // A member of whom nothing was heard since.
                None if kind == "m.room.member" => append.state_pdu(self.full, kind, key)?,
                None => None,
            };
            Ok(known.or(append.state_pdu(before, kind, key)?))
        })?;
        Ok(verdict.is_err())
    }

    /// Whether an event is judged by an entry of the current state: by one that was there when it came and is allowed,
    /// unless it was accepted then in spite of it. What is still marked may follow the event.
    fn held_against(&self, event: &Stored, current: &Pdu) -> Result<bool, RoomError> {
        let Some(current) = self.append.stored_by_id(&current.event_id)? else { return Ok(false) };
        let was_there = current.seq >= RoomSeq::FIRST_OUTLIER || current.seq < event.seq;
        let is_allowed = !current.flags.has(EventFlags::REJECTED) && !self.is_marked(current.seq)?;
        Ok(!event.flags.is_visible() && was_there && is_allowed)
    }

    /// Writes the event's row anew, and what depends on whether it is allowed.
    fn rewrite(&mut self, event: &Stored, judged: &Judged) -> Result<(), RoomError> {
        let (room, seq, pdu) = (self.append.head.room, event.seq, &event.pdu);
        let (mut after, mut replaces) = (judged.before, None);
        if let Some(state_key) = pdu.state_key.as_deref().filter(|_| !judged.flags.has(EventFlags::REJECTED)) {
            let slot = self.append.intern_slot(&pdu.kind, state_key)?;
            let nodes = self.append.rooms.nodes(room);
            replaces = snapshot::get(&nodes, &self.append.nodes, judged.before, slot)?;
            after = snapshot::set(&nodes, &mut self.append.nodes, judged.before, slot, Some(seq))?;
        }
        let pos = self.append.rooms.event_at(room, seq)?.pos();
        match (event.flags.is_visible(), judged.flags.is_visible()) {
            (true, false) => self.hide(event, pos)?,
            (false, true) => self.show(event, pos)?,
            _ => {}
        }
        if event.flags.has(EventFlags::REJECTED) && !judged.flags.has(EventFlags::REJECTED) {
            self.append.move_backward_extremities(pdu)?;
        }
        // Last: what was done before may have changed flags of the row.
        let verdict = |flags: EventFlags| {
            let other = flags.without(EventFlags::REJECTED).without(EventFlags::SOFT_FAILED);
            [EventFlags::REJECTED, EventFlags::SOFT_FAILED]
                .into_iter()
                .filter(|flag| judged.flags.has(*flag))
                .fold(other, EventFlags::with)
        };
        self.append.change_row(seq, |row| {
            (row.before, row.after, row.replaces, row.flags) = (judged.before, after, replaces, verdict(row.flags));
            Ok(())
        })?;
        self.append.batch.delete(&PARTIAL_EVENTS, &(room, seq));
        Ok(())
    }

    /// Takes an event that was shown out of everything that shows it. What it redacted stays empty.
    fn hide(&mut self, event: &Stored, pos: StreamPos) -> Result<(), RoomError> {
        let (room, seq) = (self.append.head.room, event.seq);
        self.append.remove_relation(seq)?;
        self.append.batch.delete(&ORDER, &(room, bounded_depth(&event.pdu), seq)).delete(&STICKY, &(room, seq));
        if let Some(state_key) = event.pdu.state_key.as_deref()
            && let Some(slot) = self.append.known_slot(&event.pdu.kind, state_key)?
        {
            let rooms = self.append.rooms;
            for row in rooms.store.scan(&STATE_LOG, &room).from(&(room, pos, 0)).iter() {
                let (key, named) = row?;
                if key.2 == slot && named == seq {
                    self.append.batch.delete(&STATE_LOG, &key);
                }
            }
        }
        match self.append.read_member(&event.pdu) {
            Ok(Some((_, Membership::Leave | Membership::Ban))) => self.note_missed(&event.pdu, pos),
            _ => Ok(()),
        }
    }

    fn show(&mut self, event: &Stored, pos: StreamPos) -> Result<(), RoomError> {
        let room = self.append.head.room;
        self.append.batch.put(&ORDER, &(room, bounded_depth(&event.pdu), event.seq), &());
        let sender = self.append.rooms.user_nid(&event.pdu.sender)?;
        let sender = sender.ok_or(RoomError::Inconsistent("sender without a number"))?;
        self.append.connect(&event.pdu, sender, event.seq)?;
        match self.append.read_member(&event.pdu) {
            Ok(Some((_, Membership::Join))) => self.note_missed(&event.pdu, pos),
            _ => Ok(()),
        }
    }

    /// The server of the member that an event is about was in the room all the same.
    fn note_missed(&mut self, pdu: &Pdu, since: StreamPos) -> Result<(), RoomError> {
        let member = pdu.state_key.as_deref().and_then(|member| UserId::parse(member).ok());
        let Some(member) = member else { return Ok(()) };
        self.append.note_missed(member.server_name(), since)
    }
}

#[cfg(test)]
mod tests;

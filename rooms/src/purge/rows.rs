//! What the writer does for a purge: the rows of events and of states that go.

use std::sync::Arc;
use std::time::Duration;

use spec::redact;
use storage::Read;

use super::plan::Plan;
use crate::append::Append;
use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::ids::{RoomSeq, SnapshotId};
use crate::keyspaces::{
    BACKWARD, EARLY_REDACTIONS, EVENT_IDS, EVENTS_BY_TIME, EventPlace, ORDER, PROMOTED, RELATIONS, STATE_LOG,
    STATE_NODES, THREADS, THREADS_BY_LATEST, TIMELINE,
};
use crate::relations::stated_parent;
use crate::server_view::{Citation, cited_ids};
use crate::sticky::STICKY;

/// How many events one commit looks at, at least and at most.
const MIN_EVENTS: usize = 16;
const EVENTS: usize = 64;
/// How long the writer works for one commit, about: so long does a message wait that comes in between, and as long as
/// the disk takes.
const TIME: Duration = Duration::from_millis(3);
/// How many bytes of events one commit looks at, about.
const BYTES: usize = 512 * 1024;
/// How many relations of an event one commit takes out.
const RELATIONS_AT_ONCE: usize = 1000;
/// How many nodes of states one commit looks at.
const NODES: usize = 1000;

/// What one commit did.
pub(super) struct Part {
    pub deleted: u64,
    pub kept: u64,
    /// Where to go on.
    pub next: Option<RoomSeq>,
}

impl Append<'_> {
    /// Takes out the next events that go.
    pub(super) fn purge_events(&mut self, plan: &mut Plan, from: RoomSeq) -> Result<Part, RoomError> {
        self.is_quiet = true;
        let mut part = Part { deleted: 0, kept: 0, next: None };
        let Some(last) = plan.last_old else { return Ok(part) };
        let (rooms, room) = (self.rooms, self.head.room);
        plan.catch_up(rooms, &self.head)?;
        let (mut bytes, began) = (0, rooms.clock.monotonic());
        let is_late = || rooms.clock.monotonic().saturating_sub(began) > TIME;
        let events = rooms.scan_events(room, from, last.next(), EVENTS, false)?;
        let is_last = events.len() < EVENTS;
        for (number, event) in events.iter().enumerate() {
            if bytes > BYTES || (number >= MIN_EVENTS && is_late()) {
                part.next = Some(event.seq());
                return Ok(part);
            }
            bytes += event.json().len();
            if !plan.is_old(event) {
                continue;
            }
            if plan.stays(event) {
                if !event.flags().has(EventFlags::OUTLIER) {
                    self.displace(plan, event)?;
                    part.kept += 1;
                }
            } else if self.purge_relations(event)? {
                self.purge_event(plan, event)?;
                part.deleted += 1;
            } else {
                part.next = Some(event.seq());
                return Ok(part);
            }
        }
        part.next = events.last().filter(|_| !is_last).map(|event| event.seq().next());
        Ok(part)
    }

    /// Takes an event that stays out of the timeline: of the states around it nothing is left, and what is no state is
    /// redacted unless it stays for its own sake.
    fn displace(&mut self, plan: &Plan, event: &Event) -> Result<(), RoomError> {
        self.purge_place(plan, event)?;
        let rules = self.head.rules();
        let is_bare = event.state_key().is_none() && !plan.stays_for_itself(event);
        self.change_row(event.seq(), |row| {
            row.flags = row.flags.with(EventFlags::OUTLIER);
            (row.before, row.after) = (SnapshotId::EMPTY, SnapshotId::EMPTY);
            (row.replaces, row.redacted_by) = (None, None);
            if is_bare {
                let object = row.pdu.to_object().map_err(|_| RoomError::Inconsistent("an event does not parse"))?;
                let json = spec::canonical::write(&redact::redact_event(&object, rules));
                row.pdu = Arc::new(spec::pdu::Pdu::from_trusted(row.pdu.event_id.clone(), &json)?);
                row.flags = row.flags.with(EventFlags::REDACTED);
            }
            Ok(())
        })
    }

    /// Takes an event out with all that hangs on it.
    fn purge_event(&mut self, plan: &Plan, event: &Event) -> Result<(), RoomError> {
        let (room, seq, id) = (self.head.room, event.seq(), event.event_id().to_owned());
        self.purge_place(plan, event)?;
        for (pos, slot) in plan.log.get(&seq).into_iter().flatten() {
            self.batch.delete(&STATE_LOG, &(room, *pos, *slot));
        }
        if let Some(redacts) = event.to_pdu()?.redacts(self.head.rules()) {
            self.batch.delete(&EARLY_REDACTIONS, &(room, redacts.as_str().to_owned(), seq));
        }
        if let (Some(depth), Some(purged)) = (plan.edges.get(id.as_str()), self.head.purged_depth()) {
            self.batch.put(&BACKWARD, &(room, id.clone()), &(*depth).min(purged));
        }
        self.batch.delete(&TIMELINE, &(room, seq));
        match self.rooms.store.get(&PROMOTED, &(room, seq))? {
            // A state names it by the number that it had before it came into the timeline.
            Some(outlier) if plan.needs(outlier) => {
                self.batch.put(&EVENT_IDS, &id, &EventPlace { room, seq: outlier });
                self.batch.delete(&PROMOTED, &(room, seq));
            }
            Some(outlier) => {
                self.batch.delete(&EVENT_IDS, &id).delete(&PROMOTED, &(room, seq));
                self.batch.delete(&TIMELINE, &(room, outlier));
            }
            None => drop(self.batch.delete(&EVENT_IDS, &id)),
        }
        Ok(())
    }

    /// Takes out where an event stands, and where history ended at it.
    fn purge_place(&mut self, plan: &Plan, event: &Event) -> Result<(), RoomError> {
        let (room, seq) = (self.head.room, event.seq());
        self.batch.delete(&ORDER, &(room, event.depth(), seq));
        self.batch.delete(&EVENTS_BY_TIME, &(room, event.origin_server_ts(), seq));
        self.batch.delete(&STICKY, &(room, seq));
        for prev in cited_ids(event, Citation::Prev)? {
            if !plan.unknown.contains(prev.as_str()) && !plan.edges.contains_key(prev.as_str()) {
                self.batch.delete(&BACKWARD, &(room, prev));
            }
        }
        Ok(())
    }

    /// Takes out the relations to and of an event that goes. Those to it are of events that stay or go later; what it
    /// relates to has gone before, or stays. Says whether none is left.
    fn purge_relations(&mut self, event: &Event) -> Result<bool, RoomError> {
        let (room, seq) = (self.head.room, event.seq());
        if event.flags().has(EventFlags::HAS_RELATIONS) {
            let mut count = 0;
            for key in self.rooms.store.scan(&RELATIONS, &(room, seq)).keys().take(RELATIONS_AT_ONCE) {
                self.batch.delete(&RELATIONS, &key?);
                count += 1;
            }
            if count == RELATIONS_AT_ONCE {
                return Ok(false);
            }
            if let Some(latest) = self.rooms.store.get(&THREADS, &(room, seq))? {
                self.batch.delete(&THREADS, &(room, seq)).delete(&THREADS_BY_LATEST, &(room, latest));
            }
        }
        let Some(parent) = stated_parent(event) else { return Ok(true) };
        let Some(parent) = self.place_of(&parent)? else { return Ok(true) };
        self.batch.delete(&RELATIONS, &(room, parent, seq));
        // Older answers in the thread have gone before this one.
        if self.rooms.store.get(&THREADS, &(room, parent))? == Some(seq) {
            self.batch.delete(&THREADS, &(room, parent)).delete(&THREADS_BY_LATEST, &(room, seq));
        }
        Ok(true)
    }

    /// Takes out the next nodes that no state needs which remains.
    pub(super) fn purge_nodes(&mut self, plan: &mut Plan, from: u64) -> Result<(u64, Option<u64>), RoomError> {
        self.is_quiet = true;
        plan.catch_up(self.rooms, &self.head)?;
        let (room, mut deleted, mut looked_at, mut last) = (self.head.room, 0, 0, from);
        let scan = self.rooms.store.scan(&STATE_NODES, &room).from(&(room, from)).through(&(room, plan.last_node));
        for key in scan.keys().take(NODES) {
            let (_, id) = key?;
            (looked_at, last) = (looked_at + 1, id);
            if !plan.needs_node(id) {
                self.batch.delete(&STATE_NODES, &(room, id));
                deleted += 1;
            }
        }
        Ok((deleted, (looked_at >= NODES).then(|| last.saturating_add(1))))
    }
}

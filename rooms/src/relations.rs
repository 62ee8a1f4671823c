//! Events that relate to others: edits, annotations, references and threads
//! (Client-Server API §Forming relationships between events).

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use spec::ids::EventId;
use spec::pdu::Pdu;
use storage::Read;

use crate::append::Append;
use crate::draft::Draft;
use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::ids::{RoomSeq, UserNid};
use crate::keyspaces::{RELATIONS, RelationRow, THREADS, THREADS_BY_LATEST};
use crate::timeline::{Cursor, Direction, Page};
use crate::view::RoomView;

/// How far `recurse` follows relations of relations.
const MAX_RECURSION: usize = 3;
/// How many relations one query collects.
const MAX_RELATIONS: usize = 5000;

#[derive(Deserialize)]
struct RelatesTo<'a> {
    #[serde(borrow, default)]
    rel_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Relating<'a> {
    #[serde(borrow, rename = "m.relates_to")]
    relates_to: Option<RelatesTo<'a>>,
}

/// A relation to an event of the room.
pub(crate) struct Relation {
    parent: RoomSeq,
    rel_type: Box<str>,
}

/// `m.relates_to` of a stored event.
struct StatedRelation {
    rel_type: Box<str>,
    parent: Box<str>,
    key: Option<Box<str>>,
}

/// Reads `m.relates_to` from a content.
fn read_relation(content: &str) -> Option<StatedRelation> {
    let relates = serde_json::from_str::<Relating<'_>>(content).ok()?.relates_to?;
    let (rel_type, parent) = (relates.rel_type?.into(), relates.event_id?.into());
    Some(StatedRelation { rel_type, parent, key: relates.key.map(Into::into) })
}

/// The id of the event that an event says it relates to.
pub(crate) fn stated_parent(event: &Event) -> Option<Box<str>> {
    read_relation(event.content()).map(|relation| relation.parent)
}

impl Event {
    /// The type of the relation that the event states to another.
    #[must_use]
    pub fn rel_type(&self) -> Option<Box<str>> {
        read_relation(self.content()).map(|relation| relation.rel_type)
    }

    /// The id of the root of the thread that the event states to be part of.
    #[must_use]
    pub fn thread_root(&self) -> Option<Box<str>> {
        read_relation(self.content()).filter(|relation| &*relation.rel_type == "m.thread").map(|found| found.parent)
    }
}

/// Whether an edit says what the event shall be: encrypted ones say it where only clients see it.
fn has_new_content(edit: &Event) -> bool {
    #[derive(Deserialize)]
    struct Edit<'a> {
        #[serde(borrow, rename = "m.new_content")]
        new_content: Option<&'a RawValue>,
    }
    let new_content = edit.content_as::<Edit<'_>>().and_then(|content| content.new_content);
    edit.kind() == "m.room.encrypted" || new_content.is_some_and(|content| content.get().starts_with('{'))
}

impl Append<'_> {
    /// Finds the event of this room that a draft relates to, and refuses what may not relate to it.
    pub(crate) fn check_relation(&self, draft: &Draft, sender: UserNid) -> Result<Option<Relation>, RoomError> {
        let Some(relates) = draft.content.get("m.relates_to").filter(|_| draft.state_key.is_none()) else {
            return Ok(None);
        };
        let text = |name: &str| relates.get(name).and_then(|value| value.as_str());
        let (Some(rel_type), Some(parent)) = (text("rel_type"), text("event_id")) else { return Ok(None) };
        let Some(parent) = self.place_of(parent)? else { return Ok(None) };
        if rel_type == "m.annotation" {
            self.refuse_duplicate(parent, draft, sender, text("key"))?;
        }
        if rel_type == "m.thread"
            && let Some(event) = self.event(parent)?
            && read_relation(event.content()).is_some()
        {
            return Err(RoomError::Invalid("a thread cannot start from an event that relates to another"));
        }
        Ok(Some(Relation { parent, rel_type: rel_type.into() }))
    }

    /// The relation of a received event to one that is here.
    pub(crate) fn find_relation(&self, pdu: &Pdu) -> Result<Option<Relation>, RoomError> {
        if pdu.is_state() {
            return Ok(None);
        }
        let Some(stated) = read_relation(pdu.content.get()) else { return Ok(None) };
        let parent = self.place_of(&stated.parent)?;
        Ok(parent.map(|parent| Relation { parent, rel_type: stated.rel_type }))
    }

    fn refuse_duplicate(
        &self,
        parent: RoomSeq,
        draft: &Draft,
        sender: UserNid,
        key: Option<&str>,
    ) -> Result<(), RoomError> {
        for row in self.rooms.store.scan(&RELATIONS, &(self.head.room, parent)).iter() {
            let ((_, _, child), row) = row?;
            if row.sender != sender || &*row.rel_type != "m.annotation" || row.kind != draft.kind {
                continue;
            }
            if let Some(event) = self.event(child)?
                && read_relation(event.content()).is_some_and(|stated| stated.key.as_deref() == key)
            {
                return Err(RoomError::DuplicateAnnotation);
            }
        }
        Ok(())
    }

    /// The rows of a relation.
    pub(crate) fn add_relation(
        &mut self,
        relation: Relation,
        pdu: &Pdu,
        sender: UserNid,
        seq: RoomSeq,
    ) -> Result<(), RoomError> {
        let (room, Relation { parent, rel_type }) = (self.head.room, relation);
        if &*rel_type == "m.thread" {
            let latest = self.rooms.store.get(&THREADS, &(room, parent))?;
            // History that comes late makes no thread the latest.
            if latest.is_none_or(|latest| latest < seq) {
                if let Some(latest) = latest {
                    self.batch.delete(&THREADS_BY_LATEST, &(room, latest));
                }
                self.batch.put(&THREADS, &(room, parent), &seq).put(&THREADS_BY_LATEST, &(room, seq), &parent);
            }
        }
        self.batch.put(&RELATIONS, &(room, parent, seq), &RelationRow { rel_type, kind: pdu.kind.clone(), sender });
        let known = self.event(parent)?.is_some_and(|event| event.flags().has(EventFlags::HAS_RELATIONS));
        if known {
            return Ok(());
        }
        self.change_row(parent, |row| {
            row.flags = row.flags.with(EventFlags::HAS_RELATIONS);
            Ok(())
        })
    }

    /// Takes out what a redacted event's relation wrote. Must run while its content still stands.
    pub(crate) fn remove_relation(&mut self, child: RoomSeq) -> Result<(), RoomError> {
        let Some(event) = self.event(child)? else { return Ok(()) };
        let Some(StatedRelation { rel_type, parent, .. }) = read_relation(event.content()) else { return Ok(()) };
        let (room, Some(parent)) = (self.head.room, self.place_of(&parent)?) else { return Ok(()) };
        self.batch.delete(&RELATIONS, &(room, parent, child));
        if &*rel_type != "m.thread" || self.rooms.store.get(&THREADS, &(room, parent))? != Some(child) {
            return Ok(());
        }
        self.batch.delete(&THREADS_BY_LATEST, &(room, child));
        let mut latest = None;
        for row in self.rooms.store.scan(&RELATIONS, &(room, parent)).reverse().iter() {
            let ((_, _, other), row) = row?;
            if other != child && &*row.rel_type == "m.thread" {
                latest = Some(other);
                break;
            }
        }
        match latest {
            Some(other) => {
                self.batch.put(&THREADS, &(room, parent), &other).put(&THREADS_BY_LATEST, &(room, other), &parent)
            }
            None => self.batch.delete(&THREADS, &(room, parent)),
        };
        Ok(())
    }
}

/// What the server knows of the events that relate to one, for `unsigned.m.relations`.
#[derive(Debug, Default)]
pub struct Bundle {
    /// The event that replaces it.
    pub replacement: Option<Event>,
    /// Its thread: how many events, the latest, and whether the viewer took part.
    pub thread: Option<(u64, Event, bool)>,
    /// Events that refer to it.
    pub references: Vec<Box<str>>,
}

/// Which relations of an event are asked for.
#[derive(Clone, Debug, Default)]
pub struct RelationQuery {
    /// Only this relation type.
    pub rel_type: Option<String>,
    /// Only this event type.
    pub kind: Option<String>,
    /// Relations of relations too.
    pub recurse: bool,
}

impl RoomView {
    /// What is bundled with an event. Cheap for events that nothing relates to.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn bundle(&self, event: &Event) -> Result<Bundle, RoomError> {
        let mut bundle = Bundle::default();
        if !event.flags().has(EventFlags::HAS_RELATIONS) {
            return Ok(bundle);
        }
        let (mut thread, mut took_part) = (Vec::new(), event.sender_nid() == self.viewer());
        let mut edits = Vec::new();
        for row in self.rooms.store.scan(&RELATIONS, &(self.room(), event.seq())).iter() {
            let ((_, _, child), row) = row?;
            match &*row.rel_type {
                "m.replace" if row.sender == event.sender_nid() && *row.kind == *event.kind() => edits.push(child),
                "m.thread" => {
                    thread.push(child);
                    took_part |= row.sender == self.viewer();
                }
                "m.reference" => {
                    let child = self.rooms.event_at(self.room(), child)?;
                    if self.lens().can_see(&child)? {
                        bundle.references.push(child.event_id().into());
                    }
                }
                _ => {}
            }
        }
        if event.state_key().is_none() && !event.flags().has(EventFlags::REDACTED) && !edits.is_empty() {
            let is_edit = read_relation(event.content()).is_some_and(|stated| &*stated.rel_type == "m.replace");
            bundle.replacement = if is_edit { None } else { self.find_replacement(edits)? };
        }
        bundle.thread = self.find_latest(thread)?.map(|(count, latest)| (count, latest, took_part));
        Ok(bundle)
    }

    /// Whether some event relates to this one that has one of these relation types and one of these senders; what is
    /// absent does not matter (Client-Server API §Filtering, `related_by_rel_types` and `related_by_senders`).
    ///
    /// # Errors
    /// Storage errors only.
    pub fn is_related_by(
        &self,
        event: &Event,
        rel_types: Option<&[String]>,
        senders: Option<&BTreeSet<String>>,
    ) -> Result<bool, RoomError> {
        if !event.flags().has(EventFlags::HAS_RELATIONS) {
            return Ok(false);
        }
        let mut lens = self.lens();
        for row in self.rooms.store.scan(&RELATIONS, &(self.room(), event.seq())).iter() {
            let ((_, _, child), row) = row?;
            if rel_types.is_some_and(|types| !types.iter().any(|rel_type| **rel_type == *row.rel_type)) {
                continue;
            }
            if let Some(senders) = senders
                && !senders.contains(self.rooms.user_id(row.sender)?.as_str())
            {
                continue;
            }
            if lens.can_see(&self.rooms.event_at(self.room(), child)?)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The latest event of a thread that the viewer may see, and how many there are up to it: who left the room learns
    /// nothing of what was said after.
    fn find_latest(&self, mut thread: Vec<RoomSeq>) -> Result<Option<(u64, Event)>, RoomError> {
        let mut lens = self.lens();
        while let Some(latest) = thread.pop() {
            let latest = self.rooms.event_at(self.room(), latest)?;
            if lens.can_see(&latest)? {
                return Ok(Some((thread.len() as u64 + 1, latest)));
            }
        }
        Ok(None)
    }

    /// The newest edit by time, then by event id (Client-Server API §Validity of replacement events).
    fn find_replacement(&self, edits: Vec<RoomSeq>) -> Result<Option<Event>, RoomError> {
        let mut newest: Option<Event> = None;
        for edit in edits {
            let edit = self.rooms.event_at(self.room(), edit)?;
            if !has_new_content(&edit) {
                continue;
            }
            let age = |event: &Event| (event.origin_server_ts(), event.event_id().to_owned());
            if newest.as_ref().is_none_or(|newest| age(&edit) > age(newest)) && self.lens().can_see(&edit)? {
                newest = Some(edit);
            }
        }
        Ok(newest)
    }

    /// The events that relate to one, a page at a time (Client-Server API `GET /rooms/{roomId}/relations/{eventId}`).
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] if the viewer may not see the parent.
    pub fn relations(
        &self,
        parent: &EventId,
        query: &RelationQuery,
        from: Option<Cursor>,
        to: Option<Cursor>,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, RoomError> {
        let parent = self.event(parent)?;
        let mut found = self.collect_relations(parent.seq(), query)?;
        let (from, to) = (from.map(|cursor| cursor.seq), to.map(|cursor| cursor.seq));
        // A cursor lies after the event of its number.
        match direction {
            Direction::Backward => {
                found.reverse();
                found.retain(|seq| from.is_none_or(|from| *seq <= from) && to.is_none_or(|to| *seq > to));
            }
            Direction::Forward => {
                found.retain(|seq| from.is_none_or(|from| *seq > from) && to.is_none_or(|to| *seq <= to))
            }
        }
        let (mut lens, mut events, mut end) = (self.lens(), Vec::new(), None);
        for (index, seq) in found.iter().enumerate() {
            let event = self.rooms.event_at(self.room(), *seq)?;
            if lens.can_see(&event)? {
                events.push(event);
            }
            if events.len() >= limit {
                let at = Cursor::after(&self.rooms.event_at(self.room(), *seq)?);
                let at = if direction == Direction::Backward { at.before() } else { at };
                end = (index + 1 < found.len()).then_some(at);
                break;
            }
        }
        Ok(Page { events, end })
    }

    fn collect_relations(&self, parent: RoomSeq, query: &RelationQuery) -> Result<Vec<RoomSeq>, RoomError> {
        let (mut found, mut parents) = (Vec::new(), vec![parent]);
        let depth = if query.recurse { MAX_RECURSION } else { 1 };
        for _ in 0..depth {
            let mut children = Vec::new();
            for parent in parents {
                for row in self.rooms.store.scan(&RELATIONS, &(self.room(), parent)).iter() {
                    let ((_, _, child), row) = row?;
                    if children.len() + found.len() >= MAX_RELATIONS {
                        break;
                    }
                    children.push(child);
                    let fits = query.rel_type.as_deref().is_none_or(|wanted| wanted == &*row.rel_type)
                        && query.kind.as_deref().is_none_or(|wanted| wanted == &*row.kind);
                    if fits {
                        found.push(child);
                    }
                }
            }
            parents = children;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The roots of the room's threads, those with the latest events first
    /// (Client-Server API `GET /rooms/{roomId}/threads`).
    ///
    /// # Errors
    /// Storage errors only.
    pub fn threads(&self, from: Option<Cursor>, limit: usize, participated: bool) -> Result<Page, RoomError> {
        let (mut lens, mut events) = (self.lens(), Vec::new());
        let mut scan = self.rooms.store.scan(&THREADS_BY_LATEST, &self.room()).reverse();
        if let Some(from) = from {
            scan = scan.until(&(self.room(), from.seq.next()));
        }
        for row in scan.iter() {
            let ((_, latest), root) = row?;
            if events.len() >= limit {
                return Ok(Page { events, end: Some(Cursor::after(&self.rooms.event_at(self.room(), latest)?)) });
            }
            let event = self.rooms.event_at(self.room(), root)?;
            if !lens.can_see(&event)? {
                continue;
            }
            if !participated || self.bundle(&event)?.thread.is_some_and(|(_, _, took_part)| took_part) {
                events.push(event);
            }
        }
        Ok(Page { events, end: None })
    }
}

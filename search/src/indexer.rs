//! What goes into the index, and how far it has come. Everything here blocks on the disk.

use std::collections::{BTreeSet, VecDeque};

use rooms::{Cursor, Event, EventFlags, RoomNid, RoomSeq, Rooms};
use runtime::CancellationToken;
use storage::StreamPos;
use tantivy::IndexWriter;

use crate::content::read_text;
use crate::error::SearchError;
use crate::index::{Building, Entry, Progress, SharedIndex};

/// How many events are read from a room at a time.
const CHUNK: usize = 256;
/// After so many events the building of an index is committed: so much is done again after a crash.
const BUILD_STEP: usize = 20_000;
/// If nothing was indexed for so many positions, how far it was looked is committed all the same.
const FORGETTABLE: u64 = 20_000;

/// The one who writes the index.
pub(crate) struct Indexer {
    rooms: Rooms,
    index: SharedIndex,
    memory: usize,
    /// Ends long work.
    stop: CancellationToken,
    /// Holds threads and memory, so it is let go when there is nothing to do.
    writer: Option<IndexWriter>,
    progress: Progress,
    /// The position that the index itself knows.
    committed: StreamPos,
    /// While building: the rooms that are left, the present one first.
    left: Option<VecDeque<RoomNid>>,
}

/// How far the building of an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildStatus {
    /// Rooms that are not in yet.
    pub rooms_left: usize,
    /// Events that are in.
    pub events: u64,
}

impl Indexer {
    pub fn new(rooms: Rooms, index: SharedIndex, progress: Progress, memory: usize, stop: CancellationToken) -> Self {
        let committed = progress.done;
        Indexer { rooms, index, memory, stop, writer: None, progress, committed, left: None }
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether memory and threads are held.
    pub fn holds_writer(&self) -> bool {
        self.writer.is_some()
    }

    /// Forgets what was not committed: after a failure nobody knows what of it was added.
    pub fn roll_back(&mut self) {
        self.writer = None;
        self.left = None;
    }

    /// Lets memory and threads go, once the index is tidied up.
    pub fn rest(&mut self) -> Result<(), SearchError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.wait_merging_threads()?;
        // Else the files that were merged stay in use.
        self.index.reload()
    }

    /// Commits how far it was looked, if the index does not know.
    pub fn finish(&mut self) -> Result<(), SearchError> {
        if self.progress.building.is_none() && self.committed < self.progress.done {
            self.commit(self.progress)?;
        }
        self.writer = None;
        Ok(())
    }

    /// Empties the index, to build it from what came up to a position.
    pub fn begin_again(&mut self, until: StreamPos) -> Result<(), SearchError> {
        self.left = None;
        self.open_writer()?.delete_all_documents()?;
        self.commit(Progress::start(self.progress.identity, until))
    }

    fn open_writer(&mut self) -> Result<&mut IndexWriter, SearchError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.index.writer(self.memory)?,
        };
        Ok(self.writer.insert(writer))
    }

    fn commit(&mut self, progress: Progress) -> Result<(), SearchError> {
        let index = self.index.clone();
        index.commit(self.open_writer()?, &progress)?;
        self.committed = progress.done;
        self.progress = progress;
        Ok(())
    }

    /// Goes on with building; `None` once that is done.
    pub fn build(&mut self) -> Result<Option<BuildStatus>, SearchError> {
        let Some(mut at) = self.progress.building else { return Ok(None) };
        let mut left = match self.left.take() {
            Some(left) => left,
            None => {
                let rooms = self.rooms.rooms_grown_after(StreamPos::ZERO)?.into_iter();
                rooms.filter(|room| *room >= at.room).collect()
            }
        };
        let (index, rooms, stop) = (self.index.clone(), self.rooms.clone(), self.stop.clone());
        let adding = Adding { rooms: &rooms, index: &index, writer: self.open_writer()?, stop: &stop };
        let mut read = 0;
        while let Some(&room) = left.front() {
            if room != at.room {
                at = Building { room, after: RoomSeq::MIN, ..at };
            }
            match adding.add_history(&mut at) {
                Ok(CHUNK) => read += CHUNK,
                Ok(rest) => {
                    read += rest + 1;
                    left.pop_front();
                }
                Err(error) => {
                    skip_unreadable(room, None, error)?;
                    left.pop_front();
                }
            }
            if read >= BUILD_STEP {
                break;
            }
        }
        if left.is_empty() {
            self.commit(Progress { done: at.until, building: None, ..self.progress })?;
            return Ok(None);
        }
        self.commit(Progress { building: Some(at), ..self.progress })?;
        let status = BuildStatus { rooms_left: left.len(), events: self.index.len() };
        self.left = Some(left);
        Ok(Some(status))
    }

    /// Takes in what came into these rooms up to a position.
    pub fn follow(&mut self, changed: &BTreeSet<RoomNid>, upto: StreamPos) -> Result<(), SearchError> {
        let done = self.progress.done;
        if upto <= done {
            return Ok(());
        }
        // Most of what is committed has no words; for that no writer is opened.
        let (rooms, stop) = (self.rooms.clone(), self.stop.clone());
        let mut news = Vec::new();
        let mut has_news = false;
        for &room in changed {
            has_news |= self.follow_purge(room, done)?;
            if rooms.is_deleting(room)? {
                continue;
            }
            let looked = rooms.visit_events_after(room, done, &mut |event| {
                stop_if(&stop)?;
                if event.pos() <= upto && concerns_index(&event) {
                    news.push(event);
                }
                if news.len() >= CHUNK {
                    has_news = true;
                    self.take_in(&mut news)?;
                }
                Ok::<(), SearchError>(())
            });
            looked.or_else(|error| skip_unreadable(room, None, error))?;
        }
        has_news |= !news.is_empty();
        self.take_in(&mut news)?;
        let progress = Progress { done: upto, ..self.progress };
        if has_news || upto.0 - self.committed.0 > FORGETTABLE {
            self.commit(progress)
        } else {
            self.progress = progress;
            Ok(())
        }
    }

    /// Takes out what was purged of a room since a position, or all of a room that is deleted; says whether there was
    /// anything to do.
    fn follow_purge(&mut self, room: RoomNid, done: StreamPos) -> Result<bool, SearchError> {
        let (rooms, index) = (self.rooms.clone(), self.index.clone());
        if rooms.is_deleting(room)? {
            index.remove_below(self.open_writer()?, room, RoomSeq::FIRST_OUTLIER)?;
            return Ok(true);
        }
        let Some((upto, _)) = rooms.purged(room)?.filter(|(_, pos)| *pos > done) else { return Ok(false) };
        let writer = self.open_writer()?;
        index.remove_below(writer, room, upto)?;
        // What came late into an old place, or was fetched, is numbered among those and stays.
        let stop = self.stop.clone();
        let adding = Adding { rooms: &rooms, index: &index, writer: self.open_writer()?, stop: &stop };
        let begins = rooms.head(room)?.history_begins();
        let stays = |event: &&Event| event.seq() < upto && begins.is_none_or(|begins| Cursor::after(event) > begins);
        let mut after = RoomSeq::MIN;
        loop {
            stop_if(&stop)?;
            let events = rooms.readable_events_after(room, after, CHUNK)?;
            for event in events.iter().filter(stays) {
                adding.add(event)?;
            }
            match events.last().filter(|event| events.len() == CHUNK && event.seq() < upto) {
                Some(last) => after = last.seq(),
                None => return Ok(true),
            }
        }
    }

    fn take_in(&mut self, news: &mut Vec<Event>) -> Result<(), SearchError> {
        if news.is_empty() {
            return Ok(());
        }
        let (index, rooms, stop) = (self.index.clone(), self.rooms.clone(), self.stop.clone());
        let adding = Adding { rooms: &rooms, index: &index, writer: self.open_writer()?, stop: &stop };
        news.drain(..).try_for_each(|event| {
            adding.take_in(&event).or_else(|error| skip_unreadable(event.room(), Some(event.seq()), error))
        })
    }
}

/// What cannot be read is left out, so that it does not keep all else from being found; a failure of the store or the
/// index ends the work.
fn skip_unreadable(room: RoomNid, seq: Option<RoomSeq>, error: SearchError) -> Result<(), SearchError> {
    match error {
        SearchError::Rooms(error) if !error.is_of_store() => {
            let seq = seq.map(|seq| seq.0);
            tracing::error!(room = room.0, seq, %error, "what cannot be read is left out of the search index");
            Ok(())
        }
        error => Err(error),
    }
}

fn stop_if(stop: &CancellationToken) -> Result<(), SearchError> {
    if stop.is_cancelled() { Err(SearchError::Stopping) } else { Ok(()) }
}

/// Whether the event changes what is in the index.
fn concerns_index(event: &Event) -> bool {
    event.flags().is_visible()
        && matches!(event.kind(), "m.room.message" | "m.room.name" | "m.room.topic" | "m.room.redaction")
}

/// An open index being added to.
struct Adding<'a> {
    rooms: &'a Rooms,
    index: &'a SharedIndex,
    writer: &'a IndexWriter,
    stop: &'a CancellationToken,
}

impl Adding<'_> {
    /// Adds the next events of a room, at most [`CHUNK`]; says how many there were.
    fn add_history(&self, at: &mut Building) -> Result<usize, SearchError> {
        stop_if(self.stop)?;
        let events = self.rooms.readable_events_after(at.room, at.after, CHUNK)?;
        for event in &events {
            at.after = event.seq();
            if event.pos() <= at.until {
                self.add(event).or_else(|error| skip_unreadable(at.room, Some(event.seq()), error))?;
            }
        }
        Ok(events.len())
    }

    /// Adds an event, or takes out what it redacted.
    fn take_in(&self, event: &Event) -> Result<(), SearchError> {
        if event.kind() != "m.room.redaction" {
            return self.add(event);
        }
        let head = self.rooms.head(event.room())?;
        let redacts = event.to_pdu().ok().and_then(|pdu| pdu.redacts(head.rules()));
        let Some(redacts) = redacts else { return Ok(()) };
        if let Some(target) = self.rooms.find_in_room(event.room(), redacts.as_str())?
            && target.flags().has(EventFlags::REDACTED)
        {
            self.index.remove(self.writer, target.room(), target.seq());
        }
        Ok(())
    }

    fn add(&self, event: &Event) -> Result<(), SearchError> {
        let Some(found) = read_text(event) else { return Ok(()) };
        // An edit is found in the place of what it edits.
        let original = match &found.edits {
            Some(id) => self.rooms.find_in_room(event.room(), id)?,
            None => None,
        };
        self.index.add(
            self.writer,
            &Entry {
                room: event.room(),
                seq: event.seq(),
                sender: event.sender_nid(),
                at: original.as_ref().unwrap_or(event).origin_server_ts(),
                key: found.key,
                text: &found.text,
            },
        )
    }
}

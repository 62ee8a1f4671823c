//! What is pending for which server, on the disk.
//!
//! The log itself is the queue: a row says from where on a server has to be told of a room, so that nothing grows with
//! the events of an outage. Rows are made before the follower's cursor passes what they are for, and go when the server
//! has acknowledged it.

use std::collections::BTreeMap;

use rooms::{RoomNid, RoomSeq, UserNid};
use spec::ids::ServerName;
use storage::{Batch, CommitError, Keyspace, KeyspaceInfo, Profile, Read, StorageError, Store, StreamPos};

use super::table::Stretch;

/// Up to where all rooms and device lists were looked at.
pub(crate) const FOLLOWER: Keyspace<(), StreamPos> = Keyspace::new("federation_follower", Profile::Points);
/// (server, room) → everything after this event is still to be looked at for the server.
pub(crate) const PENDING: Keyspace<(String, RoomNid), RoomSeq> = Keyspace::new("federation_pending", Profile::Points);
/// Events for a server that is not in their room.
pub(crate) const EXTRA: Keyspace<(String, RoomNid, RoomSeq), ()> = Keyspace::new("federation_extra", Profile::Points);
/// To-device messages: the content of the EDU, as JSON.
pub(crate) const OUTBOX: Keyspace<(String, StreamPos, u32), Vec<u8>> = Keyspace::new("federation_outbox", Profile::Log);
/// Server → all changes of device lists after this position are still to be looked at for the server.
pub(crate) const DEVICE_POS: Keyspace<String, StreamPos> = Keyspace::new("federation_device_pos", Profile::Points);
/// Users whose whole device list the server should fetch.
pub(crate) const WHOLE_LISTS: Keyspace<(String, UserNid), ()> =
    Keyspace::new("federation_whole_lists", Profile::Points);
/// The public changes of local users' device lists, by user: what `prev_id` is read from.
pub(crate) const DEVICE_CHAIN: Keyspace<(UserNid, StreamPos), ()> =
    Keyspace::new("federation_device_chain", Profile::Points);

/// The keyspaces of the sender.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[
    FOLLOWER.info(),
    PENDING.info(),
    EXTRA.info(),
    OUTBOX.info(),
    DEVICE_POS.info(),
    WHOLE_LISTS.info(),
    DEVICE_CHAIN.info(),
];

/// A commit is split above this size, well below what the store takes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Up to where one part of a server's queue is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress<P> {
    /// The row as it was when the part was packed.
    pub from: P,
    /// Everything up to here is done.
    pub to: P,
}

/// What a transaction takes off its server's queue once it has arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    pub rooms: BTreeMap<RoomNid, Progress<RoomSeq>>,
    pub extras: Vec<(RoomNid, RoomSeq)>,
    pub outbox: Vec<(StreamPos, u32)>,
    pub devices: Option<Progress<StreamPos>>,
    pub whole_lists: Vec<UserNid>,
}

impl Acks {
    /// Whether nothing durable is taken off.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.extras.is_empty()
            && self.outbox.is_empty()
            && self.devices.is_none()
            && self.whole_lists.is_empty()
    }
}

/// A row that goes unless it was replaced meanwhile.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Room(RoomNid, RoomSeq),
    Devices(StreamPos),
}

impl Ending {
    fn put_into(self, batch: &mut Batch, server: &str) {
        match self {
            Ending::Room(room, expected) => {
                let key = (server.to_owned(), room);
                batch.expect_equals(&PENDING, &key, &expected).delete(&PENDING, &key);
            }
            Ending::Devices(expected) => {
                let key = server.to_owned();
                batch.expect_equals(&DEVICE_POS, &key, &expected).delete(&DEVICE_POS, &key);
            }
        }
    }
}

/// The changes that acknowledge a transaction.
#[derive(Debug, Default)]
pub(crate) struct AckRows {
    moves: Vec<(RoomNid, RoomSeq)>,
    endings: Vec<Ending>,
    device_move: Option<StreamPos>,
}

impl AckRows {
    /// Decides what becomes of a room's row, and notes it in memory.
    pub fn settle_room(&mut self, room: RoomNid, stretch: &mut Stretch<RoomSeq>, done: Progress<RoomSeq>) {
        if stretch.after != done.from || stretch.ending {
            return;
        }
        if stretch.latest > done.to {
            stretch.after = done.to;
            if done.to != done.from {
                self.moves.push((room, done.to));
            }
        } else {
            stretch.ending = true;
            self.endings.push(Ending::Room(room, stretch.after));
        }
    }

    /// As [`AckRows::settle_room`], for device lists.
    pub fn settle_devices(&mut self, stretch: &mut Stretch<StreamPos>, done: Progress<StreamPos>) {
        if stretch.after != done.from || stretch.ending {
            return;
        }
        if stretch.latest > done.to {
            stretch.after = done.to;
            self.device_move = Some(done.to);
        } else {
            stretch.ending = true;
            self.endings.push(Ending::Devices(stretch.after));
        }
    }

    fn fixed(&self, server: &str, acks: &Acks) -> Batch {
        let mut batch = Batch::new();
        for (room, to) in &self.moves {
            batch.put(&PENDING, &(server.to_owned(), *room), to);
        }
        if let Some(to) = &self.device_move {
            batch.put(&DEVICE_POS, &server.to_owned(), to);
        }
        for (room, seq) in &acks.extras {
            batch.delete(&EXTRA, &(server.to_owned(), *room, *seq));
        }
        for (pos, index) in &acks.outbox {
            batch.delete(&OUTBOX, &(server.to_owned(), *pos, *index));
        }
        for user in &acks.whole_lists {
            batch.delete(&WHOLE_LISTS, &(server.to_owned(), *user));
        }
        batch
    }

    /// Writes the changes. A row that was replaced meanwhile stays.
    ///
    /// # Errors
    /// If the store fails. Not cancel-safe in part: what is written is right in itself, the rest is sent again.
    pub async fn commit(&self, store: &Store, server: &ServerName, acks: &Acks) -> Result<(), CommitError> {
        let mut batch = self.fixed(server.as_str(), acks);
        for ending in &self.endings {
            ending.put_into(&mut batch, server.as_str());
        }
        if batch.is_empty() {
            return Ok(());
        }
        match store.commit(batch).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Expectation { .. }) => {}
            Err(error) => return Err(error),
        }
        let fixed = self.fixed(server.as_str(), acks);
        if !fixed.is_empty() {
            store.commit(fixed).await?;
        }
        for ending in &self.endings {
            let mut batch = Batch::new();
            ending.put_into(&mut batch, server.as_str());
            match store.commit(batch).await {
                Ok(_) | Err(CommitError::Expectation { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// New rows, split into commits of bearable size; the cursor is in the last one.
#[derive(Debug, Default)]
pub(crate) struct NewRows {
    batches: Vec<Batch>,
    current: Batch,
}

impl NewRows {
    /// Where the next row is put.
    pub fn current(&mut self) -> &mut Batch {
        if self.current.size() > BATCH_BYTES {
            self.batches.push(std::mem::take(&mut self.current));
        }
        &mut self.current
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.current.is_empty()
    }

    /// Writes them, and that everything up to `cursor` was looked at.
    ///
    /// # Errors
    /// If the store fails; then the cursor is where it was.
    pub async fn commit(mut self, store: &Store, cursor: StreamPos) -> Result<(), CommitError> {
        for batch in self.batches {
            store.commit(batch).await?;
        }
        self.current.put(&FOLLOWER, &(), &cursor);
        store.commit(self.current).await?;
        Ok(())
    }
}

/// A server's name as it stands in a row; `None` if it is damaged.
pub(crate) fn read_name(stored: &str) -> Option<ServerName> {
    ServerName::parse(stored).ok()
}

/// A message of an outbox: where it is, and the content of its EDU.
pub(crate) type Message = ((StreamPos, u32), Vec<u8>);

/// The oldest messages in a server's outbox, at most `limit` and about `bytes`; and whether these are all.
pub(crate) fn oldest_in_outbox(
    store: &Store,
    server: &ServerName,
    limit: usize,
    bytes: usize,
) -> Result<(Vec<Message>, bool), StorageError> {
    let mut messages = Vec::new();
    let mut size = 0usize;
    for row in store.scan(&OUTBOX, &server.as_str().to_owned()).iter() {
        let ((_, pos, index), content) = row?;
        size = size.saturating_add(content.len());
        if messages.len() >= limit || (size > bytes && !messages.is_empty()) {
            return Ok((messages, false));
        }
        messages.push(((pos, index), content));
    }
    Ok((messages, true))
}

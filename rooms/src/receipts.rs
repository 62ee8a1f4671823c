//! Read receipts (Client-Server API §Receipts).

use spec::ids::EventId;
use storage::{Batch, Read, Stamped, StreamPos, Topic};

use crate::error::RoomError;
use crate::ids::{RoomNid, RoomSeq, TOPIC_EPHEMERAL, TOPIC_USER, UserNid};
use crate::keyspaces::{RECEIPT_LOG, RECEIPTS, ReceiptRow};
use crate::rooms::Rooms;

/// The number of an event that is not here: none has it.
const UNKNOWN: RoomSeq = RoomSeq(0);
/// The most bytes of an event id (Appendices §Common identifier format).
const MAX_EVENT_ID: usize = 255;

/// `m.read` or `m.read.private`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReceiptKind {
    /// Shown to everybody.
    Read,
    /// Shown to the user's own devices only.
    ReadPrivate,
}

impl ReceiptKind {
    /// The receipt type as it stands in requests and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReceiptKind::Read => "m.read",
            ReceiptKind::ReadPrivate => "m.read.private",
        }
    }

    fn code(self) -> u8 {
        match self {
            ReceiptKind::Read => 1,
            ReceiptKind::ReadPrivate => 2,
        }
    }

    fn from_code(code: u8) -> ReceiptKind {
        if code == 1 { ReceiptKind::Read } else { ReceiptKind::ReadPrivate }
    }
}

/// A receipt as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whose.
    pub user: UserNid,
    /// Which kind.
    pub kind: ReceiptKind,
    /// `None`: unthreaded; else `main` or the root of a thread.
    pub thread: Option<Box<str>>,
    /// Up to which event.
    pub event_id: Box<str>,
    /// That event's number.
    pub seq: RoomSeq,
    /// When it was sent, in milliseconds.
    pub at: i64,
}

impl Rooms {
    /// Moves a user's receipts forward; those that would move back are left as they are. The caller
    /// has checked that the user may see the events. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::EventNotFound`] for an event of another room.
    pub async fn set_receipts(
        &self,
        room: RoomNid,
        user: UserNid,
        receipts: &[(ReceiptKind, Option<&str>, &EventId)],
    ) -> Result<(), RoomError> {
        self.set_receipts_at(room, user, receipts, self.clock.now_ms() as i64).await
    }

    /// As [`Rooms::set_receipts`], with the time at which they were sent instead of now, in milliseconds.
    ///
    /// # Errors
    /// As [`Rooms::set_receipts`].
    pub async fn set_receipts_at(
        &self,
        room: RoomNid,
        user: UserNid,
        receipts: &[(ReceiptKind, Option<&str>, &EventId)],
        at: i64,
    ) -> Result<(), RoomError> {
        let mut placed = Vec::with_capacity(receipts.len());
        for &(kind, thread, event_id) in receipts {
            let place = self.find_event(event_id.as_str())?.filter(|place| place.room == room);
            let seq = place.ok_or(RoomError::EventNotFound)?.seq;
            placed.push((kind, thread, event_id.as_str(), seq));
        }
        self.put_receipts(room, user, &placed, at).await
    }

    /// Keeps a public receipt of a user of another server for an event that is not here, as may be while a room is
    /// partial: any event that is known counts as a later one. Nothing is kept for an id of more than 255 bytes.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn note_receipt(
        &self,
        room: RoomNid,
        user: UserNid,
        thread: Option<&str>,
        event_id: &str,
        at: i64,
    ) -> Result<(), RoomError> {
        if event_id.len() > MAX_EVENT_ID {
            return Ok(());
        }
        self.put_receipts(room, user, &[(ReceiptKind::Read, thread, event_id, UNKNOWN)], at).await
    }

    async fn put_receipts(
        &self,
        room: RoomNid,
        user: UserNid,
        receipts: &[(ReceiptKind, Option<&str>, &str, RoomSeq)],
        at: i64,
    ) -> Result<(), RoomError> {
        let mut batch = Batch::new();
        for &(kind, thread, event_id, seq) in receipts {
            let key = (room, user, kind.code(), thread.unwrap_or_default().to_owned());
            let old = self.store.get(&RECEIPTS, &key)?;
            let is_newer = |old: &ReceiptRow| seq > old.seq || (seq, old.seq) == (UNKNOWN, UNKNOWN);
            if old.as_ref().is_some_and(|old| !is_newer(&old.value)) {
                continue;
            }
            if let Some(old) = &old {
                batch.expect_equals(&RECEIPTS, &key, old);
                batch.delete(&RECEIPT_LOG, &(room, old.pos, user, kind.code(), key.3.clone()));
            } else {
                batch.expect_absent(&RECEIPTS, &key);
            }
            let row = ReceiptRow { event_id: event_id.into(), seq, at };
            batch.put(&RECEIPT_LOG, &(room, StreamPos::PENDING, user, kind.code(), key.3.clone()), &());
            batch.put(&RECEIPTS, &key, &Stamped::pending(row));
            // A private receipt is news for its owner only; both change the owner's counts.
            batch.touch(Topic::new(TOPIC_EPHEMERAL, room.0)).touch(Topic::new(TOPIC_USER, user.0));
        }
        if batch.is_empty() {
            return Ok(());
        }
        match self.store.commit(batch).await {
            // Another device's receipt came first; the next one will be newer than both.
            Ok(_) | Err(storage::CommitError::Expectation { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A user's own receipts in a room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn user_receipts(&self, room: RoomNid, user: UserNid) -> Result<Vec<Receipt>, RoomError> {
        let mut receipts = Vec::new();
        for row in self.store.scan(&RECEIPTS, &(room, user)).iter() {
            let ((_, _, kind, thread), row) = row?;
            receipts.push(receipt(user, kind, thread, row.value));
        }
        Ok(receipts)
    }

    /// The receipts of a room that changed after `since` and up to `until`, those private to others left out.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn receipts_since(
        &self,
        room: RoomNid,
        viewer: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<Receipt>, RoomError> {
        self.scan_receipts(room, since, until, |kind, user| kind == ReceiptKind::Read || user == viewer)
    }

    /// As [`Rooms::receipts_since`], with everybody's private ones: who may hear of these is the caller's to decide.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn all_receipts_since(
        &self,
        room: RoomNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<Receipt>, RoomError> {
        self.scan_receipts(room, since, until, |_, _| true)
    }

    fn scan_receipts(
        &self,
        room: RoomNid,
        since: StreamPos,
        until: StreamPos,
        is_shown: impl Fn(ReceiptKind, UserNid) -> bool,
    ) -> Result<Vec<Receipt>, RoomError> {
        let mut receipts = Vec::new();
        let from = (room, StreamPos(since.0.saturating_add(1)));
        for key in self.store.scan(&RECEIPT_LOG, &room).from_prefix(&from).keys() {
            let (_, pos, user, kind, thread) = key?;
            if pos > until {
                break;
            }
            if !is_shown(ReceiptKind::from_code(kind), user) {
                continue;
            }
            if let Some(row) = self.store.get(&RECEIPTS, &(room, user, kind, thread.clone()))? {
                receipts.push(receipt(user, kind, thread, row.value));
            }
        }
        Ok(receipts)
    }
}

fn receipt(user: UserNid, kind: u8, thread: String, row: ReceiptRow) -> Receipt {
    let thread = Some(thread).filter(|thread| !thread.is_empty()).map(Into::into);
    Receipt { user, kind: ReceiptKind::from_code(kind), thread, event_id: row.event_id, seq: row.seq, at: row.at }
}

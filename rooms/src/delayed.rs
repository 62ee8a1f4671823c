//! Delayed events: what a client asks to be sent later, unless it says otherwise in time (MSC4140).
//!
//! A row holds the event and what became of it. Beside it stand three indexes: by the time at which something has to
//! be done with the row (send it; forget it once it has ended), by owner, and by the state that it would set. An event
//! is sent, and its row ended, in one commit of the room's writer, so that no restart sends it twice. A room's writer
//! also ends the rows that another user's state event overtakes. It does not wait for those who change a row at the
//! same moment, so an index may name a row that has moved on: readers compare, and skip it.

mod aside;
mod fire;
mod update;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spec::pdu::PduError;
use storage::{Batch, CommitError, Read, Stamped, StreamPos};

use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::keyspaces::{
    DELAYED, DELAYED_DUE, DELAYED_OF_STATE, DELAYED_OF_USER, ROOM_MEMBERS, TRANSACTIONS, TRANSACTIONS_BY_TIME,
    TransactionRow,
};
use crate::membership::Membership;
use crate::rooms::Rooms;
use crate::sticky::DELAYED_STICKY;

/// How long it can be asked what became of a delayed event.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Of how many ended delayed events of a user that can be asked.
const MAX_ENDED: usize = 100;
/// How many events may be scheduled for one state of a room: one state event may have to cancel them all.
const MAX_OF_STATE: usize = 256;
/// Of the most bytes that type, state key and content may have together: no larger event could be sent.
const MAX_EVENT_BYTES: usize = 65_536;
/// The longest type or state key, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The length of an id: whoever knows it may cancel, restart and send, so it cannot be guessed.
const ID_LETTERS: usize = 32;

runtime::config_section! {
    /// Events that clients schedule to be sent later (MSC4140). Calls need them: so a participant
    /// whose client dies leaves the call.
    pub struct DelayedEventsConfig {
        /// The longest delay; `"0s"` switches delayed events off.
        pub max_delay: runtime::config::Span = runtime::config::Span::seconds(86_400);
        /// How many events a user may have scheduled at a time.
        pub max_scheduled: usize = 100;
    }
}

/// A delayed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedEvent {
    /// Its id. Whoever knows it may cancel, restart and send.
    pub id: String,
    /// Who sends it.
    pub owner: UserNid,
    /// The room.
    pub room: RoomNid,
    /// The event type.
    pub kind: Box<str>,
    /// Present for state events.
    pub state_key: Option<Box<str>>,
    /// The content, as JSON.
    pub content: Box<str>,
    /// After how many milliseconds it is sent.
    pub delay_ms: u64,
    /// Since when that time runs, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What became of it, once it is not scheduled any more.
    pub outcome: Option<DelayedOutcome>,
}

/// What became of a delayed event. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DelayedOutcome {
    /// It was sent.
    Sent {
        /// When.
        at_ms: u64,
        /// As which event.
        event_id: Box<str>,
    },
    /// A client, or the state event of somebody else, cancelled it.
    Cancelled {
        /// When.
        at_ms: u64,
    },
    /// When its time had come it could not be sent.
    Failed {
        /// When.
        at_ms: u64,
        /// Whether the room, or this server, does not allow it; otherwise something that it needs is missing or broken.
        forbidden: bool,
        /// Why, in words.
        reason: Box<str>,
    },
}

impl DelayedOutcome {
    /// When it was decided, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            DelayedOutcome::Sent { at_ms, .. }
            | DelayedOutcome::Cancelled { at_ms }
            | DelayedOutcome::Failed { at_ms, .. } => *at_ms,
        }
    }
}

/// What a client wants to be sent later.
#[derive(Clone, Debug)]
pub struct NewDelayedEvent {
    /// The event type.
    pub kind: Box<str>,
    /// Present for state events.
    pub state_key: Option<Box<str>>,
    /// The content.
    pub content: Map<String, Value>,
    /// After how many milliseconds it is to be sent.
    pub delay_ms: u64,
    /// For how many milliseconds it is to be sticky from then on (MSC4354).
    pub sticky_ms: Option<u64>,
}

/// Why a delayed event could not be scheduled or changed.
#[derive(Debug, thiserror::Error)]
pub enum DelayError {
    /// The delay exceeds the longest (client).
    #[error("the delay may be at most {max_ms} ms")]
    TooLong {
        /// The longest, in milliseconds.
        max_ms: u64,
    },
    /// The user has as many scheduled as they may (client).
    #[error("too many delayed events are scheduled")]
    TooMany {
        /// After how many milliseconds the first of them is sent.
        retry_after_ms: u64,
    },
    /// This server does not delay events (client: nobody's fault).
    #[error("this server does not delay events")]
    Off,
    /// Nobody scheduled such an event, or it ended long ago (client).
    #[error("there is no such delayed event")]
    NotFound,
    /// It has been sent or cancelled (client).
    #[error("the delayed event has been sent or cancelled")]
    Ended,
    /// The room refused, or reading or writing failed.
    #[error(transparent)]
    Room(#[from] RoomError),
}

impl From<storage::StorageError> for DelayError {
    fn from(error: storage::StorageError) -> Self {
        DelayError::Room(error.into())
    }
}

impl From<CommitError> for DelayError {
    fn from(error: CommitError) -> Self {
        DelayError::Room(error.into())
    }
}

/// See [`DelayedEvent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DelayedRow {
    pub owner: UserNid,
    pub room: RoomNid,
    pub kind: Box<str>,
    pub state_key: Option<Box<str>>,
    pub content: Box<str>,
    pub delay_ms: u64,
    pub since_ms: u64,
    /// When something has to be done with the row.
    pub due_ms: u64,
    pub outcome: Option<DelayedOutcome>,
}
storage::stored!(DelayedRow, 1);

impl DelayedRow {
    fn view(self, id: String) -> DelayedEvent {
        let DelayedRow { owner, room, kind, state_key, content, delay_ms, since_ms, due_ms: _, outcome } = self;
        DelayedEvent { id, owner, room, kind, state_key, content, delay_ms, since_ms, outcome }
    }

    /// Where the row stands among those of its owner.
    fn order_ms(&self) -> u64 {
        self.outcome.as_ref().map_or(self.due_ms, DelayedOutcome::at_ms)
    }
}

/// What the sending of delayed events has in memory.
#[derive(Default)]
pub(crate) struct Delays {
    /// Wakes the task that sends them when the next one may be due earlier.
    wake: tokio::sync::Notify,
    /// Those that are with the policy servers of their rooms.
    aside: aside::Aside,
}

/// Replaces a row, or writes the first one, and keeps its indexes.
fn put_row(batch: &mut Batch, id: &str, old: Option<&Stamped<DelayedRow>>, new: DelayedRow) {
    if let Some(old) = old {
        delete_indexes(batch, id, old);
    }
    batch.put(&DELAYED_DUE, &(new.due_ms, StreamPos::PENDING, id.to_owned()), &());
    batch.put(&DELAYED_OF_USER, &(new.owner, new.outcome.is_some(), new.order_ms(), id.to_owned()), &());
    if let (Some(state_key), None) = (&new.state_key, &new.outcome) {
        batch.put(&DELAYED_OF_STATE, &(new.room, new.kind.to_string(), state_key.to_string(), id.to_owned()), &());
    }
    batch.put(&DELAYED, &id.to_owned(), &Stamped::pending(new));
}

fn delete_row(batch: &mut Batch, id: &str, old: &Stamped<DelayedRow>) {
    delete_indexes(batch, id, old);
    batch.delete(&DELAYED, &id.to_owned()).delete(&DELAYED_STICKY, &id.to_owned());
}

fn delete_indexes(batch: &mut Batch, id: &str, old: &Stamped<DelayedRow>) {
    let row = &old.value;
    batch.delete(&DELAYED_DUE, &(row.due_ms, old.pos, id.to_owned()));
    batch.delete(&DELAYED_OF_USER, &(row.owner, row.outcome.is_some(), row.order_ms(), id.to_owned()));
    if let Some(state_key) = &row.state_key {
        batch.delete(&DELAYED_OF_STATE, &(row.room, row.kind.to_string(), state_key.to_string(), id.to_owned()));
    }
}

impl Rooms {
    /// The settings of delayed events.
    #[must_use]
    pub fn delay_limits(&self) -> &DelayedEventsConfig {
        &self.config.delayed_events
    }

    /// The longest delay in milliseconds; 0 where this server does not delay events.
    #[must_use]
    pub fn max_delay_ms(&self) -> u64 {
        u64::try_from(self.config.delayed_events.max_delay.duration().as_millis()).unwrap_or(u64::MAX)
    }

    /// Schedules an event and returns its id. With a transaction that was used before, returns what it made then.
    /// Whether the sender may send it is looked at when it is sent; only who is in the room may schedule. Cancel-safe:
    /// once submitted it is scheduled.
    ///
    /// # Errors
    /// [`DelayError::Off`], [`DelayError::TooLong`], [`DelayError::TooMany`]; [`RoomError::NotInRoom`],
    /// [`RoomError::BadEvent`] for what is too large to be sent.
    pub async fn delay_event(
        &self,
        room: RoomNid,
        owner: UserNid,
        event: NewDelayedEvent,
        transaction: Option<Transaction>,
    ) -> Result<String, DelayError> {
        let transaction = transaction.map(|transaction| (owner, transaction.device.to_string(), transaction.key()));
        if let Some(made) = self.find_delayed_transaction(transaction.as_ref())? {
            return Ok(made);
        }
        let max_ms = self.max_delay_ms();
        if max_ms == 0 {
            return Err(DelayError::Off);
        }
        if event.delay_ms > max_ms {
            return Err(DelayError::TooLong { max_ms });
        }
        let is_joined = |row: crate::keyspaces::MembershipRow| row.membership == Membership::Join;
        if !self.store.get(&ROOM_MEMBERS, &(room, owner))?.is_some_and(is_joined) {
            return Err(RoomError::NotInRoom.into());
        }
        let now = self.clock.now_ms();
        let sticky_ms = event.sticky_ms;
        let row = new_row(room, owner, event, now)?;
        self.expect_place(&row, now)?;
        let id = self.random.token(ID_LETTERS);
        let mut batch = Batch::new();
        batch.expect_absent(&DELAYED, &id);
        put_row(&mut batch, &id, None, row);
        if let Some(sticky_ms) = sticky_ms {
            batch.put(&DELAYED_STICKY, &id, &sticky_ms);
        }
        if let Some((user, device, key)) = &transaction {
            let at = now as i64;
            batch.expect_absent(&TRANSACTIONS, &(*user, device.clone(), key.clone()));
            let made = TransactionRow { event_id: id.as_str().into(), at };
            batch.put(&TRANSACTIONS, &(*user, device.clone(), key.clone()), &made);
            batch.put(&TRANSACTIONS_BY_TIME, &(at, *user, device.clone(), key.clone()), &());
        }
        match self.store.commit(batch).await {
            Ok(_) => {
                self.delays.wake.notify_one();
                Ok(id)
            }
            // The same request was faster.
            Err(CommitError::Expectation { .. }) => {
                self.find_delayed_transaction(transaction.as_ref())?.ok_or(DelayError::Room(RoomError::Busy))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether one more event may be scheduled. Who schedules two at the same moment may have one more than they may:
    /// that harms nobody.
    fn expect_place(&self, row: &DelayedRow, now: u64) -> Result<(), DelayError> {
        let keys = self.store.scan(&DELAYED_OF_USER, &(row.owner, false)).keys();
        let due: Vec<u64> = keys.map(|key| key.map(|(_, _, due_ms, _)| due_ms)).collect::<Result<_, _>>()?;
        if due.len() >= self.config.delayed_events.max_scheduled {
            let first = due.first().copied().unwrap_or(now);
            return Err(DelayError::TooMany { retry_after_ms: first.saturating_sub(now).max(1) });
        }
        let Some(state_key) = &row.state_key else { return Ok(()) };
        let state = (row.room, row.kind.to_string(), state_key.to_string());
        if self.store.scan(&DELAYED_OF_STATE, &state).keys().take(MAX_OF_STATE).count() >= MAX_OF_STATE {
            return Err(DelayError::TooMany { retry_after_ms: row.delay_ms.max(1) });
        }
        Ok(())
    }

    fn find_delayed_transaction(&self, key: Option<&(UserNid, String, String)>) -> Result<Option<String>, DelayError> {
        let Some(key) = key else { return Ok(None) };
        Ok(self.store.get(&TRANSACTIONS, key)?.map(|row| row.event_id.into()))
    }

    /// A delayed event, also one that has ended lately. Whoever is told of it must own it.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn delayed_event(&self, id: &str) -> Result<Option<DelayedEvent>, RoomError> {
        Ok(self.delayed_row(id)?.map(|row| row.value.view(id.to_owned())))
    }

    /// The scheduled events of a user, the next one first.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn delayed_events(&self, owner: UserNid) -> Result<Vec<DelayedEvent>, RoomError> {
        let mut events = Vec::new();
        for key in self.store.scan(&DELAYED_OF_USER, &(owner, false)).keys() {
            let (_, _, due_ms, id) = key?;
            let Some(row) = self.delayed_row(&id)? else { continue };
            if row.value.outcome.is_none() && row.value.due_ms == due_ms {
                events.push(row.value.view(id));
            }
        }
        Ok(events)
    }

    fn delayed_row(&self, id: &str) -> Result<Option<Stamped<DelayedRow>>, RoomError> {
        if id.len() != ID_LETTERS {
            return Ok(None);
        }
        Ok(self.store.get(&DELAYED, &id.to_owned())?)
    }
}

fn new_row(room: RoomNid, owner: UserNid, event: NewDelayedEvent, now: u64) -> Result<DelayedRow, RoomError> {
    let NewDelayedEvent { kind, state_key, content, delay_ms, sticky_ms: _ } = event;
    let mut bytes = Vec::new();
    spec::canonical::write_into(&mut bytes, &content);
    let content = String::from_utf8(bytes).map_err(|_| RoomError::Inconsistent("content that is not UTF-8"))?;
    let key_bytes = state_key.as_deref().map_or(0, str::len);
    for (name, length) in [("type", kind.len()), ("state_key", key_bytes)] {
        if length > MAX_NAME_BYTES {
            return Err(RoomError::BadEvent(PduError::FieldTooLong(name)));
        }
    }
    if kind.len() + key_bytes + content.len() > MAX_EVENT_BYTES {
        return Err(RoomError::BadEvent(PduError::TooLarge));
    }
    let due_ms = now.saturating_add(delay_ms);
    Ok(DelayedRow {
        owner,
        room,
        kind,
        state_key,
        content: content.into(),
        delay_ms,
        since_ms: now,
        due_ms,
        outcome: None,
    })
}

/// The event that a row becomes.
fn draft_of(rooms: &Rooms, id: &str, row: &DelayedRow) -> Result<Draft, RoomError> {
    let sender = rooms.user_id(row.owner)?;
    let content: Map<String, Value> = serde_json::from_str(&row.content)
        .map_err(|_| RoomError::Inconsistent("the content of a delayed event does not parse"))?;
    let mut draft = Draft::message(sender, &row.kind, content);
    if &*row.kind == "m.room.redaction" {
        let redacts = draft.content.get("redacts").and_then(Value::as_str);
        let redacts = redacts.and_then(|id| spec::ids::EventId::parse(id).ok());
        draft.redacts = Some(redacts.ok_or(RoomError::Invalid("a redaction needs the event id in redacts"))?);
    }
    Ok(Draft {
        state_key: row.state_key.clone(),
        skip_if_unchanged: row.state_key.is_some(),
        delay_id: Some(id.into()),
        sticky_ms: rooms.store.get(&DELAYED_STICKY, &id.to_owned())?,
        ..draft
    })
}

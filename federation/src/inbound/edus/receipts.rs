//! Receipts of users of other servers. Often a receipt comes before the event that it is about: the event may be in the
//! same transaction and still be checked, or on its way from another server. Such receipts are kept for a while and
//! tried again after each round of work on the room.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use rooms::{ReceiptKind, RoomError, RoomNid, UserNid};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId, ServerName, UserId};

use super::{EduError, read_value};
use crate::Federation;
use crate::inbound::work::RoomPlace;

/// The most rooms of one EDU.
const MAX_ROOMS: usize = 200;
/// The most receipts of one EDU.
const MAX_RECEIPTS: usize = 1000;
/// How many receipts are written at a time.
const WRITTEN_TOGETHER: usize = 16;
/// How many receipts of one room are kept for later.
const MAX_PARKED_IN_ROOM: usize = 100;
/// In how many rooms receipts are kept for later.
const MAX_PARKED_ROOMS: usize = 1000;
/// How long they are kept.
const PARKED_TIME: Duration = Duration::from_secs(300);

/// How far ahead the clock of another server may be.
const CLOCK_SKEW_MS: u64 = 60_000;
/// The longest id of an event.
const MAX_ID_BYTES: usize = 255;

#[derive(Deserialize)]
struct UserReceipt {
    event_ids: Vec<String>,
    #[serde(default)]
    data: ReceiptData,
}

#[derive(Default, Deserialize)]
struct ReceiptData {
    #[serde(default)]
    thread_id: Option<String>,
    #[serde(default)]
    ts: Option<i64>,
}

/// A receipt of a joined user of the server that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Receipt {
    user: UserNid,
    thread: Option<String>,
    /// What it is for: an event of which nothing may be known here, and in a partial room any text.
    event_id: String,
    /// When it was sent, in milliseconds, as the other server says.
    at: i64,
}

/// Receipts for events that are not here yet, with the time until which they are kept.
#[derive(Debug, Default)]
pub(in crate::inbound) struct ParkedReceipts(Mutex<HashMap<RoomNid, VecDeque<(Duration, Receipt)>>>);

impl ParkedReceipts {
    /// Keeps a receipt; the oldest ones of the room, and those whose time is over, make room for it.
    fn park(&self, room: RoomNid, receipt: Receipt, now: Duration) {
        let mut rooms = self.0.lock();
        if rooms.len() >= MAX_PARKED_ROOMS && !rooms.contains_key(&room) {
            rooms.retain(|_, parked| parked.back().is_some_and(|(until, _)| *until > now));
            if rooms.len() >= MAX_PARKED_ROOMS {
                return;
            }
        }
        let parked = rooms.entry(room).or_default();
        parked.retain(|(until, other)| *until > now && (other.user, &other.thread) != (receipt.user, &receipt.thread));
        if parked.len() >= MAX_PARKED_IN_ROOM {
            parked.pop_front();
        }
        parked.push_back((now.saturating_add(PARKED_TIME), receipt));
    }

    #[cfg(test)]
    pub fn park_for_test(&self, room: RoomNid, user: UserNid, event_id: &str, now: Duration) {
        self.park(room, Receipt { user, thread: None, event_id: event_id.to_owned(), at: 0 }, now);
    }

    #[cfg(test)]
    pub fn take_for_test(&self, room: RoomNid, now: Duration) -> usize {
        self.take(room, now).len()
    }

    fn take(&self, room: RoomNid, now: Duration) -> Vec<Receipt> {
        let parked = self.0.lock().remove(&room).unwrap_or_default();
        parked.into_iter().filter(|(until, _)| *until > now).map(|(_, receipt)| receipt).collect()
    }
}

impl Federation {
    /// Applies an `m.receipt` EDU: room → `m.read` → user → event. Whatever of it is wrong is left out.
    pub(super) async fn apply_receipts(
        &self,
        origin: &ServerName,
        content: Map<String, Value>,
    ) -> Result<(), EduError> {
        let mut receipts = Vec::new();
        for (room_id, kinds) in content.into_iter().take(MAX_ROOMS) {
            let Ok(room_id) = RoomId::parse(&room_id) else { continue };
            let room = match self.find_edu_room(origin, &room_id) {
                Ok(room) => room,
                Err(error) if error.is_ours() => return Err(error),
                Err(error) => {
                    tracing::debug!(%origin, %room_id, %error, "receipts were not applied");
                    continue;
                }
            };
            let Value::Object(mut kinds) = kinds else { continue };
            let Some(Value::Object(users)) = kinds.remove("m.read") else { continue };
            for (user, receipt) in users {
                if receipts.len() >= MAX_RECEIPTS {
                    break;
                }
                match self.read_receipt(origin, room, &user, receipt).await {
                    Ok(receipt) => receipts.push((room, receipt)),
                    Err(error) if error.is_ours() => return Err(error),
                    Err(error) => tracing::debug!(%origin, %room_id, %error, "a receipt was not applied"),
                }
            }
        }
        // Each is a commit of its own; written together they share the disk's time.
        let writes: Vec<_> = receipts.into_iter().map(|(room, receipt)| self.apply_receipt(room, receipt)).collect();
        let mut written = futures_util::stream::iter(writes).buffer_unordered(WRITTEN_TOGETHER);
        while let Some(outcome) = written.next().await {
            outcome?;
        }
        Ok(())
    }

    async fn read_receipt(
        &self,
        origin: &ServerName,
        room: RoomNid,
        user: &str,
        receipt: Value,
    ) -> Result<Receipt, EduError> {
        let user = UserId::parse(user).map_err(|_| EduError::Refused("the user id is malformed"))?;
        let user = self.find_member(origin, room, &user).await?;
        let receipt: UserReceipt = read_value(receipt)?;
        let thread = receipt.data.thread_id;
        if thread.as_deref().is_some_and(|thread| thread != "main" && EventId::parse(thread).is_err()) {
            return Err(EduError::Refused("the thread id is malformed"));
        }
        let event_id = receipt.event_ids.into_iter().next().ok_or(EduError::Refused("the receipt names no event"))?;
        if event_id.len() > MAX_ID_BYTES {
            return Err(EduError::Refused("the event id is too long"));
        }
        let now = self.clock.now_ms();
        let latest = i64::try_from(now.saturating_add(CLOCK_SKEW_MS)).unwrap_or(i64::MAX);
        let at = receipt.data.ts.unwrap_or_else(|| i64::try_from(now).unwrap_or(i64::MAX)).clamp(0, latest);
        Ok(Receipt { user, thread, event_id, at })
    }

    async fn apply_receipt(&self, room: RoomNid, receipt: Receipt) -> Result<(), EduError> {
        // A row is kept for each thread: threads that are none would fill the store.
        let root = receipt.thread.as_deref().filter(|thread| *thread != "main");
        if let Some(root) = root.and_then(|thread| EventId::parse(thread).ok())
            && self.rooms.room_of_event(&root)? != Some(room)
        {
            self.inbound.parked.park(room, receipt, self.clock.monotonic());
            return Ok(());
        }
        let thread = receipt.thread.as_deref();
        let outcome = match EventId::parse(&receipt.event_id) {
            Ok(event_id) => {
                let target = (ReceiptKind::Read, thread, &event_id);
                self.rooms.set_receipts_at(room, receipt.user, &[target], receipt.at).await
            }
            Err(_) => Err(RoomError::EventNotFound),
        };
        match outcome {
            // Of history that will be here only once the room's state is; told as it is until then.
            Err(RoomError::EventNotFound) if self.rooms.head(room)?.is_partial() => {
                Ok(self.rooms.note_receipt(room, receipt.user, thread, &receipt.event_id, receipt.at).await?)
            }
            Err(RoomError::EventNotFound) if EventId::parse(&receipt.event_id).is_ok() => {
                self.inbound.parked.park(room, receipt, self.clock.monotonic());
                Ok(())
            }
            Err(error) if super::is_ours(&error) => Err(error.into()),
            // Not for an event that is not in the timeline, say: nobody's loss.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Tries again the receipts of a room whose events were not here.
    pub(in crate::inbound) async fn apply_parked_receipts(&self, place: &RoomPlace) {
        for receipt in self.inbound.parked.take(place.room, self.clock.monotonic()) {
            if let Err(error) = self.apply_receipt(place.room, receipt).await {
                tracing::debug!(room_id = %place.room_id, %error, "a receipt was lost");
            }
        }
    }
}

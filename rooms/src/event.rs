//! An event as it is stored: a fixed header that answers what filters ask, then the event's JSON.

use std::ops::Range;
use std::sync::Arc;

use spec::ids::{EventId, UserId};
use spec::pdu::{Pdu, PduError};
use storage::{Corrupt, StreamPos, Value, ValueBuf};

use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};

const VERSION: u8 = 1;
const FIXED: usize = 80;

/// What is known of an event besides its JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFlags(u8);

impl EventFlags {
    /// Failed authorisation; never shown to clients, never part of state.
    pub const REJECTED: EventFlags = EventFlags(1);
    /// Passed at its place in the DAG but not against current state; not shown to clients.
    pub const SOFT_FAILED: EventFlags = EventFlags(2);
    /// Its content was redacted.
    pub const REDACTED: EventFlags = EventFlags(4);
    /// Not part of the timeline.
    pub const OUTLIER: EventFlags = EventFlags(8);
    /// Some event relates to it: there are rows in the relations keyspace.
    pub const HAS_RELATIONS: EventFlags = EventFlags(16);
    /// This server took it in for its sender's server, and passes it on to the others in the room.
    pub const RELAY: EventFlags = EventFlags(32);
    /// It asked to be sticky (MSC4354).
    pub const STICKY: EventFlags = EventFlags(64);
    /// An event of ours that another server took in, and passes on to the others in the room.
    pub const TOLD: EventFlags = EventFlags(128);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn has(self, other: EventFlags) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: EventFlags) -> EventFlags {
        EventFlags(self.0 | other.0)
    }

    pub(crate) fn without(self, other: EventFlags) -> EventFlags {
        EventFlags(self.0 & !other.0)
    }

    /// Whether clients may see the event at all.
    #[must_use]
    pub fn is_visible(self) -> bool {
        self.0 & (Self::REJECTED.0 | Self::SOFT_FAILED.0 | Self::OUTLIER.0) == 0
    }
}

/// What the writer knows of an event when it stores it.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub flags: EventFlags,
    pub sender: UserNid,
    /// State before the event.
    pub before: SnapshotId,
    /// State after the event: the same unless it is a state event.
    pub after: SnapshotId,
    /// When it was first stored, as an outlier or else: more than all of its auth events.
    pub arrival: u64,
    /// The state event that this one replaces.
    pub replaces: Option<RoomSeq>,
    pub redacted_by: Option<RoomSeq>,
    /// The sending device and its transaction id, for `unsigned.transaction_id`; or [`DELAYED_MARK`] and the id of the
    /// delayed event that it was.
    pub transaction: Option<(Box<str>, Box<str>)>,
    pub pdu: Arc<Pdu>,
}

/// Stands for the device of an event that was delayed: no device has such an id.
pub(crate) const DELAYED_MARK: &str = "\u{1f}delayed";

/// A stored event. One allocation; every text is a slice of it.
#[derive(Clone, Debug)]
pub struct Event {
    room: RoomNid,
    seq: RoomSeq,
    pos: StreamPos,
    bytes: Arc<[u8]>,
}

/// The variable parts, in the order in which they follow the header.
#[derive(Clone, Copy)]
enum Part {
    Id,
    Kind,
    Sender,
    StateKey,
    Device,
    Txn,
    Json,
}

const PARTS: usize = 6;
const LENGTHS: usize = FIXED;
const TEXT: usize = LENGTHS + PARTS * 2;
const ABSENT: u16 = u16::MAX;

impl Value for EventRow {
    fn encode(&self, out: &mut ValueBuf) {
        let pdu = &self.pdu;
        let content = find_content(pdu);
        let mut head = [0u8; FIXED];
        head[0] = VERSION;
        head[1] = self.flags.0;
        head[8..16].copy_from_slice(&self.sender.0.to_le_bytes());
        head[16..24].copy_from_slice(&self.before.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.replaces.map_or(0, |seq| seq.0).to_le_bytes());
        head[32..40].copy_from_slice(&self.redacted_by.map_or(0, |seq| seq.0).to_le_bytes());
        head[40..48].copy_from_slice(&bounded_depth(pdu).to_le_bytes());
        head[48..56].copy_from_slice(&pdu.origin_server_ts.to_le_bytes());
        head[56..60].copy_from_slice(&(content.start as u32).to_le_bytes());
        head[60..64].copy_from_slice(&(content.end as u32).to_le_bytes());
        head[64..72].copy_from_slice(&self.after.0.to_le_bytes());
        head[72..80].copy_from_slice(&self.arrival.to_le_bytes());
        out.push(&head);
        let (device, txn) = match &self.transaction {
            Some((device, txn)) => (Some(&**device), Some(&**txn)),
            None => (None, None),
        };
        let parts = [
            Some(pdu.event_id.as_str()),
            Some(&*pdu.kind),
            Some(pdu.sender.as_str()),
            pdu.state_key.as_deref(),
            device,
            txn,
        ];
        for part in parts {
            out.push(&part.map_or(ABSENT, |text| text.len() as u16).to_le_bytes());
        }
        for part in parts.into_iter().flatten() {
            out.push(part.as_bytes());
        }
        out.push(&pdu.json);
    }

    fn decode(_bytes: &[u8]) -> Result<Self, Corrupt> {
        Err(Corrupt("event rows are read as events"))
    }
}

/// The depth by which an event is ordered. Old room versions allow more than what an event of ours can claim: nothing
/// is to be put behind all that follows it.
pub(crate) fn bounded_depth(pdu: &Pdu) -> i64 {
    pdu.depth.min(spec::canonical::MAX_INTEGER)
}

/// Where the value of the top-level `content` stands in the event's JSON.
fn find_content(pdu: &Pdu) -> Range<usize> {
    // The content was parsed out of this JSON, and canonical JSON sorts `auth_events` before it:
    // the key at the top level is found by its depth.
    let content = pdu.content.get().as_bytes();
    let (mut depth, mut at, json) = (0u32, 0usize, &pdu.json[..]);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at;
                at += 1;
                while let Some(&inner) = json.get(at) {
                    match inner {
                        b'\\' => at += 1,
                        b'"' => break,
                        _ => {}
                    }
                    at += 1;
                }
                if depth == 1 && json.get(start..at) == Some(b"\"content") && json.get(at + 1) == Some(&b':') {
                    let begin = at + 2;
                    return begin..begin + content.len();
                }
            }
            _ => {}
        }
        at += 1;
    }
    0..0
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    // Lengths are checked once, when the row is read.
    bytes.get(at..at + N).and_then(|raw| raw.try_into().ok()).unwrap_or([0; N])
}

impl Event {
    /// Reads a stored row (position, then [`EventRow`]).
    pub(crate) fn from_stored(room: RoomNid, seq: RoomSeq, stored: &[u8]) -> Result<Event, Corrupt> {
        let (pos, row) = stored.split_first_chunk().ok_or(Corrupt("event row too short"))?;
        let event = Event { room, seq, pos: StreamPos(u64::from_be_bytes(*pos)), bytes: row.into() };
        if row.len() < TEXT || row.first() != Some(&VERSION) {
            return Err(Corrupt("event row of an unknown version"));
        }
        let json = event.range(Part::Json);
        let (start, end) = event.content_range();
        if json.start > row.len()
            || start > end
            || json.start + end > row.len()
            || std::str::from_utf8(&row[TEXT..]).is_err()
        {
            return Err(Corrupt("event row cut off"));
        }
        Ok(event)
    }

    fn length(&self, part: usize) -> Option<usize> {
        match u16::from_le_bytes(number(&self.bytes, LENGTHS + part * 2)) {
            ABSENT => None,
            length => Some(usize::from(length)),
        }
    }

    fn range(&self, part: Part) -> Range<usize> {
        let part = part as usize;
        let start = TEXT + (0..part).map(|earlier| self.length(earlier).unwrap_or(0)).sum::<usize>();
        match part {
            PARTS => start..self.bytes.len(),
            _ => start..start + self.length(part).unwrap_or(0),
        }
    }

    fn text(&self, part: Part) -> &str {
        self.bytes.get(self.range(part)).and_then(|raw| std::str::from_utf8(raw).ok()).unwrap_or_default()
    }

    fn optional(&self, part: Part) -> Option<&str> {
        self.length(part as usize).map(|_| self.text(part))
    }

    fn content_range(&self) -> (usize, usize) {
        (u32::from_le_bytes(number(&self.bytes, 56)) as usize, u32::from_le_bytes(number(&self.bytes, 60)) as usize)
    }

    /// The room it is in.
    #[must_use]
    pub fn room(&self) -> RoomNid {
        self.room
    }

    /// Its number in the room.
    #[must_use]
    pub fn seq(&self) -> RoomSeq {
        self.seq
    }

    /// The position of the commit that brought it.
    #[must_use]
    pub fn pos(&self) -> StreamPos {
        self.pos
    }

    /// What is known of it.
    #[must_use]
    pub fn flags(&self) -> EventFlags {
        EventFlags(self.bytes.get(1).copied().unwrap_or(0))
    }

    /// The sender's number.
    #[must_use]
    pub fn sender_nid(&self) -> UserNid {
        UserNid(u64::from_le_bytes(number(&self.bytes, 8)))
    }

    /// The room's state before the event.
    #[must_use]
    pub fn state_before(&self) -> SnapshotId {
        SnapshotId(u64::from_le_bytes(number(&self.bytes, 16)))
    }

    /// The room's state after the event.
    #[must_use]
    pub fn state_after(&self) -> SnapshotId {
        SnapshotId(u64::from_le_bytes(number(&self.bytes, 64)))
    }

    /// When it was first stored, as an outlier or else, counted in events of the room: later than all of its auth
    /// events.
    pub(crate) fn arrival(&self) -> u64 {
        u64::from_le_bytes(number(&self.bytes, 72))
    }

    /// The state event that this one replaced.
    #[must_use]
    pub fn replaces(&self) -> Option<RoomSeq> {
        Some(RoomSeq(i64::from_le_bytes(number(&self.bytes, 24)))).filter(|seq| seq.0 != 0)
    }

    /// The redaction that emptied it.
    #[must_use]
    pub fn redacted_by(&self) -> Option<RoomSeq> {
        Some(RoomSeq(i64::from_le_bytes(number(&self.bytes, 32)))).filter(|seq| seq.0 != 0)
    }

    /// Its depth in the DAG.
    #[must_use]
    pub fn depth(&self) -> i64 {
        i64::from_le_bytes(number(&self.bytes, 40))
    }

    /// `origin_server_ts`, in milliseconds.
    #[must_use]
    pub fn origin_server_ts(&self) -> i64 {
        i64::from_le_bytes(number(&self.bytes, 48))
    }

    /// The event id.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.text(Part::Id)
    }

    /// The event type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text(Part::Kind)
    }

    /// The sender's user id.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.text(Part::Sender)
    }

    /// The state key of a state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.optional(Part::StateKey)
    }

    /// The device that sent it through this server with this transaction id.
    #[must_use]
    pub fn transaction(&self) -> Option<(&str, &str)> {
        self.mark().filter(|(device, _)| *device != DELAYED_MARK)
    }

    /// The id of the delayed event that it was.
    #[must_use]
    pub fn delay_id(&self) -> Option<&str> {
        self.mark().filter(|(device, _)| *device == DELAYED_MARK).map(|(_, id)| id)
    }

    fn mark(&self) -> Option<(&str, &str)> {
        Some((self.optional(Part::Device)?, self.optional(Part::Txn)?))
    }

    /// The PDU in canonical JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        self.text(Part::Json)
    }

    /// The JSON of `content`.
    #[must_use]
    pub fn content(&self) -> &str {
        let (start, end) = self.content_range();
        self.json().get(start..end).unwrap_or("{}")
    }

    /// Parses `content`, or gives `None` where it has another shape.
    #[must_use]
    pub fn content_as<'a, T: serde::Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.content()).ok()
    }

    /// The event as the rules see it.
    ///
    /// # Errors
    /// If the stored JSON is damaged.
    pub fn to_pdu(&self) -> Result<Pdu, PduError> {
        let id = EventId::parse(self.event_id()).map_err(|error| PduError::InvalidId("event_id", error))?;
        Pdu::from_trusted(id, self.json().as_bytes())
    }

    /// The row to store again with other flags or another body, at its old position.
    pub(crate) fn to_row(&self) -> Result<EventRow, PduError> {
        Ok(EventRow {
            flags: self.flags(),
            sender: self.sender_nid(),
            before: self.state_before(),
            after: self.state_after(),
            arrival: self.arrival(),
            replaces: self.replaces(),
            redacted_by: self.redacted_by(),
            transaction: self.mark().map(|(device, txn)| (device.into(), txn.into())),
            pdu: Arc::new(self.to_pdu()?),
        })
    }

    /// The sender as an identifier, if it is one.
    #[must_use]
    pub fn sender_id(&self) -> Option<UserId> {
        UserId::parse(self.sender()).ok()
    }
}

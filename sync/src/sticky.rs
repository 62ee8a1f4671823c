//! Sticky events (MSC4354, and MSC4480 for sliding sync): what gaps and history visibility would keep from a client.

use rooms::{Event, Membership, RoomNid};
use spec::ids::UserId;
use storage::StreamPos;

use crate::error::SyncError;
use crate::timeline::{Room, is_ignored};
use crate::token::decimal;

/// How many sticky events one answer of sliding sync holds, and a few more where they came at once.
pub(crate) const MAX_STICKY: usize = 100;

/// A sticky event that a client is to be told.
pub(crate) struct StickyEvent {
    pub event: Event,
    /// When it came to the user: with the event, or with their joining the room.
    pub came: StreamPos,
}

/// The sticky events of a room that have come to the user after `since`, in that order.
pub(crate) fn read_sticky(
    room: &Room<'_>,
    since: Option<StreamPos>,
    ignored: &std::collections::BTreeSet<UserId>,
) -> Result<Vec<StickyEvent>, SyncError> {
    if room.row.membership != Membership::Join {
        return Ok(Vec::new());
    }
    let events = room.view.sticky_events(room.until)?;
    let Some(since) = since else {
        let told = events.into_iter().filter(|event| !is_ignored(ignored, event));
        return Ok(told.map(|event| StickyEvent { came: event.pos(), event }).collect());
    };
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let joined = if room.row.pos > since && room.is_newly_joined(since)? { room.row.pos } else { StreamPos::ZERO };
    let came = events.into_iter().map(|event| StickyEvent { came: event.pos().max(joined), event });
    let mut told: Vec<_> = came.filter(|sticky| sticky.came > since && !is_ignored(ignored, &sticky.event)).collect();
    told.retain(|sticky| sticky.came <= room.until);
    told.sort_by_key(|sticky| sticky.came);
    Ok(told)
}

/// Keeps the oldest of the sticky events of several rooms, at most `limit`; what came at once is not torn apart.
/// Returns up to where these are all, if there are more.
pub(crate) fn keep_oldest(events: &mut Vec<(RoomNid, StickyEvent)>, limit: usize) -> Option<StreamPos> {
    events.sort_by_key(|(room, sticky)| (sticky.came, *room));
    let last = events.get(limit.max(1) - 1)?.1.came;
    let kept = events.partition_point(|(_, sticky)| sticky.came <= last);
    let is_cut = kept < events.len();
    events.truncate(kept);
    is_cut.then_some(last)
}

/// `next_batch` of the extension: everything that came up to this position was told.
pub(crate) fn write_token(pos: StreamPos) -> String {
    format!("k1_{pos}")
}

/// What [`write_token`] wrote.
pub(crate) fn read_token(text: &str) -> Result<StreamPos, SyncError> {
    let pos = text.strip_prefix("k1_").and_then(decimal);
    pos.map(StreamPos).ok_or(SyncError::Invalid("malformed sticky_events.since"))
}

//! History from before what is stored, and the gaps in it (Server-Server API §Backfilling and retrieving missing events).

use spec::ids::EventId;
use storage::Read;

use crate::append::Append;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::BACKWARD;
use crate::place::{Part, Placing};
use crate::receive::{Known, Received, Verdict, split_commands};
use crate::rooms::Rooms;

/// How many backward extremities are told at most.
const MAX_BACKWARD: usize = 1000;

impl Rooms {
    /// The events at which history ends here: not stored, cited by stored events; with the depth of the event that cites
    /// them, the newest first. What was purged is not among them.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn backward_extremities(&self, room: RoomNid) -> Result<Vec<(EventId, i64)>, RoomError> {
        let mut found = Vec::new();
        let purged = self.head(room)?.purged_depth().unwrap_or(i64::MIN);
        for row in self.store.scan(&BACKWARD, &room).iter() {
            let ((_, id), depth) = row?;
            if depth <= purged {
                continue;
            }
            if found.len() >= MAX_BACKWARD {
                break;
            }
            let id = EventId::parse(&id).map_err(|_| RoomError::Inconsistent("malformed event id"))?;
            found.push((id, depth));
        }
        found.sort_by_key(|(_, depth)| std::cmp::Reverse(*depth));
        Ok(found)
    }

    /// Adds history: events from before what is stored, oldest first. Those whose previous events are unknown need their
    /// state. Returns how many are new; none in a partial room. What is not allowed is kept as rejected; what misses events is left out.
    /// Cancel-safe: what is submitted is carried out.
    ///
    /// # Errors
    /// [`RoomError::Busy`], storage errors.
    pub async fn backfill(&self, room: RoomNid, received: Vec<Received>) -> Result<usize, RoomError> {
        self.intern_people(received.iter().map(|received| &received.pdu)).await?;
        let mut added = 0;
        for group in split_commands(received, |received| &received.pdu) {
            added += self.submit_backfill(room, group).await?;
        }
        Ok(added)
    }
}

impl Append<'_> {
    /// Adds history and says how much of it is new.
    pub(crate) fn backfill(&mut self, received: Vec<Received>) -> Result<usize, RoomError> {
        if self.head.is_partial() {
            // Judged leniently, and never again.
            return Ok(0);
        }
        // Numbers below those of all that was backfilled before, the newest event the highest.
        let first = RoomSeq(self.head.row.first_seq.0.saturating_sub(received.len() as i64));
        let (mut seq, mut added) = (first, 0);
        for received in received {
            let before = self.added();
            match self.backfill_one(&received, seq) {
                Ok(Verdict::Known) => {}
                Ok(_) => added += 1,
                Err(RoomError::Missing(_) | RoomError::Invalid(_)) if self.added() == before => {}
                Err(error) => return Err(error),
            }
            seq = seq.next();
        }
        if added > 0 {
            self.head.row.first_seq = first;
        }
        Ok(added)
    }

    fn backfill_one(&mut self, received: &Received, seq: RoomSeq) -> Result<Verdict, RoomError> {
        let pdu = received.pdu.pdu();
        if pdu.room_id != self.head.room_id {
            return Err(RoomError::Invalid("the event is of another room"));
        }
        // What is older than the end of the room lies less deep. Newer events come by themselves: as history they would
        // be known, and never become part of the present.
        let end = self.head.row.depth;
        if pdu.depth >= end && end < spec::canonical::MAX_INTEGER {
            return Err(RoomError::Invalid("the event is no history of the room"));
        }
        if self.head.purged_depth().is_some_and(|purged| pdu.depth < purged) {
            return Err(RoomError::Invalid("the history of the room ends here after the event"));
        }
        let promoted = match self.find_known(pdu)? {
            Known::Placed => return Ok(Verdict::Known),
            Known::Outlier(outlier) => Some(outlier),
            Known::No => None,
        };
        let is_create = &*pdu.kind == "m.room.create";
        let (auth_events, before) = match is_create {
            true => (Vec::new(), crate::SnapshotId::EMPTY),
            false => self.gather_states(pdu, received.state_before.as_deref(), false)?,
        };
        let verdict = match is_create {
            true if self.head.create.as_ref().is_some_and(|create| create.event_id == pdu.event_id) => {
                Verdict::Accepted
            }
            true => return Err(RoomError::Invalid("the room has another create event")),
            false => self.judge(pdu, &auth_events, before, false)?,
        };
        let flags = match &verdict {
            Verdict::Rejected(_) => EventFlags::REJECTED,
            _ => EventFlags::default(),
        };
        let sender = self.rooms.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let placing = Placing { part: Part::History(seq), sender, before, flags, transaction: None, promoted };
        self.place_event(pdu, placing)?;
        self.end_backward_extremity(pdu)?;
        if verdict == Verdict::Accepted {
            self.move_backward_extremities(pdu)?;
            self.connect(pdu, sender, seq)?;
        }
        Ok(verdict)
    }
}

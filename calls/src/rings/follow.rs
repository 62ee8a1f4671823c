//! Following the timelines of rooms for calls that ring.

use std::collections::HashMap;

use rooms::{Event, Membership, RoomNid, RoomSeq, UserNid};
use storage::{Batch, StreamPos};

use super::reading::{Callees, Said, read};
use super::{Book, CALL_RINGS, Ring};
use crate::calls::Calls;
use crate::error::CallError;

/// How many events of a room are read at once.
const CHUNK: usize = 100;
/// For how many users of this server a call rings at most: a room with more is no place to ring.
const MAX_CALLEES: usize = 64;
/// Of how many rooms it is remembered up to where they were looked at; the others are found by reading.
const MAX_REMEMBERED: usize = 10_000;
/// What is older when it comes does not ring any more, in milliseconds.
const OLDEST_MS: u64 = 120_000;
/// The longest sleep, in milliseconds: the operator may set the machine's clock.
const MAX_SLEEP_MS: u64 = 60_000;

impl Calls {
    /// Looks at what is written to rooms until shutdown. What rings then is not kept.
    pub(crate) async fn follow_rings(&self, begin: StreamPos) {
        let shutdown = self.tasks.shutdown_token();
        let (mut book, mut seen) = (Book::default(), HashMap::new());
        loop {
            for room in self.grown.take() {
                if let Err(error) = self.look_for_rings(room, begin, &mut seen, &mut book) {
                    tracing::warn!(room = room.0, %error, "it was not looked for calls that ring");
                }
            }
            if seen.len() > MAX_REMEMBERED {
                seen.clear();
            }
            let now = self.clock.now_ms();
            if let Err(error) = self.keep_rings(&mut book, now).await {
                tracing::error!(%error, "it was not kept what came of calls that rang");
            }
            // From before the commits: time that passes during them counts.
            let next_ms =
                book.next_end_ms().unwrap_or(u64::MAX).clamp(now.saturating_add(1), now.saturating_add(MAX_SLEEP_MS));
            tokio::select! {
                () = self.grown.news.notified() => {}
                () = self.clock.sleep_until_ms(next_ms) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn look_for_rings(
        &self,
        room: RoomNid,
        begin: StreamPos,
        seen: &mut HashMap<RoomNid, RoomSeq>,
        book: &mut Book,
    ) -> Result<(), CallError> {
        let mut after = match seen.get(&room) {
            Some(seen) => *seen,
            None => self.rooms.seq_at(room, begin)?,
        };
        loop {
            let events = self.rooms.events_after(room, after, CHUNK)?;
            for event in events.iter().filter(|event| event.flags().is_visible()) {
                if let Some(said) = read(event) {
                    self.note_said(event, said, book)?;
                }
            }
            after = events.last().map_or(after, Event::seq);
            seen.insert(room, after);
            if events.len() < CHUNK {
                return Ok(());
            }
        }
    }

    fn note_said(&self, event: &Event, said: Said, book: &mut Book) -> Result<(), CallError> {
        let (room, sender) = (event.room(), event.sender_nid());
        match said {
            Said::Ring { callees, call, lifetime_ms } => {
                let now = self.clock.now_ms();
                let sent_ms = u64::try_from(event.origin_server_ts()).unwrap_or(0);
                if sent_ms.saturating_add(OLDEST_MS) >= now {
                    let callees = self.callees(room, sender, &callees)?;
                    book.begin(Ring {
                        room,
                        caller: sender,
                        event_id: event.event_id().to_owned(),
                        call,
                        rang_ms: now,
                        until_ms: now.saturating_add(lifetime_ms),
                        callees,
                    });
                }
            }
            Said::Decline { event_id } => book.note_decline(room, sender, &event_id),
            Said::Answer { call } => book.note_answer(room, sender, &call),
            Said::End { call } => book.note_end(room, sender, &call),
            Said::Join => book.note_join(room, sender),
        }
        Ok(())
    }

    /// The users of this server that it rings for: those in the room, but for the caller.
    fn callees(
        &self,
        room: RoomNid,
        caller: UserNid,
        named: &Callees,
    ) -> Result<Vec<(UserNid, Option<super::RingOutcome>)>, CallError> {
        let mut callees = Vec::new();
        for member in self.rooms.local_members(room)? {
            if member.membership != Membership::Join || member.user == caller {
                continue;
            }
            let is_called = match named {
                Callees::Everybody => true,
                Callees::These(users) => users.contains(&self.rooms.user_id(member.user)?),
            };
            if is_called {
                callees.push((member.user, None));
            }
        }
        Ok(if callees.len() > MAX_CALLEES { Vec::new() } else { callees })
    }

    async fn keep_rings(&self, book: &mut Book, now_ms: u64) -> Result<(), CallError> {
        let over = book.take_over(now_ms);
        if over.is_empty() {
            return Ok(());
        }
        for row in &over {
            tracing::info!(room = row.room.0, caller = row.caller.0, callees = row.callees.len(), "a call rang");
            // A batch of their own each: the position tells rows of one moment apart.
            let mut batch = Batch::new();
            batch.put(&CALL_RINGS, &(now_ms, StreamPos::PENDING), row);
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}

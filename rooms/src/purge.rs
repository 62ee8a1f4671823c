//! Purging: the history of a room up to a place is taken out for good, in small steps, while people chat in it.
//!
//! What goes is every event before the place, with all that hangs on it. What is still needed of it stays without its
//! place in the timeline, as an outlier is: the state that an event which remains was sent in, the auth chains of all
//! that, the leave events that say up to where former members see; and, if asked for, events of this server's users,
//! which may exist nowhere else. The forward extremities always remain. Of what stays but is no state only the redacted
//! form is kept, unless it is to be kept for its own sake.
//!
//! First a plan is made, beside the room's writer: which events remain, and which states. The writer then works it off
//! in steps, and before each of them takes into the plan what has come meanwhile. A purge that was cut off begins again:
//! its plan is made anew, and what is gone already costs nothing.
//!
//! From the first step on history ends at the place: what lies deeper is not asked for, and not taken in.

mod compact;
mod cut;
mod pace;
mod plan;
mod rows;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::{Batch, Read, Stamped, StreamPos, stored};

use crate::append::Append;
use crate::error::RoomError;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq};
use crate::keyspaces::{PURGED, RECEIPT_LOG, RECEIPTS, TIMELINE};
use crate::rooms::Rooms;
use crate::timeline::Cursor;
use compact::Compaction;
use pace::Pace;
use plan::Plan;

/// How many receipts one commit takes out.
const RECEIPTS_AT_ONCE: usize = 200;

/// Where the history of a room ends because what was before was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgedRow {
    /// Where history begins: what has its place up to here is gone, or goes. Of events less deep none is taken in as
    /// history any more.
    pub depth: i64,
    pub seq: RoomSeq,
    /// Events numbered below this may be missing.
    pub upto: RoomSeq,
}
stored!(PurgedRow, 1);

impl PurgedRow {
    fn cut(self) -> Cursor {
        Cursor { depth: self.depth, seq: self.seq }
    }
}

/// What is to be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeOrder {
    /// Of which room.
    pub room: RoomNid,
    /// Everything before this place: [`Rooms::cut_before_event`], [`Rooms::cut_before_time`].
    pub cut: Cursor,
    /// Whether events of this server's users go too. They may exist nowhere else.
    pub local_too: bool,
}

/// What a purge has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeProgress {
    /// How many events are gone.
    pub deleted: u64,
    /// How many stay, out of the timeline, because they are needed.
    pub kept: u64,
    /// How many nodes of states are gone.
    pub nodes: u64,
    /// How many events are still to be gone over, as far as is known.
    pub left: u64,
    /// Whether nothing is left to do.
    pub done: bool,
}

/// How far a purge has come.
#[derive(Clone, Debug)]
enum Stage {
    Plan,
    Events { from: RoomSeq },
    Nodes { from: u64 },
    Receipts { after: Option<ReceiptKey> },
    Finish,
    Compact(Compaction),
    Done,
}

type ReceiptKey = (RoomNid, crate::ids::UserNid, u8, String);

/// A purge under way. Nothing of it is stored but what it has done: to resume one, begin it again.
pub struct Purge {
    rooms: Rooms,
    work: Work,
}

/// What is kept of a purge between its steps. Without a handle to the rooms, which keep it.
struct Work {
    order: PurgeOrder,
    plan: Arc<Mutex<Plan>>,
    stage: Stage,
    progress: PurgeProgress,
}

impl Head {
    /// The place before which the room's history was purged, or is being purged.
    #[must_use]
    pub fn history_begins(&self) -> Option<Cursor> {
        self.purged.map(PurgedRow::cut)
    }

    /// The depth below which no history is taken in, because it was purged.
    pub(crate) fn purged_depth(&self) -> Option<i64> {
        self.purged.map(|row| row.depth)
    }
}

impl Rooms {
    /// Begins a purge, or resumes one that was cut off: from now on history ends at the place. Cancel-safe: it can be
    /// begun again.
    ///
    /// # Errors
    /// [`RoomError::StateIncomplete`] for a partial room; [`RoomError::Busy`]; storage errors.
    pub async fn begin_purge(&self, order: PurgeOrder) -> Result<Purge, RoomError> {
        let cut = order.cut;
        self.submit_job(order.room, move |append| append.note_purge(cut, RoomSeq::MIN)).await?;
        let plan = Plan::new(order.room, order.cut, order.local_too, self)?;
        let (plan, progress) = (Arc::new(Mutex::new(plan)), PurgeProgress::default());
        Ok(Purge { rooms: self.clone(), work: Work { order, plan, stage: Stage::Plan, progress } })
    }

    /// Since when some of the room's events numbered below a place are gone: the place, and the position at which the
    /// last purge was over. For those who keep something of events.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn purged(&self, room: RoomNid) -> Result<Option<(RoomSeq, StreamPos)>, RoomError> {
        Ok(self.store.get(&PURGED, &room)?.map(|row| (row.value.upto, row.pos)))
    }
}

/// Purges that are under way, so that their plans need not be made with each step. They take turns.
#[derive(Default)]
pub(crate) struct Purges(tokio::sync::Mutex<UnderWay>);

#[derive(Default)]
struct UnderWay {
    works: VecDeque<Work>,
    pace: Pace,
}

/// How many plans are kept.
const MAX_PURGES: usize = 4;

impl Rooms {
    /// Does the next part of a purge, which is begun if it is not under way. Says what this part did. Rests before that,
    /// as long as those need who use the server. Cancel-safe: it is begun again.
    ///
    /// # Errors
    /// As [`Rooms::begin_purge`] and [`Purge::step`].
    pub async fn purge_on(&self, order: PurgeOrder) -> Result<PurgeProgress, RoomError> {
        let mut purges = self.purges.0.lock().await;
        let UnderWay { works, pace } = &mut *purges;
        self.clock.sleep(pace.rest()).await;
        let known = works.iter().position(|work| work.order == order).and_then(|at| works.remove(at));
        let mut work = match known {
            Some(work) => work,
            None => self.begin_purge(order).await?.work,
        };
        let before = work.progress;
        pace.begin(self.clock.monotonic(), self.store.visible());
        let after = work.step(self).await?;
        pace.end(self.clock.monotonic(), self.store.visible());
        if !after.done {
            works.push_back(work);
            if works.len() > MAX_PURGES {
                works.pop_front();
            }
        }
        Ok(PurgeProgress {
            deleted: after.deleted.saturating_sub(before.deleted),
            kept: after.kept.saturating_sub(before.kept),
            nodes: after.nodes.saturating_sub(before.nodes),
            left: after.left,
            done: after.done,
        })
    }
}

impl Purge {
    /// Does the next part: some dozens of events, or a look at some thousands. Cancel-safe: it can be called again.
    ///
    /// # Errors
    /// [`RoomError::Busy`], storage errors. It can be tried again.
    pub async fn step(&mut self) -> Result<PurgeProgress, RoomError> {
        self.work.step(&self.rooms).await
    }

    /// Does all that is left.
    ///
    /// # Errors
    /// As [`Purge::step`].
    pub async fn run(mut self) -> Result<PurgeProgress, RoomError> {
        loop {
            let progress = self.step().await?;
            if progress.done {
                return Ok(progress);
            }
        }
    }
}

impl Work {
    async fn step(&mut self, rooms: &Rooms) -> Result<PurgeProgress, RoomError> {
        let room = self.order.room;
        self.stage = match self.stage.clone() {
            Stage::Plan => self.make_plan(rooms).await?,
            Stage::Events { from } => {
                let plan = self.plan.clone();
                let work = move |append: &mut Append<'_>| append.purge_events(&mut plan.lock(), from);
                let part = rooms.submit_job(room, work).await?;
                self.progress.deleted += part.deleted;
                self.progress.kept += part.kept;
                self.progress.left = self.progress.left.saturating_sub(part.deleted + part.kept);
                part.next.map_or(Stage::Nodes { from: 0 }, |from| Stage::Events { from })
            }
            Stage::Nodes { from } => {
                let plan = self.plan.clone();
                let work = move |append: &mut Append<'_>| append.purge_nodes(&mut plan.lock(), from);
                let (deleted, next) = rooms.submit_job(room, work).await?;
                self.progress.nodes += deleted;
                next.map_or(Stage::Receipts { after: None }, |from| Stage::Nodes { from })
            }
            Stage::Receipts { after } => {
                let next = rooms.purge_receipts(room, after).await?;
                next.map_or(Stage::Finish, |after| Stage::Receipts { after: Some(after) })
            }
            Stage::Finish => {
                let (cut, upto) = (self.order.cut, self.plan.lock().upto());
                rooms.submit_job(room, move |append| append.note_purge(cut, upto)).await?;
                if self.progress.deleted + self.progress.nodes > 0 {
                    Stage::Compact(Compaction::default())
                } else {
                    Stage::Done
                }
            }
            Stage::Compact(compaction) => {
                let next = rooms.compact_on(room, compaction).await?;
                next.map_or(Stage::Done, Stage::Compact)
            }
            Stage::Done => Stage::Done,
        };
        self.progress.done = matches!(self.stage, Stage::Done);
        Ok(self.progress)
    }

    async fn make_plan(&mut self, rooms: &Rooms) -> Result<Stage, RoomError> {
        let (of, plan) = (rooms.clone(), self.plan.clone());
        let work = move || plan.lock().look_on(&of);
        let is_made = rooms.tasks.compute("purge plan", work).await.map_err(|_| RoomError::Busy)??;
        if !is_made {
            return Ok(Stage::Plan);
        }
        let (cut, upto, from, left) = {
            let plan = self.plan.lock();
            (self.order.cut, plan.upto(), plan.first(), plan.old)
        };
        self.progress.left = left;
        rooms.submit_job(self.order.room, move |append| append.note_purge(cut, upto)).await?;
        Ok(Stage::Events { from })
    }
}

impl Append<'_> {
    /// History begins at this place from now on, and events numbered below `upto` may be missing.
    fn note_purge(&mut self, cut: Cursor, upto: RoomSeq) -> Result<(), RoomError> {
        if self.head.is_partial() {
            return Err(RoomError::StateIncomplete);
        }
        let (cut, upto) = match self.head.purged {
            Some(old) => (cut.max(old.cut()), upto.max(old.upto)),
            None => (cut, upto),
        };
        let row = PurgedRow { depth: cut.depth, seq: cut.seq, upto };
        self.head.purged = Some(row);
        self.batch.put(&PURGED, &self.head.room, &Stamped::pending(row));
        Ok(())
    }
}

impl Rooms {
    /// Takes out some receipts that point to events which are gone; says where to go on.
    async fn purge_receipts(&self, room: RoomNid, after: Option<ReceiptKey>) -> Result<Option<ReceiptKey>, RoomError> {
        let (mut batch, mut looked_at, mut last) = (Batch::new(), 0, None);
        let mut scan = self.store.scan(&RECEIPTS, &room);
        if let Some(after) = &after {
            scan = scan.after(after);
        }
        let rows: Vec<_> = scan.iter().take(RECEIPTS_AT_ONCE).collect::<Result<_, _>>()?;
        for (key, row) in rows {
            looked_at += 1;
            let seq = row.value.seq;
            if seq.0 != 0 && !self.store.contains(&TIMELINE, &(room, seq))? {
                batch.expect_equals(&RECEIPTS, &key, &row);
                batch.delete(&RECEIPTS, &key);
                batch.delete(&RECEIPT_LOG, &(room, row.pos, key.1, key.2, key.3.clone()));
            }
            last = Some(key);
        }
        if !batch.is_empty() {
            match self.store.commit(batch).await {
                Ok(_) => {}
                // Somebody has read further meanwhile: look at these again.
                Err(storage::CommitError::Expectation { .. }) => {
                    return Ok(after.or(Some((room, crate::ids::UserNid(0), 0, String::new()))));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last.filter(|_| looked_at >= RECEIPTS_AT_ONCE))
    }
}

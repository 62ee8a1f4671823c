//! Events of ours in a room that uses a policy server: built and allowed as any others, signed by that server outside
//! of the room's queue, and committed only then.
//!
//! What one user sends is asked for in the order in which it came, one command after the other; so a repeated
//! transaction finds what the first made. Commands of different users are asked for side by side, some at a time, and
//! where that forks the room the next event joins the ends again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use spec::ids::{EventId, UserId};
use spec::policy::is_asked_for;
use tokio::sync::{Semaphore, oneshot};

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::draft::{Draft, Transaction};
use crate::error::RoomError;
use crate::ids::{RoomNid, UserNid};
use crate::membership::Membership;
use crate::receive::Verdict;
use crate::rooms::Rooms;

/// How many commands of one room are with its policy server at a time: each is a fork of the room.
const MAX_COMMANDS: usize = 8;
/// The most commands that wait for the policy server of one room before more are refused.
const MAX_WAITING: usize = 256;
/// The most of them that are of one sender, who takes not all places from the others.
const MAX_OF_SENDER: usize = 16;
/// How long a command waits for its turn before it is refused: whoever waits for it has long given up then.
const WAITING_TIME: Duration = Duration::from_secs(60);

/// Events of ours that are to be appended in one commit, and who waits for them.
pub(crate) struct Drafted {
    pub drafts: Vec<Draft>,
    pub transaction: Option<(UserNid, Transaction)>,
    pub reply: oneshot::Sender<Result<Vec<EventId>, RoomError>>,
    /// When they were asked for, on the monotonic clock.
    pub at: Duration,
}

/// The commands that wait for policy servers.
#[derive(Default)]
pub(crate) struct Asking(Mutex<HashMap<RoomNid, RoomAsking>>);

struct RoomAsking {
    places: Arc<Semaphore>,
    /// How many commands wait or are under way.
    waiting: usize,
    /// An entry is here exactly as long as its task runs.
    senders: HashMap<UserId, SenderQueue>,
}

#[derive(Default)]
struct SenderQueue {
    waiting: VecDeque<Waiting>,
    is_under_way: bool,
}

struct Waiting {
    drafted: Drafted,
    /// Until when, on the monotonic clock.
    deadline: Duration,
}

impl Default for RoomAsking {
    fn default() -> Self {
        RoomAsking { places: Arc::new(Semaphore::new(MAX_COMMANDS)), waiting: 0, senders: HashMap::new() }
    }
}

impl RoomAsking {
    fn take_out(&mut self, sender: &UserId) {
        let left = self.senders.remove(sender).map_or(0, |queue| queue.waiting.len() + usize::from(queue.is_under_way));
        self.waiting = self.waiting.saturating_sub(left);
    }
}

impl Asking {
    /// Lets a command wait for its turn, or refuses it if too many wait. True if nobody works on those of its sender.
    fn push(&self, room: RoomNid, sender: &UserId, command: Waiting) -> bool {
        let mut rooms = self.0.lock();
        let asking = rooms.entry(room).or_default();
        let of_sender = asking.senders.get(sender).map(|queue| queue.waiting.len());
        if asking.waiting >= MAX_WAITING || of_sender.is_some_and(|waiting| waiting >= MAX_OF_SENDER) {
            drop(command.drafted.reply.send(Err(RoomError::Busy)));
            return false;
        }
        asking.waiting += 1;
        asking.senders.entry(sender.clone()).or_default().waiting.push_back(command);
        of_sender.is_none()
    }

    /// The next command of a sender, whose last one is done, and where its place is. After the last the sender is taken
    /// out.
    fn next(&self, room: RoomNid, sender: &UserId) -> Option<(Waiting, Arc<Semaphore>)> {
        let mut rooms = self.0.lock();
        let asking = rooms.get_mut(&room)?;
        let queue = asking.senders.get_mut(sender)?;
        asking.waiting = asking.waiting.saturating_sub(usize::from(queue.is_under_way));
        let next = queue.waiting.pop_front();
        queue.is_under_way = next.is_some();
        let places = asking.places.clone();
        if next.is_none() {
            asking.take_out(sender);
            if asking.senders.is_empty() {
                rooms.remove(&room);
            }
        }
        Some((next?, places))
    }

    /// Drops what a sender whose task has ended waits for; those who wait learn that.
    fn abandon(&self, room: RoomNid, sender: &UserId) {
        let mut rooms = self.0.lock();
        let Some(asking) = rooms.get_mut(&room) else { return };
        asking.take_out(sender);
        if asking.senders.is_empty() {
            rooms.remove(&room);
        }
    }
}

/// Whatever ends the task of a sender, no command waits for it any more.
struct SenderGuard<'a> {
    rooms: &'a Rooms,
    room: RoomNid,
    sender: &'a UserId,
    /// The sender was taken out already, and may have come again since.
    has_ended: bool,
}

impl Drop for SenderGuard<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.rooms.asking.abandon(self.room, self.sender);
        }
    }
}

/// A new event, and what its row keeps of whoever sent it: the device and the transaction.
type Made = (CheckedPdu, Option<(Box<str>, Box<str>)>);

/// What drafts became outside of the room's queue.
pub(crate) struct Aside {
    /// What the command is answered with.
    ids: Vec<EventId>,
    /// The new events among them.
    made: Vec<Made>,
    /// Refused unless their senders are joined when they are committed.
    must_be_joined: bool,
}

impl Rooms {
    /// Takes a command out of the room's queue: it comes back to it when the policy server has signed its events.
    pub(crate) fn set_aside(&self, room: RoomNid, drafted: Drafted) {
        let Some(sender) = drafted.drafts.first().map(|draft| draft.sender.clone()) else {
            drop(drafted.reply.send(Ok(Vec::new())));
            return;
        };
        let deadline = self.clock.monotonic().saturating_add(WAITING_TIME);
        if self.asking.push(room, &sender, Waiting { drafted, deadline }) {
            let rooms = self.clone();
            self.tasks.spawn("events for a policy server", async move { rooms.work_aside(room, &sender).await });
        }
    }

    async fn work_aside(&self, room: RoomNid, sender: &UserId) {
        let mut guard = SenderGuard { rooms: self, room, sender, has_ended: false };
        while let Some((Waiting { drafted, deadline }, places)) = self.asking.next(room, sender) {
            let Drafted { drafts, transaction, reply, .. } = drafted;
            let left = deadline.saturating_sub(self.clock.monotonic());
            // Built only when it is its turn, so that it follows what is in the room by then. Never closed.
            let place = self.clock.timeout(left, places.acquire()).await;
            if left.is_zero() || place.is_none() {
                drop(reply.send(Err(RoomError::Busy)));
                continue;
            }
            let shutdown = self.tasks.shutdown_token();
            let outcome = shutdown.run_until_cancelled(self.append_recommended(room, drafts, transaction)).await;
            drop(reply.send(outcome.unwrap_or(Err(RoomError::Busy))));
        }
        guard.has_ended = true;
    }

    async fn append_recommended(
        &self,
        room: RoomNid,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Vec<EventId>, RoomError> {
        let aside = self.sign_aside(room, drafts, transaction.clone()).await?;
        let ids = self.submit_job(room, move |append| append.adopt(aside, transaction)).await?;
        self.meters.sent.add(ids.len() as u64);
        Ok(ids)
    }

    /// Builds events without committing them, and has the room's policy server sign them. What comes of it is to be
    /// committed with [`Append::adopt`]. Cancel-safe: nothing is stored.
    ///
    /// # Errors
    /// As [`Rooms::append`].
    pub(crate) async fn sign_aside(
        &self,
        room: RoomNid,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Aside, RoomError> {
        let mut aside = self.try_job(room, move |append| append.try_command(drafts, transaction)).await?;
        for (event, _) in &mut aside.made {
            // What only tells others of a member's profile is in no hurry.
            *event = self.recommend_by(room, event.clone(), !aside.must_be_joined).await?;
        }
        Ok(aside)
    }
}

impl Append<'_> {
    /// Whether a policy server has to sign what these drafts become.
    pub(crate) fn needs_policy_server(&self, drafts: &[Draft]) -> Result<bool, RoomError> {
        let Some(policy) = &self.head.policy else { return Ok(false) };
        if !drafts.iter().any(|draft| is_asked_for(&draft.kind, draft.state_key.as_deref())) {
            return Ok(false);
        }
        match self.servers.get(policy.via().as_str()) {
            Some(stay) => Ok(stay.joined > 0),
            None => self.rooms.is_server_joined(self.head.room, policy.via()),
        }
    }

    /// What a command would make of the room as it is. Not to be committed.
    fn try_command(
        &mut self,
        drafts: Vec<Draft>,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Aside, RoomError> {
        let must_be_joined = drafts.iter().any(|draft| draft.only_if_joined);
        let ids = self.add_command(drafts, transaction)?;
        let mut rows: Vec<_> = self.events.iter().collect();
        rows.sort_unstable_by_key(|(seq, _)| **seq);
        let made = rows.into_iter().map(|(_, row)| (CheckedPdu::of_ours(row.pdu.clone()), row.transaction.clone()));
        Ok(Aside { ids, made: made.collect(), must_be_joined })
    }

    /// Adds events of ours that were built some time ago and have every signature now. What has happened in the room
    /// meanwhile may forbid them.
    pub(crate) fn adopt(
        &mut self,
        aside: Aside,
        transaction: Option<(UserNid, Transaction)>,
    ) -> Result<Vec<EventId>, RoomError> {
        if let Some(made) = self.find_transaction(transaction.as_ref())? {
            return Ok(vec![made]);
        }
        let Aside { ids, made, must_be_joined } = aside;
        for (event, mark) in made {
            let sender = self.rooms.user_nid(&event.pdu().sender)?;
            let membership = sender.map(|sender| self.member_row(sender)).transpose()?.flatten();
            if must_be_joined && membership.map(|row| row.membership) != Some(Membership::Join) {
                return Err(RoomError::NotInRoom);
            }
            match self.receive(event.into(), mark)? {
                Verdict::Accepted | Verdict::Known => {}
                Verdict::SoftFailed(_) | Verdict::Rejected(_) => {
                    return Err(RoomError::Refused("the room does not allow the event any more"));
                }
            }
        }
        if let (Some((user, transaction)), Some(id)) = (transaction, ids.last()) {
            self.add_transaction(user, &transaction, id);
        }
        Ok(ids)
    }
}

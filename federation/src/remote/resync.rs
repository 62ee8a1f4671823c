//! Fetching what is missing of a partial room: the state before our join, with all its members (MSC3902).
//!
//! One task a room, begun by the join and by every start for what was left. It asks the servers that are said to be in
//! the room one after the other until one gives a state that allows the join; then what came meanwhile is judged again,
//! with the states of what nobody delivered before; then the room is full. All of it is in the store after each step, so
//! that a restart goes on where this was. What one server gets wrong is mended by the next one; if none helps, the round
//! is repeated after a wait, ever longer, and never given up: people are in the room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{Finish, GivenState, PartialEvent, PartialRoom, RoomError, RoomNid, RoomSeq};
use spec::ids::{EventId, ServerName};
use tokio::sync::{Notify, Semaphore};

use super::Deadline;
use super::failure::{Failure, blame};
use crate::Federation;
use crate::inbound::{GapError, RoomPlace, StateLimits, retry_busy};

/// How many rooms are fetched at a time; the others wait for a place.
const PLACES: usize = 3;
/// The most servers that are asked in one round.
const MAX_SERVERS: usize = 10;
/// How long it waits after a round in which none helped; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// With more previous events than this the state before the join is asked for, not that after each of them.
const MAX_FOLLOWED: usize = 3;
/// The largest answer with the ids of a state.
const IDS_BYTES: usize = 64 * 1024 * 1024;
/// The most events of a state with its auth chain.
const MAX_STATE_EVENTS: usize = 500_000;
/// How much one commit judges again.
const PART_EVENTS: usize = 64;
const PART_BYTES: usize = 1024 * 1024;
/// After how many events that nobody delivered the state is asked for, while one replay lasts.
const MAX_STATES: usize = 30;
/// How long these may take together.
const STATES_TIME: Duration = Duration::from_secs(120);
/// How often what came during a replay is judged again too, before others get a turn.
const MAX_PASSES: usize = 100;

/// The rooms that are being fetched.
pub(crate) struct Resyncs {
    /// The rooms that a task is at, and whether it is to look at its room once more.
    running: Mutex<HashMap<RoomNid, bool>>,
    /// Some task is to look once more.
    asked: Notify,
    places: Semaphore,
}

impl Default for Resyncs {
    fn default() -> Self {
        Resyncs { running: Mutex::default(), asked: Notify::new(), places: Semaphore::new(PLACES) }
    }
}

impl Resyncs {
    /// Whether a task has to be begun for the room. If there is one, it will look once more.
    fn claim(&self, room: RoomNid) -> bool {
        let mut running = self.running.lock();
        let is_new = !running.contains_key(&room);
        running.insert(room, !is_new);
        drop(running);
        self.asked.notify_waiters();
        is_new
    }

    /// Waits until the room's task is to look once more. Cancel-safe.
    async fn asked_again(&self, room: RoomNid) {
        loop {
            let asked = self.asked.notified();
            tokio::pin!(asked);
            // Registered before the look, so that nothing is missed between the two.
            asked.as_mut().enable();
            if let Some(again) = self.running.lock().get_mut(&room).filter(|again| **again) {
                *again = false;
                return;
            }
            asked.await;
        }
    }

    /// Whether the room's task may end.
    fn release(&self, room: RoomNid) -> bool {
        let mut running = self.running.lock();
        if running.get(&room) == Some(&true) {
            running.insert(room, false);
            return false;
        }
        running.remove(&room);
        true
    }
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// The room has its full state.
    Full,
    /// Nobody of ours is in it: who comes back begins anew.
    Left,
    /// Somebody has entered it anew meanwhile, or much came: another round, at once.
    Again,
}

impl Federation {
    /// Fetches what is missing of a room, if anything is, in a task of its own. To be called whenever a room has become
    /// partial; a room that a task is at already is asked for no second time.
    pub(crate) fn resync(&self, room: RoomNid) {
        if !self.remote.resyncs.claim(room) {
            return;
        }
        let federation = self.clone();
        self.tasks.spawn("fetching a room's state", async move {
            let shutdown = federation.tasks.shutdown_token();
            let work = async {
                loop {
                    federation.resync_until_full(room).await;
                    if federation.remote.resyncs.release(room) {
                        return;
                    }
                }
            };
            shutdown.run_until_cancelled(work).await;
        });
    }

    /// Goes on with the rooms that were partial before the start, and with what came of those that were.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn resume_resyncs(&self) -> Result<(), RoomError> {
        for room in self.rooms.partial_rooms()? {
            self.resync(room);
        }
        self.rooms.look_at_early_invites()?;
        let federation = self.clone();
        self.tasks.spawn("device lists of partial rooms", async move { federation.settle_device_lists().await });
        Ok(())
    }

    async fn resync_until_full(&self, room: RoomNid) {
        let begun = self.clock.monotonic();
        let (mut wait, mut rounds) = (FIRST_WAIT, 0_u32);
        loop {
            rounds = rounds.saturating_add(1);
            match self.resync_once(room).await {
                Ok(Round::Again) => continue,
                Ok(Round::Left) => {
                    tracing::info!(room = room.0, rounds, "nobody is in a room any more whose state was being fetched");
                    return;
                }
                Ok(Round::Full) => {
                    let elapsed = self.clock.monotonic().saturating_sub(begun);
                    tracing::info!(room = room.0, rounds, ?elapsed, "all of a room's state is here");
                    self.sender.tell_missed(room);
                    self.settle_device_lists().await;
                    return;
                }
                Err(Failure::Remote(error)) => {
                    tracing::info!(room = room.0, rounds, %error, again_in = ?wait, "a room's state was not delivered");
                }
                Err(Failure::Local(error)) => {
                    tracing::error!(room = room.0, rounds, %error, again_in = ?wait, "a room's state was not taken in");
                }
            }
            tokio::select! {
                () = self.clock.sleep(wait) => wait = wait.saturating_mul(2).min(LONGEST_WAIT),
                // Somebody has entered the room again, by a server that can be asked.
                () = self.remote.resyncs.asked_again(room) => wait = FIRST_WAIT,
            }
        }
    }

    async fn settle_device_lists(&self) {
        if let Err(error) = self.users.settle_unsure_lists().await {
            tracing::error!(%error, "changes of device lists that came early cannot be read");
        }
    }

    async fn resync_once(&self, room: RoomNid) -> Result<Round, Failure> {
        let Some(partial) = self.rooms.partial_room(room)? else { return Ok(Round::Full) };
        let place = self.find_place(room)?;
        if !partial.is_replaying {
            // The semaphore is never closed.
            let _place = self.remote.resyncs.places.acquire().await;
            match self.gather_state(&place, &partial).await? {
                Gathered::Begun => {}
                Gathered::Outdated(round) => return Ok(round),
            }
        }
        self.replay_all(&place, &partial).await
    }

    /// Asks one server after the other for the state before the join, until one gives a state that allows it.
    async fn gather_state(&self, place: &RoomPlace, partial: &PartialRoom) -> Result<Gathered, Failure> {
        let mut failure = Failure::Local(RoomError::NotResident);
        for server in self.servers_of_partial(place.room, partial)? {
            if !self.rooms.is_resident(place.room)? {
                return Ok(Gathered::Outdated(Round::Left));
            }
            let begun = match self.fetch_state_before_join(place, partial, &server).await {
                Ok(given) => {
                    let begin = || self.rooms.begin_replay(place.room, &partial.join, given.clone());
                    match retry_busy(begin).await {
                        // Somebody has entered the room anew meanwhile.
                        Err(RoomError::Refused(_)) => return Ok(Gathered::Outdated(Round::Again)),
                        outcome => outcome.map_err(|error| blame(&server, error)),
                    }
                }
                Err(error) => Err(error),
            };
            match begun {
                Ok(()) => return Ok(Gathered::Begun),
                Err(Failure::Remote(error)) => {
                    let (room_id, destination) = (&place.room_id, &server);
                    tracing::debug!(%room_id, %destination, %error, "the state before a join was not delivered");
                    failure = Failure::Remote(error);
                }
                Err(local) => return Err(local),
            }
        }
        Err(failure)
    }

    /// Who may have the state: through whom we joined, then the others.
    fn servers_of_partial(&self, room: RoomNid, partial: &PartialRoom) -> Result<Vec<ServerName>, RoomError> {
        let mut servers = vec![partial.via.clone()];
        for server in self.sort_by_reach(self.servers_of_room(room)?) {
            if servers.len() < MAX_SERVERS && server != partial.via {
                servers.push(server);
            }
        }
        Ok(servers)
    }

    /// The states after the events that the join follows, or that before the join if these are many.
    async fn fetch_state_before_join(
        &self,
        place: &RoomPlace,
        partial: &PartialRoom,
        server: &ServerName,
    ) -> Result<Vec<GivenState>, Failure> {
        let deadline = Deadline::after(&self.clock, self.config.join_timeout.duration());
        let limits = || self.limits_of_resync(&deadline);
        if partial.follows.is_empty() || partial.follows.len() > MAX_FOLLOWED {
            let state = self.fetch_state(place, server, &partial.join, &limits()).await;
            return Ok(vec![GivenState { state: blame_gap(server, state)?, then: None }]);
        }
        let mut given = Vec::with_capacity(partial.follows.len());
        for event_id in &partial.follows {
            let state = self.fetch_state_beyond(place, server, event_id, &partial.join, &limits()).await;
            given.push(blame_gap(server, state)?);
        }
        Ok(given)
    }

    /// The state after an event, or before the one that follows it, if the server may not give the event.
    async fn fetch_state_beyond(
        &self,
        place: &RoomPlace,
        server: &ServerName,
        event_id: &EventId,
        follower: &EventId,
        limits: &StateLimits,
    ) -> Result<GivenState, GapError> {
        match self.fetch_state_after(place, server, event_id, limits).await {
            Err(GapError::Withheld) => {
                let state = self.fetch_state(place, server, follower, limits).await?;
                Ok(GivenState { state, then: None })
            }
            outcome => outcome,
        }
    }

    fn limits_of_resync(&self, deadline: &Deadline) -> StateLimits {
        StateLimits {
            time: deadline.left(self.config.join_timeout.duration()),
            ids_bytes: IDS_BYTES,
            events: MAX_STATE_EVENTS,
            state_bytes: usize::try_from(self.config.max_join_response.bytes()).unwrap_or(usize::MAX),
            despite_backoff: true,
        }
    }

    /// Has all that came since the join judged again, part by part, and then the room made full.
    async fn replay_all(&self, place: &RoomPlace, partial: &PartialRoom) -> Result<Round, Failure> {
        let room = place.room;
        let mut states = States::new(Deadline::after(&self.clock, STATES_TIME));
        for _ in 0..MAX_PASSES {
            if self.rooms.partial_room(room)?.is_none_or(|now| now.join != partial.join) {
                return Ok(Round::Again);
            }
            let rooms = self.rooms.clone();
            let read = self.tasks.compute("what is to be judged again", move || rooms.partial_events(room)).await;
            let marked = read.map_err(|_| RoomError::Busy)??;
            for part in split_parts(&marked) {
                let given = self.fetch_states_of(place, partial, part, &mut states).await?;
                let part: Vec<RoomSeq> = part.iter().map(|event| event.seq).collect();
                retry_busy(|| self.rooms.replay(room, part.clone(), given.clone())).await?;
            }
            match retry_busy(|| self.rooms.finish_partial(room)).await? {
                Finish::Done => return Ok(Round::Full),
                Finish::More => {}
            }
        }
        Err(Failure::Local(RoomError::Inconsistent("events stay marked although they were judged again")))
    }

    /// The states after what some events follow and nobody delivered. What nobody gives is left out: the events are then
    /// judged by what is known.
    async fn fetch_states_of(
        &self,
        place: &RoomPlace,
        partial: &PartialRoom,
        events: &[PartialEvent],
        states: &mut States,
    ) -> Result<Vec<(EventId, GivenState)>, Failure> {
        for event in events {
            for event_id in &event.unknown {
                if states.known.contains_key(event_id) || states.asked >= MAX_STATES || states.deadline.is_over() {
                    continue;
                }
                states.asked += 1;
                let found = self.find_state_after(place, partial, event_id, &event.id, &states.deadline).await?;
                states.known.insert(event_id.clone(), found);
            }
        }
        let unknown: BTreeSet<&EventId> = events.iter().flat_map(|event| &event.unknown).collect();
        let given = unknown.into_iter().filter_map(|id| Some((id.clone(), states.known.get(id)?.clone()?)));
        Ok(given.collect())
    }

    async fn find_state_after(
        &self,
        place: &RoomPlace,
        partial: &PartialRoom,
        event_id: &EventId,
        follower: &EventId,
        deadline: &Deadline,
    ) -> Result<Option<GivenState>, Failure> {
        for server in self.servers_of_partial(place.room, partial)? {
            if deadline.is_over() {
                break;
            }
            let limits = self.limits_of_resync(deadline);
            let state = self.fetch_state_beyond(place, &server, event_id, follower, &limits).await;
            match blame_gap(&server, state) {
                Ok(state) => return Ok(Some(state)),
                Err(Failure::Remote(error)) => {
                    let (room_id, destination) = (&place.room_id, &server);
                    tracing::debug!(%room_id, %event_id, %destination, %error, "the state at a gap was not delivered");
                }
                Err(local) => return Err(local),
            }
        }
        Ok(None)
    }
}

/// What came of asking for the state before a join.
enum Gathered {
    Begun,
    Outdated(Round),
}

/// The states that were asked for during a replay.
struct States {
    /// After which event; `None` if nobody gave it.
    known: BTreeMap<EventId, Option<GivenState>>,
    asked: usize,
    deadline: Deadline,
}

impl States {
    fn new(deadline: Deadline) -> States {
        States { known: BTreeMap::new(), asked: 0, deadline }
    }
}

/// Whose fault it is that a state could not be had.
fn blame_gap<T>(server: &ServerName, outcome: Result<T, GapError>) -> Result<T, Failure> {
    outcome.map_err(|error| match error {
        GapError::Remote(error) => Failure::Remote(error),
        GapError::Room(error) => blame(server, error),
        GapError::Unusable(reason) => Failure::malformed(server, reason),
        GapError::Withheld => Failure::malformed(server, error.to_string()),
    })
}

/// Parts of bounded number and size, in the order given.
fn split_parts(events: &[PartialEvent]) -> Vec<&[PartialEvent]> {
    let mut parts = Vec::new();
    let (mut rest, mut length, mut bytes) = (events, 0, 0_usize);
    for event in events {
        if length > 0 && (length >= PART_EVENTS || bytes.saturating_add(event.bytes) > PART_BYTES) {
            let (part, others) = rest.split_at(length);
            parts.push(part);
            (rest, length, bytes) = (others, 0, 0);
        }
        length += 1;
        bytes = bytes.saturating_add(event.bytes);
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests;

//! What waits for which pusher, in memory, and whose turn it is: nothing for pushers that nothing waits for.
//!
//! The durable side of it is in `rows.rs`. Only pure bookkeeping happens here: no reads, no clock, no waiting.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::rows::{Place, PusherKey};

#[cfg(test)]
mod tests;

/// Where a pusher is in the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Resting,
    /// In line.
    Ready,
    /// A task sends to it. Whether it counts as one that failed before.
    Sending { retrying: bool },
    /// Until this time, because it failed, or because more may come.
    Waiting(u64),
}

/// What waits for a pusher.
#[derive(Debug, Default)]
struct Lane {
    /// Notifications, oldest first.
    queued: VecDeque<Place>,
    /// Whether its badge is to be brought up to date.
    has_badge: bool,
    /// How often that was noted.
    badge_mark: u64,
    /// How often in a row it failed.
    failures: u32,
    /// Since when, in milliseconds.
    failing_since: Option<u64>,
    /// The notification that a gateway refused last, and how often.
    refused: Option<(Place, u32)>,
    state: State,
}

impl Lane {
    fn has_work(&self) -> bool {
        self.has_badge || !self.queued.is_empty()
    }
}

/// How a pusher's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It can go on at once.
    Done,
    /// It is tried again at a later time. Both in milliseconds.
    Failed { now_ms: u64, until_ms: u64 },
}

/// All pushers with something waiting.
#[derive(Debug, Default)]
pub(crate) struct Table {
    lanes: HashMap<PusherKey, Lane>,
    ready: VecDeque<PusherKey>,
    /// Those in line that failed before: they get at most half of the places, so that dead gateways do not keep living
    /// ones waiting.
    retrying: VecDeque<PusherKey>,
    timers: BTreeSet<(u64, PusherKey)>,
    sending: usize,
    sending_retries: usize,
}

impl Table {
    /// Notes a notification whose row was written.
    pub fn add(&mut self, pusher: &PusherKey, place: Place) {
        let lane = self.lanes.entry(pusher.clone()).or_default();
        if lane.queued.back().is_none_or(|last| *last < place) {
            lane.queued.push_back(place);
        } else if let Err(index) = lane.queued.binary_search(&place) {
            lane.queued.insert(index, place);
        }
        self.wake(pusher);
    }

    /// The oldest notifications of a pusher above `limit`, if `more` are added.
    pub fn overflow(&self, pusher: &PusherKey, more: usize, limit: usize) -> Vec<Place> {
        let Some(lane) = self.lanes.get(pusher) else { return Vec::new() };
        let above = (lane.queued.len() + more).saturating_sub(limit);
        lane.queued.iter().take(above).copied().collect()
    }

    /// Notes that notifications wait no more.
    pub fn remove_all(&mut self, pusher: &PusherKey, places: &[Place]) {
        for place in places {
            self.remove(pusher, *place);
        }
    }

    /// Notes that a notification waits no more.
    pub fn remove(&mut self, pusher: &PusherKey, place: Place) {
        let Some(lane) = self.lanes.get_mut(pusher) else { return };
        if let Ok(index) = lane.queued.binary_search(&place) {
            lane.queued.remove(index);
        }
    }

    /// The notifications that wait for a pusher. A place whose row was sent before it was noted here stays until
    /// somebody sees that it has no row.
    pub fn places(&self, pusher: &PusherKey) -> Vec<Place> {
        self.lanes.get(pusher).map_or_else(Vec::new, |lane| lane.queued.iter().copied().collect())
    }

    /// Notes that the gateway refused a notification; says how often it has.
    pub fn refuse(&mut self, pusher: &PusherKey, place: Place) -> u32 {
        let Some(lane) = self.lanes.get_mut(pusher) else { return 1 };
        let before = lane.refused.filter(|(refused, _)| *refused == place).map_or(0, |(_, times)| times);
        lane.refused = Some((place, before.saturating_add(1)));
        before.saturating_add(1)
    }

    /// Notes that a badge is due, from `at_ms` on: more changes may come until then.
    pub fn add_badge(&mut self, pusher: &PusherKey, at_ms: u64) {
        let lane = self.lanes.entry(pusher.clone()).or_default();
        lane.has_badge = true;
        lane.badge_mark += 1;
        if lane.state == State::Resting {
            lane.state = State::Waiting(at_ms);
            self.timers.insert((at_ms, pusher.clone()));
        }
    }

    /// Tells whether a badge became due between two looks.
    pub fn badge_mark(&self, pusher: &PusherKey) -> u64 {
        self.lanes.get(pusher).map_or(0, |lane| lane.badge_mark)
    }

    /// Notes that the badge of a pusher is as it was to be at `mark`.
    pub fn settle_badge(&mut self, pusher: &PusherKey, mark: u64) {
        if let Some(lane) = self.lanes.get_mut(pusher).filter(|lane| lane.badge_mark == mark) {
            lane.has_badge = false;
        }
    }

    /// How often in a row a pusher failed.
    pub fn failures(&self, pusher: &PusherKey) -> u32 {
        self.lanes.get(pusher).map_or(0, |lane| lane.failures)
    }

    /// Since when a pusher fails, in milliseconds.
    pub fn failing_since(&self, pusher: &PusherKey) -> Option<u64> {
        self.lanes.get(pusher).and_then(|lane| lane.failing_since)
    }

    /// Whether nothing waits for anybody.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// How many pushers something waits for.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Puts a pusher in line, unless it failed and its time has not come.
    fn wake(&mut self, pusher: &PusherKey) {
        let Some(lane) = self.lanes.get_mut(pusher).filter(|lane| lane.has_work()) else { return };
        match lane.state {
            State::Resting => {}
            State::Waiting(until) if lane.failures == 0 => {
                self.timers.remove(&(until, pusher.clone()));
            }
            State::Waiting(_) | State::Ready | State::Sending { .. } => return,
        }
        Self::enqueue(lane, pusher, &mut self.ready, &mut self.retrying);
    }

    fn enqueue(
        lane: &mut Lane,
        pusher: &PusherKey,
        ready: &mut VecDeque<PusherKey>,
        retrying: &mut VecDeque<PusherKey>,
    ) {
        lane.state = State::Ready;
        let line = if lane.failures == 0 { ready } else { retrying };
        line.push_back(pusher.clone());
    }

    /// The next pusher in line, if less than `limit` are being sent to; it is being sent to from now on.
    pub fn take_ready(&mut self, limit: usize) -> Option<PusherKey> {
        if self.sending >= limit {
            return None;
        }
        let may_retry = self.sending_retries < limit.div_ceil(2);
        let (pusher, retrying) = match self.ready.pop_front() {
            Some(pusher) => (pusher, false),
            None if may_retry => (self.retrying.pop_front()?, true),
            None => return None,
        };
        if let Some(lane) = self.lanes.get_mut(&pusher) {
            lane.state = State::Sending { retrying };
            self.sending += 1;
            self.sending_retries += usize::from(retrying);
        }
        Some(pusher)
    }

    /// Ends a turn that [`Table::take_ready`] began. A pusher that nothing waits for is forgotten.
    pub fn end_turn(&mut self, pusher: &PusherKey, turn: Turn) {
        let Some(lane) = self.lanes.get_mut(pusher) else { return };
        if let State::Sending { retrying } = lane.state {
            self.sending = self.sending.saturating_sub(1);
            self.sending_retries -= usize::from(retrying).min(self.sending_retries);
        }
        lane.state = State::Resting;
        match turn {
            _ if !lane.has_work() => {
                self.lanes.remove(pusher);
            }
            Turn::Done => {
                (lane.failures, lane.failing_since) = (0, None);
                self.wake(pusher);
            }
            Turn::Failed { now_ms, until_ms } => {
                lane.failures = lane.failures.saturating_add(1);
                lane.failing_since.get_or_insert(now_ms);
                lane.state = State::Waiting(until_ms);
                self.timers.insert((until_ms, pusher.clone()));
            }
        }
    }

    /// Puts those in line whose time has come.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some((at, pusher)) = self.timers.first().cloned() {
            if at > now_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(lane) = self.lanes.get_mut(&pusher) {
                Self::enqueue(lane, &pusher, &mut self.ready, &mut self.retrying);
            }
        }
    }

    /// When the next timer ends, in milliseconds.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }
}

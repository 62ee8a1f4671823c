//! Whether a queue stands on the way, told by the one-way delay.
use std::collections::VecDeque;

use super::{
    Micros,
    base::Base,
    group::{Arrival, Group},
};

/// How much of the receiver's time the trend is taken over.
const SPAN: Micros = 500_000;
/// How many groups the trend is taken over at most.
const GROUPS: usize = 100;
/// So many groups are kept however long ago they came: a very narrow way carries few.
const GROUPS_LEAST: usize = 5;
/// A queue has to stand this long.
const STANDS: Micros = 110_000;
/// A queue has to be met by this many groups,
const MET_BY: usize = 3;
/// and by this many datagrams: a few late ones prove nothing.
const MET_BY_PACKETS: u32 = 10;
/// A queue is at least this deep, and as much deeper as the arrivals scatter.
const DEPTH: f64 = 15.0;
/// The bounds of the scatter of the arrivals, in milliseconds.
const SCATTER: (f64, f64) = (5.0, 40.0);
/// How fast the scatter is followed upwards and downwards, per millisecond.
const FOLLOW: (f64, f64) = (0.005, 0.0002);
/// A trend this far beyond the scatter is no scatter, in milliseconds.
const NO_SCATTER: f64 = 15.0;
/// A queue that rises slowly is told by this growth since it began, in milliseconds.
const GROWN: f64 = 14.0;
/// A queue runs over when this share is lost while it stands.
const OVERRUN: f64 = 0.2;
/// A way that became longer loses less than this share.
const LOSSLESS: f64 = 0.08;
/// Fewer lost datagrams than these prove nothing.
const LOST: u32 = 4;
/// The delay of a way that became longer is level over this time,
const LEVEL_FOR: Micros = 600_000;
/// to this extent.
const LEVEL: Micros = 6_000;
/// A queue that nothing was sent into for this long is taken for empty.
const EMPTIES: Micros = 2_000_000;
/// A delay that changed by more is a receiver's clock that was set.
const CLOCK_SET: Micros = 4_000_000;

/// What the delay tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// No queue.
    Free,
    /// There is a queue, that does not grow.
    Queue,
    /// A queue grows or runs over.
    Overuse {
        /// What the receiver gets meanwhile, in bit/s.
        capacity: f64,
        /// How deep the queue is, in milliseconds.
        depth: f64,
    },
}

/// A queue that has stood for some time.
#[derive(Debug)]
struct Standing {
    since: Micros,
    packets: u32,
    /// The depth of the group before, and the least depth within the first 100 ms.
    before: Micros,
    first: Micros,
    /// The least depths of the spans of time since, newest last.
    level: VecDeque<(i64, Micros)>,
}

/// Follows the one-way delay.
#[derive(Debug)]
pub(super) struct Delay {
    base: Base,
    open: Option<Group>,
    /// The groups of the last half second and their depth in the queue.
    groups: VecDeque<(Group, Micros)>,
    standing: Option<Standing>,
    scatter: f64,
    verdict: Verdict,
    /// The groups sent before this time say nothing new.
    fresh: Micros,
    /// Whether the estimate fell since there is a queue.
    tried: bool,
    /// Whether less is sent than the estimate allows.
    spare: bool,
    /// Whether the way was found to have become longer.
    longer: bool,
}

impl Delay {
    pub(super) fn new() -> Delay {
        Delay {
            base: Base::default(),
            open: None,
            groups: VecDeque::new(),
            standing: None,
            scatter: SCATTER.0,
            verdict: Verdict::Free,
            fresh: Micros::MIN,
            tried: false,
            spare: true,
            longer: false,
        }
    }

    /// What the groups up to now tell. An overuse is told once.
    pub(super) fn take_verdict(&mut self) -> Verdict {
        let verdict = self.verdict;
        if matches!(verdict, Verdict::Overuse { .. }) {
            self.verdict = Verdict::Queue;
        }
        verdict
    }

    /// Whether there is a queue, growing or not, as far as is known.
    pub(super) fn is_queueing(&self, now: Micros) -> bool {
        let known = self.open.is_some_and(|open| now.saturating_sub(open.first_sent()) < EMPTIES);
        known && self.verdict != Verdict::Free
    }

    /// Whether the way became longer since this was last asked.
    pub(super) fn take_longer(&mut self) -> bool {
        std::mem::take(&mut self.longer)
    }

    /// The estimate fell: only what is sent from now on tells whether that was enough.
    pub(super) fn restart(&mut self, now: Micros) {
        self.fresh = now;
        self.standing = None;
        self.tried = true;
    }

    /// Notes whether less is sent than the estimate allows.
    pub(super) fn set_spare(&mut self, spare: bool) {
        self.spare = spare;
    }

    /// Takes in a datagram that did not come.
    pub(super) fn note_lost(&mut self) {
        if let Some(open) = self.open.as_mut() {
            open.lost = open.lost.saturating_add(1);
        }
    }

    /// Takes in a datagram that came, in the order of sending.
    pub(super) fn note(&mut self, arrival: Arrival) {
        let Some(open) = self.open.as_mut() else {
            self.begin(arrival);
            return;
        };
        if arrival.sent < open.first_sent() {
            return;
        }
        if arrival.delay().abs_diff(open.delay) > CLOCK_SET.unsigned_abs() {
            *self = Delay { scatter: self.scatter, fresh: self.fresh, ..Delay::new() };
            self.begin(arrival);
        } else if open.takes(arrival) {
            open.add(arrival);
            self.base.note(arrival.sent, arrival.delay(), self.verdict != Verdict::Free);
        } else {
            let done = *open;
            self.begin(arrival);
            self.finish(done);
        }
    }

    fn begin(&mut self, arrival: Arrival) {
        self.base.note(arrival.sent, arrival.delay(), self.verdict != Verdict::Free);
        self.open = Some(Group::new(arrival));
    }

    fn finish(&mut self, group: Group) {
        let Some(base) = self.base.get() else { return };
        let depth = group.delay.saturating_sub(base).max(0);
        let before = self.groups.back().map_or(0, |(_, depth)| *depth);
        let elapsed = self.groups.back().map_or(0, |(last, _)| group.last_came.saturating_sub(last.last_came));
        self.groups.push_back((group, depth));
        self.forget(group.last_came.saturating_sub(SPAN));
        if millis(depth) < DEPTH + self.scatter {
            self.standing = None;
            self.tried = false;
            self.verdict = Verdict::Free;
            self.follow_scatter(elapsed);
            return;
        }
        if group.first_sent() < self.fresh {
            self.verdict = Verdict::Queue;
            return;
        }
        let standing = self.standing.get_or_insert_with(|| Standing {
            since: group.last_came,
            packets: 0,
            before,
            first: depth,
            level: VecDeque::new(),
        });
        standing.note(&group, depth);
        let since = standing.since;
        let (level, at_once) = (standing.is_level(), standing.came_at_once());
        let level = level && !self.has_lost(LOSSLESS, since);
        if level && (self.tried || (self.spare && at_once)) {
            self.lengthen(&group);
        } else {
            self.verdict = self.judge(group.last_came, level);
        }
    }

    /// Forgets the groups that came before a time, and those beyond the bound.
    fn forget(&mut self, before: Micros) {
        while self.groups.len() > GROUPS
            || (self.groups.len() > GROUPS_LEAST && self.groups.front().is_some_and(|(old, _)| old.last_came < before))
        {
            self.groups.pop_front();
        }
    }

    /// The groups that came since a time.
    fn since(&self, time: Micros) -> impl Iterator<Item = &(Group, Micros)> + Clone {
        self.groups.iter().filter(move |(group, _)| group.last_came >= time)
    }

    /// Whether this share was lost since a time.
    fn has_lost(&self, share: f64, since: Micros) -> bool {
        let (lost, came) = self.since(since).fold((0u32, 0u32), |(lost, came), (group, _)| {
            (lost.saturating_add(group.lost), came.saturating_add(group.packets))
        });
        lost >= LOST && f64::from(lost) >= share * f64::from(lost.saturating_add(came))
    }

    /// Takes what stood as a queue for a longer way: it neither grows nor empties.
    fn lengthen(&mut self, group: &Group) {
        self.base.set(group.first_sent(), group.delay);
        self.groups.clear();
        self.standing = None;
        self.tried = false;
        self.longer = true;
        self.verdict = Verdict::Free;
    }

    /// Learns how much the delay scatters while there is no queue.
    fn follow_scatter(&mut self, elapsed: Micros) {
        let trend = trend(self.groups.iter()).abs();
        if trend > self.scatter + NO_SCATTER || self.groups.iter().any(|(group, _)| group.probe) {
            return;
        }
        let speed = if trend > self.scatter { FOLLOW.0 } else { FOLLOW.1 };
        let time = millis(elapsed).clamp(0.0, 100.0);
        self.scatter = (self.scatter + time * speed * (trend - self.scatter)).clamp(SCATTER.0, SCATTER.1);
    }

    /// Judges a queue that stands. Where it is level while all of the estimate is sent, only a fall can tell whether
    /// it is one.
    fn judge(&self, now: Micros, level: bool) -> Verdict {
        let Some(standing) = &self.standing else { return Verdict::Free };
        let met = self.since(standing.since);
        let short = now.saturating_sub(standing.since) < STANDS || standing.packets < MET_BY_PACKETS;
        if short || met.clone().count() < MET_BY {
            return Verdict::Queue;
        }
        let trend = trend(met.clone());
        let falls = trend < -0.5 * self.scatter;
        let full = self.has_lost(OVERRUN, standing.since) || standing.has_grown();
        if trend >= self.scatter || (full && !falls) || (level && !self.spare) {
            let depth = self.groups.back().map_or(0.0, |(_, depth)| millis(*depth));
            capacity(met).map_or(Verdict::Queue, |capacity| Verdict::Overuse { capacity, depth })
        } else {
            Verdict::Queue
        }
    }
}

impl Standing {
    /// Notes the depth met by a group.
    fn note(&mut self, group: &Group, depth: Micros) {
        let now = group.last_came;
        self.packets = self.packets.saturating_add(group.packets);
        if now.saturating_sub(self.since) < 100_000 {
            self.first = self.first.min(depth);
        }
        let span = now.div_euclid(LEVEL_FOR / 3);
        match self.level.back_mut() {
            Some((newest, least)) if *newest >= span => *least = (*least).min(depth),
            _ => self.level.push_back((span, depth)),
        }
        while self.level.len() > 5 {
            self.level.pop_front();
        }
    }

    /// The least depths of the spans that are over, newest first.
    fn levels(&self) -> impl Iterator<Item = Micros> + '_ {
        self.level.iter().rev().skip(1).map(|(_, depth)| *depth)
    }

    /// Whether the delay went up at once.
    fn came_at_once(&self) -> bool {
        self.first.saturating_sub(self.before) >= self.first / 2
    }

    /// Whether the delay has been level for some time.
    fn is_level(&self) -> bool {
        let levels: Vec<_> = self.levels().take(3).collect();
        let (Some(least), Some(most)) = (levels.iter().min(), levels.iter().max()) else { return false };
        levels.len() == 3 && most.saturating_sub(*least) <= LEVEL
    }

    /// Whether the queue has become deeper since it began.
    fn has_grown(&self) -> bool {
        self.levels().next().is_some_and(|now| millis(now.saturating_sub(self.first)) >= GROWN)
    }
}

/// What the receiver gets while a queue stands: that is all the way carries, in bit/s.
fn capacity<'a>(mut met: impl Iterator<Item = &'a (Group, Micros)>) -> Option<f64> {
    let (first, _) = met.next()?;
    let (bytes, last) = met.fold((0u64, first.last_came), |(bytes, last), (group, _)| {
        (bytes.saturating_add(group.bytes), last.max(group.last_came))
    });
    let span = last.saturating_sub(first.last_came);
    (span >= STANDS / 2).then(|| bytes as f64 * 8.0 / (span as f64 / 1e6))
}

/// How much the depth grows over the time of some groups, in milliseconds, by the line of least squares.
fn trend<'a>(groups: impl Iterator<Item = &'a (Group, Micros)> + Clone) -> f64 {
    let points = groups.map(|(group, depth)| (millis(group.last_came), millis(*depth)));
    let (count, x_sum, y_sum) = points.clone().fold((0.0, 0.0, 0.0), |(n, xs, ys), (x, y)| (n + 1.0, xs + x, ys + y));
    if count < 3.0 {
        return 0.0;
    }
    let (x_mean, y_mean) = (x_sum / count, y_sum / count);
    let (mut upper, mut lower) = (0.0, 0.0);
    let (mut least, mut most) = (f64::MAX, f64::MIN);
    for (x, y) in points {
        upper += (x - x_mean) * (y - y_mean);
        lower += (x - x_mean) * (x - x_mean);
        (least, most) = (least.min(x), most.max(x));
    }
    if lower <= 0.0 { 0.0 } else { upper / lower * (most - least) }
}

fn millis(micros: Micros) -> f64 {
    micros as f64 / 1000.0
}

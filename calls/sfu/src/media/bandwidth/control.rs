//! How the estimate rises and falls.
use super::Micros;

/// The estimate never falls below this, in bit/s.
pub const FLOOR: f64 = 30_000.0;
/// The estimate never rises above this, in bit/s.
pub const CEILING: f64 = 100_000_000.0;
/// What is left of the capacity found when a queue grows: the rest empties the queue.
const FALL: f64 = 0.85;
/// What is left of it when the queue is deep, which would take long to empty.
const FALL_DEEP: f64 = 0.7;
/// From where on a queue is deep, and where it is so fully, in milliseconds.
const DEEP: (f64, f64) = (150.0, 500.0);
/// The growth per second while the capacity is far.
const GROWTH: f64 = 1.08;
/// The datagram that is added per response time and a tenth of a second near the capacity, in bit.
const PACKET: f64 = 1100.0 * 8.0;
/// How far the estimate may get ahead of what the receiver confirms,
const AHEAD: f64 = 1.5;
/// and by how much more, in bit/s.
const AHEAD_BITS: f64 = 10_000.0;
/// The part of what the receiver confirms that is surely no mistake of measuring.
const THROUGH: f64 = 0.9;
/// The floor of falls by silence, in bit/s.
const SILENCE_FLOOR: f64 = 50_000.0;

/// The estimate and the capacity met last.
#[derive(Debug)]
pub(super) struct Control {
    value: f64,
    capacity: Option<Capacity>,
    /// When the estimate was last looked at for a rise.
    updated: Option<Micros>,
    /// When it last fell.
    fell: Option<Micros>,
}

/// The capacity at which a queue grew, in bit/s.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    mean: f64,
    /// The deviation as a share of the mean.
    deviation: f64,
}

impl Capacity {
    fn first(rate: f64) -> Capacity {
        Capacity { mean: rate, deviation: 0.06 }
    }

    fn note(self, rate: f64) -> Capacity {
        if !self.is_near(rate) {
            return Capacity::first(rate);
        }
        let off = ((rate - self.mean) / self.mean).abs();
        Capacity {
            mean: self.mean + 0.2 * (rate - self.mean),
            deviation: (self.deviation + 0.1 * (off - self.deviation)).clamp(0.05, 0.12),
        }
    }

    fn is_near(self, rate: f64) -> bool {
        (rate - self.mean).abs() <= 3.0 * self.deviation * self.mean
    }
}

impl Control {
    pub(super) fn new(first: u64) -> Control {
        Control { value: (first as f64).clamp(FLOOR, CEILING), capacity: None, updated: None, fell: None }
    }

    /// The estimate in bit/s.
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// When the estimate fell last.
    pub(super) fn fell(&self) -> Option<Micros> {
        self.fell
    }

    /// Whether the estimate is about the capacity met last.
    pub(super) fn is_at_capacity(&self) -> bool {
        self.capacity.is_some_and(|known| known.is_near(self.value) && self.value >= 0.95 * known.mean)
    }

    /// A queue of `depth` ms grows while the receiver gets `capacity` bit/s: this is all the way carries.
    pub(super) fn fall_to(&mut self, capacity: f64, depth: f64, now: Micros) {
        self.capacity = Some(self.capacity.map_or(Capacity::first(capacity), |known| known.note(capacity)));
        let deep = ((depth - DEEP.0) / (DEEP.1 - DEEP.0)).clamp(0.0, 1.0);
        self.lower((FALL - (FALL - FALL_DEEP) * deep) * capacity, now);
    }

    /// Too much gets lost. The estimate does not fall below what still gets through, with room left for it.
    pub(super) fn fall_by_loss(&mut self, share: f64, acknowledged: Option<f64>, now: Micros) {
        let through = acknowledged.map_or(0.0, |rate| rate * FALL);
        self.lower((self.value * (1.0 - 0.5 * share)).max(through), now);
    }

    /// Nothing is heard of what was sent.
    pub(super) fn fall_by_silence(&mut self, now: Micros) {
        self.lower((self.value * 0.5).max(SILENCE_FLOOR), now);
    }

    fn lower(&mut self, value: f64, now: Micros) {
        self.value = value.min(self.value).clamp(FLOOR, CEILING);
        self.fell = Some(now);
        self.updated = Some(now);
    }

    /// A probe got through at a rate.
    pub(super) fn raise_to(&mut self, rate: f64) {
        if rate > self.value {
            self.value = rate.clamp(FLOOR, CEILING);
        }
        if self.capacity.is_some_and(|known| rate > known.mean && !known.is_near(rate)) {
            self.capacity = None;
        }
    }

    /// Lets time pass. The estimate rises if `may_rise`, as far as `acknowledged` bears it out.
    pub(super) fn pass(&mut self, may_rise: bool, acknowledged: Option<f64>, response: Micros, now: Micros) {
        let before = self.updated.replace(now).unwrap_or(now);
        let Some(acknowledged) = acknowledged.filter(|_| may_rise) else { return };
        if self.capacity.is_some_and(|known| acknowledged > known.mean && !known.is_near(acknowledged)) {
            self.capacity = None;
        }
        let seconds = (now.saturating_sub(before).clamp(0, 1_000_000)) as f64 / 1e6;
        let mut risen = self.value * GROWTH.powf(seconds);
        if self.capacity.is_some_and(|known| known.is_near(self.value)) {
            let step = response.clamp(0, 2_000_000).saturating_add(100_000);
            risen = risen.min(self.value + seconds * PACKET / (step as f64 / 1e6));
        }
        // What was not tried is not known: a sender with little to send keeps its estimate, and gains nothing.
        let borne = acknowledged * AHEAD + AHEAD_BITS;
        // An SFU may send more than the estimate before it is told to send less. What comes through of that without a queue
        // is carried.
        self.value = risen.min(borne).max(self.value).max(acknowledged * THROUGH).min(CEILING);
    }
}

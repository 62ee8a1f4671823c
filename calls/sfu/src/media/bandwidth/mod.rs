//! How much the way to one receiver carries.
//!
//! The estimate is made by the sender, from what the receiver reports of each datagram (transport-wide feedback), in
//! the manner of Google Congestion Control (draft-ietf-rmcat-gcc-02):
//!
//! - `delay`: a one-way delay that stays above that of the empty way, and grows, is a queue: the estimate falls to
//!   85 % of what the receiver gets meanwhile. A receiver that only reads its socket late shows no queue: the last
//!   datagram of those it reads at once is on time.
//! - `loss`: losses beyond 10 % lower the estimate.
//! - `control`: else it rises slowly, as far as what is sent bears it out.
//! - `probing`: bursts find more room faster.
//!
//! All time comes with the calls.
mod acknowledged;
mod base;
mod control;
mod delay;
mod group;
mod history;
mod loss;
mod probing;
#[cfg(test)]
mod tests;

#[cfg(feature = "fuzzing")]
pub use control::{CEILING, FLOOR};

use std::time::{Duration, Instant};

use self::{
    acknowledged::Acknowledged,
    control::Control,
    delay::{Delay, Verdict},
    group::Arrival,
    history::{Fate, History, Sent},
    loss::Loss,
    probing::{Probing, Room},
};

/// Microseconds since a time that does not matter.
type Micros = i64;

/// Without feedback for this long, the way is held to be broken or blocked.
const SILENCE: Micros = 1_500_000;
/// So many datagrams must be without feedback for that.
const SILENCE_PACKETS: u32 = 20;
/// A sender that has stopped for this long is not answered with silence.
const SILENCE_PAUSE: Micros = 1_800_000;
/// During a silence the estimate falls this often.
const SILENCE_FALLS: Micros = 1_000_000;
/// The response time assumed until one was measured.
const RESPONSE: Micros = 200_000;
/// What the receiver confirmed counts for this long.
const STALE: Micros = 1_000_000;
/// A sender that uses less than this share of the estimate fills no queue.
const SPARE: f64 = 0.85;
/// The least time between falls by loss is this and the response time.
const LOSS_FALLS: Micros = 300_000;

/// What the receiver said about one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The transport-wide sequence number, extended to 64 bits.
    pub number: u64,
    /// When it came, on the receiver's clock, of which only differences mean anything. None: reported as not received.
    pub arrival: Option<Duration>,
}

/// A burst that is to be sent now, to look for more room. Its datagrams are to leave one after the other at the rate
/// asked for: sent all at once, they measure nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Names the probe in [`Bandwidth::note_sent`].
    pub id: u32,
    /// How fast it is to be sent, in bit/s.
    pub rate: u64,
    /// How much is to be sent in all, in bytes.
    pub bytes: usize,
}

/// The estimate of one connection.
#[derive(Debug)]
pub struct Bandwidth {
    epoch: Option<Instant>,
    history: History,
    acknowledged: Acknowledged,
    delay: Delay,
    loss: Loss,
    control: Control,
    probing: Probing,
    silence: Silence,
    wish: f64,
    rtt: Option<Micros>,
    measured: bool,
    /// When anything was last reported as received.
    heard: Option<Micros>,
    fell_by_loss: Option<Micros>,
}

/// What was sent since the last feedback.
#[derive(Debug, Default)]
struct Silence {
    since: Option<Micros>,
    last: Micros,
    packets: u32,
    fell: Option<Micros>,
}

impl Bandwidth {
    /// Starts with `first` bit/s, which is assumed until something is measured.
    pub fn new(first: u64) -> Bandwidth {
        Bandwidth {
            epoch: None,
            history: History::default(),
            acknowledged: Acknowledged::new(),
            delay: Delay::new(),
            loss: Loss::default(),
            control: Control::new(first),
            probing: Probing::default(),
            silence: Silence::default(),
            wish: 0.0,
            rtt: None,
            measured: false,
            heard: None,
            fell_by_loss: None,
        }
    }

    /// Notes a datagram that has left: its transport-wide sequence number, which goes up by one each time, its whole
    /// size in bytes, and the probe it belongs to.
    pub fn note_sent(&mut self, number: u64, bytes: usize, probe: Option<u32>, now: Instant) {
        let at = self.micros(now);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.history.push(number, Sent { at, bytes, probe, fate: Fate::Waiting });
        self.silence.since.get_or_insert(at);
        self.silence.last = at;
        self.silence.packets = self.silence.packets.saturating_add(1);
        if let Some(id) = probe {
            self.probing.note_sent(id, number, bytes, at);
        }
    }

    /// Notes one feedback message, in the order of its numbers. Numbers that were not sent, or long ago, and what was
    /// said before are left out.
    pub fn note_feedback(&mut self, outcomes: &[Outcome], now: Instant) {
        let now = self.micros(now);
        let mut newest = None;
        self.delay.set_spare(self.has_spare(now));
        for outcome in outcomes {
            let Some(sent) = self.history.report(outcome.number, outcome.arrival.is_some()) else { continue };
            newest = newest.max(Some(outcome.number));
            self.take_in(outcome, sent, now);
        }
        let Some(newest) = newest else {
            self.note_silence(now);
            return;
        };
        self.silence.end(&mut self.probing);
        self.adjust(newest, now);
    }

    /// Notes that time passes; to be called at least every 400 ms.
    pub fn note_time(&mut self, now: Instant) {
        let now = self.micros(now);
        self.note_silence(now);
    }

    /// What the way is held to carry now, in bit/s.
    pub fn value(&self) -> u64 {
        self.control.value() as u64
    }

    /// Whether any feedback gave a measure yet.
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// From sending a datagram to its feedback, smoothed.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_micros(rtt.unsigned_abs()))
    }

    /// The share of datagrams lost recently, 0 to 1.
    pub fn loss(&self) -> f32 {
        self.loss.share() as f32
    }

    /// What the owner would send if there was room, in bit/s; 0: nothing.
    pub fn set_wish(&mut self, bits: u64) {
        self.wish = bits as f64;
    }

    /// A burst that is to be sent now, if it is time for one.
    pub fn next_probe(&mut self, now: Instant) -> Option<Probe> {
        let now = self.micros(now);
        let heard = self.rtt.is_some() && !self.silence.is_long(now);
        // At the limit a probe only fills the queue, and if the way became wider, the estimate soon leaves the limit.
        let at_limit = !self.has_spare(now) && self.control.is_at_capacity();
        if !heard || at_limit || self.delay.is_queueing(now) {
            return None;
        }
        let room = Room { value: self.control.value(), wish: self.wish, fell: self.control.fell() };
        self.probing.next(&room, now)
    }

    /// What the receiver confirms, in bit/s, if it did so lately.
    fn acknowledged(&self, now: Micros) -> Option<f64> {
        self.heard.filter(|heard| now.saturating_sub(*heard) < STALE)?;
        self.acknowledged.rate()
    }

    /// Whether less is sent than the estimate allows.
    fn has_spare(&self, now: Micros) -> bool {
        self.acknowledged(now).is_none_or(|rate| rate < SPARE * self.control.value())
    }

    /// Takes in what became of a datagram.
    fn take_in(&mut self, outcome: &Outcome, sent: Sent, now: Micros) {
        let arrival = outcome.arrival.map(clamped);
        if let Some(id) = sent.probe {
            self.probing.note_fate(id, &sent, arrival);
        }
        // A probe may overrun the way, and a fall must show first.
        let counts = sent.probe.is_none() && self.control.fell().is_none_or(|fell| sent.at >= fell);
        match arrival {
            Some(came) => {
                self.heard = Some(now);
                self.note_response(now.saturating_sub(sent.at));
                self.acknowledged.note(came, sent.bytes);
                self.delay.note(Arrival { sent: sent.at, came, bytes: sent.bytes, probe: sent.probe.is_some() });
                if counts && sent.fate == Fate::Lost {
                    self.loss.recover();
                } else if counts {
                    self.loss.note(false);
                }
            }
            None => {
                if sent.probe.is_none() {
                    self.delay.note_lost();
                }
                if counts {
                    self.loss.note(true);
                }
            }
        }
    }

    /// Draws the consequences of one feedback message that told something new.
    fn adjust(&mut self, newest: u64, now: Micros) {
        let acknowledged = self.acknowledged(now);
        self.measured |= acknowledged.is_some();
        let response = self.rtt.unwrap_or(RESPONSE);
        let verdict = self.delay.take_verdict();
        if self.delay.take_longer() {
            self.probing.hurry();
        }
        if let Verdict::Overuse { capacity, depth } = verdict {
            self.control.fall_to(capacity, depth, now);
            self.delay.restart(now);
            self.loss.restart(now);
            self.measured = true;
        }
        let heavy = self.loss.judge(now);
        if let Some(share) = heavy {
            let pause = LOSS_FALLS.saturating_add(response);
            if self.fell_by_loss.is_none_or(|fell| now.saturating_sub(fell) >= pause) {
                self.control.fall_by_loss(share, acknowledged, now);
                self.loss.restart(now);
                self.fell_by_loss = Some(now);
            }
        }
        let settled = self.control.fell().is_none_or(|fell| now.saturating_sub(fell) >= response);
        let may_rise = verdict == Verdict::Free && heavy.is_none() && settled;
        self.control.pass(may_rise, acknowledged, response, now);
        if let Some(rate) = self.probing.judge(newest, self.control.value(), response, now) {
            self.control.raise_to(rate);
            self.measured = true;
        }
    }

    fn note_response(&mut self, response: Micros) {
        let response = response.max(0);
        self.rtt = Some(self.rtt.map_or(response, |rtt| rtt.saturating_mul(15).saturating_add(response) / 16));
    }

    fn note_silence(&mut self, now: Micros) {
        if !self.silence.is_long(now) {
            return;
        }
        if self.silence.fell.is_none_or(|fell| now.saturating_sub(fell) >= SILENCE_FALLS) {
            self.silence.fell = Some(now);
            self.control.fall_by_silence(now);
        }
    }

    /// The time since the first call.
    fn micros(&mut self, now: Instant) -> Micros {
        let epoch = *self.epoch.get_or_insert(now);
        clamped(now.saturating_duration_since(epoch))
    }
}

impl Silence {
    /// Whether nothing was heard for too long of what was sent.
    fn is_long(&self, now: Micros) -> bool {
        let sends = now.saturating_sub(self.last) < SILENCE_PAUSE;
        sends && self.packets > SILENCE_PACKETS && self.since.is_some_and(|since| now.saturating_sub(since) > SILENCE)
    }

    fn end(&mut self, probing: &mut Probing) {
        if self.fell.is_some() {
            probing.hurry();
        }
        *self = Silence::default();
    }
}

/// A time in microseconds, kept so small that differences never overflow.
fn clamped(time: Duration) -> Micros {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

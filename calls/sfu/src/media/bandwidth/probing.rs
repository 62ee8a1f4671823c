//! Bursts that look for more room.
use super::{
    Micros, Probe, control,
    history::{Fate, Sent},
};

/// How long a burst lasts at least, in seconds.
const LASTS: f64 = 0.015;
/// The least size of a burst, in bytes: five datagrams, large ones or small ones;
const BYTES: (f64, f64) = (1250.0, 5000.0);
/// in between as much as the estimate carries in this time, in seconds: it may fill the queue of a narrow way.
const FILLS: f64 = 0.06;
/// A burst whose outcome does not come within this time is forgotten.
const FORGOTTEN: Micros = 2_000_000;
/// A burst that was not sent whole within this time is judged by what was sent.
const SENDING: Micros = 1_000_000;
/// The least time between two bursts.
const APART: Micros = 200_000;
/// How long to wait after a burst that told nothing of the way: too little was reported, or the measure was coarse.
const UNTOLD: Micros = 1_000_000;
/// How long there is no burst after the estimate fell.
const CALM: Micros = 1_500_000;
/// How long to wait after the first failure, the second, and all others.
const WAITS: [Micros; 3] = [600_000, 2_000_000, 4_000_000];
/// How many datagrams of a burst must have come.
const PACKETS: u32 = 4;
/// Which share of a burst must have come.
const SHARE: f64 = 0.8;
/// A burst that comes slower than this share of its rate met the way's limit.
const LIMITED: f64 = 0.9;
/// The part of a limit that is taken.
const TAKEN: f64 = 0.95;
/// A burst that measures this share of its rate was not held back,
const GAINED: f64 = 0.7;
/// and gained something if that is so much more than the estimate.
const MORE: f64 = 1.03;

/// The burst on its way.
#[derive(Debug)]
struct Burst {
    probe: Probe,
    issued: Micros,
    sent: Count,
    last_number: u64,
    received: Count,
    reported: u32,
}

/// Some datagrams and the time they took.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    packets: u32,
    bytes: u64,
    first: Micros,
    last: Micros,
    first_bytes: u32,
    last_bytes: u32,
}

impl Count {
    fn note(&mut self, at: Micros, bytes: u32) {
        if self.packets == 0 || at < self.first {
            (self.first, self.first_bytes) = (at, bytes);
        }
        if self.packets == 0 || at >= self.last {
            (self.last, self.last_bytes) = (at, bytes);
        }
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
    }

    fn rate(&self, without: u32) -> f64 {
        let span = self.last.saturating_sub(self.first).max(1) as f64 / 1e6;
        self.bytes.saturating_sub(u64::from(without)) as f64 * 8.0 / span
    }
}

/// Decides when to probe, and what a probe found.
#[derive(Debug, Default)]
pub(super) struct Probing {
    burst: Option<Burst>,
    last_id: u32,
    /// Not before this time. None: at once.
    next: Option<Micros>,
    failures: usize,
}

/// What bears on the next probe.
pub(super) struct Room {
    /// The estimate in bit/s.
    pub(super) value: f64,
    /// What would be sent if there was room, in bit/s.
    pub(super) wish: f64,
    /// When the estimate fell last.
    pub(super) fell: Option<Micros>,
}

impl Probing {
    /// The burst to send now, if it is time for one.
    pub(super) fn next(&mut self, room: &Room, now: Micros) -> Option<Probe> {
        self.forget(now);
        let calm = room.fell.is_none_or(|fell| now.saturating_sub(fell) >= CALM);
        let due = self.next.is_none_or(|next| now >= next);
        if self.burst.is_some() || !calm || !due || room.wish <= room.value {
            return None;
        }
        let rate = (room.value * 2.0).min(room.wish * 1.2).min(control::CEILING);
        // Arrivals that scatter spoil a short burst more than a long one.
        let lasts = LASTS * (1.0 + self.failures.min(2) as f64);
        self.last_id = self.last_id.wrapping_add(1);
        let least = (room.value * FILLS / 8.0).clamp(BYTES.0, BYTES.1);
        let probe = Probe { id: self.last_id, rate: rate as u64, bytes: (rate * lasts / 8.0).max(least) as usize };
        self.burst = Some(Burst {
            probe,
            issued: now,
            sent: Count::default(),
            last_number: 0,
            received: Count::default(),
            reported: 0,
        });
        Some(probe)
    }

    /// Notes a datagram of a burst that has left.
    pub(super) fn note_sent(&mut self, id: u32, number: u64, bytes: u32, now: Micros) {
        if let Some(burst) = self.burst.as_mut().filter(|burst| burst.probe.id == id) {
            burst.sent.note(now, bytes);
            burst.last_number = number;
        }
    }

    /// Notes what became of a datagram of a burst.
    pub(super) fn note_fate(&mut self, id: u32, sent: &Sent, arrival: Option<Micros>) {
        if let Some(burst) = self.burst.as_mut().filter(|burst| burst.probe.id == id) {
            burst.reported = burst.reported.saturating_add(u32::from(sent.fate == Fate::Waiting));
            if let Some(arrival) = arrival {
                burst.received.note(arrival, sent.bytes);
            }
        }
    }

    /// What the burst measured in bit/s, once feedback reached its end; `newest` is the highest number reported, and
    /// `value` the estimate.
    pub(super) fn judge(&mut self, newest: u64, value: f64, response: Micros, now: Micros) -> Option<f64> {
        let burst = self.burst.as_ref()?;
        let whole = burst.sent.bytes >= burst.probe.bytes as u64 || now.saturating_sub(burst.issued) >= SENDING;
        let told = burst.reported >= burst.sent.packets || newest > burst.last_number;
        if !whole || !told || burst.sent.packets == 0 {
            return None;
        }
        let burst = self.burst.take()?;
        let measured = burst.measure();
        let through = measured.filter(|rate| *rate >= GAINED * burst.probe.rate as f64);
        if through.is_some_and(|rate| rate >= MORE * value) {
            self.failures = 0;
            self.next = Some(burst.issued.saturating_add(response.max(APART)));
        } else if through.is_some() && self.failures < WAITS.len() {
            self.failures = self.failures.saturating_add(1);
            self.next = Some(now.saturating_add(UNTOLD));
        } else if f64::from(burst.reported) < SHARE * f64::from(burst.sent.packets) {
            self.next = Some(now.saturating_add(UNTOLD));
        } else {
            self.fail(now);
        }
        measured
    }

    /// Lets the next probe come at once.
    pub(super) fn hurry(&mut self) {
        self.failures = 0;
        self.next = None;
    }

    fn fail(&mut self, now: Micros) {
        let wait = WAITS.get(self.failures).or(WAITS.last()).copied().unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now.saturating_add(wait));
    }

    /// Gives up a burst that nothing was heard of.
    fn forget(&mut self, now: Micros) {
        if self.burst.as_ref().is_some_and(|burst| now.saturating_sub(burst.issued) >= FORGOTTEN) {
            self.burst = None;
            self.next = Some(now.saturating_add(UNTOLD));
        }
    }
}

impl Burst {
    fn measure(&self) -> Option<f64> {
        let (sent, received) = (&self.sent, &self.received);
        let enough = f64::from(received.packets) >= SHARE * f64::from(sent.packets)
            && received.bytes as f64 >= SHARE * self.probe.bytes as f64
            && received.packets >= PACKETS;
        if !enough {
            return None;
        }
        let rate = self.probe.rate as f64;
        let (out, came) = (sent.rate(sent.last_bytes), received.rate(received.first_bytes));
        // Sent and received in no time tells of the machines at both ends, not of the way between them.
        if out.min(came) > rate * 2.0 {
            return None;
        }
        let measured = if came < LIMITED * out.min(rate) { came * TAKEN } else { came.min(out) };
        Some(measured.min(rate))
    }
}

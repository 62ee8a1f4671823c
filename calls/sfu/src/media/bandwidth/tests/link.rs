//! A simulated way with a sender and a receiver, that runs the same each time.
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::{Bandwidth, Outcome, Probe};

/// The least time the simulation knows.
const TICK: f64 = 1.0;
/// The server sends in rounds of this many ticks.
const ROUND: u64 = 2;
/// The layers of a simulcast stream, in bit/s.
pub(super) const LAYERS: [u64; 3] = [150_000, 500_000, 1_700_000];

/// A small source of numbers that look random.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A number from 0 up to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Frames as large as the wish and the estimate allow, in bit/s.
    Follow(f64),
    /// Frames at a rate that nothing changes, in bit/s.
    Frames(f64),
    /// Single datagrams at a rate that nothing changes, in bit/s.
    Even(f64),
    /// The highest layer that the estimate allows.
    Layers,
    /// The highest layer that the estimate allows, paced over the time of a frame.
    PacedLayers,
    /// The highest layer that the estimate allows, with a frame of eight times the size every three seconds.
    KeyedLayers,
}

/// How the receiver's machine delays.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    None,
    /// Now and then all is held for some time: between arrivals about this many milliseconds, for up to this many.
    Hiccups(f64, f64),
    /// All comes at multiples of this many milliseconds.
    Lumps(f64),
}

/// The way.
pub(super) struct Link {
    /// From which time in ms on it carries how many bit/s.
    pub(super) capacity: Vec<(f64, f64)>,
    /// From which time in ms on a datagram takes how many ms one way.
    pub(super) delay: Vec<(f64, f64)>,
    pub(super) queue_ms: f64,
    pub(super) loss: f64,
    /// The stamps are off by up to this many ms.
    pub(super) noise: f64,
    pub(super) holds: Holds,
    /// No feedback passes between these times.
    pub(super) silence: (f64, f64),
    pub(super) feedback_ms: f64,
    /// Which share of the feedback gets lost.
    pub(super) feedback_loss: f64,
}

impl Link {
    pub(super) fn new(capacity: f64, delay: f64) -> Link {
        Link {
            capacity: vec![(0.0, capacity)],
            delay: vec![(0.0, delay)],
            queue_ms: 300.0,
            loss: 0.0,
            noise: 0.0,
            holds: Holds::None,
            silence: (0.0, 0.0),
            feedback_ms: 100.0,
            feedback_loss: 0.0,
        }
    }
}

/// What the sender saw at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) value: f64,
    pub(super) sending: f64,
    pub(super) queue_ms: f64,
}

/// A call over the way.
pub(super) struct Call {
    pub(super) estimate: Bandwidth,
    pub(super) source: Source,
    link: Link,
    random: Random,
    start: Instant,
    tick: u64,
    number: u64,
    owed_bits: f64,
    owed_probe: Option<(Probe, usize, f64)>,
    paced: VecDeque<usize>,
    /// In the queue: number and bits left.
    queue: VecDeque<(u64, f64)>,
    /// All bits in the queue.
    queued: f64,
    held_until: f64,
    next_hold: f64,
    /// What came and is not reported: number and stamp, and when it may be read.
    came: BTreeMap<u64, (f64, f64)>,
    reported: u64,
    next_feedback: f64,
    feedback: VecDeque<(f64, Vec<Outcome>)>,
    pub(super) samples: Vec<Sample>,
    pub(super) probes: Vec<(f64, u64)>,
}

fn at(schedule: &[(f64, f64)], now: f64) -> f64 {
    schedule.iter().rev().find(|(from, _)| *from <= now).map_or(0.0, |(_, value)| *value)
}

impl Call {
    pub(super) fn new(first: u64, wish: u64, source: Source, link: Link, seed: u64, start: Instant) -> Call {
        let mut estimate = Bandwidth::new(first);
        estimate.set_wish(wish);
        let mut random = Random(seed.wrapping_mul(7919).wrapping_add(17));
        let number = 65_530 + random.next() % 100;
        Call {
            estimate,
            source,
            link,
            random,
            start,
            tick: 0,
            number,
            owed_bits: 0.0,
            owed_probe: None,
            paced: VecDeque::new(),
            queue: VecDeque::new(),
            queued: 0.0,
            held_until: 0.0,
            next_hold: 700.0,
            came: BTreeMap::new(),
            reported: number,
            next_feedback: 60.0,
            feedback: VecDeque::new(),
            samples: Vec::new(),
            probes: Vec::new(),
        }
    }

    fn now(&self) -> f64 {
        self.tick as f64 * TICK
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_micros((self.now() * 1000.0) as u64)
    }

    /// Runs until a time in ms.
    pub(super) fn run(&mut self, until: f64) {
        while self.now() < until {
            self.send();
            self.drain();
            self.report();
            let now = self.instant();
            while self.feedback.front().is_some_and(|(at, _)| *at <= self.now()) {
                let (_, outcomes) = self.feedback.pop_front().unwrap();
                self.estimate.note_feedback(&outcomes, now);
            }
            if self.tick.is_multiple_of(200) {
                self.estimate.note_time(now);
            }
            if self.tick.is_multiple_of(10) {
                let capacity = at(&self.link.capacity, self.now());
                let value = self.estimate.value() as f64;
                let (at, sending) = (self.now(), self.rate());
                self.samples.push(Sample { at, value, sending, queue_ms: self.queued / capacity * 1000.0 });
            }
            self.tick += 1;
        }
    }

    /// What the source sends now, in bit/s.
    fn rate(&self) -> f64 {
        let value = self.estimate.value();
        match self.source {
            Source::Follow(wish) => wish.min(value as f64),
            Source::Frames(rate) | Source::Even(rate) => rate,
            Source::Layers | Source::PacedLayers | Source::KeyedLayers => {
                LAYERS.iter().rfind(|layer| **layer <= value).map_or(0.0, |layer| *layer as f64)
            }
        }
    }

    fn send(&mut self) {
        self.owed_bits += self.rate() * TICK / 1000.0;
        if !self.tick.is_multiple_of(ROUND) {
            return;
        }
        let now = self.instant();
        let even = matches!(self.source, Source::Even(_));
        if matches!(self.source, Source::KeyedLayers) && self.tick % 2970 < ROUND {
            self.owed_bits += self.rate() * 7.0 / 30.0;
        }
        if even || self.tick % 33 < ROUND {
            while self.owed_bits >= 1100.0 * 8.0 {
                self.owed_bits -= 1100.0 * 8.0;
                self.paced.push_back(1100);
            }
            let rest = (self.owed_bits / 8.0) as usize;
            if !even && rest > 100 {
                self.owed_bits = 0.0;
                self.paced.push_back(rest);
            }
        }
        let share =
            if matches!(self.source, Source::PacedLayers) { self.paced.len().div_ceil(8) } else { self.paced.len() };
        for _ in 0..share {
            let bytes = self.paced.pop_front().unwrap();
            self.leave(bytes, None, now);
        }
        if self.owed_probe.is_none()
            && let Some(probe) = self.estimate.next_probe(now)
        {
            assert!(probe.rate > 0 && probe.bytes >= 1250);
            self.probes.push((self.now(), probe.rate));
            self.owed_probe = Some((probe, 0, self.now()));
        }
        while let Some((probe, sent, since)) = self.owed_probe {
            let due = (self.now() - since + ROUND as f64 * TICK) / 1000.0 * probe.rate as f64 / 8.0;
            if sent >= probe.bytes {
                self.owed_probe = None;
            } else if (sent as f64) < due {
                let bytes = if probe.bytes < 5000 { 250 } else { 1000 };
                self.owed_probe = Some((probe, sent + bytes, since));
                self.leave(bytes, Some(probe.id), now);
            } else {
                break;
            }
        }
    }

    fn leave(&mut self, bytes: usize, probe: Option<u32>, now: Instant) {
        self.estimate.note_sent(self.number, bytes, probe, now);
        let full = self.queued / at(&self.link.capacity, self.now()) * 1000.0 > self.link.queue_ms;
        if !full && self.random.share() >= self.link.loss {
            self.queue.push_back((self.number, bytes as f64 * 8.0));
            self.queued += bytes as f64 * 8.0;
        }
        self.number += 1;
    }

    /// Lets the way carry what it can within one tick.
    fn drain(&mut self) {
        let speed = at(&self.link.capacity, self.now()) / 1000.0;
        let mut bits = speed * TICK;
        while let Some((number, left)) = self.queue.front_mut() {
            if *left > bits {
                *left -= bits;
                self.queued -= bits;
                return;
            }
            bits -= *left;
            self.queued -= *left;
            let number = *number;
            self.queue.pop_front();
            let stamp = self.now() + TICK - bits / speed + at(&self.link.delay, self.now());
            let stamp = self.hold(stamp);
            let noise = (self.random.share() * 2.0 - 1.0) * self.link.noise;
            let stamp = ((stamp + noise) * 4.0).round() / 4.0;
            self.came.insert(number, (stamp, stamp));
        }
    }

    fn hold(&mut self, stamp: f64) -> f64 {
        match self.link.holds {
            Holds::None => stamp,
            Holds::Lumps(ms) => (stamp / ms).ceil() * ms,
            Holds::Hiccups(apart, most) => {
                if stamp >= self.next_hold {
                    self.held_until = stamp + 5.0 + self.random.share() * (most - 5.0);
                    self.next_hold = stamp + apart * (0.5 + self.random.share());
                }
                stamp.max(self.held_until)
            }
        }
    }

    /// Lets the receiver report.
    fn report(&mut self) {
        if self.now() < self.next_feedback {
            return;
        }
        self.next_feedback = self.now() + self.link.feedback_ms * (0.75 + 0.5 * self.random.share());
        let ready: BTreeMap<u64, f64> =
            self.came.iter().filter(|(_, (_, read))| *read <= self.now()).map(|(n, (stamp, _))| (*n, *stamp)).collect();
        let (Some((first, _)), Some((last, _))) = (ready.first_key_value(), ready.last_key_value()) else { return };
        let first = (*first).min(self.reported);
        let outcomes: Vec<_> = (first..=*last)
            .map(|number| Outcome {
                number,
                arrival: ready
                    .get(&number)
                    .map(|stamp| Duration::from_micros((stamp * 1000.0) as u64 + 77_777_000_000)),
            })
            .collect();
        self.reported = last + 1;
        self.came.retain(|number, _| !ready.contains_key(number));
        let silent = self.now() >= self.link.silence.0 && self.now() < self.link.silence.1;
        if !silent && self.random.share() >= self.link.feedback_loss {
            self.feedback.push_back((self.now() + at(&self.link.delay, self.now()), outcomes));
        }
    }

    /// The samples between two times.
    pub(super) fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Sample> + Clone {
        self.samples.iter().filter(move |sample| sample.at >= from && sample.at < to)
    }

    /// The least estimate between two times.
    pub(super) fn least(&self, from: f64, to: f64) -> f64 {
        self.between(from, to).map(|sample| sample.value).fold(f64::MAX, f64::min)
    }

    /// The mean estimate between two times.
    pub(super) fn mean(&self, from: f64, to: f64) -> f64 {
        let (count, sum) = self.between(from, to).fold((0.0, 0.0), |(n, sum), sample| (n + 1.0, sum + sample.value));
        sum / count
    }

    /// When, from a time on, a sample is first as asked for.
    pub(super) fn when(&self, from: f64, wanted: impl Fn(&Sample) -> bool) -> f64 {
        self.between(from, f64::MAX).find(|sample| wanted(sample)).map_or(f64::MAX, |sample| sample.at)
    }

    /// Prints the course of the call, a line for each so many ms.
    pub(super) fn print(&self, from: f64, to: f64, each: f64) {
        for sample in self.between(from, to).filter(|sample| sample.at % each == 0.0) {
            println!(
                "{:>6.0} ms: value {:>6.0} k, sends {:>6.0} k, queue {:>4.0} ms",
                sample.at,
                sample.value / 1e3,
                sample.sending / 1e3,
                sample.queue_ms
            );
        }
        let probes: Vec<_> = self.probes.iter().filter(|(at, _)| *at >= from && *at < to).collect();
        println!("probes: {probes:?}");
    }
}

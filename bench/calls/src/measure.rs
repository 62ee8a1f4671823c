//! What is counted while media flow.

use std::time::Duration;

const STEP: Duration = Duration::from_micros(20);
const STEPS: usize = 100_000;

/// How often each delay was seen, in steps of 20 µs up to two seconds.
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS], total: 0 }
    }
}

impl Histogram {
    /// Adds a delay in nanoseconds; longer ones than two seconds count as two seconds.
    pub fn add(&mut self, nanoseconds: u64) {
        let step = (nanoseconds / STEP.as_nanos() as u64) as usize;
        self.counts[step.min(STEPS - 1)] += 1;
        self.total += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The delay in milliseconds that `share` of all do not exceed; none if nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank.max(1)
        })?;
        Some((step + 1) as f64 * STEP.as_secs_f64() * 1000.0)
    }
}

/// What one kind of media did since the window began.
#[derive(Default)]
pub struct Flow {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub latency: Histogram,
}

impl Flow {
    pub fn merge(&mut self, other: &Self) {
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
        self.received_packets += other.received_packets;
        self.received_bytes += other.received_bytes;
        self.latency.merge(&other.latency);
    }
}

/// What a thread of peers counted since the window began.
#[derive(Default)]
pub struct Counters {
    pub audio: Flow,
    pub video: Flow,
    /// RTP packets without a stamp: padding and probes.
    pub unstamped: u64,
    pub key_requests: u64,
    /// Datagrams the kernel did not take.
    pub unsent: u64,
}

impl Counters {
    pub fn flow(&mut self, video: bool) -> &mut Flow {
        if video { &mut self.video } else { &mut self.audio }
    }

    pub fn merge(&mut self, other: &Self) {
        self.audio.merge(&other.audio);
        self.video.merge(&other.video);
        self.unstamped += other.unstamped;
        self.key_requests += other.key_requests;
        self.unsent += other.unsent;
    }
}

/// What a peer received since the window began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub streams: u64,
    pub videos: u64,
    /// Packets there should have been by the sequence numbers, and those there were.
    pub expected: u64,
    pub received: u64,
    pub bytes: u64,
    /// Frames that could be shown, and the longest time without one.
    pub frames: u64,
    pub longest_gap: Duration,
    /// The layer of the first video.
    pub level: Option<u8>,
}

impl Received {
    /// Adds what another peer received.
    pub fn merge(&mut self, other: &Self) {
        self.streams += other.streams;
        self.videos += other.videos;
        self.expected += other.expected;
        self.received += other.received;
        self.bytes += other.bytes;
        self.frames += other.frames;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    /// The share of packets that never came.
    pub fn lost_share(&self) -> f64 {
        self.expected.saturating_sub(self.received) as f64 / self.expected.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..99 {
            histogram.add(1_000_000);
        }
        histogram.add(50_000_000_000);
        assert_eq!(histogram.quantile(0.5), Some(1.02));
        assert_eq!(histogram.quantile(0.99), Some(1.02));
        assert_eq!(histogram.quantile(1.0), Some(2000.0));
    }
}

//! What is measured of a participant.

use std::time::{Duration, Instant};

use str0m::stats::{MediaEgressStats, MediaIngressStats};

use super::participant::Participant;
use super::{ParticipantId, PeerAt, Room};
use crate::media::layers::{self, Demand, Layer};
use crate::media::quality::{self, Grade, Measured};
use crate::report::LegStats;

/// How often [`Meters::end_window`] is called.
pub const WINDOW: Duration = Duration::from_millis(500);
/// A publisher may exceed the limit for a moment by this factor: key frames are large.
const BURST: u64 = 2;

/// A running average.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    sum: f64,
    count: u32,
}

impl Average {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    fn take(&mut self) -> Option<f64> {
        let value = self.value();
        *self = Average::default();
        value
    }
}

/// The measurements of a participant.
#[derive(Debug, Default)]
pub struct Meters {
    pub resumes: u32,
    pub bytes_up: u64,
    pub bytes_down: u64,
    window_up: u64,
    told: (u64, u64),
    rate_up: u64,
    rate_down: u64,
    rtt: Average,
    loss_up: Average,
    loss_down: Average,
    jitter: Average,
    recent_rtt: Average,
    recent_loss_up: Average,
    recent_loss_down: Average,
    recent_jitter: Average,
    shortfall: f32,
    pub grade: Option<Grade>,
}

impl Meters {
    /// Counts what a participant sends; `false` when it is more than `limit_kbits` allow.
    pub fn admit(&mut self, bytes: usize, limit_kbits: u64) -> bool {
        let bytes = bytes as u64;
        let allowed = limit_kbits.saturating_mul(1000 / 8 * BURST).saturating_mul(WINDOW.as_millis() as u64) / 1000;
        self.window_up = self.window_up.saturating_add(bytes);
        self.bytes_up = self.bytes_up.saturating_add(bytes);
        self.window_up <= allowed
    }

    /// Ends a window of `passed`.
    pub fn end_window(&mut self, passed: Duration) {
        self.window_up = 0;
        let rate =
            |now: u64, before: u64| (now.saturating_sub(before) as f64 * 8.0 / passed.as_secs_f64().max(0.001)) as u64;
        self.rate_up = rate(self.bytes_up, self.told.0);
        self.rate_down = rate(self.bytes_down, self.told.1);
        self.told = (self.bytes_up, self.bytes_down);
    }

    /// How far what is given is behind what is wanted.
    pub fn note_shortfall(&mut self, demands: &[Demand], given: &[Option<Layer>]) {
        let (mut wanted, mut missing) = (0u32, 0u32);
        for (demand, given) in demands.iter().zip(given) {
            let want = layers::unlimited(demand).map_or(0, |layer| u32::from(layer) + 1);
            let got = given.map_or(0, |layer| u32::from(layer) + 1);
            wanted = wanted.saturating_add(want);
            missing = missing.saturating_add(want.saturating_sub(got));
        }
        self.shortfall = if wanted == 0 { 0.0 } else { missing as f32 / wanted as f32 };
    }

    /// The score and grade of what was measured since the last time.
    pub fn grade_recent(&mut self) -> (f32, Grade) {
        let loss = self.recent_loss_up.take().unwrap_or(0.0).max(self.recent_loss_down.take().unwrap_or(0.0));
        let measured = Measured {
            loss: loss as f32,
            rtt: Duration::from_secs_f64(self.recent_rtt.take().unwrap_or(0.0)),
            jitter: Duration::from_secs_f64(self.recent_jitter.take().unwrap_or(0.0)),
            shortfall: self.shortfall,
        };
        let score = quality::score(&measured);
        (score, quality::grade(score))
    }

    fn add_rtt(&mut self, rtt: Option<Duration>) {
        if let Some(rtt) = rtt {
            self.rtt.add(rtt.as_secs_f64());
            self.recent_rtt.add(rtt.as_secs_f64());
        }
    }
}

impl Participant {
    /// How the connection has been so far.
    pub fn leg_stats(&self, now: Instant) -> LegStats {
        let meters = &self.meters;
        let receiving = if self.single { self.main.as_ref() } else { self.receiving.as_ref() };
        let share = |average: &Average| average.value().unwrap_or(0.0) as f32;
        LegStats {
            seconds: now.saturating_duration_since(self.joined_at).as_secs(),
            transport: receiving.map(|peer| peer.transport).unwrap_or_default(),
            rtt_ms: meters.rtt.value().map(|seconds| (seconds * 1000.0) as u32),
            loss_up: share(&meters.loss_up),
            loss_down: share(&meters.loss_down),
            jitter_ms: (meters.jitter.value().unwrap_or(0.0) * 1000.0) as u32,
            bytes_up: meters.bytes_up,
            bytes_down: meters.bytes_down,
            bitrate_up: meters.rate_up,
            bitrate_down: meters.rate_down,
            estimate_down: receiving.filter(|peer| peer.connected).map(|peer| peer.egress.bandwidth.value()),
            resumes: meters.resumes,
        }
    }
}

impl Room {
    /// Notes what is known of the way to a participant.
    pub(super) fn note_way_down(&mut self, id: ParticipantId, now: Instant) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        let side = participant.receiving_side();
        let Some(bandwidth) = participant.peer(side).map(|peer| &mut peer.egress.bandwidth) else { return };
        bandwidth.note_time(now);
        if bandwidth.is_measured() {
            let (rtt, loss) = (bandwidth.rtt(), f64::from(bandwidth.loss()));
            participant.meters.add_rtt(rtt);
            participant.meters.loss_down.add(loss);
            participant.meters.recent_loss_down.add(loss);
        }
        // Where nothing is sent, more room is found by probes alone.
        self.settle_later(PeerAt { participant: id, side });
    }

    pub(super) fn note_ingress(&mut self, at: PeerAt, stats: &MediaIngressStats) {
        let mid = Some(stats.mid);
        let Some(participant) = self.participants.get_mut(at.participant) else { return };
        let track = participant.published.iter().find_map(|id| self.tracks.get(*id).filter(|track| track.mid == mid));
        let Some(track) = track else { return };
        let meters = &mut participant.meters;
        if let Some(loss) = stats.loss {
            meters.loss_up.add(f64::from(loss));
            meters.recent_loss_up.add(f64::from(loss));
        }
        let jitter = f64::from(stats.jitter) / f64::from(track.clock_rate.max(1));
        meters.jitter.add(jitter);
        meters.recent_jitter.add(jitter);
    }

    pub(super) fn note_egress(&mut self, at: PeerAt, stats: &MediaEgressStats) {
        let Some(participant) = self.participants.get_mut(at.participant) else { return };
        participant.meters.add_rtt(stats.rtt);
    }
}

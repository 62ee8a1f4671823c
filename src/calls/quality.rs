//! How well calls went: figures of each participation, taken when it ends.

use runtime::{Counter, Histogram, Metrics, SIZE_BUCKETS, TIME_BUCKETS};
use sfu::LegStats;

/// Histogram bounds for shares.
const SHARE_BUCKETS: &[f64] = &[0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Figures of participations that have ended.
pub(super) struct QualityMetrics {
    ended: [(&'static str, Counter); 4],
    round_trip: Histogram,
    jitter: Histogram,
    loss_up: Histogram,
    loss_down: Histogram,
    resumes: Histogram,
}

impl QualityMetrics {
    pub(super) fn new(metrics: &Metrics) -> QualityMetrics {
        let ended = ["none", "udp", "tcp", "relay"].map(|transport| {
            let help = "Participations in calls that have ended, by how their media came.";
            (transport, metrics.counter("conduit_call_legs_total", help, &[("transport", transport)]))
        });
        let loss = |direction| {
            let help = "Share of a participation's packets that were lost, from and to the participant.";
            metrics.histogram("conduit_call_leg_loss_ratio", help, SHARE_BUCKETS, &[("direction", direction)])
        };
        let time = |name, help| metrics.histogram(name, help, TIME_BUCKETS, &[]);
        QualityMetrics {
            ended,
            round_trip: time("conduit_call_leg_round_trip_seconds", "Round trip of a participation, on average."),
            jitter: time("conduit_call_leg_jitter_seconds", "Jitter of a participation, on average."),
            loss_up: loss("up"),
            loss_down: loss("down"),
            resumes: metrics.histogram(
                "conduit_call_leg_resumes",
                "How often a participation's signalling was resumed.",
                SIZE_BUCKETS,
                &[],
            ),
        }
    }

    /// Counts a participation that has ended.
    pub(super) fn count(&self, stats: &LegStats) {
        let name = stats.transport.name();
        if let Some((_, counter)) = self.ended.iter().find(|(transport, _)| *transport == name) {
            counter.add(1);
        }
        if let Some(ms) = stats.rtt_ms {
            self.round_trip.observe(f64::from(ms) / 1000.0);
        }
        self.jitter.observe(f64::from(stats.jitter_ms) / 1000.0);
        self.loss_up.observe(f64::from(stats.loss_up));
        self.loss_down.observe(f64::from(stats.loss_down));
        self.resumes.observe(f64::from(stats.resumes));
    }
}

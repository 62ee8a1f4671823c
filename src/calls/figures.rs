//! How calls went, for Prometheus: of each participation when it ends.

use std::time::Duration;

use runtime::{Histogram, Metrics, TIME_BUCKETS};
use sfu::LegStats;

/// How long participations take, in seconds.
const STAY_BUCKETS: &[f64] = &[10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];
/// Shares of packets that are lost.
const LOSS_BUCKETS: &[f64] = &[0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
/// Bit rates, in bit/s.
const RATE_BUCKETS: &[f64] = &[16e3, 32e3, 64e3, 128e3, 256e3, 512e3, 1e6, 2e6, 4e6, 8e6, 16e6];

/// The series of participations that have ended.
pub(super) struct LegFigures {
    rtt: Histogram,
    jitter: Histogram,
    loss: [Histogram; 2],
    bitrate: [Histogram; 2],
    metrics: Metrics,
}

impl LegFigures {
    pub fn new(metrics: &Metrics) -> LegFigures {
        let seconds = |name, help| metrics.histogram(name, help, TIME_BUCKETS, &[]);
        let both = |name, help, bounds| {
            ["up", "down"].map(|direction| metrics.histogram(name, help, bounds, &[("direction", direction)]))
        };
        LegFigures {
            rtt: seconds(
                "conduit_call_leg_rtt_seconds",
                "Round-trip time of participants, on average over their stay.",
            ),
            jitter: seconds("conduit_call_leg_jitter_seconds", "Jitter of participants, on average over their stay."),
            loss: both("conduit_call_leg_loss_ratio", "Share of packets lost over a participant's stay.", LOSS_BUCKETS),
            bitrate: both(
                "conduit_call_leg_bitrate",
                "Bit/s of participants, on average over their stay.",
                RATE_BUCKETS,
            ),
            metrics: metrics.clone(),
        }
    }

    /// Counts a participation that has ended.
    pub fn count(&self, stats: &LegStats) {
        let stay = self.metrics.histogram(
            "conduit_call_leg_seconds",
            "How long participants stayed, by the way their media took (udp, tcp, relay, none).",
            STAY_BUCKETS,
            &[("transport", stats.transport.name())],
        );
        stay.observe_duration(stats.duration());
        if let Some(rtt) = stats.rtt_ms {
            self.rtt.observe_duration(Duration::from_millis(rtt.into()));
        }
        self.jitter.observe_duration(Duration::from_millis(stats.jitter_ms.into()));
        let [up, down] = &self.loss;
        up.observe(stats.loss_up.into());
        down.observe(stats.loss_down.into());
        if stats.seconds > 0 {
            let rate = |bytes: u64| bytes as f64 * 8.0 / stats.seconds as f64;
            let [up, down] = &self.bitrate;
            up.observe(rate(stats.bytes_up));
            down.observe(rate(stats.bytes_down));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_participation_is_counted_once() {
        let metrics = Metrics::new();
        let figures = LegFigures::new(&metrics);
        let transport = sfu::Transport::Relay;
        let stats = LegStats { seconds: 10, transport, rtt_ms: Some(40), bytes_up: 125_000, ..LegStats::default() };
        figures.count(&stats);
        let shown = metrics.render();
        for line in [
            "conduit_call_leg_seconds_count{transport=\"relay\"} 1",
            "conduit_call_leg_rtt_seconds_count 1",
            "conduit_call_leg_bitrate_sum{direction=\"up\"} 100000",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
    }
}

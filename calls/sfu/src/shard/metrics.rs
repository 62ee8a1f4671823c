//! The metrics of the media thread.

use runtime::{Counter, Gauge, Histogram, Metrics, TIME_BUCKETS};

use crate::room::Goodbye;

/// The metrics of the media thread.
pub struct MediaMetrics {
    pub rooms: Gauge,
    pub participants: Gauge,
    /// Datagrams.
    pub datagrams_in: Counter,
    pub datagrams_out: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Media packets.
    pub received: Counter,
    pub forwarded: Counter,
    pub dropped: Counter,
    /// Datagrams of nobody we know.
    pub strangers: Counter,
    /// Batches of datagrams that a media thread had no time for.
    pub overruns: Counter,
    pub key_requests: Counter,
    pub join_seconds: Histogram,
    /// How long one round of the thread's loop takes.
    pub round_seconds: Histogram,
    metrics: Metrics,
}

impl MediaMetrics {
    pub fn new(metrics: &Metrics) -> MediaMetrics {
        let counter = |name, help, labels: &[(&str, &str)]| metrics.counter(name, help, labels);
        let datagrams = "Datagrams of calls.";
        let bytes = "Bytes of calls.";
        MediaMetrics {
            rooms: metrics.gauge("conduit_sfu_rooms", "Calls in progress.", &[]),
            participants: metrics.gauge("conduit_sfu_participants", "Participants of calls.", &[]),
            datagrams_in: counter("conduit_sfu_datagrams_total", datagrams, &[("direction", "in")]),
            datagrams_out: counter("conduit_sfu_datagrams_total", datagrams, &[("direction", "out")]),
            bytes_in: counter("conduit_sfu_bytes_total", bytes, &[("direction", "in")]),
            bytes_out: counter("conduit_sfu_bytes_total", bytes, &[("direction", "out")]),
            received: counter("conduit_sfu_packets_received_total", "Media packets of publishers.", &[]),
            forwarded: counter("conduit_sfu_packets_forwarded_total", "Media packets given to receivers.", &[]),
            dropped: counter("conduit_sfu_packets_dropped_total", "Packets above a participant's limit.", &[]),
            strangers: counter("conduit_sfu_strangers_total", "Datagrams that belong to no call.", &[]),
            overruns: counter(
                "conduit_sfu_overruns_total",
                "Batches of datagrams that a media thread had no time for.",
                &[],
            ),
            key_requests: counter("conduit_sfu_key_requests_total", "Key frames asked of publishers.", &[]),
            join_seconds: metrics.histogram(
                "conduit_sfu_join_seconds",
                "Time from joining to connected media.",
                TIME_BUCKETS,
                &[],
            ),
            round_seconds: metrics.histogram(
                "conduit_sfu_round_seconds",
                "Time of one round of the media thread.",
                TIME_BUCKETS,
                &[],
            ),
            metrics: metrics.clone(),
        }
    }

    /// Counts somebody's leaving.
    pub fn count_leave(&self, goodbye: Goodbye) {
        let reason = match goodbye {
            Goodbye::Client => "client",
            Goodbye::Duplicate => "duplicate",
            Goodbye::Removed => "removed",
            Goodbye::RoomClosed => "room_closed",
            Goodbye::Shutdown => "shutdown",
            Goodbye::MediaLost => "media_lost",
            Goodbye::Silent => "silent",
        };
        self.metrics
            .counter("conduit_sfu_leaves_total", "Participants that left, by reason.", &[("reason", reason)])
            .add(1);
    }
}

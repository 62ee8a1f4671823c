//! What is counted.

use runtime::{Counter, Gauge, Metrics};

/// Codes of refusals that are counted by themselves.
const CODES: [(u16, &str); 12] = [
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (420, "420"),
    (437, "437"),
    (438, "438"),
    (440, "440"),
    (441, "441"),
    (442, "442"),
    (443, "443"),
    (486, "486"),
    (508, "508"),
];

/// Datagrams in one direction.
pub(crate) struct Flow {
    packets: Counter,
    bytes: Counter,
}

impl Flow {
    fn new(metrics: &Metrics, to: &str) -> Flow {
        let labels = [("to", to)];
        Flow {
            packets: metrics.counter("conduit_turn_packets_total", "Datagrams that the relay passed on.", &labels),
            bytes: metrics.counter("conduit_turn_bytes_total", "Bytes that the relay passed on.", &labels),
        }
    }

    pub(crate) fn count(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// The relay's metrics.
pub(crate) struct Meters {
    pub(crate) allocations: Gauge,
    pub(crate) bindings: Counter,
    pub(crate) to_peers: Flow,
    pub(crate) to_clients: Flow,
    pub(crate) malformed: Counter,
    pub(crate) not_permitted: Counter,
    pub(crate) over_bandwidth: Counter,
    pub(crate) strangers_dropped: Counter,
    refusals: Vec<(u16, Counter)>,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Meters {
        let refused = |(code, label): (u16, &str)| {
            let help = "Requests that the relay refused, by STUN error code.";
            (code, metrics.counter("conduit_turn_refused_total", help, &[("code", label)]))
        };
        Meters {
            allocations: metrics.gauge("conduit_turn_allocations", "Relay addresses in use.", &[]),
            bindings: metrics.counter("conduit_turn_bindings_total", "STUN Binding requests answered.", &[]),
            to_peers: Flow::new(metrics, "peer"),
            to_clients: Flow::new(metrics, "client"),
            malformed: dropped(metrics, "malformed"),
            not_permitted: dropped(metrics, "permission"),
            over_bandwidth: dropped(metrics, "bandwidth"),
            strangers_dropped: dropped(metrics, "strangers"),
            refusals: CODES.into_iter().map(refused).collect(),
        }
    }

    pub(crate) fn count_refusal(&self, code: u16) {
        if let Some((_, counter)) = self.refusals.iter().find(|(known, _)| *known == code) {
            counter.add(1);
        }
    }
}

/// Datagrams that the relay did not pass on or answer, for one reason.
pub(crate) fn dropped(metrics: &Metrics, reason: &str) -> Counter {
    let help = "Datagrams and requests that the relay dropped, by reason.";
    metrics.counter("conduit_turn_dropped_total", help, &[("reason", reason)])
}

//! Datagrams that travel together.
use super::Micros;

/// Datagrams sent within this time are one group.
const SENT_TOGETHER: Micros = 5_000;
/// Datagrams that come this close to each other, each less late than the one before, were held up together.
const CAME_TOGETHER: Micros = 5_000;
/// How long a group may go on coming.
const COMING: Micros = 150_000;

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) sent: Micros,
    pub(super) came: Micros,
    pub(super) bytes: u32,
    /// Whether it belongs to a probe.
    pub(super) probe: bool,
}

impl Arrival {
    /// The one-way delay, off by the difference of the clocks.
    pub(super) fn delay(self) -> Micros {
        self.came.saturating_sub(self.sent)
    }
}

/// Datagrams sent or received together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    first_sent: Micros,
    /// The earliest arrival.
    pub(super) first_came: Micros,
    /// The latest arrival.
    pub(super) last_came: Micros,
    /// The delay of the datagram that was the least late. A receiver that slept wakes up to many datagrams, of which
    /// only the last tells the delay of the way.
    pub(super) delay: Micros,
    pub(super) bytes: u64,
    pub(super) packets: u32,
    /// Whether a probe was among them.
    pub(super) probe: bool,
    /// How many were reported lost since the group began.
    pub(super) lost: u32,
}

impl Group {
    pub(super) fn new(arrival: Arrival) -> Group {
        Group {
            first_sent: arrival.sent,
            first_came: arrival.came,
            last_came: arrival.came,
            delay: arrival.delay(),
            bytes: u64::from(arrival.bytes),
            packets: 1,
            probe: arrival.probe,
            lost: 0,
        }
    }

    /// When the first of the group was sent.
    pub(super) fn first_sent(&self) -> Micros {
        self.first_sent
    }

    /// Whether a datagram belongs to the group.
    pub(super) fn takes(&self, arrival: Arrival) -> bool {
        if arrival.sent.saturating_sub(self.first_sent) <= SENT_TOGETHER {
            return true;
        }
        arrival.came.saturating_sub(self.last_came) <= CAME_TOGETHER
            && arrival.delay() < self.delay
            && arrival.came.saturating_sub(self.first_came) <= COMING
    }

    pub(super) fn add(&mut self, arrival: Arrival) {
        self.first_came = self.first_came.min(arrival.came);
        self.last_came = self.last_came.max(arrival.came);
        self.delay = self.delay.min(arrival.delay());
        self.bytes = self.bytes.saturating_add(u64::from(arrival.bytes));
        self.packets = self.packets.saturating_add(1);
        self.probe |= arrival.probe;
    }
}

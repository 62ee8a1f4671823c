//! Datagrams on their way out. Those of one flow and one size leave together (UDP segmentation offload).

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use super::source::Source;

/// How many flows are collected at a time.
const MAX_RUNS: usize = 64;
/// Longer datagrams are sent one by one: they may not fit the path, and a segmented send that does not fit fails whole.
/// This fits every IPv6 path.
const MAX_SEGMENT: usize = 1232;
/// The bytes of one segmented send are fewer than those of the largest datagram.
const MAX_RUN: usize = 60_000;

/// Datagrams that leave the same way: all of one size, but for the last one, which may be shorter.
pub(super) struct Run {
    pub(super) socket: Source,
    pub(super) to: SocketAddr,
    /// From which address of the socket, if it has several.
    pub(super) from: Option<IpAddr>,
    pub(super) bytes: Vec<u8>,
    /// The size of each.
    pub(super) segment: usize,
    pub(super) count: usize,
    /// Nothing may follow.
    closed: bool,
}

/// The runs that have begun; their buffers are used again.
pub(super) struct Outbox {
    runs: Vec<Run>,
    used: usize,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { runs: Vec::new(), used: 0 }
    }

    /// Whether it has to be emptied before more can be added.
    pub(super) fn is_full(&self) -> bool {
        self.used >= MAX_RUNS
    }

    /// Adds one datagram, given in parts. `together` is how many the socket can send at once.
    pub(super) fn add(&mut self, way: (Source, SocketAddr, Option<IpAddr>), parts: [&[u8]; 3], together: usize) {
        let (socket, to, from) = way;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let begun = self.runs.get_mut(..self.used).unwrap_or_default();
        let same = |run: &&mut Run| run.socket == socket && run.to == to && run.from == from;
        // The newest run of the flow, or its datagrams would change their order.
        if let Some(run) = begun.iter_mut().rev().find(same)
            && run.takes(len, together)
        {
            run.add(parts, len);
            return;
        }
        if self.used == self.runs.len() {
            let bytes = Vec::new();
            self.runs.push(Run { socket, to, from, bytes, segment: len, count: 0, closed: false });
        }
        if let Some(run) = self.runs.get_mut(self.used) {
            run.bytes.clear();
            (run.socket, run.to, run.from, run.segment, run.count) = (socket, to, from, len, 0);
            run.closed = len == 0 || len > MAX_SEGMENT;
            run.add(parts, len);
            self.used += 1;
        }
    }

    /// What is to be sent, in order; empty afterwards.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = &Run> {
        let used = std::mem::take(&mut self.used);
        self.runs.iter().take(used)
    }
}

impl Run {
    fn takes(&self, len: usize, together: usize) -> bool {
        !self.closed && len > 0 && len <= self.segment && self.count < together && self.bytes.len() + len <= MAX_RUN
    }

    fn add(&mut self, parts: [&[u8]; 3], len: usize) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.count += 1;
        self.closed |= len < self.segment;
    }
}

//! The video packets of a line that may have to be sent again.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::Packet;

/// How many packets of a line are kept, and how long.
const MOST: usize = 600;
const LONGEST: Duration = Duration::from_secs(2);

struct Entry {
    packet: Packet,
    sent: Instant,
    /// When it was last sent again.
    repeated: Option<Instant>,
}

/// The packets, by their numbers.
#[derive(Default)]
pub struct Kept(VecDeque<Entry>);

impl Kept {
    /// Keeps a packet that is sent now, and forgets old ones.
    pub fn push(&mut self, packet: Packet, now: Instant) {
        let old = |entry: &Entry| now.saturating_duration_since(entry.sent) > LONGEST;
        while self.0.len() >= MOST || self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        let after = |entry: &Entry| entry.packet.seq > packet.seq;
        let late = self.0.iter().rev().take_while(|entry| after(entry)).count();
        self.0.insert(self.0.len() - late, Entry { packet, sent: now, repeated: None });
    }

    /// The packet that was sent with this number, unless it was sent again within `rest`; from now on it was.
    pub fn repeat(&mut self, seq: u16, rest: Duration, now: Instant) -> Option<&Packet> {
        let newest = self.0.back()?.packet.seq;
        let seq = newest.checked_sub(u64::from((newest as u16).wrapping_sub(seq)))?;
        let at = self.0.binary_search_by_key(&seq, |entry| entry.packet.seq).ok()?;
        let entry = self.0.get_mut(at)?;
        if now.saturating_duration_since(entry.sent) > LONGEST
            || entry.repeated.is_some_and(|last| now.saturating_duration_since(last) < rest)
        {
            return None;
        }
        entry.repeated = Some(now);
        Some(&entry.packet)
    }

    /// The packet `back` before the newest.
    pub fn recent(&self, back: usize) -> Option<&Packet> {
        Some(&self.0.get(self.0.len().checked_sub(back + 1)?)?.packet)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

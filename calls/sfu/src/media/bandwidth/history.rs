//! What was sent and not forgotten yet.
use std::collections::VecDeque;

use super::Micros;

/// How many datagrams are remembered: several seconds of a video call, and a bound on the memory.
const KEPT: usize = 4096;

/// What is known of a datagram's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// No feedback spoke of it.
    Waiting,
    /// Feedback said that it did not come. It may still come later.
    Lost,
    /// It came.
    Received,
}

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// When it left.
    pub(super) at: Micros,
    /// The whole datagram.
    pub(super) bytes: u32,
    /// The probe it belongs to.
    pub(super) probe: Option<u32>,
    /// What was known before the report at hand.
    pub(super) fate: Fate,
}

/// The datagrams sent last, found by their number.
#[derive(Debug, Default)]
pub(super) struct History {
    first: u64,
    packets: VecDeque<Sent>,
}

impl History {
    /// Appends a datagram. A number out of turn starts the history anew.
    pub(super) fn push(&mut self, number: u64, sent: Sent) {
        let next = self.first.saturating_add(self.packets.len() as u64);
        if self.packets.is_empty() || number != next {
            self.packets.clear();
            self.first = number;
        }
        if self.packets.len() >= KEPT {
            self.packets.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.packets.push_back(sent);
    }

    /// Takes in a report. Gives the datagram as it was before, and None if the report tells nothing new.
    pub(super) fn report(&mut self, number: u64, received: bool) -> Option<Sent> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let packet = self.packets.get_mut(place)?;
        let before = *packet;
        let fate = if received { Fate::Received } else { Fate::Lost };
        let new = match before.fate {
            Fate::Waiting => true,
            Fate::Lost => received,
            Fate::Received => false,
        };
        if !new {
            return None;
        }
        packet.fate = fate;
        Some(before)
    }

    /// How many datagrams are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }
}

//! The one-way delay of the empty way.
use std::collections::VecDeque;

use super::Micros;

/// The least delay is kept for each of these spans,
const SPAN: Micros = 1_000_000;
/// over this many,
const SPANS: i64 = 8;
/// and over this many while there is a queue, which may never be empty meanwhile.
const SPANS_QUEUE: i64 = 30;

/// The least one-way delay of the last seconds. The clocks of both ends differ, so only differences to it count.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// The number of a span and the least delay within it, oldest first.
    least: VecDeque<(i64, Micros)>,
}

impl Base {
    /// Takes in the delay of a datagram sent at a time, while there is a queue or none.
    pub(super) fn note(&mut self, sent: Micros, delay: Micros, queue: bool) {
        let span = sent.div_euclid(SPAN);
        match self.least.back_mut() {
            Some((newest, least)) if *newest >= span => *least = (*least).min(delay),
            _ => self.least.push_back((span, delay)),
        }
        let oldest = span.saturating_sub(if queue { SPANS_QUEUE } else { SPANS });
        while self.least.front().is_some_and(|(at, _)| *at <= oldest) {
            self.least.pop_front();
        }
    }

    /// The least delay.
    pub(super) fn get(&self) -> Option<Micros> {
        self.least.iter().map(|(_, delay)| *delay).min()
    }

    /// Takes a delay as that of the empty way, whatever was seen before.
    pub(super) fn set(&mut self, sent: Micros, delay: Micros) {
        self.least.clear();
        self.note(sent, delay, false);
    }
}

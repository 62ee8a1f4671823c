//! What the way to a client carries, of two sources: the engine's average over some seconds, which is steady and late,
//! and what it takes to be true at the moment. The lower of the two counts: a fall is seen at once, a rise when it lasts.

use std::time::{Duration, Instant};

/// An estimate of at least this much of what is sent, in percent, may be the noise of a way that carries all of it: one that
/// is too narrow is measured once more within [`PATIENCE`], at what came through of it, less a seventh.
const NOISE_PERCENT: u64 = 75;
/// For so long such an estimate takes nothing away that is being sent.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often is looked for more room than there was.
const SEARCH_EVERY: Duration = Duration::from_secs(5);

/// An estimate, in bit/s.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    average: u64,
    momentary: u64,
    searched: Option<Instant>,
    /// Since when the estimate is somewhat lower than what is sent.
    short: Option<Instant>,
}

impl Estimate {
    /// Before anything was measured.
    pub fn new(first: u64) -> Estimate {
        Estimate { average: first, momentary: u64::MAX, searched: None, short: None }
    }

    /// What counts now.
    pub fn value(&self) -> u64 {
        self.average.min(self.momentary)
    }

    /// What counts for what is being sent already, at `sent` bit/s: a picture is not taken away for an average that is behind,
    /// nor for a small shortage that passes. As long as nothing was measured it is [`Estimate::value`].
    pub fn kept(&mut self, sent: u64, now: Instant) -> u64 {
        let small = self.momentary >= sent.saturating_mul(NOISE_PERCENT) / 100;
        if self.value() >= sent || self.momentary == u64::MAX || !small {
            self.short = None;
            return self.value();
        }
        if self.momentary >= sent {
            self.short = None;
            return self.momentary;
        }
        let since = *self.short.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE { sent } else { self.momentary }
    }

    /// Takes an average; whether the estimate has fallen.
    pub fn note_average(&mut self, average: u64) -> bool {
        let before = self.value();
        self.average = average;
        self.value() < before
    }

    /// Takes what the engine holds to be true at the moment; whether the estimate has fallen.
    pub fn note_momentary(&mut self, momentary: u64) -> bool {
        let before = self.value();
        self.momentary = momentary;
        self.value() < before
    }

    /// The rate the engine is to be told is wanted, so that it looks for room: it does so when the wish grows beyond the
    /// estimate, and not while it stays the same. Where it was too narrow for long the wish is lowered for a round.
    pub fn wish(&mut self, desired: u64, now: Instant) -> u64 {
        let value = self.value();
        if desired <= value {
            return desired;
        }
        let since = *self.searched.get_or_insert(now);
        if now.saturating_duration_since(since) < SEARCH_EVERY {
            return desired;
        }
        self.searched = Some(now);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_counts_at_once_and_a_rise_when_the_average_follows() {
        let mut estimate = Estimate::new(2_500_000);
        assert!(estimate.note_momentary(425_000));
        assert!(!estimate.note_average(1_600_000), "the average comes late");
        assert_eq!(estimate.value(), 425_000);
        assert!(!estimate.note_momentary(2_000_000));
        assert_eq!(estimate.value(), 1_600_000);
        assert!(!estimate.note_average(1_900_000));
        assert_eq!(estimate.value(), 1_900_000);
        assert!(estimate.note_average(1_000_000));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn what_is_sent_stays_through_noise_and_goes_when_the_way_is_narrow() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sent = 1_000_000;
        let mut estimate = Estimate::new(500_000);
        assert_eq!(estimate.kept(sent, at(0)), 500_000, "before anything was measured");
        estimate.note_momentary(1_200_000);
        assert_eq!(estimate.kept(sent, at(400)), 1_200_000, "the average is behind");
        estimate.note_momentary(850_000);
        assert_eq!(estimate.kept(sent, at(800)), sent);
        assert_eq!(estimate.kept(sent, at(3700)), sent);
        assert_eq!(estimate.kept(sent, at(3800)), 850_000, "it lasts");
        estimate.note_momentary(1_000_000);
        estimate.kept(sent, at(4200));
        estimate.note_momentary(850_000);
        assert_eq!(estimate.kept(sent, at(4600)), sent, "another shortage");
        estimate.note_momentary(740_000);
        assert_eq!(estimate.kept(sent, at(5000)), 500_000, "the way is narrow");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn the_wish_is_renewed_now_and_then_while_it_is_not_met() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut estimate = Estimate::new(500_000);
        assert_eq!(estimate.wish(400_000, at(0)), 400_000);
        assert_eq!(estimate.wish(2_000_000, at(0)), 2_000_000);
        assert_eq!(estimate.wish(2_000_000, at(4)), 2_000_000);
        assert_eq!(estimate.wish(2_000_000, at(5)), 500_000, "lowered for a round");
        assert_eq!(estimate.wish(2_000_000, at(6)), 2_000_000, "and raised again");
    }
}

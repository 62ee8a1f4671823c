//! Whether an estimate of what the way to a client carries is a reason to send less.

use std::time::{Duration, Instant};

/// An estimate of at least this much of what is sent, in percent, may be the noise of a way that carries all of it.
const NOISE_PERCENT: u64 = 75;
/// For so long such an estimate takes nothing away that is being sent.
const PATIENCE: Duration = Duration::from_secs(3);

/// Since when the estimate is somewhat lower than what is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shortage(Option<Instant>);

impl Shortage {
    /// What an estimate leaves to what is sent already, at `sent` bit/s: nothing is taken away for a small shortage that
    /// passes.
    pub fn kept(&mut self, estimate: u64, sent: u64, now: Instant) -> u64 {
        let small = estimate >= sent.saturating_mul(NOISE_PERCENT) / 100;
        if estimate >= sent || !small {
            self.0 = None;
            return estimate;
        }
        let since = *self.0.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE { sent } else { estimate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn what_is_sent_stays_through_noise_and_goes_when_the_way_is_narrow() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sent = 1_000_000;
        let mut shortage = Shortage::default();
        assert_eq!(shortage.kept(1_200_000, sent, at(400)), 1_200_000);
        assert_eq!(shortage.kept(850_000, sent, at(800)), sent);
        assert_eq!(shortage.kept(850_000, sent, at(3700)), sent);
        assert_eq!(shortage.kept(850_000, sent, at(3800)), 850_000, "it lasts");
        assert_eq!(shortage.kept(1_000_000, sent, at(4200)), 1_000_000);
        assert_eq!(shortage.kept(850_000, sent, at(4600)), sent, "another shortage");
        assert_eq!(shortage.kept(740_000, sent, at(5000)), 740_000, "the way is narrow");
    }
}

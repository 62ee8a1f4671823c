//! How long datagrams are gathered before they are handed over together. A round costs the same whatever is in it: where
//! little is sent, it pays to have more in each; where much is sent, it does not, and waiting only takes time.

use std::time::{Duration, Instant};

/// So many datagrams should leave in a round.
const WORTH: u32 = 32;
/// The shortest and the longest time.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(2);
/// How often is looked at what leaves.
const LOOK: Duration = Duration::from_millis(50);

/// Chooses the time.
#[derive(Debug)]
pub struct Gather {
    time: Duration,
    /// How many datagrams had left by then.
    counted: (u64, Instant),
}

impl Gather {
    pub fn new(now: Instant) -> Gather {
        Gather { time: LONGEST, counted: (0, now) }
    }

    /// Rounds with datagrams begin at least this far apart.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Notes how many datagrams have left up to now.
    pub fn note(&mut self, left: u64, now: Instant) {
        let (before, since) = self.counted;
        let passed = now.saturating_duration_since(since);
        if passed < LOOK {
            return;
        }
        self.counted = (left, now);
        let count = u32::try_from(left.saturating_sub(before)).unwrap_or(u32::MAX);
        self.time = passed.saturating_mul(WORTH).checked_div(count).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn the_more_is_sent_the_shorter_it_is() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gather = Gather::new(start);
        gather.note(1000, at(10));
        assert_eq!(gather.time(), LONGEST, "too early to tell");
        gather.note(1000, at(100));
        assert_eq!(gather.time(), LONGEST);
        gather.note(3000, at(200));
        assert_eq!(gather.time(), Duration::from_micros(1600));
        gather.note(109_000, at(300));
        assert_eq!(gather.time(), SHORTEST);
        gather.note(109_000, at(400));
        assert_eq!(gather.time(), LONGEST);
    }
}

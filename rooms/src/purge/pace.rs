//! How fast purges go: as fast as those who use the server do not notice.

use std::time::Duration;

use storage::StreamPos;

/// After a part on a server that is in use, the rest is so many times as long, and whoever purges may rest besides: few
/// of those who send meet a part, and they wait for it no longer than it takes.
const RESTS_BESIDE_OTHERS: u32 = 6;
/// The longest rest.
const MAX_REST: Duration = Duration::from_millis(500);
/// So many commits between two parts are not of people: whoever purges notes how far it is.
const OWN_COMMITS: u64 = 1;
/// So long after others have written something the server counts as in use.
const IN_USE: Duration = Duration::from_secs(3);

/// How long the parts of purges take, and what others do meanwhile.
#[derive(Default)]
pub(super) struct Pace {
    rest: Duration,
    began: Duration,
    /// Until when the server counts as in use.
    in_use_until: Duration,
    /// The last commit when a part was over.
    seen: StreamPos,
}

impl Pace {
    /// How long to wait before the next part.
    pub fn rest(&self) -> Duration {
        self.rest
    }

    /// A part begins; `last` is the last commit.
    pub fn begin(&mut self, now: Duration, last: StreamPos) {
        self.began = now;
        if last.0.saturating_sub(self.seen.0) > OWN_COMMITS {
            self.in_use_until = now.saturating_add(IN_USE);
        }
    }

    /// The part is over; `last` is the last commit.
    pub fn end(&mut self, now: Duration, last: StreamPos) {
        let took = now.saturating_sub(self.began);
        let rests = if now < self.in_use_until { RESTS_BESIDE_OTHERS } else { 1 };
        self.rest = took.saturating_mul(rests).min(MAX_REST);
        self.seen = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of 10 ms, one after the other, before each of which there were so many commits: the rest after the last.
    fn rest_after(pace: &mut Pace, commits: &[u64]) -> Duration {
        for count in commits {
            let (now, last) = (pace.began + pace.rest + Duration::from_millis(10), StreamPos(pace.seen.0 + count));
            pace.begin(now, last);
            pace.end(now + Duration::from_millis(10), last);
        }
        pace.rest()
    }

    #[test]
    fn it_is_fast_where_nobody_is_and_slow_beside_others() {
        let mut pace = Pace::default();
        assert_eq!(rest_after(&mut pace, &[1, 0, 1]), Duration::from_millis(10));
        assert_eq!(rest_after(&mut pace, &[7, 1, 1]), Duration::from_millis(60));
        // They have gone.
        assert_eq!(rest_after(&mut pace, &[1; 100]), Duration::from_millis(10));
        pace.begin(Duration::from_secs(100), StreamPos(1000));
        pace.end(Duration::from_secs(101), StreamPos(1000));
        assert_eq!(pace.rest(), MAX_REST);
    }
}

//! How fast purges go: as fast as those who use the server do not notice.

use std::time::Duration;

use storage::StreamPos;

use crate::rooms::Rooms;

/// After a part on a server that is in use, the rest is so many times as long, and whoever purges may rest besides: few
/// of those who send meet a part, and they wait for it no longer than it takes.
const RESTS_BESIDE_OTHERS: u32 = 6;
/// The longest rest.
const MAX_REST: Duration = Duration::from_millis(500);
/// So many commits between two parts are not of people: whoever purges notes how far it is.
const OWN_COMMITS: u64 = 1;

/// How long the parts of purges take, and what others do meanwhile.
#[derive(Default)]
pub(super) struct Pace {
    rest: Duration,
    began: Duration,
    /// Whether the server is in use.
    is_shared: bool,
    /// The last commit when a part was over.
    seen: StreamPos,
}

impl Pace {
    /// How long to wait before the next part.
    pub fn rest(&self) -> Duration {
        self.rest
    }

    /// A part begins.
    pub fn begin(&mut self, rooms: &Rooms) {
        self.began = rooms.clock.monotonic();
        self.is_shared = rooms.store.visible().0.saturating_sub(self.seen.0) > OWN_COMMITS;
    }

    /// The part is over.
    pub fn end(&mut self, rooms: &Rooms) {
        let took = rooms.clock.monotonic().saturating_sub(self.began);
        let rests = if self.is_shared { RESTS_BESIDE_OTHERS } else { 1 };
        self.rest = took.saturating_mul(rests).min(MAX_REST);
        self.seen = rooms.store.visible();
    }
}

//! The `sync` section of the configuration.

use std::time::Duration;

runtime::config_section! {
    /// Sync.
    pub struct SyncConfig {
        /// The longest that a request may wait for news, in milliseconds.
        pub max_wait_ms: u64 = 90_000;
        /// The most timeline events of one room in one answer.
        pub max_timeline_events: usize = 100;
        /// How many changes are remembered in memory. A client that comes back after more of them is
        /// served by looking at each of its rooms.
        pub remembered_changes: usize = 65_536;
        /// How many sliding sync connections a device may have; the longest unused one goes first.
        pub connections_per_device: usize = 64;
        /// After how many milliseconds without a request a sliding sync connection is forgotten.
        pub connection_idle_ms: u64 = 7_200_000;
    }
}

impl SyncConfig {
    /// How long a client that asked for `wanted` may wait.
    pub(crate) fn wait(&self, wanted: Duration) -> Duration {
        wanted.min(Duration::from_millis(self.max_wait_ms))
    }
}

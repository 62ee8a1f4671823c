//! Settings of this crate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of sync.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// The longest that a request may wait for news, in milliseconds.
    pub max_wait_ms: u64,
    /// The most timeline events of one room in one answer.
    pub max_timeline_events: usize,
    /// How many changes are remembered in memory. Clients that come back after more changes are
    /// served by looking at each of their rooms.
    pub remembered_changes: usize,
    /// How many sliding sync connections one device may have; the longest unused one goes first.
    pub connections_per_device: usize,
    /// After how many milliseconds without a request a sliding sync connection is forgotten.
    pub connection_idle_ms: u64,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            max_wait_ms: 90_000,
            max_timeline_events: 100,
            remembered_changes: 65_536,
            connections_per_device: 16,
            connection_idle_ms: 2 * 60 * 60 * 1000,
        }
    }
}

impl SyncConfig {
    /// How long a client that asked for `wanted` may wait.
    pub(crate) fn wait(&self, wanted: Duration) -> Duration {
        wanted.min(Duration::from_millis(self.max_wait_ms))
    }
}

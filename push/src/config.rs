//! Settings of push delivery.

use runtime::config::Span;
use serde::{Deserialize, Serialize};

runtime::config_section! {
    /// Notifications to the push gateways that clients name.
    pub struct PushConfig {
        /// Whether notifications are sent.
        pub enabled: bool = true;
        /// What a badge counts: `rooms` (rooms with something unread, and invitations) or `messages`
        /// (unread messages that notify, and invitations).
        pub badge: BadgeCount = BadgeCount::Rooms;
        /// How long a push gateway may take to answer.
        pub request_timeout: Span = Span::seconds(10);
        /// How long a notification is tried again. Events that are older when they arrive notify nobody.
        pub retry_for: Span = Span::seconds(24 * 3600);
        /// How long it takes until the second try; doubled with each further one.
        pub backoff: Span = Span::seconds(2);
        /// The longest time between two tries.
        pub max_backoff: Span = Span::seconds(1800);
        /// How many notifications wait for one pusher; of more, the oldest are dropped.
        pub max_queued: usize = 50;
        /// How many requests are on their way at a time, one for a pusher at most.
        pub max_concurrent_requests: usize = 32;
    }
}

/// What a badge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadgeCount {
    /// Rooms with unread notifications.
    Rooms,
    /// Unread notifications.
    Messages,
}

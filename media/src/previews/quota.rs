//! What is fetched for one user: so many pages in an hour, and a few at a time, so that nobody fills the disk with
//! images or holds all places with slow pages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::Clock;
use spec::ids::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::MediaError;

/// How many pages are fetched for one user at a time; further ones wait.
const MAX_AT_A_TIME: usize = 4;
const HOUR: Duration = Duration::from_secs(3600);
/// Users whose hour is over are forgotten when there are so many.
const SWEEP_AT: usize = 1024;

/// The shares of all users.
pub(super) struct Quotas {
    clock: Clock,
    shares: Mutex<Shares>,
}

struct Shares {
    of_users: HashMap<UserId, Share>,
    /// The number of users at which it is looked for some to forget.
    sweep_at: usize,
}

/// One user's, in the hour that began with the first page.
struct Share {
    ends: Duration,
    used: u32,
    at_a_time: Arc<Semaphore>,
}

impl Quotas {
    pub(super) fn new(clock: Clock) -> Quotas {
        Quotas { clock, shares: Mutex::new(Shares { of_users: HashMap::new(), sweep_at: SWEEP_AT }) }
    }

    /// Counts a page that is fetched for a user, and waits until there is a place for it, which is held by what is
    /// returned. Cancel-safe: the page stays counted.
    ///
    /// # Errors
    /// `TooManyPreviews`, `Interrupted`.
    pub(super) async fn take(&self, user: &UserId, hourly: u32) -> Result<OwnedSemaphorePermit, MediaError> {
        let place = self.count(user, hourly)?;
        // Never closed.
        place.acquire_owned().await.map_err(|_| MediaError::Interrupted)
    }

    fn count(&self, user: &UserId, hourly: u32) -> Result<Arc<Semaphore>, MediaError> {
        let now = self.clock.monotonic();
        let mut shares = self.shares.lock();
        if shares.of_users.len() >= shares.sweep_at {
            shares.of_users.retain(|_, share| share.ends > now);
            shares.sweep_at = shares.of_users.len().saturating_mul(2).max(SWEEP_AT);
        }
        let share = shares.of_users.entry(user.clone()).or_insert_with(|| Share {
            ends: now.saturating_add(HOUR),
            used: 0,
            at_a_time: Arc::new(Semaphore::new(MAX_AT_A_TIME)),
        });
        if share.ends <= now {
            (share.ends, share.used) = (now.saturating_add(HOUR), 0);
        }
        if share.used >= hourly {
            let wait = share.ends.saturating_sub(now).as_millis();
            return Err(MediaError::TooManyPreviews { retry_after_ms: u64::try_from(wait).unwrap_or(u64::MAX) });
        }
        share.used = share.used.saturating_add(1);
        Ok(share.at_a_time.clone())
    }
}

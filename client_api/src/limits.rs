//! Rate limits: the generic cell rate algorithm, one number for each caller and class.
//!
//! The number is the time at which the caller's bucket is full again; a request is refused when that lies further
//! ahead than the burst allows. Memory is bounded: full buckets are forgotten, they are what an unknown caller has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::UserNid;
use runtime::Clock;
use runtime::config::RateLimit;

use crate::config::RateLimitsConfig;
use crate::error::ApiError;

const SHARDS: usize = 16;
/// Buckets of one shard; 24 to 40 bytes each.
const SHARD_ENTRIES: usize = 8192;

/// What is limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitClass {
    /// Sending events.
    Message,
    /// Logging in.
    Login,
    /// Registering.
    Registration,
    /// Joining and knocking.
    Join,
    /// Inviting.
    Invite,
    /// Making rooms.
    CreateRoom,
    /// Uploading media.
    MediaUpload,
    /// Searching directories.
    Search,
}

/// Whose bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    User(UserNid),
    Address(IpAddr),
}

impl Caller {
    /// The bucket of an address: each IPv4 address has one, and each IPv6 network of 64 bits.
    pub fn of_address(address: IpAddr) -> Caller {
        Caller::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

type Key = (LimitClass, Caller);

/// The buckets of all callers.
pub(crate) struct RateLimits {
    clock: Clock,
    config: RateLimitsConfig,
    hasher: RandomState,
    shards: [Mutex<HashMap<Key, Duration>>; SHARDS],
}

impl RateLimits {
    pub fn new(clock: Clock, config: RateLimitsConfig) -> RateLimits {
        RateLimits { clock, config, hasher: RandomState::new(), shards: Default::default() }
    }

    fn limit_of(&self, class: LimitClass) -> RateLimit {
        match class {
            LimitClass::Message => self.config.message,
            LimitClass::Login => self.config.login,
            LimitClass::Registration => self.config.registration,
            LimitClass::Join => self.config.join,
            LimitClass::Invite => self.config.invite,
            LimitClass::CreateRoom => self.config.create_room,
            LimitClass::MediaUpload => self.config.media_upload,
            LimitClass::Search => self.config.search,
        }
    }

    /// Takes one token from the caller's bucket.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with the time until there is one.
    pub fn check(&self, class: LimitClass, caller: Caller) -> Result<(), ApiError> {
        if !self.config.enabled {
            return Ok(());
        }
        match self.take(class, caller) {
            Ok(()) => Ok(()),
            Err(wait) => Err(ApiError::limit_exceeded(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))),
        }
    }

    fn take(&self, class: LimitClass, caller: Caller) -> Result<(), Duration> {
        let RateLimit { per_second, burst } = self.limit_of(class);
        // A limit of nothing refuses always; tell clients to come back in an hour.
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::from_secs(3600));
        let tolerance = interval.saturating_mul(burst.max(1) - 1);
        let now = self.clock.monotonic();
        let key = (class, caller);
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return Ok(()) };
        let mut buckets = shard.lock();
        let full_at = buckets.get(&key).copied().unwrap_or(now).max(now);
        let ahead = full_at - now;
        if ahead > tolerance {
            return Err(ahead - tolerance);
        }
        if buckets.len() >= SHARD_ENTRIES && !buckets.contains_key(&key) {
            make_room(&mut buckets, now);
        }
        buckets.insert(key, full_at + interval);
        Ok(())
    }
}

/// Forgets full buckets, and if there are none, the fullest.
fn make_room(buckets: &mut HashMap<Key, Duration>, now: Duration) {
    buckets.retain(|_, full_at| *full_at > now);
    if buckets.len() >= SHARD_ENTRIES
        && let Some(fullest) = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| *key)
    {
        buckets.remove(&fullest);
    }
}

#[cfg(test)]
mod tests;

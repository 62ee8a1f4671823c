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
use runtime::config::{Live, RateLimit};
use spec::ids::UserId;
use users::{Session, SpamRule};

use crate::config::RateLimitsConfig;
use crate::error::ApiError;

const SHARDS: usize = 16;
/// Buckets of one shard; about 50 bytes each.
const SHARD_ENTRIES: usize = 8192;
/// A full shard looks for buckets to forget this often; in between it drops what comes to hand.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many buckets are compared to drop one.
const DROP_SAMPLE: usize = 8;

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
    /// Previews of URLs.
    UrlPreview,
    /// Searching directories.
    Search,
    /// Restarting, cancelling and sending delayed events.
    DelayedEvents,
    /// Joining and leaving calls.
    Calls,
    /// Changing one's profile.
    Profile,
    /// Snapshots of rooms, by the endpoints that were there before `/sync`.
    InitialSync,
    /// Waiting for events by the endpoint that was there before `/sync`.
    Events,
}

/// Whose bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    User(UserNid),
    Address(IpAddr),
    /// A user, as far as they invite somebody: a hash of whom.
    Inviter(UserNid, u64),
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

/// What a bucket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    /// Requests of a class.
    Class(LimitClass),
    /// A rule for new accounts.
    Newcomers(SpamRule),
}

type Key = (Purpose, Caller);

/// The buckets of all callers.
pub(crate) struct RateLimits {
    clock: Clock,
    config: Live<RateLimitsConfig>,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// When each bucket is full again.
    buckets: HashMap<Key, Duration>,
    next_sweep: Duration,
}

impl RateLimits {
    pub fn new(clock: Clock, config: Live<RateLimitsConfig>) -> RateLimits {
        RateLimits { clock, config, hasher: RandomState::new(), shards: Default::default() }
    }

    fn limit_of(&self, class: LimitClass) -> RateLimit {
        let config = self.config.get();
        match class {
            LimitClass::Message => config.message,
            LimitClass::Login => config.login,
            LimitClass::Registration => config.registration,
            LimitClass::Join => config.join,
            LimitClass::Invite => config.invite,
            LimitClass::CreateRoom => config.create_room,
            LimitClass::MediaUpload => config.media_upload,
            LimitClass::UrlPreview => config.url_preview,
            LimitClass::Search => config.search,
            LimitClass::DelayedEvents => config.delayed_events,
            LimitClass::Calls => config.calls,
            LimitClass::Profile => config.profile,
            LimitClass::InitialSync => config.initial_sync,
            LimitClass::Events => config.events,
        }
    }

    /// Takes one token from the caller's bucket.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with the time until there is one.
    pub fn check(&self, class: LimitClass, caller: Caller) -> Result<(), ApiError> {
        self.check_by(self.limit_of(class), class, caller)
    }

    /// As [`RateLimits::check`], of a user who may have a limit of their own, which is then that of each class.
    ///
    /// # Errors
    /// As [`RateLimits::check`].
    pub fn check_session(&self, class: LimitClass, session: &Session) -> Result<(), ApiError> {
        let limit = match session.rate_limit {
            None => self.limit_of(class),
            Some(own) if own.is_unlimited() => return Ok(()),
            Some(own) => RateLimit { per_second: f64::from(own.per_second), burst: own.burst.max(1) },
        };
        self.check_by(limit, class, Caller::User(session.user))
    }

    fn check_by(&self, limit: RateLimit, class: LimitClass, caller: Caller) -> Result<(), ApiError> {
        if !self.config.get().enabled {
            return Ok(());
        }
        match self.take(limit, Purpose::Class(class), caller) {
            Ok(()) => Ok(()),
            Err(wait) => Err(ApiError::limit_exceeded(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))),
        }
    }

    /// Counts against a rule for new accounts, which allows so many in an hour; 0: any number.
    ///
    /// # Errors
    /// How long the account has to wait.
    pub fn check_newcomer(&self, rule: SpamRule, user: UserNid, per_hour: u32) -> Result<(), Duration> {
        if per_hour == 0 || !self.config.get().enabled {
            return Ok(());
        }
        self.take(hourly(per_hour), Purpose::Newcomers(rule), Caller::User(user))
    }

    /// As [`RateLimits::check_newcomer`], for inviting different users: whom the account invited within the last hour is
    /// not counted again.
    ///
    /// # Errors
    /// As [`RateLimits::check_newcomer`].
    pub fn check_invited(&self, user: UserNid, target: &UserId, per_hour: u32) -> Result<(), Duration> {
        let purpose = Purpose::Newcomers(SpamRule::InvitedUsers);
        let inviter = Caller::Inviter(user, self.hasher.hash_one(target.as_str()));
        if self.is_counted(&(purpose, inviter)) {
            return Ok(());
        }
        self.check_newcomer(SpamRule::InvitedUsers, user, per_hour)?;
        if per_hour > 0 {
            // Two requests at once count them twice.
            let _ = self.take(hourly(1), purpose, inviter);
        }
        Ok(())
    }

    /// Whether something was taken from a bucket that is not full again.
    fn is_counted(&self, key: &Key) -> bool {
        let shard = self.shards.get(self.shard_of(key));
        shard
            .is_some_and(|shard| shard.lock().buckets.get(key).is_some_and(|full_at| *full_at > self.clock.monotonic()))
    }

    fn shard_of(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    fn take(&self, limit: RateLimit, purpose: Purpose, caller: Caller) -> Result<(), Duration> {
        let RateLimit { per_second, burst } = limit;
        // A limit of nothing refuses always; tell clients to come back in an hour.
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::from_secs(3600));
        let tolerance = interval.saturating_mul(burst.max(1) - 1);
        let now = self.clock.monotonic();
        let key = (purpose, caller);
        let Some(shard) = self.shards.get(self.shard_of(&key)) else { return Ok(()) };
        let mut shard = shard.lock();
        let full_at = shard.buckets.get(&key).copied().unwrap_or(now).max(now);
        let ahead = full_at - now;
        if ahead > tolerance {
            return Err(ahead - tolerance);
        }
        if shard.buckets.len() >= SHARD_ENTRIES && !shard.buckets.contains_key(&key) {
            shard.make_room(now);
        }
        shard.buckets.insert(key, full_at + interval);
        Ok(())
    }
}

/// So many in an hour, and as many at once.
fn hourly(count: u32) -> RateLimit {
    RateLimit { per_second: f64::from(count) / 3600.0, burst: count }
}

impl Shard {
    /// Forgets full buckets; where there are none, the fullest of a few.
    fn make_room(&mut self, now: Duration) {
        if now >= self.next_sweep {
            self.buckets.retain(|_, full_at| *full_at > now);
            self.next_sweep = now + SWEEP_INTERVAL;
        }
        if self.buckets.len() >= SHARD_ENTRIES {
            let sample = self.buckets.iter().take(DROP_SAMPLE);
            if let Some(fullest) = sample.min_by_key(|(_, full_at)| **full_at).map(|(key, _)| *key) {
                self.buckets.remove(&fullest);
            }
        }
    }
}

#[cfg(test)]
mod tests;

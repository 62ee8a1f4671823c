use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rooms::UserNid;
use runtime::Clock;
use runtime::config::{Live, RateLimit};

use super::{Caller, LimitClass, Purpose, RateLimits, SHARD_ENTRIES, SHARDS};
use crate::config::RateLimitsConfig;

fn limits(clock: &Clock) -> RateLimits {
    let config = RateLimitsConfig { message: RateLimit::new(2.0, 3), ..RateLimitsConfig::default() };
    RateLimits::new(clock.clone(), Live::new(config))
}

fn take(limits: &RateLimits, class: LimitClass, caller: Caller) -> Result<(), Duration> {
    limits.take(limits.limit_of(class), Purpose::Class(class), caller)
}

#[test]
fn a_burst_passes_and_then_the_rate_holds() {
    let clock = Clock::fake(0);
    let limits = limits(&clock);
    let me = Caller::User(UserNid(1));
    for _ in 0..3 {
        assert_eq!(take(&limits, LimitClass::Message, me), Ok(()));
    }
    assert_eq!(take(&limits, LimitClass::Message, me), Err(Duration::from_millis(500)));
    // Another user, and another class, have buckets of their own.
    assert_eq!(take(&limits, LimitClass::Message, Caller::User(UserNid(2))), Ok(()));
    assert_eq!(take(&limits, LimitClass::Join, me), Ok(()));
    clock.advance(Duration::from_millis(500));
    assert_eq!(take(&limits, LimitClass::Message, me), Ok(()));
    assert!(take(&limits, LimitClass::Message, me).is_err());
    clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(take(&limits, LimitClass::Message, me), Ok(()));
    }
    assert!(take(&limits, LimitClass::Message, me).is_err());
}

#[test]
fn disabled_limits_let_everything_pass() {
    let config = RateLimitsConfig { enabled: false, message: RateLimit::new(0.0, 0), ..RateLimitsConfig::default() };
    let limits = RateLimits::new(Clock::fake(0), Live::new(config));
    for _ in 0..100 {
        assert!(limits.check(LimitClass::Message, Caller::User(UserNid(1))).is_ok());
    }
}

#[test]
fn memory_is_bounded() {
    let clock = Clock::fake(0);
    let limits = limits(&clock);
    for address in 0..u32::try_from(SHARDS * SHARD_ENTRIES).unwrap() * 2 {
        let address = IpAddr::V4(Ipv4Addr::from(address));
        let _ = take(&limits, LimitClass::Message, Caller::of_address(address));
    }
    let entries: usize = limits.shards.iter().map(|shard| shard.lock().buckets.len()).sum();
    assert!(entries <= SHARDS * SHARD_ENTRIES, "{entries}");
    // Once the buckets are full again they are forgotten, and a flooding caller is told apart as before.
    clock.advance(Duration::from_secs(10));
    let me = Caller::User(UserNid(1));
    for _ in 0..3 {
        assert_eq!(take(&limits, LimitClass::Message, me), Ok(()));
    }
    assert!(take(&limits, LimitClass::Message, me).is_err());
}

#[test]
fn an_ipv6_network_is_one_caller() {
    let first = Caller::of_address("2001:db8:1:2::1".parse().unwrap());
    assert_eq!(first, Caller::of_address("2001:db8:1:2:ffff::9".parse().unwrap()));
    assert_ne!(first, Caller::of_address("2001:db8:1:3::1".parse().unwrap()));
    assert_eq!(Caller::of_address("::ffff:10.0.0.1".parse().unwrap()), Caller::of_address("10.0.0.1".parse().unwrap()));
}

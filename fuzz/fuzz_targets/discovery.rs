//! Finding servers: `.well-known` documents with their headers, redirects, SRV records. Whatever is answered, the walk
//! ends, what is remembered is remembered within bounds, and only `https` is followed.
#![no_main]

use arbitrary::Arbitrary;
use federation::fuzzing::{delegation_lasts_ms, find_targets, follow_redirect, may_connect, read_well_known};
use http::{HeaderMap, HeaderValue, Uri, header};
use libfuzzer_sys::fuzz_target;
use spec::ids::ServerName;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

#[derive(Arbitrary, Debug)]
struct Answers<'a> {
    name: &'a str,
    document: &'a [u8],
    cache_control: Vec<&'a [u8]>,
    expires: &'a [u8],
    location: &'a [u8],
    records: Vec<(u16, u16, u16, String)>,
    on_first: bool,
    draws: u64,
    now_ms: u64,
    later_ms: u64,
}

fuzz_target!(|answers: Answers<'_>| {
    let delegated = read_well_known(answers.document);
    if let Some(to) = &delegated {
        check_times(to, &answers);
    }
    let from = Uri::from_static("https://a.org/.well-known/matrix/server");
    if let Some(to) = follow_redirect(&from, answers.location) {
        assert_eq!(to.scheme_str(), Some("https"), "{to}");
    }
    let Ok(name) = ServerName::parse(answers.name) else { return };
    let mut draws = answers.draws;
    let targets = find_targets(&name, delegated.as_ref(), &answers.records, answers.on_first, |bound| {
        draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        draws % bound
    });
    let Some(targets) = targets else { return };
    assert!(!targets.is_empty() && targets.len() <= 32);
    for (host, port) in targets {
        assert_ne!(port, 0);
        match host {
            Ok(address) => check_address(address),
            Err(name) => assert!(!name.is_empty()),
        }
    }
});

fn check_times(to: &ServerName, answers: &Answers<'_>) {
    let mut headers = HeaderMap::new();
    for value in answers.cache_control.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(header::CACHE_CONTROL, value);
    }
    if let Ok(value) = HeaderValue::from_bytes(answers.expires) {
        headers.insert(header::EXPIRES, value);
    }
    // Times that a clock can have; what lies beyond is none of this function's business.
    let now_ms = answers.now_ms % (1 << 50);
    let later_ms = now_ms + answers.later_ms % (1 << 40);
    let (lasts, after_failure) = delegation_lasts_ms(to, &headers, now_ms, later_ms);
    assert!((5 * MINUTE_MS..=48 * HOUR_MS).contains(&lasts), "{lasts}");
    assert!((1..=HOUR_MS).contains(&after_failure), "{after_failure}");
}

/// Every form that an inner IPv4 address takes in IPv6 is inner.
fn check_address(address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(four) => {
            assert_eq!(may_connect(four.to_ipv6_mapped().into()), may_connect(address), "{address}");
            let [a, ..] = four.octets();
            assert!(!(matches!(a, 0 | 10 | 127) && may_connect(address)), "{address}");
        }
        std::net::IpAddr::V6(six) => {
            let inner = six.is_loopback() || six.is_unspecified() || six.is_multicast() || six.segments()[0] >= 0xfc00;
            assert!(!(inner && may_connect(address)), "{address}");
        }
    }
}

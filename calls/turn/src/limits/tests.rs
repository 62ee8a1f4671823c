use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_bucket_refills_with_time() {
    let limit = RateLimit::new(10.0, 2);
    let mut bucket = Bucket::full(limit, at(0));
    assert!(bucket.take(limit, 1.0, at(0)) && bucket.take(limit, 1.0, at(0)) && !bucket.take(limit, 1.0, at(0)));
    assert!(!bucket.take(limit, 1.0, at(50)) && bucket.take(limit, 1.0, at(100)));
    assert!(bucket.take(limit, 2.0, at(10_000)) && !bucket.take(limit, 1.0, at(10_000)), "no more than the burst");
    assert!(!bucket.take(limit, 1.0, at(9_000)), "time that goes backwards gives nothing");
}

#[test]
fn sources_are_told_apart_by_their_network() {
    let mut sources = Sources::new(RateLimit::new(1.0, 1));
    let take = |sources: &mut Sources, ip: &str| sources.take(ip.parse().unwrap(), at(0));
    assert!(take(&mut sources, "192.0.2.1") && !take(&mut sources, "192.0.2.1"));
    assert!(take(&mut sources, "2001:db8::1") && !take(&mut sources, "2001:db8::2"), "one /64");
    // Others may share a bucket, but few do.
    let others = (0..100u8).filter(|last| take(&mut sources, &format!("198.51.100.{last}"))).count();
    assert!(others > 90, "{others}");
}

#[test]
fn no_bound_is_no_bound() {
    assert!(byte_rate(0).is_none());
    assert_eq!(byte_rate(1000).unwrap().burst, 1000);
}

use super::*;

#[test]
fn a_bucket_refills() {
    let limit = RateLimit::new(2.0, 3);
    let mut bucket = Bucket::full(limit, Duration::ZERO);
    let taken = |bucket: &mut Bucket, at| (0..10).filter(|_| bucket.take(limit, Duration::from_millis(at))).count();
    assert_eq!(taken(&mut bucket, 0), 3);
    assert_eq!(taken(&mut bucket, 500), 1);
    assert_eq!(taken(&mut bucket, 60_000), 3);
}

#[test]
fn identities_are_limited_apart() {
    let limits = JoinLimits::new(RateLimit::new(0.1, 1));
    assert!(limits.admit("a", Duration::ZERO));
    assert!(!limits.admit("a", Duration::ZERO));
    assert!(limits.admit("b", Duration::ZERO));
    assert!(limits.admit("a", Duration::from_secs(10)));
}

#[test]
fn many_identities_do_not_grow_the_table() {
    let limits = JoinLimits::new(RateLimit::new(1.0, 1));
    let admitted = (0..MAX_REMEMBERED + 10).filter(|number| limits.admit(&number.to_string(), Duration::ZERO)).count();
    assert_eq!(admitted, MAX_REMEMBERED);
    assert!(limits.admit("later", Duration::from_secs(5)));
    assert!(limits.buckets.lock().len() < 10);
}

use storage::{Backend, MemoryDisk, Options};

use super::lists::matches_glob;
use super::*;

const START: u64 = 1_700_000_000_000;

struct Fixture {
    store: Store,
    clock: Clock,
    destinations: Destinations,
}

fn config() -> FederationConfig {
    FederationConfig::default()
}

fn open_on(disk: &MemoryDisk, clock: &Clock, config: FederationConfig) -> Fixture {
    let store = Store::open(Options::new(Backend::MemoryDisk(disk.clone()), KEYSPACES.to_vec())).unwrap();
    let parts = DestinationsParts {
        store: store.clone(),
        clock: clock.clone(),
        random: Random::seeded(1),
        config: Arc::new(config),
    };
    Fixture { store, clock: clock.clone(), destinations: Destinations::open(parts).unwrap() }
}

fn open() -> Fixture {
    open_on(&MemoryDisk::new(), &Clock::fake(START), config())
}

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

impl Fixture {
    fn row(&self, server: &ServerName) -> Option<BackoffRow> {
        self.store.get(&DESTINATIONS, &server.as_str().to_owned()).unwrap()
    }

    /// Lets the back-off of a server pass.
    fn wait_out(&self, server: &ServerName) -> u64 {
        let pause = self.destinations.retry_at(server).unwrap() - self.clock.now_ms();
        self.clock.advance(Duration::from_millis(pause));
        pause
    }
}

#[test]
fn the_pause_doubles_with_jitter_up_to_its_bound() {
    let random = Random::seeded(3);
    let (first, longest) = (Duration::from_secs(2), Duration::from_secs(3600));
    for (failures, full) in
        [(1, 2_000), (2, 4_000), (3, 8_000), (11, 2_048_000), (12, 3_600_000), (u32::MAX, 3_600_000)]
    {
        let drawn: Vec<u64> = (0..200).map(|_| backoff::pause_ms(first, longest, failures, None, &random)).collect();
        assert!(drawn.iter().all(|pause| (full / 2..=full).contains(pause)), "{failures}: {drawn:?}");
        assert!(drawn.iter().max() > drawn.iter().min(), "{failures}: no jitter");
    }
    let pause = |asked| backoff::pause_ms(first, longest, 1, Some(asked), &random);
    assert_eq!(pause(Duration::from_secs(7000)), 7_000_000);
    assert_eq!(pause(Duration::from_secs(u64::MAX)), 24 * 60 * 60 * 1000);
    assert!(pause(Duration::from_secs(0)) >= 1000);
}

#[tokio::test]
async fn failures_lengthen_the_pause_and_success_ends_it() {
    let fixture = open();
    let there = server("a.org");
    let mut returns = fixture.destinations.returns();
    assert!(fixture.destinations.check(&there).is_ok());
    let mut pauses = Vec::new();
    for failures in 1..=4 {
        fixture.destinations.record_failure(&there, None).await;
        assert!(matches!(fixture.destinations.check(&there), Err(RemoteError::BackingOff { .. })));
        let row = fixture.row(&there).unwrap();
        assert_eq!((row.failures, row.failing_since), (failures, START));
        pauses.push(fixture.wait_out(&there));
        assert!(fixture.destinations.check(&there).is_ok(), "it may be tried after the pause");
    }
    assert!(pauses[3] > pauses[0], "{pauses:?}");
    assert!(returns.try_recv().is_err());
    fixture.destinations.record_success(&there).await;
    assert_eq!(fixture.row(&there), None);
    assert_eq!(returns.try_recv().unwrap(), there);
    assert_eq!(fixture.destinations.failing_since(&there), None);
}

#[tokio::test]
async fn only_changes_are_written() {
    let fixture = open();
    let there = server("a.org");
    let before = fixture.store.visible();
    fixture.destinations.record_success(&there).await;
    assert_eq!(fixture.store.visible(), before, "a success that changes nothing");
    fixture.destinations.record_failure(&there, None).await;
    let (after, retry_at) = (fixture.store.visible(), fixture.destinations.retry_at(&there));
    fixture.destinations.record_failure(&there, None).await;
    assert_eq!(fixture.store.visible(), after, "a failure of a request that was on its way already");
    assert_eq!(fixture.destinations.retry_at(&there), retry_at);
}

#[tokio::test]
async fn the_pause_outlasts_a_restart_and_is_forgotten_in_the_end() {
    let (disk, clock, there) = (MemoryDisk::new(), Clock::fake(START), server("a.org"));
    let first = open_on(&disk, &clock, config());
    first.destinations.record_failure(&there, Some(Duration::from_secs(600))).await;
    drop(first);
    let second = open_on(&disk, &clock, config());
    assert_eq!(second.destinations.retry_at(&there), Some(START + 600_000));
    drop(second);
    clock.advance(Duration::from_millis(FORGET_MS + 600_000));
    let third = open_on(&disk, &clock, config());
    assert_eq!(third.destinations.failing_since(&there), None);
}

#[tokio::test]
async fn being_heard_from_ends_the_pause_but_not_more_than_once_a_minute() {
    let fixture = open();
    let there = server("a.org");
    let hour = Some(Duration::from_secs(3600));
    let mut returns = fixture.destinations.returns();
    fixture.destinations.heard_from(&there);
    assert!(returns.try_recv().is_err(), "it was not failing");
    fixture.destinations.record_failure(&there, hour).await;
    fixture.destinations.heard_from(&there);
    assert_eq!(returns.try_recv().unwrap(), there);
    assert!(fixture.destinations.check(&there).is_ok());
    fixture.destinations.record_failure(&there, hour).await;
    fixture.destinations.heard_from(&there);
    assert!(fixture.destinations.check(&there).is_err(), "it is reached by nobody, whatever it sends");
    fixture.clock.advance(Duration::from_secs(61));
    fixture.destinations.heard_from(&there);
    assert!(fixture.destinations.check(&there).is_ok());
}

#[tokio::test]
async fn the_number_of_failing_servers_is_bounded() {
    let fixture = open();
    let mut all = HashMap::new();
    for number in 0..MAX_FAILING {
        let row = BackoffRow { failing_since: 0, retry_at: number as u64, failures: 1 };
        all.insert(server(&format!("s{number}.org")), Failing { row, heard_at: None });
    }
    *fixture.destinations.0.failing.lock() = all;
    fixture.destinations.record_failure(&server("new.org"), None).await;
    let all = fixture.destinations.0.failing.lock();
    assert_eq!(all.len(), MAX_FAILING - EVICT + 1);
    assert!(!all.contains_key(&server("s0.org")), "the one that could have been tried longest ago goes");
    assert!(all.contains_key(&server("new.org")));
}

#[test]
fn the_lists_decide_who_may_be_asked() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let allow = |allowed: &[&str], denied: &[&str], name: &str| {
        ServerLists::new(&list(allowed), &list(denied)).allow(&server(name))
    };
    assert!(allow(&[], &[], "a.org"));
    assert!(allow(&["a.org"], &[], "a.org"));
    assert!(allow(&["a.org"], &[], "a.org:8448"), "a host stands for any port");
    assert!(allow(&["A.org"], &[], "a.ORG"));
    assert!(!allow(&["a.org"], &[], "b.org"));
    assert!(!allow(&["a.org:1"], &[], "a.org:2"));
    assert!(allow(&["*.a.org"], &[], "x.y.a.org"));
    assert!(!allow(&["*.a.org"], &[], "a.org"));
    assert!(!allow(&[], &["*.a.org"], "x.a.org:1"));
    assert!(!allow(&["*"], &["a.org"], "a.org"), "denial outweighs");
}

#[test]
fn globs_match_whole_names() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "abc", true),
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("?b", "ab", true),
        ("?b", "b", false),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b*", "xxbxxaxx", false),
        ("a**b", "ab", true),
        ("ab", "abc", false),
    ] {
        assert_eq!(matches_glob(pattern, text), expected, "{pattern} {text}");
    }
    let nasty = format!("{}b", "*a".repeat(50));
    assert!(!matches_glob(&nasty, &"a".repeat(250)), "and in bounded time");
}

#[tokio::test]
async fn new_settings_are_taken_over() {
    let fixture = open();
    let there = server("a.org");
    fixture.destinations.reload(&FederationConfig { denied_servers: vec!["a.org".to_owned()], ..config() });
    assert!(matches!(fixture.destinations.check(&there), Err(RemoteError::NotAllowed(_))));
}

#[test]
fn without_federation_nobody_may_be_asked() {
    let off = FederationConfig { enabled: false, ..config() };
    let fixture = open_on(&MemoryDisk::new(), &Clock::fake(START), off);
    assert!(matches!(fixture.destinations.check(&server("there.test")), Err(RemoteError::NotAllowed(_))));
}

//! Which seeds to run, and running them side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many seeds are run if nobody says otherwise.
const SEEDS: u64 = 10;
/// How many worlds exist at a time: each waits for its stores now and then.
const SIDE_BY_SIDE: usize = 3;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs `world` for each seed and fails in the end, naming those that failed.
pub fn for_each_seed(test: &str, world: impl Fn(u64) + Sync) {
    let (first, until) = match number("SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("SEEDS").unwrap_or(SEEDS)),
    };
    if let Ok(level) = std::env::var("SIM_LOG") {
        // With several tests in the process, the first one's log is everybody's.
        let _ = runtime::start_logging(&runtime::LogConfig { level, ..Default::default() });
    }
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| world(seed))).is_err() {
                        eprintln!("seed {seed} failed; again with: SEED={seed} cargo test --test sim {test}");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
}

//! The estimate over simulated ways.
mod hostile;
mod link;
mod narrow;
mod parts;
mod steady;

use std::time::Instant;

use self::link::{Call, Link, Source};

#[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
fn start() -> Instant {
    Instant::now()
}

fn call(first: u64, wish: u64, source: Source, link: Link, seed: u64) -> Call {
    Call::new(first, wish, source, link, seed, start())
}

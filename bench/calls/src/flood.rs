//! Those who join another call and leave it at once, again and again: what they may not do is disturb the call that is
//! measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::livekit::Participant;
use crate::worker::Worker;

/// Between two attempts of one.
const PAUSE: Duration = Duration::from_millis(5);
/// More are not made: the peers of the generator are never given back.
const MAX_JOINS: u64 = 4000;

/// What became of a flood.
#[derive(Default)]
pub struct Flood {
    joined: AtomicU64,
    refused: AtomicU64,
}

/// Starts a flood of so many.
pub fn start(url: &str, floods: u16, workers: &[Worker]) -> Result<Arc<Flood>> {
    let flood = Arc::new(Flood::default());
    for number in 0..floods {
        let (flood, url) = (flood.clone(), url.to_owned());
        let worker = workers.first().context("no thread")?.clone();
        tokio::spawn(async move {
            for attempt in 0..MAX_JOINS / u64::from(floods) {
                let Ok(peer) = worker.add(format!("flood {number}")).await else { return };
                let (room, identity) = (format!("flood-{}", number % 4), format!("flood-{number}-{attempt}"));
                let outcome = Participant::join(&url, &room, &identity, peer, true, None).await;
                let count = if outcome.is_ok() { &flood.joined } else { &flood.refused };
                count.fetch_add(1, Ordering::Relaxed);
                sleep(PAUSE).await;
            }
        });
    }
    Ok(flood)
}

impl Flood {
    /// Says how many got in.
    pub fn report(&self) {
        let (joined, refused) = (self.joined.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        if joined + refused > 0 {
            eprintln!("flood: {joined} joined, {refused} refused");
        }
    }
}

//! The only source of time.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A source of wall-clock and monotonic time; cloning is cheap and clones agree.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Fake(Arc<Fake>),
}

#[derive(Debug)]
struct Fake {
    start_ms: u64,
    /// Time that has passed since the fake clock was made.
    elapsed: watch::Sender<Duration>,
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn system() -> Clock {
        Clock(Source::System { started: Instant::now() })
    }

    /// A clock that stands still at `start_ms` (milliseconds since the Unix epoch) until
    /// [`Clock::advance`] moves it. For tests.
    pub fn fake(start_ms: u64) -> Clock {
        Clock(Source::Fake(Arc::new(Fake { start_ms, elapsed: watch::Sender::new(Duration::ZERO) })))
    }

    /// Moves a fake clock forward and wakes the sleepers whose time has come. Does nothing to the
    /// system clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Fake(fake) = &self.0 {
            fake.elapsed.send_modify(|elapsed| *elapsed += by);
        }
    }

    /// Wall-clock time in milliseconds since the Unix epoch; 0 when the machine's clock is set to
    /// before 1970. It may jump when the operator sets the clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
            }
            Source::Fake(fake) => {
                let elapsed = u64::try_from(fake.elapsed.borrow().as_millis()).unwrap_or(u64::MAX);
                fake.start_ms.saturating_add(elapsed)
            }
        }
    }

    /// Time since this clock was made; never goes backwards. Use it for durations and deadlines.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Fake(fake) => *fake.elapsed.borrow(),
        }
    }

    /// Waits for `duration`; on a fake clock until it has been advanced that far. Cancel-safe.
    ///
    /// Whoever waits for a moment that is known already uses [`Clock::sleep_until`] or [`Clock::sleep_until_ms`]: time
    /// that passes between the reading of the clock and the sleep is lost otherwise.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.monotonic().saturating_add(duration)).await;
    }

    /// Waits until [`Clock::monotonic`] is at `deadline` or past it. Cancel-safe.
    pub async fn sleep_until(&self, deadline: Duration) {
        match &self.0 {
            Source::System { started } => tokio::time::sleep(deadline.saturating_sub(started.elapsed())).await,
            Source::Fake(fake) => {
                // The sender lives in `self`, so waiting cannot fail.
                let _ = fake.elapsed.subscribe().wait_for(|now| *now >= deadline).await;
            }
        }
    }

    /// Waits until the wall clock ([`Clock::now_ms`]) is at `at_ms`, as it goes now: should the operator set the
    /// machine's clock meanwhile, that is not noticed. Cancel-safe.
    pub async fn sleep_until_ms(&self, at_ms: u64) {
        let deadline = match &self.0 {
            Source::System { started } => {
                started.elapsed().saturating_add(Duration::from_millis(at_ms.saturating_sub(self.now_ms())))
            }
            Source::Fake(fake) => Duration::from_millis(at_ms.saturating_sub(fake.start_ms)),
        };
        self.sleep_until(deadline).await;
    }

    /// Runs `future` for at most `limit`; `None` when the time is over. The time that `future` takes without waiting
    /// counts. Cancel-safe if `future` is.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let deadline = self.monotonic().saturating_add(limit);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep_until(deadline) => None,
        }
    }
}

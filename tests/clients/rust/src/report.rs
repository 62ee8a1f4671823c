//! Counts steps, prints one line for each, and bounds each in time.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout};

/// Longest time that one step may take, in all its waits together.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// Longest time to wait for one thing that another device did: shorter than a step, so that a step that waits in vain
/// says for what.
pub const WAIT_LIMIT: Duration = Duration::from_secs(50);

/// A step failed without which the rest of the scenario has no meaning.
#[derive(Debug)]
pub struct Abort;

/// The tally of steps so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Runs one step, prints `ok NAME` or `FAIL NAME: cause`, and gives its value when it passed.
    pub async fn step<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Option<T> {
        let started = Instant::now();
        let outcome = match timeout(STEP_LIMIT, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("no result after {} s", STEP_LIMIT.as_secs())),
        };
        match outcome {
            Ok(value) => {
                self.passed += 1;
                println!("ok {name} ({} ms)", started.elapsed().as_millis());
                Some(value)
            }
            Err(error) => {
                self.fail(name, &format!("{error:#}"));
                None
            }
        }
    }

    /// Like [`Report::step`], for a step without which the scenario cannot go on.
    pub async fn must<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T, Abort> {
        self.step(name, work).await.ok_or(Abort)
    }

    /// Counts and prints a failure that did not come from a step's own future.
    pub fn fail(&mut self, name: &str, cause: &str) {
        self.failed += 1;
        println!("FAIL {name}: {cause}");
    }

    /// Prints the closing line; true when every step passed.
    pub fn finish(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}

/// Asks `check` ten times a second until it gives a value; `what` names the thing in the error.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(value) = check().await {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", WAIT_LIMIT.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// [`until`] for a condition without a value.
pub async fn until_true(what: &str, mut check: impl AsyncFnMut() -> bool) -> Result<()> {
    until(what, async || check().await.then_some(())).await
}

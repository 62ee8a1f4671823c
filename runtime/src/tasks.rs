//! Supervised tasks and the server's shutdown.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use crate::{Counter, Metrics};

/// Starts and supervises the server's tasks; cloning is cheap and clones share everything.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// One permit for each core: pure computation must not outnumber the cores.
    compute: Semaphore,
    panics: Counter,
}

/// A computation did not give a result: it panicked (a bug of ours, logged) or the process is
/// shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {0} did not finish")]
pub struct TaskFailed(pub &'static str);

impl Tasks {
    /// Panics are counted in `metrics` as `conduit_task_panics_total`.
    pub fn new(metrics: &Metrics) -> Tasks {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let tracker = TaskTracker::new();
        let running = tracker.clone();
        metrics.observe_gauge("conduit_tasks_running", "Tasks that have not ended.", &[], move || running.len() as f64);
        Tasks(Arc::new(Shared {
            tracker,
            shutdown: CancellationToken::new(),
            compute: Semaphore::new(cores),
            panics: metrics.counter("conduit_task_panics_total", "Tasks that panicked: each one is a bug.", &[]),
        }))
    }

    /// Runs `future` until it ends, or until [`Tasks::drain`] gives up on it. A long-running task
    /// must end by itself once [`Tasks::shutdown_signal`] is ready. A panic is logged and counted
    /// and ends only this task. Dropping the handle does not stop the task. Needs a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "this is where tasks are started")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        tokio::spawn(self.0.tracker.track_future(async move {
            tasks.supervise(name, future).await;
        }))
    }

    /// As [`Tasks::spawn`], for a task that the server cannot do without: when it ends before
    /// shutdown, for whatever reason, the server shuts down.
    #[expect(clippy::disallowed_methods, reason = "this is where tasks are started")]
    pub fn spawn_essential<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        tokio::spawn(self.0.tracker.track_future(async move {
            tasks.supervise(name, future).await;
            if !tasks.is_shutting_down() {
                tracing::error!(task = name, "an essential task ended; the server shuts down");
                tasks.shut_down();
            }
        }))
    }

    /// Runs a computation of more than some 100 µs (password hashing, state resolution, images)
    /// off the async workers, at most one per core at a time; the rest wait in order.
    ///
    /// Dropping the future while it waits cancels the work; once begun, the work runs to its end
    /// and the result is dropped. [`Tasks::drain`] waits for it: it may hold the store.
    ///
    /// # Errors
    /// [`TaskFailed`] when `work` panicked or the runtime is going away.
    pub async fn compute<T, F>(&self, name: &'static str, work: F) -> Result<T, TaskFailed>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = self.0.compute.acquire().await.map_err(|_| TaskFailed(name))?;
        let token = self.0.tracker.token();
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            drop(token);
            outcome
        })
        .await;
        drop(permit);
        match outcome {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => {
                self.report_panic(name, panic.as_ref());
                Err(TaskFailed(name))
            }
            Err(_) => Err(TaskFailed(name)),
        }
    }

    /// Begins the shutdown: every [`Tasks::shutdown_signal`] becomes ready.
    pub fn shut_down(&self) {
        self.0.shutdown.cancel();
    }

    /// Whether the shutdown has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutdown.is_cancelled()
    }

    /// Ready once the shutdown has begun. Cancel-safe.
    pub fn shutdown_signal(&self) -> WaitForCancellationFuture<'_> {
        self.0.shutdown.cancelled()
    }

    /// The token behind [`Tasks::shutdown_signal`], for code that wants to own it.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    /// Begins the shutdown if that has not happened yet and waits for all tasks, at most `limit`.
    /// `false` when some are still running then. Cancel-safe.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.shut_down();
        self.0.tracker.close();
        tokio::time::timeout(limit, self.0.tracker.wait()).await.is_ok()
    }

    /// The number of tasks that have not ended.
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    async fn supervise<F: Future<Output = ()>>(&self, name: &'static str, future: F) {
        let mut future = std::pin::pin!(future);
        let outcome = std::future::poll_fn(|cx| {
            // A future that panicked is never polled again, so its broken state is never seen.
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        if let Err(panic) = outcome.await {
            self.report_panic(name, panic.as_ref());
        }
    }

    fn report_panic(&self, name: &'static str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        self.0.panics.add(1);
        tracing::error!(task = name, panic = text, "a task panicked: this is a bug in the server");
    }
}

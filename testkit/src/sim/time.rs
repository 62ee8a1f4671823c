//! One thread that runs a simulated world, and the passing of its time.

use std::future::Future;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::Clock;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// When every simulation begins, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_700_000_000_000;
/// By how much time advances at once.
const STEP: Duration = Duration::from_millis(20);
/// How long the thread has to be idle, in real time, before simulated time goes on: a store answers much sooner.
const QUIET: Duration = Duration::from_micros(60);

/// A runtime with one worker and a clock that moves when all tasks wait. The test itself is an ordinary blocking one;
/// time passes only inside [`SimRuntime::run`] and [`SimRuntime::pass`].
pub struct SimRuntime {
    handle: Handle,
    clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for SimRuntime {
    fn default() -> Self {
        SimRuntime::new()
    }
}

impl SimRuntime {
    /// Starts the thread.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn new() -> SimRuntime {
        let (stop, stopped) = oneshot::channel::<()>();
        let (give, handle) = channel();
        let work = move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            let _ = give.send(runtime.handle().clone());
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("simulation".to_owned()).spawn(work);
        let thread = thread.expect("a thread can be started");
        let handle = handle.recv().expect("the thread hands out its runtime");
        SimRuntime { handle, clock: Clock::fake(START_MS), stop: Some(stop), thread: Some(thread) }
    }

    /// The clock of everything in this world.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The runtime, for what needs one to be built.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs something to its end, letting time pass as needed.
    ///
    /// # Panics
    /// If it takes longer than `limit` of simulated time, or panics.
    pub fn run<T: Send + 'static>(&self, limit: Duration, work: impl Future<Output = T> + Send + 'static) -> T {
        let (reply, answer) = channel();
        self.handle.spawn(async move { drop(reply.send(work.await)) });
        let until = self.clock.monotonic() + limit;
        loop {
            self.settle();
            if let Some(output) = poll_answer(&answer) {
                return output;
            }
            assert!(self.clock.monotonic() < until, "something takes longer than {limit:?} of simulated time");
            self.clock.advance(STEP);
        }
    }

    /// Lets time pass.
    pub fn pass(&self, duration: Duration) {
        let until = self.clock.monotonic() + duration;
        self.settle();
        while self.clock.monotonic() < until {
            self.clock.advance(STEP);
            self.settle();
        }
    }

    /// Waits until all tasks wait for something. Stores commit on threads of their own and big computations run on
    /// others, so the worker has to stay idle for a moment.
    fn settle(&self) {
        let metrics = self.handle.metrics();
        loop {
            // Odd while the worker is parked.
            let before = metrics.worker_park_unpark_count(0);
            std::thread::sleep(QUIET);
            if before % 2 == 1 && metrics.worker_park_unpark_count(0) == before {
                return;
            }
        }
    }
}

fn poll_answer<T>(answer: &Receiver<T>) -> Option<T> {
    match answer.try_recv() {
        Ok(output) => Some(output),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => panic!("a task of the simulation panicked"),
    }
}

impl Drop for SimRuntime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by the task that panicked.
            let _ = thread.join();
        }
    }
}

//! One thread that runs a simulated world, and the passing of its time. What cannot be had of the system here (a thread, its
//! runtime, its entry in /proc) ends the test with the message beside it: without it no world can run.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::Clock;
use storage::{CommitWatch, Store};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// When every simulation begins, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_700_000_000_000;
/// By how much time advances at once.
const STEP: Duration = Duration::from_millis(20);
/// How long it is waited between two looks at whether all is quiet, in real time.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// A runtime with one worker and a clock that moves when all tasks wait. The test itself is an ordinary blocking one;
/// time passes only inside [`SimRuntime::run`] and [`SimRuntime::pass`].
pub struct SimRuntime {
    handle: Handle,
    clock: Clock,
    worker: Thread,
    /// The thread for work that blocks.
    helper: Thread,
    commits: Mutex<Vec<CommitWatch>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the system says of a thread.
struct Thread(File);

impl Thread {
    /// The one that calls this.
    fn current() -> Thread {
        Thread(File::open("/proc/thread-self/stat").expect("the system tells of its threads"))
    }

    /// Whether it waits, and nobody has woken it.
    fn sleeps(&self) -> bool {
        let mut bytes = [0; 128];
        let length = self.0.read_at(&mut bytes, 0).expect("the thread lives");
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        // Its number, its name in brackets, its state.
        text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    }
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
            let (tell, started) = channel();
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .thread_keep_alive(Duration::from_secs(24 * 3600))
                .on_thread_start(move || drop(tell.send(Thread::current())))
                .build();
            let runtime = runtime.expect("a runtime can be built");
            drop(runtime.spawn_blocking(|| ()));
            let helper = started.recv().expect("a thread for work that blocks is started");
            let _ = give.send((runtime.handle().clone(), Thread::current(), helper));
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("simulation".to_owned()).spawn(work);
        let thread = thread.expect("a thread can be started");
        let (handle, worker, helper) = handle.recv().expect("the thread hands out its runtime");
        let clock = Clock::fake(START_MS);
        let stop = Some(stop);
        SimRuntime { handle, clock, worker, helper, commits: Mutex::default(), stop, thread: Some(thread) }
    }

    /// Lets no time pass while commits of a store are under way.
    pub fn watch(&self, store: &Store) {
        self.commits.lock().expect("no look panics").push(store.watch_commits());
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

    /// Waits until all tasks wait for something that only time brings. Stores commit on threads of their own and big
    /// computations run on another, which a busy machine may keep waiting: it is looked at what they do.
    fn settle(&self) {
        let metrics = self.handle.metrics();
        loop {
            // Odd while the worker is parked.
            let before = metrics.worker_park_unpark_count(0);
            // Who has done something for the worker has woken it by then, so that it sleeps only if nobody has.
            let is_quiet = before % 2 == 1 && self.others_are_idle() && self.worker.sleeps();
            if is_quiet && metrics.worker_park_unpark_count(0) == before {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether nothing that the worker handed to other threads is under way.
    fn others_are_idle(&self) -> bool {
        let commits_are_answered = || self.commits.lock().expect("no look panics").iter().all(CommitWatch::is_idle);
        // Twice: what blocks may have waited for a commit, and go on.
        self.helper.sleeps() && commits_are_answered() && self.helper.sleeps()
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

//! Syncs the write-ahead log some time after a write, off the committer's path.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::Shared;
use crate::backend::Engine;

/// A thread that sleeps while nothing is written, and syncs at most once per interval otherwise.
pub(super) struct IntervalSync {
    signal: Arc<Signal>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    stopping: bool,
}

impl IntervalSync {
    pub(super) fn start(engine: Engine, shared: Arc<Shared>, interval: Duration) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let seen = signal.clone();
        let thread = thread::Builder::new().name("storage-sync".to_owned()).spawn(move || {
            while seen.wait_for_work(interval) {
                if let Err(error) = engine.sync() {
                    // What was acknowledged since the last sync may be lost: say so rather than go on.
                    shared.fail(error);
                    return;
                }
            }
        })?;
        Ok(IntervalSync { signal, thread })
    }

    pub(super) fn mark_dirty(&self) {
        let mut state = self.signal.state.lock();
        if !state.dirty {
            state.dirty = true;
            self.signal.changed.notify_one();
        }
    }

    /// Syncs what is left and waits for the thread.
    pub(super) fn stop(self) {
        self.signal.state.lock().stopping = true;
        self.signal.changed.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the storage sync thread panicked");
        }
    }
}

impl Signal {
    /// Waits until something was written and the interval has passed (or the store stops). False: nothing left to do.
    fn wait_for_work(&self, interval: Duration) -> bool {
        let mut state = self.state.lock();
        while !state.dirty && !state.stopping {
            self.changed.wait(&mut state);
        }
        if !state.stopping {
            self.changed.wait_while_for(&mut state, |state| !state.stopping, interval);
        }
        std::mem::take(&mut state.dirty)
    }
}

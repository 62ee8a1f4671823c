//! The thread that numbers and writes batches.
//!
//! It sleeps until a batch arrives, takes whatever else is waiting (a group), checks and numbers each batch, writes
//! them all with one atomic write and at most one disk sync, calls the observers around publishing the new position, and
//! answers. While it waits for the disk the next group gathers: latency is one sync, throughput grows with load.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Batch, CommitError, Corrupt, Durability, FailAction, FailPoints, FailStep, GroupFigures, OpenError, Options,
    StorageError, StreamPos, Topic, Value,
    backend::{Engine, GroupWrite, View},
    directory::{RESERVED, RESERVED_NAME},
};

mod group;
mod interval_sync;

use group::Overlay;
use interval_sync::IntervalSync;

const POSITION_KEY: &[u8] = b"position";
const MAX_GROUP_BATCHES: usize = 256;
const MAX_GROUP_BYTES: usize = 256 * 1024;

/// A batch that is now on disk and visible.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its position.
    pub pos: StreamPos,
    /// Whom it concerns.
    pub topics: SmallVec<[Topic; 4]>,
}

/// Called with the batches of each group, in order of positions.
pub type CommitObserver = Arc<dyn Fn(&[Committed]) + Send + Sync>;

/// Whom a batch is answered.
pub(crate) struct Reply {
    pub(crate) sender: oneshot::Sender<Result<StreamPos, CommitError>>,
    /// Goes once the answer is sent.
    pub(crate) under_way: Arc<()>,
}

pub(crate) enum Message {
    Commit { batch: Batch, reply: Reply },
    Close,
}

/// Who is told of commits, and when.
#[derive(Default)]
struct Observers {
    /// After the write, before the positions are visible.
    written: Vec<CommitObserver>,
    /// Once the positions are visible.
    visible: Vec<CommitObserver>,
}

/// What the committer and the handles share.
pub(crate) struct Shared {
    pub(crate) visible: AtomicU64,
    observers: RwLock<Observers>,
    failure: OnceLock<Arc<StorageError>>,
    measure: OnceLock<Measure>,
    /// One handle here and one for each commit that is not answered yet.
    pub(crate) under_way: Arc<()>,
}

type Measure = Arc<dyn Fn(GroupFigures) + Send + Sync>;

impl Shared {
    pub(crate) fn new(visible: u64) -> Self {
        Shared {
            visible: AtomicU64::new(visible),
            observers: RwLock::default(),
            failure: OnceLock::new(),
            measure: OnceLock::new(),
            under_way: Arc::default(),
        }
    }

    pub(crate) fn observe_written(&self, observer: CommitObserver) {
        self.observers.write().written.push(observer);
    }

    pub(crate) fn observe_visible(&self, observer: CommitObserver) {
        self.observers.write().visible.push(observer);
    }

    pub(crate) fn measure_groups(&self, measure: Measure) {
        self.measure.get_or_init(|| measure);
    }

    /// The error after which nothing more is accepted.
    pub(crate) fn failure(&self) -> Option<Arc<StorageError>> {
        self.failure.get().cloned()
    }

    fn fail(&self, error: StorageError) -> Arc<StorageError> {
        tracing::error!(%error, "storage failed: no further changes are accepted until the next start");
        self.failure.get_or_init(|| Arc::new(error)).clone()
    }
}

/// The position stored in `view`, 0 if there is none yet.
pub(crate) fn read_position(view: View<'_>) -> Result<u64, StorageError> {
    let corrupt = |source: Corrupt| StorageError::Corrupt { keyspace: RESERVED_NAME, source };
    let stored = view.get_with(RESERVED, POSITION_KEY, u64::decode)?;
    stored.transpose().map(Option::unwrap_or_default).map_err(corrupt)
}

pub(crate) struct Committer {
    engine: Engine,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Message>,
    fail_points: Option<FailPoints>,
    sync: Option<IntervalSync>,
}

/// Numbered batches whose rows are in the group's write.
#[derive(Default)]
struct Staged {
    committed: Vec<Committed>,
    replies: Vec<Reply>,
}

impl Committer {
    pub(crate) fn new(
        engine: Engine,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Message>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let sync = match (options.durability, &engine) {
            (Durability::Interval(interval), Engine::Rocks(_)) => {
                Some(IntervalSync::start(engine.clone(), shared.clone(), interval).map_err(OpenError::Thread)?)
            }
            _ => None,
        };
        Ok(Committer { engine, shared, queue, fail_points: options.fail_points.clone(), sync })
    }

    pub(crate) fn run(mut self) {
        let mut write = self.engine.new_write();
        let mut group = Vec::new();
        while let Some(message) = self.queue.blocking_recv() {
            self.gather(message, &mut group);
            if self.commit_group(&mut group, &mut write).is_break() {
                break;
            }
        }
        // Observers may own handles to this store: let go of them so that it can be dropped.
        *self.shared.observers.write() = Observers::default();
        if let Some(sync) = self.sync.take() {
            sync.stop();
        }
    }

    /// Takes what is waiting, up to the size of a group. A close request lets the queue run empty.
    fn gather(&mut self, first: Message, group: &mut Vec<(Batch, Reply)>) {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Commit { batch, reply } => {
                    bytes += batch.bytes;
                    group.push((batch, reply));
                }
                Message::Close => self.queue.close(),
            }
            if group.len() >= MAX_GROUP_BATCHES || bytes >= MAX_GROUP_BYTES {
                break;
            }
            next = self.queue.try_recv().ok();
        }
    }

    fn commit_group(&mut self, group: &mut Vec<(Batch, Reply)>, write: &mut GroupWrite) -> ControlFlow<()> {
        if let Some(failure) = self.shared.failure() {
            for (_, reply) in group.drain(..) {
                answer(reply, Err(CommitError::Failed(failure.clone())));
            }
            return ControlFlow::Continue(());
        }
        let bytes = group.iter().map(|(batch, _)| batch.bytes).sum();
        let staged = match self.stage_group(group, write) {
            Ok(staged) => staged,
            Err(error) => {
                self.shared.fail(error);
                return ControlFlow::Continue(());
            }
        };
        let Some(last) = staged.committed.last().map(|batch| batch.pos) else {
            return ControlFlow::Continue(());
        };

        let injected = match self.decide(FailStep::BeforeWrite) {
            FailAction::Continue => None,
            FailAction::Crash => return ControlFlow::Break(()),
            FailAction::FailWrite => Some(StorageError::backend("write", "failure injected by a test")),
        };
        let began = now();
        let written = match injected {
            Some(error) => Err(error),
            None => self.engine.write(write),
        };
        if let Err(error) = written {
            let failure = self.shared.fail(error);
            for reply in staged.replies {
                answer(reply, Err(CommitError::Failed(failure.clone())));
            }
            return ControlFlow::Continue(());
        }
        if let Some(sync) = &self.sync {
            sync.mark_dirty();
        }
        if self.decide(FailStep::AfterWrite) == FailAction::Crash {
            return ControlFlow::Break(());
        }

        let written_at = now();
        let observers = self.shared.observers.read();
        call_observers(&observers.written, &staged.committed);
        self.shared.visible.store(last.0, Ordering::Release);
        call_observers(&observers.visible, &staged.committed);
        drop(observers);
        if let Some(measure) = self.shared.measure.get() {
            let (write, publish) = (written_at.saturating_duration_since(began), written_at.elapsed());
            measure(GroupFigures { batches: staged.committed.len(), bytes, write, publish });
        }
        if self.decide(FailStep::AfterPublish) == FailAction::Crash {
            return ControlFlow::Break(());
        }
        for (reply, batch) in staged.replies.into_iter().zip(&staged.committed) {
            answer(reply, Ok(batch.pos));
        }
        ControlFlow::Continue(())
    }

    /// Checks and numbers the batches and collects their rows. Batches that fail their own checks are answered here.
    /// An error means that `write` is unusable, which ends the store.
    fn stage_group(&self, group: &mut Vec<(Batch, Reply)>, write: &mut GroupWrite) -> Result<Staged, StorageError> {
        let mut staged = Staged::default();
        let mut overlay = Overlay::for_group(group.iter().map(|(batch, _)| batch));
        let mut pos = StreamPos(self.shared.visible.load(Ordering::Acquire));
        for (mut batch, reply) in group.drain(..) {
            if let Err(error) = overlay.check_batch(&mut batch, pos.next(), self.engine.view()) {
                answer(reply, Err(error));
                continue;
            }
            pos = pos.next();
            group::write_batch(&self.engine, write, &batch)?;
            overlay.remember(&batch);
            staged.committed.push(Committed { pos, topics: batch.topics });
            staged.replies.push(reply);
        }
        if !staged.committed.is_empty() {
            self.engine.put(write, RESERVED, POSITION_KEY, &pos.0.to_be_bytes())?;
        }
        Ok(staged)
    }

    fn decide(&self, step: FailStep) -> FailAction {
        self.fail_points.as_ref().map_or(FailAction::Continue, |points| points.decide(step))
    }
}

/// The store has no clock: what is measured here is told to people and decides nothing.
#[expect(clippy::disallowed_methods, reason = "nothing depends on it but figures")]
fn now() -> Instant {
    Instant::now()
}

fn call_observers(observers: &[CommitObserver], committed: &[Committed]) {
    for observer in observers {
        // The batch is durable: a broken observer must not keep its committers waiting for ever.
        if catch_unwind(AssertUnwindSafe(|| observer(committed))).is_err() {
            tracing::error!("a commit observer panicked");
        }
    }
}

fn answer(reply: Reply, result: Result<StreamPos, CommitError>) {
    // The committer may have been cancelled: the batch counts all the same.
    let _ = reply.sender.send(result);
    drop(reply.under_way);
}

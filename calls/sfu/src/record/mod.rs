//! Recording a call that is not encrypted end to end: a file with a track for each that is published.
//!
//! The media thread hands packets over and never waits ([`Tap`]); a thread of the recording's own puts them in order and
//! writes ([`writer`]). Nothing is decoded, so nothing is mixed.

mod ebml;
mod frames;
mod inspect;
mod tap;
mod webm;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use runtime::Clock;

pub use inspect::RecordingFile;
pub use tap::{Tap, Tapped, Took};
use writer::{Limits, Shared};

/// How many packets may wait for the writer; more are dropped.
const WAITING: usize = 4096;

/// What is to be recorded.
pub struct RecordingOrder {
    /// The call, by its name in the grants.
    pub room: String,
    /// The file to write; it must not exist. It is in place, and can be played as far as it goes, until the end.
    pub file: PathBuf,
    /// It ends after this time.
    pub max_duration: Duration,
    /// It ends at about this length.
    pub max_bytes: u64,
    /// Called once after the file is complete, however the recording ended; must not block. Not called for an order that
    /// is refused.
    pub ended: Box<dyn FnOnce() + Send>,
}

/// A call is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is no such call, or nobody is in it.
    #[error("there is no such call")]
    NoCall,
    /// Something in it is encrypted end to end.
    #[error("the call is encrypted end to end")]
    Encrypted,
    /// It is being recorded.
    #[error("the call is being recorded")]
    Recorded,
    /// The media thread is overloaded or gone.
    #[error("the media server is overloaded")]
    Overloaded,
    /// The system refuses a thread.
    #[error("the recording's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Calls what it was given when it is dropped, also by a panic.
struct AtEnd(Option<Box<dyn FnOnce() + Send>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended();
        }
    }
}

/// The two ends of a recording that nobody feeds yet.
pub fn prepare(order: RecordingOrder, clock: Clock) -> (Tap, Pending) {
    let (samples, received) = sync_channel(WAITING);
    let shared = Arc::<Shared>::default();
    let pending = Pending { order, clock, received, shared: shared.clone() };
    (Tap::new(samples, shared), pending)
}

/// A recording before its thread runs.
pub struct Pending {
    order: RecordingOrder,
    clock: Clock,
    received: std::sync::mpsc::Receiver<writer::Sample>,
    shared: Arc<Shared>,
}

impl Pending {
    /// Starts the thread. It ends when the tap is dropped, or by the order's limits.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self) -> std::io::Result<()> {
        let Pending { order, clock, received, shared } = self;
        let builder = std::thread::Builder::new().name("sfu-record".to_owned());
        builder.spawn(move || {
            let RecordingOrder { room: _, file, max_duration, max_bytes, ended } = order;
            let _at_end = AtEnd(Some(ended));
            let limits = Limits { max_duration, max_bytes };
            if let Err(error) = writer::write(&file, &received, shared.clone(), limits, &clock) {
                tracing::error!(%error, "a recording could not be written to its end");
            }
            let dropped = shared.dropped.load(std::sync::atomic::Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(dropped, "a recording lacks packets: the disk was too slow for them");
            }
        })?;
        Ok(())
    }
}

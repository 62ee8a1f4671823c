//! What the rest of the server tells the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;
use tokio::sync::{mpsc, oneshot};

use super::stream::Connected;
use crate::AllocationInfo;

/// How many letters may wait.
const CAPACITY: usize = 256;

/// One thing to do.
pub(crate) enum Letter {
    /// A connection has been made.
    Opened(Connected),
    /// Somebody wants to know what is allocated.
    Overview(oneshot::Sender<Vec<AllocationInfo>>),
}

/// Where letters are posted; cloning is cheap.
#[derive(Clone)]
pub(crate) struct Mailbox {
    letters: mpsc::Sender<Letter>,
    waking: Arc<Waking>,
}

/// Wakes the thread, once for all letters until it reads them.
struct Waking {
    waker: Arc<Waker>,
    woken: AtomicBool,
}

/// The thread's end.
pub(super) struct Inbox {
    letters: mpsc::Receiver<Letter>,
    waking: Arc<Waking>,
}

pub(super) fn open(waker: Arc<Waker>) -> (Mailbox, Inbox) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let waking = Arc::new(Waking { waker, woken: AtomicBool::new(false) });
    (Mailbox { letters: sender, waking: waking.clone() }, Inbox { letters: receiver, waking })
}

impl Mailbox {
    /// Posts a letter when there is room; `false` when the thread has ended. Cancel-safe: the letter is posted or not.
    pub(crate) async fn post(&self, letter: Letter) -> bool {
        let posted = self.letters.send(letter).await.is_ok();
        self.wake();
        posted
    }

    pub(super) fn wake(&self) {
        if !self.waking.woken.swap(true, Ordering::AcqRel) && self.waking.waker.wake().is_err() {
            // The thread looks by itself at every tick.
            self.waking.woken.store(false, Ordering::Release);
        }
    }
}

impl Inbox {
    /// To be called before letters are read: what is posted from now on wakes again.
    pub(super) fn awake(&self) {
        self.waking.woken.store(false, Ordering::Release);
    }

    pub(super) fn next(&mut self) -> Option<Letter> {
        self.letters.try_recv().ok()
    }
}

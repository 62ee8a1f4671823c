//! The media threads, each of which owns its rooms, the thread of the sockets, and the way to them.

mod addresses;
mod bind;
mod datagrams;
mod directory;
mod exchange;
mod gather;
mod metrics;
mod ports;
pub mod routes;
mod run;
pub mod self_test;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use livekit_protocol as proto;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use bind::start;
use directory::{Arrival, Directory};
pub use metrics::MediaMetrics;
use ports::TcpWay;

use crate::record::{RecordError, Tap};
use crate::report::RoomOverview;
use crate::room::{JoinOptions, JoinRefusal};
use crate::server::{DisconnectReason, STOP_LIMIT};

/// Commands that may wait for a media thread; more are refused.
const COMMANDS: usize = 4096;
/// With so many waiting, nobody is let in and messages are refused: what is left is for those who are put out.
const BUSY: usize = 3072;
/// With so many waiting, who wants to join is told to try again later.
const CROWDED: usize = 256;

/// A participant as the signalling side knows it.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The media thread.
    pub thread: usize,
    pub room: usize,
    pub participant: usize,
    /// The number of the signalling connection.
    pub connection: u64,
}

/// What a media thread is asked to do.
pub enum Command {
    Join {
        options: Box<JoinOptions>,
        arrival: Arrival,
        reply: oneshot::Sender<Result<Seat, JoinRefusal>>,
    },
    Message {
        seat: Seat,
        message: Box<proto::signal_request::Message>,
    },
    /// The signalling connection has ended.
    Lost {
        seat: Seat,
    },
    Disconnect {
        room: String,
        identity: String,
        reason: DisconnectReason,
    },
    Mute {
        room: String,
        identity: String,
        track: String,
    },
    Record {
        room: String,
        tap: Box<Tap>,
        reply: oneshot::Sender<Result<(), RecordError>>,
    },
    StopRecording {
        room: String,
    },
    /// Says goodbye to everybody and ends the thread.
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// What others may know of the rooms of a thread without asking it.
#[derive(Default)]
pub struct Board(Mutex<Vec<RoomOverview>>);

impl Board {
    fn renew(&self, overview: Vec<RoomOverview>) {
        *self.0.lock() = overview;
    }
}

/// How many commands wait for a thread.
#[derive(Default)]
pub struct Backlog(AtomicUsize);

impl Backlog {
    fn added(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn took(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The way to one media thread.
struct Way {
    commands: SyncSender<Command>,
    backlog: Arc<Backlog>,
    thread: Thread,
    board: Arc<Board>,
}

impl Way {
    /// Gives the thread something to do; `false` when it is overloaded or gone.
    fn send(&self, command: Command) -> bool {
        let may_be_refused = matches!(command, Command::Join { .. } | Command::Message { .. });
        if may_be_refused && self.backlog.len() >= BUSY {
            return false;
        }
        self.backlog.added();
        let outcome = self.commands.try_send(command);
        if outcome.is_err() {
            self.backlog.took();
        }
        self.thread.unpark();
        if let Err(TrySendError::Full(_)) = &outcome {
            tracing::warn!("a media thread is overloaded: a command is dropped");
        }
        outcome.is_ok()
    }
}

/// The way to the media threads; cloning is cheap.
#[derive(Clone)]
pub struct Shards(Arc<Shared>);

struct Shared {
    ways: Vec<Way>,
    directory: Arc<Directory>,
    addresses: Vec<(&'static str, SocketAddr)>,
    /// Ends the thread of the sockets.
    stopping: Arc<AtomicBool>,
    ports: TcpWay,
}

impl Shards {
    /// Asks for somebody to be let in. `None` when the thread of their call is overloaded.
    pub fn join(&self, options: Box<JoinOptions>) -> Option<oneshot::Receiver<Result<Seat, JoinRefusal>>> {
        let arrival = self.0.directory.approach(&options.grant.room);
        let way = self.0.ways.get(arrival.thread)?;
        let (reply, answer) = oneshot::channel();
        way.send(Command::Join { options, arrival, reply }).then_some(answer)
    }

    /// Gives the thread of a participant something to do; `false` when it is overloaded or gone.
    pub fn send(&self, seat: Seat, command: Command) -> bool {
        self.0.ways.get(seat.thread).is_some_and(|way| way.send(command))
    }

    /// Gives the thread of a call something to do, if there is such a call.
    pub fn send_to_room(&self, room: &str, command: Command) {
        let thread = self.0.directory.thread_of(room);
        if let Some(way) = thread.and_then(|thread| self.0.ways.get(thread)) {
            way.send(command);
        }
    }

    /// Whether the thread that `room` is on, or would be on, has more to do than it should.
    pub fn is_crowded(&self, room: &str) -> bool {
        let arrival = self.0.directory.approach(room);
        self.0.ways.get(arrival.thread).is_none_or(|way| way.backlog.len() >= CROWDED)
    }

    pub fn has_room(&self, room: &str) -> bool {
        self.0.directory.has_room(room)
    }

    pub fn overview(&self) -> Vec<RoomOverview> {
        self.0.ways.iter().flat_map(|way| way.board.0.lock().clone()).collect()
    }

    /// How many rooms and participants there are.
    pub fn load(&self) -> (usize, usize) {
        (self.0.directory.rooms(), self.0.directory.participants())
    }

    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.0.addresses.clone()
    }

    /// Says goodbye to everybody and ends the threads.
    pub async fn stop(&self) {
        let asked: Vec<_> = self
            .0
            .ways
            .iter()
            .filter_map(|way| {
                let (done, stopped) = oneshot::channel();
                way.send(Command::Stop { done }).then_some(stopped)
            })
            .collect();
        let all = async {
            for stopped in asked {
                let _ = stopped.await;
            }
        };
        let _ = tokio::time::timeout(STOP_LIMIT, all).await;
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.ports.wake();
    }
}

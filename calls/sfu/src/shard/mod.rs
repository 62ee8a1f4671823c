//! The media thread, which owns all rooms, and the way to it.

mod addresses;
mod bind;
mod datagrams;
mod metrics;
mod routes;
mod run;
mod tcp;
mod udp;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, SyncSender, TrySendError};

use livekit_protocol as proto;
use mio::Waker;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use metrics::MediaMetrics;

use crate::report::RoomOverview;
use crate::room::{JoinOptions, JoinRefusal};
use crate::server::{DisconnectReason, STOP_LIMIT, SfuError, SfuParts};

/// Commands that may wait for the media thread; more are refused.
const COMMANDS: usize = 4096;

/// A participant as the signalling side knows it.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub room: usize,
    pub participant: usize,
    /// The number of the signalling connection.
    pub connection: u64,
}

/// What the media thread is asked to do.
pub enum Command {
    Join {
        options: Box<JoinOptions>,
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
    /// Says goodbye to everybody and ends the thread.
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// What others may know of the rooms without asking the thread.
#[derive(Default)]
pub struct Board(Mutex<BoardState>);

#[derive(Default)]
struct BoardState {
    rooms: HashSet<String>,
    participants: usize,
    overview: Vec<RoomOverview>,
}

impl Board {
    pub fn has_room(&self, name: &str) -> bool {
        self.0.lock().rooms.contains(name)
    }

    pub fn overview(&self) -> Vec<RoomOverview> {
        self.0.lock().overview.clone()
    }

    /// How many rooms and participants there are.
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.rooms.len(), state.participants)
    }
}

/// The way to the media thread; cloning is cheap.
#[derive(Clone)]
pub struct ShardHandle(Arc<HandleShared>);

struct HandleShared {
    commands: SyncSender<Command>,
    waker: Waker,
    board: Arc<Board>,
    addresses: Vec<(&'static str, SocketAddr)>,
}

impl ShardHandle {
    /// Gives the thread something to do; `false` when it is overloaded or gone.
    pub fn send(&self, command: Command) -> bool {
        match self.0.commands.try_send(command) {
            Ok(()) => {
                // Fails only when the thread is gone.
                let _ = self.0.waker.wake();
                true
            }
            Err(TrySendError::Full(_)) => {
                tracing::warn!("the media thread is overloaded: a command is dropped");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    pub fn board(&self) -> &Board {
        &self.0.board
    }

    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.0.addresses.clone()
    }

    /// Says goodbye to everybody and ends the thread.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.send(Command::Stop { done }) {
            let _ = tokio::time::timeout(STOP_LIMIT, stopped).await;
        }
    }
}

/// Binds the sockets and starts the thread.
pub fn start(parts: &SfuParts) -> Result<ShardHandle, SfuError> {
    let (commands, inbox) = std_mpsc::sync_channel(COMMANDS);
    let board = Arc::new(Board::default());
    let (shard, waker) = run::Shard::bind(parts, inbox, board.clone())?;
    let shared = HandleShared { commands, waker, board, addresses: shard.addresses() };
    let thread = std::thread::Builder::new().name("sfu-media".to_owned());
    thread.spawn(move || shard.run()).map_err(SfuError::Thread)?;
    Ok(ShardHandle(Arc::new(shared)))
}

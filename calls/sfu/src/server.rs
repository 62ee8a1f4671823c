//! The media server as its owner sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runtime::{Clock, Metrics, Random, Tasks};
use tokio::sync::oneshot;

use crate::config::SfuConfig;
use crate::record::{self, RecordError, RecordingOrder};
use crate::report::{LegStats, RoomOverview};
use crate::shard::self_test::SelfTest;
use crate::shard::{Command, Shards};
use crate::signal;
use crate::token::{Grant, TokenKey};

/// What the media server is made of.
pub struct SfuParts {
    /// The operator's settings.
    pub config: SfuConfig,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where its tasks run; the shutdown of these ends the media threads.
    pub tasks: Tasks,
    /// Where its metrics are shown.
    pub metrics: Metrics,
    /// Signs the tokens. Give the same after a restart, so that clients can come back.
    pub secret: [u8; 32],
    /// Told who comes and goes.
    pub observer: Arc<dyn Observer>,
    /// Gives clients TURN servers, if there are any.
    pub relay: Option<Arc<dyn Relay>>,
}

/// Told who comes and goes, and asked who may come; must not block.
pub trait Observer: Send + Sync {
    /// Whether `identity`, which has a good token for `room`, is still welcome there. Asked whenever it connects.
    fn may_join(&self, room: &str, identity: &str) -> bool;
    /// The media of `identity` are connected to `room`.
    fn joined(&self, room: &str, identity: &str);
    /// `identity` is no longer in `room`. Follows every `joined`, and nothing else.
    fn left(&self, room: &str, identity: &str, stats: LegStats);
}

/// A source of TURN servers for clients that cannot reach the media ports.
pub trait Relay: Send + Sync {
    /// Servers with credentials made for `user_key` (an opaque name, for quotas and logs).
    fn ice_servers(&self, user_key: &str) -> Vec<IceServer>;
}

/// A STUN or TURN server as clients are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceServer {
    /// `turn:` and `stun:` addresses.
    pub urls: Vec<String>,
    /// The user name, or nothing.
    pub username: String,
    /// The password, or nothing.
    pub credential: String,
}

/// Why somebody is put out of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// Somebody with the power to do so removed them, or they lost the right to be there.
    Removed,
    /// The call is over.
    RoomClosed,
    /// The server stops.
    Shutdown,
}

/// The media server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SfuError {
    /// A port is taken or an address is not ours: the operator's to mend.
    #[error("cannot listen on {address} for media")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// No address to listen on, or none that could be told to clients: the operator's to mend.
    #[error("no address for media: set sfu.listen or sfu.public_addresses")]
    NoAddress,
    /// The system refuses a thread or a poll.
    #[error("the media thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A running media server; cloning is cheap and clones share everything.
#[derive(Clone)]
pub struct Sfu(Arc<Shared>);

/// What the HTTP side works with.
pub(crate) struct Shared {
    pub config: SfuConfig,
    pub clock: Clock,
    pub key: TokenKey,
    pub shards: Shards,
    pub tasks: Tasks,
    pub joins: signal::JoinLimits,
    pub observer: Arc<dyn Observer>,
    pub relay: Option<Arc<dyn Relay>>,
    pub metrics: signal::SignalMetrics,
    pub self_test: SelfTest,
}

impl Sfu {
    /// Binds the media ports and starts the media threads. They stop when `parts.tasks` shut down.
    ///
    /// # Errors
    /// [`SfuError`]: what the operator has to change.
    pub async fn start(parts: SfuParts) -> Result<Sfu, SfuError> {
        let shards = crate::shard::start(&parts)?;
        let shared = Arc::new(Shared {
            key: TokenKey::new(&parts.secret),
            self_test: SelfTest::new(&parts.secret),
            joins: signal::JoinLimits::new(parts.config.joins),
            metrics: signal::SignalMetrics::new(&parts.metrics),
            config: parts.config,
            observer: parts.observer,
            clock: parts.clock,
            shards: shards.clone(),
            relay: parts.relay,
            tasks: parts.tasks.clone(),
        });
        let stopping = parts.tasks.clone();
        parts.tasks.spawn("sfu-shutdown", async move {
            stopping.shutdown_signal().await;
            shards.stop().await;
        });
        Ok(Sfu(shared))
    }

    /// The signalling endpoints, to be nested under a path of the caller's choice: `/rtc`, `/rtc/v1`, their
    /// `validate`, and `HEAD` on the path itself.
    pub fn router(&self) -> Router {
        signal::router(self.0.clone())
    }

    /// A token for `grant`, valid from now on.
    pub fn token(&self, grant: &Grant) -> String {
        self.0.key.sign(grant, self.0.clock.now_ms())
    }

    /// Whether the call exists.
    pub fn has_room(&self, room: &str) -> bool {
        self.0.shards.has_room(room)
    }

    /// Puts `identity` out of `room`, if it is there.
    pub fn disconnect(&self, room: &str, identity: &str, reason: DisconnectReason) {
        let (name, identity) = (room.to_owned(), identity.to_owned());
        self.0.shards.send_to_room(room, Command::Disconnect { room: name, identity, reason });
    }

    /// Mutes the track `track_sid` of `identity`; only the publisher can unmute it.
    pub fn mute(&self, room: &str, identity: &str, track_sid: &str) {
        let (name, identity, track) = (room.to_owned(), identity.to_owned(), track_sid.to_owned());
        self.0.shards.send_to_room(room, Command::Mute { room: name, identity, track });
    }

    /// Records a call from now on, until it is over, it is stopped, or a limit is reached. Cancel-safe: dropped, the
    /// recording has begun or not; then `ended` is not called.
    ///
    /// # Errors
    /// [`RecordError`]: why not.
    pub async fn record(&self, order: RecordingOrder) -> Result<(), RecordError> {
        let room = order.room.clone();
        let (tap, pending) = record::prepare(order, self.0.clock.clone());
        let (reply, answer) = oneshot::channel();
        self.0.shards.send_to_room(&room, Command::Record { room: room.clone(), tap: Box::new(tap), reply });
        // Without an answer the command was not taken: there is no such call, or too much to do.
        let missing = || if self.has_room(&room) { RecordError::Overloaded } else { RecordError::NoCall };
        answer.await.map_err(|_| missing())??;
        pending.start().map_err(RecordError::Thread)
    }

    /// Ends the recording of a call, if there is one.
    pub fn stop_recording(&self, room: &str) {
        self.0.shards.send_to_room(room, Command::StopRecording { room: room.to_owned() });
    }

    /// The calls in progress, as of at most two seconds ago.
    pub fn rooms(&self) -> Vec<RoomOverview> {
        self.0.shards.overview()
    }

    /// The user name under which the media ports answer a STUN binding request, for self-tests.
    pub fn self_test_username(&self) -> String {
        self.0.self_test.username()
    }

    /// The addresses on which media are received, for self-tests: UDP first, then TCP.
    pub fn media_addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.0.shards.addresses()
    }
}

/// How long refusing and saying goodbye to all clients may take at shutdown.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(2);

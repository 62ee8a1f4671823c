//! STUN and TURN: relays media for those whose network lets nothing else through (RFC 8489, RFC 8656). No Matrix types.
//!
//! - `codec.rs` reads and writes messages, `auth.rs` makes credentials and nonces;
//! - `core.rs` is the relay itself without sockets: what clients ask, what they get, and which way each datagram goes;
//!   `policy.rs` says to whom, `limits.rs` how much;
//! - `io.rs` is the thread with the sockets, and the tasks that read TCP and TLS connections;
//! - `client.rs` is the other side, for self-tests.
//!
//! Invariants:
//! - Nothing is relayed to an address that [`TurnConfig`] does not allow, whatever form it is in: not when a permission
//!   is given, not when a channel is bound, and not when a datagram comes.
//! - Nothing is remembered for a stranger: nonces prove themselves, and limits for strangers take constant memory.
//! - Media never waits for the tasks of the server: datagrams have a thread of their own, which never blocks.
//! - What cannot be passed on now is dropped, as a network would.

mod auth;
pub mod client;
mod codec;
mod config;
mod core;
mod credentials;
mod io;
mod limits;
mod meters;
mod policy;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::{Clock, Metrics, Random, Tasks};
use rustls::server::ResolvesServerCert;
use tokio::sync::oneshot;

pub use config::{Network, PortRange, TurnConfig};
pub use credentials::Credentials;

use auth::Auth;
use io::{Letter, Mailbox};

/// What [`Turn`] is built from.
pub struct TurnParts {
    /// The operator's settings.
    pub config: TurnConfig,
    /// Time.
    pub clock: Clock,
    /// For the secret, nonces and ports.
    pub random: Random,
    /// Runs the tasks of connections, and says when to stop.
    pub tasks: Tasks,
    /// Where to count.
    pub metrics: Metrics,
    /// The certificate for TLS, asked for at each handshake. Without it there is no TLS.
    pub tls: Option<Arc<dyn ResolvesServerCert>>,
    /// The realm, and the name of the relay, unless the settings say otherwise: the server name.
    pub realm: String,
    /// What clients may reach although it is on this machine: the media server. Nothing else there is.
    pub neighbours: Vec<Neighbour>,
}

/// The media server beside the relay, at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where clients are told that it is, perhaps at a router in front of this machine.
    pub told: SocketAddr,
    /// What it listens on: an address of this machine, or all.
    pub listens: IpAddr,
}

/// The relay cannot start; the operator's mistake, or the machine's.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// An address or port cannot be listened on.
    #[error("turn: cannot listen on {address}: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There is no address to relay from: the machine has no network, or `relay_addresses` names none of it.
    #[error("turn: no address to relay from; set turn.relay_addresses")]
    NoRelayAddress,
    /// The certificate cannot be used with TLS.
    #[error("turn: {0}")]
    Tls(#[from] rustls::Error),
    /// The machine gave no thread or no poll.
    #[error("turn: {0}")]
    Io(#[from] std::io::Error),
}

/// By what a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain connection.
    Tcp,
    /// A connection over TLS.
    Tls,
}

/// One allocation, for admins.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AllocationInfo {
    /// Whose it is: the user key of its credentials.
    pub user: String,
    /// Where the client is.
    pub client: SocketAddr,
    /// How it is connected.
    pub transport: Transport,
    /// The relay address, as peers see it.
    pub relay: SocketAddr,
    /// For how long it has existed.
    pub age: Duration,
    /// When it ends if it is not refreshed.
    pub expires_in: Duration,
    /// How many addresses it may exchange datagrams with.
    pub peers: usize,
    /// Bytes from the client to its peers.
    pub sent: u64,
    /// Bytes from its peers to the client.
    pub received: u64,
}

/// The running relay; cloning is cheap. It ends with the shutdown of its [`Tasks`].
#[derive(Clone)]
pub struct Turn(Arc<Shared>);

struct Shared {
    auth: Arc<Auth>,
    uris: Vec<String>,
    clock: Clock,
    mailbox: Mailbox,
}

impl Turn {
    /// Opens the listeners and starts the relay. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`TurnError`] when a listener, the certificate or the thread cannot be had; nothing is left running then.
    pub fn start(parts: TurnParts) -> Result<Turn, TurnError> {
        let TurnParts { config, clock, random, tasks, metrics, tls, realm, neighbours } = parts;
        let secret = config.secret.clone().unwrap_or_else(|| random.token(43));
        let auth = Arc::new(Auth::new(&secret, config.realm.as_deref().unwrap_or(&realm), &random));
        let uris = credentials::uris(&config, &realm, tls.is_some());
        let start =
            io::Start { config, auth: auth.clone(), clock: clock.clone(), random, tasks, metrics, tls, neighbours };
        let mailbox = io::start(start)?;
        Ok(Turn(Arc::new(Shared { auth, uris, clock, mailbox })))
    }

    /// Credentials with which `user_key` may allocate for `lifetime`: username `expiry:user_key`, password
    /// Base64(HMAC-SHA1(secret, username)). Quotas are for each user key.
    #[must_use]
    pub fn credentials(&self, user_key: &str, lifetime: Duration) -> Credentials {
        let expires = (self.0.clock.now_ms() / 1000).saturating_add(lifetime.as_secs());
        let username = format!("{expires}:{user_key}");
        let password = self.0.auth.password(&username);
        Credentials { username, password, uris: self.0.uris.clone(), ttl: lifetime.as_secs() }
    }

    /// Everything that is allocated now; empty when the relay has ended. Cancel-safe.
    pub async fn overview(&self) -> Vec<AllocationInfo> {
        let (answer, answered) = oneshot::channel();
        if !self.0.mailbox.post(Letter::Overview(answer)).await {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }
}

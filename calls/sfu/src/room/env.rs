//! What a room is given from outside, and what it gives back.

use std::net::SocketAddr;
use std::time::Instant;

use runtime::Random;
use str0m::Candidate;
use str0m::config::DtlsCert;
use str0m::net::Transmit;

use super::PeerAt;
use super::egress::Sealed;
use crate::config::SfuConfig;
use crate::report::LegStats;
use crate::shard::MediaMetrics;

/// What does not change while a media thread lives.
pub struct Fixed {
    pub config: SfuConfig,
    pub random: Random,
    /// Our certificate for DTLS; clients check its fingerprint only.
    pub certificate: DtlsCert,
    /// The addresses under which clients reach us.
    pub candidates: Vec<Candidate>,
    pub metrics: MediaMetrics,
}

/// The surroundings of a room during one call into it.
pub struct Env<'a> {
    pub fixed: &'a Fixed,
    pub now: Instant,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    pub out: &'a mut Outbox,
}

/// What a room wants done. Emptied by the media thread.
#[derive(Default)]
pub struct Outbox {
    /// What engines send.
    pub datagrams: Vec<Transmit>,
    pub media: Sealed,
    pub routes: Vec<RouteChange>,
    /// When a connection wants to be woken.
    pub wakes: Vec<(Instant, PeerAt)>,
    pub notices: Vec<Notice>,
}

/// How incoming datagrams find their connection.
pub enum RouteChange {
    /// ICE checks with this local user name are for the connection.
    AddName(String, PeerAt),
    RemoveName(String),
    RemoveAddress(SocketAddr),
}

/// What the observer is told.
pub enum Notice {
    Joined { identity: String },
    Left { identity: String, stats: LegStats },
}

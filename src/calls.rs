//! Calls and what carries them: the media server, the TURN server, and the glue between them and Matrix.

mod doctor;
mod figures;
mod public_address;
mod recorder;
mod secret;
mod status;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use calls::{
    CallAddresses, CallEvents, Calls, CallsParts, Grant, LegStatistics, LiveLeg, LiveTrack, MediaServer,
    TurnCredentials, TurnServer, WeakCalls,
};
use federation::{CallsClient, FederationClient};
use http::Uri;
use media::Media;
use rooms::Rooms;
use runtime::Tasks;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sfu::{DisconnectReason, IceServer, LegStats, Observer, ParticipantOverview, Relay, Sfu, SfuParts};
use storage::Store;
use turn::{Neighbour, Turn, TurnConfig, TurnParts};
use users::Users;

use crate::config::Config;
use crate::server::{Environment, StartError};
use crate::tls::Certificate;
use figures::LegFigures;
use public_address::with_public_addresses;
use recorder::{FileRecorder, RECORDINGS_DIR};
use secret::read_secret;

pub(crate) use doctor::{Finding, Level, examine};
pub(crate) use status::{CallsStatus, StatusSource};

/// Where the signalling of the media server is, below the public address.
const SIGNALLING: &str = "/_rtc/sfu";
/// For how long a participant may make use of the TURN server: longer than most calls.
const RELAY_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// What carries calls. Without any of it, as in a program that only looks at the data, there are none.
#[derive(Default)]
pub(crate) struct Carriers {
    sfu: Option<Sfu>,
    turn: Option<Turn>,
    events: CallEvents,
    /// Who says who may join, once that is built.
    judge: Arc<OnceLock<WeakCalls>>,
}

impl Carriers {
    /// Starts what is switched on, if this server has a public address. Messages are worth more than calls: where a port
    /// is taken, or the machine has no network, the server goes on without them, and says so.
    ///
    /// # Errors
    /// The secret in `data_dir` cannot be read or made.
    pub(crate) async fn start(
        config: &Config,
        environment: &Environment,
        tasks: &Tasks,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Carriers, StartError> {
        let mut carriers = Carriers::default();
        let Some(addresses) = call_addresses(config) else { return Ok(carriers) };
        let config = &with_public_addresses(config, environment).await;
        // The relay is started second, because it has to know where the media server is, and named by it only later.
        let relay = LateTurn::default();
        if config.calls.enabled {
            let started = Sfu::start(SfuParts {
                config: config.sfu.clone(),
                clock: environment.clock.clone(),
                random: environment.random.clone(),
                tasks: tasks.clone(),
                metrics: environment.metrics.clone(),
                secret: read_secret(&config.data_dir, &environment.random)?,
                observer: Arc::new(Reporter {
                    events: carriers.events.clone(),
                    judge: carriers.judge.clone(),
                    figures: LegFigures::new(&environment.metrics),
                }),
                relay: Some(Arc::new(relay.clone())),
            });
            let failed = |error| tracing::error!(%error, "there are no group calls: the media server does not start");
            carriers.sfu = started.await.map_err(failed).ok();
        }
        if config.turn.enabled {
            let media = carriers.sfu.iter().flat_map(Sfu::media_addresses);
            let datagrams = media.filter(|(transport, _)| *transport == "udp");
            let neighbours = datagrams.map(|(_, told)| Neighbour { told, listens: listens(config, told) }).collect();
            carriers.turn = start_turn(config, &addresses, neighbours, environment, tasks, certificate);
            if let Some(turn) = &carriers.turn {
                relay.0.get_or_init(|| turn.clone());
            }
        }
        Ok(carriers)
    }

    /// What self-tests ask of what carries calls.
    pub(crate) fn status_source(&self) -> StatusSource {
        StatusSource { sfu: self.sfu.clone(), turn: self.turn.clone() }
    }

    /// The endpoints of what carries calls.
    pub(crate) fn router(&self) -> Router {
        match &self.sfu {
            Some(sfu) => Router::new().nest(SIGNALLING, sfu.router()),
            None => Router::new(),
        }
    }
}

/// What the media server listens on that is told as this address.
fn listens(config: &Config, told: SocketAddr) -> IpAddr {
    let family = |ip: &&IpAddr| ip.is_ipv4() == told.is_ipv4();
    config.sfu.listen.iter().find(family).copied().unwrap_or(told.ip())
}

fn start_turn(
    config: &Config,
    addresses: &CallAddresses,
    neighbours: Vec<Neighbour>,
    environment: &Environment,
    tasks: &Tasks,
    certificate: Option<&Arc<Certificate>>,
) -> Option<Turn> {
    let host = config.turn.host.clone().or_else(|| host_of(addresses));
    let started = Turn::start(TurnParts {
        config: TurnConfig { host, ..config.turn.clone() },
        clock: environment.clock.clone(),
        random: environment.random.clone(),
        tasks: tasks.clone(),
        metrics: environment.metrics.clone(),
        tls: certificate.map(|certificate| Arc::new(Current(certificate.clone())) as Arc<dyn ResolvesServerCert>),
        realm: config.server_name.clone(),
        neighbours,
    });
    started
        .map_err(|error| tracing::error!(%error, "nothing is relayed for calls: the TURN server does not start"))
        .ok()
}

/// The domains that calls are built on.
pub(crate) struct CallDomains<'a> {
    pub store: &'a Store,
    pub rooms: &'a Rooms,
    pub users: &'a Users,
    pub media: &'a Media,
    pub client: &'a FederationClient,
}

/// Builds calls, and starts to follow them.
pub(crate) fn assemble_calls(
    config: &Config,
    environment: &Environment,
    tasks: &Tasks,
    carriers: Carriers,
    domains: CallDomains<'_>,
) -> Calls {
    let Carriers { sfu, turn, events, judge } = carriers;
    let recorder = FileRecorder {
        sfu: sfu.clone(),
        media: domains.media.clone(),
        tasks: tasks.clone(),
        folder: config.data_dir.join(RECORDINGS_DIR),
    };
    let calls = Calls::new(CallsParts {
        store: domains.store.clone(),
        rooms: domains.rooms.clone(),
        users: domains.users.clone(),
        clock: environment.clock.clone(),
        tasks: tasks.clone(),
        config: config.calls.clone(),
        addresses: call_addresses(config),
        media: sfu.map(|sfu| Arc::new(MediaOfCalls(sfu)) as Arc<dyn MediaServer>),
        turn: turn.map(|turn| Arc::new(TurnForUsers(turn)) as Arc<dyn TurnServer>),
        recorder: Some(Arc::new(recorder)),
        remote: Arc::new(CallsClient::new(domains.client.clone())),
        events,
    });
    judge.get_or_init(|| calls.downgrade());
    calls.start();
    calls
}

/// Where calls are reached, if that is configured.
pub(crate) fn call_addresses(config: &Config) -> Option<CallAddresses> {
    let public = config.calls.public_url.as_ref().or(config.client.public_baseurl.as_ref())?;
    CallAddresses::below(public)
}

/// The host of the public address: where the machine is, which need not be called as the server is.
fn host_of(addresses: &CallAddresses) -> Option<String> {
    let uri: Uri = addresses.service.parse().ok()?;
    Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// The media server, as calls see it.
struct MediaOfCalls(Sfu);

impl MediaServer for MediaOfCalls {
    fn token(&self, grant: &Grant) -> String {
        let Grant { room, identity, can_publish, may_create, lifetime } = grant.clone();
        let (name, can_subscribe) = (String::new(), true);
        self.0.token(&sfu::Grant { room, identity, name, can_publish, can_subscribe, may_create, lifetime })
    }

    fn disconnect(&self, room: &str, identity: &str) {
        self.0.disconnect(room, identity, DisconnectReason::Removed);
    }

    fn participants(&self, room: &str) -> Vec<LiveLeg> {
        let room = self.0.rooms().into_iter().find(|call| call.name == room);
        room.into_iter().flat_map(|call| call.participants).map(live_leg).collect()
    }

    fn mute(&self, room: &str, identity: &str, track: &str) {
        self.0.mute(room, identity, track);
    }
}

/// Tells calls who comes and goes on the media server, and asks them who may come.
struct Reporter {
    events: CallEvents,
    judge: Arc<OnceLock<WeakCalls>>,
    figures: LegFigures,
}

impl Observer for Reporter {
    fn may_join(&self, room: &str, identity: &str) -> bool {
        self.judge.get().is_some_and(|calls| calls.may_join(room, identity))
    }

    fn joined(&self, room: &str, identity: &str) {
        self.events.joined(room, identity);
    }

    fn left(&self, room: &str, identity: &str, stats: LegStats) {
        self.figures.count(&stats);
        self.events.left(room, identity, statistics_of(&stats));
    }
}

fn statistics_of(stats: &LegStats) -> LegStatistics {
    let permille = |share: f32| (share.clamp(0.0, 1.0) * 1000.0) as u16;
    LegStatistics {
        transport: stats.transport.name().to_owned(),
        rtt_ms: stats.rtt_ms,
        loss_up_permille: permille(stats.loss_up),
        loss_down_permille: permille(stats.loss_down),
        jitter_ms: stats.jitter_ms,
        bytes_up: stats.bytes_up,
        bytes_down: stats.bytes_down,
        resumes: stats.resumes,
    }
}

fn live_leg(participant: ParticipantOverview) -> LiveLeg {
    let ParticipantOverview { identity, stats, tracks, .. } = participant;
    let tracks = tracks.into_iter().map(|track| LiveTrack {
        id: track.sid,
        source: track.source.to_owned(),
        codec: track.codec,
        muted: track.muted,
        encrypted: track.encrypted,
        layers: track.layers,
        receivers: track.subscribers,
    });
    LiveLeg {
        identity,
        statistics: statistics_of(&stats),
        bitrate_up: stats.bitrate_up,
        bitrate_down: stats.bitrate_down,
        tracks: tracks.collect(),
    }
}

/// The TURN server, as users of calls between two see it.
struct TurnForUsers(Turn);

impl TurnServer for TurnForUsers {
    fn credentials(&self, user_key: &str, lifetime: Duration) -> TurnCredentials {
        let turn::Credentials { username, password, uris, ttl } = self.0.credentials(user_key, lifetime);
        TurnCredentials { username, password, uris, ttl: Duration::from_secs(ttl) }
    }
}

/// The TURN server, as the media server names it to its participants, once there is one.
#[derive(Clone, Default)]
struct LateTurn(Arc<OnceLock<Turn>>);

impl Relay for LateTurn {
    fn ice_servers(&self, user_key: &str) -> Vec<IceServer> {
        let Some(turn) = self.0.get() else { return Vec::new() };
        let turn::Credentials { username, password, uris, .. } = turn.credentials(user_key, RELAY_LIFETIME);
        vec![IceServer { urls: uris, username, credential: password }]
    }
}

/// The certificate in use, also after it was read again.
#[derive(Debug)]
struct Current(Arc<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current().cert_resolver.resolve(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_server_is_where_the_public_address_is() {
        let host = |public: &str| host_of(&CallAddresses::below(public).unwrap());
        assert_eq!(host("https://matrix.example.org:8448/x").as_deref(), Some("matrix.example.org"));
        assert_eq!(host("http://[2001:db8::1]:8008").as_deref(), Some("2001:db8::1"));
    }
}

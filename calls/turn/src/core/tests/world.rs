//! A relay without sockets, and clients that talk to it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::config::{ByteSize, RateLimit};
use runtime::{Metrics, Random};

use crate::Transport;
use crate::auth::Auth;
use crate::codec::{Class, Integrity, Message, Method, Writer, attribute};
use crate::config::{PortRange, TurnConfig};
use crate::core::{Core, CoreParts, Link, Now, Outside, RelayAddress};
use crate::policy::{Beside, Policy};

pub(super) const START: u64 = 1_700_000_000;
pub(super) const PEER: &str = "8.8.8.8:9000";
pub(super) const SFU: &str = "203.0.113.5:7882";
/// Another media server: where clients are told that it is, and where the relay reaches it.
pub(super) const ROUTED_SFU: [&str; 2] = ["203.0.113.9:7882", "10.0.0.1:7882"];

/// What the core had done.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) open: HashMap<usize, SocketAddr>,
    /// Ports that another program has.
    pub(super) taken: Vec<u16>,
    pub(super) clients: Vec<(Link, Vec<u8>)>,
    pub(super) peers: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Outside for Recorder {
    fn open_relay(&mut self, slot: usize, address: SocketAddr) -> bool {
        let free = !self.taken.contains(&address.port());
        if free {
            assert!(self.open.insert(slot, address).is_none(), "slot {slot} was in use");
        }
        free
    }

    fn close_relay(&mut self, slot: usize) {
        assert!(self.open.remove(&slot).is_some(), "slot {slot} was not in use");
    }

    fn send_to_client(&mut self, link: &Link, parts: [&[u8]; 3]) {
        self.clients.push((*link, parts.concat()));
    }

    fn send_to_peer(&mut self, slot: usize, peer: SocketAddr, data: &[u8]) {
        self.peers.push((self.open[&slot], peer, data.to_vec()));
    }
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) out: Recorder,
    pub(super) auth: Arc<Auth>,
    pub(super) metrics: Metrics,
    /// Seconds since the start.
    pub(super) time: u64,
}

/// A client: where it is, and who.
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) username: String,
    pub(super) nonce: String,
    pub(super) integrity: Integrity,
}

/// An answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// `None` for success.
    pub(super) code: Option<u16>,
    pub(super) bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn value(&self, kind: u16) -> Option<Vec<u8>> {
        let message = Message::parse(&self.bytes).unwrap();
        message.attributes().find(|(found, ..)| *found == kind).map(|(_, value, _)| value.to_vec())
    }

    pub(super) fn lifetime(&self) -> u32 {
        u32::from_be_bytes(self.value(attribute::LIFETIME).unwrap().try_into().unwrap())
    }
}

pub(super) fn config() -> TurnConfig {
    TurnConfig {
        relay_ports: PortRange { first: 50000, last: 50009 },
        strangers: RateLimit::new(1.0, 100),
        user_bandwidth: ByteSize(0),
        bandwidth: ByteSize(0),
        allocations_per_user: 3,
        allocations: 5,
        ..TurnConfig::default()
    }
}

impl World {
    pub(super) fn new() -> World {
        World::with(config())
    }

    pub(super) fn with(config: TurnConfig) -> World {
        let random = Random::seeded(7);
        let auth = Arc::new(Auth::new("north", "a.org", &random));
        let relay = |bind: &str, public: &str| {
            let [bind, public] = [bind, public].map(|ip| ip.parse::<IpAddr>().unwrap());
            RelayAddress { bind, public }
        };
        let (relay_v4, relay_v6) = (relay("10.0.0.1", "203.0.113.5"), relay("2a00::1", "2a00::1"));
        let policy = Policy {
            allowed: config.allowed_peers.clone(),
            own: vec![relay_v4.bind, relay_v4.public, relay_v6.public],
            relay_ports: config.relay_ports,
            listener_ports: vec![config.port, config.tls_port],
            neighbours: [[SFU, SFU], ROUTED_SFU]
                .map(|[told, at]| Beside { told: told.parse().unwrap(), at: at.parse().unwrap() })
                .into(),
        };
        let metrics = Metrics::new();
        let core = Core::new(CoreParts {
            config: &config,
            auth: auth.clone(),
            policy,
            relay_v4: Some(relay_v4),
            relay_v6: Some(relay_v6),
            random,
            metrics: &metrics,
        });
        World { core, out: Recorder::default(), auth, metrics, time: 0 }
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Duration::from_secs(self.time), unix: START + self.time }
    }

    /// A client of `user` at a port, over UDP, whose credentials are good for an hour.
    pub(super) fn client(&self, user: &str, port: u16) -> Client {
        let remote = SocketAddr::from(([198, 51, 100, 1], port));
        self.client_at(user, Link::Udp { listener: 0, remote, local: None })
    }

    pub(super) fn stream_client(&self, user: &str, connection: usize) -> Client {
        let remote = SocketAddr::from(([198, 51, 100, 2], 4000));
        self.client_at(user, Link::Stream { connection, remote, transport: Transport::Tcp })
    }

    fn client_at(&self, user: &str, link: Link) -> Client {
        let username = format!("{}:{user}", START + 3600);
        Client { link, username, nonce: self.auth.nonce(START + self.time, link.remote()), integrity: Integrity::Sha1 }
    }

    /// A client that has allocated, and its relay address.
    pub(super) fn allocated(&mut self, user: &str, port: u16) -> (Client, SocketAddr) {
        let client = self.client(user, port);
        let relay = self.allocate(&client);
        (client, relay)
    }

    pub(super) fn allocate(&mut self, client: &Client) -> SocketAddr {
        let answer = self.ask(client, Method::Allocate, udp);
        assert_eq!(answer.code, None);
        read_address(&answer.value(attribute::XOR_RELAYED_ADDRESS).unwrap(), &answer.bytes)
    }

    /// Sends a signed request and takes its answer.
    pub(super) fn ask(&mut self, client: &Client, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Answer {
        self.ask_as(client, method, [method_number(method); 12], fill).expect("an answer")
    }

    pub(super) fn ask_as(
        &mut self,
        client: &Client,
        method: Method,
        transaction: [u8; 12],
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Option<Answer> {
        let key = md5_key(&client.username, &self.auth.password(&client.username));
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, method, &transaction);
        fill(&mut writer);
        writer.add(attribute::USERNAME, client.username.as_bytes()).add(attribute::REALM, b"a.org");
        writer.add(attribute::NONCE, client.nonce.as_bytes()).protect(client.integrity, &key);
        writer.finish();
        let answer = self.send(client.link, &out)?;
        if answer.code.is_none() {
            let message = Message::parse(&answer.bytes).unwrap();
            let attributes = crate::codec::Attributes::read(&message).unwrap();
            assert!(attributes.verify(&message, &key), "answers are signed");
            assert_eq!(attributes.uses_sha256(), client.integrity == Integrity::Sha256);
        }
        Some(answer)
    }

    /// Sends bytes and takes the answer.
    pub(super) fn send(&mut self, link: Link, bytes: &[u8]) -> Option<Answer> {
        self.core.take_from_client(self.now(), link, bytes, &mut self.out);
        let (to, bytes) = self.out.clients.pop()?;
        assert_eq!(to, link);
        let message = Message::parse(&bytes).unwrap();
        let code = (message.class() == Class::Error).then(|| {
            let (_, value, _) = message.attributes().find(|(kind, ..)| *kind == attribute::ERROR_CODE).unwrap();
            u16::from(value[2]) * 100 + u16::from(value[3])
        });
        Some(Answer { code, bytes })
    }

    pub(super) fn permit(&mut self, client: &Client, peer: &str) -> Option<u16> {
        let peer = peer.parse().unwrap();
        let answer = self.ask(client, Method::CreatePermission, |writer| {
            writer.add_address(attribute::XOR_PEER_ADDRESS, peer);
        });
        answer.code
    }

    pub(super) fn bind(&mut self, client: &Client, number: u16, peer: &str) -> Option<u16> {
        let peer = peer.parse().unwrap();
        let answer = self.ask(client, Method::ChannelBind, |writer| {
            let [n0, n1] = number.to_be_bytes();
            writer.add(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0]);
            writer.add_address(attribute::XOR_PEER_ADDRESS, peer);
        });
        answer.code
    }

    /// A Send indication, which has no answer.
    pub(super) fn indicate(&mut self, client: &Client, peer: &str, data: &[u8]) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Indication, Method::Send, &[9; 12]);
        writer.add_address(attribute::XOR_PEER_ADDRESS, peer.parse().unwrap()).add(attribute::DATA, data);
        writer.finish();
        self.core.take_from_client(self.now(), client.link, &out, &mut self.out);
    }

    pub(super) fn channel(&mut self, client: &Client, number: u16, data: &[u8]) {
        let header = crate::codec::channel_header(number, data.len()).unwrap();
        self.core.take_from_client(self.now(), client.link, &[&header, data].concat(), &mut self.out);
    }

    /// A datagram of a peer at a relay address.
    pub(super) fn peer_sends(&mut self, peer: &str, relay: SocketAddr, data: &[u8]) {
        let found = self.out.open.iter().find(|(_, bound)| bound.port() == relay.port());
        let slot = *found.expect("an open socket").0;
        self.core.take_from_peer(self.now(), slot, peer.parse().unwrap(), data, &mut self.out);
    }

    pub(super) fn tick(&mut self) {
        let now = self.now();
        self.core.tick(now, &mut self.out);
    }
}

/// What an Allocate request has to say.
pub(super) fn udp(writer: &mut Writer<'_>) {
    writer.add(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

pub(super) fn read_address(value: &[u8], message: &[u8]) -> SocketAddr {
    // A copy of the attribute as the first peer of a message is what the codec reads.
    let transaction = *Message::parse(message).unwrap().transaction();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Class::Indication, Method::Data, &transaction);
    writer.add(attribute::XOR_PEER_ADDRESS, value);
    writer.finish();
    let message = Message::parse(&out).unwrap();
    crate::codec::peers(&message).next().flatten().unwrap()
}

fn md5_key(username: &str, password: &str) -> Vec<u8> {
    use md5::{Digest, Md5};
    Md5::digest(format!("{username}:a.org:{password}")).to_vec()
}

fn method_number(method: Method) -> u8 {
    match method {
        Method::Allocate => 3,
        Method::Refresh => 4,
        Method::CreatePermission => 8,
        _ => 9,
    }
}

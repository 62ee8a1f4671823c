//! What the fuzz targets call of this crate. Compiled with the feature `fuzzing` only; nothing else may use it. A panic
//! here is how a target reports a finding.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::{Metrics, Random};

use crate::TurnConfig;
use crate::auth::Auth;
use crate::codec::{Attributes, Class, Integrity, Message, Method, Writer, attribute, channel_data, frame_len, peers};
use crate::core::{Core, CoreParts, Link, Now, Outside, RelayAddress};
use crate::policy::Policy;

/// Reads bytes as a message, as ChannelData and as the start of a stream. What is a message is so in a stream too.
pub fn read(bytes: &[u8]) {
    if let Ok(message) = Message::parse(bytes) {
        assert!(bytes.len() > 16 * 1024 || frame_len(bytes) == Ok(Some(bytes.len())));
        let attributes = Attributes::read(&message);
        assert!(!attributes.is_some_and(|attributes| attributes.verify(&message, b"nobody guesses this")));
        assert!(peers(&message).count() <= bytes.len() / 4);
    }
    if let Some((channel, data)) = channel_data(bytes) {
        assert!((0x4000..=0x7fff).contains(&channel) && data.len() + 4 <= bytes.len());
    }
}

/// A relay without sockets, in front of which anybody may stand.
pub struct Relay {
    core: Core,
    auth: Arc<Auth>,
    sockets: Sockets,
    time: u64,
}

#[derive(Default)]
struct Sockets {
    open: HashMap<usize, SocketAddr>,
    to_clients: usize,
}

impl Outside for Sockets {
    fn open_relay(&mut self, slot: usize, address: SocketAddr) -> bool {
        assert!(self.open.insert(slot, address).is_none(), "one socket for each allocation");
        true
    }

    fn close_relay(&mut self, slot: usize) {
        assert!(self.open.remove(&slot).is_some(), "only what is open is closed");
    }

    fn send_to_client(&mut self, _: &Link, parts: [&[u8]; 3]) {
        self.to_clients += parts.iter().map(|part| part.len()).sum::<usize>();
    }

    fn send_to_peer(&mut self, slot: usize, peer: SocketAddr, _: &[u8]) {
        assert!(self.open.contains_key(&slot) && outbound::is_public(peer.ip()), "nothing inside is reached: {peer}");
    }
}

impl Default for Relay {
    fn default() -> Relay {
        let random = Random::seeded(1);
        let auth = Arc::new(Auth::new("north", "a.org", &random));
        let config = TurnConfig { allocations: 6, ..TurnConfig::default() };
        let address = SocketAddr::from(([10, 0, 0, 1], 0)).ip();
        let relay = RelayAddress { bind: address, public: address };
        let policy = Policy {
            allowed: Vec::new(),
            own: vec![address],
            relay_ports: config.relay_ports,
            listener_ports: vec![config.port],
            neighbours: Vec::new(),
        };
        let metrics = Metrics::new();
        let parts = CoreParts {
            config: &config,
            auth: auth.clone(),
            policy,
            relay_v4: Some(relay),
            relay_v6: None,
            random,
            metrics: &metrics,
        };
        Relay { core: Core::new(parts), auth, sockets: Sockets::default(), time: 0 }
    }
}

impl Relay {
    fn now(&self) -> Now {
        Now { mono: Duration::from_secs(self.time), unix: 1_700_000_000 + self.time }
    }

    fn link(client: u8) -> Link {
        Link::Udp { listener: 0, remote: SocketAddr::from(([192, 0, 2, 1], 1000 + u16::from(client))), local: None }
    }

    /// A client sends bytes. What it gets is never much more, with the headers of IPv4 and UDP.
    pub fn send(&mut self, client: u8, bytes: &[u8]) {
        let before = self.sockets.to_clients;
        self.core.take_from_client(self.now(), Relay::link(client), bytes, &mut self.sockets);
        let answered = self.sockets.to_clients - before;
        assert!(answered == 0 || answered + 28 <= 4 * (bytes.len() + 28), "{answered} for {}", bytes.len());
    }

    /// A client that knows its password sends a request. `attributes`: of each the kind, in two bytes, the length, in
    /// one, and the value.
    pub fn ask(&mut self, client: u8, method: u8, attributes: &[u8]) {
        let link = Relay::link(client);
        let username = format!("1800000000:{}", client % 3);
        let method = match method % 6 {
            0 | 1 => Method::Allocate,
            2 => Method::Refresh,
            3 => Method::CreatePermission,
            4 => Method::ChannelBind,
            _ => Method::Other(method.into()),
        };
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Class::Request, method, &[client; 12]);
        let mut rest = attributes;
        while let [k0, k1, length, after @ ..] = rest {
            let (value, after) = after.split_at(usize::from(*length).min(after.len()));
            writer.add(u16::from_be_bytes([*k0, *k1]), value);
            rest = after;
        }
        writer.add(attribute::USERNAME, username.as_bytes()).add(attribute::REALM, b"a.org");
        writer.add(attribute::NONCE, self.auth.nonce(self.now().unix, link.remote()).as_bytes());
        writer.protect(Integrity::Sha1, self.auth.key(&username, false).bytes());
        writer.finish();
        self.core.take_from_client(self.now(), link, &out, &mut self.sockets);
        self.check();
    }

    /// A datagram from anybody comes to a relay socket, if it is open.
    pub fn arrive(&mut self, slot: u8, from: SocketAddr, data: &[u8]) {
        self.core.take_from_peer(self.now(), slot.into(), from, data, &mut self.sockets);
    }

    /// Time passes.
    pub fn wait(&mut self, seconds: u16) {
        self.time += u64::from(seconds);
        let now = self.now();
        self.core.tick(now, &mut self.sockets);
        self.check();
    }

    fn check(&self) {
        assert!(self.sockets.open.len() <= 6 && self.core.overview(self.now()).len() <= self.sockets.open.len());
    }
}

//! A relay on loopback with a clock that the tests set.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use runtime::{Clock, Metrics, Random, Tasks};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use turn::{Neighbour, Turn, TurnConfig, TurnError, TurnParts};

/// Each relay has ports of its own, below those that the system gives away.
static NEXT_PORTS: AtomicU16 = AtomicU16::new(20_000);

pub struct Server {
    pub turn: Turn,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub address: SocketAddr,
    pub tls_address: SocketAddr,
    pub certificate: CertificateDer<'static>,
}

#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A port that is free for UDP and TCP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

impl Server {
    /// A relay that may reach loopback.
    pub fn start() -> Server {
        Server::with(|_| {}, Vec::new())
    }

    pub fn with(change: impl FnOnce(&mut TurnConfig), neighbours: Vec<Neighbour>) -> Server {
        Server::try_with(change, neighbours).unwrap()
    }

    pub fn try_with(change: impl FnOnce(&mut TurnConfig), neighbours: Vec<Neighbour>) -> Result<Server, TurnError> {
        let first = NEXT_PORTS.fetch_add(20, Ordering::Relaxed);
        let mut config = TurnConfig {
            listen: vec!["127.0.0.1".parse().unwrap()],
            port: free_port(),
            tls_port: free_port(),
            relay_addresses: vec!["127.0.0.1".parse().unwrap()],
            relay_ports: format!("{first}-{}", first + 19).parse().unwrap(),
            allowed_peers: vec!["127.0.0.0/8".parse().unwrap()],
            ..TurnConfig::default()
        };
        change(&mut config);
        let (address, tls_address) = (([127, 0, 0, 1], config.port).into(), ([127, 0, 0, 1], config.tls_port).into());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certificate = made.cert.der().clone();
        let certified = CertifiedKey::new(vec![certificate.clone()], any_supported_type(&key).unwrap());
        let (clock, metrics) = (Clock::fake(1_700_000_000_000), Metrics::new());
        let tasks = Tasks::new(&metrics);
        let turn = Turn::start(TurnParts {
            config,
            clock: clock.clone(),
            random: Random::system(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            tls: Some(Arc::new(OneCertificate(Arc::new(certified)))),
            realm: "a.org".to_owned(),
            neighbours,
        })?;
        Ok(Server { turn, clock, tasks, metrics, address, tls_address, certificate })
    }

    /// Lets time pass, and the relay notice it.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        // The relay looks at the clock when something happens, as a question does.
        self.turn.overview().await;
        self.turn.overview().await;
    }

    pub async fn stop(self) {
        assert!(self.tasks.drain(Duration::from_secs(60)).await, "the relay ends with the server");
    }
}

use std::collections::HashMap;

use rustls::RootCertStore;
use tokio::net::TcpListener;

use super::super::is_public;
use super::*;
use crate::discovery::SrvRecord;
use crate::discovery::lookup::Lookup;

/// Names of the test.
#[derive(Default)]
pub(crate) struct FakeNames {
    pub(crate) addresses: HashMap<String, Vec<IpAddr>>,
    pub(crate) services: HashMap<String, Vec<SrvRecord>>,
}

impl Names for FakeNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<IpAddr>> {
        Box::pin(std::future::ready(Ok(self.addresses.get(name).cloned().unwrap_or_default())))
    }

    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Vec<SrvRecord>> {
        Box::pin(std::future::ready(Ok(self.services.get(name).cloned().unwrap_or_default())))
    }
}

fn net(names: FakeNames, allow_private_addresses: bool) -> Net {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Net {
        names: Arc::new(names),
        tls: Arc::new(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth()),
        may_connect: if allow_private_addresses { |_| true } else { is_public },
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
        random: Random::seeded(1),
    }
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn inner_addresses_are_taken_out_and_none_left_is_refused() {
    let guarded = |allow, addresses: &[&str]| {
        net(FakeNames::default(), allow).guard(&Host::Name("a.org".to_owned()), ips(addresses))
    };
    assert_eq!(guarded(false, &["10.0.0.1", "1.1.1.1"]).unwrap(), ips(&["1.1.1.1"]));
    assert!(
        matches!(guarded(false, &["10.0.0.1", "::1"]), Err(TransportError::PrivateAddress(name)) if name == "a.org")
    );
    assert_eq!(guarded(true, &["10.0.0.1"]).unwrap(), ips(&["10.0.0.1"]));
    assert!(matches!(guarded(true, &[]), Err(TransportError::Unreachable(_))));
}

#[test]
fn the_families_take_turns() {
    let ordered = take_turns(ips(&["1.1.1.1", "1.1.1.2", "2a00::1", "1.1.1.3"]));
    assert_eq!(ordered, ips(&["2a00::1", "1.1.1.1", "1.1.1.2", "1.1.1.3"]));
}

#[tokio::test]
async fn no_form_of_an_inner_address_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut names = FakeNames::default();
    names.addresses.insert("inner.org".to_owned(), ips(&["127.0.0.1", "::1", "::ffff:127.0.0.1"]));
    let inner = SrvRecord { priority: 0, weight: 0, port, target: "inner.org".to_owned() };
    let literal = SrvRecord { target: "127.0.0.1".to_owned(), ..inner.clone() };
    names.services.insert("_matrix-fed._tcp.srv.org".to_owned(), vec![inner]);
    names.services.insert("_matrix-fed._tcp.literal.org".to_owned(), vec![literal]);
    let net = Arc::new(net(names, false));
    let connect = async |addressing, address: String| {
        let mut connector = Connector { net: net.clone(), addressing };
        connector.call(address.parse().unwrap()).await.err().unwrap()
    };
    for host in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("inner.org:{port}"),
    ] {
        for addressing in [Addressing::Federation, Addressing::Web] {
            let error = connect(addressing, format!("https://{host}/")).await;
            assert!(matches!(error, TransportError::PrivateAddress(_)), "{host} {addressing:?}: {error}");
        }
    }
    for host in ["srv.org", "literal.org"] {
        let error = connect(Addressing::Federation, format!("https://{host}/")).await;
        assert!(matches!(error, TransportError::PrivateAddress(_)), "{host}: {error}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
}

#[tokio::test]
async fn few_addresses_of_a_name_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let net = net(FakeNames::default(), true);
    let refusing = |count: u8| (2..2 + count).map(|last| IpAddr::from([127, 0, 0, last]));
    let last = IpAddr::from([127, 0, 0, 1]);
    let within: Vec<IpAddr> = refusing(7).chain([last]).collect();
    assert_eq!(within.len(), MAX_ATTEMPTS);
    assert!(net.connect_first(&within, port).await.is_ok());
    let beyond: Vec<IpAddr> = refusing(8).chain([last]).collect();
    assert!(net.connect_first(&beyond, port).await.is_err());
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let net = net(FakeNames::default(), true);
    // Nobody listens on the others: they refuse.
    let stream = net.connect_first(&ips(&["127.0.0.2", "127.0.0.3", "127.0.0.1"]), port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), ips(&["127.0.0.1"])[0]);
    drop(listener);
    assert!(net.connect_first(&ips(&["127.0.0.2", "127.0.0.1"]), port).await.is_err());
    assert!(net.connect_first(&[], port).await.is_err());
}

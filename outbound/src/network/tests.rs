use rustls::RootCertStore;
use tokio::net::TcpListener;

use super::*;
use crate::is_public;
use crate::web::tests::FakeNames;

fn network(allow_private_addresses: bool) -> Network {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Network {
        names: Arc::new(FakeNames::default()),
        tls: Arc::new(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth()),
        may_connect: if allow_private_addresses { |_| true } else { is_public },
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    }
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn inner_addresses_are_taken_out_and_none_left_is_refused() {
    let guarded = |allow, addresses: &[&str]| network(allow).guard(&Host::Name("a.org".to_owned()), ips(addresses));
    assert_eq!(guarded(false, &["10.0.0.1", "1.1.1.1"]).unwrap(), ips(&["1.1.1.1"]));
    assert!(matches!(guarded(false, &["10.0.0.1", "::1"]), Err(WebError::PrivateAddress(name)) if name == "a.org"));
    assert_eq!(guarded(true, &["10.0.0.1"]).unwrap(), ips(&["10.0.0.1"]));
    assert!(matches!(guarded(true, &[]), Err(WebError::Unreachable(_))));
}

#[test]
fn the_families_take_turns() {
    let ordered = take_turns(ips(&["1.1.1.1", "1.1.1.2", "2a00::1", "1.1.1.3"]));
    assert_eq!(ordered, ips(&["2a00::1", "1.1.1.1", "1.1.1.2", "1.1.1.3"]));
}

#[tokio::test]
async fn few_addresses_of_a_name_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = network(true);
    let refusing = |count: u8| (2..2 + count).map(|last| IpAddr::from([127, 0, 0, last]));
    let last = IpAddr::from([127, 0, 0, 1]);
    let within: Vec<IpAddr> = refusing(7).chain([last]).collect();
    assert_eq!(within.len(), MAX_ATTEMPTS);
    assert!(network.connect_first(&within, port).await.is_ok());
    let beyond: Vec<IpAddr> = refusing(8).chain([last]).collect();
    assert!(network.connect_first(&beyond, port).await.is_err());
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = network(true);
    // Nobody listens on the others: they refuse.
    let stream = network.connect_first(&ips(&["127.0.0.2", "127.0.0.3", "127.0.0.1"]), port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), ips(&["127.0.0.1"])[0]);
    drop(listener);
    assert!(network.connect_first(&ips(&["127.0.0.2", "127.0.0.1"]), port).await.is_err());
    assert!(network.connect_first(&[], port).await.is_err());
}

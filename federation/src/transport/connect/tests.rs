use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use outbound::{Lookup, Names, Pool, SrvRecord, WebClient, WebParts, is_public};
use runtime::Clock;
use tokio::net::TcpListener;

use super::*;

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

#[tokio::test]
async fn no_form_of_an_inner_address_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut names = FakeNames::default();
    let inner = ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(|address| address.parse().unwrap());
    names.addresses.insert("inner.org".to_owned(), inner.to_vec());
    let inner = SrvRecord { priority: 0, weight: 0, port, target: "inner.org".to_owned() };
    let literal = SrvRecord { target: "127.0.0.1".to_owned(), ..inner.clone() };
    names.services.insert("_matrix-fed._tcp.srv.org".to_owned(), vec![inner]);
    names.services.insert("_matrix-fed._tcp.literal.org".to_owned(), vec![literal]);
    let parts = WebParts {
        trusted_ca_file: None,
        allow_private_addresses: false,
        connect_timeout: Duration::from_secs(5),
        clock: Clock::system(),
    };
    let web = WebClient::with_names(parts, Arc::new(names), is_public).unwrap();
    let routes = FederationRoutes { random: Random::seeded(1) };
    let pool = Pool::new(web.guarded_network().clone(), Arc::new(routes));
    for host in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("inner.org:{port}"),
        "srv.org".to_owned(),
        "literal.org".to_owned(),
    ] {
        let request = Request::builder().uri(format!("https://{host}/")).body(Bytes::new()).unwrap();
        let error = pool.send(request).await.err().unwrap();
        assert!(matches!(error, WebError::PrivateAddress(_)), "{host}: {error}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
}

use super::*;

fn client_of(peer: Option<&str>, forwarded: &[&str]) -> String {
    let trusted = ["127.0.0.1", "10.0.0.1"].map(|ip| ip.parse().unwrap());
    let mut headers = HeaderMap::new();
    for value in forwarded {
        headers.append("x-forwarded-for", value.parse().unwrap());
    }
    find_client_address(peer.map(|ip| ip.parse().unwrap()), &headers, &trusted).to_string()
}

#[test]
fn only_trusted_proxies_may_name_the_client() {
    assert_eq!(client_of(Some("192.0.2.1"), &["198.51.100.9"]), "192.0.2.1");
    assert_eq!(client_of(Some("127.0.0.1"), &["198.51.100.9"]), "198.51.100.9");
    assert_eq!(client_of(None, &["198.51.100.9"]), "198.51.100.9");
    assert_eq!(client_of(Some("127.0.0.1"), &[]), "127.0.0.1");
}

#[test]
fn what_the_client_itself_put_into_the_header_is_not_believed() {
    assert_eq!(client_of(Some("127.0.0.1"), &["203.0.113.5, 198.51.100.9, 10.0.0.1"]), "198.51.100.9");
    assert_eq!(client_of(Some("127.0.0.1"), &["203.0.113.5", "198.51.100.9"]), "198.51.100.9");
    assert_eq!(client_of(Some("127.0.0.1"), &["203.0.113.5, nonsense, 10.0.0.1"]), "10.0.0.1");
}

use super::*;

/// Without a name server: what the hosts file says, and the names that never leave the host.
#[tokio::test]
async fn the_own_host_is_found_without_a_name_server() {
    let names = system_names(Search::Never).unwrap();
    let found = names.addresses("localhost").await.unwrap();
    assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
}

#[test]
fn names_are_whole_names() {
    assert_eq!(absolute("a.org"), "a.org.");
    assert_eq!(absolute("a.org."), "a.org.");
}

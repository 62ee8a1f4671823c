use super::routes::{RouteClass, classify};

#[test]
fn every_path_has_a_class() {
    let v3 = |rest: &str| classify(&format!("/_matrix/client/v3/{rest}"));
    assert_eq!(v3("sync"), RouteClass::Sync);
    assert_eq!(v3("rooms/!a:b/send/m.room.message/1"), RouteClass::Send);
    assert_eq!(v3("rooms/!a:b/state/m.room.name"), RouteClass::Send);
    assert_eq!(v3("rooms/!a:b/messages"), RouteClass::Messages);
    assert_eq!(v3("rooms/!a:b/invite"), RouteClass::Rooms);
    assert_eq!(v3("rooms"), RouteClass::Rooms);
    assert_eq!(v3("createRoom"), RouteClass::Rooms);
    assert_eq!(v3("login"), RouteClass::Account);
    assert_eq!(v3("keys/upload"), RouteClass::Keys);
    assert_eq!(v3("pushrules/"), RouteClass::Client);
    let sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    assert_eq!(classify(sliding), RouteClass::SlidingSync);
    assert_eq!(classify("/_matrix/client/v1/media/download/a/b"), RouteClass::MediaDownload);
    assert_eq!(classify("/_matrix/media/v3/upload"), RouteClass::MediaUpload);
    assert_eq!(classify("/_matrix/federation/v1/send/1"), RouteClass::FederationSend);
    assert_eq!(classify("/_matrix/key/v2/server"), RouteClass::Federation);
    assert_eq!(classify("/_synapse/admin/v2/users"), RouteClass::Admin);
    assert_eq!(classify("/_conduit/admin/v1/user/list"), RouteClass::Admin);
    assert_eq!(classify("/_rtc/sfu/rtc"), RouteClass::Calls);
    for odd in ["", "/", "/_matrix/", "/_matrix/client", "/_matrix/client/", "/favicon.ico"] {
        let class = classify(odd);
        assert!(matches!(class, RouteClass::Other | RouteClass::Client), "{odd}: {class:?}");
    }
}

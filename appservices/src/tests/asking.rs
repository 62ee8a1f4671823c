//! Questions, pings and old routes.

use serde_json::json;
use spec::ids::RoomAlias;
use users::{AppServiceFailure, AppServiceQueries, ThirdPartyQuestion};

use super::fixture::{BRIDGE, Bed};

#[tokio::test(flavor = "multi_thread")]
async fn questions_have_their_paths_and_answers() {
    let bed = Bed::new(&[BRIDGE]).await;
    let services = bed.users.appservices();
    let service = services.get("bridge").unwrap();
    let asked = |count: usize| {
        let seen = bed.web.seen();
        assert_eq!(seen.len(), count);
        let last = seen.last().unwrap();
        format!("{} {}", last.method, last.uri.strip_prefix("http://bridge.test/base").unwrap())
    };
    bed.web.lay_down(200, json!({}));
    assert_eq!(bed.dispatcher.has_user(service, &Bed::id("_ghost_x")).await, Ok(true));
    assert_eq!(asked(1), "GET /_matrix/app/v1/users/%40_ghost_x%3Ahs.test");
    let alias = RoomAlias::parse("#_portal_x:hs.test").unwrap();
    assert_eq!(bed.dispatcher.has_alias(service, &alias).await, Ok(false));
    assert_eq!(asked(2), "GET /_matrix/app/v1/rooms/%23_portal_x%3Ahs.test");
    bed.web.lay_down(200, json!([{"alias": "#a:b"}]));
    let fields = vec![("channel".to_owned(), "#a b".to_owned())];
    let question = ThirdPartyQuestion::Locations("irc".into(), fields);
    let found = bed.dispatcher.third_party(service, &question).await;
    assert_eq!(found, Ok(Some(json!([{"alias": "#a:b"}]))));
    assert_eq!(asked(3), "GET /_matrix/app/v1/thirdparty/location/irc?channel=%23a%20b");
    bed.web.lay_down(500, json!({"errcode": "M_UNKNOWN"}));
    let failed = bed.dispatcher.has_user(service, &Bed::id("_ghost_x")).await;
    assert!(matches!(failed, Err(AppServiceFailure::BadStatus { status: 500, .. })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_know_no_new_routes_are_asked_by_the_old_ones() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.web.lay_down(404, json!({"errcode": "M_UNRECOGNIZED"}));
    bed.join(&room, "bridgebot").await;
    let seen = bed.web.wait_for(2).await;
    assert!(seen[0].uri.contains("/_matrix/app/v1/transactions/"), "{}", seen[0].uri);
    let id = seen[0].uri.rsplit('/').next().unwrap();
    assert_eq!(seen[1].uri, format!("http://bridge.test/base/transactions/{id}?access_token=hs"));
    assert_eq!(seen[0].bytes, seen[1].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_ends_a_pause() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.web.set_down(true);
    bed.join(&room, "bridgebot").await;
    bed.web.wait_for(1).await;
    let services = bed.users.appservices();
    let service = services.get("bridge").unwrap();
    let failed = bed.dispatcher.ping(service, Some("t")).await;
    assert!(matches!(failed, Err(AppServiceFailure::Unreachable(_))), "{failed:?}");
    bed.web.set_down(false);
    bed.wait_until_unreachable("bridge").await;
    bed.web.lay_down(200, json!({}));
    bed.dispatcher.ping(service, Some("t")).await.unwrap();
    let seen = bed.web.wait_for(4).await;
    let ping = &seen[2];
    assert_eq!((ping.method.as_str(), ping.body()), ("POST", json!({"transaction_id": "t"})));
    assert!(seen[3].uri.contains("/transactions/"));
    assert_eq!(seen[0].bytes, seen[3].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_who_are_invited_are_asked_for() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.change(&room, "alice", "_ghost_new", rooms::Membership::Invite).await;
    let seen = bed.web.wait_for(2).await;
    let query = "http://bridge.test/base/_matrix/app/v1/users/%40_ghost_new%3Ahs.test";
    assert!(seen.iter().any(|seen| seen.uri == query), "{seen:?}");
}

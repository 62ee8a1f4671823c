use serde_json::json;

use super::*;
use crate::inbound::fixture::{Here, user};

const PATH: &str = "/_matrix/federation/v1/3pid/onbind";

/// What needs a place takes it in turn: the places are those of the process.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn anybody_makes_us_ask_few_servers() {
    let _turn = TURN.lock().await;
    let here = Here::new();
    let account = users::NewAccount {
        localpart: "carol",
        password: None,
        kind: users::AccountKind::User,
        admin: users::AdminRights::Denied,
        registration_token: None,
    };
    here.federation.users.create_account(account).await.unwrap();
    let carol = user("@carol:here.test");
    let invite = |number: usize| json!({"mxid": carol, "room_id": "!r:x.test", "sender": format!("@e:s{number}.test"), "signed": {}});
    let binding = json!({"mxid": carol, "invites": (0..30).map(invite).collect::<Vec<_>>()});
    let (status, _) = here.request("PUT", PATH, None, Body::from(binding.to_string())).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(here.peer.take_strangers().len(), MAX_INVITES);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_have_few_places_and_a_time_limit() {
    let _turn = TURN.lock().await;
    let here = Here::new();
    let endless = || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let before = here.federation.clock.monotonic();
    let two =
        async { tokio::join!(here.request("PUT", PATH, None, endless()), here.request("PUT", PATH, None, endless())) };
    let third = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, _) = here.request("PUT", PATH, None, Body::from("{}")).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        here.federation.clock.advance(BODY_TIME);
    };
    let (((first, _), (second, _)), ()) = tokio::join!(two, third);
    assert_eq!((first, second), (StatusCode::REQUEST_TIMEOUT, StatusCode::REQUEST_TIMEOUT));
    assert!(here.federation.clock.monotonic() - before < BODY_TIME * 2);
}

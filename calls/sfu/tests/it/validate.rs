//! What the endpoints say to clients that cannot open the WebSocket.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use runtime::{Clock, Metrics, Random, Tasks};
use sfu::{Grant, LegStats, Observer, Sfu, SfuConfig, SfuParts};
use tower::ServiceExt;

struct Nobody;

impl Observer for Nobody {
    fn may_join(&self, _room: &str, identity: &str) -> bool {
        identity != "kicked"
    }

    fn joined(&self, _room: &str, _identity: &str) {}
    fn left(&self, _room: &str, _identity: &str, _stats: LegStats) {}
}

async fn start(change: impl FnOnce(&mut SfuConfig)) -> (Sfu, Tasks) {
    let metrics = Metrics::new();
    let tasks = Tasks::new(&metrics);
    let loopback = Ipv4Addr::LOCALHOST.into();
    let mut config = SfuConfig {
        udp_port: 0,
        tcp_port: 0,
        listen: vec![loopback],
        public_addresses: vec![loopback],
        ..SfuConfig::default()
    };
    change(&mut config);
    let parts = SfuParts {
        config,
        clock: Clock::system(),
        random: Random::system(),
        tasks: tasks.clone(),
        metrics,
        secret: [3; 32],
        observer: Arc::new(Nobody),
        relay: None,
    };
    (Sfu::start(parts).await.unwrap(), tasks)
}

fn grant(may_create: bool) -> Grant {
    Grant {
        room: "room".to_owned(),
        identity: "alice".to_owned(),
        name: String::new(),
        can_publish: true,
        can_subscribe: true,
        may_create,
        lifetime: Duration::from_secs(60),
    }
}

async fn ask(sfu: &Sfu, method: Method, uri: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let response = sfu.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn validate(sfu: &Sfu, token: &str) -> (StatusCode, String) {
    let newer = ask(sfu, Method::GET, &format!("/rtc/v1/validate?access_token={token}")).await;
    let older = ask(sfu, Method::GET, &format!("/rtc/validate?access_token={token}&protocol=17")).await;
    assert_eq!(newer, older);
    newer
}

#[tokio::test]
async fn a_good_token_is_good() {
    let (sfu, tasks) = start(|_| {}).await;
    assert_eq!(validate(&sfu, &sfu.token(&grant(true))).await, (StatusCode::OK, "success".to_owned()));
    assert!(!sfu.has_room("room"), "asking does not make the room");
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_bad_token_is_refused() {
    let (sfu, tasks) = start(|_| {}).await;
    assert_eq!(validate(&sfu, "x.y.z").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&sfu, Method::GET, "/rtc/v1/validate").await.0, StatusCode::UNAUTHORIZED);
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn who_is_not_welcome_any_more_is_refused_with_a_good_token() {
    let (sfu, tasks) = start(|_| {}).await;
    let token = sfu.token(&Grant { identity: "kicked".to_owned(), ..grant(true) });
    assert_eq!(validate(&sfu, &token).await.0, StatusCode::FORBIDDEN);
    tasks.drain(Duration::from_secs(5)).await;
}

/// Any other text would make clients try the older protocol.
#[tokio::test]
async fn a_room_that_may_not_be_made_does_not_exist() {
    let (sfu, tasks) = start(|_| {}).await;
    let refusal = (StatusCode::NOT_FOUND, "requested room does not exist".to_owned());
    assert_eq!(validate(&sfu, &sfu.token(&grant(false))).await, refusal);
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_full_server_says_so() {
    let bounds: [fn(&mut SfuConfig); 2] = [|config| config.max_participants = 0, |config| config.max_rooms = 0];
    for bound in bounds {
        let (sfu, tasks) = start(bound).await;
        assert_eq!(validate(&sfu, &sfu.token(&grant(true))).await.0, StatusCode::SERVICE_UNAVAILABLE);
        tasks.drain(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_bad_join_request_is_refused() {
    let (sfu, tasks) = start(|_| {}).await;
    let token = sfu.token(&grant(true));
    let uri = format!("/rtc/v1/validate?access_token={token}&join_request=AAAA%25");
    assert_eq!(ask(&sfu, Method::GET, &uri).await.0, StatusCode::BAD_REQUEST);
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_base_address_answers_and_a_socket_needs_an_upgrade() {
    let (sfu, tasks) = start(|_| {}).await;
    assert_eq!(ask(&sfu, Method::HEAD, "/").await.0, StatusCode::OK);
    assert_eq!(ask(&sfu, Method::GET, "/rtc/v1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&sfu, Method::GET, "/rtc").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&sfu, Method::POST, "/elsewhere").await.0, StatusCode::NOT_FOUND);
    tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let metrics = Metrics::new();
    let config = SfuConfig {
        udp_port: taken.local_addr().unwrap().port(),
        tcp_port: 0,
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ..SfuConfig::default()
    };
    let parts = SfuParts {
        config,
        clock: Clock::system(),
        random: Random::system(),
        tasks: Tasks::new(&metrics),
        metrics,
        secret: [3; 32],
        observer: Arc::new(Nobody),
        relay: None,
    };
    assert!(
        matches!(Sfu::start(parts).await, Err(sfu::SfuError::Bind { address, .. }) if address == taken.local_addr().unwrap())
    );
}

use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use runtime::Clock;
use serde_json::json;
use spec::ids::ServerName;
use spec::signing::SigningKey;
use spec::xmatrix::XMatrix;

use super::{MAX_WAITING, PLACE_WAIT, Places, Waiting};
use crate::FederationConfig;
use crate::inbound::body::GRACE;
use crate::inbound::fixture::Here;

const URI: &str = "/_matrix/federation/v1/send/t1?a=b%20c";

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// A request signed over `signed_uri` for `destination`, sent to `URI`.
async fn send(here: &Here, destination: &str, signed_uri: &str, key: &SigningKey) -> (StatusCode, serde_json::Value) {
    let content = json!({"origin": "there.test", "pdus": []});
    let map = content.as_object().unwrap();
    let header = XMatrix::sign(key, &here.peer.name, &server(destination), "PUT", signed_uri, Some(map)).to_header();
    here.request("PUT", URI, Some(header), Body::from(content.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_signed_gets_in() {
    let here = Here::new();
    assert_eq!(send(&here, "here.test", URI, &here.peer.key).await.0, StatusCode::OK);
    // For somebody else, over another query, with another key, without a signature.
    assert_eq!(send(&here, "else.test", URI, &here.peer.key).await.0, StatusCode::UNAUTHORIZED);
    let other = "/_matrix/federation/v1/send/t1?a=other";
    assert_eq!(send(&here, "here.test", other, &here.peer.key).await.0, StatusCode::UNAUTHORIZED);
    let thief = SigningKey::from_seed([9; 32], "t").unwrap();
    let (status, answer) = send(&here, "here.test", URI, &thief).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNAUTHORIZED")));
    let (status, _) = here.request("PUT", URI, None, Body::from("{}")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let header = Some("Bearer abc".to_owned());
    assert_eq!(here.request("PUT", URI, header, Body::from("{}")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_than_the_signed_one_is_refused() {
    let here = Here::new();
    let signed = json!({"origin": "there.test", "pdus": []});
    let own = server("here.test");
    let header = || XMatrix::sign(&here.peer.key, &here.peer.name, &own, "PUT", URI, signed.as_object()).to_header();
    let changed = r#"{"origin":"there.test","pdus":[],"edus":[]}"#;
    assert_eq!(here.request("PUT", URI, Some(header()), Body::from(changed)).await.0, StatusCode::UNAUTHORIZED);
    let broken = here.request("PUT", URI, Some(header()), Body::from(r#"{"origin":"#)).await;
    assert_eq!((broken.0, &broken.1["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_NOT_JSON")));
    // White space and the order of keys are no part of what is signed.
    let same = "{ \"pdus\": [],\n \"origin\": \"there.test\" }";
    assert_eq!(here.request("PUT", URI, Some(header()), Body::from(same)).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_the_deny_list_are_refused_before_anything_is_fetched() {
    let config = FederationConfig { denied_servers: vec!["there.test".into()], ..FederationConfig::default() };
    let here = Here::with_config(config);
    let (status, answer) = send(&here, "here.test", URI, &here.peer.key).await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
}

#[tokio::test]
async fn a_server_has_so_many_places_and_takes_nobody_elses() {
    let places = Places::new(2);
    let (one, other) = (server("one.test"), server("other.test"));
    let first = places.take(&one, &Clock::system()).await.unwrap();
    let _second = places.take(&one, &Clock::system()).await.unwrap();
    let wait = Duration::from_millis(50);
    assert!(tokio::time::timeout(wait, places.take(&one, &Clock::system())).await.is_err(), "a third request waits");
    let _others = places.take(&other, &Clock::system()).await.unwrap();
    drop(first);
    drop(places.take(&one, &Clock::system()).await.unwrap());
    assert!(places.waiting.lock().is_empty(), "who gave up does not count any more");
}

#[tokio::test]
async fn waiting_for_a_place_has_a_time_limit() {
    let (places, one, clock) = (Places::new(1), server("one.test"), Clock::fake(0));
    let _held = places.take(&one, &clock).await.unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        clock.advance(PLACE_WAIT - Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(places.waiting.lock().len(), 1, "not yet");
        clock.advance(Duration::from_secs(1));
    };
    let (refused, ()) = tokio::join!(places.take(&one, &clock), late);
    assert_eq!(refused.unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(places.waiting.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_end_is_given_up() {
    let here = Here::new();
    let own = server("here.test");
    let header = XMatrix::sign(&here.peer.key, &here.peer.name, &own, "PUT", URI, None).to_header();
    let begin = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{"))]);
    let body = Body::from_stream(futures_util::StreamExt::chain(begin, futures_util::stream::pending()));
    let before = here.federation.clock.monotonic();
    let (status, _) = here.pass_time(here.request("PUT", URI, Some(header), body)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    let took = here.federation.clock.monotonic() - before;
    assert!((GRACE..GRACE * 2).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_so_many_requests_are_verified_at_a_time() {
    let here = Here::new();
    let places = &here.federation.inbound.places;
    let busy = places.verifying.clone().acquire_many_owned(super::MAX_VERIFYING as u32).await.unwrap();
    assert_eq!(places.verifying.available_permits(), 0, "there are no more");
    assert_eq!(send(&here, "here.test", URI, &here.peer.key).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(busy);
    assert_eq!(send(&here, "here.test", URI, &here.peer.key).await.0, StatusCode::OK);
    // Strangers whose keys are looked for keep out nobody whose key is known.
    let _busy = places.verifying.clone().acquire_many_owned(super::MAX_VERIFYING as u32).await.unwrap();
    assert_eq!(send(&here, "here.test", URI, &here.peer.key).await.0, StatusCode::OK);
}

#[test]
fn those_that_wait_are_bounded() {
    let places = Places::new(1);
    let one = server("one.test");
    let waiting: Vec<_> = (0..MAX_WAITING).map(|_| Waiting::count(&places, &one).ok().unwrap()).collect();
    assert!(Waiting::count(&places, &one).is_err());
    assert!(Waiting::count(&places, &server("other.test")).is_ok());
    drop(waiting);
    assert!(Waiting::count(&places, &one).is_ok());
}

#[tokio::test]
async fn servers_without_requests_are_forgotten() {
    let places = Places::new(1);
    let busy = server("busy.test");
    let held = places.take(&busy, &Clock::system()).await.unwrap();
    for n in 0..super::MAX_IDLE * 2 {
        drop(places.take(&server(&format!("s{n}.test")), &Clock::system()).await.unwrap());
    }
    assert!(places.servers.lock().len() <= super::MAX_IDLE);
    assert!(places.places_of(&busy).try_acquire().is_err(), "a place in use is not forgotten");
    drop(held);
}

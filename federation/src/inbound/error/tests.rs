use axum::response::IntoResponse;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use rooms::RoomError;
use serde_json::Value;
use spec::ids::ServerName;

use super::ServeError;
use crate::RemoteError;

async fn answer(error: ServeError) -> (StatusCode, Option<String>, Value) {
    let response = error.into_response();
    let status = response.status();
    let retry = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn answers_carry_code_text_and_extras() {
    let (status, retry, body) = answer(ServeError::incompatible_room_version("12")).await;
    assert_eq!((status, retry), (StatusCode::BAD_REQUEST, None));
    assert_eq!(body["errcode"], "M_INCOMPATIBLE_ROOM_VERSION");
    assert_eq!(body["room_version"], "12");
    assert!(body["error"].is_string());

    let (status, retry, body) = answer(ServeError::limit_exceeded(1500)).await;
    assert_eq!((status, retry.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("2")));
    assert_eq!(body["retry_after_ms"], 1500);
}

#[test]
fn errors_of_rooms_say_whose_fault_they_are() {
    let of = |error: RoomError| {
        let error = ServeError::from(error);
        (error.status().as_u16(), error.errcode())
    };
    assert_eq!(of(RoomError::RoomNotFound), (404, "M_NOT_FOUND"));
    assert_eq!(of(RoomError::NotResident), (404, "M_NOT_FOUND"));
    assert_eq!(of(RoomError::NotInRoom), (403, "M_FORBIDDEN"));
    assert_eq!(of(RoomError::BadEvent(spec::pdu::PduError::MissingField("type"))), (400, "M_BAD_JSON"));
    assert_eq!(of(RoomError::BadEvent(spec::pdu::PduError::TooLarge)), (413, "M_TOO_LARGE"));
    assert_eq!(of(RoomError::Busy), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(of(RoomError::Inconsistent("x")), (500, "M_UNKNOWN"));
}

#[test]
fn internal_errors_are_numbered_and_keep_their_cause_to_the_log() {
    let first = ServeError::internal(&RoomError::Inconsistent("the secret reason"));
    let second = ServeError::internal(&RoomError::Inconsistent("the secret reason"));
    assert_ne!(first.message(), second.message());
    assert!(!first.message().contains("secret"));
}

#[test]
fn failures_of_third_servers_are_gateway_errors() {
    let server = ServerName::parse("there.test").unwrap();
    assert_eq!(ServeError::from(RemoteError::Timeout(server.clone())).status(), StatusCode::GATEWAY_TIMEOUT);
    let refused = RemoteError::BackingOff { server: server.clone(), seconds: 5 };
    assert_eq!(ServeError::from(refused).status(), StatusCode::BAD_GATEWAY);
    assert_eq!(ServeError::from(RemoteError::NotAllowed(server)).status(), StatusCode::FORBIDDEN);
}

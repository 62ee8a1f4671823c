use axum::response::IntoResponse;
use http_body_util::BodyExt;
use rooms::RoomError;
use serde_json::Value;
use users::{AuthFlow, AuthStage, Challenge, UserError};

use super::ApiError;

async fn answer(error: impl Into<ApiError>) -> (u16, Value, Option<String>) {
    let response = error.into().into_response();
    let (status, retry) = (response.status().as_u16(), response.headers().get("retry-after").cloned());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap(), retry.map(|value| value.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn internal_errors_tell_a_number_and_nothing_else() {
    let (status, first, _) = answer(RoomError::Inconsistent("the secret is 42")).await;
    let (_, second, _) = answer(RoomError::Inconsistent("the secret is 42")).await;
    assert_eq!((status, &first["errcode"]), (500, &Value::from("M_UNKNOWN")));
    assert!(!first.to_string().contains("42 is") && !first.to_string().contains("secret"), "{first}");
    assert_ne!(first["error"], second["error"]);
}

#[tokio::test]
async fn errors_carry_what_clients_need() {
    let (status, body, _) = answer(UserError::UnknownToken { soft_logout: true }).await;
    assert_eq!((status, &body["errcode"], &body["soft_logout"]), (401, &"M_UNKNOWN_TOKEN".into(), &true.into()));
    let (status, body, retry) = answer(UserError::Busy { retry_after_ms: 1500 }).await;
    assert_eq!((status, &body["errcode"], &body["retry_after_ms"]), (429, &"M_LIMIT_EXCEEDED".into(), &1500.into()));
    assert_eq!(retry.as_deref(), Some("2"));
    let (status, body, _) = answer(UserError::WrongRoomKeysVersion { current: 7 }).await;
    assert_eq!((status, &body["current_version"]), (403, &"7".into()));
}

#[tokio::test]
async fn a_challenge_is_a_401_with_flows() {
    let challenge = Challenge {
        session: "s".into(),
        flows: vec![AuthFlow { stages: vec![AuthStage::Dummy] }],
        completed: Vec::new(),
        params: serde_json::Map::new(),
        errcode: None,
        error: None,
    };
    let (status, body, _) = answer(ApiError::Challenge(Box::new(challenge))).await;
    assert_eq!((status, &body["flows"][0]["stages"][0]), (401, &"m.login.dummy".into()));
}

use axum::response::IntoResponse;
use http_body_util::BodyExt;
use rooms::RoomError;
use serde_json::Value;
use spec::ids::ServerName;
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
async fn refusals_of_other_servers_say_nothing_of_the_session() {
    let refused = async |status, errcode: &str| {
        let (server, message) = (ServerName::parse("far.test").unwrap(), "no".to_owned());
        let error = RoomError::RemoteRefused { server, status, errcode: errcode.to_owned(), message };
        let (status, body, _) = answer(error).await;
        (status, body["errcode"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(403, "M_FORBIDDEN").await, (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(refused(400, "M_UNABLE_TO_GRANT_JOIN").await, (400, "M_UNABLE_TO_GRANT_JOIN".to_owned()));
    assert_eq!(refused(403, "M_UNKNOWN_TOKEN").await, (403, "M_UNKNOWN".to_owned()));
    assert_eq!(refused(401, "M_FORBIDDEN").await, (502, "M_UNKNOWN".to_owned()));
    assert_eq!(refused(500, "M_FORBIDDEN").await, (502, "M_UNKNOWN".to_owned()));
    assert_eq!(refused(200, "M_FORBIDDEN").await, (502, "M_UNKNOWN".to_owned()));
    assert_eq!(answer(RoomError::NotResident).await.0, 403);
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

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{parse_object, read_body};
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
struct Inner {
    #[serde(rename = "number")]
    _number: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shape {
    inner: Vec<Inner>,
}

fn refuse(bytes: &[u8]) -> (String, String) {
    let error: ApiError = parse_object::<Shape>(bytes).unwrap_err();
    let text = error.to_string();
    let code = error.errcode().to_owned();
    assert_eq!(error.into_response().status(), 400);
    (code, text)
}

#[test]
fn an_empty_body_is_an_empty_object() {
    assert!(parse_object::<Shape>(b"").unwrap().inner.is_empty());
    assert!(parse_object::<Shape>(b" \n").unwrap().inner.is_empty());
}

#[test]
fn what_is_no_json_is_told_from_json_of_another_shape() {
    for bytes in [&b"{"[..], b"{\"a\":}", b"nonsense", b"{\"a\":\"\xff\"}", b"{} {}", b"[", b"\xff"] {
        assert_eq!(refuse(bytes).0, "M_NOT_JSON", "{bytes:?}");
    }
    for bytes in [&b"[]"[..], b"null", b"3", b"\"text\"", b"{\"inner\":4}", b"{\"inner\":[{}]}"] {
        assert_eq!(refuse(bytes).0, "M_BAD_JSON", "{bytes:?}");
    }
}

#[test]
fn the_message_names_the_field() {
    let (_, text) = refuse(br#"{"inner":[{"number":1},{"number":"2"}]}"#);
    assert!(text.contains("inner[1].number"), "{text}");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(parse_object::<Value>(deep.as_bytes()).is_err());
}

#[test]
fn what_others_could_not_read_is_refused_in_raw_values_too() {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for value in [r#""\ud800""#, r#""\ud800\u0041""#, r#"{"\udc00":1}"#, "1e400", &deep] {
        let body = format!(r#"{{"content":{value}}}"#);
        let parsed = parse_object::<BTreeMap<String, Box<RawValue>>>(body.as_bytes());
        assert_eq!(parsed.unwrap_err().errcode(), "M_BAD_JSON", "{body}");
    }
    let fine = r#"{"content":["\ud83d\ude00",1.5,-1,true,null,{"a":{}},18446744073709551615,1e300]}"#;
    assert!(parse_object::<BTreeMap<String, Box<RawValue>>>(fine.as_bytes()).is_ok());
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let error = read_body(silent, 100, Duration::from_millis(5)).await.unwrap_err();
    assert_eq!(error.into_response().status(), 408);
    assert_eq!(read_body(Body::from("{}"), 100, Duration::from_secs(60)).await.unwrap(), "{}");
    assert_eq!(read_body(Body::from("{}"), 1, Duration::from_secs(60)).await.unwrap_err().errcode(), "M_TOO_LARGE");
}

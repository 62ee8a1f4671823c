use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;

fn id(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

#[test]
fn of_an_answer_only_what_was_asked_for_is_kept() {
    let wanted = BTreeMap::from([(id("@a:x.example"), Vec::new()), (id("@b:x.example"), vec!["D".to_owned()])]);
    let deep: Value = serde_json::from_str(&format!("{{\"a\":{}1{}}}", "[".repeat(105), "]".repeat(105))).unwrap();
    let mut answer: QueriedKeys = serde_json::from_value(json!({
        "device_keys": {
            "@a:x.example": {"E": {}, "F": {"k": 1}, "G": "text", "H": deep},
            "@b:x.example": {"D": {}, "E": {}},
            "@c:x.example": {"D": {}},
            "@a:victim.example": {"D": {}},
        },
        "master_keys": {"@a:x.example": {}, "@a:victim.example": {}, "@b:x.example": 3},
        "self_signing_keys": {"@a:victim.example": {}},
        "user_signing_keys": {"@a:x.example": {}},
    }))
    .unwrap();
    keep_wanted_keys(&wanted, &mut answer);
    let expected = json!({
        "device_keys": {"@a:x.example": {"E": {}, "F": {"k": 1}}, "@b:x.example": {"D": {}}},
        "master_keys": {"@a:x.example": {}},
        "self_signing_keys": {},
        "user_signing_keys": {},
    });
    assert_eq!(serde_json::to_value(&answer).unwrap(), expected);

    let crowd: Map<String, Value> = (0..=MAX_USER_DEVICES).map(|n| (format!("D{n}"), json!({}))).collect();
    let mut answer: QueriedKeys = serde_json::from_value(json!({"device_keys": {"@a:x.example": crowd}})).unwrap();
    keep_wanted_keys(&wanted, &mut answer);
    assert!(answer.device_keys.is_empty());
}

#[test]
fn of_claimed_keys_one_of_the_right_kind_is_kept() {
    let wanted = BTreeMap::from([(
        id("@a:x.example"),
        BTreeMap::from([("D".to_owned(), "signed_curve25519".to_owned()), ("E".to_owned(), "curve25519".to_owned())]),
    )]);
    let claim = |value: Value| -> ClaimedKeys { serde_json::from_str(&value.to_string()).unwrap() };
    let mut claimed = claim(json!({
        "@a:x.example": {
            "D": {"curve25519:1": "no", "signed_curve25519:1": {"key": "a"}, "signed_curve25519:2": {"key": "b"}},
            "E": {"signed_curve25519:1": {}, "curve25519": "no", "curve25519:1": "x".repeat(MAX_KEY)},
            "F": {"curve25519:1": "not asked for"},
        },
        "@b:x.example": {"D": {"signed_curve25519:1": {}}},
    }));
    keep_wanted_claims(&wanted, &mut claimed);
    let expected = json!({"@a:x.example": {"D": {"signed_curve25519:1": {"key": "a"}}}});
    assert_eq!(serde_json::to_value(&claimed).unwrap(), expected);

    let mut broken = ClaimedKeys::new();
    let key = serde_json::value::RawValue::from_string(r#""\ud800""#.to_owned()).unwrap();
    let good = to_raw_value("good").unwrap();
    let keys = BTreeMap::from([("curve25519:1".to_owned(), key), ("curve25519:2".to_owned(), good)]);
    broken.insert(id("@a:x.example"), BTreeMap::from([("E".to_owned(), keys)]));
    keep_wanted_claims(&wanted, &mut broken);
    assert_eq!(serde_json::to_value(&broken).unwrap(), json!({"@a:x.example": {"E": {"curve25519:2": "good"}}}));
}

#[test]
fn what_a_server_refuses_is_told_from_a_server_out_of_reach() {
    let server = ServerName::parse("x.example").unwrap();
    let refused = |status: u16| RemoteError::Refused {
        server: server.clone(),
        status: http::StatusCode::from_u16(status).unwrap(),
        errcode: "M_FORBIDDEN".into(),
        message: String::new(),
        body: String::new(),
        retry_after: None,
    };
    assert!(matches!(explain_absence(&server, refused(404), "it"), UserError::NotFound("it")));
    assert!(matches!(explain_absence(&server, refused(403), "it"), UserError::RemoteRefused { status: 403, .. }));
    let timeout = RemoteError::Timeout(server.clone());
    assert!(matches!(explain_absence(&server, timeout, "it"), UserError::RemoteUnavailable(_)));
}

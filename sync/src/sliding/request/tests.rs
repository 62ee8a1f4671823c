use super::*;

const ME: &str = "@me:x.y";

#[test]
fn both_forms_of_required_state_mean_the_same() {
    let draft: RequiredState = serde_json::from_str(
        r#"[["m.room.name",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.space.child","*"]]"#,
    )
    .unwrap();
    let accepted: RequiredState = serde_json::from_str(
        r#"{"include":[{"type":"m.room.name","state_key":""},{"type":"m.room.member","state_key":"$ME"},
            {"type":"m.space.child"}],"lazy_members":true}"#,
    )
    .unwrap();
    assert_eq!(draft, accepted);
    assert!(draft.matches("m.room.name", "", ME));
    assert!(!draft.matches("m.room.name", "x", ME));
    assert!(draft.matches("m.room.member", ME, ME));
    assert!(!draft.matches("m.room.member", "@other:x.y", ME));
    assert!(draft.matches("m.space.child", "!any", ME));
    assert!(!draft.matches("m.room.topic", "", ME));
}

#[test]
fn wildcards_cover_members_unless_those_are_lazy() {
    let all: RequiredState = serde_json::from_str(r#"[["*","*"]]"#).unwrap();
    assert!(all.matches("m.room.member", "@other:x.y", ME));
    let lazy: RequiredState = serde_json::from_str(r#"{"include":[{}],"lazy_members":true}"#).unwrap();
    assert!(!lazy.matches("m.room.member", "@other:x.y", ME));
    assert!(lazy.matches("m.room.topic", "", ME));
    let without: RequiredState =
        serde_json::from_str(r#"{"include":[{}],"exclude":[{"type":"m.room.create","state_key":""}]}"#).unwrap();
    assert!(!without.matches("m.room.create", "", ME));
}

#[test]
fn a_draft_request_is_read() {
    let request = SlidingRequest::parse(
        br#"{"conn_id":"room-list","lists":{"all":{"ranges":[[0,19]],"timeline_limit":1,"required_state":[],
            "filters":{"is_invite":false,"not_room_types":["m.space",null]}}},
            "room_subscriptions":{"!a:b":{"timeline_limit":20,"required_state":[["*","*"]]}},
            "extensions":{"to_device":{"enabled":true,"limit":50},"unknown":{"enabled":true}}}"#,
    )
    .unwrap();
    let list = &request.lists["all"];
    assert_eq!(list.windows(), [(0, 19)]);
    assert_eq!(list.room.timeline_limit, 1);
    let filters = list.filters.as_ref().unwrap();
    assert_eq!(filters.is_invited, Some(false));
    assert_eq!(filters.not_room_types, Some(vec![Some("m.space".to_owned()), None]));
    assert!(request.extensions.to_device.enabled && !request.extensions.e2ee.enabled);
}

#[test]
fn nonsense_is_refused() {
    for body in [
        r#"{"lists":{"a":{"range":[5,4],"timeline_limit":1}}}"#,
        r#"{"lists":{"a":{"timeline_limit":-1}}}"#,
        r#"{"lists":[]}"#,
        "",
    ] {
        assert!(SlidingRequest::parse(body.as_bytes()).is_err(), "{body} was read");
    }
}

use super::*;

#[test]
fn patterns_match_with_stars_anywhere() {
    for (pattern, text, expected) in [
        ("m.room.message", "m.room.message", true),
        ("m.room.message", "m.room.messages", false),
        ("m.room.*", "m.room.name", true),
        ("m.room.*", "m.roo", false),
        ("*", "", true),
        ("*.name", "m.room.name", true),
        ("m.*.n*e", "m.room.name", true),
        ("m.*.x*e", "m.room.name", false),
        ("a*a", "a", false),
        ("a*b*b", "ab", false),
    ] {
        assert_eq!(matches_pattern(pattern, text), expected, "{pattern} on {text}");
    }
}

#[test]
fn types_and_senders_are_included_and_excluded() {
    let filter = RoomEventFilter::parse(
        br#"{"types":["m.room.*"],"not_types":["m.room.member"],"not_senders":["@spam:b.c"],"limit":3}"#,
    )
    .unwrap();
    assert!(filter.events.matches("m.room.message", "@a:b.c"));
    assert!(!filter.events.matches("m.room.member", "@a:b.c"));
    assert!(!filter.events.matches("m.reaction", "@a:b.c"));
    assert!(!filter.events.matches("m.room.message", "@spam:b.c"));
    assert_eq!(filter.events.limit, Some(3));
}

#[test]
fn malformed_filters_are_refused() {
    for json in [
        r#"{"room":{"timeline":{"limit":"10"}}}"#,
        r#"{"room":{"rooms":["nonsense"]}}"#,
        r#"{"room":{"state":{"senders":["nonsense"]}}}"#,
        r#"{"presence":{"not_senders":[1]}}"#,
        r#"{"event_format":"other"}"#,
        "[]",
        "{",
    ] {
        assert!(Filter::parse(json.as_bytes()).is_err(), "{json} was accepted");
    }
    assert!(Filter::parse(b"{}").is_ok());
}

use proptest::prelude::*;

use super::*;

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

#[test]
fn accepts_the_server_names_of_the_specification() {
    for name in [
        "matrix.org",
        "matrix.org:8888",
        "1.2.3.4",
        "1.2.3.4:1234",
        "[1234:5678::abcd]",
        "[1234:5678::abcd]:5678",
        "localhost",
        "UPPER.example",
        "[::ffff:1.2.3.4]",
    ] {
        assert_eq!(ServerName::parse(name).unwrap().as_str(), name);
    }
}

#[test]
fn refuses_malformed_server_names() {
    for name in [
        "",
        ":80",
        "a b",
        "ex_ample.org",
        "example.org:",
        "example.org:123456",
        "example.org:8a",
        "example.org:80:80",
        "[::1",
        "::1",
        "[::g]",
        "[::1]x",
        "[::1]x:80",
        "[]",
        "bücher.example",
        "a/b",
    ] {
        assert!(ServerName::parse(name).is_err(), "{name}");
    }
    assert_eq!(ServerName::parse("a".repeat(256)), Err(IdError::TooLong));
}

#[test]
fn splits_host_and_port() {
    assert_eq!((server("a.b:8448").host(), server("a.b:8448").port()), ("a.b", Some(8448)));
    assert_eq!((server("a.b").host(), server("a.b").port()), ("a.b", None));
    assert_eq!((server("[::1]:1").host(), server("[::1]:1").port()), ("[::1]", Some(1)));
    assert_eq!((server("[::1]").host(), server("[::1]").port()), ("[::1]", None));
    assert_eq!(server("a.b:99999").port(), None);
}

#[test]
fn accepts_historical_user_ids() {
    for id in ["@alice:example.org", "@:example.org", "@Ünï cødé!:example.org:80", "@a@b#c:[::1]", "@\u{1}:a"] {
        assert_eq!(UserId::parse(id).unwrap().as_str(), id);
    }
    let user = UserId::parse("@alice:example.org:80").unwrap();
    assert_eq!((user.localpart(), user.server_name()), ("alice", "example.org:80"));
    assert!(user.is_compliant());
    assert!(!UserId::parse("@:a").unwrap().is_compliant());
    assert!(!UserId::parse("@a b:a").unwrap().is_compliant());
}

#[test]
fn refuses_malformed_user_ids() {
    assert_eq!(UserId::parse("alice:example.org"), Err(IdError::MissingSigil('@')));
    assert_eq!(UserId::parse(""), Err(IdError::MissingSigil('@')));
    assert_eq!(UserId::parse("@alice"), Err(IdError::MissingServerName));
    assert_eq!(UserId::parse("@alice:"), Err(IdError::InvalidServerName));
    assert_eq!(UserId::parse("@al\0ice:a"), Err(IdError::ForbiddenCharacter));
    let longest = format!("@{}:a", "x".repeat(252));
    assert_eq!(longest.len(), 255);
    assert!(UserId::parse(&longest).is_ok());
    assert_eq!(UserId::parse(format!("{longest}a")), Err(IdError::TooLong));
}

#[test]
fn limits_new_localparts() {
    for localpart in ["alice", "a.b_c=d-e/f+0"] {
        assert!(UserId::is_valid_new_localpart(localpart));
    }
    for localpart in ["", "Alice", "a b", "a:b", "ä", "a!"] {
        assert!(!UserId::is_valid_new_localpart(localpart), "{localpart}");
    }
    assert_eq!(UserId::new("alice", &server("a")).unwrap(), "@alice:a");
    assert!(UserId::new("al:ice", &server("a")).is_err());
}

#[test]
fn accepts_both_forms_of_room_ids() {
    assert_eq!(RoomId::parse("!abc:example.org").unwrap().server_name(), Some("example.org"));
    let create = EventId::parse("$Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ").unwrap();
    let room = RoomId::from_create_event(&create);
    assert_eq!(room, "!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ");
    assert_eq!(room.server_name(), None);
    assert_eq!(RoomId::parse(room.as_str()).unwrap(), room);
    assert_eq!(room.create_event_id(), Some(create));
    assert_eq!(RoomId::parse("!abc:example.org").unwrap().create_event_id(), None);
    for id in ["!", "", "abc:example.org", "!abc:", "!a\0b"] {
        assert!(RoomId::parse(id).is_err(), "{id}");
    }
}

#[test]
fn checks_event_ids_aliases_and_devices() {
    assert_eq!(EventId::parse("$abc:example.org").unwrap().server_name(), Some("example.org"));
    assert_eq!(EventId::parse("$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk").unwrap().server_name(), None);
    assert!(EventId::parse("$").is_err());
    let alias = RoomAlias::parse("#röom:example.org").unwrap();
    assert_eq!((alias.localpart(), alias.server_name()), ("röom", "example.org"));
    assert!(RoomAlias::parse("#room").is_err());
    assert!(DeviceId::parse("").is_err());
    assert_eq!(DeviceId::parse("a b ☃").unwrap().as_str(), "a b ☃");
}

#[test]
fn deserialising_validates() {
    assert_eq!(serde_json::from_str::<UserId>(r#""@a:b""#).unwrap(), "@a:b");
    assert_eq!(serde_json::from_str::<UserId>(r#""@\u0061:b""#).unwrap(), "@a:b");
    assert!(serde_json::from_str::<UserId>(r#""a""#).is_err());
    assert!(serde_json::from_str::<UserId>("1").is_err());
    assert_eq!(serde_json::to_string(&UserId::parse("@a:b").unwrap()).unwrap(), r#""@a:b""#);
    let map: std::collections::BTreeMap<UserId, u8> = serde_json::from_str(r#"{"@a:b":1}"#).unwrap();
    assert_eq!(map.get("@a:b"), Some(&1));
}

proptest! {
    #[test]
    fn parsing_never_panics_and_round_trips(text in "\\PC{0,40}", sigil in "[@!$#]?", server in "(:[a-z0-9.:\\[\\]]{0,12})?") {
        let id = format!("{sigil}{text}{server}");
        if let Ok(user) = UserId::parse(&id) {
            prop_assert_eq!(format!("@{}:{}", user.localpart(), user.server_name()), id.clone());
            prop_assert!(ServerName::parse(user.server_name()).is_ok());
        }
        if let Ok(alias) = RoomAlias::parse(&id) {
            prop_assert_eq!(format!("#{}:{}", alias.localpart(), alias.server_name()), id.clone());
        }
        if let Ok(server) = ServerName::parse(&id) {
            prop_assert!(server.host().len() <= id.len());
        }
        let _ = (RoomId::parse(&id), EventId::parse(&id), DeviceId::parse(&id));
    }
}

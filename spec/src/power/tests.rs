use serde_json::{Value, json, value::to_raw_value};

use super::{content::parse_level, *};
use crate::{
    auth::tests::{ALICE, BOB, CAROL, event, pdu},
    version::RoomVersion,
};

fn levels(version: RoomVersion, create: Value, levels: Option<Value>) -> PowerLevels {
    let create = pdu(version, event(version, "create", ALICE, "m.room.create", Some(""), create));
    let levels =
        levels.map(|levels| pdu(version, event(version, "levels", ALICE, "m.room.power_levels", Some(""), levels)));
    PowerLevels::from_state(levels.as_deref(), &create, version.rules())
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

#[test]
fn reads_levels_as_the_version_allows() {
    let parse =
        |json: &str, strict| parse_level(&serde_json::value::RawValue::from_string(json.into()).unwrap(), strict);
    assert_eq!(parse("-7", true), Some(-7));
    for lenient in ["\" 007 \"", "\"+7\"", "7.9", "0.79e1"] {
        assert_eq!((parse(lenient, false), parse(lenient, true)), (Some(7), None), "{lenient}");
    }
    for bad in ["null", "true", "[]", "{}", "\"\"", "\"7.0\"", "\"7 7\"", "\"0x7\"", "\"+-7\""] {
        assert_eq!((parse(bad, false), parse(bad, true)), (None, None), "{bad}");
    }
    assert_eq!(parse_level(&to_raw_value(&1e300).unwrap(), false), Some(i64::MAX));
}

#[test]
fn defaults_without_an_event() {
    let levels = levels(RoomVersion::V11, json!({}), None);
    assert_eq!(levels.user(&user(ALICE)), PowerLevel::Finite(100));
    assert_eq!(levels.user(&user(BOB)), PowerLevel::Finite(0));
    assert_eq!([levels.invite(), levels.kick(), levels.ban(), levels.redact()], [0, 50, 50, 50]);
    assert_eq!([levels.required_for_event("x", true), levels.required_for_event("x", false)], [50, 0]);
    assert_eq!(levels.notification("room"), 50);
}

#[test]
fn an_event_overrides_the_creator_before_version_12() {
    let content = json!({ "users": { BOB: 50, CAROL: "bad" }, "users_default": 5, "events": { "x": 7 }, "ban": null });
    let old = levels(RoomVersion::V11, json!({}), Some(content.clone()));
    assert_eq!(old.user(&user(ALICE)), PowerLevel::Finite(5));
    assert_eq!(old.user(&user(BOB)), PowerLevel::Finite(50));
    assert_eq!(old.user(&user(CAROL)), PowerLevel::Finite(5));
    assert_eq!([old.required_for_event("x", true), old.ban()], [7, 50]);
    let new = levels(RoomVersion::V12, json!({ "additional_creators": [CAROL] }), Some(content));
    assert_eq!(new.user(&user(ALICE)), PowerLevel::Infinite);
    assert_eq!(new.user(&user(CAROL)), PowerLevel::Infinite);
    assert_eq!(new.creators(), [user(ALICE), user(CAROL)]);
    assert!(new.user(&user(ALICE)).at_least(i64::MAX));
}

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use spec::hash;
use spec::ids::{RoomId, ServerName};
use spec::signing::SigningKey;
use spec::version::RoomVersion;

use super::{check_create, guess_version};

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("JSON")
}

fn create_event(version: RoomVersion) -> (Box<RawValue>, RoomId) {
    let Value::Object(mut event) = json!({
        "type": "m.room.create",
        "state_key": "",
        "sender": "@alice:remote.test",
        "content": {"room_version": version.as_str()},
        "prev_events": [],
        "auth_events": [],
        "depth": 1,
        "origin_server_ts": 1,
    }) else {
        unreachable!("an object")
    };
    let server = ServerName::parse("remote.test").expect("a server name");
    let key = SigningKey::from_seed([7; 32], "1").expect("a key");
    let id = hash::hash_and_sign(&mut event, &server, &key, version.rules()).expect("signed");
    (raw(&Value::Object(event)), RoomId::from_create_event(&id))
}

#[test]
fn a_create_event_of_another_room_is_refused_where_the_id_follows_from_it() {
    let (create, room) = create_event(RoomVersion::V12);
    let other = RoomId::parse("!other").expect("a room id");
    assert!(check_create(std::slice::from_ref(&create), &room, RoomVersion::V12).is_ok());
    let refused =
        check_create(std::slice::from_ref(&create), &other, RoomVersion::V12).map_err(|error| error.errcode());
    assert_eq!(refused, Err("M_INVALID_PARAM"));
    // Before version 12 the id says nothing of the create event.
    assert!(check_create(&[create], &other, RoomVersion::V11).is_ok());
    // What is stripped proves nothing either way.
    let stripped = json!({"type": "m.room.create", "state_key": "", "sender": "@a:b", "content": {}});
    assert!(check_create(&[raw(&stripped)], &other, RoomVersion::V12).is_ok());
}

#[test]
fn the_version_of_an_old_invitation_is_that_of_the_create_event() {
    let create = |content: Value| json!({"type": "m.room.create", "state_key": "", "content": content});
    assert_eq!(guess_version(&[]), RoomVersion::V1);
    assert_eq!(guess_version(&[create(json!({}))]), RoomVersion::V1);
    assert_eq!(guess_version(&[create(json!({"room_version": "2"}))]), RoomVersion::V2);
    assert_eq!(guess_version(&[create(json!({"room_version": "9"}))]), RoomVersion::V1);
}

use serde_json::json;

use super::*;

fn check(answer: Value) -> Result<Value, &'static str> {
    let Value::Object(answer) = answer else { unreachable!() };
    check_hierarchy(&RoomId::parse("!room:a.test").unwrap(), answer).map(Value::Object)
}

fn summary(room: &str) -> Value {
    json!({"room_id": room, "num_joined_members": 1, "world_readable": false, "guest_can_join": true})
}

#[test]
fn hierarchies_are_checked_for_shape() {
    let child = json!({
        "type": "m.space.child", "state_key": "!c:a.test", "sender": "@x:a.test", "origin_server_ts": 1,
        "content": {"via": ["a.test"]},
    });
    let mut room = summary("!room:a.test");
    room["children_state"] = json!([child, {"type": "m.space.child"}, 7]);
    let children = json!([summary("!c:a.test"), summary("no room"), 7, {"room_id": "!d:a.test"}]);
    let answer = json!({"room": room, "children": children, "inaccessible_children": ["!e:a.test", 7], "more": 1});
    let checked = check(answer).unwrap();
    assert_eq!(checked["room"]["children_state"], json!([child]));
    assert_eq!(checked["children"], json!([summary("!c:a.test")]));
    assert_eq!(checked["inaccessible_children"], json!(["!e:a.test"]));
    assert_eq!(checked.get("more"), None);
    let bare = check(json!({"room": summary("!room:a.test")})).unwrap();
    assert_eq!(bare["room"]["children_state"], json!([]));
}

#[test]
fn hierarchies_of_another_room_or_shape_are_refused() {
    let with = |key: &str, value: Value| {
        let mut room = summary("!room:a.test");
        room[key] = value;
        json!({"room": room})
    };
    assert!(check(json!({})).is_err());
    assert!(check(json!({"room": summary("!other:a.test")})).is_err());
    assert!(check(with("children_state", json!({}))).is_err());
    assert!(check(with("num_joined_members", json!("many"))).is_err());
    assert!(check(with("world_readable", Value::Null)).is_err());
    assert!(check(with("name", json!(["x"]))).is_err());
    assert!(check(with("allowed_room_ids", json!("x"))).is_err());
    assert!(check(json!({"room": summary("!room:a.test"), "children": {}})).is_err());
}

use serde_json::json;

use super::*;

#[test]
fn only_the_named_fields_are_kept() {
    let event = json!({"type": "t", "sender": "s", "content": {"body": "b", "m.x": {"y": 1, "z": 2}, "other": 3}});
    let event = event.as_object().unwrap();
    let paths = ["type", "content.body", r"content.m\.x.y", "content.none", "nowhere.at.all", "sender.deeper"];
    let kept = keep_fields(event, &paths.map(str::to_owned));
    assert_eq!(Value::Object(kept), json!({"type": "t", "content": {"body": "b", "m.x": {"y": 1}}}));
}

#[test]
fn paths_are_split_at_unescaped_dots() {
    assert_eq!(split_path(r"a.b\.c.d\\e\f"), ["a", "b.c", r"d\e\f"]);
}

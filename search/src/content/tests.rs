use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn an_edit_is_found_by_what_it_says() {
    let plain = read_message(&object(json!({"body": "old", "msgtype": "m.text"}))).unwrap();
    assert_eq!((plain.text.as_str(), plain.edits), ("old", None));
    let edit = read_message(&object(json!({
        "body": "* new", "m.new_content": {"body": "new"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$old"},
    })))
    .unwrap();
    assert_eq!((edit.text.as_str(), edit.edits.as_deref()), ("new", Some("$old")));
    let hollow = json!({"body": "* new", "m.relates_to": {"rel_type": "m.replace", "event_id": "$old"}});
    assert_eq!(read_message(&object(hollow)), None);
    assert_eq!(read_message(&object(json!({"body": 1}))), None);
    let odd = read_message(&object(json!({"body": "still", "m.relates_to": "nonsense"}))).unwrap();
    assert_eq!(odd.text, "still");
}

#[test]
fn topics_have_a_plain_form() {
    let text = |content| read_topic(&object(content)).unwrap().text;
    assert_eq!(text(json!({"topic": "Cake"})), "Cake");
    let both = json!({"topic": "Cake", "m.topic": {"m.text": [{"body": "<b>Cake</b>", "mimetype": "text/html"}, {"body": "Cake"}]}});
    assert_eq!(text(both), "Cake");
    assert_eq!(text(json!({"m.topic": {"m.text": [{"body": "Pie", "mimetype": "text/plain"}]}})), "\nPie");
}

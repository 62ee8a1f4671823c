use serde_json::json;

use super::*;

fn check(step: Step, answer: Value) -> Result<Template, &'static str> {
    let room = RoomId::parse("!room:a.test").unwrap();
    let user = UserId::parse("@alice:us.test").unwrap();
    check_template(step, &room, &user, serde_json::from_value(answer).unwrap())
}

fn template(membership: &str) -> Value {
    json!({
        "room_version": "10",
        "event": {
            "type": "m.room.member", "room_id": "!room:a.test", "sender": "@alice:us.test",
            "state_key": "@alice:us.test", "content": {"membership": membership}, "prev_events": [], "auth_events": [],
        },
    })
}

#[test]
fn templates_have_to_be_for_what_was_asked() {
    let template_for = [(Step::Join, "join"), (Step::Knock, "knock"), (Step::Leave, "leave")];
    for (step, membership) in template_for {
        assert_eq!(check(step, template(membership)).unwrap().version, RoomVersion::V10);
        for (_, other) in template_for.iter().filter(|(_, other)| *other != membership) {
            assert!(check(step, template(other)).is_err());
        }
    }
    let changes = [
        ("type", json!("m.room.message")),
        ("room_id", json!("!other:a.test")),
        ("room_id", Value::Null),
        ("sender", json!("@bob:us.test")),
        ("state_key", json!("@bob:us.test")),
        ("content", json!({"membership": "ban"})),
        ("content", json!([])),
    ];
    for (key, value) in changes {
        let mut answer = template("join");
        answer["event"][key] = value;
        assert!(check(Step::Join, answer).is_err(), "{key}");
    }
}

#[test]
fn templates_are_of_versions_that_were_offered() {
    let of = |step, membership: &str, version: Value| {
        let mut answer = template(membership);
        answer["room_version"] = version;
        check(step, answer).map(|template| template.version)
    };
    assert_eq!(of(Step::Join, "join", Value::Null), Ok(RoomVersion::V1));
    assert_eq!(of(Step::Leave, "leave", Value::Null), Ok(RoomVersion::V1));
    assert!(of(Step::Join, "join", json!("org.example.99")).is_err());
    assert!(of(Step::Knock, "knock", json!("6")).is_err());
    assert!(of(Step::Knock, "knock", Value::Null).is_err());
    assert_eq!(of(Step::Knock, "knock", json!("7")), Ok(RoomVersion::V7));
}

use serde_json::json;

use super::*;

fn read(content: serde_json::Value) -> Option<Message> {
    serde_json::from_value::<MessageContent>(content).unwrap().read()
}

fn text(body: &str) -> Message {
    read(json!({"msgtype": "m.text", "body": body})).unwrap()
}

fn command(words: &[&str], file: Option<&str>) -> Message {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Message::Command(Typed { words, file: file.map(str::to_owned) })
}

#[test]
fn words_are_split_as_by_a_shell() {
    let table: [(&str, &[&str]); 11] = [
        ("!admin", &[]),
        ("  !admin  user   list ", &["user", "list"]),
        ("!admin room show #admins:hs.test", &["room", "show", "#admins:hs.test"]),
        (r#"!admin a "b c" 'd "e"' f\ g"#, &["a", "b c", "d \"e\"", "f g"]),
        (r#"!admin "a\"b\\c\d""#, &[r#"a"b\c\d"#]),
        (r"!admin 'a\b'", &[r"a\b"]),
        ("!admin a'b'\"c\"d", &["abcd"]),
        ("!admin '' \"\"", &["", ""]),
        ("!admin “a b” „c d”", &["a b", "c d"]),
        ("!admin user create —admin a—b", &["user", "create", "--admin", "a—b"]),
        ("!admin $HOME *.txt ~ `id`", &["$HOME", "*.txt", "~", "`id`"]),
    ];
    for (body, words) in table {
        assert_eq!(text(body), command(words, None), "{body}");
    }
}

#[test]
fn a_code_block_is_a_file() {
    let csv = "!admin user create-many\n```csv\nname,role\na,member\n```";
    assert_eq!(text(csv), command(&["user", "create-many"], Some("name,role\na,member\n")));
    assert_eq!(text("!admin x\n\n```\na\n\n```\n"), command(&["x"], Some("a\n\n")));
    assert_eq!(text("!admin x\n```\n```"), command(&["x"], Some("\n")));
    for bad in ["!admin x\nmore", "!admin x\n```\na", "!admin x\n```a```", "!admin x\n```\na\n```\nmore"] {
        assert!(matches!(text(bad), Message::Malformed { .. }), "{bad}");
    }
}

#[test]
fn what_cannot_be_split_is_said() {
    for bad in ["!admin 'a", "!admin \"a", "!admin a\\"] {
        assert!(matches!(text(bad), Message::Malformed { .. }), "{bad}");
    }
    let (long, many) = ("!admin ".to_owned() + &"x".repeat(9000), "!admin".to_owned() + &" x".repeat(600));
    assert!(matches!(text(&long), Message::Malformed { .. }));
    assert!(matches!(text(&many), Message::Malformed { .. }));
}

#[test]
fn only_what_somebody_typed_is_read() {
    for talk in ["yes", "hello !admin", "!administrator", "!adminx user", "admin user list"] {
        assert_eq!(text(talk), Message::Talk(talk.to_owned()));
    }
    assert_eq!(read(json!({"msgtype": "m.notice", "body": "!admin user list"})), None);
    assert_eq!(read(json!({"msgtype": "m.image", "body": "!admin user list"})), None);
    assert_eq!(read(json!({"body": "!admin user list"})), None);
    let edit = json!({"rel_type": "m.replace", "event_id": "$x"});
    assert_eq!(read(json!({"msgtype": "m.text", "body": "* !admin", "m.relates_to": edit})), None);
    let reply = json!({"m.in_reply_to": {"event_id": "$x"}});
    let body = "> <@conduit:hs.test> Really?\n> Answer yes.\n\nyes";
    assert_eq!(
        read(json!({"msgtype": "m.text", "body": body, "m.relates_to": reply})),
        Some(Message::Talk("yes".into()))
    );
    // Without the relation it is what somebody said.
    assert_eq!(text("> a\n\nyes"), Message::Talk("> a\n\nyes".into()));
}

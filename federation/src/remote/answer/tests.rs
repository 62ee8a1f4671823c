use serde_json::json;

use super::*;

/// Gives its bytes three at a time, as a network may.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min(self.0.len()).min(3);
        let (now, later) = self.0.split_at(length);
        out[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

fn read(body: impl AsRef<[u8]>) -> Result<(Rest, Vec<(List, String)>), String> {
    let mut taken = Vec::new();
    let rest = read_answer(Kind::Join, Trickle(body.as_ref()), &mut |list, event| {
        taken.push((list, event.get().to_owned()));
        Ok(())
    })?;
    Ok((rest, taken))
}

#[test]
fn both_versions_of_the_answer_are_read() {
    let object = json!({
        "origin": "a.test", "members_omitted": false, "state": [{"a": 1}, {"b": [2]}], "auth_chain": [{"c": "}"}],
        "event": {"d": 4}, "servers_in_room": ["a.test"],
    });
    for body in [object.to_string(), json!([200, object]).to_string(), format!("  {object} \n")] {
        let (rest, mut taken) = read(&body).unwrap();
        assert_eq!(rest.event.unwrap().get(), r#"{"d":4}"#);
        assert!(!rest.members_omitted);
        assert_eq!(rest.servers_in_room, ["a.test"].map(|name| ServerName::parse(name).unwrap()));
        taken.sort_by_key(|(list, _)| *list == List::State);
        let expected = [(List::AuthChain, r#"{"c":"}"}"#), (List::State, r#"{"a":1}"#), (List::State, r#"{"b":[2]}"#)];
        assert_eq!(taken, expected.map(|(list, json)| (list, json.to_owned())));
    }
    assert!(read(r#"{"state":[],"auth_chain":[],"event":null,"members_omitted":true}"#).unwrap().0.members_omitted);
}

#[test]
fn answers_of_another_shape_are_refused() {
    let bad = [
        "",
        "[]",
        "[200]",
        "null",
        "7",
        r#"{"state":[]}"#,
        r#"{"auth_chain":[]}"#,
        r#"[200,[200,{"state":[],"auth_chain":[]}]]"#,
        r#"[200,{"state":[],"auth_chain":[]},1]"#,
        r#"{"state":{},"auth_chain":[]}"#,
        r#"{"state":[1 2],"auth_chain":[]}"#,
        r#"{"state":[],"auth_chain":[]"#,
        r#"{"state":[],"auth_chain":[]}x"#,
        r#"{"state":[],"state":[],"auth_chain":[]}"#,
        r#"{"state":[],"auth_chain":[],"auth_chain":[]}"#,
        r#"{"state":[],"auth_chain":[],"members_omitted":"no"}"#,
        r#"{"state":[{"a":],"auth_chain":[]}"#,
        r#"{"state":[],"auth_chain":[],"servers_in_room":"a.test"}"#,
        r#"{"state":[],"auth_chain":[],"servers_in_room":[7]}"#,
    ];
    for body in bad {
        assert!(read(body).is_err(), "{body}");
    }
}

#[test]
fn what_is_too_large_is_not_collected() {
    let event = |length: usize| format!(r#"{{"state":[{{"a":"{}"}}],"auth_chain":[]}}"#, "x".repeat(length));
    assert!(read(event(MAX_ELEMENT - 100)).is_ok());
    assert!(read(event(MAX_ELEMENT)).unwrap_err().contains("too large"));
    let key = format!(r#"{{"{}":1,"state":[],"auth_chain":[]}}"#, "k".repeat(MAX_ELEMENT));
    assert!(read(key).unwrap_err().contains("too large"));
    let returned = format!(r#"{{"event":{{"a":"{}"}},"state":[],"auth_chain":[]}}"#, "x".repeat(MAX_ELEMENT));
    assert!(read(returned).unwrap_err().contains("too large"));
    let blanks = format!(r#"{{"state":[{}],"auth_chain":[]}}"#, " ".repeat(MAX_ELEMENT + 1));
    assert!(read(blanks).unwrap_err().contains("too large"));
    let skipped =
        |length: usize| format!(r#"{{"servers_in_room":["{}"],"state":[],"auth_chain":[]}}"#, "s".repeat(length));
    assert!(read(skipped(MAX_ELEMENT * 4)).is_ok());
    // Never ends: the parser does.
    let endless = br#"{"x":["#.chain(io::repeat(b'['));
    let error = read_answer(Kind::Join, endless, &mut |_, _| Ok(())).unwrap_err();
    assert!(error.contains("too large"), "{error}");
    // Many events of the allowed size are no matter: none of them is kept.
    let many = vec![format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_ELEMENT / 2)); 20].join(",");
    assert_eq!(read(format!(r#"{{"state":[{many}],"auth_chain":[]}}"#)).unwrap().1.len(), 20);
}

#[test]
fn reading_ends_where_an_event_is_refused() {
    let mut seen = 0;
    let error = read_answer(Kind::Join, Trickle(br#"{"state":[{},{},{}],"auth_chain":[]}"#), &mut |_, _| {
        seen += 1;
        if seen == 2 { Err("enough".to_owned()) } else { Ok(()) }
    });
    assert!(error.unwrap_err().contains("enough"));
    assert_eq!(seen, 2);
}

#[test]
fn the_answer_to_a_question_for_a_state_is_read_by_its_own_words() {
    let mut taken = Vec::new();
    let mut read = |body: &str| {
        read_answer(Kind::State, Trickle(body.as_bytes()), &mut |list, event| {
            taken.push((list, event.get().to_owned()));
            Ok(())
        })
        .map(drop)
    };
    assert_eq!(read(r#"{"pdus":[{"a":1}],"auth_chain":[{"b":2}]}"#), Ok(()));
    assert!(read(r#"{"state":[],"auth_chain":[]}"#).unwrap_err().contains("pdus"));
    assert!(read(r#"[200,{"pdus":[],"auth_chain":[]}]"#).is_err(), "it never came in a list");
    assert!(read("{}").is_err());
    assert_eq!(taken, [(List::State, r#"{"a":1}"#.to_owned()), (List::AuthChain, r#"{"b":2}"#.to_owned())]);
}

#[test]
fn servers_are_remembered_up_to_a_bound() {
    let body = |names: Vec<String>| json!({"state": [], "auth_chain": [], "servers_in_room": names}).to_string();
    let names: Vec<String> = (0..MAX_SERVERS + 5).map(|n| format!("s{n}.test")).collect();
    assert_eq!(read(body(names)).unwrap().0.servers_in_room.len(), MAX_SERVERS);
    let odd = vec!["a.test".to_owned(), "no name".to_owned(), "x".repeat(300)];
    assert_eq!(read(body(odd)).unwrap().0.servers_in_room.len(), 1);
}

use std::collections::HashSet;
use std::sync::Arc;

use rooms::CheckedPdu;
use serde_json::json;
use spec::ids::{EventId, ServerName};
use spec::pdu::Pdu;

use super::{Incoming, divide, sort_by_auth, sort_topologically};

/// An event of which only the references and the depth matter. Its name is its id.
fn event(name: &str, depth: i64, prev: &[&str], auth: &[&str]) -> Incoming {
    let ids = |names: &[&str]| names.iter().map(|name| format!("${name}")).collect::<Vec<_>>();
    let json = json!({
        "room_id": "!room:there.test", "sender": "@bob:there.test", "type": "m.test", "content": {},
        "origin_server_ts": 1, "depth": depth, "prev_events": ids(prev), "auth_events": ids(auth),
    });
    let pdu = Pdu::from_trusted(id(name), &serde_json::to_vec(&json).unwrap()).unwrap();
    Incoming { origin: ServerName::parse("there.test").unwrap(), pdu: CheckedPdu::of_ours(Arc::new(pdu)) }
}

fn id(name: &str) -> EventId {
    EventId::parse(format!("${name}")).unwrap()
}

fn names(events: &[Incoming]) -> Vec<String> {
    events.iter().map(|event| event.pdu().event_id.as_str().trim_start_matches('$').to_owned()).collect()
}

#[test]
fn cited_events_come_first_whatever_their_depth_claims() {
    // The depths lie: the references decide.
    let events = vec![event("c", 1, &["b"], &[]), event("b", 9, &["a"], &[]), event("a", 50, &[], &[])];
    assert_eq!(names(&sort_topologically(events)), ["a", "b", "c"]);
}

#[test]
fn auth_events_count_as_cited() {
    let events = vec![event("message", 1, &[], &["join"]), event("join", 2, &[], &[])];
    assert_eq!(names(&sort_topologically(events.clone())), ["join", "message"]);
    assert_eq!(names(&sort_by_auth(events)), ["join", "message"]);
}

#[test]
fn order_does_not_depend_on_arrival() {
    let one = vec![event("z", 3, &["x"], &[]), event("y", 2, &["x"], &[]), event("x", 1, &[], &[])];
    let mut other = one.clone();
    other.reverse();
    assert_eq!(names(&sort_topologically(one.clone())), ["x", "y", "z"]);
    assert_eq!(names(&sort_topologically(one)), names(&sort_topologically(other)));
}

#[test]
fn duplicates_are_dropped_and_circles_end() {
    let events = vec![event("a", 1, &["b"], &[]), event("b", 1, &["a"], &[]), event("c", 2, &[], &[])];
    let sorted = sort_topologically([events.clone(), events].concat());
    assert_eq!(names(&sorted), ["c", "a", "b"]);
}

#[test]
fn an_event_that_cites_itself_is_never_ready() {
    let divided = divide(
        sort_topologically(vec![event("a", 1, &["a"], &[])]),
        &HashSet::from([id("a")]),
        &HashSet::new(),
        |_| false,
    );
    assert!(divided.ready.is_empty());
    assert_eq!(divided.blocked.len(), 1);
}

#[test]
fn only_what_lacks_something_is_blocked() {
    // stored <- a <- b; gone <- c <- d; b and c <- e; f lacks an auth event only.
    let events = sort_topologically(vec![
        event("a", 1, &["stored"], &[]),
        event("b", 2, &["a"], &[]),
        event("c", 1, &["gone"], &[]),
        event("d", 2, &["c"], &[]),
        event("e", 3, &["b", "c"], &[]),
        event("f", 3, &["a"], &["lost"]),
    ]);
    let at_hand = ["a", "b", "c", "d", "e", "f"];
    let unknown_prev: HashSet<EventId> = at_hand.iter().copied().chain(["gone"]).map(id).collect();
    let unknown_auth = HashSet::from([id("lost")]);
    let divided = divide(events.clone(), &unknown_prev, &unknown_auth, |_| false);
    assert_eq!(names(&divided.ready), ["a", "b"]);
    assert_eq!(names(&divided.blocked), ["c", "d", "e", "f"]);

    // With the state before `c` known, everything that follows it can be judged.
    let divided = divide(events, &unknown_prev, &unknown_auth, |event| *event == id("c"));
    assert_eq!(names(&divided.ready), ["a", "c", "b", "d", "e"]);
}

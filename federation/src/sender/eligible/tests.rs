use std::collections::BTreeMap;

use rooms::{EventFlags, RoomSeq, ServerStay};
use spec::ids::ServerName;

use super::Sent;

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn stay(joined: u32, since: i64, until: Option<i64>) -> ServerStay {
    ServerStay { joined, since: RoomSeq(since), until: until.map(RoomSeq) }
}

fn sent(seq: i64, origin: &str, flags: EventFlags) -> Sent<'_> {
    Sent { seq: RoomSeq(seq), origin, flags }
}

#[test]
fn a_server_is_told_of_what_happened_while_it_was_there() {
    let us = name("us");
    let stays = BTreeMap::from([
        (name("us"), stay(1, 1, None)),
        (name("there"), stay(1, 5, None)),
        (name("gone"), stay(0, 3, Some(8))),
        (name("origin"), stay(1, 1, None)),
    ]);
    let told = |seq, origin| -> Vec<String> {
        let sent = sent(seq, origin, EventFlags::default());
        sent.recipients(&us, &stays).map(ToString::to_string).collect()
    };
    assert_eq!(told(3, "us"), ["origin"], "the join itself comes from the server, and before it there is nothing");
    assert_eq!(told(4, "us"), ["gone", "origin"]);
    assert_eq!(told(5, "us"), ["gone", "origin"]);
    assert_eq!(told(8, "us"), ["gone", "origin", "there"], "the event that ended the stay is the last one");
    assert_eq!(told(9, "us"), ["origin", "there"]);
    assert_eq!(told(9, "origin"), ["there"], "not back to where it came from");
}

#[test]
fn a_stay_that_has_no_end_and_nobody_in_it_tells_nothing() {
    let us = name("us");
    let there = name("there");
    assert!(!sent(9, "us", EventFlags::default()).is_for(&us, &there, &stay(0, 1, None)));
}

#[test]
fn only_our_events_and_those_taken_in_are_sent() {
    let us = name("us");
    assert!(sent(1, "us", EventFlags::default()).is_ours(&us));
    assert!(!sent(1, "other", EventFlags::default()).is_ours(&us));
    assert!(sent(1, "other", EventFlags::RELAY).is_ours(&us));
    for flag in [EventFlags::REJECTED, EventFlags::SOFT_FAILED, EventFlags::OUTLIER] {
        assert!(!sent(1, "us", flag).is_ours(&us), "{flag:?}");
    }
}

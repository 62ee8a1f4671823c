//! What is no join, knock or leave is refused by the second halves of handshakes.

use rooms::{Membership, Preset};
use serde_json::{Map, Value, json};
use spec::ids::RoomId;
use spec::version::RoomVersion;

use crate::bed::{Server, assert_refused, run, send_path};

type Change = fn(&mut Map<String, Value>);

/// First half, second half, and the membership that they are for.
const HANDSHAKES: [(&str, &str, &str); 5] = [
    ("make_join", "v1/send_join", "join"),
    ("make_join", "v2/send_join", "join"),
    ("make_knock", "v1/send_knock", "knock"),
    ("make_leave", "v1/send_leave", "leave"),
    ("make_leave", "v2/send_leave", "leave"),
];

const CHANGES: [(&str, Change); 5] = [
    ("a message", |event| {
        event.insert("type".into(), "m.room.message".into());
        event.remove("state_key");
    }),
    ("another kind of state", |event| _ = event.insert("type".into(), "m.room.topic".into())),
    ("no state", |event| _ = event.remove("state_key")),
    ("somebody else's", |event| _ = event.insert("state_key".into(), "@carol:remote.test".into())),
    ("of no known membership", |event| event["content"]["membership"] = "nonsense".into()),
];

/// A room in which the handshake would succeed.
async fn room_for(membership: &str, here: &Server, there: &Server) -> RoomId {
    let (alice, bob) = (here.user_id("alice"), there.user_id("bob"));
    let allow = json!([{"type": "m.room_membership", "room_id": "!other:hs.test"}]);
    let rule = json!({"join_rule": "knock_restricted", "allow": allow});
    let (preset, state) = match membership {
        "knock" => (Preset::PrivateChat, vec![("m.room.join_rules", rule)]),
        _ => (Preset::PublicChat, Vec::new()),
    };
    let room = here.create_with(&alice, RoomVersion::V10, preset, state).await;
    if membership == "leave" {
        there.join(here, &room, &bob).await.unwrap();
    }
    room
}

#[test]
fn only_events_of_their_membership_are_taken() {
    run(async |here, there| {
        here.user("alice").await;
        let bob = there.user_id("bob");
        for (first, second, membership) in HANDSHAKES {
            let room = room_for(membership, &here, &there).await;
            let before = here.membership(&room, &bob);
            for (what, change) in CHANGES {
                let (event, id) = there.make(&here, first, &room, &bob, change).await.unwrap();
                let sent = there.put(&here, &send_path(second, &room, &id), &Value::Object(event)).await;
                assert!(sent.is_err(), "{second} took {what}");
                assert_refused(sent, 400, "M_INVALID_PARAM");
            }
            for other in ["join", "invite", "knock", "leave", "ban"].into_iter().filter(|other| *other != membership) {
                let change = |event: &mut Map<String, Value>| event["content"]["membership"] = other.into();
                let (event, id) = there.make(&here, first, &room, &bob, change).await.unwrap();
                let sent = there.put(&here, &send_path(second, &room, &id), &Value::Object(event)).await;
                assert!(sent.is_err(), "{second} took a membership of {other}");
                assert_refused(sent, 400, "M_INVALID_PARAM");
            }
            assert_eq!(here.membership(&room, &bob), before, "{second}");
            let (event, id) = there.make(&here, first, &room, &bob, |_| ()).await.unwrap();
            there.put(&here, &send_path(second, &room, &id), &Value::Object(event)).await.unwrap();
            assert_eq!(here.membership(&room, &bob), Membership::parse(membership), "{second}");
        }
    });
}

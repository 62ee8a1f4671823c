//! Calls that ring, and what comes of them.

use std::time::Duration;

use rooms::Draft;
use serde_json::{Value, json};
use spec::ids::RoomId;

use super::fixture::{Fixture, user};
use crate::RingOutcome::{Answered, Declined, Missed};

async fn send(here: &Fixture, room: &RoomId, sender: &str, kind: &str, content: Value) -> String {
    let content = content.as_object().unwrap().clone();
    let draft = match kind.contains("member") {
        true => Draft::state(user(sender), kind, user(sender).as_str(), content),
        false => Draft::message(user(sender), kind, content),
    };
    let sent = here.rooms.append(here.rooms.known_room(room).unwrap(), vec![draft], None).await.unwrap();
    sent.first().unwrap().as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_who_answered_declined_and_missed() {
    let here = Fixture::new();
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob", "carol", "dave", "erin", "frank:far"]).await;
    let called = ["@bob:us", "@carol:us", "@dave:us", "@frank:far"];
    let content = json!({"notification_type": "ring", "lifetime": 20_000, "m.mentions": {"user_ids": called}});
    let ring = send(&here, &room, "alice", "org.matrix.msc4075.rtc.notification", content.clone()).await;
    let quiet = json!({"notification_type": "notification", "m.mentions": {"room": true}});
    send(&here, &room, "alice", "org.matrix.msc4075.rtc.notification", quiet).await;
    send(&here, &room, "bob", "org.matrix.msc3401.call.member", json!({"application": "m.call"})).await;
    let decline = json!({"m.relates_to": {"rel_type": "m.reference", "event_id": ring}});
    send(&here, &room, "carol", "org.matrix.msc4310.rtc.decline", decline).await;
    // Dave does nothing. This call is over at once, and shows that what came before it was looked at.
    send(&here, &room, "alice", "m.call.invite", json!({"call_id": "1", "invitee": "@erin:us"})).await;
    send(&here, &room, "alice", "m.call.hangup", json!({"call_id": "1"})).await;
    let kept = || here.calls.rings(None, None, u64::MAX, 10).unwrap();
    here.until(|| kept().len() == 1).await;
    here.clock.advance(Duration::from_secs(20));
    here.until(|| kept().len() == 2).await;
    let past = kept().remove(0);
    assert_eq!((&past.room, &past.caller, &past.event_id), (&room, &user("alice"), &ring));
    assert_eq!(past.callees, [(user("bob"), Answered), (user("carol"), Declined), (user("dave"), Missed)]);
    assert_eq!(here.calls.rings(None, Some(here.nid("dave")), u64::MAX, 10).unwrap().len(), 1);
    assert_eq!(here.calls.rings(None, Some(here.nid("erin")), u64::MAX, 10).unwrap().len(), 1, "only the other");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_between_two_are_kept_as_well() {
    let here = Fixture::new();
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob"]).await;
    for (call, kind, sender) in
        [("1", "m.call.answer", "bob"), ("2", "m.call.reject", "bob"), ("3", "m.call.hangup", "alice")]
    {
        send(&here, &room, "alice", "m.call.invite", json!({"call_id": call, "lifetime": 60_000})).await;
        send(&here, &room, sender, kind, json!({"call_id": call})).await;
        let kept = || here.calls.rings(None, None, u64::MAX, 10).unwrap();
        here.until(|| kept().len() == call.parse::<usize>().unwrap()).await;
        // Rows of one moment have their order from their commit.
        here.clock.advance(Duration::from_secs(1));
    }
    let kept = here.calls.rings(None, None, u64::MAX, 10).unwrap();
    let outcomes: Vec<_> = kept.iter().map(|ring| ring.callees[0].1).collect();
    assert_eq!(outcomes, [Missed, Declined, Answered]);
    here.clock.advance(Duration::from_secs(31 * 24 * 3600));
    here.calls.sweep().await.unwrap();
    assert_eq!(here.calls.rings(None, None, u64::MAX, 10).unwrap(), []);
    here.stop().await;
}

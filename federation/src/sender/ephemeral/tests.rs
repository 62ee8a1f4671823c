use rooms::{RoomNid, UserNid};
use serde_json::json;
use spec::ids::{RoomId, UserId};
use users::{Presence, PresenceState};

use super::{Ephemeral, MAX_OF_A_KIND, Names, ReceiptMark};

struct Plain;

impl Names for Plain {
    fn room(&self, room: RoomNid) -> Option<RoomId> {
        RoomId::parse(format!("!r{}:us", room.0)).ok()
    }

    fn user(&self, user: UserNid) -> Option<UserId> {
        UserId::parse(format!("@u{}:us", user.0)).ok()
    }

    fn presence(&self, user: UserNid) -> Option<(Presence, u64)> {
        let presence = Presence {
            user,
            state: PresenceState::Online,
            status_msg: Some("here".into()),
            last_active_ms: 4000,
            currently_active: true,
        };
        (user.0 != 9).then_some((presence, 10_000))
    }
}

fn mark(event_id: &str) -> ReceiptMark {
    ReceiptMark { event_id: event_id.into(), at_ms: 7 }
}

#[test]
fn the_latest_of_each_wins() {
    let mut told = Ephemeral::default();
    told.note_typing(RoomNid(1), UserNid(1), true);
    told.note_typing(RoomNid(1), UserNid(1), false);
    told.note_receipt((RoomNid(1), UserNid(1), None), mark("$a"));
    told.note_receipt((RoomNid(1), UserNid(1), None), mark("$b"));
    told.note_presence(UserNid(2));
    told.note_presence(UserNid(2));
    let edus = told.render(&Plain);
    assert_eq!(
        edus,
        [
            json!({"edu_type": "m.typing", "content": {"room_id": "!r1:us", "user_id": "@u1:us", "typing": false}}),
            json!({"edu_type": "m.presence", "content": {"push": [{
                "user_id": "@u2:us", "presence": "online", "last_active_ago": 6000,
                "currently_active": true, "status_msg": "here",
            }]}}),
            json!({"edu_type": "m.receipt", "content": {"!r1:us": {"m.read": {
                "@u1:us": {"event_ids": ["$b"], "data": {"ts": 7}},
            }}}}),
        ]
    );
}

#[test]
fn receipts_of_threads_take_edus_of_their_own_and_the_rest_share_one() {
    let mut told = Ephemeral::default();
    told.note_receipt((RoomNid(1), UserNid(1), None), mark("$a"));
    told.note_receipt((RoomNid(1), UserNid(1), Some("main".into())), mark("$b"));
    told.note_receipt((RoomNid(1), UserNid(2), Some("$t".into())), mark("$c"));
    told.note_receipt((RoomNid(2), UserNid(1), None), mark("$d"));
    let edus = told.render(&Plain);
    assert_eq!(edus.len(), 2);
    assert_eq!(edus[0]["content"]["!r1:us"]["m.read"]["@u2:us"]["data"]["thread_id"], "$t");
    assert_eq!(edus[0]["content"]["!r2:us"]["m.read"]["@u1:us"]["event_ids"], json!(["$d"]));
    assert_eq!(edus[1]["content"]["!r1:us"]["m.read"]["@u1:us"]["data"]["thread_id"], "main");
}

#[test]
fn what_is_gathered_is_bounded_and_taken_in_parts() {
    let mut told = Ephemeral::default();
    for number in 0..MAX_OF_A_KIND as u64 + 5 {
        told.note_typing(RoomNid(number), UserNid(1), true);
        told.note_presence(UserNid(number));
        told.note_receipt((RoomNid(number), UserNid(1), None), mark("$a"));
        told.note_receipt((RoomNid(number), UserNid(1), Some("main".into())), mark("$a"));
    }
    assert_eq!((told.typing.len(), told.presence.len(), told.receipts.len()), (1000, 1000, 1000));
    let mut rounds = 0;
    while !told.is_empty() {
        let taken = told.take(25);
        assert!(!taken.is_empty());
        assert!(taken.render(&Plain).len() <= 25);
        rounds += 1;
    }
    assert!(rounds <= 45, "{rounds}");
}

#[test]
fn presence_that_is_not_known_is_not_told() {
    let mut told = Ephemeral::default();
    told.note_presence(UserNid(9));
    assert!(told.render(&Plain).is_empty());
}

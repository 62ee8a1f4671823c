use rooms::{Draft, ReceiptKind, RoomNid};
use serde_json::json;
use spec::ids::EventId;

use super::*;
use crate::{Account, fixture::Fixture};

/// Two rooms of bob's; alice reads them.
struct Chat {
    f: Fixture,
    alice: Account,
    bob: Account,
    rooms: [RoomNid; 2],
}

impl Chat {
    fn new() -> Self {
        let f = Fixture::new();
        let (alice, bob) = (f.account("alice"), f.account("bob"));
        let rooms = [(); 2].map(|()| {
            let room = f.room(&bob.user_id);
            f.set_membership(&room, &alice.user_id, Membership::Join);
            f.rooms.room_nid(&room).unwrap().unwrap()
        });
        Self { f, alice, bob, rooms }
    }

    fn say(&self, room: usize, content: serde_json::Value) -> EventId {
        self.f.clock.advance(std::time::Duration::from_millis(1));
        let content = content.as_object().unwrap().clone();
        let draft = Draft::message(self.bob.user_id.clone(), "m.room.message", content);
        self.f.run(self.f.rooms.append(self.rooms[room], vec![draft], None)).unwrap().remove(0)
    }

    fn page(&self, from: Option<&NotificationPlace>, limit: usize, only: bool) -> NotificationPage {
        self.f.users.notifications(self.alice.user, from, limit, only).unwrap()
    }
}

fn ids(page: &NotificationPage) -> Vec<&str> {
    page.notifications.iter().map(|notification| notification.event.event_id()).collect()
}

#[test]
fn notifications_of_all_rooms_come_newest_first_in_pages() {
    let chat = Chat::new();
    let mut said: Vec<_> =
        (0..150).map(|number| chat.say(number % 2, json!({"msgtype": "m.text", "body": number.to_string()}))).collect();
    said.reverse();
    let said: Vec<&str> = said.iter().map(EventId::as_str).collect();
    let first = chat.page(None, 100, false);
    assert_eq!(ids(&first), said[..100]);
    let token = first.next.unwrap().to_string();
    let second = chat.page(Some(&token.parse().unwrap()), 100, false);
    assert_eq!(ids(&second), said[100..], "what came before alice did is no notification");
    assert!(second.next.is_none());
    assert_eq!(
        serde_json::to_value(&second.notifications[0].actions).unwrap(),
        json!(["notify", {"set_tweak": "sound", "value": "default"}])
    );
}

#[test]
fn notifications_say_whether_they_were_read_and_can_be_highlights_only() {
    let chat = Chat::new();
    let mention = json!({"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": [chat.alice.user_id]}});
    let mentioned = chat.say(0, mention);
    let plain = chat.say(0, json!({"msgtype": "m.text", "body": "x"}));
    let receipts = [(ReceiptKind::Read, None, &mentioned)];
    chat.f.run(chat.f.rooms.set_receipts(chat.rooms[0], chat.alice.user, &receipts)).unwrap();
    let page = chat.page(None, 10, false);
    assert_eq!(ids(&page), [plain.as_str(), mentioned.as_str()]);
    assert_eq!(page.notifications.iter().map(|notification| notification.read).collect::<Vec<_>>(), [false, true]);
    assert_eq!(ids(&chat.page(None, 10, true)), [mentioned.as_str()]);
}

#[test]
fn one_page_looks_at_a_bounded_number_of_events() {
    let chat = Chat::new();
    let said = chat.say(0, json!({"msgtype": "m.text", "body": "old"}));
    for _ in 0..MAX_LOOKED_AT {
        chat.say(1, json!({"msgtype": "m.notice", "body": "quiet"}));
    }
    let first = chat.page(None, 10, false);
    assert!(first.notifications.is_empty());
    assert_eq!(ids(&chat.page(first.next.as_ref(), 10, false)), [said.as_str()]);
}

#[test]
fn places_of_other_rooms_and_nonsense_are_refused() {
    let chat = Chat::new();
    let elsewhere = chat.f.room(&chat.bob.user_id);
    let elsewhere = chat.f.rooms.room_nid(&elsewhere).unwrap().unwrap();
    let event = chat.f.rooms.events_after(elsewhere, rooms::RoomSeq(0), 1).unwrap().remove(0);
    let place = format!("n1_{}", event.event_id()).parse().unwrap();
    let refused = chat.f.users.notifications(chat.alice.user, Some(&place), 10, false);
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
    assert!("s2_1".parse::<NotificationPlace>().is_err());
}

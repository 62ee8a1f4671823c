use std::sync::Arc;

use rooms::{Draft, Membership, MembershipChange};
use runtime::CancellationToken;
use serde_json::{Map, json};
use spec::ids::UserId;
use users::{AccountKind, AdminRights, NewAccount};

use super::super::AdminRoom;
use super::super::voice::object;
use super::{Followed, News};
use crate::audit::{AuditQuery, Ending};
use crate::caller::Face;
use crate::fixture::Fixture;

async fn account(fixture: &Fixture, localpart: &str) -> UserId {
    let admin = AdminRights::IfFirst;
    let new = NewAccount { localpart, password: None, kind: AccountKind::User, admin, registration_token: None };
    fixture.admin.users().create_account(new).await.unwrap().user_id
}

async fn change(room: &Followed, sender: &UserId, target: &UserId, membership: Membership) {
    let rooms = &room.voice.rooms;
    let room_id = rooms.room_id(room.voice.room).unwrap();
    let change = MembershipChange { sender: sender.clone(), target: target.clone(), membership, content: Map::new() };
    rooms.change_membership(&room_id, change).await.unwrap();
}

async fn say(room: &Followed, sender: &UserId, text: &str) {
    let content = object(json!({"msgtype": "m.text", "body": text}));
    let draft = Draft::message(sender.clone(), "m.room.message", content);
    room.voice.rooms.append(room.voice.room, vec![draft], None).await.unwrap();
}

#[tokio::test]
async fn whoever_is_not_yet_removed_is_not_heard_and_that_is_on_record() {
    let fixture = Fixture::new();
    let alice = account(&fixture, "alice").await;
    let bob = account(&fixture, "bob").await;
    let admin_room = AdminRoom { admin: fixture.admin.clone() };
    let news = Arc::new(News::default());
    let mut room = admin_room.begin(&news).await.unwrap().unwrap();
    let server = room.voice.user.clone();
    admin_room.reconcile(&room.voice).await.unwrap();
    change(&room, &alice, &alice, Membership::Join).await;
    change(&room, &server, &bob, Membership::Invite).await;
    change(&room, &bob, &bob, Membership::Join).await;
    say(&room, &bob, "!admin user reset-password alice --password correct-horse").await;
    say(&room, &bob, "yes").await;
    say(&room, &bob, "!admin nonsense").await;
    admin_room.read_on(&mut room, &CancellationToken::new()).await.unwrap();

    let records = fixture.admin.audit().search(&AuditQuery::default(), 10).unwrap().records;
    assert_eq!(records.len(), 1, "{records:?}");
    let row = &records[0].1;
    assert_eq!((row.who.as_str(), row.operation.as_str()), ("@bob:us", "user reset-password"));
    assert_eq!((row.face, row.ending), (Face::Room, Ending::Refused));
    assert!(row.arguments.contains("alice") && !row.arguments.contains("correct-horse"), "{}", row.arguments);
    // Nobody was answered, and the member was put out.
    assert!(room.lines.is_empty());
    let bob = room.voice.rooms.user_nid(&bob).unwrap().unwrap();
    let row = room.voice.rooms.membership(room.voice.room, bob).unwrap().unwrap();
    assert_eq!(row.membership, Membership::Leave);
}

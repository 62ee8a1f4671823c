use std::sync::Arc;

use rooms::{Draft, Membership, MembershipChange, RoomSeq};
use runtime::CancellationToken;
use serde_json::{Map, json};
use spec::ids::UserId;
use users::{AccountKind, AdminRights, NewAccount};

use super::super::AdminRoom;
use super::super::page::Page;
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

#[tokio::test]
async fn answers_with_secrets_are_removed_with_their_files() {
    let fixture = Fixture::new();
    account(&fixture, "alice").await;
    let admin_room = AdminRoom { admin: fixture.admin.clone() };
    let news = Arc::new(News::default());
    let room = admin_room.begin(&news).await.unwrap().unwrap();
    let shown = fixture.admin.config().secrets_shown;
    let long = "hunter3 ".repeat(1_000);
    for page in [Page::text("hunter2").removed_after(shown), Page::columns(long).removed_after(shown)] {
        room.voice.say(&page, None).await.unwrap();
    }
    room.voice.say(&Page::text("this stays"), None).await.unwrap();
    let said = |room: &Followed| {
        let events = room.voice.rooms.events_after(room.voice.room, RoomSeq::MIN, 1_000).unwrap();
        events.iter().map(|event| event.content().to_string()).collect::<Vec<_>>()
    };
    let mxc = said(&room).iter().find_map(|content| Some(content.split("mxc:").nth(1)?.split('"').next()?.to_owned()));
    let mxc = media::Mxc::parse(&format!("mxc:{}", mxc.unwrap())).unwrap();
    // As after a restart, which comes before anything is noted.
    let mut room = admin_room.begin(&news).await.unwrap().unwrap();
    admin_room.read_on(&mut room, &CancellationToken::new()).await.unwrap();
    let due_ms = admin_room.remove_passed(&room.voice).await.unwrap();
    assert_eq!(due_ms.map(|at| at - fixture.clock.now_ms()), u64::try_from(shown.duration().as_millis()).ok());
    assert!(said(&room).iter().any(|content| content.contains("hunter2")));
    fixture.clock.advance(shown.duration());
    assert_eq!(admin_room.remove_passed(&room.voice).await.unwrap(), None);
    let left: Vec<_> = said(&room).into_iter().filter(|content| content.contains("hunter")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(said(&room).iter().any(|content| content.contains("this stays")));
    let gone = fixture.admin.media().download(&mxc, std::time::Duration::ZERO).await;
    assert!(matches!(gone, Err(media::MediaError::NotFound)), "{:?}", gone.err());
}

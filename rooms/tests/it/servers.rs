//! Which servers are in a room, through joins, leaves, kicks and bans; and access control lists.

use rooms::{Draft, Membership, Preset, RoomError, RoomSeq, ServerStay};
use serde_json::json;
use spec::ids::{RoomId, ServerName};
use spec::version::RoomVersion;

use crate::foreign::{Foreign, set_member};
use crate::server::{Server, object, run};

fn stay(server: &Server, room: &RoomId, name: &str) -> Option<ServerStay> {
    let room = server.rooms.known_room(room).unwrap();
    server.rooms.room_servers(room).unwrap().get(name).copied()
}

fn last(server: &Server, room: &RoomId) -> RoomSeq {
    server.rooms.head(server.rooms.known_room(room).unwrap()).unwrap().last_seq()
}

#[test]
fn servers_come_with_their_first_user_and_go_with_their_last() {
    run(|server| async move {
        let far = Foreign::new("far.test");
        let (alice, _) = server.user("alice").await;
        let (fred, fay) = (far.user("fred"), far.user("fay"));
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        assert!(server.rooms.is_resident(nid).unwrap());
        assert_eq!(stay(&server, &room, "hs.test").unwrap().joined, 1);
        assert_eq!(stay(&server, &room, "far.test"), None);

        set_member(&server, &room, &alice, &fred, Membership::Invite).await;
        assert_eq!(stay(&server, &room, "far.test"), None, "an invitation is no stay");
        far.turn(&server, &room, &fred, Membership::Join).await;
        let since = last(&server, &room);
        assert_eq!(stay(&server, &room, "far.test"), Some(ServerStay { joined: 1, since, until: None }));
        assert_eq!(server.rooms.server_rooms(&far.name).unwrap(), [nid]);
        far.turn(&server, &room, &fay, Membership::Join).await;
        assert_eq!(stay(&server, &room, "far.test"), Some(ServerStay { joined: 2, since, until: None }));
        server.assert_sound();

        set_member(&server, &room, &alice, &fred, Membership::Leave).await;
        assert_eq!(stay(&server, &room, "far.test"), Some(ServerStay { joined: 1, since, until: None }));
        set_member(&server, &room, &alice, &fay, Membership::Ban).await;
        let until = Some(last(&server, &room));
        assert_eq!(stay(&server, &room, "far.test"), Some(ServerStay { joined: 0, since, until }));
        assert_eq!(server.rooms.server_rooms(&far.name).unwrap(), []);
        assert!(!server.rooms.is_server_joined(nid, &far.name).unwrap());
        server.assert_sound();

        server.say(&room, &alice, "quiet").await;
        far.turn(&server, &room, &fred, Membership::Join).await;
        let since = last(&server, &room);
        assert_eq!(stay(&server, &room, "far.test"), Some(ServerStay { joined: 1, since, until: None }));
        assert_eq!(server.rooms.server_rooms(&far.name).unwrap(), [nid]);
        server.assert_sound();
    });
}

#[test]
fn what_one_commit_changes_adds_up() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V12, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let mut joins = Vec::new();
        for name in ["bob", "carol", "dave", "erin"] {
            let (user, _) = server.user(name).await;
            joins.push(crate::foreign::member(&user, &user, Membership::Join));
        }
        server.rooms.append(nid, joins, None).await.unwrap();
        let stay = stay(&server, &room, "hs.test").unwrap();
        assert_eq!((stay.joined, stay.until), (5, None));
        server.assert_sound();
    });
}

#[test]
fn a_room_that_goes_on_elsewhere_is_not_written_here() {
    run(|server| async move {
        let far = Foreign::new("far.test");
        let (alice, _) = server.user("alice").await;
        let fred = far.user("fred");
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        far.turn(&server, &room, &fred, Membership::Join).await;
        server.change(&room, &alice, &alice, Membership::Leave).await.unwrap();
        assert!(!server.rooms.is_resident(nid).unwrap());
        let back = server.change(&room, &alice, &alice, Membership::Join).await;
        assert!(matches!(back, Err(RoomError::NotResident)), "{back:?}");
        let draft = Draft::message(alice.clone(), "m.room.message", crate::server::text("hello?"));
        let said = server.append(&room, draft).await;
        assert!(matches!(said, Err(RoomError::NotResident)), "{said:?}");
        server.assert_sound();
    });
}

#[test]
fn a_room_that_is_nowhere_else_can_be_entered_again() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        server.change(&room, &alice, &alice, Membership::Leave).await.unwrap();
        assert!(!server.rooms.is_resident(server.rooms.known_room(&room).unwrap()).unwrap());
        server.change(&room, &alice, &alice, Membership::Join).await.unwrap();
        server.assert_sound();
    });
}

#[test]
fn the_current_list_decides_who_may_take_part() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let allowed = |name: &str| server.rooms.is_server_allowed(nid, &ServerName::parse(name).unwrap()).unwrap();
        assert!(allowed("evil.test"));
        let set = async |content| {
            let draft = Draft::state(alice.clone(), "m.room.server_acl", "", object(content));
            server.append(&room, draft).await.unwrap()
        };
        set(json!({"allow": ["*"], "deny": ["evil.test"]})).await;
        assert!(!allowed("evil.test:8448") && allowed("good.test"));
        let acl = set(json!({"allow": ["evil.test"]})).await;
        assert!(allowed("evil.test") && !allowed("good.test"));
        let redaction = Draft::redaction(alice.clone(), acl, serde_json::Map::new());
        server.append(&room, redaction).await.unwrap();
        assert!(!allowed("evil.test"), "what is left of a redacted list allows nobody");
    });
}

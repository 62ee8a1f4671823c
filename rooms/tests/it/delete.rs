//! A room is deleted wholly: nothing of it is left, whatever step a crash cuts off.

use futures_util::future::BoxFuture;
use rooms::{
    Draft, Membership, MembershipChange, Preset, ReceiptKind, RoomData, RoomDataError, RoomError, RoomNid, RoomsQuery,
};
use serde_json::{Map, json};
use spec::ids::{RoomAlias, RoomId};
use spec::version::RoomVersion;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::{FailStep, MemoryDisk};

use crate::crash::{crash_at, open_store};
use crate::server::{Server, object, run};

/// A room with some of everything.
async fn fill(server: &Server) -> RoomId {
    let (alice, alice_nid) = server.user("alice").await;
    let (bob, _) = server.user("bob").await;
    let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
    let nid = server.rooms.known_room(&room).unwrap();
    server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
    let alias = RoomAlias::parse("#doomed:hs.test").unwrap();
    server.rooms.create_alias(&alias, &room, alice_nid).await.unwrap();
    server.rooms.set_public(&room, true).await.unwrap();
    let mut last = None;
    for number in 0..40 {
        last = Some(server.say(&room, &bob, &format!("message {number}")).await);
    }
    let last = last.unwrap();
    let reply =
        json!({"msgtype": "m.text", "body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": last.as_str()}});
    server.append(&room, Draft::message(alice.clone(), "m.room.message", object(reply))).await.unwrap();
    server.rooms.set_receipts(nid, alice_nid, &[(ReceiptKind::Read, None, &last)]).await.unwrap();
    room
}

async fn empty(server: &Server, room: RoomNid) {
    for member in server.rooms.local_members(room).unwrap() {
        server.rooms.remove_local_user(room, member.user).await.unwrap();
    }
}

async fn finish(server: &Server, room: RoomNid) -> Result<(), RoomError> {
    while !server.rooms.delete_on(room, &[]).await? {}
    Ok(())
}

/// No row of the room is left anywhere.
fn assert_gone(server: &Server, room: &RoomId, nid: RoomNid) {
    server.assert_sound();
    assert_eq!(server.rooms.room_nid(room).unwrap(), None);
    assert!(server.rooms.head(nid).is_err());
    let left = rooms::fsck::rows_of(&server.store, nid).unwrap();
    assert_eq!(left, Vec::<&str>::new());
    assert_eq!(server.rooms.list_rooms(&RoomsQuery { limit: 10, ..RoomsQuery::default() }).unwrap().total, 0);
}

#[test]
fn nothing_is_left_of_a_deleted_room() {
    run(|server| async move {
        let room = fill(&server).await;
        let (bob, bob_nid) = server.user("bob").await;
        let nid = server.rooms.known_room(&room).unwrap();
        assert!(matches!(server.rooms.begin_deletion(nid, false).await, Err(RoomError::Refused(_))));
        assert!(matches!(server.rooms.delete_on(nid, &[]).await, Err(RoomError::Invalid(_))));
        empty(&server, nid).await;
        server.rooms.begin_deletion(nid, false).await.unwrap();
        server.assert_sound();
        // It is unknown from the first step on.
        assert_eq!(server.rooms.room_nid(&room).unwrap(), None);
        let late = Draft::message(bob.clone(), "m.room.message", Map::new());
        assert!(matches!(server.rooms.append(nid, vec![late], None).await, Err(RoomError::RoomNotFound)));
        finish(&server, nid).await.unwrap();
        assert_gone(&server, &room, nid);
        assert!(server.rooms.user_rooms(bob_nid).unwrap().is_empty());
        assert!(server.rooms.find_alias(&RoomAlias::parse("#doomed:hs.test").unwrap()).is_err());
        // Its number is not given again, not even after a restart.
        let next = server.create(&bob, RoomVersion::V11, Preset::PublicChat).await;
        assert!(server.rooms.known_room(&next).unwrap() > nid);
    });
}

#[test]
fn who_is_in_it_is_no_obstacle_if_it_is_forced() {
    run(|server| async move {
        let room = fill(&server).await;
        let nid = server.rooms.known_room(&room).unwrap();
        server.rooms.begin_deletion(nid, true).await.unwrap();
        finish(&server, nid).await.unwrap();
        assert_gone(&server, &room, nid);
    });
}

#[test]
fn a_deletion_that_was_cut_off_goes_on() {
    for step in FailStep::ALL {
        for commits in (0..34).step_by(3) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let disk = MemoryDisk::new();
                let (room, nid) = {
                    let server = Server::start_on(open_store(&disk, None), 1);
                    let room = fill(&server).await;
                    let nid = server.rooms.known_room(&room).unwrap();
                    empty(&server, nid).await;
                    server.store.close().unwrap();
                    (room, nid)
                };
                {
                    let server = Server::start_on(open_store(&disk, Some(crash_at(step, commits))), 2);
                    if server.rooms.begin_deletion(nid, false).await.is_ok() {
                        drop(finish(&server, nid).await);
                    }
                    drop(server.store.close());
                }
                let server = Server::start_on(open_store(&disk, None), 3);
                server.assert_sound();
                if !server.rooms.is_deleting(nid).unwrap() {
                    server.rooms.begin_deletion(nid, false).await.unwrap();
                }
                finish(&server, nid).await.unwrap();
                assert_gone(&server, &room, nid);
            });
        }
    }
}

/// Something beside the rooms that needs three steps.
struct Aside(AtomicUsize);

impl RoomData for Aside {
    fn name(&self) -> &'static str {
        "aside"
    }

    fn forget_room<'a>(&'a self, _room: RoomNid, _id: &'a RoomId) -> BoxFuture<'a, Result<bool, RoomDataError>> {
        Box::pin(async { Ok(self.0.fetch_add(1, Ordering::Relaxed) >= 2) })
    }
}

#[test]
fn others_take_out_what_they_keep_first() {
    run(|server| async move {
        let aside = Arc::new(Aside(AtomicUsize::new(0)));
        let others: Vec<Arc<dyn RoomData>> = vec![aside.clone()];
        let room = fill(&server).await;
        let nid = server.rooms.known_room(&room).unwrap();
        server.rooms.begin_deletion(nid, true).await.unwrap();
        for _ in 0..2 {
            assert!(!server.rooms.delete_on(nid, &others).await.unwrap());
            assert!(!server.rooms.local_members(nid).unwrap().is_empty());
        }
        while !server.rooms.delete_on(nid, &others).await.unwrap() {}
        assert!(aside.0.load(Ordering::Relaxed) >= 3);
        assert_gone(&server, &room, nid);
    });
}

#[test]
fn nobody_comes_into_a_blocked_room() {
    run(|server| async move {
        let (alice, alice_nid) = server.user("alice").await;
        let (bob, _) = server.user("bob").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        server.rooms.block_room(&room, Some(&alice), Some("spam")).await.unwrap();
        let block = server.rooms.blocked(&room).unwrap().unwrap();
        assert_eq!((block.by.as_deref(), block.reason.as_deref()), (Some(alice.as_str()), Some("spam")));
        let refused =
            |result: Result<(), RoomError>| assert!(matches!(result, Err(RoomError::Refused(_))), "{result:?}");
        refused(server.change(&room, &bob, &bob, Membership::Join).await);
        refused(server.change(&room, &alice, &bob, Membership::Invite).await);
        refused(server.change(&room, &bob, &bob, Membership::Knock).await);
        let alias = RoomAlias::parse("#blocked:hs.test").unwrap();
        refused(server.rooms.create_alias(&alias, &room, alice_nid).await);
        // Those who are in it can leave, and talk until then.
        server.say(&room, &alice, "still here").await;
        let unknown = RoomId::parse("!unknown:elsewhere.test").unwrap();
        server.rooms.block_room(&unknown, None, None).await.unwrap();
        let (sender, target, membership) = (bob.clone(), bob.clone(), Membership::Join);
        let join = MembershipChange { sender, target, membership, content: Map::new() };
        refused(server.rooms.change_membership(&unknown, join).await);
        assert_eq!(server.rooms.blocked_rooms(None, 10).unwrap().len(), 2);
        server.rooms.unblock_room(&room).await.unwrap();
        server.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        server.assert_sound();
    });
}

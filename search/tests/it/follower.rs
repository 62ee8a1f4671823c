//! The index follows the store, over restarts and losses.

use std::fs;

use rooms::{RoomNid, RoomSeq};
use spec::ids::{EventId, RoomId, UserId};
use storage::{Batch, Keyspace, Profile};

use crate::server::{Remains, Server, run, strings};

async fn fill(server: &Server) -> (UserId, RoomId, EventId) {
    let alice = server.account("alice").await;
    let room = server.create(&alice, |_| {}).await;
    let event = server.say(&alice, &room, "A long walk in the rain").await;
    (alice, room, event)
}

/// What the first server of a test made, for those after it.
fn first(remains: &Remains) -> (UserId, RoomId, EventId) {
    let (mut made, out) = (None, &mut None);
    run(remains, 1, async |server| {
        let filled = fill(&server).await;
        assert_eq!(server.ids(&filled.0, "rain").await, strings(&[&filled.2]));
        *out = Some(filled);
    });
    std::mem::swap(&mut made, out);
    made.unwrap()
}

#[test]
fn what_is_said_is_found() {
    run(&Remains::new(), 1, async |server| {
        let (alice, room, event) = fill(&server).await;
        assert_eq!(server.ids(&alice, "RAIN walk").await, strings(&[&event]));
        assert_eq!(server.ids(&alice, "sun").await, strings(&[]));
        let second = server.say(&alice, &room, "下雨天去东京").await;
        assert_eq!(server.ids(&alice, "东京").await, strings(&[&second]));
        assert_eq!(server.ids(&alice, "京东").await, strings(&[]));
    });
}

#[test]
fn a_redacted_event_is_gone_from_the_index() {
    run(&Remains::new(), 1, async |server| {
        let (alice, room, event) = fill(&server).await;
        let other = server.say(&alice, &room, "more rain").await;
        server.search.catch_up().await.unwrap();
        let before = format!("{:?}", server.search);
        server.redact(&alice, &room, &event).await;
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&other]));
        assert_ne!(format!("{:?}", server.search), before, "it is not only left out of the answer");
    });
}

#[test]
fn an_edited_message_is_found_by_its_newest_text_alone() {
    run(&Remains::new(), 1, async |server| {
        let (alice, room, event) = fill(&server).await;
        let edit = server.edit(&alice, &room, &event, "A long walk in the snow").await;
        assert_eq!(server.ids(&alice, "snow").await, strings(&[&event]));
        assert_eq!(server.ids(&alice, "rain").await, strings(&[]));
        let last = server.edit(&alice, &room, &event, "A walk in the fog").await;
        assert_eq!(server.ids(&alice, "snow").await, strings(&[]));
        assert_eq!(server.ids(&alice, "walk").await, strings(&[&event]), "once");
        // What an edit hid comes back with its redaction.
        server.redact(&alice, &room, &last).await;
        assert_eq!(server.ids(&alice, "snow").await, strings(&[&event]));
        server.redact(&alice, &room, &edit).await;
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
        server.edit(&alice, &room, &event, "sleet").await;
        server.redact(&alice, &room, &event).await;
        assert_eq!(server.ids(&alice, "sleet").await, strings(&[]));
        // Nobody changes the words of others.
        let bob = server.account("bob").await;
        server.change(&room, &bob, rooms::Membership::Join).await;
        let again = server.say(&alice, &room, "again rain").await;
        server.edit(&bob, &room, &again, "hail").await;
        assert_eq!(server.ids(&alice, "hail").await, strings(&[]));
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&again]));
    });
}

#[test]
fn the_index_goes_on_after_a_restart() {
    let remains = Remains::new();
    let (alice, room, event) = first(&remains);
    run(&remains, 2, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]), "once");
        let second = server.say(&alice, &room, "more rain").await;
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&second, &event]));
    });
}

#[test]
fn an_index_that_fell_behind_catches_up() {
    let remains = Remains::new();
    let (alice, room, event) = first(&remains);
    // As after a crash between the commit of an event and that of the index: the index is an older one.
    let old = tempfile::tempdir().unwrap();
    copy(&remains.index(), old.path());
    let (mut second, slot) = (None, &mut None);
    run(&remains, 2, async |server| {
        *slot = Some(server.say(&alice, &room, "more rain").await);
        server.redact(&alice, &room, &event).await;
        server.search.catch_up().await.unwrap();
    });
    std::mem::swap(&mut second, slot);
    let second = second.unwrap();
    fs::remove_dir_all(remains.index()).unwrap();
    fs::create_dir_all(remains.index()).unwrap();
    copy(old.path(), &remains.index());
    run(&remains, 3, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&second]));
        assert!(format!("{:?}", server.search).contains("len: 1"), "{:?}", server.search);
    });
}

#[test]
fn an_index_that_is_gone_or_damaged_is_built_again() {
    let remains = Remains::new();
    let (alice, _, event) = first(&remains);
    fs::remove_dir_all(remains.index()).unwrap();
    run(&remains, 2, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
    });
    fs::write(remains.index().join("meta.json"), "nonsense").unwrap();
    run(&remains, 3, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
    });
    let meta = fs::read_to_string(remains.index().join("meta.json")).unwrap();
    assert!(meta.contains("\\\"version\\\":1"), "{meta}");
    fs::write(remains.index().join("meta.json"), meta.replace("\\\"version\\\":1", "\\\"version\\\":0")).unwrap();
    run(&remains, 4, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
    });
    let meta = fs::read_to_string(remains.index().join("meta.json")).unwrap();
    assert!(meta.contains("\\\"version\\\":1"), "an index of another format was built again: {meta}");
}

/// Events as bytes, which can be damaged.
const TIMELINE: Keyspace<(RoomNid, RoomSeq), Vec<u8>> = Keyspace::new("timeline", Profile::Log);

#[test]
fn an_event_that_cannot_be_read_is_left_out_alone() {
    let remains = Remains::new();
    let (alice, room, first) = first(&remains);
    let (mut found, out) = (Vec::new(), &mut Vec::new());
    run(&remains, 2, async |server| {
        let lost = server.say(&alice, &room, "lost in the rain").await;
        server.search.catch_up().await.unwrap();
        let seq = server.rooms.find_in_room(server.nid(&room), lost.as_str()).unwrap().unwrap().seq();
        let mut batch = Batch::new();
        batch.put(&TIMELINE, &(server.nid(&room), seq), &b"damaged".to_vec());
        server.store.commit(batch).await.unwrap();
        // Followed.
        let second = server.say(&alice, &room, "more rain").await;
        assert!(server.ids(&alice, "more").await.contains(&second.to_string()));
        *out = strings(&[&second, &first]);
    });
    std::mem::swap(&mut found, out);
    // Built again.
    fs::remove_dir_all(remains.index()).unwrap();
    run(&remains, 3, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, found);
    });
}

#[test]
fn an_index_of_another_store_is_not_used() {
    let (remains, others) = (Remains::new(), Remains::new());
    let (alice, _, event) = first(&remains);
    run(&others, 7, async |server| {
        let alice = server.account("alice").await;
        let room = server.create(&alice, |_| {}).await;
        for _ in 0..10 {
            server.say(&alice, &room, "no such word").await;
        }
        server.search.catch_up().await.unwrap();
    });
    fs::remove_dir_all(remains.index()).unwrap();
    fs::create_dir_all(remains.index()).unwrap();
    copy(&others.index(), &remains.index());
    run(&remains, 2, async |server| {
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
        assert_eq!(server.ids(&alice, "word").await, strings(&[]));
    });
}

#[test]
fn the_index_can_be_built_again_while_the_server_runs() {
    run(&Remains::new(), 1, async |server| {
        let (alice, room, event) = fill(&server).await;
        for number in 0..700 {
            server.say(&alice, &room, &format!("filler {number}")).await;
        }
        server.search.catch_up().await.unwrap();
        assert_eq!(server.search.rebuild(&|_| {}).await.unwrap(), 701);
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&event]));
        let second = server.say(&alice, &room, "rain after all").await;
        assert_eq!(server.ids(&alice, "rain").await, strings(&[&second, &event]));
        assert!(format!("{:?}", server.search).contains("len: 702"), "{:?}", server.search);
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

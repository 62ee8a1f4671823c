//! The server stops at every step of every commit of a resync; the next start goes on, and ends with the same.

use rooms::{Draft, Finish, GivenState, RoomError, Verdict};
use serde_json::json;
use spec::version::RoomVersion;
use storage::{FailPoints, FailStep, MemoryDisk};

use super::stage::Stage;
use crate::crash::{crash_at, open_store};
use crate::server::{Server, object};

fn open(disk: &MemoryDisk, seed: u64, fail_points: Option<FailPoints>) -> Server {
    Server::with_policy(open_store(disk, fail_points), "two.test", 2, seed, None)
}

/// Everything from the entered room to the full one; what was done before is not done again.
async fn resync(stage: &Stage, server: &Server) -> Result<(), RoomError> {
    let nid = stage.nid(server);
    stage.try_fetch(server, &stage.before).await?;
    let given = GivenState { state: stage.before.clone(), then: None };
    if server.rooms.partial_room(nid)?.is_some_and(|room| !room.is_replaying) {
        server.rooms.begin_replay(nid, &stage.join.pdu().event_id, vec![given]).await?;
    }
    for _ in 0..20 {
        for event in server.rooms.partial_events(nid)? {
            server.rooms.replay(nid, vec![event.seq], Vec::new()).await?;
        }
        if server.rooms.finish_partial(nid).await? == Finish::Done {
            return Ok(());
        }
    }
    panic!("the replay does not end");
}

/// Says whether the server crashed.
async fn crash_once(step: FailStep, commits: usize) -> bool {
    let stage = Stage::entered(RoomVersion::V11).await;
    let disk = MemoryDisk::default();
    let server = open(&disk, 11, None);
    stage.enter_partial(&server).await.unwrap();
    let topic = Draft::state(stage.eve.clone(), "m.room.topic", "", object(json!({"topic": "lies"})));
    let lie = stage.forge(topic, &stage.end_of_one(), &stage.of_eve, 100);
    let kick = stage.bogus_kick(&stage.anna, std::slice::from_ref(&lie.pdu().event_id), 101);
    for pdu in [&lie, &kick] {
        assert_eq!(stage.deliver(&server, pdu).await.unwrap(), Verdict::Accepted);
        stage.deliver(&stage.full, pdu).await.unwrap();
    }
    let said = stage.check(&stage.event(&stage.one.say(&stage.room, &stage.anna, "here").await));
    stage.deliver(&server, &said).await.unwrap();
    stage.deliver(&stage.full, &said).await.unwrap();
    drop(server);

    let server = open(&disk, 12, Some(crash_at(step, commits)));
    let crashed = match resync(&stage, &server).await {
        Ok(()) => false,
        Err(RoomError::Commit(_) | RoomError::Busy) => true,
        Err(error) => panic!("{error}"),
    };
    drop(server);
    let server = open(&disk, 13, None);
    server.assert_sound();
    resync(&stage, &server).await.unwrap();
    server.assert_sound();
    assert_eq!(stage.differences(&server, &stage.full), Vec::<String>::new());
    assert_eq!(stage.present(&server), stage.present(&stage.full));
    crashed
}

#[test]
fn a_resync_that_was_cut_off_goes_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for step in [FailStep::BeforeWrite, FailStep::AfterWrite] {
            let mut crashes = 0;
            while crash_once(step, crashes).await {
                crashes += 1;
                assert!(crashes < 50, "the resync never ends");
            }
            // The state, its beginning, four events, the members, the end.
            assert!(crashes >= 7, "{crashes} commits");
        }
    });
}

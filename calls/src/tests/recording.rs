//! Recording: who may, what the room is told, and what becomes of the file.

use std::time::Duration;

use parking_lot::Mutex;
use rooms::{Draft, Membership, RoomError};
use serde_json::{Value, json};
use spec::ids::{RoomId, UserId};

use super::fixture::{Fixture, join, user};
use crate::{
    CALL_SLOT, CallAnswer, CallError, CallsConfig, LiveLeg, LiveTrack, RECORDING_EVENT, Recorder, RecordingConfig,
    RecordingError, RecordingStart, StoredRecording,
};

const SECOND: Duration = Duration::from_secs(1);

/// A recorder that writes nothing.
#[derive(Default)]
pub struct FakeRecorder {
    running: Mutex<Vec<RecordingStart>>,
    /// Begins nothing.
    refuses: Mutex<bool>,
    /// Stores nothing, as if the disk were full.
    fails: Mutex<bool>,
    files: Mutex<Vec<String>>,
}

impl FakeRecorder {
    /// The recording ends by itself.
    fn end(&self) {
        for order in std::mem::take(&mut *self.running.lock()) {
            (order.ended)();
        }
    }
}

impl Recorder for FakeRecorder {
    fn start(&self, order: RecordingStart) -> CallAnswer<'_, ()> {
        let refuses = *self.refuses.lock();
        if !refuses {
            self.files.lock().push(order.id.clone());
            self.running.lock().push(order);
        }
        Box::pin(async move { if refuses { Err(RecordingError::NoCall.into()) } else { Ok(()) } })
    }

    fn stop(&self, call: &str) {
        let (ended, others) =
            std::mem::take(&mut *self.running.lock()).into_iter().partition(|order| order.call == call);
        *self.running.lock() = others;
        let ended: Vec<RecordingStart> = ended;
        ended.into_iter().for_each(|order| (order.ended)());
    }

    fn store<'a>(&'a self, id: &'a str, user: &'a UserId, _: &'a str) -> CallAnswer<'a, Option<StoredRecording>> {
        let stored = self.files.lock().iter().any(|file| file == id).then(|| StoredRecording {
            url: format!("mxc://us/{}", user.as_str().len()),
            bytes: 1000,
            duration_ms: 2000,
            pictures: Some((640, 480)),
        });
        let fails = *self.fails.lock();
        Box::pin(async move {
            if fails { Err(RecordingError::Failed("the disk is full".to_owned()).into()) } else { Ok(stored) }
        })
    }

    fn discard<'a>(&'a self, id: &'a str) -> CallAnswer<'a, ()> {
        self.files.lock().retain(|file| file != id);
        Box::pin(async { Ok(()) })
    }
}

fn switched_on() -> CallsConfig {
    let recording = RecordingConfig { enabled: true, max_at_once: 1, ..RecordingConfig::default() };
    CallsConfig { recording, ..CallsConfig::default() }
}

/// A server with a room of two, of whom the first has the power to change its state, and is in a call.
async fn in_a_call(config: CallsConfig) -> (Fixture, RoomId, (String, String)) {
    let here = Fixture::with_config(config);
    for name in ["alice", "bob"] {
        here.account(name).await;
    }
    let room = here.room(&["alice", "bob"]).await;
    let leg = join(&here, &room, "alice").await;
    (here, room, leg)
}

impl Fixture {
    async fn record(&self, name: &str, room: &RoomId) -> Result<(), CallError> {
        self.calls.start_recording(&user(name), room, CALL_SLOT).await.map(drop)
    }

    /// What the state of a room says of a recording.
    fn told(&self, room: &RoomId) -> Value {
        let room = self.rooms.known_room(room).unwrap();
        let state = self.rooms.head(room).unwrap().state();
        let event = self.rooms.state_event(room, state, RECORDING_EVENT, "").unwrap();
        event.map_or(Value::Null, |event| event.content_as().unwrap())
    }

    /// The files that were sent into a room.
    fn sent(&self, room: &RoomId) -> Vec<Value> {
        let view = self.rooms.as_user(room, self.nid("alice")).unwrap();
        let wanted = |event: &rooms::Event| event.kind() == "m.room.message";
        let page = view.page(view.newest().unwrap(), None, rooms::Direction::Backward, 100, &wanted).unwrap();
        page.events.iter().map(|event| event.content_as().unwrap()).collect()
    }

    async fn until_sent(&self, room: &RoomId, count: usize) {
        self.until(|| self.sent(room).len() == count && self.calls.recording(&user("alice"), room).unwrap().is_none())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_seen_in_the_room_and_sent_at_its_end() {
    let (here, room, _) = in_a_call(switched_on()).await;
    here.record("alice", &room).await.unwrap();
    let expected = json!({
        "recording": true, "user_id": "@alice:us", "started_ts": 1_700_000_000_000_u64, "slot_id": CALL_SLOT
    });
    assert_eq!(here.told(&room), expected);
    let shown = here.calls.recording(&user("bob"), &room).unwrap().unwrap();
    assert_eq!((shown.user, shown.slot.as_str()), (user("alice"), CALL_SLOT));
    assert!(matches!(here.record("alice", &room).await, Err(CallError::Recording(RecordingError::Recorded))));
    here.calls.stop_recording(&user("alice"), &room).await.unwrap();
    here.until_sent(&room, 1).await;
    assert_eq!(here.told(&room), json!({}));
    let info = json!({"size": 1000, "duration": 2000, "mimetype": "video/webm", "w": 640, "h": 480});
    let message = &here.sent(&room)[0];
    assert_eq!(
        (&message["msgtype"], &message["info"], &message["url"]),
        (&json!("m.video"), &info, &json!("mxc://us/9"))
    );
    assert!(here.recorder.files.lock().is_empty());
    // And again, this time ended by itself.
    here.clock.advance(SECOND);
    here.record("alice", &room).await.unwrap();
    here.recorder.end();
    here.until_sent(&room, 2).await;
    assert_eq!(here.told(&room), json!({}));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_refused_and_nothing_is_said() {
    let (here, room, (call, _)) = in_a_call(switched_on()).await;
    assert!(matches!(here.record("bob", &room).await, Err(CallError::Rooms(RoomError::Forbidden(_)))));
    here.account("carol").await;
    assert!(matches!(here.record("carol", &room).await, Err(CallError::NotInRoom)));
    assert!(matches!(here.calls.recording(&user("carol"), &room), Err(CallError::NotInRoom)));
    let quiet = here.room(&["alice"]).await;
    assert!(matches!(here.record("alice", &quiet).await, Err(CallError::Recording(RecordingError::NoCall))));
    let stopped = here.calls.stop_recording(&user("alice"), &room).await;
    assert!(matches!(stopped, Err(CallError::Recording(RecordingError::NotRecorded))));
    *here.recorder.refuses.lock() = true;
    assert!(here.record("alice", &room).await.is_err());
    assert_eq!(here.told(&room), json!({}));
    *here.recorder.refuses.lock() = false;
    let tracks = vec![LiveTrack { encrypted: true, ..LiveTrack::default() }];
    here.media.set_live(&call, LiveLeg { tracks, ..LiveLeg::default() });
    assert!(matches!(here.record("alice", &room).await, Err(CallError::Recording(RecordingError::Encrypted))));
    // Nobody who was refused takes a place.
    let other = here.room(&["alice", "bob"]).await;
    join(&here, &other, "bob").await;
    here.record("alice", &other).await.unwrap();
    here.calls.recording(&user("bob"), &other).unwrap().unwrap();
    assert!(here.calls.stop_recording(&user("bob"), &other).await.is_err());
    assert!(here.calls.recording(&user("bob"), &other).unwrap().is_some(), "bob has ended it");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_encrypted_rooms_nor_too_many_calls_are_recorded() {
    let (here, room, _) = in_a_call(switched_on()).await;
    let other = here.room(&["alice"]).await;
    join(&here, &other, "alice").await;
    here.record("alice", &room).await.unwrap();
    assert!(matches!(here.record("alice", &other).await, Err(CallError::Recording(RecordingError::TooMany))));
    here.recorder.end();
    here.until_sent(&room, 1).await;
    let content = json!({"algorithm": "m.megolm.v1.aes-sha2"}).as_object().unwrap().clone();
    let draft = Draft::state(user("alice"), "m.room.encryption", "", content);
    here.rooms.append(here.rooms.known_room(&other).unwrap(), vec![draft], None).await.unwrap();
    assert!(matches!(here.record("alice", &other).await, Err(CallError::Recording(RecordingError::Encrypted))));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_being_switched_on_nothing_is_recorded() {
    let (here, room, _) = in_a_call(CallsConfig::default()).await;
    assert!(matches!(here.record("alice", &room).await, Err(CallError::Recording(RecordingError::Off))));
    assert!(matches!(here.calls.recording(&user("alice"), &room), Err(CallError::Recording(RecordingError::Off))));
    assert_eq!(here.told(&room), Value::Null);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restart_interrupts_is_sent_after_it() {
    let (here, room, _) = in_a_call(switched_on()).await;
    here.record("alice", &room).await.unwrap();
    assert_eq!(here.told(&room)["recording"], true);
    let here = here.restart().await;
    here.until_sent(&room, 1).await;
    assert_eq!(here.told(&room), json!({}));
    // So is what the disk had no room for.
    here.clock.advance(SECOND);
    join(&here, &room, "alice").await;
    here.record("alice", &room).await.unwrap();
    *here.recorder.fails.lock() = true;
    here.recorder.end();
    here.until(|| here.calls.recording(&user("alice"), &room).unwrap().is_none()).await;
    assert_eq!((here.told(&room), here.sent(&room).len()), (json!({}), 1));
    *here.recorder.fails.lock() = false;
    let here = here.restart().await;
    here.until_sent(&room, 2).await;
    let here = here.restart().await;
    assert_eq!(here.sent(&room).len(), 2, "it is sent twice");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_room_records_no_more() {
    let (here, room, _) = in_a_call(switched_on()).await;
    here.record("alice", &room).await.unwrap();
    here.change(&room, "alice", "alice", Membership::Leave).await;
    here.until(|| here.recorder.running.lock().is_empty() && here.recorder.files.lock().is_empty()).await;
    assert!(here.sent(&room).is_empty(), "the file is sent by somebody who is not there");
    here.stop().await;
}

/// A room whose second member has the power to say that a call is recorded, too.
async fn with_a_second_moderator() -> (Fixture, RoomId) {
    let (here, room, _) = in_a_call(switched_on()).await;
    let content = json!({"users": {"@alice:us": 100, "@bob:us": 50}}).as_object().unwrap().clone();
    let draft = Draft::state(user("alice"), "m.room.power_levels", "", content);
    here.rooms.append(here.rooms.known_room(&room).unwrap(), vec![draft], None).await.unwrap();
    (here, room)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_said_by_another_where_who_began_it_has_left() {
    let (here, room) = with_a_second_moderator().await;
    here.record("alice", &room).await.unwrap();
    here.change(&room, "alice", "alice", Membership::Leave).await;
    here.until(|| here.told(&room) == json!({})).await;
    here.until(|| here.calls.recording(&user("bob"), &room).unwrap().is_none()).await;
    // The room can have another one.
    join(&here, &room, "bob").await;
    here.clock.advance(SECOND);
    here.record("bob", &room).await.unwrap();
    assert_eq!(here.told(&room)["user_id"], "@bob:us");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_could_say_is_said_by_who_stops_it_later() {
    let (here, room, _) = in_a_call(switched_on()).await;
    here.record("alice", &room).await.unwrap();
    here.change(&room, "alice", "alice", Membership::Leave).await;
    here.until(|| here.calls.recording(&user("bob"), &room).unwrap().is_none()).await;
    assert_eq!(here.told(&room)["recording"], true);
    let stopped = here.calls.stop_recording(&user("bob"), &room).await;
    assert!(matches!(stopped, Err(CallError::Rooms(RoomError::Forbidden(_)))), "{stopped:?}");
    here.change(&room, "alice", "alice", Membership::Join).await;
    here.calls.stop_recording(&user("alice"), &room).await.unwrap();
    assert_eq!(here.told(&room), json!({}));
    let stopped = here.calls.stop_recording(&user("alice"), &room).await;
    assert!(matches!(stopped, Err(CallError::Recording(RecordingError::NotRecorded))), "{stopped:?}");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_server_says_of_its_recording_is_left_alone() {
    let (here, room, _) = in_a_call(switched_on()).await;
    let content = json!({"recording": true, "user_id": "@zoe:them"}).as_object().unwrap().clone();
    let draft = Draft::state(user("alice"), RECORDING_EVENT, "", content);
    here.rooms.append(here.rooms.known_room(&room).unwrap(), vec![draft], None).await.unwrap();
    let stopped = here.calls.stop_recording(&user("alice"), &room).await;
    assert!(matches!(stopped, Err(CallError::Recording(RecordingError::NotRecorded))), "{stopped:?}");
    assert_eq!(here.told(&room)["recording"], true);
    here.stop().await;
}

//! The committer is stopped at every step of a commit while clients write; the next start finds
//! everything that was acknowledged, once, and nothing by halves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rooms::{CreateRoom, Draft, Event, EventFlags, Membership, Preset, RoomError, RoomSeq, Transaction, UserNid};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomAlias, RoomId, UserId};
use spec::version::RoomVersion;
use storage::{Backend, CommitError, FailAction, FailPoints, FailStep, MemoryDisk, Options, Store};

use crate::server::{Server, object, request, text};

/// How many commits precede the crash, at most.
const CASES: usize = 16;
const MESSAGES: usize = 20;

type User = (UserId, UserNid);

/// The rooms and users of every case.
struct Stage {
    alice: User,
    bob: User,
    carol: User,
    rooms: [RoomId; 2],
    /// Messages of the second room, to be redacted.
    redactable: Vec<EventId>,
}

/// Something that a client asked for: `made` is the answer, if one came.
struct Asked<What, Made = ()> {
    what: What,
    made: Option<Made>,
}

struct Send {
    room: RoomId,
    user: User,
    body: String,
}

/// All that clients asked for before the crash.
struct Ledger {
    sends: Vec<Asked<Send, EventId>>,
    redactions: Vec<Asked<EventId, EventId>>,
    memberships: Vec<Asked<Membership>>,
    creations: Vec<Asked<RoomAlias, RoomId>>,
    names: Vec<Asked<String, EventId>>,
}

fn open(disk: &MemoryDisk, seed: u64, fail_points: Option<FailPoints>) -> Server {
    Server::start_on(open_store(disk, fail_points), seed)
}

pub fn open_store(disk: &MemoryDisk, fail_points: Option<FailPoints>) -> Store {
    // The writers of the server before may hold the disk a moment longer.
    assert!(disk.wait_until_free());
    let mut options = Options::new(Backend::MemoryDisk(disk.clone()), rooms::KEYSPACES.to_vec());
    options.fail_points = fail_points;
    Store::open(options).unwrap()
}

/// Crashes when `step` is reached for the time after `commits`.
pub fn crash_at(step: FailStep, commits: usize) -> FailPoints {
    let reached = Arc::new(AtomicUsize::new(0));
    FailPoints::new(move |at| {
        let crashes = at == step && reached.fetch_add(1, Ordering::Relaxed) >= commits;
        if crashes { FailAction::Crash } else { FailAction::Continue }
    })
}

/// The answer, or `None` if the crash came first.
fn unless_crashed<T>(result: Result<T, RoomError>) -> Option<T> {
    match result {
        Ok(made) => Some(made),
        Err(RoomError::Commit(CommitError::Failed(_) | CommitError::Closed)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn set_stage(server: &Server) -> Stage {
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.user("carol").await;
    let rooms = [
        server.create(&alice.0, RoomVersion::V12, Preset::PublicChat).await,
        server.create(&alice.0, RoomVersion::V10, Preset::PublicChat).await,
    ];
    for room in &rooms {
        server.change(room, &bob.0, &bob.0, Membership::Join).await.unwrap();
    }
    let mut redactable = Vec::new();
    for n in 0..6 {
        redactable.push(server.say(&rooms[1], &alice.0, &format!("redactable {n}")).await);
    }
    Stage { alice, bob, carol, rooms, redactable }
}

async fn send(server: &Server, send: &Send) -> Result<EventId, RoomError> {
    let room = server.rooms.known_room(&send.room).unwrap();
    let transaction = Transaction { device: "D".into(), scope: "send".into(), id: send.body.as_str().into() };
    let draft = Draft::message(send.user.0.clone(), "m.room.message", text(&send.body));
    server.rooms.append(room, vec![draft], Some((send.user.1, transaction))).await.map(|ids| ids[0].clone())
}

async fn send_messages(server: &Server, room: &RoomId, user: &User, label: &str) -> Vec<Asked<Send, EventId>> {
    let mut asked = Vec::new();
    for n in 0..MESSAGES {
        let what = Send { room: room.clone(), user: user.clone(), body: format!("{label} {n}") };
        let made = unless_crashed(send(server, &what).await);
        let crashed = made.is_none();
        asked.push(Asked { what, made });
        if crashed {
            break;
        }
    }
    asked
}

async fn redact_messages(server: &Server, stage: &Stage) -> Vec<Asked<EventId, EventId>> {
    let mut asked = Vec::new();
    for target in &stage.redactable {
        let draft = Draft::redaction(stage.alice.0.clone(), target.clone(), Map::new());
        let made = unless_crashed(server.append(&stage.rooms[1], draft).await);
        let crashed = made.is_none();
        asked.push(Asked { what: target.clone(), made });
        if crashed {
            break;
        }
    }
    asked
}

async fn change_memberships(server: &Server, stage: &Stage) -> Vec<Asked<Membership>> {
    let (room, carol) = (&stage.rooms[0], &stage.carol.0);
    let mut asked = Vec::new();
    for what in [Membership::Join, Membership::Leave].into_iter().cycle().take(MESSAGES) {
        let made = unless_crashed(server.change(room, carol, carol, what).await);
        let crashed = made.is_none();
        asked.push(Asked { what, made });
        if crashed {
            break;
        }
    }
    asked
}

async fn create_rooms(server: &Server, stage: &Stage) -> Vec<Asked<RoomAlias, RoomId>> {
    let mut asked = Vec::new();
    for n in 0..6 {
        // From version 12 on, the room's id is a hash of when and by whom it was made.
        server.clock.advance(Duration::from_millis(1));
        let alias = RoomAlias::parse(format!("#made-{n}:hs.test")).unwrap();
        let version = if n % 2 == 0 { RoomVersion::V12 } else { RoomVersion::V11 };
        let creation = CreateRoom {
            alias: Some(alias.clone()),
            public: true,
            invites: vec![(stage.bob.0.clone(), Map::new())],
            ..request(&stage.alice.0, version, Preset::PrivateChat)
        };
        let made = unless_crashed(server.rooms.create_room(creation).await);
        let crashed = made.is_none();
        asked.push(Asked { what: alias, made });
        if crashed {
            break;
        }
    }
    asked
}

async fn change_names(server: &Server, stage: &Stage) -> Vec<Asked<String, EventId>> {
    let mut asked = Vec::new();
    for n in 0..MESSAGES {
        let what = format!("name {n}");
        let draft = Draft::state(stage.alice.0.clone(), "m.room.name", "", object(json!({"name": what})));
        let made = unless_crashed(server.append(&stage.rooms[1], draft).await);
        let crashed = made.is_none();
        asked.push(Asked { what, made });
        if crashed {
            break;
        }
    }
    asked
}

async fn write_until_crash(server: &Server, stage: &Stage) -> Ledger {
    let [first, second] = &stage.rooms;
    let (a, b, c, redactions, memberships, creations, names) = tokio::join!(
        send_messages(server, first, &stage.alice, "alice 1"),
        send_messages(server, first, &stage.bob, "bob 1"),
        send_messages(server, second, &stage.bob, "bob 2"),
        redact_messages(server, stage),
        change_memberships(server, stage),
        create_rooms(server, stage),
        change_names(server, stage),
    );
    Ledger { sends: a.into_iter().chain(b).chain(c).collect(), redactions, memberships, creations, names }
}

fn timeline(server: &Server, room: &RoomId) -> Vec<Event> {
    let nid = server.rooms.known_room(room).unwrap();
    server.rooms.events_after(nid, RoomSeq(0), 100_000).unwrap()
}

fn content_of(event: &Event) -> Value {
    event.content_as().unwrap()
}

/// Where an event is expected once if its request was answered, and at most once if not.
fn assert_made<T>(found: &[&Event], made: Option<&EventId>, what: &T)
where
    T: std::fmt::Debug + ?Sized,
{
    match made {
        Some(id) => {
            assert_eq!(found.len(), 1, "{what:?} was acknowledged");
            assert_eq!(found[0].event_id(), id.as_str(), "{what:?}");
        }
        None => assert!(found.len() <= 1, "{what:?} is there {} times", found.len()),
    }
}

/// Returns how many messages are there that were not acknowledged.
fn check_sends(server: &Server, ledger: &Ledger) -> usize {
    let mut unacknowledged = 0;
    for Asked { what, made } in &ledger.sends {
        let events = timeline(server, &what.room);
        let found: Vec<_> = events.iter().filter(|event| content_of(event)["body"] == what.body.as_str()).collect();
        assert_made(&found, made.as_ref(), &what.body);
        unacknowledged += usize::from(made.is_none() && !found.is_empty());
    }
    unacknowledged
}

fn check_redactions(server: &Server, stage: &Stage, ledger: &Ledger) {
    let events = timeline(server, &stage.rooms[1]);
    for target in &stage.redactable {
        let asked = ledger.redactions.iter().find(|asked| asked.what == *target);
        let found: Vec<_> = events
            .iter()
            .filter(|event| event.kind() == "m.room.redaction")
            .filter(|event| event.to_pdu().unwrap().redacts(RoomVersion::V10.rules()).as_ref() == Some(target))
            .collect();
        match asked {
            Some(asked) => assert_made(&found, asked.made.as_ref(), target),
            None => assert!(found.is_empty()),
        }
        let redacted = events.iter().find(|event| event.event_id() == target.as_str()).unwrap();
        assert_eq!(redacted.flags().has(EventFlags::REDACTED), !found.is_empty());
        assert_eq!(redacted.content() == "{}", !found.is_empty());
    }
}

fn check_memberships(server: &Server, stage: &Stage, ledger: &Ledger) {
    let events = timeline(server, &stage.rooms[0]);
    let stored: Vec<_> = events
        .iter()
        .filter(|event| event.kind() == "m.room.member" && event.state_key() == Some(stage.carol.0.as_str()))
        .map(|event| content_of(event)["membership"].as_str().unwrap().to_owned())
        .collect();
    let asked: Vec<_> = ledger.memberships.iter().map(|asked| asked.what.as_str().to_owned()).collect();
    let acknowledged = ledger.memberships.iter().filter(|asked| asked.made.is_some()).count();
    assert!(stored.len() >= acknowledged && asked.starts_with(&stored), "asked {asked:?}, stored {stored:?}");
    let room = server.rooms.known_room(&stage.rooms[0]).unwrap();
    let now = server.rooms.membership(room, stage.carol.1).unwrap().map(|row| row.membership.as_str().to_owned());
    assert_eq!(now.as_ref(), stored.last());
}

fn check_creations(server: &Server, stage: &Stage, ledger: &Ledger) {
    let mut made = 0;
    for asked in &ledger.creations {
        let room = match server.rooms.find_alias(&asked.what) {
            Ok((room, _)) => room,
            Err(RoomError::AliasNotFound) if asked.made.is_none() => continue,
            other => panic!("{}: {other:?}", asked.what),
        };
        assert!(asked.made.as_ref().is_none_or(|made| *made == room));
        made += 1;
        let view = server.rooms.as_user(&room, stage.alice.1).unwrap();
        for kind in
            ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.history_visibility", "m.room.name"]
        {
            assert!(view.state_event(kind, "").is_ok(), "{room} has no {kind}");
        }
        let nid = server.rooms.known_room(&room).unwrap();
        assert!(server.rooms.is_public(nid).unwrap());
        let invited = server.rooms.membership(nid, stage.bob.1).unwrap().map(|row| row.membership);
        assert_eq!(invited, Some(Membership::Invite));
    }
    assert_eq!(server.rooms.joined_rooms(stage.alice.1).unwrap().len(), stage.rooms.len() + made);
}

fn check_names(server: &Server, stage: &Stage, ledger: &Ledger) {
    let events = timeline(server, &stage.rooms[1]);
    for asked in &ledger.names {
        let found: Vec<_> = events
            .iter()
            .filter(|event| event.kind() == "m.room.name" && content_of(event)["name"] == asked.what.as_str())
            .collect();
        assert_made(&found, asked.made.as_ref(), &asked.what);
    }
    let newest = events.iter().rfind(|event| event.kind() == "m.room.name").unwrap();
    let current = server.view(&stage.rooms[1], stage.alice.1).state_event("m.room.name", "").unwrap();
    assert_eq!(current.event_id(), newest.event_id());
}

/// What a client does that got no answer: it asks again, with the same transaction id.
async fn repeat_sends(server: &Server, ledger: &mut Ledger) {
    for Asked { what, made } in &mut ledger.sends {
        let again = send(server, what).await.unwrap();
        assert!(made.as_ref().is_none_or(|made| *made == again), "{} has two events", what.body);
        *made = Some(again);
    }
}

/// One crash; returns whether it came, and how many unacknowledged messages it left.
async fn crash_once(step: FailStep, commits: usize) -> (bool, usize) {
    let disk = MemoryDisk::new();
    let stage = set_stage(&open(&disk, 1, None)).await;
    let server = open(&disk, 2, Some(crash_at(step, commits)));
    let mut ledger = write_until_crash(&server, &stage).await;
    drop(server);
    let crashed = ledger.sends.iter().any(|asked| asked.made.is_none());

    let server = open(&disk, 3, None);
    server.assert_sound();
    let left = check_sends(&server, &ledger);
    check_redactions(&server, &stage, &ledger);
    check_memberships(&server, &stage, &ledger);
    check_creations(&server, &stage, &ledger);
    check_names(&server, &stage, &ledger);
    repeat_sends(&server, &mut ledger).await;
    check_sends(&server, &ledger);
    server.assert_sound();
    (crashed, left)
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for step in FailStep::ALL {
            let mut left = 0;
            for commits in 0..CASES {
                let (crashed, unacknowledged) = crash_once(step, commits).await;
                assert!(crashed, "{step:?} was not reached {commits} times");
                left += unacknowledged;
            }
            // Before the write a crash undoes what it interrupts; later it only hides the success.
            assert_eq!(left == 0, step == FailStep::BeforeWrite, "{step:?}: {left}");
        }
    });
}

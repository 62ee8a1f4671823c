//! What requests cost. Not run by default: `cargo test --release -p sync --test it cost -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rooms::{RetentionConfig, RoomsConfig};
use serde_json::json;
use storage::Backend;
use sync::{SlidingRequest, SyncConfig, SyncToken, V3Request};
use users::{PresenceState, Session};

use crate::server::{Server, request, token};

const ROUNDS: u32 = 300;

struct Setting {
    server: Arc<Server>,
    alice: Arc<Session>,
    bob: Arc<Session>,
    ids: Vec<spec::ids::RoomId>,
    _folder: tempfile::TempDir,
}

/// With `retention`, each event that is shown is asked whether it has expired; none has.
async fn prepare(rooms: usize, retention: bool) -> Setting {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::Rocks { path: folder.path().join("db") };
    let retention = RetentionConfig { enabled: retention, ..RetentionConfig::default() };
    let of_rooms = RoomsConfig { retention, ..RoomsConfig::default() };
    let server = Server::with("hs.test", backend, SyncConfig::default(), of_rooms);
    let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
    let mut ids = Vec::new();
    for n in 0..rooms {
        let id = server.create(&bob, |new| new.name = Some(format!("Room {n}"))).await;
        server.join(&id, &alice).await;
        server.set(&bob, &id, "m.room.retention", "", json!({"max_lifetime": 31_536_000_000_u64})).await;
        for n in 0..15 {
            server.say(&bob, &id, &format!("message {n}")).await;
        }
        ids.push(id);
    }
    Setting { server: Arc::new(server), alice, bob, ids, _folder: folder }
}

fn report(what: &str, spent: Duration, rounds: u32) {
    println!("{what:48} {:9.1} µs", spent.as_secs_f64() * 1e6 / f64::from(rounds));
}

async fn measure(setting: &Setting) {
    let Setting { server, alice, bob, ids, .. } = setting;
    let rooms = ids.len();
    let initial = request(None);
    let mut size = 0;
    let start = Instant::now();
    for _ in 0..20 {
        size = server.sync.v3(alice, &initial).await.unwrap().len();
    }
    report(&format!("initial sync of {rooms} rooms ({} kB)", size / 1000), start.elapsed(), 20);

    let since = token(&server.v3(alice, None).await).to_owned();
    let nothing = V3Request { since: Some(SyncToken::parse(&since).unwrap()), ..request(None) };
    let start = Instant::now();
    for _ in 0..ROUNDS {
        size = server.sync.v3(alice, &nothing).await.unwrap().len();
    }
    report(&format!("nothing new, {rooms} rooms ({size} B)"), start.elapsed(), ROUNDS);

    server.say(bob, &ids[0], "news").await;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        server.sync.v3(alice, &nothing).await.unwrap();
    }
    report(&format!("one new message, {rooms} rooms"), start.elapsed(), ROUNDS);

    let wish = json!({"lists": {"all": {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": [
        ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"],
        ["m.room.topic", ""], ["m.room.avatar", ""], ["m.room.canonical_alias", ""], ["m.room.power_levels", ""],
        ["m.room.join_rules", ""], ["m.room.tombstone", ""], ["m.room.create", ""],
        ["m.room.history_visibility", ""], ["m.space.parent", "*"], ["m.space.child", "*"],
    ]}}});
    let first = SlidingRequest::parse(wish.to_string().as_bytes()).unwrap();
    let start = Instant::now();
    for _ in 0..50 {
        size = server.sync.sliding(alice, &first, PresenceState::Offline).await.unwrap().len();
    }
    report(&format!("first sliding sync, 20 of {rooms} rooms ({} kB)", size / 1000), start.elapsed(), 50);
    let mut wish = wish;
    wish["pos"] = server.sliding(alice, wish.clone()).await.unwrap()["pos"].clone();
    let next = SlidingRequest::parse(wish.to_string().as_bytes()).unwrap();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        server.sync.sliding(alice, &next, PresenceState::Offline).await.unwrap();
    }
    report(&format!("sliding, nothing new, {rooms} rooms"), start.elapsed(), ROUNDS);
}

async fn measure_delivery(setting: &Setting) {
    let Setting { server, alice, bob, ids, .. } = setting;
    let mut since = token(&server.v3(alice, None).await).to_owned();
    let mut spent = Duration::ZERO;
    for n in 0..100 {
        let sleeper = tokio::spawn({
            let (server, alice) = (server.clone(), alice.clone());
            let wish = V3Request { timeout: Duration::from_secs(60), ..request(Some(&since)) };
            async move {
                let answer = server.sync.v3(&alice, &wish).await.unwrap();
                (Instant::now(), answer)
            }
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        server.say(bob, &ids[n % ids.len()], "news").await;
        let committed = Instant::now();
        let (delivered, answer) = sleeper.await.unwrap();
        spent += delivered.saturating_duration_since(committed);
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        since = token(&answer).to_owned();
    }
    report("delivery after the sender's answer", spent, 100);
}

#[test]
#[ignore = "measures; see the head of the file"]
fn cost_of_requests() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for (rooms, retention) in [(50, false), (50, true), (500, false), (500, true)] {
            println!("messages expire: {retention}");
            let setting = prepare(rooms, retention).await;
            measure(&setting).await;
            measure_delivery(&setting).await;
        }
    });
}

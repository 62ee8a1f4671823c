//! Waiting for news: nobody sleeps through any.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rooms::Membership;
use serde_json::json;
use sync::{SyncConfig, V3Request};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::server::{Server, filtered, outline, request, room, run, run_with, token};

/// How long something may take that happens at once on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How far writers may be ahead of who reads: fewer messages than a timeline holds.
const AHEAD: usize = 8;

fn waiting(since: &str) -> V3Request {
    V3Request { timeout: Duration::from_secs(60), ..request(Some(since)) }
}

/// Long enough for a request to have begun to wait; the tests are right, if slower to fail, without it.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Lets time pass until a request is answered, less than it waits at most: whoever gathers changes may begin to wait
/// after the first steps only.
async fn pass_time<T>(server: &Server, sleeper: &JoinHandle<T>) {
    for _ in 0..500 {
        if sleeper.is_finished() {
            return;
        }
        server.clock.advance(Duration::from_millis(100));
        settle().await;
    }
}

#[test]
fn news_of_every_kind_wake_a_waiting_client() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        let private = server.create(&bob, |_| ()).await;
        server.join(&id, &bob).await;
        for kind in ["message", "receipt", "typing", "account data", "invite", "leave", "presence"] {
            let since = token(&server.v3(&alice, None).await).to_owned();
            let sleeper = tokio::spawn({
                let (server, alice) = (server.clone(), alice.clone());
                async move { server.v3_with(&alice, waiting(&since)).await.unwrap() }
            });
            settle().await;
            let nid = server.nid(&id);
            match kind {
                "message" => drop(server.say(&bob, &id, "wake up").await),
                "receipt" => {
                    let event = server.say(&alice, &id, "x").await;
                    let read = [(rooms::ReceiptKind::Read, None, &event)];
                    server.rooms.set_receipts(nid, bob.user, &read).await.unwrap();
                }
                "typing" => server.rooms.set_typing(nid, bob.user, Some(Duration::from_secs(9))),
                "account data" => {
                    let content = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
                    server.users.set_account_data(alice.user, "x", &content).await.unwrap();
                }
                "invite" => server.change(&private, &bob, &alice, Membership::Invite).await,
                "leave" => server.leave(&private, &alice).await,
                _ => {
                    server.users.set_presence(bob.user, users::PresenceState::Unavailable, None).unwrap();
                    settle().await;
                    assert!(!sleeper.is_finished(), "presence is gathered for a second");
                    pass_time(&server, &sleeper).await;
                }
            }
            let answer = tokio::time::timeout(LIMIT, sleeper).await;
            assert!(answer.is_ok(), "{kind} did not wake");
        }
    });
}

#[test]
fn changes_of_profiles_are_gathered_for_a_second() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let since = token(&server.v3(&alice, None).await).to_owned();
        let filter = json!({"org.matrix.msc4429.profile_fields": {"ids": ["m.status"]}});
        let sleeper = tokio::spawn({
            let wish = V3Request { timeout: Duration::from_secs(60), ..filtered(Some(&since), filter) };
            let (server, alice) = (server.clone(), alice.clone());
            async move { server.v3_with(&alice, wish).await.unwrap() }
        });
        settle().await;
        for n in 0..3 {
            server.users.set_profile_field(bob.user, "m.status", Some(json!(n))).await.unwrap();
        }
        settle().await;
        assert!(!sleeper.is_finished());
        pass_time(&server, &sleeper).await;
        let answer = tokio::time::timeout(LIMIT, sleeper).await.unwrap().unwrap();
        let told = json!({"@bob:hs.test": {"profile_updates": {"m.status": 2}}});
        assert_eq!(answer["org.matrix.msc4429.users"], told);
    });
}

#[test]
fn the_timeout_answers_with_a_newer_token() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let first = server.v3(&alice, None).await;
        let since = token(&first).to_owned();
        let sleeper = tokio::spawn({
            let (server, alice) = (server.clone(), alice.clone());
            async move { server.v3_with(&alice, waiting(&since)).await.unwrap() }
        });
        settle().await;
        server.create(&bob, |_| ()).await;
        settle().await;
        assert!(!sleeper.is_finished(), "woken by what does not concern them");
        // It may not have begun to wait when the first minute passes.
        while !sleeper.is_finished() {
            server.clock.advance(Duration::from_secs(61));
            settle().await;
        }
        let answer = sleeper.await.unwrap();
        assert!(answer.get("rooms").is_none());
        assert_ne!(token(&answer), token(&first));
        let sleeper = tokio::spawn({
            let (server, alice, since) = (server.clone(), alice.clone(), token(&answer).to_owned());
            async move { server.v3_with(&alice, waiting(&since)).await.unwrap() }
        });
        settle().await;
        server.tasks.shut_down();
        sleeper.await.unwrap();
    });
}

/// A client polls as fast as it can while others write from their own threads: it gets every message once, in order,
/// though only wake-ups move it (the clock stands still).
async fn follow_all(server: Server, rooms: usize, per_room: usize) {
    let server = Arc::new(server);
    let alice = server.login("alice", "A").await;
    let mut ids = Vec::new();
    let mut writers = Vec::new();
    for n in 0..rooms {
        let writer = server.login(&format!("writer{n}"), "W").await;
        let id = server.create(&writer, |_| ()).await;
        server.join(&id, &alice).await;
        ids.push(id);
        writers.push(writer);
    }
    let mut since = token(&server.v3(&alice, None).await).to_owned();
    let places: Vec<_> = ids.iter().map(|_| Arc::new(Semaphore::new(AHEAD))).collect();
    let tasks: Vec<_> = writers
        .into_iter()
        .zip(ids.clone())
        .zip(places.clone())
        .map(|((writer, id), places)| {
            let server = server.clone();
            tokio::spawn(async move {
                for n in 0..per_room {
                    places.acquire().await.unwrap().forget();
                    server.say(&writer, &id, &n.to_string()).await;
                    if n % 7 == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        })
        .collect();
    let mut got = vec![Vec::new(); rooms];
    while got.iter().any(|got: &Vec<String>| got.len() < per_room) {
        let answer = tokio::time::timeout(LIMIT, server.v3_with(&alice, waiting(&since)));
        let answer = answer.await.unwrap_or_else(|_| panic!("slept through news; got {got:?}")).unwrap();
        since = token(&answer).to_owned();
        for ((id, got), places) in ids.iter().zip(&mut got).zip(&places) {
            let joined = room(&answer, "join", id);
            assert_ne!(joined["timeline"]["limited"], true, "this test must not fall behind");
            let news = outline(&joined["timeline"]["events"]);
            places.add_permits(news.len());
            got.extend(news);
        }
    }
    for got in &got {
        let expected: Vec<String> = (0..per_room).map(|n| n.to_string()).collect();
        assert_eq!(got, &expected);
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn no_message_is_missed_while_others_write() {
    run(|server| follow_all(server, 3, 60));
}

#[test]
fn no_message_is_missed_with_a_short_memory() {
    let config = SyncConfig { remembered_changes: 0, ..SyncConfig::default() };
    run_with(config, |server| async move {
        // More changes than are remembered, so that every look has to go to the rooms.
        let alice = server.login("alice", "A").await;
        let id = server.create(&alice, |_| ()).await;
        let first = server.v3(&alice, None).await;
        let bob = server.login("bob", "B").await;
        server.join(&id, &bob).await;
        for n in 0..600 {
            server.say(&alice, &id, &n.to_string()).await;
        }
        let other = server.create(&alice, |_| ()).await;
        for n in 0..1100 {
            server.say(&alice, &other, &n.to_string()).await;
        }
        let answer = server.v3(&alice, Some(token(&first))).await;
        assert_eq!(outline(&room(&answer, "join", &id)["timeline"]["events"]).last().unwrap(), "599");
        assert_eq!(outline(&room(&answer, "join", &other)["timeline"]["events"]).last().unwrap(), "1099");
        assert_eq!(answer["device_lists"]["changed"], json!(["@bob:hs.test"]));
    });
}

#[test]
fn rooms_joined_while_waiting_wake_too() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let mut since = token(&server.v3(&alice, None).await).to_owned();
        let mut seen = BTreeSet::new();
        for n in 0..20 {
            let id = server.create(&bob, |_| ()).await;
            let sleeper = tokio::spawn({
                let (server, alice, mut since, id) = (server.clone(), alice.clone(), since.clone(), id.clone());
                async move {
                    loop {
                        let answer = server.v3_with(&alice, waiting(&since)).await.unwrap();
                        since = token(&answer).to_owned();
                        if outline(&room(&answer, "join", &id)["timeline"]["events"]).contains(&"hi".to_owned()) {
                            return since;
                        }
                    }
                }
            });
            server.join(&id, &alice).await;
            if n % 2 == 0 {
                settle().await;
            }
            server.say(&bob, &id, "hi").await;
            since = tokio::time::timeout(LIMIT, sleeper).await.expect("slept through").unwrap();
            seen.insert(id);
        }
        assert_eq!(seen.len(), 20);
    });
}

#[test]
fn a_waiting_sliding_client_is_woken() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let id = server.create(&alice, |_| ()).await;
        server.join(&id, &bob).await;
        let lists = json!({"all": {"ranges": [[0, 9]], "timeline_limit": 5, "required_state": []}});
        let first = server.sliding(&alice, json!({"lists": lists})).await.unwrap();
        let sleeper = tokio::spawn({
            let (server, alice, pos) = (server.clone(), alice.clone(), first["pos"].clone());
            let wish = json!({"lists": lists, "pos": pos, "timeout": 60000});
            async move { server.sliding(&alice, wish).await.unwrap() }
        });
        settle().await;
        assert!(!sleeper.is_finished());
        server.say(&bob, &id, "wake up").await;
        let answer = tokio::time::timeout(LIMIT, sleeper).await.unwrap().unwrap();
        assert_eq!(outline(&answer["rooms"][id.as_str()]["timeline"]), ["wake up"]);
        assert_eq!(answer["rooms"][id.as_str()]["num_live"], 1);
    });
}

#[test]
fn no_room_is_missed_while_another_device_joins_them() {
    run(|server| async move {
        let server = Arc::new(server);
        let (alice, bob) = (server.login("alice", "A").await, server.login("bob", "B").await);
        let mut ids = Vec::new();
        for _ in 0..60 {
            ids.push(server.create(&bob, |_| ()).await);
        }
        let mut since = token(&server.v3(&alice, None).await).to_owned();
        let joiner = tokio::spawn({
            let (server, alice, ids) = (server.clone(), alice.clone(), ids.clone());
            async move {
                for id in &ids {
                    server.join(id, &alice).await;
                }
            }
        });
        let mut missing: BTreeSet<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
        while !missing.is_empty() {
            let answer = tokio::time::timeout(LIMIT, server.v3_with(&alice, waiting(&since)));
            let answer = answer.await.unwrap_or_else(|_| panic!("slept through {missing:?}")).unwrap();
            since = token(&answer).to_owned();
            for (id, joined) in answer["rooms"]["join"].as_object().into_iter().flatten() {
                assert!(outline(&joined["timeline"]["events"]).len() > 3, "{id} did not come whole");
                missing.remove(id);
            }
        }
        joiner.await.unwrap();
    });
}

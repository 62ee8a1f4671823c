//! A room that was entered without its members: which calls wait for them.

use std::sync::Arc;
use std::time::Duration;

use rooms::{
    CheckedPdu, CreateRoom, Draft, Event, Finish, GivenState, Preset, RoomSeq, Rooms, RoomsConfig, RoomsParts,
};
use runtime::{Metrics, Random, Tasks};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};

use crate::server::{Client, Server, run};

/// A room of another server's with its one member Charlie, which a user here has entered without knowing of him.
struct Entered {
    room: RoomId,
    join: EventId,
    before: Vec<EventId>,
}

fn far_rooms(server: &Server) -> Rooms {
    let store = Store::open(Options::new(Backend::Memory, rooms::KEYSPACES.to_vec())).unwrap();
    Rooms::new(RoomsParts {
        store,
        clock: server.clock.clone(),
        random: Random::seeded(9),
        tasks: Tasks::new(&Metrics::new()),
        server_name: ServerName::parse("far.test").unwrap(),
        signing_key: Arc::new(SigningKey::from_seed([9; 32], "1").unwrap()),
        config: RoomsConfig::default(),
        policy_servers: None,
    })
    .unwrap()
}

async fn enter(server: &Server, user: &Client<'_>) -> Entered {
    let far = far_rooms(server);
    let (charlie, alice) = (UserId::parse("@charlie:far.test").unwrap(), UserId::parse(&*user.user_id).unwrap());
    for user in [&charlie, &alice] {
        far.intern_user(user).await.unwrap();
    }
    let mut levels = Map::new();
    levels.insert("invite".into(), 0.into());
    levels.insert("kick".into(), 0.into());
    let room = CreateRoom { power_levels: levels, ..CreateRoom::new(charlie, RoomVersion::V11, Preset::PublicChat) };
    let room = far.create_room(room).await.unwrap();
    let nid = far.known_room(&room).unwrap();
    let before = far.events_after(nid, RoomSeq(0), 100).unwrap();
    let member = Map::from_iter([("membership".to_owned(), json!("join"))]);
    let draft = Draft::state(alice.clone(), "m.room.member", alice.as_str(), member);
    let (name, key) = (server.rooms.server_name().clone(), SigningKey::from_seed([7; 32], "1").unwrap());
    let join = Pdu::sign(far.prepare(nid, draft).unwrap(), &name, &key, RoomVersion::V11.rules()).unwrap();

    let nid = server.rooms.begin_room(&room, RoomVersion::V11).await.unwrap();
    let outliers = before.iter().map(|event| CheckedPdu::of_ours(event.to_pdu().unwrap().into())).collect();
    server.rooms.receive_outliers(nid, outliers).await.unwrap();
    let id = |event: &Event| EventId::parse(event.event_id()).unwrap();
    let told = before.iter().filter(|event| event.kind() != "m.room.member").map(id).collect();
    let (via, join_id) = (far.server_name().clone(), join.event_id.clone());
    let join = CheckedPdu::of_ours(join.into());
    server.rooms.enter_partial(nid, join, told, &via, vec![via.clone()]).await.unwrap();
    Entered { room, join: join_id, before: before.iter().map(id).collect() }
}

async fn resync(server: &Server, entered: &Entered) {
    let nid = server.rooms.known_room(&entered.room).unwrap();
    let given = GivenState { state: entered.before.clone(), then: None };
    server.rooms.begin_replay(nid, &entered.join, vec![given]).await.unwrap();
    let marked = server.rooms.partial_events(nid).unwrap().iter().map(|event| event.seq).collect();
    server.rooms.replay(nid, marked, Vec::new()).await.unwrap();
    assert_eq!(server.rooms.finish_partial(nid).await.unwrap(), Finish::Done);
}

async fn ask(client: &Client<'_>, room: &RoomId, (method, path, body): &(&str, &str, Value)) -> (u16, Value) {
    let path = format!("rooms/{room}/{path}");
    let reply = match *method {
        "GET" => client.get(&path).await,
        "PUT" => client.put(&path, body.clone()).await,
        _ => client.post(&path, body.clone()).await,
    };
    (reply.status.as_u16(), reply.json())
}

const CHARLIE: &str = "@charlie:far.test";

/// What needs to know all members, and the status of the answer once they are known.
fn calls_that_wait() -> Vec<((&'static str, &'static str, Value), u16)> {
    vec![
        (("GET", "members", json!({})), 200),
        (("GET", "joined_members", json!({})), 200),
        (("GET", "state", json!({})), 200),
        (("GET", "state/m.room.member/@charlie:far.test", json!({})), 200),
        (("GET", "state/m.room.member/@nobody:far.test", json!({})), 404),
        (("POST", "invite", json!({"user_id": "@bob:hs.test"})), 200),
        (("POST", "unban", json!({"user_id": CHARLIE})), 403),
        (("POST", "kick", json!({"user_id": CHARLIE})), 403),
        (("POST", "ban", json!({"user_id": CHARLIE})), 403),
        (("PUT", "state/m.room.member/@charlie:far.test", json!({"membership": "leave"})), 403),
        (("POST", "upgrade", json!({"new_version": "12"})), 403),
    ]
}

#[test]
fn calls_that_need_all_members_wait() {
    run(async |server| {
        let alice = server.register("alice").await;
        server.register("bob").await;
        let entered = enter(&server, &alice).await;
        // Longer than anybody waits.
        for (call, _) in calls_that_wait() {
            let asked = ask(&alice, &entered.room, &call);
            tokio::pin!(asked);
            let (status, body) = loop {
                tokio::select! {
                    biased;
                    answer = &mut asked => break answer,
                    () = tokio::task::yield_now() => server.clock.advance(Duration::from_secs(1)),
                }
            };
            assert_eq!((status, body["errcode"].as_str()), (503, Some("M_UNKNOWN")), "{call:?}");
        }
        // The state comes meanwhile.
        let calls = calls_that_wait();
        let asked = futures_util::future::join_all(calls.iter().map(|(call, _)| ask(&alice, &entered.room, call)));
        let (answers, ()) = tokio::join!(asked, resync(&server, &entered));
        for ((call, expected), (status, body)) in calls.iter().zip(answers) {
            assert_eq!(status, *expected, "{call:?}: {body}");
        }
    });
}

#[test]
fn other_calls_do_not() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let entered = enter(&server, &alice).await;
        let calls = [
            (("GET", "state/m.room.create/", json!({})), 200),
            (("GET", "state/m.room.member/@alice:hs.test", json!({})), 200),
            (("GET", "state/m.room.member/@nobody:hs.test", json!({})), 404),
            (("PUT", "send/m.room.message/1", json!({"body": "hello", "msgtype": "m.text"})), 200),
            (("PUT", "typing/@alice:hs.test", json!({"typing": true, "timeout": 1000})), 200),
            (("GET", "messages?dir=b", json!({})), 200),
            (("POST", "leave", json!({})), 200),
        ];
        // Who is not in the room learns that at once.
        assert_eq!(ask(&bob, &entered.room, &("GET", "members", json!({}))).await.0, 403);
        assert_eq!(ask(&bob, &entered.room, &("POST", "ban", json!({"user_id": CHARLIE}))).await.0, 403);
        for (call, expected) in calls {
            let (status, body) = ask(&alice, &entered.room, &call).await;
            assert_eq!(status, expected, "{call:?}: {body}");
        }
    });
}

#[test]
fn names_and_aliases_change_meanwhile_and_members_are_found_afterwards() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let entered = enter(&server, &alice).await;
        alice.put("profile/@alice:hs.test/displayname", json!({"displayname": "Alice"})).await.ok();
        let own = ("GET", "state/m.room.member/@alice:hs.test", json!({}));
        let mut attempts = 0..1000;
        while ask(&alice, &entered.room, &own).await.1["displayname"] != "Alice" {
            assert!(attempts.next().is_some());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let alias = "directory/room/%23door:hs.test";
        alice.put(alias, json!({"room_id": entered.room})).await.ok();
        assert_eq!(bob.get(alias).await.ok()["room_id"], entered.room.as_str());
        let aliases = ask(&alice, &entered.room, &("GET", "aliases", json!({}))).await.1;
        assert_eq!(aliases, json!({"aliases": ["#door:hs.test"]}));
        alice.delete(alias, json!({})).await.ok();
        bob.get(alias).await.refused(404, "M_NOT_FOUND");
        let found = async || {
            let found = alice.post("user_directory/search", json!({"search_term": "charlie"})).await.ok();
            found["results"].as_array().unwrap().len()
        };
        assert_eq!(found().await, 0);
        resync(&server, &entered).await;
        assert_eq!(found().await, 1);
    });
}

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use rooms::{CheckedPdu, CreateRoom, Cursor, Membership, MembershipChange, Preset, Received};
use serde_json::json;
use spec::version::RoomVersion;

use super::*;

mod bounds;
mod far;
mod partial;

use far::{FarRoom, Here, name, object, refusal, sign, user, wire};

const ALICE: &str = "@alice:here.test";

fn far_room(version: RoomVersion, join_rule: &str) -> Arc<Mutex<FarRoom>> {
    Arc::new(Mutex::new(FarRoom::new(version, join_rule)))
}

impl Here {
    async fn join(&self, room: &Arc<Mutex<FarRoom>>, via: &[&str]) -> Result<(), RoomError> {
        let (id, via) = (room.lock().id.clone(), via.iter().map(|server| name(server)).collect::<Vec<_>>());
        self.federation.join(&user(ALICE), &id, &via, object(json!({"displayname": "Alice"}))).await
    }

    fn nid(&self, room: &Arc<Mutex<FarRoom>>) -> RoomNid {
        self.federation.rooms.known_room(&room.lock().id).unwrap()
    }

    fn membership(&self, room: &Arc<Mutex<FarRoom>>) -> Option<Membership> {
        let rooms = &self.federation.rooms;
        let user = rooms.user_nid(&user(ALICE)).unwrap()?;
        let room = rooms.room_nid(&room.lock().id).unwrap()?;
        rooms.membership(room, user).unwrap().map(|row| row.membership)
    }

    /// The ids of the current state.
    fn state(&self, room: RoomNid) -> Vec<String> {
        let rooms = &self.federation.rooms;
        let seqs = rooms.state_seqs(room, rooms.head(room).unwrap().state()).unwrap();
        let mut ids: Vec<String> =
            seqs.into_iter().map(|seq| rooms.event_at(room, seq).unwrap().event_id().to_owned()).collect();
        ids.sort();
        ids
    }
}

#[tokio::test]
async fn rooms_of_every_format_are_joined() {
    for version in [RoomVersion::V1, RoomVersion::V3, RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let here = Here::new();
        let room = far_room(version, "public");
        for n in 0..40 {
            let member = format!("@m{n}:a.test");
            room.lock().add(&member, "m.room.member", Some(&member), json!({"membership": "join"}));
        }
        here.world.reside("a.test", &room, |_, _| {});
        here.join(&room, &["a.test"]).await.unwrap();
        assert_eq!(here.world.take_asked(), ["a.test v1/make_join", "a.test v2/send_join"], "{version}");
        assert_eq!(here.membership(&room), Some(Membership::Join));
        let nid = here.nid(&room);
        let mut expected: Vec<String> =
            room.lock().state.values().map(|event| event.event_id.as_str().to_owned()).collect();
        let head = here.federation.rooms.head(nid).unwrap();
        let join = head.extremities().next().unwrap().to_owned();
        expected.push(join);
        expected.sort();
        assert_eq!(here.state(nid), expected, "{version}");
        assert!(here.federation.rooms.is_resident(nid).unwrap());
        assert_eq!(head.joined_count(), 42);
        // Who is in already is asked for nothing.
        here.join(&room, &["a.test"]).await.unwrap();
        assert_eq!(here.world.take_asked(), Vec::<String>::new());
        let member = here.federation.rooms.state_event(nid, head.state(), "m.room.member", ALICE).unwrap().unwrap();
        assert!(member.content().contains(r#""displayname":"Alice""#));
    }
}

#[tokio::test]
async fn large_states_are_stored_in_parts() {
    let here = Here::new();
    let room = far_room(RoomVersion::V11, "public");
    for n in 0..1300 {
        let member = format!("@m{n}:a.test");
        room.lock().add(&member, "m.room.member", Some(&member), json!({"membership": "join"}));
    }
    // The order in which a server tells the state means nothing.
    here.world.reside("a.test", &room, |endpoint, answer| {
        if endpoint == "send_join" {
            answer["state"].as_array_mut().unwrap().reverse();
        }
    });
    here.join(&room, &[]).await.unwrap();
    let nid = here.nid(&room);
    assert_eq!(here.federation.rooms.head(nid).unwrap().joined_count(), 1302);
    assert_eq!(here.state(nid).len(), room.lock().state.len() + 1);
}

#[tokio::test]
async fn servers_are_tried_until_one_lets_us_in() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "public");
    here.world.answer("b.test", |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    here.world.answer("c.test", |_| (StatusCode::OK, json!({"event": "nonsense"})));
    here.world.reside("d.test", &room, |endpoint, answer| {
        if endpoint == "send_join" {
            answer["state"] = json!([]);
        }
    });
    here.world.reside("a.test", &room, |_, _| {});
    here.join(&room, &["gone.test", "b.test", "c.test", "d.test"]).await.unwrap();
    let asked = ["b.test v1/make_join", "c.test v1/make_join", "d.test v1/make_join", "d.test v2/send_join"];
    let asked = asked.into_iter().chain(["a.test v1/make_join", "a.test v2/send_join"]).collect::<Vec<_>>();
    assert_eq!(here.world.take_asked(), asked);
}

#[tokio::test]
async fn older_servers_are_asked_in_their_words() {
    let here = Here::new();
    let room = far_room(RoomVersion::V6, "public");
    let inner = room.clone();
    here.world.answer("a.test", move |asked| {
        let answer = inner.lock().answer("a.test", asked);
        match (asked.path[0].as_str(), asked.path[1].as_str()) {
            ("v2", _) => (StatusCode::NOT_FOUND, refusal("M_UNRECOGNIZED")),
            ("v1", "send_join") => (StatusCode::OK, json!([200, answer])),
            _ => (StatusCode::OK, answer),
        }
    });
    here.join(&room, &[]).await.unwrap();
    assert_eq!(here.world.take_asked(), ["a.test v1/make_join", "a.test v2/send_join", "a.test v1/send_join"]);
}

#[tokio::test]
async fn refusals_reach_the_client_and_complaints_do_not() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "invite");
    here.world.answer("a.test", |_| (StatusCode::FORBIDDEN, refusal("M_FORBIDDEN")));
    here.world.answer("b.test", |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    match here.join(&room, &["gone.test", "b.test"]).await {
        Err(RoomError::RemoteRefused { status: 403, errcode, .. }) => assert_eq!(errcode, "M_FORBIDDEN"),
        other => panic!("{other:?}"),
    }
    here.world.answer("a.test", |_| (StatusCode::BAD_REQUEST, refusal("M_INVALID_PARAM")));
    assert!(matches!(here.join(&room, &[]).await, Err(RoomError::RemoteRefused { status: 502, .. })));
    let unknown = RoomId::parse("!x:here.test").unwrap();
    let result = here.federation.join(&user(ALICE), &unknown, &[], Map::new()).await;
    assert!(matches!(result, Err(RoomError::RoomNotFound)));
}

/// Joins through a server that changes its answer, and expects that nothing comes of it.
async fn refuse_answer(change: impl Fn(&FarRoom, &mut Value) + Send + Sync + 'static) {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "public");
    let inner = room.clone();
    here.world.answer("a.test", move |asked| {
        let room = inner.lock();
        let mut answer = room.answer("a.test", asked);
        if asked.path[1] == "send_join" {
            change(&room, &mut answer);
        }
        (StatusCode::OK, answer)
    });
    let result = here.join(&room, &[]).await;
    assert!(matches!(result, Err(RoomError::RemoteUnavailable(_))), "{result:?}");
    assert_eq!(here.membership(&room), None);
}

#[tokio::test]
async fn states_that_cannot_be_are_refused() {
    let without = |kind: &'static str| {
        move |_: &FarRoom, answer: &mut Value| {
            answer["state"].as_array_mut().unwrap().retain(|event| event["type"] != kind);
        }
    };
    refuse_answer(without("m.room.create")).await;
    // The join rules let us in: without them nobody gets in.
    refuse_answer(without("m.room.join_rules")).await;
    refuse_answer(|room, answer| {
        let mut twin =
            FarRoom { state: room.state.clone(), events: room.events.clone(), ..FarRoom::new(room.version, "public") };
        let name = twin.add("@host:a.test", "m.room.name", Some(""), json!({"name": "other"}));
        answer["state"].as_array_mut().unwrap().push(wire(&name));
    })
    .await;
    // A create event of another version.
    refuse_answer(|_, answer| {
        let other = FarRoom::new(RoomVersion::V9, "public");
        answer["state"] = other.state_json().into();
        answer["auth_chain"] = other.state_json().into();
    })
    .await;
    // A banned user does not get in, whatever the server says.
    refuse_answer(|room, answer| {
        let mut twin =
            FarRoom { state: room.state.clone(), events: room.events.clone(), ..FarRoom::new(room.version, "public") };
        let ban = twin.add("@host:a.test", "m.room.member", Some(ALICE), json!({"membership": "ban"}));
        answer["state"].as_array_mut().unwrap().push(wire(&ban));
    })
    .await;
}

#[tokio::test]
async fn forged_events_are_left_out_of_the_state() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "public");
    let inner = room.clone();
    here.world.answer("a.test", move |asked| {
        let room = inner.lock();
        let mut answer = room.answer("a.test", asked);
        if asked.path[1] == "send_join" {
            let state = answer["state"].as_array_mut().unwrap();
            // Signed by nobody, of another room, and not allowed by what it cites.
            let mut forged = wire(room.state.values().next().unwrap());
            forged["type"] = "m.room.topic".into();
            state.push(forged);
            let mut elsewhere = FarRoom::new(RoomVersion::V10, "public");
            elsewhere.id = RoomId::parse("!other:a.test").unwrap();
            state.push(wire(&elsewhere.add("@host:a.test", "m.room.topic", Some("x"), json!({}))));
            let mut twin = FarRoom::new(RoomVersion::V10, "public");
            twin.state = room.state.clone();
            state.push(wire(&twin.add("@stranger:a.test", "m.room.topic", Some("y"), json!({}))));
        }
        (StatusCode::OK, answer)
    });
    here.join(&room, &[]).await.unwrap();
    assert_eq!(here.state(here.nid(&room)).len(), room.lock().state.len() + 1);
}

#[tokio::test]
async fn two_joins_of_one_room_are_one_handshake() {
    let here = Here::new();
    let room = far_room(RoomVersion::V11, "public");
    here.world.reside("a.test", &room, |_, _| {});
    let (id, bob) = (room.lock().id.clone(), user("@bob:here.test"));
    let (alice, bob) = tokio::join!(here.join(&room, &[]), here.federation.join(&bob, &id, &[], Map::new()));
    alice.unwrap();
    bob.unwrap();
    assert_eq!(here.world.take_asked(), ["a.test v1/make_join", "a.test v2/send_join"]);
    assert_eq!(here.federation.rooms.head(here.nid(&room)).unwrap().joined_count(), 3);
}

fn authorise(room: &FarRoom, target: &str) -> Value {
    let content = json!({"membership": "join", "join_authorised_via_users_server": "@host:a.test"});
    room.template_of(content, target)
}

#[tokio::test]
async fn restricted_joins_need_the_signature_of_who_lets_us_in() {
    for (signs, expected) in [(true, Some(Membership::Join)), (false, None)] {
        let here = Here::new();
        let room = far_room(RoomVersion::V10, "restricted");
        let inner = room.clone();
        here.world.answer("a.test", move |asked| {
            let room = inner.lock();
            let mut answer = room.answer("a.test", asked);
            match asked.path[1].as_str() {
                "make_join" => answer = authorise(&room, &asked.path[3]),
                "send_join" if !signs => answer["event"] = asked.body.clone(),
                _ => {}
            }
            (StatusCode::OK, answer)
        });
        assert_eq!(here.join(&room, &[]).await.is_ok(), signs);
        assert_eq!(here.membership(&room), expected);
    }
}

#[tokio::test]
async fn knocks_are_accepted_and_taken_back() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "knock");
    here.world.reside("a.test", &room, |_, _| {});
    let id = room.lock().id.clone();
    here.federation.knock(&user(ALICE), &id, &[], object(json!({"reason": "tea"}))).await.unwrap();
    assert_eq!(here.world.take_asked(), ["a.test v1/make_knock", "a.test v1/send_knock"]);
    assert_eq!(here.membership(&room), Some(Membership::Knock));
    let alice = here.federation.rooms.user_nid(&user(ALICE)).unwrap().unwrap();
    let told = here.federation.rooms.stripped_state(here.nid(&room), alice).unwrap().unwrap();
    assert!(told.iter().any(|event| event.get().contains(r#""name":"far""#)));
    assert_eq!(told.len(), room.lock().state.len());
    here.federation.leave(&user(ALICE), &id, Map::new()).await.unwrap();
    assert_eq!(here.world.take_asked(), ["a.test v1/make_leave", "a.test v2/send_leave"]);
    assert_eq!(here.membership(&room), Some(Membership::Leave));
}

#[tokio::test]
async fn invitations_are_refused_even_if_nobody_can_be_told() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "invite");
    let invite = room.lock().add("@host:a.test", "m.room.member", Some(ALICE), json!({"membership": "invite"}));
    let version = room.lock().version;
    here.federation.rooms.receive_invite(CheckedPdu::of_ours(invite), version, Vec::new()).await.unwrap();
    assert_eq!(here.membership(&room), Some(Membership::Invite));
    let id = room.lock().id.clone();
    here.federation.leave(&user(ALICE), &id, Map::new()).await.unwrap();
    assert_eq!(here.membership(&room), Some(Membership::Leave));
}

async fn own_room(here: &Here) -> RoomId {
    let request =
        CreateRoom { name: Some("own".into()), ..CreateRoom::new(user(ALICE), RoomVersion::V11, Preset::PrivateChat) };
    here.federation.rooms.create_room(request).await.unwrap()
}

#[tokio::test]
async fn invitations_are_signed_by_the_server_of_the_invited() {
    let here = Here::new();
    let room = own_room(&here).await;
    let nid = here.federation.rooms.known_room(&room).unwrap();
    let (alice, bob) = (user(ALICE), user("@bob:b.test"));
    let invite = || here.federation.invite(&alice, &room, &bob, Map::new());
    let invited = || {
        let head = here.federation.rooms.head(nid).unwrap();
        here.federation.rooms.state_event(nid, head.state(), "m.room.member", "@bob:b.test").unwrap()
    };
    assert!(matches!(invite().await, Err(RoomError::RemoteUnavailable(_))));
    here.world.answer("b.test", |_| (StatusCode::FORBIDDEN, refusal("M_INVITE_BLOCKED")));
    assert!(matches!(invite().await, Err(RoomError::RemoteRefused { status: 403, .. })));
    // Not signed, or not by that server's key.
    here.world.answer("b.test", |asked| (StatusCode::OK, json!({"event": asked.body["event"]})));
    assert!(matches!(invite().await, Err(RoomError::RemoteUnavailable(_))));
    here.world.answer("b.test", |asked| {
        let mut event = sign("c.test", asked.body["event"].clone(), RoomVersion::V11);
        event["signatures"]["b.test"] = event["signatures"]["c.test"].take();
        (StatusCode::OK, json!({"event": event}))
    });
    assert!(matches!(invite().await, Err(RoomError::RemoteUnavailable(_))));
    assert!(invited().is_none());
    here.world.answer("b.test", |asked| {
        assert_eq!(asked.body["room_version"], "11");
        let state = asked.body["invite_room_state"].as_array().unwrap();
        assert!(state.iter().any(|event| event["type"] == "m.room.create" && event["signatures"].is_object()));
        let mut event = sign("b.test", asked.body["event"].clone(), RoomVersion::V11);
        event["content"]["membership"] = "join".into();
        (StatusCode::OK, json!({"event": event}))
    });
    invite().await.unwrap();
    let event = invited().unwrap().to_pdu().unwrap();
    assert!(String::from_utf8_lossy(&event.json).contains(r#""b.test":{"ed25519:k""#));
    assert!(event.content.get().contains("invite"));
}

#[tokio::test]
async fn history_from_before_the_join_is_fetched() {
    let here = Here::new();
    let room = far_room(RoomVersion::V11, "public");
    for n in 0..12 {
        room.lock().add("@host:a.test", "m.room.message", None, json!({"body": format!("message {n}")}));
    }
    here.world.reside("a.test", &room, |_, _| {});
    here.join(&room, &[]).await.unwrap();
    here.world.take_asked();
    let nid = here.nid(&room);
    let bodies = || {
        let rooms = &here.federation.rooms;
        let alice = rooms.user_nid(&user(ALICE)).unwrap().unwrap();
        let view = rooms.as_user(&room.lock().id, alice).unwrap();
        let page = view.page(view.newest().unwrap(), Some(Cursor::START), Direction::Backward, 100, &|_| true).unwrap();
        page.events.iter().filter(|event| event.kind() == "m.room.message").count()
    };
    assert_eq!(bodies(), 0);
    assert!(here.federation.backfill(nid, 5).await.unwrap());
    assert_eq!(bodies(), 5);
    assert_eq!(here.world.take_asked(), ["a.test v1/backfill", "a.test v1/state_ids"]);
    assert!(here.federation.backfill(nid, 100).await.unwrap());
    assert_eq!(bodies(), 12);
    assert_eq!(here.world.take_asked(), ["a.test v1/backfill"]);
    // The create event has come: there is nothing before it.
    assert!(!here.federation.backfill(nid, 100).await.unwrap());
    assert_eq!(here.world.take_asked(), Vec::<String>::new());
}

#[tokio::test]
async fn events_near_a_time_are_fetched_with_their_place() {
    let here = Here::new();
    let room = far_room(RoomVersion::V11, "public");
    for n in 0..3 {
        room.lock().add("@host:a.test", "m.room.message", None, json!({"body": format!("message {n}")}));
    }
    here.world.reside("a.test", &room, |_, _| {});
    here.join(&room, &[]).await.unwrap();
    here.world.take_asked();
    let nid = here.nid(&room);
    let first = room.lock().events.iter().find(|event| &*event.kind == "m.room.message").unwrap().clone();
    let time = first.origin_server_ts;
    let found = here.federation.event_near(nid, time - 5, Direction::Forward).await.unwrap();
    assert_eq!(found, Some((first.event_id.clone(), time)));
    let asked = ["a.test v1/timestamp_to_event", "a.test v1/event", "a.test v1/state_ids"];
    assert_eq!(here.world.take_asked(), asked);
    assert!(
        here.federation.rooms.unknown_events(nid, std::slice::from_ref(&first.event_id), false).unwrap().is_empty()
    );
    // On the wrong side of the time.
    assert_eq!(here.federation.event_near(nid, time + 5, Direction::Forward).await.unwrap(), None);
}

#[tokio::test]
async fn a_restricted_room_we_are_in_may_be_opened_by_another_server() {
    let here = Here::new();
    let room = far_room(RoomVersion::V10, "public");
    here.world.reside("a.test", &room, |_, _| {});
    here.join(&room, &[]).await.unwrap();
    let (nid, id) = (here.nid(&room), room.lock().id.clone());
    let head = here.federation.rooms.head(nid).unwrap();
    let join = here.federation.rooms.state_event(nid, head.state(), "m.room.member", ALICE).unwrap().unwrap();
    let join = Arc::new(join.to_pdu().unwrap());
    // Bob is in the club, whose members may join; Alice may not let him in.
    let club = own_room(&here).await;
    let rules = {
        let mut room = room.lock();
        room.events.push(join.clone());
        room.state.insert(("m.room.member".into(), ALICE.into()), join);
        let rules = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]});
        room.add("@host:a.test", "m.room.join_rules", Some(""), rules)
    };
    let received = Received::from(CheckedPdu::of_ours(rules));
    here.federation.rooms.receive_all(nid, vec![received]).await.unwrap().remove(0).unwrap();
    let bob = user("@bob:here.test");
    let change = |sender: &str, membership| MembershipChange {
        sender: user(sender),
        target: bob.clone(),
        membership,
        content: Map::new(),
    };
    here.federation.rooms.change_membership(&club, change(ALICE, Membership::Invite)).await.unwrap();
    let refused = here.federation.join(&bob, &id, &[], Map::new()).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
    here.federation.rooms.change_membership(&club, change(bob.as_str(), Membership::Join)).await.unwrap();
    here.world.take_asked();
    let inner = room.clone();
    here.world.answer("a.test", move |asked| {
        let room = inner.lock();
        match asked.path[1].as_str() {
            "make_join" => (StatusCode::OK, authorise(&room, &asked.path[3])),
            _ => (StatusCode::OK, room.answer("a.test", asked)),
        }
    });
    here.federation.join(&bob, &id, &[], Map::new()).await.unwrap();
    assert_eq!(here.world.take_asked(), ["a.test v1/make_join", "a.test v2/send_join"]);
    assert_eq!(here.federation.rooms.head(nid).unwrap().joined_count(), 3);
}

#[tokio::test]
async fn aliases_and_public_rooms_are_asked_of_their_server() {
    let here = Here::new();
    here.world.answer("a.test", |asked| match (asked.path[1].as_str(), asked.query.first()) {
        ("query", Some((_, alias))) if alias == "#tea:a.test" => {
            (StatusCode::OK, json!({"room_id": "!room:a.test", "servers": ["b.test", "no name", "b.test"]}))
        }
        ("query", _) => (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")),
        ("publicRooms", _) => (
            StatusCode::OK,
            json!({
                "chunk": [{"room_id": "!room:a.test"}, {"room_id": 7}], "next_batch": "n", "prev_batch": 7, "more": {},
            }),
        ),
        _ => (StatusCode::NOT_FOUND, refusal("M_UNRECOGNIZED")),
    });
    let resolve = async |alias: &str| here.federation.resolve_alias(&RoomAlias::parse(alias).unwrap()).await;
    let (room, servers) = resolve("#tea:a.test").await.unwrap();
    assert_eq!((room.as_str(), servers), ("!room:a.test", vec![name("b.test"), name("a.test")]));
    assert!(matches!(resolve("#coffee:a.test").await, Err(RoomError::AliasNotFound)));
    assert!(matches!(resolve("#tea:gone.test").await, Err(RoomError::RemoteUnavailable(_))));
    let query = object(json!({"limit": 7, "since": "a b"}));
    let answer = here.federation.public_rooms(&name("a.test"), query).await.unwrap();
    assert_eq!(Value::Object(answer), json!({"chunk": [{"room_id": "!room:a.test"}], "next_batch": "n"}));
    let asked = here.world.last_asked();
    assert_eq!(asked.query, [("limit".to_owned(), "7".to_owned()), ("since".to_owned(), "a b".to_owned())]);
}

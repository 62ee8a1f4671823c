//! What other servers are given of a room: by history visibility and membership, by the graph, by the state.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{Direction, Draft, Event, EventFlags, Membership, Preset, RoomError, ServerView, Verdict};
use serde_json::{Value, json};
use spec::ids::{EventId, RoomId, UserId};
use spec::version::RoomVersion;

use crate::foreign::{Foreign, set_member};
use crate::server::{Server, object, run, text};

struct Scene {
    server: Server,
    far: Foreign,
    alice: UserId,
    room: RoomId,
}

impl Scene {
    async fn new(server: Server, version: RoomVersion) -> Scene {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, version, Preset::PublicChat).await;
        Scene { server, far: Foreign::new("far.test"), alice, room }
    }

    async fn say(&self, body: &str) -> EventId {
        self.server.say(&self.room, &self.alice, body).await
    }

    async fn show_history(&self, visibility: &str) -> EventId {
        let content = object(json!({"history_visibility": visibility}));
        let draft = Draft::state(self.alice.clone(), "m.room.history_visibility", "", content);
        self.server.append(&self.room, draft).await.unwrap()
    }

    fn view(&self) -> ServerView {
        self.server.rooms.as_server(&self.room, &self.far.name).unwrap()
    }

    /// The event wherever it is, as nobody but the server itself sees it.
    fn raw(&self, id: &EventId) -> Event {
        let nid = self.server.rooms.known_room(&self.room).unwrap();
        let events = self.server.rooms.events_after(nid, rooms::RoomSeq(0), usize::MAX).unwrap();
        events.into_iter().find(|event| event.event_id() == id.as_str()).unwrap()
    }
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.event_id().to_owned()).collect()
}

fn texts(ids: &[&EventId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

#[test]
fn history_visibility_decides_what_a_server_sees() {
    for (visibility, expected) in [
        ("world_readable", [true, true, true, true, true]),
        ("shared", [true, true, true, true, true]),
        ("invited", [false, true, true, false, true]),
        ("joined", [false, false, true, false, true]),
    ] {
        run(|server| async move {
            let scene = Scene::new(server, RoomVersion::V11).await;
            let (server, room, alice) = (&scene.server, &scene.room, &scene.alice);
            let (fred, fay) = (scene.far.user("fred"), scene.far.user("fay"));
            scene.show_history(visibility).await;
            let mut said = vec![scene.say("before").await];
            let invite = set_member(server, room, alice, &fred, Membership::Invite).await;
            said.push(scene.say("invited").await);
            scene.far.turn(server, room, &fred, Membership::Join).await;
            said.push(scene.say("joined").await);
            let theirs = scene.far.say(server, room, &fred, "theirs").await;
            let leave = scene.far.turn(server, room, &fred, Membership::Leave).await;
            said.push(scene.say("gone").await);
            let topic = |text: &str| Draft::state(alice.clone(), "m.room.topic", "", object(json!({"topic": text})));
            let old_topic = server.append(room, topic("secret")).await.unwrap();
            let topic = server.append(room, topic("known")).await.unwrap();
            let nobody = server.rooms.as_server(room, &scene.far.name).map(|view| view.is_joined());
            if visibility == "world_readable" {
                assert!(!nobody.unwrap(), "the room is shown to servers outside");
            } else {
                assert!(matches!(nobody, Err(RoomError::NotInRoom)));
            }
            scene.far.turn(server, room, &fay, Membership::Join).await;
            said.push(scene.say("again").await);

            let view = scene.view();
            for (id, expected) in said.iter().zip(expected) {
                let event = scene.raw(id);
                let body: Value = event.content_as().unwrap();
                assert_eq!(view.may_see(&event).unwrap(), expected, "{visibility}: {body}");
                let json = view.pdu_json(&event).unwrap();
                assert_eq!(json.get().contains("\"body\""), expected, "{visibility}: {body}");
                assert!(json.get().contains("\"prev_events\"") && json.get().contains("\"signatures\""));
                // Others follow it, so that it is given, if without its content.
                assert_eq!(view.event(id).unwrap().event_id(), id.as_str());
            }
            for own in [&invite, &theirs, &leave] {
                assert!(view.may_see(&view.event(own).unwrap()).unwrap(), "{visibility}: what is their own");
            }
            // State that others may be authorised by is given, without what is in it; that at the join was given whole.
            let written = |id: &EventId| view.pdu_json(&view.event(id).unwrap()).unwrap().get().to_owned();
            let hidden = matches!(visibility, "invited" | "joined");
            assert_eq!(written(&old_topic).contains("secret"), !hidden);
            assert!(written(&topic).contains("known"));
            // The graph has no holes.
            let chain = view.backfill(&[said[4].clone()], 100).unwrap();
            assert!(said.iter().all(|id| ids(&chain).contains(&id.as_str().to_owned())));
        });
    }
}

#[test]
fn a_change_of_visibility_is_seen_by_who_sees_either() {
    run(|server| async move {
        let scene = Scene::new(server, RoomVersion::V11).await;
        scene.show_history("joined").await;
        let hidden = scene.say("hidden").await;
        let opened = scene.show_history("world_readable").await;
        let open = scene.say("open").await;
        let closed = scene.show_history("joined").await;
        let closed_again = scene.say("closed").await;
        scene.show_history("world_readable").await;
        let view = scene.view();
        assert!(!view.is_joined());
        let seen: Vec<bool> =
            [&hidden, &opened, &open, &closed, &closed_again].map(|id| view.may_see(&scene.raw(id)).unwrap()).into();
        assert_eq!(seen, [false, true, true, true, false]);
        // Whoever is not in the room is given nothing redacted either.
        assert_eq!(ids(&view.backfill(std::slice::from_ref(&closed_again), 10).unwrap()).len(), 3);
        assert!(matches!(view.event(&closed_again), Err(RoomError::EventNotFound)));
        assert!(matches!(view.state_ids_before(&closed_again), Err(RoomError::EventNotFound)));
        assert!(view.state_ids_before(&open).is_ok());
    });
}

#[test]
fn rejected_events_are_given_to_nobody_and_soft_failed_ones_are() {
    run(|server| async move {
        let scene = Scene::new(server, RoomVersion::V11).await;
        let (server, room) = (&scene.server, &scene.room);
        let nid = server.rooms.known_room(room).unwrap();
        let fred = scene.far.user("fred");
        scene.far.turn(server, room, &fred, Membership::Join).await;
        // What Fred prepares while he may, and sends when he may not, on top of what was before.
        let late = scene.far.prepare(server, nid, Draft::message(fred.clone(), "m.room.message", text("late")));
        let prepared = server.rooms.prepare(nid, Draft::message(fred.clone(), "m.room.message", text("x"))).unwrap();
        set_member(server, room, &scene.alice, &fred, Membership::Ban).await;
        let fay = scene.far.user("fay");
        scene.far.turn(server, room, &fay, Membership::Join).await;
        let now: Vec<Value> =
            server.rooms.head(nid).unwrap().extremities().map(|id| Value::from(id.to_owned())).collect();
        let mut forged = prepared;
        forged.insert("prev_events".into(), now.into());
        let forged = scene.far.sign(forged, RoomVersion::V11.rules());
        let soft = late.pdu().event_id.clone();
        assert!(matches!(server.rooms.receive(late).await.unwrap(), Verdict::SoftFailed(_)));
        let rejected = forged.pdu().event_id.clone();
        assert!(matches!(server.rooms.receive(forged).await.unwrap(), Verdict::Rejected(_)));

        let view = scene.view();
        assert_eq!(view.event(&soft).unwrap().event_id(), soft.as_str());
        assert!(matches!(view.event(&rejected), Err(RoomError::EventNotFound)));
        assert!(matches!(view.pdu_json(&scene.raw(&rejected)), Err(RoomError::EventNotFound)));
        assert!(matches!(view.state_ids_before(&rejected), Err(RoomError::EventNotFound)));
        let given = ids(&view.backfill(&[rejected.clone(), soft.clone()], 100).unwrap());
        assert!(!given.contains(&rejected.as_str().to_owned()) && given.contains(&soft.as_str().to_owned()));
        assert!(scene.raw(&rejected).flags().has(EventFlags::REJECTED));
    });
}

/// The auth chain by the definition, from the events themselves.
fn chain_of(events: &BTreeMap<String, Event>, of: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let (mut chain, mut waiting) = (BTreeSet::new(), Vec::from_iter(of));
    while let Some(id) = waiting.pop() {
        for cited in events[&id].to_pdu().unwrap().auth_events {
            if chain.insert(cited.as_str().to_owned()) {
                waiting.push(cited.as_str().to_owned());
            }
        }
    }
    chain
}

#[test]
fn state_and_auth_chains_are_those_before_the_event() {
    for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        run(|server| async move {
            let scene = Scene::new(server, version).await;
            let (server, room, alice) = (&scene.server, &scene.room, &scene.alice);
            let nid = server.rooms.known_room(room).unwrap();
            let fred = scene.far.user("fred");
            scene.far.turn(server, room, &fred, Membership::Join).await;
            for topic in ["one", "two"] {
                let draft = Draft::state(alice.clone(), "m.room.topic", "", object(json!({"topic": topic})));
                server.append(room, draft).await.unwrap();
            }
            scene.far.say(server, room, &fred, "hello").await;
            set_member(server, room, alice, &fred, Membership::Ban).await;
            set_member(server, room, alice, &fred, Membership::Leave).await;
            scene.far.turn(server, room, &fred, Membership::Join).await;
            scene.say("end").await;

            let all = server.rooms.events_after(nid, rooms::RoomSeq(0), usize::MAX).unwrap();
            let by_id: BTreeMap<String, Event> =
                all.iter().map(|event| (event.event_id().to_owned(), event.clone())).collect();
            let view = scene.view();
            let mut state: BTreeMap<(String, String), String> = BTreeMap::new();
            for event in &all {
                let id = EventId::parse(event.event_id()).unwrap();
                let (ids_before, chain_ids) = view.state_ids_before(&id).unwrap();
                let got: BTreeSet<String> = ids_before.iter().map(|id| id.as_str().to_owned()).collect();
                assert_eq!(got, state.values().cloned().collect(), "before {}", event.json());
                let got_chain: BTreeSet<String> = chain_ids.iter().map(|id| id.as_str().to_owned()).collect();
                assert_eq!(got_chain.len(), chain_ids.len(), "each once");
                assert_eq!(got_chain, chain_of(&by_id, state.values().cloned()));
                let (events, chain) = view.state_before(&id).unwrap();
                assert_eq!(ids(&events), texts(&ids_before.iter().collect::<Vec<_>>()));
                assert_eq!(ids(&chain).into_iter().collect::<BTreeSet<_>>(), got_chain);
                let own: BTreeSet<String> = ids(&view.auth_chain_of(&id).unwrap()).into_iter().collect();
                assert_eq!(own, chain_of(&by_id, [event.event_id().to_owned()]));
                if let Some(key) = event.state_key() {
                    state.insert((event.kind().to_owned(), key.to_owned()), event.event_id().to_owned());
                }
            }
            let head = server.rooms.head(nid).unwrap();
            let mut pieces = server.rooms.events_for_join(nid, head.state()).unwrap();
            assert_eq!(pieces.state_left(), state.len());
            let (mut told, mut chain) = (Vec::new(), Vec::new());
            while let events = pieces.next_state(3).unwrap()
                && !events.is_empty()
            {
                assert!(events.len() <= 3);
                told.extend(ids(&events));
            }
            while let events = pieces.next_auth_chain(2).unwrap()
                && !events.is_empty()
            {
                chain.extend(ids(&events));
            }
            assert_eq!(told.iter().collect::<BTreeSet<_>>(), state.values().collect());
            let whole = chain_of(&by_id, told.iter().cloned());
            assert_eq!(chain.iter().cloned().collect::<BTreeSet<_>>(), whole);
            let mut fewer = server.rooms.events_for_join(nid, head.state()).unwrap();
            fewer.omit_state_from_auth_chain();
            let rest: BTreeSet<String> = ids(&fewer.next_auth_chain(1000).unwrap()).into_iter().collect();
            assert_eq!(rest, whole.into_iter().filter(|id| !told.contains(id)).collect());
        });
    }
}

#[test]
fn earlier_events_come_in_the_order_and_number_asked_for() {
    run(|server| async move {
        let scene = Scene::new(server, RoomVersion::V11).await;
        let (server, room) = (&scene.server, &scene.room);
        let nid = server.rooms.known_room(room).unwrap();
        let fred = scene.far.user("fred");
        scene.far.turn(server, room, &fred, Membership::Join).await;
        let base = scene.say("base").await;
        // Two branches from here, and an event that joins them.
        let branch = scene.far.prepare(server, nid, Draft::message(fred.clone(), "m.room.message", text("branch")));
        let left = scene.say("left").await;
        let left_two = scene.say("left two").await;
        let right = branch.pdu().event_id.clone();
        assert_eq!(server.rooms.receive(branch).await.unwrap(), Verdict::Accepted);
        let joined = scene.say("joined").await;
        let mut line = vec![joined.clone()];
        for index in 0..30 {
            line.push(scene.say(&format!("{index}")).await);
        }
        let view = scene.view();

        assert_eq!(ids(&view.backfill(std::slice::from_ref(&joined), 3).unwrap()).len(), 3);
        let back = ids(&view.backfill(std::slice::from_ref(&joined), 5).unwrap());
        assert_eq!(back[..2], texts(&[&joined, &left_two]));
        assert_eq!(back[2..4].iter().collect::<BTreeSet<_>>(), texts(&[&left, &right]).iter().collect());
        assert_eq!(back[4], base.as_str());
        assert_eq!(view.backfill(&[line[30].clone()], 0).unwrap().len(), 0);
        assert_eq!(view.backfill(&[EventId::parse("$nowhere").unwrap()], 10).unwrap().len(), 0);
        let everything = view.backfill(&[line[30].clone()], usize::MAX).unwrap();
        assert!(everything.len() <= 100 && everything.last().unwrap().kind() == "m.room.create");

        let gap = view.missing_events(std::slice::from_ref(&joined), std::slice::from_ref(&base), 20, 0).unwrap();
        assert_eq!(ids(&gap).iter().collect::<BTreeSet<_>>(), texts(&[&left, &left_two, &right]).iter().collect());
        assert_eq!(gap.last().unwrap().event_id(), left_two.as_str(), "the oldest is first");
        let depth = scene.raw(&left_two).depth();
        assert_eq!(
            ids(&view.missing_events(std::slice::from_ref(&joined), std::slice::from_ref(&base), 20, depth).unwrap()),
            texts(&[&left_two])
        );
        let many = view.missing_events(&[line[30].clone()], std::slice::from_ref(&base), 1000, 0).unwrap();
        assert_eq!(ids(&many), texts(&line[10..30].iter().collect::<Vec<_>>()), "at most 20, the nearest");
        assert_eq!(view.missing_events(&[line[1].clone()], std::slice::from_ref(&joined), 20, 0).unwrap().len(), 0);
    });
}

#[test]
fn history_from_before_a_server_came_is_not_found_by_time() {
    run(|server| async move {
        let scene = Scene::new(server, RoomVersion::V11).await;
        let (server, room) = (&scene.server, &scene.room);
        let hiding = scene.show_history("joined").await;
        server.clock.advance(std::time::Duration::from_secs(10));
        scene.say("before").await;
        let hidden = server.clock.now_ms() as i64;
        server.clock.advance(std::time::Duration::from_secs(10));
        let join = scene.far.turn(server, room, &scene.far.user("fred"), Membership::Join).await;
        server.clock.advance(std::time::Duration::from_secs(10));
        let said = scene.say("after").await;
        let view = scene.view();
        assert_eq!(view.event_near(hidden, Direction::Forward).unwrap().event_id(), join.as_str());
        // The change of visibility is seen by those who saw what was before it.
        assert_eq!(view.event_near(hidden, Direction::Backward).unwrap().event_id(), hiding.as_str());
        assert_eq!(view.event_near(i64::MAX, Direction::Backward).unwrap().event_id(), said.as_str());
        assert!(matches!(view.event_near(i64::MAX, Direction::Forward), Err(RoomError::EventNotFound)));
    });
}

#[test]
fn a_view_is_of_one_room_and_for_who_is_in_it() {
    run(|server| async move {
        let scene = Scene::new(server, RoomVersion::V11).await;
        let (server, alice) = (&scene.server, &scene.alice);
        let other = server.create(alice, RoomVersion::V11, Preset::PublicChat).await;
        let fred = scene.far.user("fred");
        scene.far.turn(server, &scene.room, &fred, Membership::Join).await;
        let elsewhere = server.say(&other, alice, "elsewhere").await;
        let view = scene.view();
        assert!(matches!(view.event(&elsewhere), Err(RoomError::EventNotFound)));
        assert!(matches!(view.state_ids_before(&elsewhere), Err(RoomError::EventNotFound)));
        assert!(matches!(view.auth_chain_of(&elsewhere), Err(RoomError::EventNotFound)));
        assert_eq!(view.backfill(std::slice::from_ref(&elsewhere), 10).unwrap().len(), 0);
        let found = server.rooms.as_server(&other, &scene.far.name).map(drop);
        assert!(matches!(found, Err(RoomError::NotInRoom)));
        let unknown = server.rooms.as_server(&RoomId::parse("!x:y.test").unwrap(), &scene.far.name).map(drop);
        assert!(matches!(unknown, Err(RoomError::RoomNotFound)));
    });
}

#[test]
fn of_what_has_expired_other_servers_are_given_no_content() {
    run(|plain| async move {
        let mut config = rooms::RoomsConfig::default();
        config.retention.enabled = true;
        let server = Server::with_config(plain.store.clone(), config);
        let scene = Scene::new(server, RoomVersion::V11).await;
        let (server, room, alice) = (&scene.server, &scene.room, &scene.alice);
        let fred = scene.far.user("fred");
        scene.far.turn(server, room, &fred, Membership::Join).await;
        let lifetime = object(json!({"max_lifetime": 2 * 24 * 3_600_000}));
        let wish = Draft::state(alice.clone(), "m.room.retention", "", lifetime);
        let wish = server.append(room, wish).await.unwrap();
        let ours = scene.say("ours, old").await;
        let theirs = scene.far.say(server, room, &fred, "theirs, old").await;
        let given = |id: &EventId| {
            let view = scene.view();
            view.pdu_json(&view.event(id).unwrap()).unwrap().get().to_owned()
        };
        assert!(given(&ours).contains("old") && given(&theirs).contains("old"));
        server.clock.advance(std::time::Duration::from_secs(3 * 24 * 3600));
        let new = scene.say("new").await;
        for id in [&ours, &theirs] {
            assert!(!given(id).contains("old"));
        }
        assert!(given(&wish).contains("max_lifetime") && given(&new).contains("new"));
        // The graph keeps its shape: without their content.
        let view = scene.view();
        let history = view.backfill(std::slice::from_ref(&new), 4).unwrap();
        assert_eq!(ids(&history), texts(&[&new, &theirs, &ours, &wish]));
        let written: Vec<String> = history.iter().map(|event| view.pdu_json(event).unwrap().get().to_owned()).collect();
        assert!(written[0].contains("new") && written[3].contains("max_lifetime"));
        assert!(!written[1].contains("old") && !written[2].contains("old"), "{written:?}");
        let missing = view.missing_events(std::slice::from_ref(&new), std::slice::from_ref(&wish), 10, 0).unwrap();
        assert_eq!(ids(&missing), texts(&[&ours, &theirs]));
    });
}

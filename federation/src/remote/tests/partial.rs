//! Joining without the members, and fetching them afterwards.

use std::sync::atomic::Ordering::Relaxed;

use rooms::Draft;

use super::*;
use crate::FederationConfig;

/// A room of `members` of `a.test` and one of `b.test`, whose servers leave members out.
fn large_room(members: usize) -> Arc<Mutex<FarRoom>> {
    let room = far_room(RoomVersion::V11, "public");
    let mut far = room.lock();
    far.omits_members = true;
    for n in 0..members {
        let member = format!("@m{n}:a.test");
        far.add(&member, "m.room.member", Some(&member), json!({"membership": "join"}));
    }
    far.add("@bob:b.test", "m.room.member", Some("@bob:b.test"), json!({"membership": "join"}));
    drop(far);
    room
}

/// A server in the room that names `b.test` too, which gives nothing but its keys.
fn reside_beside_b(here: &Here, room: &Arc<Mutex<FarRoom>>, change: impl Fn(&str, &mut Value) + Send + Sync + 'static) {
    here.world.answer("b.test", |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    here.world.reside("a.test", room, move |endpoint, answer| {
        if endpoint == "send_join" {
            answer["servers_in_room"] = json!(["a.test", "b.test", "b.test", "no name"]);
        }
        change(endpoint, answer);
    });
}

impl Here {
    fn is_partial(&self, nid: RoomNid) -> bool {
        self.federation.rooms.head(nid).unwrap().is_partial()
    }

    async fn until_full(&self, nid: RoomNid) {
        self.until(|| !self.is_partial(nid)).await;
    }

    async fn say(&self, nid: RoomNid, text: &str) {
        let content = object(json!({"msgtype": "m.text", "body": text}));
        let draft = Draft::message(user(ALICE), "m.room.message", content);
        self.federation.rooms.append(nid, vec![draft], None).await.unwrap();
    }

    /// The room's state is that of its servers, and Alice's join.
    #[track_caller]
    fn assert_same_state(&self, room: &Arc<Mutex<FarRoom>>) {
        let nid = self.nid(room);
        let rooms = &self.federation.rooms;
        let head = rooms.head(nid).unwrap();
        let join = rooms.state_event(nid, head.state(), "m.room.member", ALICE).unwrap().unwrap();
        let mut expected: Vec<String> =
            room.lock().state.values().map(|event| event.event_id.as_str().to_owned()).collect();
        expected.push(join.event_id().to_owned());
        expected.sort();
        assert_eq!(self.state(nid), expected);
        assert!(!head.is_partial());
        let is_join =
            |event: &&Arc<spec::pdu::Pdu>| &*event.kind == "m.room.member" && event.content.get().contains("join");
        let members = room.lock().state.values().filter(is_join).count();
        assert_eq!(usize::try_from(head.joined_count()).unwrap(), members + 1);
    }

    /// The questions of the resync.
    fn asked_for_state(&self) -> Vec<String> {
        let asked = self.world.take_asked().into_iter();
        asked.filter(|asked| asked.contains("v1/state") || asked.contains("v1/event")).collect()
    }
}

#[tokio::test]
async fn a_room_is_usable_before_its_members_are_known() {
    let here = Here::new();
    let room = large_room(20);
    reside_beside_b(&here, &room, |_, _| {});
    here.world.hold("state_ids");
    here.join(&room, &["a.test"]).await.unwrap();
    let (nid, rooms) = (here.nid(&room), &here.federation.rooms);
    assert!(here.is_partial(nid));
    assert_eq!(here.membership(&room), Some(Membership::Join));
    let named: Vec<String> = rooms.room_servers(nid).unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(named, ["a.test", "b.test", "here.test"]);
    here.say(nid, "before").await;
    assert!(rooms.state_event(nid, rooms.head(nid).unwrap().state(), "m.room.member", "@m7:a.test").unwrap().is_none());
    here.world.release();
    here.until_full(nid).await;
    here.assert_same_state(&room);
    here.say(nid, "after").await;
    // The state after the last event before the join; its members, and that event, one by one.
    let asked = here.asked_for_state();
    assert_eq!(asked[0], "a.test v1/state_ids");
    assert!(asked[1..].iter().all(|asked| asked == "a.test v1/event"), "{asked:?}");
    assert_eq!(asked.len(), 1 + 20 + 1, "the 20 members of a.test, Bob's join");
}

#[tokio::test]
async fn many_members_come_in_one_answer() {
    let here = Here::new();
    let room = large_room(1200);
    reside_beside_b(&here, &room, |endpoint, answer| {
        if endpoint == "state" {
            // The order in which a server tells the state means nothing.
            answer["pdus"].as_array_mut().unwrap().reverse();
        }
    });
    here.join(&room, &[]).await.unwrap();
    here.until_full(here.nid(&room)).await;
    here.assert_same_state(&room);
    assert_eq!(here.asked_for_state(), ["a.test v1/state_ids", "a.test v1/state", "a.test v1/event"]);
}

#[tokio::test]
async fn the_state_is_taken_from_the_first_server_that_gives_it() {
    let ban = |room: &FarRoom| {
        let mut twin =
            FarRoom { state: room.state.clone(), events: room.events.clone(), ..FarRoom::new(room.version, "public") };
        let banned = twin.add("@host:a.test", "m.room.member", Some(ALICE), json!({"membership": "ban"}));
        (banned.event_id.clone(), wire(&banned))
    };
    let spoilt = [
        "an empty answer",
        "no state",
        "no create event",
        "another room",
        "a ban of the joiner",
        "unknown events",
        "no event of it",
        "nonsense",
    ];
    for what in spoilt {
        let here = Here::new();
        let room = large_room(30);
        let inner = room.clone();
        here.world.answer("a.test", move |asked| {
            let room = inner.lock();
            let endpoint = asked.path[1].as_str();
            let (banned, ban) = ban(&room);
            if what == "a ban of the joiner" && endpoint == "event" && asked.path[2] == banned.as_str() {
                return (StatusCode::OK, json!({"origin": "a.test", "origin_server_ts": 1, "pdus": [ban]}));
            }
            let mut answer = room.answer("a.test", asked);
            match (what, endpoint) {
                (_, "send_join") => answer["servers_in_room"] = json!(["b.test", "a.test"]),
                ("an empty answer", "state_ids") => answer = json!({}),
                ("no state", "state_ids") => answer["pdu_ids"] = json!([]),
                ("no create event", "state_ids") => {
                    let create = room.events[0].event_id.as_str();
                    answer["pdu_ids"].as_array_mut().unwrap().retain(|id| id != create);
                }
                ("another room", "state_ids") => {
                    let mut other = FarRoom::new(room.version, "public");
                    other.add("@host:a.test", "m.room.topic", Some(""), json!({}));
                    answer["pdu_ids"] = other.events.iter().map(|event| event.event_id.as_str()).collect();
                }
                ("a ban of the joiner", "state_ids") => {
                    answer["pdu_ids"].as_array_mut().unwrap().push(banned.as_str().into());
                }
                ("unknown events", "state_ids") => {
                    let ids = answer["pdu_ids"].as_array_mut().unwrap();
                    ids.extend((0..20).map(|n| format!("${n:0>43}").into()));
                }
                ("no event of it", "event") => return (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")),
                ("nonsense", "state_ids") => answer = json!([1, 2]),
                _ => {}
            }
            (StatusCode::OK, answer)
        });
        here.world.reside("b.test", &room, |_, _| {});
        here.join(&room, &["a.test"]).await.unwrap();
        here.until_full(here.nid(&room)).await;
        here.assert_same_state(&room);
        let asked = here.asked_for_state();
        assert_eq!(asked[0], "a.test v1/state_ids", "{what}");
        assert!(asked.contains(&"b.test v1/state_ids".to_owned()), "{what}: {asked:?}");
    }
}

#[tokio::test]
async fn it_is_tried_again_until_some_server_gives_the_state() {
    let here = Here::new();
    let room = large_room(3);
    let fails = Arc::new(std::sync::atomic::AtomicUsize::new(3));
    let (left, inner) = (fails.clone(), room.clone());
    here.world.answer("a.test", move |asked| {
        let is_refused =
            asked.path[1] == "state_ids" && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_refused {
            return (StatusCode::INTERNAL_SERVER_ERROR, refusal("M_UNKNOWN"));
        }
        (StatusCode::OK, inner.lock().answer("a.test", asked))
    });
    here.world.answer("b.test", |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    let before = here.federation.clock.monotonic();
    here.join(&room, &[]).await.unwrap();
    here.until_full(here.nid(&room)).await;
    here.assert_same_state(&room);
    assert_eq!(here.asked_for_state().iter().filter(|asked| asked.contains("state_ids")).count(), 4);
    let elapsed = here.federation.clock.monotonic() - before;
    assert!(elapsed >= Duration::from_secs(5 + 10 + 20), "{elapsed:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_holds_nothing_up_for_ever() {
    let here = Here::new();
    let room = large_room(3);
    reside_beside_b(&here, &room, |_, _| {});
    here.world.reside("b.test", &room, |_, _| {});
    here.world.hold("state_ids");
    here.join(&room, &["a.test"]).await.unwrap();
    let is_asked = || here.asked_for_state().contains(&"b.test v1/state_ids".to_owned());
    here.until_later(Duration::from_secs(1), is_asked).await;
    here.world.release();
    here.until_full(here.nid(&room)).await;
    here.assert_same_state(&room);
}

#[tokio::test]
async fn what_was_begun_goes_on_after_a_restart() {
    let here = Here::new();
    let room = large_room(40);
    reside_beside_b(&here, &room, |_, _| {});
    here.world.hold("state_ids");
    here.join(&room, &["a.test"]).await.unwrap();
    here.until(|| here.asked_for_state() == ["a.test v1/state_ids"]).await;
    let here = here.restart().await;
    let nid = here.nid(&room);
    assert!(here.is_partial(nid));
    here.say(nid, "still here").await;
    here.until(|| here.asked_for_state() == ["a.test v1/state_ids"]).await;
    here.world.release();
    here.until_full(nid).await;
    here.assert_same_state(&room);
    here.world.take_asked();
    let here = here.restart().await;
    here.assert_same_state(&room);
    assert_eq!(here.asked_for_state(), Vec::<String>::new(), "nothing is left to do");
}

#[tokio::test]
async fn members_are_left_out_only_where_that_is_asked_for() {
    let off = FederationConfig { partial_joins: false, ..FederationConfig::default() };
    for (version, config) in [(RoomVersion::V11, off), (RoomVersion::V2, FederationConfig::default())] {
        let here = Here::with_config(config);
        let room = far_room(version, "public");
        room.lock().omits_members = true;
        here.world.reside("a.test", &room, |_, _| {});
        here.join(&room, &[]).await.unwrap();
        assert!(!here.is_partial(here.nid(&room)), "{version}");
        here.assert_same_state(&room);
        // And who leaves them out all the same is not believed.
        let here = Here::with_config(FederationConfig { partial_joins: false, ..FederationConfig::default() });
        here.world.reside("a.test", &room, |endpoint, answer| {
            if endpoint == "send_join" {
                answer["members_omitted"] = true.into();
            }
        });
        assert!(matches!(here.join(&room, &[]).await, Err(RoomError::RemoteUnavailable(_))));
    }
}

#[tokio::test]
async fn a_second_user_comes_in_through_another_server_while_members_are_unknown() {
    let here = Here::new();
    let room = large_room(3);
    reside_beside_b(&here, &room, |_, _| {});
    here.world.hold("state_ids");
    here.join(&room, &["a.test"]).await.unwrap();
    let id = room.lock().id.clone();
    let (nid, bob) = (here.nid(&room), user("@bob:here.test"));
    here.world.take_asked();
    here.federation.join(&bob, &id, &[], Map::new()).await.unwrap();
    let asked = here.world.take_asked();
    assert_eq!(asked, ["a.test v1/make_join", "a.test v2/send_join"]);
    let rooms = &here.federation.rooms;
    let second =
        rooms.state_event(nid, rooms.head(nid).unwrap().state(), "m.room.member", bob.as_str()).unwrap().unwrap();
    assert!(second.flags().has(rooms::EventFlags::TOLD), "the other server passes it on");
    assert!(here.is_partial(nid));
    here.world.release();
    here.until_full(nid).await;
    assert!(rooms.is_server_joined(nid, &name("b.test")).unwrap());
    assert_eq!(rooms.head(nid).unwrap().joined_count(), 4 + 1 + 2);
}

#[tokio::test]
async fn what_newcomers_are_not_shown_is_not_needed() {
    let here = Here::new();
    let room = large_room(30);
    let message = room.lock().add("@m1:a.test", "m.room.message", None, json!({"body": "x", "msgtype": "m.text"}));
    here.world.answer("b.test", |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    let inner = room.clone();
    here.world.answer("a.test", move |asked| {
        if asked.path[1] == "event" && asked.path[2] == message.event_id.as_str() {
            return (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND"));
        }
        (StatusCode::OK, inner.lock().answer("a.test", asked))
    });
    here.join(&room, &[]).await.unwrap();
    here.until_full(here.nid(&room)).await;
    here.assert_same_state(&room);
    let asked = here.asked_for_state();
    assert_eq!(asked.iter().filter(|asked| asked.contains("state_ids")).count(), 2, "before the join itself at last");
}

#[tokio::test]
async fn whoever_leaves_meanwhile_is_followed_by_others() {
    let here = Here::new();
    let room = large_room(3);
    reside_beside_b(&here, &room, |_, _| {});
    here.world.hold("state_ids");
    let (id, rooms) = (room.lock().id.clone(), &here.federation.rooms);
    for joiner in [ALICE, "@bea:here.test"] {
        let joiner = user(joiner);
        here.federation.join(&joiner, &id, &[name("a.test")], Map::new()).await.unwrap();
        assert!(here.is_partial(here.nid(&room)), "{joiner}");
        let (sender, target) = (joiner.clone(), joiner.clone());
        let leave = rooms::MembershipChange { sender, target, membership: Membership::Leave, content: Map::new() };
        rooms.change_membership(&id, leave).await.unwrap();
        assert!(!rooms.is_resident(here.nid(&room)).unwrap(), "{joiner} was the last");
    }
    let carl = user("@carl:here.test");
    here.federation.join(&carl, &id, &[name("a.test")], Map::new()).await.unwrap();
    here.world.release();
    here.until_full(here.nid(&room)).await;
    let carl = rooms.user_nid(&carl).unwrap().unwrap();
    assert_eq!(rooms.membership(here.nid(&room), carl).unwrap().unwrap().membership, Membership::Join);
}

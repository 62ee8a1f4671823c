//! Rooms that are entered without their members: what is thought of them meanwhile, and what is made of it once the state
//! is here.

use std::time::Duration;

use rooms::{Draft, EventFlags, Finish, GivenState, Membership, ReceiptKind, RoomError, Verdict};
use serde_json::json;
use spec::ids::{EventId, ServerName};
use spec::version::RoomVersion;

use crate::server::{Server, object, text};

mod crash;
mod oracle;
mod stage;
mod stays;

use stage::{Stage, VERSIONS};

fn run<F: Future<Output = ()>>(test: impl Fn(Stage) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in VERSIONS {
        runtime.block_on(async { test(Stage::entered(version).await).await });
    }
}

fn member_key(user: &spec::ids::UserId) -> (String, String) {
    ("m.room.member".to_owned(), user.to_string())
}

#[test]
fn a_partial_room_is_usable_and_becomes_a_full_one() {
    run(|stage| async move {
        let nid = stage.nid(&stage.partial);
        let rooms = &stage.partial.rooms;
        let head = rooms.head(nid).unwrap();
        assert!(head.is_partial());
        assert_eq!(rooms.partial_rooms().unwrap(), [nid]);
        let known = rooms.partial_room(nid).unwrap().unwrap();
        assert_eq!((known.join, known.is_replaying), (stage.join.pdu().event_id.clone(), false));
        assert_eq!(known.follows, stage.join.pdu().prev_events);
        assert_eq!(stage.current(&stage.partial).get(&member_key(&stage.fred)), None);
        assert!(stage.current(&stage.partial).contains_key(&member_key(&stage.bob)));
        // The servers that were named count as present.
        for name in ["one.test", "far.test"] {
            assert!(rooms.is_server_joined(nid, &ServerName::parse(name).unwrap()).unwrap());
            assert!(rooms.is_in_partial_room(&ServerName::parse(name).unwrap()).unwrap());
        }
        assert!(!rooms.is_in_partial_room(&ServerName::parse("other.test").unwrap()).unwrap());
        stage.partial.assert_sound();

        // Whoever is not known is who they are said to be.
        let said = stage.far.say(&stage.one, &stage.room, &stage.fred, "hello").await;
        assert_eq!(stage.deliver_to_both(&said).await, (Verdict::Accepted, Verdict::Accepted));
        let event = stage::find(&stage.partial, &stage.room, said.as_str()).unwrap();
        assert!(!rooms.is_state_known(&event).unwrap());
        let cited = rooms.cited_member(&event).unwrap().unwrap();
        assert_eq!(rooms.event_at(nid, cited).unwrap().state_key(), Some(stage.fred.as_str()));
        let view = rooms.as_server(&stage.room, &stage.far.name).unwrap();
        assert!(matches!(view.state_ids_before(&said), Err(RoomError::StateIncomplete)));
        // We speak too.
        stage.partial.say(&stage.room, &stage.bob, "hello too").await;

        assert_eq!(
            rooms.finish_partial(nid).await.map_err(|error| error.to_string()).unwrap_err(),
            "the state before the join is not here"
        );
        stage.begin_replay(&stage.partial).await;
        assert!(rooms.partial_room(nid).unwrap().unwrap().is_replaying);
        assert_eq!(rooms.finish_partial(nid).await.unwrap(), Finish::More);
        stage.replay(&stage.partial, Vec::new()).await;
        assert!(!rooms.head(nid).unwrap().is_partial());
        assert!(rooms.partial_rooms().unwrap().is_empty());
        assert_eq!(rooms.finish_partial(nid).await.unwrap(), Finish::Done, "a second time");
        assert!(rooms.is_state_known(&event).unwrap());
        assert!(rooms.resynced_at(nid).unwrap() > event.pos());
        let mut state = rooms.as_server(&stage.room, &stage.far.name).unwrap().state_ids_before(&said).unwrap().0;
        let mut expected: Vec<EventId> = stage.before.clone();
        expected.push(stage.join.pdu().event_id.clone());
        state.sort();
        expected.sort();
        assert_eq!(state, expected);
        assert_eq!(rooms.missed_servers(nid).unwrap(), []);
        stage.partial.assert_sound();
    });
}

#[test]
fn an_invite_that_the_join_cites_lets_in_where_members_were_left_out() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in VERSIONS {
        runtime.block_on(async {
            let stage = Stage::invited(version).await;
            stage.enter_partial(&stage.partial).await.unwrap();
            assert!(stage.current(&stage.partial).contains_key(&member_key(&stage.bob)));
            stage.begin_replay(&stage.partial).await;
            stage.replay(&stage.partial, Vec::new()).await;
            let nid = stage.full.rooms.begin_room(&stage.room, version).await.unwrap();
            stage.fetch(&stage.full, &stage.before).await;
            stage.full.rooms.enter(nid, stage.join.clone(), stage.before.clone()).await.unwrap();
            stage.assert_same();
        });
    }
}

#[test]
fn what_was_accepted_and_is_not_allowed_is_taken_back() {
    run(|stage| async move {
        let nid = stage.nid(&stage.partial);
        let end = stage.end_of_one();
        // Eve was banned, which is not known in the partial room.
        let lie = Draft::state(stage.eve.clone(), "m.room.topic", "", object(json!({"topic": "lies"})));
        let lie = stage.forge(lie, &end, &stage.of_eve, 100);
        let id = &lie.pdu().event_id;
        assert_eq!(stage.deliver(&stage.partial, &lie).await.unwrap(), Verdict::Accepted);
        assert!(matches!(stage.deliver(&stage.full, &lie).await.unwrap(), Verdict::Rejected(_)));
        assert_eq!(stage.current(&stage.partial)[&("m.room.topic".to_owned(), String::new())], id.as_str());
        let since = stage.partial.store.visible();
        let kick = stage.bogus_kick(&stage.anna, std::slice::from_ref(id), 101);
        assert_eq!(stage.deliver(&stage.partial, &kick).await.unwrap(), Verdict::Accepted);
        stage.deliver(&stage.full, &kick).await.unwrap();
        // So she may not speak, until it is known better.
        let said = stage.one.say(&stage.room, &stage.anna, "I am still here").await;
        let (partial, full) = stage.deliver_to_both(&said).await;
        assert_eq!(full, Verdict::Accepted);
        assert!(!matches!(partial, Verdict::Accepted), "{partial:?}");

        stage.begin_replay(&stage.partial).await;
        stage.replay(&stage.partial, Vec::new()).await;
        stage.assert_same();
        assert!(stage.flags(&stage.partial, id).has(EventFlags::REJECTED));
        // Who follows the state is not told of it again.
        let rooms = &stage.partial.rooms;
        let changes = rooms.state_changes(nid, since, stage.partial.store.visible()).unwrap();
        let told: Vec<String> =
            changes.into_iter().map(|seq| rooms.event_at(nid, seq).unwrap().event_id().to_owned()).collect();
        assert!(!told.contains(&id.to_string()) && !told.contains(&kick.pdu().event_id.to_string()), "{told:?}");
    });
}

#[test]
fn what_came_in_the_wrong_order_or_without_what_it_follows_is_judged_by_its_true_state() {
    run(|stage| async move {
        // States that are resolved are ordered by time.
        stage.one.clock.advance(Duration::from_secs(1));
        let first = stage.far.say(&stage.one, &stage.room, &stage.fred, "first").await;
        stage.far.turn(&stage.one, &stage.room, &stage.fred, Membership::Leave).await;
        let leave = stage.end_of_one().pop().unwrap();
        let topic = Draft::state(stage.anna.clone(), "m.room.topic", "", object(json!({"topic": "gaps"})));
        let topic = stage.one.append(&stage.room, topic).await.unwrap();
        let last = stage.one.say(&stage.room, &stage.alice, "last").await;
        // Children before their parents, and one parent never.
        for id in [&last, &leave, &first] {
            let verdict = stage.deliver(&stage.partial, &stage.check(&stage.event(id))).await.unwrap();
            assert_eq!(verdict == Verdict::Accepted, *id != first, "{verdict:?}");
        }
        let nid = stage.nid(&stage.partial);
        let marked = stage.partial.rooms.partial_events(nid).unwrap();
        let places: Vec<&EventId> = marked.iter().map(|event| &event.id).collect();
        assert_eq!(places, [&stage.join.pdu().event_id, &last, &first, &leave]);
        assert_eq!(marked[1].unknown, std::slice::from_ref(&topic));
        assert!(marked[0].unknown.is_empty());
        stage.partial.assert_sound();

        stage.begin_replay(&stage.partial).await;
        stage.fetch(&stage.partial, std::slice::from_ref(&topic)).await;
        let before = state_before(&stage, &topic);
        stage.fetch(&stage.partial, &before).await;
        let given = GivenState { state: before, then: Some(topic.clone()) };
        stage.replay(&stage.partial, vec![(topic.clone(), given)]).await;
        let judged = stage.judged(&stage.partial);
        let truth = stage.judged(&stage.one);
        for id in [&last, &first, &leave] {
            assert_eq!(judged[id.as_str()], truth[id.as_str()], "{id}");
            assert!(stage.flags(&stage.partial, id).is_visible());
        }
        let mut now = stage.current(&stage.partial);
        assert_eq!(now.remove(&("m.room.topic".to_owned(), String::new())), Some(topic.to_string()));
        stage.partial.assert_sound();
    });
}

fn state_before(stage: &Stage, id: &EventId) -> Vec<EventId> {
    let state = stage::state_at(&stage.one, stage.nid(&stage.one), stage.event(id).state_before());
    state.into_values().map(|id| EventId::parse(id).unwrap()).collect()
}

#[test]
fn events_that_come_while_others_are_judged_again_are_judged_too() {
    run(|stage| async move {
        let nid = stage.nid(&stage.partial);
        for n in 0..5 {
            let id = stage.far.say(&stage.one, &stage.room, &stage.fred, &format!("before {n}")).await;
            stage.deliver_to_both(&id).await;
        }
        stage.begin_replay(&stage.partial).await;
        let marked = stage.partial.rooms.partial_events(nid).unwrap();
        let (some, _) = marked.split_at(3);
        // In the wrong order nothing is judged but what may be.
        let seqs = some.iter().rev().map(|event| event.seq).collect();
        stage.partial.rooms.replay(nid, seqs, Vec::new()).await.unwrap();
        assert_eq!(stage.partial.rooms.partial_events(nid).unwrap().len(), marked.len() - 1);
        let end = stage.end_of_one();
        let kick = stage.bogus_kick(&stage.anna, &end, 50);
        stage.deliver(&stage.partial, &kick).await.unwrap();
        stage.deliver(&stage.full, &kick).await.unwrap();
        let fork = stage.far.prepare(
            &stage.one,
            stage.nid(&stage.one),
            Draft::message(stage.fred.clone(), "m.room.message", text("a fork")),
        );
        stage.one.rooms.receive(fork.clone()).await.unwrap();
        stage.deliver_to_both(&fork.pdu().event_id).await;
        let ours = stage.partial.say(&stage.room, &stage.bob, "meanwhile").await;
        stage.partial.assert_sound();
        let ours = stage.check(&stage::find(&stage.partial, &stage.room, ours.as_str()).unwrap());
        stage.replay(&stage.partial, Vec::new()).await;
        // The other one gets what this one wrote.
        stage.full.rooms.receive(ours).await.unwrap();
        stage.assert_same();
    });
}

#[test]
fn a_state_that_forbids_the_join_or_is_none_of_the_room_is_refused() {
    run(|stage| async move {
        let nid = stage.nid(&stage.partial);
        let join = &stage.join.pdu().event_id;
        stage.fetch(&stage.partial, &stage.before).await;
        let begin = async |state: Vec<EventId>| {
            let given = GivenState { state, then: None };
            stage.partial.rooms.begin_replay(nid, join, vec![given]).await
        };
        assert!(matches!(begin(Vec::new()).await, Err(RoomError::Invalid(_))));
        let without = |kind: &str| -> Vec<EventId> {
            stage.before.iter().filter(|id| stage.event(id).kind() != kind).cloned().collect()
        };
        assert!(matches!(begin(without("m.room.join_rules")).await, Err(RoomError::Forbidden(_))));
        assert!(matches!(begin(without("m.room.create")).await, Err(RoomError::Invalid(_))));
        let other = stage.end_of_one().pop().unwrap();
        let given = vec![GivenState { state: stage.before.clone(), then: None }];
        let unknown = EventId::parse("$0123456789012345678901234567890123456789012").unwrap();
        for wrong in [unknown, stage.before[0].clone()] {
            let refused = stage.partial.rooms.begin_replay(nid, &wrong, given.clone()).await;
            assert!(matches!(refused, Err(RoomError::Refused(_))), "{refused:?} {other}");
        }
        assert!(!stage.partial.rooms.partial_room(nid).unwrap().unwrap().is_replaying);
        begin(stage.before.clone()).await.unwrap();
        begin(stage.before.clone()).await.unwrap();
        stage.replay(&stage.partial, Vec::new()).await;
        stage.assert_same();
    });
}

#[test]
fn who_was_banned_before_cannot_speak_from_before_the_ban() {
    run(|stage| async move {
        // From before the ban she was allowed to: only the present, which the partial room does not know, forbids it.
        let before_ban = stage.event(&stage.before_of_ban());
        let words = Draft::message(stage.eve.clone(), "m.room.message", text("I was here"));
        let words = stage.forge(
            words,
            &[EventId::parse(before_ban.event_id()).unwrap()],
            &stage.of_eve,
            before_ban.depth() + 1,
        );
        assert_eq!(stage.deliver(&stage.partial, &words).await.unwrap(), Verdict::Accepted);
        stage.begin_replay(&stage.partial).await;
        let at = EventId::parse(before_ban.event_id()).unwrap();
        let state = state_before(&stage, &at);
        stage.fetch(&stage.partial, &state).await;
        stage.fetch(&stage.partial, std::slice::from_ref(&at)).await;
        let given = GivenState { state, then: Some(at.clone()) };
        stage.replay(&stage.partial, vec![(at, given)]).await;
        let flags = stage.flags(&stage.partial, &words.pdu().event_id);
        assert!(flags.has(EventFlags::SOFT_FAILED) && !flags.has(EventFlags::REJECTED), "{flags:?}");
        assert_eq!(stage.current(&stage.partial), stage.current(&stage.full));
        stage.partial.assert_sound();
    });
}

impl Stage {
    /// The event that Eve's ban follows.
    fn before_of_ban(&self) -> EventId {
        let ban = current_member(self, &self.eve);
        self.check(&self.event(&ban)).pdu().prev_events[0].clone()
    }
}

fn current_member(stage: &Stage, user: &spec::ids::UserId) -> EventId {
    EventId::parse(&stage.current(&stage.one)[&member_key(user)]).unwrap()
}

#[test]
fn servers_that_were_not_named_or_wrongly_believed_gone_are_noted() {
    run(|stage| async move {
        let (rooms, nid) = (&stage.partial.rooms, stage.nid(&stage.partial));
        // Nobody named it, and yet a user of it is in the room.
        let server = Server::named("two.test", 2);
        let told: Vec<EventId> =
            stage.before.iter().filter(|id| stage.event(id).kind() != "m.room.member").cloned().collect();
        let other = server.rooms.begin_room(&stage.room, stage.version).await.unwrap();
        stage.fetch(&server, &told).await;
        let via = ServerName::parse("one.test").unwrap();
        server.rooms.enter_partial(other, stage.join.clone(), told, &via, vec![via.clone()]).await.unwrap();
        assert!(!server.rooms.is_server_joined(other, &stage.far.name).unwrap());
        stage.begin_replay(&server).await;
        stage.replay(&server, Vec::new()).await;
        let join = stage::find(&server, &stage.room, stage.join.pdu().event_id.as_str()).unwrap();
        assert_eq!(server.rooms.missed_servers(other).unwrap(), [(stage.far.name.clone(), join.pos())]);
        assert_eq!(server.rooms.rooms_with_missed_servers().unwrap(), [other]);
        server.rooms.forget_missed(other, std::slice::from_ref(&stage.far.name)).await.unwrap();
        assert_eq!(server.rooms.missed_servers(other).unwrap(), []);
        // One that was named has heard everything, whatever was thought of its users.
        let kick = stage.bogus_kick(&stage.fred, &stage.end_of_one(), 100);
        stage.deliver(&stage.partial, &kick).await.unwrap();
        assert!(rooms.is_server_joined(nid, &stage.far.name).unwrap());
        stage.begin_replay(&stage.partial).await;
        stage.replay(&stage.partial, Vec::new()).await;
        assert_eq!(rooms.missed_servers(nid).unwrap(), []);
        let stay = rooms.room_servers(nid).unwrap()[&stage.far.name];
        assert_eq!((stay.joined, stay.since, stay.until), (1, join.seq(), None));
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that waits for its own tasks")]
fn calls_that_need_all_members_wait_for_them() {
    run(|stage| async move {
        let (rooms, nid) = (stage.partial.rooms.clone(), stage.nid(&stage.partial));
        let second = Duration::from_secs(1);
        let waiting = {
            let rooms = rooms.clone();
            tokio::spawn(async move { rooms.wait_full_state(nid, Duration::MAX).await })
        };
        let short = {
            let rooms = rooms.clone();
            tokio::spawn(async move { rooms.wait_full_state(nid, second).await })
        };
        while !short.is_finished() {
            stage.partial.clock.advance(second);
            tokio::task::yield_now().await;
        }
        assert!(!short.await.unwrap().unwrap());
        assert!(!waiting.is_finished());
        stage.begin_replay(&stage.partial).await;
        stage.replay(&stage.partial, Vec::new()).await;
        assert!(waiting.await.unwrap().unwrap());
        assert!(rooms.wait_full_state(nid, second).await.unwrap());
    });
}

#[test]
fn whom_a_partial_room_does_not_know_another_server_lets_in() {
    run(|stage| async move {
        let (bea, bea_nid) = stage.partial.user("bea").await;
        for entry in [Membership::Join, Membership::Knock] {
            let refused = stage.partial.change(&stage.room, &bea, &bea, entry).await;
            assert!(matches!(refused, Err(RoomError::NotResident)), "{refused:?}");
        }
        // Nothing happens to those who are in it.
        stage.partial.change(&stage.room, &stage.bob, &stage.bob, Membership::Join).await.unwrap();
        stage.one.rooms.intern_user(&bea).await.unwrap();
        crate::foreign::set_member(&stage.one, &stage.room, &stage.alice, &bea, Membership::Ban).await;
        let ban = stage.end_of_one().pop().unwrap();
        stage.deliver_to_both(&ban).await;
        assert_eq!(
            stage.partial.rooms.membership(stage.nid(&stage.partial), bea_nid).unwrap().unwrap().membership,
            Membership::Ban
        );
        let join = stage.partial.change(&stage.room, &bea, &bea, Membership::Join).await;
        assert!(matches!(join, Err(RoomError::Refused(_))), "{join:?}");
        stage.partial.change(&stage.room, &stage.bob, &stage.bob, Membership::Leave).await.unwrap();
        let left = stage.partial.rooms.wait_full_state(stage.nid(&stage.partial), Duration::from_secs(60)).await;
        assert!(left.unwrap(), "nobody fetches the state of a room that was left");
        stage.partial.assert_sound();
        stage.begin_replay(&stage.partial).await;
        stage.replay(&stage.partial, Vec::new()).await;
        stage.partial.assert_sound();
    });
}

#[test]
fn rooms_whose_events_have_chosen_ids_are_not_entered_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = (Server::named("one.test", 1), Server::named("two.test", 2));
        let (alice, _) = one.user("alice").await;
        let room = one.create(&alice, RoomVersion::V1, rooms::Preset::PublicChat).await;
        let create = one.rooms.event_at(one.rooms.known_room(&room).unwrap(), rooms::RoomSeq(1)).unwrap();
        let create = rooms::CheckedPdu::of_ours(create.to_pdu().unwrap().into());
        let nid = two.rooms.begin_room(&room, RoomVersion::V1).await.unwrap();
        let via = ServerName::parse("one.test").unwrap();
        let refused = two.rooms.enter_partial(nid, create, Vec::new(), &via, Vec::new()).await;
        assert!(matches!(refused, Err(RoomError::Invalid(_))), "{refused:?}");
    });
}

#[test]
fn what_is_known_of_our_users_stays_and_a_room_is_entered_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::set(RoomVersion::V11).await;
        let server = &stage.partial;
        // Invited before we came, which the state that is told does not say.
        let (bea, bea_nid) = server.user("bea").await;
        let invite = crate::foreign::member(&stage.fred, &bea, Membership::Invite);
        let invite = stage.far.send(&stage.one, &stage.room, invite).await;
        let invite = stage.check(&stage.event(&invite));
        server.rooms.receive_invite(invite.clone(), stage.version, Vec::new()).await.unwrap();
        stage.enter_partial(server).await.unwrap();
        let nid = stage.nid(server);
        let membership = |user| server.rooms.membership(nid, user).unwrap().map(|row| row.membership);
        assert_eq!(membership(bea_nid), Some(Membership::Invite));
        assert_eq!(server.rooms.head(nid).unwrap().invited_count(), 1);
        server.assert_sound();
        stage.deliver(server, &invite).await.unwrap();
        assert_eq!(server.rooms.head(nid).unwrap().invited_count(), 1);

        let said = server.say(&stage.room, &stage.bob, "I come and go").await;
        let leave = crate::foreign::member(&stage.bob, &stage.bob, Membership::Leave);
        let leave = server.append(&stage.room, leave).await.unwrap();
        for id in [&said, &leave] {
            stage
                .one
                .rooms
                .receive(stage.check(&stage::find(server, &stage.room, id.as_str()).unwrap()))
                .await
                .unwrap();
        }
        stage.one.say(&stage.room, &stage.alice, "meanwhile").await;
        let again = stage.next_stay().await;
        again.enter_partial(server).await.unwrap();
        server.assert_sound();
        let old = stage::find(server, &stage.room, said.as_str()).unwrap();
        again.begin_replay(server).await;
        again.replay(server, Vec::new()).await;
        server.assert_sound();
        assert_eq!(again.current(server), again.current(&again.one));
        assert_eq!(membership(bea_nid), Some(Membership::Invite));
        // The state before the first join was never known here.
        assert!(!server.rooms.is_state_known(&old).unwrap());
        let join = stage::find(server, &stage.room, again.join.pdu().event_id.as_str()).unwrap();
        assert!(server.rooms.is_state_known(&join).unwrap());
        assert_eq!(
            server.rooms.members(nid).unwrap().len(),
            again.one.rooms.members(again.nid(&again.one)).unwrap().len()
        );
    });
}

#[test]
fn a_room_that_is_entered_with_its_whole_state_is_partial_no_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::set(RoomVersion::V12).await;
        let server = &stage.partial;
        stage.enter_partial(server).await.unwrap();
        let nid = stage.nid(server);
        let leave = crate::foreign::member(&stage.bob, &stage.bob, Membership::Leave);
        let leave = server.append(&stage.room, leave).await.unwrap();
        stage.one.rooms.receive(stage.check(&stage::find(server, &stage.room, leave.as_str()).unwrap())).await.unwrap();
        let again = stage.next_stay().await;
        again.fetch(server, &again.before).await;
        server.rooms.enter(nid, again.join.clone(), again.before.clone()).await.unwrap();
        assert!(!server.rooms.head(nid).unwrap().is_partial());
        assert!(server.rooms.partial_events(nid).unwrap().is_empty());
        assert_eq!(server.rooms.finish_partial(nid).await.unwrap(), Finish::Done);
        assert_eq!(again.present(server), again.present(&again.one));
        server.assert_sound();
        // What was said about servers is forgotten: only members count.
        server.change(&stage.room, &stage.bob, &stage.bob, Membership::Leave).await.unwrap();
        assert!(!server.rooms.is_in_partial_room(&stage.far.name).unwrap());
    });
}

#[test]
fn a_receipt_for_an_unknown_event_stays_until_one_for_a_known_event_comes() {
    run(|stage| async move {
        let (rooms, nid) = (&stage.partial.rooms, stage.nid(&stage.partial));
        let fred = rooms.intern_user(&stage.fred).await.unwrap();
        let latest = || {
            let receipts = rooms.user_receipts(nid, fred).unwrap().into_iter();
            receipts.map(|receipt| (receipt.event_id.to_string(), receipt.at)).collect::<Vec<_>>()
        };
        rooms.note_receipt(nid, fred, None, &"$".repeat(256), 1).await.unwrap();
        assert_eq!(latest(), []);
        for (id, at) in [("no event id", 5), ("another", 6)] {
            rooms.note_receipt(nid, fred, None, id, at).await.unwrap();
            assert_eq!(latest(), [(id.to_owned(), at)]);
        }
        let said = stage.far.say(&stage.one, &stage.room, &stage.fred, "hello").await;
        stage.deliver(&stage.partial, &stage.check(&stage.event(&said))).await.unwrap();
        rooms.set_receipts_at(nid, fred, &[(ReceiptKind::Read, None, &said)], 7).await.unwrap();
        rooms.note_receipt(nid, fred, None, "a third", 8).await.unwrap();
        assert_eq!(latest(), [(said.to_string(), 7)]);
        stage.partial.assert_sound();
    });
}

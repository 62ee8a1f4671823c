//! Joining, leaving and knocking.

use std::collections::BTreeSet;

use rooms::{Membership, Preset};
use serde_json::{Value, json};
use spec::hash;
use spec::ids::{RoomId, UserId};
use spec::pdu::ReceivedPdu;
use spec::version::RoomVersion;

use crate::bed::{Server, assert_refused, make_path, object, run, send_path};

fn types(events: &Value) -> BTreeSet<String> {
    let events = events.as_array().unwrap().iter();
    events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// Every event of an answer is signed by this server, and its id is as it should be.
fn assert_genuine(events: &Value, version: RoomVersion, server: &Server) {
    for event in events.as_array().unwrap() {
        let received = ReceivedPdu::check(object(event.clone()), version.rules()).unwrap();
        let key = |_: &_, id: &str| (id == server.key.key_id()).then(|| server.key.verify_key());
        received.verify_signatures(version.rules(), key).unwrap();
    }
}

#[test]
fn a_user_of_another_server_joins() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V10, RoomVersion::V11, RoomVersion::V12] {
            let room = here.create(&alice, version, Preset::PublicChat).await;
            let answer = there.join(&here, &room, &bob).await.unwrap();
            assert_eq!(here.membership(&room, &bob), Some(Membership::Join), "{version}");
            assert_eq!(answer["origin"], "hs.test");
            assert_eq!(answer["members_omitted"], false);
            assert_eq!(answer["event"]["state_key"], bob.as_str());
            let state = types(&answer["state"]);
            for kind in ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules"] {
                assert!(state.contains(kind), "{version}: {kind}");
            }
            // Room version 12 cites no create event: the room's id is its id.
            let cites_create = !version.rules().room_id_is_create_hash;
            assert_eq!(types(&answer["auth_chain"]).contains("m.room.create"), cites_create);
            assert!(types(&answer["auth_chain"]).contains("m.room.power_levels"));
            assert_genuine(&answer["state"], version, &here);
            assert_genuine(&answer["auth_chain"], version, &here);
            // The state is that before the join.
            assert!(answer["state"].as_array().unwrap().iter().all(|event| event["state_key"] != bob.as_str()));
        }
    });
}

#[test]
fn the_first_version_wraps_its_answers() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        let answer = there.put(&here, &send_path("v1/send_join", &room, &id), &Value::Object(event)).await.unwrap();
        assert_eq!(answer[0], 200);
        assert!(types(&answer[1]["state"]).contains("m.room.create"));
        let (event, id) = there.make(&here, "make_leave", &room, &bob, |_| ()).await.unwrap();
        let answer = there.put(&here, &send_path("v1/send_leave", &room, &id), &Value::Object(event)).await.unwrap();
        assert_eq!(answer, json!([200, {}]));
        assert_eq!(here.membership(&room, &bob), Some(Membership::Leave));
    });
}

#[test]
fn a_room_that_is_larger_than_one_piece_arrives_whole() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        for number in 0..150 {
            let topic = json!({"text": "x".repeat(1000)});
            here.set(&room, &alice, "test.state", &number.to_string(), topic).await;
        }
        let answer = there.join(&here, &room, &there.user_id("bob")).await.unwrap();
        assert!(answer["state"].to_string().len() > 150_000);
        let of_test = |event: &&Value| event["type"] == "test.state";
        assert_eq!(answer["state"].as_array().unwrap().iter().filter(of_test).count(), 150);
        for part in ["state", "auth_chain"] {
            let events = answer[part].as_array().unwrap();
            let ids: BTreeSet<String> = events.iter().map(Value::to_string).collect();
            assert_eq!(ids.len(), events.len(), "{part}: each event once");
        }
        assert_genuine(&answer["state"], RoomVersion::V11, &here);
    });
}

#[test]
fn a_join_that_is_sent_twice_is_answered_twice() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        let path = format!("{}?omit_members=true", send_path("v2/send_join", &room, &id));
        let first = there.put(&here, &path, &Value::Object(event.clone())).await.unwrap();
        let second = there.put(&here, &path, &Value::Object(event)).await.unwrap();
        assert_eq!(first["state"], second["state"]);
        assert_eq!(first["servers_in_room"], json!(["hs.test"]));
    });
}

/// Type and state key of each event, sorted.
fn keys(events: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = events.as_array().unwrap().iter();
    let mut keys: Vec<_> = events.map(|event| (text(&event["type"]), text(&event["state_key"]))).collect();
    keys.sort();
    keys
}

/// Every event that the join or another event of the answer cites is in the answer, and none twice.
fn assert_closed(answer: &Value, version: RoomVersion) {
    let received = |event: &Value| ReceivedPdu::check(object(event.clone()), version.rules()).unwrap();
    let parts = ["state", "auth_chain"].map(|part| answer[part].as_array().unwrap().iter());
    let events: Vec<ReceivedPdu> = parts.into_iter().flatten().map(received).collect();
    let ids: BTreeSet<_> = events.iter().map(|event| event.event_id().clone()).collect();
    assert_eq!(ids.len(), events.len(), "an event came twice");
    for event in events.iter().chain([&received(&answer["event"])]) {
        for id in &event.unverified().auth_events {
            assert!(ids.contains(id), "{id} is missing for {}", event.event_id());
        }
    }
}

#[test]
fn a_room_without_a_name_is_told_with_its_heroes_and_no_other_members() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let version = RoomVersion::V11;
        let room = here.create_named(&alice, version, Preset::PublicChat, Vec::new(), None).await;
        let (bob, _) = here.user("bob").await;
        here.change(&room, &bob, &bob, Membership::Join).await.unwrap();
        let answer = there.join_partially(&here, &room, &there.user_id("carol")).await.unwrap();
        assert_eq!(answer["members_omitted"], true);
        let member = |user: &UserId| ("m.room.member".to_owned(), user.as_str().to_owned());
        let plain = |kind: &str| (kind.to_owned(), String::new());
        let mut expected = vec![member(&alice), member(&bob)];
        let kinds = ["create", "guest_access", "history_visibility", "join_rules", "power_levels"];
        expected.extend(kinds.map(|kind| plain(&format!("m.room.{kind}"))));
        expected.sort();
        assert_eq!(keys(&answer["state"]), expected);
        assert_eq!(keys(&answer["auth_chain"]), [], "all of it is in the state");
        assert_eq!(answer["servers_in_room"], json!(["hs.test"]));
        assert_closed(&answer, version);

        // Five are enough, whoever they are; who joins is none of them.
        for n in 0..10 {
            let (user, _) = here.user(&format!("user{n}")).await;
            here.change(&room, &user, &user, Membership::Join).await.unwrap();
        }
        let dave = there.user_id("dave");
        let answer = there.join_partially(&here, &room, &dave).await.unwrap();
        let heroes: Vec<_> = keys(&answer["state"]).into_iter().filter(|(kind, _)| kind == "m.room.member").collect();
        assert_eq!(heroes.len(), 5);
        assert!(!heroes.contains(&member(&dave)));
        assert_eq!(answer["servers_in_room"], json!(["hs.test", "remote.test"]));
        assert_closed(&answer, version);
    });
}

#[test]
fn a_named_room_is_told_without_members_but_those_that_authorise() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, carol) = (there.user_id("bob"), there.user_id("carol"));
        for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
            let room = here.create(&alice, version, Preset::PublicChat).await;
            let (user, _) = here.user(&format!("user{version}")).await;
            here.change(&room, &user, &user, Membership::Join).await.unwrap();
            let levels =
                json!({"users": if version == RoomVersion::V12 { json!({}) } else { json!({alice.as_str(): 100}) }});
            here.set(&room, &alice, "m.room.power_levels", "", levels).await;
            let answer = there.join_partially(&here, &room, &bob).await.unwrap();
            assert!(!types(&answer["state"]).contains("m.room.member"), "{version}");
            assert!(types(&answer["state"]).contains("m.room.name"), "{version}");
            // The power levels that were, and who set them.
            let expected: Vec<(String, String)> = [("m.room.member", alice.as_str()), ("m.room.power_levels", "")]
                .map(|(kind, key)| (kind.to_owned(), key.to_owned()))
                .into();
            assert!(keys(&answer["auth_chain"]).starts_with(&expected[..1]), "{version}");
            assert!(keys(&answer["auth_chain"]).ends_with(&expected[1..]), "{version}");
            assert_closed(&answer, version);
            assert_genuine(&answer["state"], version, &here);
        }
        // The chain of a join on invitation holds the invitation, which nothing of the state cites.
        let room = here.create(&alice, RoomVersion::V10, Preset::PrivateChat).await;
        here.rooms.intern_user(&carol).await.unwrap();
        let invite = json!({"membership": "invite"});
        here.set(&room, &alice, "m.room.member", carol.as_str(), invite).await;
        let answer = there.join_partially(&here, &room, &carol).await.unwrap();
        assert!(keys(&answer["auth_chain"]).contains(&("m.room.member".into(), carol.as_str().into())));
        assert_closed(&answer, RoomVersion::V10);
    });
}

#[test]
fn templates_are_refused_for_what_the_room_or_the_request_lacks() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let open = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let closed = here.create(&alice, RoomVersion::V10, Preset::PrivateChat).await;
        let make = async |room: &RoomId, user: &UserId| there.get(&here, &make_path("make_join", room, user)).await;
        assert_refused(make(&RoomId::parse("!none:hs.test").unwrap(), &bob).await, 404, "M_NOT_FOUND");
        assert_refused(make(&closed, &bob).await, 403, "M_FORBIDDEN");
        assert_refused(make(&open, &alice).await, 403, "M_FORBIDDEN");
        let path = make_path("make_join", &open, &bob);
        let (path, _) = path.split_once('?').unwrap();
        for query in ["", "?ver=1&ver=11"] {
            let refused = there.get(&here, &format!("{path}{query}")).await;
            match refused {
                Err(federation::RemoteError::Refused { status, errcode, body, .. }) => {
                    assert_eq!((status.as_u16(), &*errcode), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
                    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["room_version"], "10");
                }
                other => panic!("{other:?}"),
            }
        }
        here.rooms.intern_user(&bob).await.unwrap();
        here.change(&open, &alice, &bob, Membership::Ban).await.unwrap();
        assert_refused(make(&open, &bob).await, 403, "M_FORBIDDEN");
    });
}

#[test]
fn rooms_that_everybody_here_has_left_are_no_way_in() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, carol) = (there.user_id("bob"), there.user_id("carol"));
        let room = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        there.join(&here, &room, &bob).await.unwrap();
        here.change(&room, &alice, &alice, Membership::Leave).await.unwrap();
        assert_refused(there.join(&here, &room, &carol).await, 404, "M_NOT_FOUND");
    });
}

#[test]
fn servers_that_the_room_keeps_out_are_refused_everywhere() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        let join = Value::Object(event);
        let acl = json!({"allow": ["*"], "deny": ["remote.test"]});
        here.set(&room, &alice, "m.room.server_acl", "", acl).await;
        for kind in ["make_join", "make_leave", "make_knock"] {
            assert_refused(there.get(&here, &make_path(kind, &room, &bob)).await, 403, "M_FORBIDDEN");
        }
        for kind in ["v1/send_join", "v2/send_join", "v1/send_leave", "v2/send_leave", "v1/send_knock"] {
            assert_refused(there.put(&here, &send_path(kind, &room, &id), &join).await, 403, "M_FORBIDDEN");
        }
        let room_id = crate::bed::escape(room.as_str());
        let event_id = crate::bed::escape(id.as_str());
        for path in [
            format!("state/{room_id}?event_id={event_id}"),
            format!("state_ids/{room_id}?event_id={event_id}"),
            format!("backfill/{room_id}?v={event_id}&limit=1"),
            format!("event_auth/{room_id}/{event_id}"),
            format!("timestamp_to_event/{room_id}?ts=1&dir=f"),
            format!("hierarchy/{room_id}"),
        ] {
            assert_refused(there.get(&here, &path).await, 403, "M_FORBIDDEN");
        }
        let missing = federation::Ask::post(
            format!("/_matrix/federation/v1/get_missing_events/{room_id}"),
            &json!({"earliest_events": [], "latest_events": []}),
        );
        assert_refused(there.ask(&here, missing).await, 403, "M_FORBIDDEN");
        assert_eq!(here.membership(&room, &bob), None);
    });
}

#[test]
fn events_that_are_no_join_are_refused() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let (bob, carol) = (there.user_id("bob"), there.user_id("carol"));
        let room = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let other = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        type Change = Box<dyn FnOnce(&mut serde_json::Map<String, Value>)>;
        let carol_key = carol.as_str().to_owned();
        let alice_id = alice.as_str().to_owned();
        let changes: Vec<Change> = vec![
            Box::new(|event| drop(event.insert("type".into(), "m.room.name".into()))),
            Box::new(|event| event["content"]["membership"] = "invite".into()),
            Box::new(move |event| drop(event.insert("state_key".into(), carol_key.into()))),
            Box::new(move |event| {
                event.insert("sender".into(), alice_id.clone().into());
                event.insert("state_key".into(), alice_id.into());
            }),
            Box::new(move |event| drop(event.insert("room_id".into(), other.as_str().into()))),
        ];
        for change in changes {
            let (event, id) = there.make(&here, "make_join", &room, &bob, change).await.unwrap();
            let sent = there.put(&here, &send_path("v2/send_join", &room, &id), &Value::Object(event)).await;
            assert_refused(sent, 400, "M_INVALID_PARAM");
        }
        // Another id in the path, a content that was changed after signing, a signature by nobody.
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        let wrong = spec::ids::EventId::parse("$another").unwrap();
        let sent = there.put(&here, &send_path("v2/send_join", &room, &wrong), &Value::Object(event.clone())).await;
        assert_refused(sent, 400, "M_INVALID_PARAM");
        let mut changed = event.clone();
        changed["content"]["displayname"] = "Mallory".into();
        let sent = there.put(&here, &send_path("v2/send_join", &room, &id), &Value::Object(changed)).await;
        assert_refused(sent, 400, "M_INVALID_PARAM");
        let mut unsigned = event;
        unsigned.insert("signatures".into(), json!({}));
        let sent = there.put(&here, &send_path("v2/send_join", &room, &id), &Value::Object(unsigned)).await;
        assert_refused(sent, 400, "M_INVALID_PARAM");
        assert_eq!(here.membership(&room, &bob), None);
    });
}

#[test]
fn a_ban_that_comes_between_the_halves_keeps_the_user_out() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let room = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        here.rooms.intern_user(&bob).await.unwrap();
        here.change(&room, &alice, &bob, Membership::Ban).await.unwrap();
        let path = send_path("v2/send_join", &room, &id);
        assert_refused(there.put(&here, &path, &Value::Object(event.clone())).await, 403, "M_FORBIDDEN");
        // Nor is it any better for being known already.
        assert_refused(there.put(&here, &path, &Value::Object(event)).await, 403, "M_FORBIDDEN");
        assert_eq!(here.membership(&room, &bob), Some(Membership::Ban));
    });
}

/// A room that members of `allowed` may join.
async fn restricted(here: &Server, creator: &UserId, allowed: &[&RoomId]) -> RoomId {
    let allow: Vec<Value> =
        allowed.iter().map(|room| json!({"type": "m.room_membership", "room_id": room.as_str()})).collect();
    let rule = json!({"join_rule": "restricted", "allow": allow});
    here.create_with(creator, RoomVersion::V10, Preset::PrivateChat, vec![("m.room.join_rules", rule)]).await
}

#[test]
fn restricted_rooms_are_opened_by_membership_of_another_and_by_who_may_invite() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let space = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let room = restricted(&here, &alice, &[&space]).await;
        assert_refused(there.join(&here, &room, &bob).await, 403, "M_FORBIDDEN");
        let unknown = RoomId::parse("!elsewhere:remote.test").unwrap();
        let far = restricted(&here, &alice, &[&unknown]).await;
        assert_refused(there.join(&here, &far, &bob).await, 400, "M_UNABLE_TO_AUTHORISE_JOIN");
        there.join(&here, &space, &bob).await.unwrap();
        let answer = there.join_partially(&here, &room, &bob).await.unwrap();
        // Who vouches is told too, as the join cites them.
        assert_closed(&answer, RoomVersion::V10);
        let event = &answer["event"];
        assert_eq!(event["content"]["join_authorised_via_users_server"], alice.as_str());
        let mut signed = object(event.clone());
        signed.remove("unsigned");
        let redacted = hash::redacted_bytes(&signed, RoomVersion::V10.rules());
        let signature = signed["signatures"]["hs.test"][here.key.key_id()].as_str().unwrap();
        here.key.verify_key().verify(&redacted, signature).unwrap();
        assert_eq!(here.membership(&room, &bob), Some(Membership::Join));
        // A condition is met, but nobody here has the power.
        let rule =
            json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space.as_str()}]});
        let state = vec![("m.room.join_rules", rule)];
        let strict = here.create_with(&alice, RoomVersion::V10, Preset::PrivateChat, state).await;
        let levels = json!({"invite": 100, "users": {alice.as_str(): 50}});
        here.set(&strict, &alice, "m.room.power_levels", "", levels).await;
        assert_refused(there.join(&here, &strict, &bob).await, 400, "M_UNABLE_TO_GRANT_JOIN");
    });
}

#[test]
fn nobody_is_vouched_for_without_a_reason() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let space = here.create(&alice, RoomVersion::V10, Preset::PublicChat).await;
        let room = restricted(&here, &alice, &[&space]).await;
        there.join(&here, &space, &bob).await.unwrap();
        let (event, id) = there.make(&here, "make_join", &room, &bob, |_| ()).await.unwrap();
        // Between the halves the reason is gone.
        here.change(&space, &alice, &bob, Membership::Leave).await.unwrap();
        let sent = there.put(&here, &send_path("v2/send_join", &room, &id), &Value::Object(event)).await;
        assert_refused(sent, 403, "M_FORBIDDEN");
        assert_eq!(here.membership(&room, &bob), None);
    });
}

#[test]
fn a_knock_is_answered_with_what_the_room_shows() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let bob = there.user_id("bob");
        let rule = vec![("m.room.join_rules", json!({"join_rule": "knock"}))];
        let room = here.create_with(&alice, RoomVersion::V12, Preset::PrivateChat, rule).await;
        let (event, id) = there.make(&here, "make_knock", &room, &bob, |_| ()).await.unwrap();
        let path = send_path("v1/send_knock", &room, &id);
        let answer = there.put(&here, &path, &Value::Object(event)).await.unwrap();
        assert_eq!(here.membership(&room, &bob), Some(Membership::Knock));
        let shown = &answer["knock_room_state"];
        assert!(types(shown).is_superset(&["m.room.create", "m.room.name"].map(str::to_owned).into()));
        assert!(!types(shown).contains("m.room.member"));
        assert_genuine(shown, RoomVersion::V12, &here);
        // And withdrawn.
        let (event, id) = there.make(&here, "make_leave", &room, &bob, |_| ()).await.unwrap();
        there.put(&here, &send_path("v2/send_leave", &room, &id), &Value::Object(event)).await.unwrap();
        assert_eq!(here.membership(&room, &bob), Some(Membership::Leave));
        let closed = here.create(&alice, RoomVersion::V12, Preset::PrivateChat).await;
        assert_refused(there.get(&here, &make_path("make_knock", &closed, &bob)).await, 403, "M_FORBIDDEN");
        let old = here.create(&alice, RoomVersion::V6, Preset::PublicChat).await;
        assert_refused(there.get(&here, &make_path("make_knock", &old, &bob)).await, 403, "M_FORBIDDEN");
    });
}

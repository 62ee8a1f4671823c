//! What an enemy does to a room's graph.

use std::sync::Arc;

use rooms::{EventFlags, Membership, Preset};
use serde_json::{Value, json};
use spec::ids::EventId;
use spec::pdu::Pdu;
use testkit::sim::wire;

use crate::arena::{Arena, in_each_version};

/// The room's power levels with changes.
fn levels(arena: &Arena, change: impl FnOnce(&mut Value)) -> Value {
    let (_, mut content) = arena.world.state_event(0, "m.room.power_levels", "").unwrap();
    change(&mut content);
    content
}

fn ids(events: &[&Arc<Pdu>]) -> Vec<String> {
    events.iter().map(|event| event.event_id.as_str().to_owned()).collect()
}

#[test]
fn a_ban_holds_against_what_was_sent_beside_it() {
    in_each_version(|arena| {
        let Arena { world, enemy, .. } = &arena;
        // The last server does not hear of the ban for a while.
        world.network.cut(world.servers[0].name(), world.servers[2].name());
        world.network.cut(world.servers[1].name(), world.servers[2].name());
        let topic = arena.sign(arena.event("test.note", Some(""), json!({"topic": "mine"})));
        let message = arena.sign(arena.message("beside the ban").with("prev_events", json!(ids(&[&topic]))));
        world.change(0, &enemy.user, Membership::Ban).unwrap();
        arena.send_events(2, &[&topic, &message]);
        assert!(arena.has_accepted(2, &topic.event_id), "the last server knows no better");
        arena.settle();
        // The first server hears of it after the ban.
        arena.send_events(0, &[&topic, &message]);
        assert!(!arena.has_accepted(0, &topic.event_id), "the first server knows of the ban");
        world.drain();
        arena.world.come_to_rest();
        for server in 0..3 {
            let (_, member) = world.state_event(server, "m.room.member", enemy.user.as_str()).unwrap();
            assert_eq!(member["membership"], "ban");
            assert!(world.state_event(server, "test.note", "").is_none_or(|(id, _)| id != topic.event_id));
        }
        // What follows the ban is rejected.
        let after = arena.sign(arena.message("after the ban"));
        arena.send_events(1, &[&after]);
        arena.end(&[&after.event_id]);
    });
}

#[test]
fn nobody_gives_themselves_power() {
    in_each_version(|arena| {
        let user = arena.enemy.user.as_str().to_owned();
        let crowned = levels(&arena, |content| content["users"][&user] = 100.into());
        let crown = arena.sign(arena.event("m.room.power_levels", Some(""), crowned));
        // Built on it, and citing it.
        let topic = arena.event("test.note", Some(""), json!({"topic": "mine"}));
        let with_crown = |auth: &Value| {
            let mut auth: Vec<Value> = auth.as_array().unwrap().clone();
            auth.push(crown.event_id.as_str().into());
            Value::Array(auth)
        };
        let levels_id = arena.world.state_event(0, "m.room.power_levels", "").unwrap().0;
        let object = topic.clone().into_object();
        let without_levels: Vec<Value> = with_crown(&object["auth_events"])
            .as_array()
            .unwrap()
            .iter()
            .filter(|id| **id != levels_id.as_str())
            .cloned()
            .collect();
        let topic =
            arena.sign(topic.with("auth_events", json!(without_levels)).with("prev_events", json!(ids(&[&crown]))));
        let both = arena.message("two power levels");
        let both_auth = with_crown(&both.clone().into_object()["auth_events"]);
        let both = arena.sign(both.with("auth_events", both_auth));
        for server in 0..3 {
            arena.send_events(server, &[&crown, &topic, &both]);
        }
        arena.end(&[&crown.event_id, &topic.event_id, &both.event_id]);
    });
}

#[test]
fn servers_agree_after_a_fight_about_power() {
    in_each_version(|arena| {
        let Arena { world, enemy, .. } = &arena;
        let user = enemy.user.as_str().to_owned();
        // The enemy is given some power, honestly.
        let mut trusted = levels(&arena, |content| content["users"][&user] = 60.into());
        trusted["events"]["m.room.power_levels"] = 50.into();
        world.send(0, "m.room.power_levels", Some(""), trusted.clone()).unwrap();
        world.drain();
        // It uses it to raise others, while it is taken away again.
        let friend = world.users[2].1.as_str().to_owned();
        let raised = levels(&arena, |content| content["users"][&friend] = 60.into());
        let raise = arena.sign(arena.event("m.room.power_levels", Some(""), raised));
        let kick = arena.event("m.room.member", Some(world.users[3].1.as_str()), json!({"membership": "leave"}));
        let kick = arena.sign(kick.with("prev_events", json!(ids(&[&raise]))));
        world.network.cut(world.servers[0].name(), world.servers[1].name());
        world.network.cut(world.servers[0].name(), world.servers[2].name());
        trusted["users"][&user] = 0.into();
        world.send(0, "m.room.power_levels", Some(""), trusted).unwrap();
        arena.send_events(1, &[&raise]);
        arena.send_events(2, &[&raise, &kick]);
        world.network.mend();
        arena.send_events(0, &[&raise, &kick]);
        arena.world.come_to_rest();
        for server in 0..3 {
            let (_, content) = world.state_event(server, "m.room.power_levels", "").unwrap();
            assert_ne!(content["users"][&user], 60, "{server} has taken the power away: {content}");
        }
        arena.end(&[]);
    });
}

#[test]
fn different_events_for_different_servers_make_no_difference() {
    in_each_version(|arena| {
        let Arena { world, .. } = &arena;
        let topics: Vec<Arc<Pdu>> = (0..3)
            .map(|server| arena.sign(arena.event("test.note", Some(""), json!({"topic": format!("for {server}")}))))
            .collect();
        for (server, topic) in topics.iter().enumerate() {
            arena.send_events(server, &[topic]);
        }
        arena.enemy.serve(&topics);
        world.drain();
        arena.end(&[]);
        let topic = |server| world.state_event(server, "test.note", "").unwrap().0;
        assert!(topic(0) == topic(1) && topic(1) == topic(2));
    });
}

#[test]
fn forks_of_old_history_change_nothing() {
    in_each_version(|arena| {
        let Arena { world, join, .. } = &arena;
        for n in 0..5 {
            world.send(0, "m.room.message", None, json!({"body": n, "msgtype": "m.text"})).unwrap();
        }
        world.change(0, &world.users[5].1.clone(), Membership::Ban).unwrap();
        world.drain();
        let mut forged = Vec::new();
        // From before the enemy came in, where it had no say.
        let old: Vec<Value> = join.prev_events.iter().map(|id| id.as_str().into()).collect();
        for n in 0..5 {
            let event = arena.event("test.note", Some(""), json!({"topic": format!("old {n}")}));
            forged.push(arena.sign(event.with("prev_events", json!(old)).with("depth", (n + 1).into())));
        }
        // From when it had come in: allowed, but each on a branch of its own.
        let mut branches = Vec::new();
        for n in 0..15 {
            let event = arena.message(&format!("branch {n}")).with("prev_events", json!(ids(&[join])));
            branches.push(arena.sign(event.with("depth", (join.depth + 1).into())));
        }
        for server in [0, 2] {
            arena.send_events(server, &forged.iter().chain(&branches).collect::<Vec<_>>());
        }
        arena.end(&forged.iter().map(|event| &event.event_id).collect::<Vec<_>>());
        for server in 0..3 {
            assert!(arena.has_accepted(server, &branches[0].event_id), "an honest branch is part of the room");
            let (_, member) = world.state_event(server, "m.room.member", world.users[5].1.as_str()).unwrap();
            assert_eq!(member["membership"], "ban");
        }
    });
}

#[test]
fn what_cites_a_rejected_event_is_rejected() {
    in_each_version(|arena| {
        // Signed by the enemy, but about somebody else.
        let other = arena.world.users[2].1.as_str().to_owned();
        let kick = arena.event("m.room.member", Some(&other), json!({"membership": "ban"}));
        let kick = arena.sign(kick);
        let message = arena.message("on the shoulders of the rejected");
        let mut auth = message.clone().into_object()["auth_events"].as_array().unwrap().clone();
        auth.push(kick.event_id.as_str().into());
        let message = arena.sign(message.with("auth_events", auth.into()));
        let topic = arena.event("test.note", Some(""), json!({"topic": "?"}));
        let topic = arena.sign(topic.with("prev_events", json!(ids(&[&kick]))));
        for server in 0..3 {
            arena.send_events(server, &[&kick, &message]);
            assert_eq!(arena.flags(server, &kick.event_id).map(|flags| flags.has(EventFlags::REJECTED)), Some(true));
        }
        // To follow a rejected event is no crime by itself; it changes no state.
        arena.send_events(1, &[&topic]);
        arena.end(&[&kick.event_id, &message.event_id]);
    });
}

#[test]
fn auth_events_of_another_room_count_for_nothing() {
    in_each_version(|arena| {
        let Arena { world, enemy, .. } = &arena;
        // A room in which the enemy is anything it likes, which the second server knows too.
        let (rooms, room_of) = (world.servers[1].rooms().clone(), world.users[2].1.clone());
        let version = arena.version();
        let other = world.runtime.run(std::time::Duration::from_secs(30), async move {
            rooms.create_room(open_room(&room_of, version)).await
        });
        let other = other.unwrap();
        let rooms = world.servers[1].rooms();
        let nid = rooms.known_room(&other).unwrap();
        let foreign =
            rooms.state_event(nid, rooms.head(nid).unwrap().state(), "m.room.power_levels", "").unwrap().unwrap();
        let levels_id = world.state_event(0, "m.room.power_levels", "").unwrap().0;
        let topic = arena.event("test.note", Some(""), json!({"topic": "from elsewhere"}));
        let auth = topic.clone().into_object()["auth_events"].as_array().unwrap().clone();
        let swapped: Vec<Value> = auth
            .iter()
            .map(|id| if *id == levels_id.as_str() { foreign.event_id().into() } else { id.clone() })
            .collect();
        let topic = arena.sign(topic.with("auth_events", swapped.into()));
        // An event of the other room in this room's clothes: prev events of the one, room id of the other.
        let stray = arena.message("stray").with("room_id", other.as_str().into());
        let stray = arena.sign(stray);
        enemy.serve(&[topic.clone(), stray.clone()]);
        for server in 0..3 {
            arena.send_events(server, &[&topic, &stray]);
        }
        arena.end(&[&topic.event_id, &stray.event_id]);
        let stray = rooms.unknown_events(nid, std::slice::from_ref(&stray.event_id), false).unwrap();
        assert_eq!(stray.len(), 1, "nor is it part of the other room");
    });
}

/// A room in which everybody may do everything.
fn open_room(creator: &spec::ids::UserId, version: spec::version::RoomVersion) -> rooms::CreateRoom {
    let Value::Object(power_levels) = json!({"state_default": 0, "users_default": 50}) else { unreachable!() };
    rooms::CreateRoom { power_levels, ..rooms::CreateRoom::new(creator.clone(), version, Preset::PublicChat) }
}

#[test]
fn extreme_depths_do_not_stop_a_room() {
    in_each_version(|arena| {
        let deep = arena.sign(arena.message("at the bottom").with("depth", spec::canonical::MAX_INTEGER.into()));
        let flat = arena.sign(arena.message("at the surface").with("depth", 0.into()));
        arena.send_events(0, &[&deep, &flat]);
        arena.send_events(1, &[&flat, &deep]);
        arena.end(&[]);
        for server in 0..3 {
            assert!(arena.has_accepted(server, &deep.event_id) && arena.has_accepted(server, &flat.event_id));
        }
    });
}

#[test]
fn a_false_state_at_a_gap_resets_nothing() {
    in_each_version(|arena| {
        let Arena { world, enemy, join, .. } = &arena;
        let honest: Vec<EventId> = ["m.room.power_levels", "m.room.join_rules", "m.room.history_visibility"]
            .map(|kind| world.state_event(0, kind, "").unwrap().0)
            .into();
        // What the enemy says went before is nowhere to be had.
        let unknown = format!("$unknown{}", "B".repeat(36));
        let levels_id = &honest[0];
        let mut crown = arena.event("m.room.power_levels", Some(""), json!({"users": {enemy.user.as_str(): 100}}));
        let auth: Vec<Value> = crown.clone().into_object()["auth_events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|id| **id != levels_id.as_str())
            .cloned()
            .collect();
        crown = crown.with("auth_events", auth.into()).with("prev_events", json!([unknown]));
        let crown = arena.sign(crown);
        let message = arena.message("after the coup").with("prev_events", json!(ids(&[&crown])));
        let message = arena.sign(message);
        // And that nothing but its own join was the state there.
        let create = world.state_event(0, "m.room.create", "").unwrap().0;
        let rules = honest[1].clone();
        enemy.serve(&[crown.clone(), message.clone(), join.clone()]);
        enemy.serve_state(&[create.clone(), rules.clone(), join.event_id.clone()], &[create, rules]);
        for server in 0..3 {
            arena.send_events(server, &[&crown]);
            arena.send_events(server, &[&message]);
        }
        assert!(enemy.take_asked().iter().any(|endpoint| endpoint == "state_ids"), "the enemy was asked");
        arena.world.come_to_rest();
        for server in 0..3 {
            for (kind, id) in
                ["m.room.power_levels", "m.room.join_rules", "m.room.history_visibility"].iter().zip(&honest)
            {
                assert_eq!(world.state_event(server, kind, "").map(|(id, _)| id).as_ref(), Some(id), "{kind}");
            }
            for (_, user) in &world.users {
                let (_, member) = world.state_event(server, "m.room.member", user.as_str()).unwrap();
                assert_eq!(member["membership"], "join", "{user} on {server}");
            }
        }
        arena.end(&[&crown.event_id]);
    });
}

#[test]
fn a_flood_of_unwanted_answers_is_left_lying() {
    in_each_version(|arena| {
        let unwanted: Vec<Value> =
            (0..300).map(|n| wire(&arena.sign(arena.message(&format!("unasked {n}"))))).collect();
        arena.enemy.serve_missing(unwanted);
        let unknown = format!("$unknown{}", "C".repeat(36));
        let event = arena.sign(arena.message("look before this").with("prev_events", json!([unknown])));
        arena.send_events(1, &[&event]);
        arena.end(&[&event.event_id]);
        let pictures = arena.world.pictures();
        let unasked = pictures.iter().flat_map(|picture| picture.events.values());
        assert_eq!(unasked.filter(|event| event.content.contains("unasked")).count(), 0);
    });
}

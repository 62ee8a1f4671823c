//! Figures, for whoever wants to know them: `cargo test -p rooms measure -- --ignored --nocapture`.
#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::time::{Duration, Instant};

use rooms::{Draft, Preset, PurgeOrder, RoomOrder, RoomsQuery};
use serde_json::json;
use spec::version::RoomVersion;

use crate::server::{object, run, text};

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times.get(((times.len() - 1) as f64 * share) as usize).copied().unwrap_or_default()
}

#[test]
#[ignore = "prints figures and judges nothing: run as the head of this file says"]
fn measure_a_list_of_2000_rooms() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let mut rooms = Vec::new();
        for number in 0..2000 {
            server.clock.advance(Duration::from_millis(5));
            let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
            let name = object(json!({"name": format!("Room {}", (number * 7919) % 2000)}));
            server.append(&room, Draft::state(alice.clone(), "m.room.name", "", name)).await.unwrap();
            rooms.push(room);
        }
        let query = |order, skip| RoomsQuery { order, skip, limit: 100, ..RoomsQuery::default() };
        let begin = Instant::now();
        assert_eq!(server.rooms.list_rooms(&query(RoomOrder::Name, 0)).unwrap().total, 2000);
        println!("the first list after the start: {:?}", begin.elapsed());
        for room in &rooms[..200] {
            server.say(room, &alice, "hello").await;
        }
        let begin = Instant::now();
        server.rooms.list_rooms(&query(RoomOrder::JoinedMembers, 0)).unwrap();
        println!("a list after something happened in 200 rooms: {:?}", begin.elapsed());
        let begin = Instant::now();
        server.rooms.list_rooms(&query(RoomOrder::StateEvents, 1000)).unwrap();
        println!("the next page: {:?}", begin.elapsed());
    });
}

#[test]
#[ignore = "prints figures and judges nothing: run as the head of this file says"]
fn measure_sending_during_a_purge() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let room = server.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        for _ in 0..400 {
            let drafts = (0..50).map(|_| Draft::message(alice.clone(), "m.room.message", text("history"))).collect();
            server.rooms.append(nid, drafts, None).await.unwrap();
        }
        let last = server.say(&room, &alice, "the last").await;
        let send = async |count: usize| {
            let mut times = Vec::new();
            for _ in 0..count {
                let begin = Instant::now();
                server.say(&room, &alice, "chat").await;
                times.push(begin.elapsed());
            }
            times
        };
        let mut before = send(1000).await;
        let cut = server.rooms.cut_before_event(nid, &last).unwrap();
        let rooms = server.rooms.clone();
        let begin = Instant::now();
        let purging = tokio::spawn(async move {
            let order = PurgeOrder { room: nid, cut, local_too: true };
            loop {
                // As jobs do: rest as long as the step took.
                let begin = Instant::now();
                let part = rooms.purge_on(order).await.unwrap();
                if part.done {
                    return;
                }
                tokio::time::sleep(begin.elapsed()).await;
            }
        });
        let mut during = Vec::new();
        while !purging.is_finished() {
            during.extend(send(1).await);
        }
        println!("20,000 events purged in {:?}, {} messages sent meanwhile", begin.elapsed(), during.len());
        for (when, times) in [("before", &mut before), ("during", &mut during)] {
            println!("{when}: p50 {:?}, p99 {:?}", percentile(times, 0.5), percentile(times, 0.99));
        }
        server.assert_sound();
    });
}

//! A partial room ends as the same room does that was entered with its whole state and took in the same events.

use rooms::{CheckedPdu, Draft, Finish, Membership, RoomError, RoomSeq, Verdict};
use runtime::Random;
use serde_json::json;
use spec::ids::UserId;

use super::stage::{Stage, VERSIONS};
use crate::foreign::member;
use crate::server::{object, text};

/// Server one and users of the far server act, and Eve, who may not. Events of the far server may fork the room.
async fn act(stage: &Stage, random: &Random, step: i64) -> Vec<CheckedPdu> {
    let nid = stage.nid(&stage.one);
    let local = [&stage.alice, &stage.anna][random.below(2) as usize];
    let target = [&stage.anna, &stage.fred, &stage.bob][random.below(3) as usize];
    let topic = |user: &UserId| {
        Draft::state(user.clone(), "m.room.topic", "", object(json!({"topic": format!("{user} {step}")})))
    };
    let say = |user: &UserId| Draft::message(user.clone(), "m.room.message", text(&step.to_string()));
    let draft = match random.below(12) {
        0 => member(&stage.alice, &stage.fred, Membership::Leave),
        1 => member(&stage.alice, &stage.anna, Membership::Leave),
        2 => member(&stage.anna, &stage.anna, Membership::Join),
        3 => topic(local),
        4 | 5 => {
            let mut sent = Vec::new();
            let end = stage.end_of_one();
            let kick = stage.bogus_kick(target, &end, 100 + step);
            let follows = [kick.pdu().event_id.clone()];
            sent.push(kick);
            sent.push(stage.forge(topic(&stage.eve), &follows, &stage.of_eve, 101 + step));
            for pdu in &sent {
                // It is no more than anybody else's word to server one.
                drop(stage.one.rooms.receive(pdu.clone()).await);
            }
            return sent;
        }
        6..=9 => {
            // Two at the same place.
            let drafts = [say(&stage.fred), topic(&stage.fred), member(&stage.fred, &stage.fred, Membership::Join)];
            let mut sent = Vec::new();
            for draft in drafts.into_iter().take(1 + random.below(3) as usize) {
                if let Ok(object) = stage.one.rooms.prepare(nid, draft) {
                    sent.push(stage.far.sign(object, stage.version.rules()));
                }
            }
            for pdu in &sent {
                drop(stage.one.rooms.receive(pdu.clone()).await);
            }
            return sent;
        }
        _ => say(local),
    };
    let last = stage.one.rooms.head(nid).unwrap().last_seq();
    // Some are refused at one time or another.
    drop(stage.one.append(&stage.room, draft).await);
    let events = stage.one.rooms.events_after(nid, RoomSeq(last.0), usize::MAX).unwrap();
    events.iter().map(|event| stage.check(event)).collect()
}

/// Hands some or all of what waits to the server that knows the state, which needs what an event follows.
async fn deliver_full(stage: &Stage, waiting: &mut Vec<CheckedPdu>) {
    for _ in 0..1000 {
        let Some(at) = (!waiting.is_empty()).then_some(0) else { return };
        let pdu = waiting.remove(at);
        match stage.deliver(&stage.full, &pdu).await {
            Ok(_) => {}
            Err(RoomError::Missing(_)) => waiting.push(pdu),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("events wait for ever");
}

async fn deliver_partial(stage: &Stage, waiting: &mut Vec<CheckedPdu>, random: &Random, all: bool) {
    while !waiting.is_empty() && (all || random.below(4) > 0) {
        let pdu = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
        let verdict = stage.deliver(&stage.partial, &pdu).await.unwrap();
        assert!(verdict != Verdict::Known);
    }
}

/// Judges some events again; not those that follow what is still under way.
async fn replay_some(stage: &Stage, random: &Random) {
    let nid = stage.nid(&stage.partial);
    let marked = stage.partial.rooms.partial_events(nid).unwrap();
    let ready = marked.iter().filter(|event| event.unknown.is_empty());
    let part = ready.take(random.below(8) as usize).map(|event| event.seq).collect();
    stage.partial.rooms.replay(nid, part, Vec::new()).await.unwrap();
}

#[test]
fn a_partial_room_ends_as_one_that_was_full_all_the_time() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut compared, mut rejected) = (0, 0);
        for seed in 0..24 {
            let stage = Stage::entered(VERSIONS[seed as usize % VERSIONS.len()]).await;
            let random = Random::seeded(seed);
            let (mut for_full, mut for_partial) = (Vec::new(), Vec::new());
            let begins_at = random.below(25) as i64;
            for step in 0..25 {
                let sent = act(&stage, &random, step).await;
                for_full.extend(sent.iter().cloned());
                for_partial.extend(sent);
                if step == begins_at {
                    stage.begin_replay(&stage.partial).await;
                }
                deliver_partial(&stage, &mut for_partial, &random, false).await;
                if step > begins_at {
                    replay_some(&stage, &random).await;
                    stage.partial.assert_sound();
                }
            }
            deliver_partial(&stage, &mut for_partial, &random, true).await;
            deliver_full(&stage, &mut for_full).await;
            let mut rounds = 0;
            while stage.partial.rooms.finish_partial(stage.nid(&stage.partial)).await.unwrap() == Finish::More {
                replay_some(&stage, &random).await;
                rounds += 1;
                assert!(rounds < 1000, "the replay does not end");
            }
            let judged = stage.judged(&stage.full);
            rejected += judged.values().filter(|(is_rejected, _)| *is_rejected).count();
            assert_eq!(stage.differences(&stage.partial, &stage.full), Vec::<String>::new(), "seed {seed}");
            stage.partial.assert_sound();
            stage.full.assert_sound();
            if !stage.has_soft_failed(&stage.full) && !stage.has_soft_failed(&stage.partial) {
                assert_eq!(stage.present(&stage.partial), stage.present(&stage.full), "seed {seed}");
                compared += 1;
            }
        }
        assert!(compared > 4 && rejected > 24, "{compared} worlds were compared, {rejected} events rejected");
    });
}

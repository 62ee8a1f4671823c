use std::slice::from_ref;

use serde_json::json;
use storage::{MemoryDisk, Read};

use super::{FIRST_WAIT_MS, MAX_PER_SERVER, MAX_TRIES, POSTPONED};
use crate::FederationConfig;
use crate::inbound::fixture::{Here, wire};

async fn wait_and_retry(here: &Here, tries: u32) {
    let wait = FIRST_WAIT_MS * 4_u64.pow(tries);
    here.federation.clock.advance(std::time::Duration::from_millis(wait));
    here.federation.retry_postponed().await.unwrap();
    here.pass_time(here.settle()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_event_comes_in_once_what_it_cites_can_be_had() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("join", from_ref(&join)).await;
    let messages = here.messages(room, &join, 2);
    here.pass_time(here.deliver("t1", &messages[1..])).await;
    assert!(!here.has(room, &messages[1]));
    assert_eq!(here.federation.inbound.counters.dropped.get(), 0);
    // It survives a restart, and a try that brings nothing.
    let disk: MemoryDisk = here.disk.clone();
    here.federation.store.close().unwrap();
    drop(here);
    let here = Here::on(disk, FederationConfig::default());
    here.federation.resume_postponed().unwrap();
    wait_and_retry(&here, 0).await;
    assert!(!here.has(room, &messages[1]));
    let first = wire(&messages[0]);
    here.peer.answer(move |path, _, _| path.contains("get_missing_events").then(|| json!({"events": [first.clone()]})));
    wait_and_retry(&here, 1).await;
    assert!(here.has(room, &messages[0]) && here.has(room, &messages[1]));
    wait_and_retry(&here, 2).await;
    // The task that looks from time to time may be about to forget it.
    let is_forgotten = || {
        here.federation.store.scan(&POSTPONED, &()).is_empty().unwrap() && here.federation.inbound.postponed.is_empty()
    };
    here.until(is_forgotten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_comes_is_given_up_and_a_server_has_few_places() {
    let here = Here::new();
    let (_, room) = here.room().await;
    let join = here.join_of_bob(room);
    here.deliver("join", from_ref(&join)).await;
    let mut lost = Vec::new();
    for number in 0..=MAX_PER_SERVER {
        let message =
            json!({"type": "m.room.message", "sender": "@bob:there.test", "content": {"body": number.to_string()}});
        let nowhere = spec::ids::EventId::parse(format!("$nowhere{number}")).unwrap();
        lost.push(here.event(room, message, from_ref(&nowhere), from_ref(&join.event_id)));
    }
    for (number, events) in lost.chunks(25).enumerate() {
        here.pass_time(here.deliver(&format!("t{number}"), events)).await;
    }
    assert_eq!(here.federation.inbound.counters.dropped.get(), 1, "there is no place for the last");
    for tries in 0..=MAX_TRIES {
        wait_and_retry(&here, tries).await;
    }
    assert!(here.federation.store.scan(&POSTPONED, &()).is_empty().unwrap());
    assert_eq!(here.federation.inbound.counters.dropped.get(), 1 + MAX_PER_SERVER as u64);
}

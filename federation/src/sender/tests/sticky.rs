//! Sticky events reach servers that would not be sent them otherwise (MSC4354).

use std::time::Duration;

use rooms::Draft;
use serde_json::json;

use super::fixture::{Fixture, object, user};
use super::is_at_rest;

async fn stick(here: &Fixture, room: &spec::ids::RoomId, ms: u64) -> String {
    let draft = Draft::message(user("@alice:us"), "com.example", object(json!({})));
    here.append(room, Draft { sticky_ms: Some(ms), ..draft }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_gets_what_is_sticky_from_before() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    let (short, sticky) = (stick(&here, &room, 1000).await, stick(&here, &room, 3_600_000).await);
    let plain = here.say(&room, "plain").await;
    here.until(|| here.events_at("there").contains(&plain)).await;
    here.clock.advance(Duration::from_secs(1));
    here.remote_member(&room, "@carol:elsewhere", "join", false).await;
    here.until(|| here.events_at("elsewhere").contains(&sticky)).await;
    here.until(|| is_at_rest(&here.sender)).await;
    let arrived = here.events_at("elsewhere");
    assert!(!arrived.contains(&short) && !arrived.contains(&plain), "{arrived:?}");
    // Another user of that server brings nothing new.
    here.remote_member(&room, "@dan:elsewhere", "join", false).await;
    here.until(|| is_at_rest(&here.sender)).await;
    assert_eq!(here.events_at("elsewhere"), arrived);
    let body = here.net.sent().into_iter().flat_map(|sent| sent.pdus().to_vec());
    let sent = body.filter(|pdu| pdu["msc4354_sticky"]["duration_ms"] == 3_600_000).count();
    assert_eq!(sent, 2);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_no_sticky_event_out() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.break_down("there");
    let sticky = stick(&here, &room, 3_600_000).await;
    let mut said = Vec::new();
    for number in 0..130 {
        said.push(here.say(&room, &format!("{number}")).await);
    }
    here.until(|| here.net.tries("there") > 0).await;
    here.clock.advance(Duration::from_secs(20 * 60));
    let tries = here.net.tries("there");
    here.until_later(|| here.net.tries("there") > tries).await;
    here.net.repair("there");
    here.until_later(|| is_at_rest(&here.sender)).await;
    let mut expected = vec![sticky];
    expected.extend_from_slice(&said[said.len() - 10..]);
    assert_eq!(here.events_at("there"), expected);
    here.stop().await;
}

//! The sender against servers that only record what they are sent.

mod fixture;
mod sticky;

use std::time::Duration;

use http::StatusCode;
use rooms::{Draft, Membership, ReceiptKind};
use serde_json::json;
use spec::ids::EventId;
use storage::Read;
use users::{DeviceTarget, PresenceState, ToDeviceMessages};

use super::{Sender, rows};
use fixture::{Fixture, name, object, user};

const HOUR: Duration = Duration::from_secs(3600);

/// Nothing is pending, in memory or on the disk.
fn is_at_rest(sender: &Sender) -> bool {
    sender.pending_destinations().is_empty()
        && sender.store.scan(&rows::PENDING, &()).is_empty().unwrap()
        && sender.store.scan(&rows::EXTRA, &()).is_empty().unwrap()
        && sender.store.scan(&rows::OUTBOX, &()).is_empty().unwrap()
        && sender.store.scan(&rows::DEVICE_POS, &()).is_empty().unwrap()
        && sender.store.scan(&rows::WHOLE_LISTS, &()).is_empty().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_the_servers_in_the_room_in_order_and_nothing_stays_behind() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there", "@carol:elsewhere"]).await;
    let mut said = Vec::new();
    for number in 0..10 {
        said.push(here.say(&room, &format!("message {number}")).await);
    }
    here.until(|| here.events_at("there").ends_with(&said)).await;
    here.until(|| here.events_at("elsewhere").ends_with(&said)).await;
    here.until(|| is_at_rest(&here.sender)).await;
    assert!(here.events_at("us").is_empty());
    assert!(here.events_at("stranger").is_empty());
    for transaction in here.net.sent() {
        assert_eq!(transaction.body["origin"], "us");
        assert!(transaction.body["origin_server_ts"].is_u64());
    }
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_an_outage_and_a_restart() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.break_down("there");
    let mut said = vec![here.say(&room, "one").await, here.say(&room, "two").await];
    here.until(|| here.net.tries("there") > 0).await;
    said.push(here.say(&room, "three").await);
    let here = here.restart(true).await;
    said.push(here.say(&room, "four").await);
    // A sudden end, with the cursor where it was.
    let here = here.restart(false).await;
    said.push(here.say(&room, "five").await);
    here.net.repair("there");
    here.until_later(|| here.events_at("there").len() >= said.len()).await;
    here.until_later(|| is_at_rest(&here.sender)).await;
    let mut arrived = here.events_at("there");
    arrived.dedup();
    assert_eq!(arrived, said);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_and_not_looked_at_is_found_at_the_next_start() {
    let here = Fixture::stopped().await;
    let room = here.room_with(&["@bob:there"]).await;
    let said = here.say(&room, "while nobody looked").await;
    let here = here.restart(false).await;
    here.until(|| here.events_at("there").contains(&said)).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_goes_in_transactions_of_fifty() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.break_down("there");
    let mut said = Vec::new();
    for number in 0..130 {
        said.push(here.say(&room, &format!("{number}")).await);
    }
    here.until(|| here.net.tries("there") > 0).await;
    here.net.repair("there");
    // A short outage: the server is heard from before long.
    here.clock.advance(Duration::from_secs(1));
    here.destinations.heard_from(&name("there"));
    here.until_later(|| here.events_at("there").len() >= said.len()).await;
    assert_eq!(here.events_at("there"), said);
    assert!(here.net.sent().iter().all(|transaction| transaction.pdus().len() <= 50));
    assert!(here.net.sent().iter().any(|transaction| transaction.pdus().len() == 50));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_long_outage_only_the_newest_of_very_many_events_are_sent() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    let quiet = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.break_down("there");
    let mut said = Vec::new();
    for number in 0..130 {
        said.push(here.say(&room, &format!("{number}")).await);
    }
    let rare = here.say(&quiet, "rare").await;
    here.until(|| here.net.tries("there") > 0).await;
    here.clock.advance(HOUR * 2);
    let tries = here.net.tries("there");
    here.until_later(|| here.net.tries("there") > tries).await;
    here.net.repair("there");
    here.until_later(|| is_at_rest(&here.sender)).await;
    let arrived = here.events_at("there");
    assert!(arrived.contains(&rare));
    let of_busy: Vec<_> = arrived.into_iter().filter(|id| *id != rare).collect();
    assert_eq!(of_busy, said[said.len() - 10..]);
    let next = here.say(&room, "again").await;
    here.until(|| here.events_at("there").last() == Some(&next)).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_left_hears_of_its_end_and_of_nothing_after() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there", "@carol:elsewhere"]).await;
    let kick = here.change(&room, "@bob:there", Membership::Leave).await;
    let after = here.say(&room, "without bob").await;
    here.until(|| here.events_at("elsewhere").contains(&after)).await;
    here.until(|| is_at_rest(&here.sender)).await;
    assert_eq!(here.events_at("there").last(), Some(&kick));
    here.remote_member(&room, "@carol:elsewhere", "leave", false).await;
    here.say(&room, "alone").await;
    here.until(|| is_at_rest(&here.sender)).await;
    assert_eq!(here.events_at("elsewhere").last(), Some(&after), "it knows that it left");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pending_is_judged_by_the_stay_when_it_is_packed() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.break_down("there");
    let before = here.say(&room, "before").await;
    here.until(|| here.net.tries("there") > 0).await;
    let kick = here.change(&room, "@bob:there", Membership::Leave).await;
    let after = here.say(&room, "after").await;
    here.net.repair("there");
    here.until_later(|| is_at_rest(&here.sender)).await;
    let arrived = here.events_at("there");
    assert!(arrived.ends_with(&[before, kick]), "{arrived:?}");
    assert!(!arrived.contains(&after));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_taken_in_for_another_server_is_passed_on_to_the_others() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there", "@carol:elsewhere"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    let (there, elsewhere) = (here.events_at("there").len(), here.events_at("elsewhere").len());
    let theirs = here.remote_message(&room, "@carol:elsewhere", false).await;
    let relayed = here.remote_member(&room, "@dan:elsewhere", "join", true).await;
    here.until(|| here.events_at("there").contains(&relayed)).await;
    here.until(|| is_at_rest(&here.sender)).await;
    assert_eq!(here.events_at("there").len(), there + 1);
    assert!(!here.events_at("there").contains(&theirs));
    assert_eq!(here.events_at("elsewhere").len(), elsewhere, "it comes from there");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_of_an_invited_user_hears_that_the_invitation_is_withdrawn() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    let invite = here.invite(&room, "@erin:far").await;
    here.until(|| here.events_at("there").contains(&invite)).await;
    assert!(here.events_at("far").is_empty(), "the invitation has a way of its own");
    here.net.break_down("far");
    let withdrawn = here.change(&room, "@erin:far", Membership::Leave).await;
    here.until(|| here.net.tries("far") > 0).await;
    let here = here.restart(true).await;
    here.net.repair("far");
    here.until_later(|| is_at_rest(&here.sender)).await;
    assert_eq!(here.events_at("far"), [withdrawn]);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_devices_are_kept_until_they_arrive() {
    let here = Fixture::new().await;
    here.net.break_down("there");
    for number in 0..60 {
        here.send_to_device("@bob:there", &format!("m{number}"), json!({ "number": number })).await;
    }
    here.until(|| here.net.tries("there") > 0).await;
    let here = here.restart(true).await;
    here.net.repair("there");
    here.until_later(|| is_at_rest(&here.sender)).await;
    let edus = here.edus_at("there", "m.direct_to_device");
    let ids: Vec<_> = edus.iter().map(|edu| edu["message_id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..60).map(|number| format!("m{number}")).collect();
    assert_eq!(ids, expected);
    // Fifty fill what a transaction has for them, and leave room for other EDUs.
    let counts = here.net.sent().iter().map(|sent| sent.body["edus"].as_array().map_or(0, Vec::len)).max();
    assert_eq!(counts, Some(50));
    assert_eq!(edus[7]["messages"]["@bob:there"]["D"]["number"], 7);
    assert_eq!((&edus[7]["sender"], &edus[7]["type"]), (&json!("@alice:us"), &json!("m.test")));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_our_own_users_and_to_denied_servers_are_not_queued() {
    let here = Fixture::new().await;
    for to in ["@bob:us", "@bob:denied"] {
        let content = serde_json::value::to_raw_value(&json!({})).unwrap();
        let messages = ToDeviceMessages::from([(user(to), [(DeviceTarget::All, content)].into())]);
        here.sender.queue_to_device(&user("@alice:us"), "m.test", "m", messages).await.unwrap();
    }
    assert!(is_at_rest(&here.sender));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_list_changes_are_told_to_servers_that_share_a_room() {
    let here = Fixture::new().await;
    here.room_with(&["@bob:there"]).await;
    here.net.break_down("there");
    here.upload_device_keys("ONE").await;
    here.until_later(|| here.net.tries("there") > 0).await;
    let here = here.restart(true).await;
    here.net.repair("there");
    here.until_later(|| is_at_rest(&here.sender)).await;
    let first = here.edus_at("there", "m.device_list_update");
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((&first[0]["device_id"], &first[0]["prev_id"]), (&json!("ONE"), &json!([])));
    assert_eq!(first[0]["keys"]["device_id"], "ONE");
    here.upload_device_keys("TWO").await;
    here.until(|| here.edus_at("there", "m.device_list_update").len() == 2).await;
    let second = &here.edus_at("there", "m.device_list_update")[1];
    assert_eq!(second["prev_id"], json!([first[0]["stream_id"]]), "the chain goes on");
    assert!(here.edus_at("stranger", "m.device_list_update").is_empty());
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_met_in_a_new_room_is_told_to_fetch_the_device_list() {
    let here = Fixture::new().await;
    here.upload_device_keys("ONE").await;
    let room = here.room_with(&["@bob:there"]).await;
    // Somebody of ours stays.
    let zoe = user("@zoe:us");
    let join = Draft::state(zoe.clone(), "m.room.member", zoe.as_str(), object(json!({"membership": "join"})));
    here.rooms.intern_user(&zoe).await.unwrap();
    here.append(&room, join).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.change(&room, "@alice:us", Membership::Leave).await;
    assert!(here.edus_at("there", "m.device_list_update").is_empty());
    here.change(&room, "@alice:us", Membership::Join).await;
    here.until(|| here.edus_at("there", "m.device_list_update").len() == 1).await;
    let told = &here.edus_at("there", "m.device_list_update")[0];
    assert_eq!(told["prev_id"], json!([told["stream_id"]]));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_receipts_and_presence_are_told() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    let said = here.say(&room, "read me").await;
    here.until(|| is_at_rest(&here.sender)).await;
    let nid = here.rooms.known_room(&room).unwrap();
    let alice = here.rooms.user_nid(&user("@alice:us")).unwrap().unwrap();
    let bob = here.rooms.user_nid(&user("@bob:there")).unwrap().unwrap();
    here.rooms.set_typing(nid, alice, Some(Duration::from_secs(30)));
    here.rooms.set_typing(nid, bob, Some(Duration::from_secs(30)));
    here.until(|| here.edus_at("there", "m.typing").len() == 1).await;
    here.rooms.set_typing(nid, alice, None);
    here.until(|| here.edus_at("there", "m.typing").len() == 2).await;
    let typing = here.edus_at("there", "m.typing");
    assert_eq!(typing[0], json!({"room_id": room, "user_id": "@alice:us", "typing": true}));
    assert_eq!(typing[1]["typing"], false);

    let id = EventId::parse(&said).unwrap();
    let private = here.say(&room, "in private").await;
    let private = EventId::parse(&private).unwrap();
    here.rooms.set_receipts(nid, alice, &[(ReceiptKind::Read, Some("main"), &id)]).await.unwrap();
    here.rooms.set_receipts(nid, alice, &[(ReceiptKind::ReadPrivate, None, &private)]).await.unwrap();
    here.rooms.set_receipts(nid, bob, &[(ReceiptKind::Read, None, &id)]).await.unwrap();
    here.users.set_presence(alice, PresenceState::Unavailable, Some("away")).unwrap();
    here.until_later(|| !here.edus_at("there", "m.receipt").is_empty()).await;
    here.until_later(|| !here.edus_at("there", "m.presence").is_empty()).await;
    let receipts = here.edus_at("there", "m.receipt");
    assert_eq!(receipts.len(), 1);
    let receipt = &receipts[0][room.as_str()]["m.read"];
    assert_eq!(receipt["@alice:us"]["event_ids"], json!([said]));
    assert_eq!(receipt["@alice:us"]["data"]["thread_id"], "main");
    assert!(receipt.get("@bob:there").is_none());
    let presence = &here.edus_at("there", "m.presence")[0]["push"][0];
    assert_eq!(
        (&presence["user_id"], &presence["presence"], &presence["status_msg"]),
        (&json!("@alice:us"), &json!("unavailable"), &json!("away"))
    );
    assert!(here.net.sent().iter().all(|transaction| transaction.to == "there"));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_got_no_answer_is_sent_again_as_it_was() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.answer("there", StatusCode::BAD_GATEWAY);
    let first = here.say(&room, "one").await;
    here.until(|| here.net.tries("there") > 0).await;
    let second = here.say(&room, "two").await;
    here.net.repair("there");
    here.until_later(|| here.events_at("there").ends_with(&[first.clone(), second.clone()])).await;
    let refused = here.net.refused();
    assert!(here.net.sent().iter().any(|sent| sent.id == refused[0].id && sent.body == refused[0].body));
    let ids: std::collections::BTreeSet<_> = here.net.sent().into_iter().map(|sent| sent.id).collect();
    assert_eq!(ids.len(), here.net.sent().len(), "each transaction has an id of its own");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_a_server_refuses_does_not_hold_up_the_others() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    here.until(|| is_at_rest(&here.sender)).await;
    here.net.refuse_text("there", "poison");
    let mut said = vec![here.say(&room, "good").await];
    let poison = here.say(&room, "poison").await;
    said.push(here.say(&room, "also good").await);
    here.until_later(|| here.events_at("there").ends_with(&said[1..])).await;
    let arrived = here.events_at("there");
    assert!(arrived.contains(&said[0]) && !arrived.contains(&poison));
    here.until_later(|| is_at_rest(&here.sender)).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_and_redactions_go_out_too() {
    let here = Fixture::new().await;
    let room = here.room_with(&["@bob:there"]).await;
    let said = here.say(&room, "oops").await;
    let topic = Draft::state(user("@alice:us"), "m.room.topic", "", object(json!({"topic": "t"})));
    let topic = here.append(&room, topic).await;
    let redaction = Draft::redaction(user("@alice:us"), EventId::parse(&said).unwrap(), object(json!({})));
    let redaction = here.append(&room, redaction).await;
    here.until(|| here.events_at("there").ends_with(&[said.clone(), topic.clone(), redaction.clone()])).await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_messages_give_way_when_too_many_wait() {
    use storage::Read;
    let here = Fixture::stopped().await;
    for number in 0..3 {
        here.send_to_device("@bob:there", &format!("m{number}"), json!({})).await;
    }
    // As if the others were there, too: each would be a commit.
    here.sender.table.lock().destination(&name("there")).outbox = 10_000;
    here.send_to_device("@bob:there", "m3", json!({})).await;
    let rows: Result<Vec<_>, _> = here.sender.store.scan(&super::rows::OUTBOX, &"there".to_owned()).iter().collect();
    let ids = rows.unwrap().into_iter().map(|(_, row)| serde_json::from_slice(&row).unwrap());
    let ids: Vec<serde_json::Value> = ids.collect();
    let ids: Vec<&str> = ids.iter().map(|row| row["message_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m1", "m2", "m3"]);
    assert_eq!(here.sender.table.lock().destination(&name("there")).outbox, 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_is_not_kept_in_memory() {
    for (length, is_kept) in [(100, true), (60 * 1024, false)] {
        let here = Fixture::stopped().await;
        let room = here.room_with(&["@bob:there"]).await;
        let text = "x".repeat(length);
        for _ in 0..6 {
            here.say(&room, &text).await;
        }
        // All of them go together, and fail.
        here.net.break_down("there");
        here.sender.start();
        here.until(|| here.destinations.retry_at(&name("there")).is_some()).await;
        let has_kept = || here.sender.table.lock().get(&name("there")).is_some_and(|there| there.kept.is_some());
        if is_kept {
            here.until(has_kept).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(has_kept(), is_kept, "{length}");
        here.stop().await;
    }
}

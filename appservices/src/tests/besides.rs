//! What comes along besides events.

use std::collections::BTreeMap;
use std::time::Duration;

use rooms::ReceiptKind;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use users::{DeviceTarget, KeyUpload, PresenceState};

use super::fixture::{BRIDGE, Bed};
use crate::deliver::Progress;
use crate::rows::{self, Place};

/// Waits for a transaction of which `find` finds something.
async fn wait_for(bed: &Bed, find: impl Fn(&Value) -> Value) -> Value {
    for _ in 0..12_000 {
        let found = bed.web.seen().iter().map(|seen| find(&seen.body())).find(|found| !found.is_null());
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was told: {:?}", bed.web.seen());
}

fn ephemeral(body: &Value, kind: &str) -> Value {
    let events = body["ephemeral"].as_array().cloned().unwrap_or_default();
    events.into_iter().find(|event| event["type"] == kind).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_receipts_and_presence_are_told_to_those_who_want_them() {
    let quiet = "id: quiet\nurl: http://quiet.test\nas_token: q\nhs_token: q\nsender_localpart: quiet\n";
    let bed = Bed::new(&[BRIDGE, quiet]).await;
    let (alice, ghost) = (bed.user("alice").await, bed.user("_ghost_bob").await);
    let (room, other) = (bed.room("alice").await, bed.room("alice").await);
    bed.join(&room, "_ghost_bob").await;
    bed.join(&room, "quiet").await;
    let event = bed.say(&room, "alice", "read this").await;
    let unheard = bed.say(&other, "alice", "unheard").await;
    let nid = |room| bed.rooms.room_nid(room).unwrap().unwrap();
    bed.rooms.set_typing(nid(&other), alice, Some(Duration::from_secs(30)));
    bed.rooms.set_typing(nid(&room), alice, Some(Duration::from_secs(30)));
    let typing = wait_for(&bed, |body| ephemeral(body, "m.typing")).await;
    let wanted = json!({"type": "m.typing", "room_id": room, "content": {"user_ids": ["@alice:hs.test"]}});
    assert_eq!(typing, wanted);
    let read = |kind| [(kind, None, &event)];
    bed.rooms.set_receipts(nid(&other), alice, &[(ReceiptKind::Read, None, &unheard)]).await.unwrap();
    bed.rooms.set_receipts(nid(&room), alice, &read(ReceiptKind::ReadPrivate)).await.unwrap();
    bed.rooms.set_receipts(nid(&room), ghost, &read(ReceiptKind::ReadPrivate)).await.unwrap();
    let receipt = wait_for(&bed, |body| ephemeral(body, "m.receipt")).await;
    assert_eq!(receipt["room_id"], room.as_str());
    let of_event = &receipt["content"][event.as_str()]["m.read.private"];
    assert!(of_event["@_ghost_bob:hs.test"]["ts"].is_u64() && of_event["@alice:hs.test"].is_null(), "{receipt}");
    bed.users.set_presence(alice, PresenceState::Online, Some("here")).unwrap();
    // Changes are gathered for a while, which may begin somewhat later.
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            bed.clock.advance(Duration::from_millis(100));
        }
    };
    let presence = tokio::select! {
        presence = wait_for(&bed, |body| ephemeral(body, "m.presence")) => presence,
        () = passing => unreachable!(),
    };
    assert_eq!((&presence["sender"], &presence["content"]["status_msg"]), (&json!("@alice:hs.test"), &json!("here")));
    for seen in bed.web.seen().iter().filter(|seen| seen.uri.contains("quiet.test")) {
        assert!(seen.body()["ephemeral"].is_null(), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_devices_are_taken_off_their_queue_once() {
    let mut bed = Bed::new(&[BRIDGE]).await;
    let (alice, ghost) = (bed.user("alice").await, bed.user("_ghost_bob").await);
    let (of_alice, of_ghost) = (bed.device(alice, "A").await, bed.device(ghost, "G").await);
    let send = async |text: &str| {
        let content = || RawValue::from_string(json!({"text": text}).to_string()).unwrap();
        let to = |device: &str| BTreeMap::from([(DeviceTarget::One(device.into()), content())]);
        let messages = BTreeMap::from([(Bed::id("alice"), to("A")), (Bed::id("_ghost_bob"), to("G"))]);
        bed.users.queue_to_device(&Bed::id("alice"), "m.test", None, &messages).await.unwrap();
    };
    let queued = |device| {
        let upto = bed.store.visible();
        bed.users.queued_messages(device, storage::StreamPos::ZERO, upto, 10).unwrap().events.len()
    };
    let to_device = |text: &'static str| {
        move |body: &Value| {
            let messages = body["de.sorunome.msc2409.to_device"].as_array().cloned().unwrap_or_default();
            messages.into_iter().find(|message| message["content"]["text"] == text).unwrap_or_default()
        }
    };
    send("one").await;
    let message = wait_for(&bed, to_device("one")).await;
    let wanted = json!({
        "to_user_id": "@_ghost_bob:hs.test", "to_device_id": "G", "sender": "@alice:hs.test", "type": "m.test",
        "content": {"text": "one"},
    });
    assert_eq!(message, wanted);
    assert_eq!((queued(of_ghost.device), queued(of_alice.device)), (0, 1));
    let key = RawValue::from_string("{\"key\":\"k\"}".to_owned()).unwrap();
    let upload =
        KeyUpload { one_time_keys: BTreeMap::from([("signed_curve25519:A".into(), key)]), ..KeyUpload::default() };
    bed.users.upload_keys(&of_ghost, &upload).await.unwrap();
    wait_for(&bed, |body| {
        let counts = &body["org.matrix.msc3202.device_one_time_keys_count"]["@_ghost_bob:hs.test"]["G"];
        counts["signed_curve25519"].as_u64().filter(|count| *count == 1).into()
    })
    .await;
    bed.stop().await;
    send("two").await;
    assert_eq!(queued(of_ghost.device), 1);
    bed.start_again();
    wait_for(&bed, to_device("two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_has_no_keys_and_that_of_the_sender_is_counted_at_each_start() {
    let mut bed = Bed::new(&[BRIDGE]).await;
    let count = |user: &'static str, device: &'static str| {
        move |body: &Value| {
            body["org.matrix.msc3202.device_one_time_keys_count"][user][device]["signed_curve25519"].clone()
        }
    };
    bed.device(bed.user("_ghost_bob").await, "G").await;
    assert_eq!(wait_for(&bed, count("@_ghost_bob:hs.test", "G")).await, 0);
    let sender = bed.rooms.user_nid(&Bed::id("bridgebot")).unwrap().unwrap();
    bed.users.ensure_device(sender, "B", None).await.unwrap();
    assert_eq!(wait_for(&bed, count("@bridgebot:hs.test", "B")).await, 0);
    bed.stop().await;
    let before = bed.web.seen().len();
    bed.start_again();
    let again = |body: &Value| Some(count("@bridgebot:hs.test", "B")(body)).filter(|_| bed.web.seen().len() > before);
    assert_eq!(wait_for(&bed, |body| again(body).unwrap_or_default()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_device_lists_are_told_where_a_room_is_shared() {
    let bed = Bed::new(&[BRIDGE]).await;
    let (alice, eve) = (bed.user("alice").await, bed.user("eve").await);
    let room = bed.room("alice").await;
    bed.join(&room, "bridgebot").await;
    let upload = async |user, name: &str| {
        let session = bed.device(user, "D").await;
        let keys = json!({
            "user_id": format!("@{name}:hs.test"), "device_id": "D", "algorithms": [], "keys": {}, "signatures": {},
        });
        let keys = serde_json::from_value(json!({"device_keys": keys})).unwrap();
        bed.users.upload_keys(&session, &keys).await.unwrap();
    };
    upload(eve, "eve").await;
    upload(alice, "alice").await;
    let lists = |body: &Value| body["org.matrix.msc3202.device_lists"].clone();
    assert_eq!(wait_for(&bed, lists).await, json!({"changed": ["@alice:hs.test"], "left": []}));
    bed.join(&room, "eve").await;
    let of_eve = |body: &Value| Some(lists(body)).filter(|of| of["changed"] == json!(["@eve:hs.test"]));
    wait_for(&bed, |body| of_eve(body).unwrap_or_default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_delivery_leaves_the_transaction_that_it_was_committing() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.settle().await;
    bed.stop().await;
    let line = bed.dispatcher.line("bridge").unwrap();
    let before = rows::read_cursor(&bed.store, "bridge").unwrap().unwrap();
    {
        let mut waiting = line.waiting.lock();
        waiting.note_typing(bed.rooms.room_nid(&room).unwrap().unwrap());
        waiting.upto = Place::after(bed.store.visible());
        assert!(waiting.is_live && waiting.upto > before.place);
    }
    // The commit went through, and whoever waited for it was gone.
    let mut after = before.clone();
    bed.dispatcher.next_transaction(&line, &mut after).await.unwrap().unwrap();
    line.waiting.lock().upto = Place::after(bed.store.visible());
    let mut progress = Progress { row: before, is_taken: true };
    bed.dispatcher.write_last_cursor(&line, &mut progress).await.unwrap();
    assert_eq!(rows::read_cursor(&bed.store, "bridge").unwrap().unwrap(), after);
    assert!(rows::read_outgoing(&bed.store, "bridge", &after).unwrap().is_some());
}

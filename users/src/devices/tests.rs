use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::*;
use crate::{DeviceTarget, KeyUpload, Pusher, fixture::Fixture};

fn upload(user: &str, device: &str) -> KeyUpload {
    serde_json::from_value(json!({
        "device_keys": {
            "user_id": user, "device_id": device, "algorithms": ["m.olm.v1"],
            "keys": { format!("ed25519:{device}"): "abc" }, "signatures": {}
        },
        "one_time_keys": { "signed_curve25519:A": { "key": "x" } },
        "fallback_keys": { "signed_curve25519:F": { "key": "y" } }
    }))
    .unwrap()
}

#[test]
fn a_deleted_device_takes_everything_it_owned_along() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let other = f.session("alice", "E");
    let user_id = session.user_id.clone();
    f.run(f.users.upload_keys(&session, &upload(user_id.as_str(), "D"))).unwrap();
    let pusher: Pusher = serde_json::from_value(json!({
        "app_id": "a", "pushkey": "k", "kind": "http",
        "data": { "url": "https://push.example.org/_matrix/push/v1/notify" }
    }))
    .unwrap();
    f.run(f.users.set_pusher(&session, pusher, false)).unwrap();
    let content = serde_json::value::to_raw_value(&json!({})).unwrap();
    let messages = BTreeMap::from([(user_id.clone(), BTreeMap::from([(DeviceTarget::All, content)]))]);
    f.run(f.users.queue_to_device(&user_id, "m.x", None, &messages)).unwrap();
    let before = f.users.latest_device_list_change();

    f.run(f.users.delete_device(session.user, "D")).unwrap();

    let until = f.store.visible();
    assert!(f.users.device(session.user, "D").unwrap().is_none());
    assert!(f.users.pushers(session.user).unwrap().is_empty());
    assert!(f.users.key_counts(session.device).unwrap().one_time_keys.is_empty());
    assert!(f.run(f.users.claim_key(session.device, "signed_curve25519")).unwrap().is_none());
    let gone = f.users.queued_messages(session.device, storage::StreamPos::ZERO, until, 100).unwrap();
    assert!(gone.events.is_empty());
    let kept = f.users.queued_messages(other.device, storage::StreamPos::ZERO, until, 100).unwrap();
    assert_eq!(kept.events.len(), 1);
    let queried = f.users.query_keys(None, &BTreeMap::from([(user_id.clone(), Vec::new())])).unwrap();
    assert!(queried.device_keys[&user_id].is_empty());
    let changes = f.users.device_list_changes(before, until).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].kind, changes[0].device_id.as_deref()), (DeviceListChangeKind::Deleted, Some("D")));
    f.run(f.users.delete_device(session.user, "D")).unwrap();
}

#[test]
fn deleting_a_device_without_keys_is_no_news_for_others() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    f.run(f.users.delete_device(session.user, "D")).unwrap();
    assert_eq!(f.users.latest_device_list_change(), storage::StreamPos::ZERO);
}

#[test]
fn device_numbers_are_not_reused_after_a_restart() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    f.run(f.users.delete_device(session.user, "D")).unwrap();
    let users = f.reopen();
    let login = DeviceLogin { device_id: Some("D"), ..DeviceLogin::default() };
    f.run(users.start_session(session.user, login)).unwrap();
    assert!(users.device(session.user, "D").unwrap().unwrap().nid > session.device);
}

#[test]
fn all_devices_but_one_can_be_deleted() {
    let f = Fixture::new();
    let session = f.session("alice", "A");
    f.session("alice", "B");
    f.session("alice", "C");
    f.run(f.users.delete_all_devices(session.user, Some("B"))).unwrap();
    let left: Vec<_> = f.users.devices(session.user).unwrap().into_iter().map(|device| device.device_id).collect();
    assert_eq!(left, [Arc::from("B")]);
}

#[test]
fn last_seen_is_written_at_most_every_five_minutes() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let seen = || f.users.device(session.user, "D").unwrap().unwrap().last_seen_ms.unwrap();
    f.run(f.users.record_device_seen(&session, Some("192.0.2.1"), None)).unwrap();
    let (first, pos) = (seen(), f.store.visible());
    f.clock.advance(Duration::from_secs(299));
    f.run(f.users.record_device_seen(&session, Some("192.0.2.1"), None)).unwrap();
    assert_eq!((seen(), f.store.visible()), (first, pos));
    f.clock.advance(Duration::from_secs(1));
    f.run(f.users.record_device_seen(&session, Some("192.0.2.1"), None)).unwrap();
    assert_eq!(seen(), first + 300_000);
}

#[test]
fn the_program_of_a_device_is_kept_as_long_as_the_device() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let seen = |user_agent: Option<&str>| {
        f.clock.advance(Duration::from_millis(SEEN_INTERVAL_MS));
        f.run(f.users.record_device_seen(&session, None, user_agent)).unwrap();
        f.users.device(session.user, "D").unwrap().unwrap().last_seen_user_agent
    };
    assert_eq!(seen(Some(" Element/1.2\r\n(Linux) ")).as_deref(), Some("Element/1.2(Linux)"));
    assert_eq!(seen(Some(&"é".repeat(300))), Some("é".repeat(200)));
    assert_eq!(seen(Some("\t ")), None);
    assert_eq!(seen(None), None);
    seen(Some("Element"));
    f.run(f.users.delete_device(session.user, "D")).unwrap();
    assert_eq!(f.store.get(&DEVICE_AGENTS, &session.device).unwrap(), None);
}

#[test]
fn impossible_device_ids_and_names_are_refused() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    for id in ["", &"x".repeat(256)] {
        let login = DeviceLogin { device_id: Some(id), ..DeviceLogin::default() };
        assert!(matches!(f.run(f.users.start_session(session.user, login)), Err(UserError::InvalidParam(_))));
    }
    let long = "x".repeat(1_001);
    assert!(matches!(f.run(f.users.rename_device(session.user, "D", Some(&long))), Err(UserError::TooLarge(_))));
    assert!(matches!(f.run(f.users.rename_device(session.user, "X", None)), Err(UserError::NotFound(_))));
    f.run(f.users.rename_device(session.user, "D", Some("Phone"))).unwrap();
    assert_eq!(f.users.device(session.user, "D").unwrap().unwrap().display_name.as_deref(), Some("Phone"));
}

//! That what the domain writes is sound is checked by the fixture after every test of this crate.

use std::collections::BTreeMap;

use rooms::RoomNid;
use serde_json::{json, value::to_raw_value};
use storage::{Batch, Stamped, StreamPos};

use super::*;
use crate::{
    DeviceLogin, DeviceTarget, KeyUpload, Pusher, RoomKeys, Session, TransactionScope,
    account_data::{GLOBAL_DATA, GLOBAL_DATA_LOG, ROOM_DATA_LOG},
    device_lists::DEVICE_LIST_VERSION,
    devices::{DEVICE_OWNERS, DEVICE_SEEN, DEVICES},
    e2ee::{
        backup::BACKUP_KEYS,
        device_keys::DEVICE_KEYS,
        one_time_keys::{ONE_TIME_KEY_COUNTS, ONE_TIME_KEY_ORDER, ONE_TIME_KEYS},
    },
    filters::{FILTER_IDS, FILTERS},
    fixture::Fixture,
    pushers::{PUSHER_OWNERS, PUSHERS},
    tokens::{ACCESS_TOKENS, DEVICE_TOKENS, REFRESH_TOKENS},
    transactions::{TRANSACTIONS, TRANSACTIONS_BY_HOUR},
};

const ROOM: RoomNid = RoomNid(5);

/// A server with some of everything, and alice's device.
fn furnished() -> (Fixture, Arc<Session>) {
    let f = Fixture::new();
    let bob = f.session("bob", "B");
    let user = f.users.parse_local_user("alice").unwrap();
    let alice = f.account("alice").user;
    let login = DeviceLogin { device_id: Some("A"), refreshable: true, ..DeviceLogin::default() };
    let tokens = f.run(f.users.start_session(alice, login)).unwrap().tokens;
    let refreshed = f.run(f.users.refresh(&tokens.refresh_token.unwrap())).unwrap();
    let session = f.run(f.users.authenticate(&refreshed.access_token)).unwrap();
    f.run(f.users.refresh(&refreshed.refresh_token.unwrap())).unwrap();
    f.run(f.users.record_device_seen(&session, None, None)).unwrap();
    f.run(f.users.set_profile_field(alice, "displayname", Some(json!("Alice")))).unwrap();

    let keys: KeyUpload = serde_json::from_value(json!({
        "device_keys": {"user_id": user, "device_id": "A", "algorithms": [], "keys": {"ed25519:A": "k"}},
        "one_time_keys": {"x:1": {"key": "1"}, "x:2": {"key": "2"}, "x:3": {"key": "3"}},
        "fallback_keys": {"x:F": {"key": "f"}},
    }))
    .unwrap();
    f.run(f.users.upload_keys(&session, &keys)).unwrap();
    f.run(f.users.claim_key(session.device, "x")).unwrap().unwrap();
    let version =
        f.run(f.users.create_backup(alice, "m.megolm_backup.v1", &to_raw_value(&json!({})).unwrap())).unwrap();
    let keys: RoomKeys = serde_json::from_value(json!({"!r": {"s": {
        "first_message_index": 0, "forwarded_count": 0, "is_verified": true, "session_data": {},
    }}}))
    .unwrap();
    f.run(f.users.put_backup_keys(alice, version, &keys)).unwrap();

    let content = to_raw_value(&json!({"a": 1})).unwrap();
    for _ in 0..2 {
        f.run(f.users.set_account_data(alice, "m.x", &content)).unwrap();
        f.run(f.users.set_room_account_data(alice, ROOM, "m.x", &content)).unwrap();
    }
    f.run(f.users.store_filter(alice, b"{}".to_vec())).unwrap();
    let pusher: Pusher = serde_json::from_value(json!({
        "app_id": "app", "pushkey": "key", "kind": "http",
        "data": {"url": "https://push.example.org/_matrix/push/v1/notify"},
    }))
    .unwrap();
    f.run(f.users.set_pusher(&session, pusher, false)).unwrap();
    let messages = BTreeMap::from([(user, BTreeMap::from([(DeviceTarget::All, content)]))]);
    let transaction = Some((TransactionScope::Device(bob.device), "t"));
    f.run(f.users.queue_to_device(&bob.user_id, "m.x", transaction, &messages)).unwrap();
    f.run(f.users.create_openid_token(alice)).unwrap();
    (f, session)
}

/// Breaks a server; what is found must be one problem that says `expected`.
fn assert_found(expected: &str, damage: impl FnOnce(&Fixture, &Session, &mut Batch)) {
    let (f, session) = furnished();
    assert_eq!(check(&f.store).unwrap().problems, [], "before");
    let mut batch = Batch::new();
    damage(&f, &session, &mut batch);
    f.store.commit_blocking(batch).unwrap();
    let problems = f.take_problems();
    assert!(problems.len() == 1 && problems[0].to_string().contains(expected), "not {expected}, but {problems:?}");
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}

/// The only key that fits.
fn key_of<K: storage::RowKey + storage::Key, V: storage::Value>(
    f: &Fixture,
    keyspace: &storage::Keyspace<K, V>,
    fits: impl Fn(&K) -> bool,
) -> K {
    let keys: Result<Vec<K>, _> = f.store.scan(keyspace, &()).keys().collect();
    keys.unwrap().into_iter().find(|key| fits(key)).unwrap()
}

#[test]
fn everything_is_counted() {
    let (f, session) = furnished();
    let findings = check(&f.store).unwrap();
    assert_eq!((findings.accounts, findings.devices, findings.problems.len()), (2, 2, 0));
    f.run(f.users.delete_device(session.user, "A")).unwrap();
    f.run(f.users.deactivate(session.user)).unwrap();
    let findings = check(&f.store).unwrap();
    assert_eq!((findings.accounts, findings.devices, findings.problems), (2, 1, vec![]));
}

#[test]
fn devices_and_owners_must_agree() {
    assert_found("@alice:example.org: device A has the number of another", |f, session, batch| {
        let owner = f.store.get(&DEVICE_OWNERS, &session.device).unwrap().unwrap();
        batch.put(&DEVICE_OWNERS, &session.device, &crate::devices::DeviceOwner { device_id: "C".into(), ..owner });
    });
    assert_found("was seen, but does not exist", |f, session, batch| {
        let seen = f.store.get(&DEVICE_SEEN, &session.device).unwrap().unwrap();
        batch.put(&DEVICE_SEEN, &DeviceNid(99), &seen);
    });
    let (f, session) = furnished();
    let mut batch = Batch::new();
    batch.delete(&DEVICES, &(session.user, Arc::clone(&session.device_id)));
    f.store.commit_blocking(batch).unwrap();
    let found: Vec<_> = f.take_problems().iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|text| text.contains("has a token, but does not exist")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("a pusher of app has outlived its device")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("the keys of device A have outlived it")), "{found:?}");
}

#[test]
fn tokens_must_end_with_their_device() {
    assert_found("@alice:example.org device A: the access token", |f, session, batch| {
        let key = key_of(f, &DEVICE_TOKENS, |key| key.0 == session.device && key.1);
        batch.delete(&DEVICE_TOKENS, &key);
    });
    assert_found("would survive a logout", |f, session, batch| {
        let key = key_of(f, &DEVICE_TOKENS, |key| key.0 == session.device && !key.1);
        batch.delete(&DEVICE_TOKENS, &key);
    });
    let (f, session) = furnished();
    let mut batch = Batch::new();
    let key = key_of(&f, &DEVICE_TOKENS, |key| key.0 == session.device && key.1);
    batch.delete(&ACCESS_TOKENS, &key.2);
    f.store.commit_blocking(batch).unwrap();
    let found: Vec<_> = f.take_problems().iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|text| text.contains("does not lead back")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("has outlived its access token")), "{found:?}");
    assert!(f.store.scan(&REFRESH_TOKENS, &()).keys().next().is_some());
}

#[test]
fn one_time_keys_must_be_counted_and_in_order() {
    assert_found("2 one-time keys of x are there, and 3 are counted", |_, session, batch| {
        batch.add(&ONE_TIME_KEY_COUNTS, &(session.device, "x".to_owned()), 1);
    });
    assert_found("2 one-time keys of x are there, and 0 are counted", |_, session, batch| {
        batch.delete(&ONE_TIME_KEY_COUNTS, &(session.device, "x".to_owned()));
    });
    assert_found("would never be claimed", |f, _, batch| {
        batch.delete(&ONE_TIME_KEY_ORDER, &key_of(f, &ONE_TIME_KEY_ORDER, |_| true));
    });
    assert_found("the one-time key x:2 is missing", |_, session, batch| {
        batch.delete(&ONE_TIME_KEYS, &(session.device, "x".to_owned(), "2".to_owned()));
        batch.add(&ONE_TIME_KEY_COUNTS, &(session.device, "x".to_owned()), -1);
    });
    assert_found("device number 99: has keys, but never existed", |_, _, batch| {
        batch.put(&ONE_TIME_KEY_COUNTS, &(DeviceNid(99), "x".to_owned()), &0);
    });
}

#[test]
fn keys_backups_and_device_lists_must_agree() {
    assert_found("the keys of device C have outlived it", |_, session, batch| {
        batch.put(&DEVICE_KEYS, &(session.user, "C".into()), &b"{}".to_vec());
    });
    assert_found("the version of the device list", |_, session, batch| {
        batch.put(&DEVICE_LIST_VERSION, &session.user, &Stamped { pos: StreamPos(1), value: () });
    });
    assert_found("key backup 1 holds 0 keys, and 1 are counted", |f, _, batch| {
        batch.delete(&BACKUP_KEYS, &key_of(f, &BACKUP_KEYS, |_| true));
    });
    assert_found("1 keys are in key backup 7", |_, session, batch| {
        batch.put(&BACKUP_KEYS, &(session.user, 7, "!r".to_owned(), "s".to_owned()), &b"{}".to_vec());
    });
}

#[test]
fn account_data_must_be_logged() {
    assert_found("the change of m.x at", |f, session, batch| {
        batch.delete(&GLOBAL_DATA_LOG, &key_of(f, &GLOBAL_DATA_LOG, |key| key.0 == session.user));
    });
    assert_found("the change of m.x of room 5", |f, session, batch| {
        batch.delete(&ROOM_DATA_LOG, &key_of(f, &ROOM_DATA_LOG, |key| key.0 == session.user));
    });
    assert_found("names m.x of room 5, which has another position", |_, session, batch| {
        batch.put(&ROOM_DATA_LOG, &(session.user, StreamPos(1), ROOM, "m.x".to_owned()), &());
    });
    assert_found("m.x is not JSON", |f, session, batch| {
        let key = (session.user, "m.x".to_owned());
        let row = f.store.get(&GLOBAL_DATA, &key).unwrap().unwrap();
        batch.put(&GLOBAL_DATA, &key, &Stamped { value: b"{".to_vec(), ..row });
    });
}

#[test]
fn an_overwritten_entry_of_the_global_log_is_normal() {
    let (f, session) = furnished();
    let mut batch = Batch::new();
    batch.put(&GLOBAL_DATA_LOG, &(session.user, StreamPos(1), "m.x".to_owned()), &());
    f.store.commit_blocking(batch).unwrap();
    assert_eq!(f.take_problems(), []);
}

#[test]
fn filters_pushers_and_transactions_must_be_found_both_ways() {
    assert_found("filter 0 is not found by its content", |f, _, batch| {
        batch.delete(&FILTER_IDS, &key_of(f, &FILTER_IDS, |_| true));
    });
    assert_found("filter 0 is missing", |f, _, batch| {
        batch.delete(&FILTERS, &key_of(f, &FILTERS, |_| true));
    });
    assert_found("a pusher of app is not found by its key", |f, _, batch| {
        batch.delete(&PUSHER_OWNERS, &key_of(f, &PUSHER_OWNERS, |_| true));
    });
    assert_found("a pusher of app is missing", |f, _, batch| {
        batch.delete(&PUSHERS, &key_of(f, &PUSHERS, |_| true));
    });
    assert_found("one would never be forgotten", |f, _, batch| {
        batch.delete(&TRANSACTIONS_BY_HOUR, &key_of(f, &TRANSACTIONS_BY_HOUR, |_| true));
    });
    assert_found("is not there", |f, _, batch| {
        batch.delete(&TRANSACTIONS, &key_of(f, &TRANSACTIONS, |_| true));
    });
}

#[test]
fn accounts_must_be_there_and_closed_ones_stay_closed() {
    assert_found("user 999: is the first administrator, but has no account", |_, _, batch| {
        batch.put(&FIRST_ADMIN, &(), &UserNid(999));
    });
    assert_found("user 999: has a profile, but no account", |_, _, batch| {
        batch.put(&PROFILES, &(UserNid(999), "displayname".to_owned()), &b"\"x\"".to_vec());
    });
    assert_found("@bob:example.org: is deactivated, but keeps", |f, _, batch| {
        let bob = f.users.parse_local_user("bob").unwrap();
        let bob = f.users.account_by_id(&bob).unwrap().unwrap().user;
        let row = f.store.get(&ACCOUNTS, &bob).unwrap().unwrap();
        let row = crate::accounts::AccountRow { is_deactivated: true, is_admin: true, ..row };
        batch.put(&ACCOUNTS, &bob, &row);
    });
    assert_found("registration token abc…: was used 3 times", |_, _, batch| {
        let row: crate::registration::RegistrationTokenRow =
            serde_json::from_value(json!({"uses_allowed": 2, "uses": 3, "expires_at_ms": null})).unwrap();
        batch.put(&REGISTRATION_TOKENS, &"abcdef".to_owned(), &row);
    });
}

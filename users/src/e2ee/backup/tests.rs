use serde_json::value::to_raw_value;

use super::*;
use crate::fixture::Fixture;

fn key(is_verified: bool, first_message_index: u64, forwarded_count: u64) -> KeyBackupData {
    let session_data = to_raw_value(&serde_json::json!({ "ciphertext": "x" })).unwrap();
    KeyBackupData { is_verified, first_message_index, forwarded_count, session_data }
}

fn one(room: &str, session: &str, key: KeyBackupData) -> RoomKeys {
    RoomKeys::from([(room.to_owned(), BTreeMap::from([(session.to_owned(), key)]))])
}

fn with_backup() -> (Fixture, UserNid, u64) {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let auth_data = to_raw_value(&serde_json::json!({ "public_key": "k" })).unwrap();
    let version = f.run(f.users.create_backup(user, "m.megolm_backup.v1", &auth_data)).unwrap();
    (f, user, version)
}

#[test]
fn better_keys_replace_worse_ones() {
    assert!(key(true, 9, 9).is_better_than(&key(false, 0, 0)));
    assert!(!key(false, 0, 0).is_better_than(&key(true, 9, 9)));
    assert!(key(true, 1, 9).is_better_than(&key(true, 2, 0)));
    assert!(key(true, 1, 1).is_better_than(&key(true, 1, 2)));
    assert!(!key(true, 1, 1).is_better_than(&key(true, 1, 1)));
}

#[test]
fn the_etag_changes_exactly_when_keys_change() {
    let (f, user, version) = with_backup();
    let first = f.run(f.users.put_backup_keys(user, version, &one("!r", "s", key(false, 5, 0)))).unwrap();
    assert_eq!(first, BackupEtag { etag: 1, count: 1 });
    let worse = f.run(f.users.put_backup_keys(user, version, &one("!r", "s", key(false, 6, 0)))).unwrap();
    assert_eq!(worse, first);
    let better = f.run(f.users.put_backup_keys(user, version, &one("!r", "s", key(false, 4, 0)))).unwrap();
    assert_eq!(better, BackupEtag { etag: 2, count: 1 });
    let keys = f.users.backup_keys(user, version, Some("!r"), Some("s")).unwrap();
    assert_eq!(keys["!r"]["s"].first_message_index, 4);
}

#[test]
fn keys_are_read_and_deleted_by_session_room_and_version() {
    let (f, user, version) = with_backup();
    for (room, session) in [("!a", "1"), ("!a", "2"), ("!b", "1")] {
        f.run(f.users.put_backup_keys(user, version, &one(room, session, key(false, 0, 0)))).unwrap();
    }
    let count = |room, session| {
        f.users.backup_keys(user, version, room, session).unwrap().values().map(BTreeMap::len).sum::<usize>()
    };
    assert_eq!((count(None, None), count(Some("!a"), None), count(Some("!a"), Some("2"))), (3, 2, 1));
    let etag = f.run(f.users.delete_backup_keys(user, version, Some("!a"), Some("2"))).unwrap();
    assert_eq!(etag.count, 2);
    let etag = f.run(f.users.delete_backup_keys(user, version, None, None)).unwrap();
    assert_eq!((etag.count, count(None, None)), (0, 0));
}

#[test]
fn only_the_current_version_takes_keys() {
    let (f, user, old) = with_backup();
    let auth_data = to_raw_value(&serde_json::json!({})).unwrap();
    let new = f.run(f.users.create_backup(user, "m.megolm_backup.v1", &auth_data)).unwrap();
    let refused = f.run(f.users.put_backup_keys(user, old, &one("!r", "s", key(false, 0, 0))));
    assert!(matches!(refused, Err(UserError::WrongRoomKeysVersion { current }) if current == new));
    f.run(f.users.delete_backup(user, new)).unwrap();
    f.run(f.users.delete_backup(user, new)).unwrap();
    assert_eq!(f.users.current_backup(user).unwrap().unwrap().version, old);
    let next = f.run(f.users.create_backup(user, "m.megolm_backup.v1", &auth_data)).unwrap();
    assert!(next > new, "numbers are not reused");
    assert!(matches!(f.run(f.users.delete_backup(user, 99)), Err(UserError::NotFound(_))));
}

#[test]
fn auth_data_can_change_and_the_algorithm_cannot() {
    let (f, user, version) = with_backup();
    let auth_data = to_raw_value(&serde_json::json!({ "public_key": "other" })).unwrap();
    f.run(f.users.update_backup(user, version, "m.megolm_backup.v1", &auth_data)).unwrap();
    assert_eq!(f.users.backup(user, version).unwrap().auth_data.get(), auth_data.get());
    let refused = f.run(f.users.update_backup(user, version, "other", &auth_data));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
}

#[test]
fn concurrent_uploads_count_every_key_once() {
    let (f, user, version) = with_backup();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let users = f.users.clone();
            scope.spawn(move || {
                for session in 0..5 {
                    let keys = one("!r", &format!("{worker}-{session}"), key(false, 0, 0));
                    crate::fixture::block_on(users.put_backup_keys(user, version, &keys)).unwrap();
                }
            });
        }
    });
    assert_eq!(f.users.backup(user, version).unwrap().etag.count, 20);
}

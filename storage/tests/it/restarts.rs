//! Opening again, refusing to open, backups.

use std::fs;

use storage::{Backend, BackupError, Batch, Keyspace, OpenError, Options, Profile, Read, Store, StreamPos};

use crate::bed::{Bed, COUNTS, KEYSPACES, NAMES, named};

on_every_backend!(
    data_and_positions_survive,
    a_store_is_opened_once_at_a_time,
    undeclared_keyspaces_survive,
    keyspace_names_are_unique,
    an_observer_that_holds_the_store_does_not_keep_it_open,
);

fn data_and_positions_survive(bed: &Bed) {
    for round in 0..3_u64 {
        let store = bed.open();
        assert_eq!(store.visible(), StreamPos(round * 2));
        if let Some(last) = round.checked_sub(1) {
            assert_eq!(store.get(&NAMES, &format!("round {last}")).unwrap(), Some(last));
        }
        let mut batch = named(&format!("round {round}"), round);
        batch.add(&COUNTS, &(1, "rounds".to_owned()), 1);
        assert_eq!(store.commit_blocking(batch).unwrap(), StreamPos(round * 2 + 1));
        store.commit_blocking(Batch::new()).unwrap();
        assert_eq!(store.get(&COUNTS, &(1, "rounds".to_owned())).unwrap(), Some(round as i64 + 1));
    }
}

fn a_store_is_opened_once_at_a_time(bed: &Bed) {
    let store = bed.open();
    let error = Store::open(bed.options()).expect_err("the first store is open");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(store);
    bed.open();
}

fn undeclared_keyspaces_survive(bed: &Bed) {
    const FUTURE: Keyspace<u64, u64> = Keyspace::new("future", Profile::Log);
    let with_future = || {
        let mut options = bed.options();
        options.keyspaces.insert(0, FUTURE.info());
        Store::open(options).unwrap()
    };
    let store = with_future();
    let mut batch = named("a", 1);
    batch.put(&FUTURE, &1, &2);
    store.commit_blocking(batch).unwrap();
    drop(store);

    let store = bed.open();
    assert_eq!(store.get(&NAMES, &"a".to_owned()).unwrap(), Some(1));
    store.commit_blocking(named("b", 2)).unwrap();
    drop(store);
    assert_eq!(with_future().get(&FUTURE, &1).unwrap(), Some(2));
}

fn keyspace_names_are_unique(bed: &Bed) {
    for wrong in [NAMES.info(), Keyspace::<u8, u64>::new("default", Profile::Points).info()] {
        let mut options = bed.options();
        options.keyspaces.push(wrong);
        assert!(matches!(Store::open(options), Err(OpenError::KeyspaceName(_))));
    }
}

fn an_observer_that_holds_the_store_does_not_keep_it_open(bed: &Bed) {
    let store = bed.open();
    let held = store.clone();
    store.on_commit(std::sync::Arc::new(move |_: &[storage::Committed]| {
        let _ = held.visible();
    }));
    store.commit_blocking(Batch::new()).unwrap();
    store.close().unwrap();
    drop(store);
    bed.open();
}

fn open_at(path: &std::path::Path) -> Result<Store, OpenError> {
    Store::open(Options::new(Backend::Rocks { path: path.to_owned() }, KEYSPACES.to_vec()))
}

#[test]
fn a_backup_is_a_database_of_its_own() {
    let bed = Bed::rocks();
    let target = tempfile::tempdir().unwrap();
    let store = bed.open();
    store.commit_blocking(named("before", 1)).unwrap();
    store.backup(target.path()).unwrap();
    store.commit_blocking(named("after", 2)).unwrap();
    assert!(matches!(store.backup(target.path()), Err(BackupError::TargetNotEmpty(_))));

    let copy = open_at(target.path()).unwrap();
    assert_eq!(copy.visible(), StreamPos(1));
    assert_eq!(copy.get(&NAMES, &"before".to_owned()).unwrap(), Some(1));
    assert_eq!(copy.get(&NAMES, &"after".to_owned()).unwrap(), None);
    copy.commit_blocking(named("elsewhere", 3)).unwrap();
    assert_eq!(store.get(&NAMES, &"elsewhere".to_owned()).unwrap(), None);
}

#[test]
fn a_backup_target_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let store = Bed::rocks().open();
    assert!(matches!(store.backup(folder.path()), Err(BackupError::TargetNotEmpty(_))));
    assert!(matches!(store.backup(&file), Err(BackupError::TargetNotEmpty(_))));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn the_memory_backend_has_no_backup() {
    let target = tempfile::tempdir().unwrap();
    assert!(matches!(Bed::memory().open().backup(target.path()), Err(BackupError::Unsupported)));
}

#[test]
fn another_softwares_database_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let db = rust_rocksdb::DB::open_default(folder.path()).unwrap();
    db.put(b"key", b"value").unwrap();
    drop(db);
    assert!(matches!(open_at(folder.path()), Err(OpenError::Foreign { .. })));
    let families = rust_rocksdb::DB::list_cf(&rust_rocksdb::Options::default(), folder.path()).unwrap();
    assert_eq!(families, ["default"]);
}

#[test]
fn a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = rust_rocksdb::DB::open_default(folder.path()).unwrap();
    db.put(b"format", 99_u32.to_be_bytes()).unwrap();
    drop(db);
    let error = open_at(folder.path()).expect_err("format 99 is from the future");
    assert!(matches!(error, OpenError::WrongFormat { found: 99, .. }), "{error}");
}

#[test]
fn a_damaged_database_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_at(folder.path()).unwrap());
    let manifest = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST"))
        .expect("RocksDB has a manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes.iter_mut().skip(20).for_each(|byte| *byte ^= 0x5a);
    fs::write(&manifest, bytes).unwrap();
    let error = open_at(folder.path()).expect_err("the manifest is garbage");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

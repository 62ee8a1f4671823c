use std::time::Duration;

use storage::Batch;

use super::*;
use crate::media::tests::{Fixture, fixture, png, small};
use crate::rows::MediaRow;

fn commit(fixture: &Fixture, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    change(&mut batch);
    fixture.media.0.store.commit_blocking(batch).unwrap();
}

#[tokio::test]
async fn what_the_server_writes_is_sound() {
    let fixture = fixture();
    assert_eq!(fixture.find_problems(), []);
    let image = fixture.upload(&png(400, 300)).await;
    fixture.media.thumbnail(&image, &small(false), Duration::ZERO).await.unwrap();
    fixture.upload(b"twice").await;
    fixture.upload(b"twice").await;
    fixture.reserve("alice").await;
    fs::create_dir_all(fixture.dir.path().join("files/ab/cd")).unwrap();
    fs::write(fixture.dir.path().join(format!("files/ab/cd/{:060}", 0)), "left by a crash").unwrap();
    let findings = check(&fixture.media.0.store, fixture.dir.path()).unwrap();
    assert_eq!((findings.media, findings.files, findings.unused_files), (3, 3, 1));
    assert_eq!(findings.problems, []);
}

#[tokio::test]
async fn missing_and_damaged_files_are_found() {
    let fixture = fixture();
    let mxc = fixture.upload(b"some").await;
    let hash = crate::disk::parse_hex(&fixture.media.info(&mxc).unwrap().sha256).unwrap();
    let path = fixture.media.0.disk.path(&hash);
    fs::write(&path, "more bytes").unwrap();
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].place == mxc.to_string(), "{found:?}");
    assert!(found[0].what.contains("has 10 bytes, not 4"), "{found:?}");
    fs::remove_file(path).unwrap();
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].place == mxc.to_string(), "{found:?}");
    fs::remove_dir_all(fixture.dir.path().join("files")).unwrap();
    assert_eq!(fixture.find_problems().len(), 1, "the folder is gone too");
}

#[tokio::test]
async fn wrong_counts_are_found() {
    let fixture = fixture();
    let mxc = fixture.upload(b"some").await;
    let hash = crate::disk::parse_hex(&fixture.media.info(&mxc).unwrap().sha256).unwrap();
    commit(&fixture, |batch| _ = batch.add(&FILES, &hash, 1));
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].what.contains("used 1 times, and 2"), "{found:?}");
    commit(&fixture, |batch| _ = batch.delete(&FILES, &hash));
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].what.contains("not counted"), "{found:?}");
}

#[tokio::test]
async fn reservations_without_media_and_the_reverse_are_found() {
    let fixture = fixture();
    fixture.reserve("alice").await;
    let store = &fixture.media.0.store;
    let reservation = store.scan(&PENDING, &()).keys().next().unwrap().unwrap();
    commit(&fixture, |batch| _ = batch.delete(&PENDING, &reservation));
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].what.contains("is not reserved"), "{found:?}");
    let key = ("here.example".to_owned(), reservation.2.clone());
    let row: MediaRow = store.get(&MEDIA, &key).unwrap().unwrap();
    assert!(matches!(row.state, MediaState::Pending { .. }));
    commit(&fixture, |batch| _ = batch.delete(&MEDIA, &key).put(&PENDING, &reservation, &()));
    let found = fixture.find_problems();
    assert!(found.len() == 1 && found[0].what.contains("does not wait"), "{found:?}");
}

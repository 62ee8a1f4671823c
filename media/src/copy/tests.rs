use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use spec::ids::UserId;

use super::*;
use crate::media::tests::{fixture, png, small};

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

#[tokio::test]
async fn held_files_stay_until_they_are_released_and_swept() {
    let fixture = fixture();
    let mxc = fixture.upload(b"picture").await;
    let held = fixture.media.hold_files();
    let also_held = fixture.media.hold_files();
    assert!(fixture.media.delete(&mxc).await.unwrap());
    assert_eq!(fixture.count("files"), 1);
    drop(held);
    assert_eq!(fixture.media.sweep().await.unwrap().files, 0, "somebody else still needs it");
    drop(also_held);
    assert_eq!(fixture.media.sweep().await.unwrap().files, 1);
    assert_eq!(fixture.count("files"), 0);
}

#[tokio::test]
async fn a_held_file_that_is_uploaded_again_is_not_swept() {
    let fixture = fixture();
    let mxc = fixture.upload(b"picture").await;
    let held = fixture.media.hold_files();
    assert!(fixture.media.delete(&mxc).await.unwrap());
    let again = fixture.upload(b"picture").await;
    drop(held);
    assert_eq!(fixture.media.sweep().await.unwrap().files, 0);
    assert!(fixture.media.download(&again, Duration::ZERO).await.is_ok());
    assert_eq!(fixture.find_problems(), []);
}

#[tokio::test]
async fn a_copy_has_every_file_and_is_independent() {
    let fixture = fixture();
    let image = fixture.upload(&png(400, 300)).await;
    fixture.media.thumbnail(&image, &small(false), Duration::ZERO).await.unwrap();
    let file = fixture.upload(b"plain").await;
    let target = fixture.dir.path().join("copy");
    let held = fixture.media.hold_files();
    let mut told = Vec::new();
    let copied = held.copy_to(&target, &mut |copied| {
        told.push(copied.files);
        GO_ON
    });
    let copied = copied.unwrap();
    assert_eq!((copied.files, copied.links, told), (3, 3, vec![1, 2, 3]));
    assert_eq!(fixture.count("copy/files"), 3);
    drop(held);
    assert_eq!(crate::fsck::check(&fixture.media.0.store, &target).unwrap().problems, []);
    let path = |dir: &Path| {
        let hash = fixture.media.info(&file).unwrap().sha256;
        Disk::at(dir).path(&crate::disk::parse_hex(&hash).unwrap())
    };
    let (original, link) = (path(fixture.dir.path()), path(&target));
    assert_eq!(fs::metadata(&original).unwrap().ino(), fs::metadata(&link).unwrap().ino());
    assert!(fixture.media.delete(&file).await.unwrap());
    assert!(!original.exists());
    assert_eq!(fs::read(link).unwrap(), b"plain");
}

#[tokio::test]
async fn where_nothing_can_be_linked_files_are_copied() {
    let fixture = fixture();
    fixture.upload(b"one").await;
    let hash = fixture.upload(b"other").await;
    let hash = crate::disk::parse_hex(&fixture.media.info(&hash).unwrap().sha256).unwrap();
    let target = Disk::open(&fixture.dir.path().join("copy")).unwrap();
    // As after a refusal.
    let mut linking = false;
    assert_eq!(copy_file(&fixture.media.0.disk, &target, &hash, &mut linking).unwrap(), 5);
    let (original, copy) = (fixture.media.0.disk.path(&hash), target.path(&hash));
    assert_eq!(fs::read(&copy).unwrap(), b"other");
    assert_ne!(fs::metadata(original).unwrap().ino(), fs::metadata(&copy).unwrap().ino());
    // A link is refused because the place is taken; the copy then replaces what is there.
    fs::write(&copy, "damaged").unwrap();
    linking = true;
    assert_eq!(copy_file(&fixture.media.0.disk, &target, &hash, &mut linking).unwrap(), 5);
    assert!(!linking);
    assert_eq!(fs::read(copy).unwrap(), b"other");
}

#[tokio::test]
async fn copying_can_be_ended() {
    let fixture = fixture();
    fixture.upload(b"one").await;
    fixture.upload(b"other").await;
    let target = fixture.dir.path().join("copy");
    let ended = fixture.media.hold_files().copy_to(&target, &mut |_| ControlFlow::Break(()));
    assert!(matches!(ended, Err(MediaError::Interrupted)));
    assert_eq!(fixture.count("copy/files"), 1);
    let user = UserId::parse("@alice:here.example").unwrap();
    assert!(fixture.media.reserve(&user).await.is_ok(), "the server goes on");
}

use super::*;
use crate::media::tests::{NO_WAIT, fixture, png, small};

const ADMIN: &str = "@admin:here.example";

#[tokio::test]
async fn quarantined_media_is_nobodys_to_see() {
    let fixture = fixture();
    let media = &fixture.media;
    let mxc = fixture.upload(&png(400, 300)).await;
    media.thumbnail(&mxc, &small(false), NO_WAIT).await.unwrap();
    assert_eq!(media.quarantine(&mxc, ADMIN).await.unwrap(), Quarantined::Now);
    assert_eq!(media.quarantine(&mxc, ADMIN).await.unwrap(), Quarantined::Before);
    assert!(matches!(media.download(&mxc, NO_WAIT).await, Err(MediaError::NotFound)));
    assert!(matches!(media.thumbnail(&mxc, &small(false), NO_WAIT).await, Err(MediaError::NotFound)));
    assert!(matches!(media.info(&mxc), Err(MediaError::NotFound)));
    let record = media.describe(&mxc).unwrap();
    assert_eq!(record.quarantined_by.as_deref(), Some(ADMIN), "administrators still see that it is there");
    assert!(media.unquarantine(&mxc, ADMIN).await.unwrap());
    assert!(!media.unquarantine(&mxc, ADMIN).await.unwrap());
    assert!(media.download(&mxc, NO_WAIT).await.is_ok());
    let unknown = Mxc::new("here.example", "unknown").unwrap();
    assert!(matches!(media.quarantine(&unknown, ADMIN).await, Err(MediaError::NotFound)));
}

#[tokio::test]
async fn remote_media_in_quarantine_is_not_fetched() {
    let fixture = fixture();
    let media = &fixture.media;
    let mxc = Mxc::new("there.example", "abc").unwrap();
    assert_eq!(media.quarantine(&mxc, ADMIN).await.unwrap(), Quarantined::Now, "before it was ever here");
    assert!(matches!(media.download(&mxc, NO_WAIT).await, Err(MediaError::NotFound)));
    assert_eq!(fixture.fetches(), 0);
    media.unquarantine(&mxc, ADMIN).await.unwrap();
    media.download(&mxc, NO_WAIT).await.unwrap();
    media.quarantine(&mxc, ADMIN).await.unwrap();
    assert!(media.delete(&mxc).await.unwrap());
    assert!(matches!(media.download(&mxc, NO_WAIT).await, Err(MediaError::NotFound)), "nor after it was deleted");
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn the_same_bytes_under_another_id_are_hidden_too_but_for_protected_ones() {
    let fixture = fixture();
    let media = &fixture.media;
    let first = fixture.upload(b"bad").await;
    let sticker = fixture.upload(b"bad").await;
    assert!(media.set_protected(&sticker, true, ADMIN).await.unwrap());
    assert_eq!(media.quarantine(&sticker, ADMIN).await.unwrap(), Quarantined::Protected);
    media.quarantine(&first, ADMIN).await.unwrap();
    let again = fixture.upload(b"bad").await;
    assert!(matches!(media.download(&again, NO_WAIT).await, Err(MediaError::NotFound)));
    assert!(media.describe(&again).unwrap().is_hidden_by_content);
    assert!(media.download(&sticker, NO_WAIT).await.is_ok());
    media.delete(&first).await.unwrap();
    assert!(matches!(media.download(&again, NO_WAIT).await, Err(MediaError::NotFound)), "its mark stays");
    media.unquarantine(&first, ADMIN).await.unwrap();
    assert!(media.download(&again, NO_WAIT).await.is_ok());
    assert!(media.set_protected(&sticker, false, ADMIN).await.unwrap());
    assert_eq!(media.quarantine(&sticker, ADMIN).await.unwrap(), Quarantined::Now);
}

#[tokio::test]
async fn changes_are_told_in_order() {
    let fixture = fixture();
    let media = &fixture.media;
    assert_eq!((media.last_quarantine_change().unwrap(), media.quarantine_changes(0, 10).unwrap()), (0, vec![]));
    let (a, b) = (fixture.upload(b"a").await, fixture.upload(b"b").await);
    media.quarantine(&a, ADMIN).await.unwrap();
    media.quarantine(&b, ADMIN).await.unwrap();
    media.unquarantine(&a, ADMIN).await.unwrap();
    let all = media.quarantine_changes(0, 10).unwrap();
    let brief: Vec<_> = all.iter().map(|change| (change.media_id.as_str(), change.quarantined)).collect();
    assert_eq!(brief, [(a.media_id(), true), (b.media_id(), true), (a.media_id(), false)]);
    assert_eq!(media.quarantine_changes(all[0].id, 1).unwrap(), all[1..2]);
    assert_eq!(media.last_quarantine_change().unwrap(), all[2].id);
}

use std::time::Duration;

use super::*;
use crate::media::tests::{NO_WAIT, fixture};

const ALICE: &str = "@alice:here.example";

#[tokio::test]
async fn a_users_media_are_listed_in_every_order() {
    let fixture = fixture();
    let media = &fixture.media;
    let mut made = Vec::new();
    for bytes in [&b"333"[..], b"1", b"22"] {
        made.push(fixture.upload(bytes).await);
        fixture.clock.advance(Duration::from_secs(1));
    }
    fixture.upload_as("bob", b"other").await.unwrap();
    let list = |order, newest_first, from, limit| {
        let page = media.user_media(ALICE, order, newest_first, from, limit).unwrap();
        assert_eq!(page.total, 3);
        page.items.into_iter().map(|item| item.mxc).collect::<Vec<_>>()
    };
    assert_eq!(list(MediaOrder::Created, false, 0, 10), made);
    assert_eq!(list(MediaOrder::Created, true, 1, 1), made[1..2]);
    assert_eq!(list(MediaOrder::Length, false, 0, 2), [made[1].clone(), made[2].clone()]);
    assert_eq!(list(MediaOrder::Length, true, 2, 2), made[1..2]);
    media.download(&made[1], NO_WAIT).await.unwrap();
    fixture.settle().await;
    assert_eq!(list(MediaOrder::LastAccess, true, 0, 1), made[1..2]);
    media.quarantine(&made[2], "@admin:here.example").await.unwrap();
    assert_eq!(list(MediaOrder::QuarantinedBy, true, 0, 1), made[2..3]);
    media.set_protected(&made[0], true, "@admin:here.example").await.unwrap();
    assert_eq!(list(MediaOrder::Protected, true, 0, 1), made[0..1]);
    let mut by_id = made.clone();
    by_id.sort_by(|a, b| a.media_id().cmp(b.media_id()));
    assert_eq!(list(MediaOrder::MediaId, false, 0, 10), by_id);
    assert_eq!(media.user_media(ALICE, MediaOrder::Created, false, 3, 10).unwrap().items, []);
    let first = media.user_media_after(ALICE, None, 2).unwrap();
    let rest = media.user_media_after(ALICE, first.last().map(|(at, mxc)| (*at, mxc.media_id())), 2).unwrap();
    let walked: Vec<Mxc> = first.into_iter().chain(rest).map(|(_, mxc)| mxc).collect();
    assert_eq!(walked, made);
}

#[tokio::test]
async fn a_record_says_what_is_known() {
    let fixture = fixture();
    let mxc = fixture.upload(b"text").await;
    let record = fixture.media.describe(&mxc).unwrap();
    assert_eq!((record.uploader.as_deref(), record.created_ms), (Some(ALICE), 1_700_000_000_000));
    assert_eq!(record.content.as_ref().map(|content| content.length), Some(4));
    assert_eq!((record.last_access_ms, record.is_protected), (None, false));
    let reserved = fixture.reserve("alice").await;
    assert_eq!(fixture.media.describe(&reserved).unwrap().content, None);
    let unknown = Mxc::new("there.example", "abc").unwrap();
    assert!(matches!(fixture.media.describe(&unknown), Err(MediaError::NotFound)));
    assert_eq!(fixture.media.media_after(None, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn times_of_access_are_written_once_a_day() {
    let fixture = fixture();
    let mxc = fixture.upload(b"text").await;
    let visit = async || {
        fixture.media.download(&mxc, NO_WAIT).await.unwrap();
        fixture.settle().await;
        (fixture.media.last_access(&mxc).unwrap(), fixture.media.0.store.visible())
    };
    let (first, pos) = visit().await;
    assert_eq!(first, Some(fixture.clock.now_ms()));
    fixture.clock.advance(Duration::from_secs(3600));
    assert_eq!(visit().await, (first, pos), "nothing was written");
    fixture.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(visit().await.0, Some(fixture.clock.now_ms()));
    fixture.media.delete(&mxc).await.unwrap();
    assert_eq!(fixture.media.last_access(&mxc).unwrap(), None);
}

use std::time::Duration;

use runtime::config::Span;

use super::*;
use crate::MediaConfig;
use crate::media::tests::{NO_WAIT, fixture};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_was_used_lately_stays() {
    let fixture = fixture();
    let media = &fixture.media;
    let (old, used, small) =
        (fixture.upload(b"old media").await, fixture.upload(b"used").await, fixture.upload(b"s").await);
    let remote = Mxc::new("there.example", "abc").unwrap();
    media.download(&remote, NO_WAIT).await.unwrap();
    fixture.settle().await;
    fixture.clock.advance(10 * DAY);
    let before_ms = fixture.clock.now_ms();
    media.download(&used, NO_WAIT).await.unwrap();
    fixture.settle().await;
    let which = Unused { local: true, before_ms, larger_than: 1, spare_marked: false };
    let step = media.delete_unused(&which, None, &|mxc| *mxc == old).await.unwrap();
    assert_eq!(step, Deleted::default(), "kept by the caller, used, or too small");
    let step = media.delete_unused(&which, None, &|_| false).await.unwrap();
    assert_eq!((step.media, step.bytes, step.next), (vec![old.clone()], 9, None));
    assert!(media.describe(&old).is_err() && media.describe(&used).is_ok() && media.describe(&small).is_ok());
    assert!(media.describe(&remote).is_ok());
    let which = Unused { local: false, ..which };
    let step = media.delete_unused(&which, None, &|_| false).await.unwrap();
    assert_eq!(step.media, std::slice::from_ref(&remote));
    assert!(media.describe(&remote).is_err());
}

#[tokio::test]
async fn lifetimes_are_off_unless_set_and_spare_what_is_marked() {
    let fixture = fixture();
    let media = &fixture.media;
    let (gone, kept) = (fixture.upload(b"gone").await, fixture.upload(b"kept").await);
    let avatar = fixture.upload(b"avatar").await;
    media.set_protected(&kept, true, "@admin:here.example").await.unwrap();
    fixture.clock.advance(3 * DAY);
    assert_eq!(media.expire(&|_| false).await.unwrap(), 0);
    media.reload(MediaConfig { local_media_lifetime: Some(Span(2 * DAY)), ..MediaConfig::default() });
    assert_eq!(media.expire(&|mxc| *mxc == avatar).await.unwrap(), 1);
    assert!(media.describe(&gone).is_err() && media.describe(&kept).is_ok() && media.describe(&avatar).is_ok());
}

#[tokio::test]
async fn steps_come_to_an_end() {
    let fixture = fixture();
    for index in 0..STEP + 20 {
        fixture.upload(&index.to_be_bytes()).await;
    }
    fixture.clock.advance(DAY);
    let which = Unused { local: true, before_ms: u64::MAX, larger_than: 0, spare_marked: false };
    let first = fixture.media.delete_unused(&which, None, &|_| false).await.unwrap();
    let second = fixture.media.delete_unused(&which, first.next.as_ref(), &|_| false).await.unwrap();
    assert_eq!((first.media.len(), second.media.len(), second.next), (STEP, 20, None));
}

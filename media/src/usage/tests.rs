use crate::media::tests::{NO_WAIT, fixture};
use crate::{Mxc, Usage};
use storage::{Batch, Read};

use super::*;

const ALICE: &str = "@alice:here.example";

fn usage(count: u64, bytes: u64) -> Usage {
    Usage { count, bytes }
}

#[tokio::test]
async fn sums_follow_every_change() {
    let fixture = fixture();
    let media = &fixture.media;
    assert_eq!(media.user_usage(ALICE).unwrap(), usage(0, 0));
    let first = fixture.upload(b"four").await;
    fixture.upload(b"four").await;
    fixture.upload_as("bob", b"sixsix").await.unwrap();
    let reserved = fixture.reserve("alice").await;
    assert_eq!(media.user_usage(ALICE).unwrap(), usage(2, 8), "what is only reserved does not count");
    fixture.fill("alice", &reserved, b"1").await.unwrap();
    let remote = Mxc::new("there.example", "abc").unwrap();
    media.download(&remote, NO_WAIT).await.unwrap();
    let server = media.server_usage().unwrap();
    assert_eq!((server.local, server.remote), (usage(4, 15), usage(1, 12)));
    media.delete(&first).await.unwrap();
    media.delete(&remote).await.unwrap();
    let all: Vec<_> = media.all_usage().unwrap().into_iter().collect();
    assert_eq!(all, [(ALICE.to_owned(), usage(2, 5)), ("@bob:here.example".to_owned(), usage(1, 6))]);
    assert_eq!(media.server_usage().unwrap().remote, usage(0, 0));
    assert_eq!(fixture.find_problems(), []);
}

#[tokio::test]
async fn sums_of_a_time() {
    let fixture = fixture();
    fixture.upload(b"old").await;
    fixture.clock.advance(std::time::Duration::from_secs(100));
    let now = fixture.clock.now_ms();
    fixture.upload(b"newer").await;
    let of = |from, until| fixture.media.usage_between(from, until).unwrap().get(ALICE).copied();
    assert_eq!((of(now, u64::MAX), of(0, now - 1)), (Some(usage(1, 5)), Some(usage(1, 3))));
    assert_eq!((of(0, now), of(now + 1, u64::MAX)), (Some(usage(2, 8)), None));
}

#[tokio::test]
async fn what_an_older_release_left_is_counted_once() {
    let fixture = fixture();
    let media = &fixture.media;
    fixture.upload(b"four").await;
    media.download(&Mxc::new("there.example", "abc").unwrap(), NO_WAIT).await.unwrap();
    let store = &media.0.store;
    let mut batch = Batch::new();
    batch.delete(&COUNTED, &());
    store.scan(&TOTALS, &()).keys().for_each(|key| _ = batch.delete(&TOTALS, &key.unwrap()));
    store.scan(&BY_USER, &()).keys().for_each(|key| _ = batch.delete(&BY_USER, &key.unwrap()));
    store.commit(batch).await.unwrap();
    assert_eq!(media.all_usage().unwrap().len(), 0);
    for _ in 0..2 {
        media.0.count_once().unwrap();
        assert_eq!(media.user_usage(ALICE).unwrap(), usage(1, 4));
        assert_eq!(media.server_usage().unwrap().remote, usage(1, 12));
    }
    assert_eq!(fixture.find_problems(), []);
}

#[tokio::test]
async fn wrong_sums_are_found() {
    let fixture = fixture();
    let media = &fixture.media;
    fixture.upload(b"four").await;
    let mut batch = Batch::new();
    batch.add(&TOTALS, &(USER, ALICE.to_owned(), BYTES), 5);
    batch.add(&TOTALS, &(LOCAL, String::new(), COUNT), 1);
    media.0.store.commit(batch).await.unwrap();
    let problems = fixture.find_problems();
    assert_eq!(problems.iter().map(|problem| problem.place.as_str()).collect::<Vec<_>>(), [ALICE, "all media"]);
    let mut batch = Batch::new();
    media.0.store.scan(&BY_USER, &()).keys().for_each(|key| _ = batch.delete(&BY_USER, &key.unwrap()));
    media.0.store.commit(batch).await.unwrap();
    assert_eq!(fixture.find_problems().len(), 4);
}

#[tokio::test]
async fn what_is_stored_is_counted_by_day_and_stays_so() {
    let fixture = fixture();
    let media = &fixture.media;
    let first = u32::try_from(fixture.clock.now_ms() / 86_400_000).unwrap();
    let gone = fixture.upload(b"four").await;
    fixture.clock.advance(std::time::Duration::from_secs(86_400));
    fixture.upload(b"sixsix").await;
    media.download(&Mxc::new("there.example", "abc").unwrap(), NO_WAIT).await.unwrap();
    let days = [(first, usage(1, 4), usage(0, 0)), (first + 1, usage(1, 6), usage(1, 12))];
    let stored = |from, until| -> Vec<_> {
        let days = media.stored_by_day(from, until).unwrap();
        days.into_iter().map(|(day, stored)| (day, stored.local, stored.remote)).collect()
    };
    assert_eq!(stored(first, first + 1), days);
    assert_eq!(stored(first + 1, u32::MAX), days[1..]);
    // What an older release has left is counted once.
    let mut batch = Batch::new();
    batch.delete(&crate::rows::DAYS_COUNTED, &());
    let store = &media.0.store;
    store.scan(&crate::rows::DAYS, &()).keys().for_each(|key| _ = batch.delete(&crate::rows::DAYS, &key.unwrap()));
    store.commit(batch).await.unwrap();
    for _ in 0..2 {
        media.0.count_days_once().unwrap();
        assert_eq!(stored(first, first + 1), days);
    }
    media.delete(&gone).await.unwrap();
    assert_eq!(stored(first, first + 1), days);
}

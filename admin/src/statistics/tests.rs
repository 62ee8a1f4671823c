use std::time::Duration;

use rooms::{CreateRoom, Draft, Preset, RoomNid};
use serde_json::{Map, json};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Read, RowKey};
use users::{AccountKind, AdminRights, NewAccount};

use super::rows::{ACTIVE, ACTIVE_DAYS, ALL_ROOMS, ActiveDayRow, BACKFILLED, CURSOR, FACTS, KNOWN, MESSAGES, TOTALS};
use super::*;
use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Somebody with a room to talk in.
struct Talker {
    user_id: UserId,
    room: RoomNid,
}

impl Talker {
    async fn new(fixture: &Fixture, localpart: &str) -> Talker {
        let admin = AdminRights::IfFirst;
        let new = NewAccount { localpart, password: None, kind: AccountKind::User, admin, registration_token: None };
        let user_id = fixture.admin.users().create_account(new).await.unwrap().user_id;
        let rooms = fixture.admin.rooms();
        let request = CreateRoom::new(user_id.clone(), rooms.default_version(), Preset::PrivateChat);
        let room = rooms.create_room(request).await.unwrap();
        Talker { user_id, room: rooms.known_room(&room).unwrap() }
    }

    async fn say(&self, fixture: &Fixture, times: usize) {
        for number in 0..times {
            let content = Map::from_iter([("msgtype".to_owned(), json!("m.text")), ("body".to_owned(), number.into())]);
            let draft = Draft::message(self.user_id.clone(), "m.room.message", content);
            fixture.admin.rooms().append(self.room, vec![draft], None).await.unwrap();
        }
        count(fixture).await;
    }
}

/// Counts what has come since the last time.
async fn count(fixture: &Fixture) {
    fixture.admin.statistics().catch_up().await.unwrap();
    fixture.admin.statistics().count_arrived().await.unwrap();
}

fn today(fixture: &Fixture) -> Day {
    day_of(fixture.clock.now_ms())
}

/// How many messages there were on a day, and how many of them are known by their room.
fn messages(fixture: &Fixture, day: Day) -> (u64, u64) {
    let by = [Dimension::Room, Dimension::Type, Dimension::Origin];
    let mut counts = fixture.admin.statistics().messages((day, day), None, &by).unwrap();
    counts.retain(|count| count.kind.as_deref() == Some("m.room.message") && count.is_local == Some(true));
    let of_rooms = counts.iter().filter(|count| count.room.is_some()).map(|count| count.count).sum();
    (counts.iter().map(|count| count.count).sum(), of_rooms)
}

/// What is kept of a day.
fn figures(fixture: &Fixture, day: Day) -> DayFigures {
    fixture.admin.statistics().days((day, day)).unwrap()[0]
}

/// Daily and monthly active users.
fn active(fixture: &Fixture, day: Day) -> (u64, u64) {
    let figures = figures(fixture, day);
    (figures.daily_active, figures.monthly_active)
}

#[test]
fn days_are_those_of_utc() {
    assert_eq!((day_of(0), day_of(86_399_999), day_of(86_400_000)), (0, 0, 1));
    assert_eq!(begin_of(day_of(1_700_000_000_000)), 1_699_920_000_000);
}

#[tokio::test]
async fn a_restart_counts_nothing_twice_and_misses_nothing() {
    let mut fixture = Fixture::new();
    // Counting begins with the first start.
    fixture.admin.statistics().catch_up().await.unwrap();
    let day = today(&fixture);
    let alice = Talker::new(&fixture, "alice").await;
    alice.say(&fixture, 3).await;
    assert_eq!(messages(&fixture, day), (3, 3));
    for _ in 0..2 {
        fixture = fixture.restart().await;
        count(&fixture).await;
        assert_eq!((messages(&fixture, day), active(&fixture, day)), ((3, 3), (1, 1)));
    }
    // What was said and not counted before the stop is counted after it, once.
    let content = Map::from_iter([("body".to_owned(), json!("late"))]);
    let draft = Draft::message(alice.user_id.clone(), "m.room.message", content);
    fixture.admin.rooms().append(alice.room, vec![draft], None).await.unwrap();
    for _ in 0..2 {
        fixture = fixture.restart().await;
        count(&fixture).await;
        assert_eq!(messages(&fixture, day), (4, 4));
    }
}

#[tokio::test]
async fn what_was_before_the_first_start_is_not_counted() {
    let fixture = Fixture::new();
    let alice = Talker::new(&fixture, "alice").await;
    alice.say(&fixture, 5).await;
    assert_eq!(messages(&fixture, today(&fixture)), (0, 0));
    alice.say(&fixture, 2).await;
    assert_eq!(messages(&fixture, today(&fixture)), (2, 2));
}

#[tokio::test]
async fn users_are_active_for_a_day_and_for_a_month() {
    let fixture = Fixture::new();
    fixture.admin.statistics().catch_up().await.unwrap();
    let first = today(&fixture);
    let alice = Talker::new(&fixture, "alice").await;
    alice.say(&fixture, 1).await;
    fixture.clock.advance(DAY * 10);
    let bob = Talker::new(&fixture, "bob").await;
    bob.say(&fixture, 2).await;
    assert_eq!((active(&fixture, first), active(&fixture, first + 1)), ((1, 1), (0, 1)));
    assert_eq!(active(&fixture, first + 10), (1, 2));
    // A month is the day itself and the 29 before.
    assert_eq!((active(&fixture, first + 29).1, active(&fixture, first + 30).1), (2, 1));
    assert_eq!((active(&fixture, first + 39).1, active(&fixture, first + 40).1), (1, 0));
    let statistics = fixture.admin.statistics();
    assert!(statistics.days((first + 1, first)).is_err());
}

#[tokio::test]
async fn retention_says_who_of_the_month_before_came_back() {
    let fixture = Fixture::new();
    fixture.admin.statistics().catch_up().await.unwrap();
    let alice = Talker::new(&fixture, "alice").await;
    let bob = Talker::new(&fixture, "bob").await;
    alice.say(&fixture, 1).await;
    bob.say(&fixture, 1).await;
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), Retention { before: 0, stayed: 0 });
    fixture.clock.advance(DAY * 40);
    alice.say(&fixture, 1).await;
    // New users have not come back.
    Talker::new(&fixture, "carol").await.say(&fixture, 1).await;
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), Retention { before: 2, stayed: 1 });
    fixture.clock.advance(DAY * 30);
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), Retention { before: 2, stayed: 0 });
}

#[tokio::test]
async fn old_days_are_put_together_and_very_old_ones_forgotten() {
    let fixture = Fixture::new();
    let statistics = fixture.admin.statistics();
    statistics.catch_up().await.unwrap();
    let first = today(&fixture);
    let alice = Talker::new(&fixture, "alice").await;
    let bob = Talker::new(&fixture, "bob").await;
    alice.say(&fixture, 2).await;
    bob.say(&fixture, 3).await;
    let store = fixture.admin.store();
    let count_rows = || {
        let messages = store.scan(&MESSAGES, &()).until_prefix(&(first + 1)).keys().count();
        (messages, store.scan(&ACTIVE, &()).until_prefix(&(first + 1)).keys().count())
    };
    let before = count_rows();
    fixture.clock.advance(DAY * 60);
    statistics.tidy().await.unwrap();
    assert_eq!(count_rows(), before);
    fixture.clock.advance(DAY * 40);
    alice.say(&fixture, 1).await;
    // It may end in the middle and be done again.
    for _ in 0..2 {
        statistics.tidy().await.unwrap();
        assert_eq!((messages(&fixture, first), active(&fixture, first)), ((5, 0), (2, 2)));
    }
    let after = count_rows();
    assert!(after.0 < before.0 && after.1 == 0, "{before:?} → {after:?}");
    let rooms = store.scan(&MESSAGES, &()).until_prefix(&(first + 1)).keys();
    assert!(rooms.map(Result::unwrap).all(|(_, room, _, _)| room == ALL_ROOMS));
    // Days that are young enough stay as they are.
    let last = today(&fixture);
    assert_eq!((messages(&fixture, last), active(&fixture, last)), ((1, 1), (1, 1)));
    fixture.clock.advance(DAY * 1000);
    statistics.tidy().await.unwrap();
    assert_eq!((messages(&fixture, first), active(&fixture, first)), ((0, 0), (0, 0)));
    assert_eq!((messages(&fixture, last), active(&fixture, last)), ((1, 0), (1, 1)));
}

#[tokio::test]
async fn each_day_is_kept_and_stays_so_over_restarts() {
    let mut fixture = Fixture::new();
    fixture.admin.statistics().catch_up().await.unwrap();
    let first = today(&fixture);
    let alice = Talker::new(&fixture, "alice").await;
    let bob = Talker::new(&fixture, "bob").await;
    alice.say(&fixture, 2).await;
    upload(&fixture, b"12345").await;
    fixture.admin.statistics().sample().await.unwrap();
    // The second day: somebody comes, another one goes, a room is made.
    fixture.clock.advance(DAY);
    let carol = Talker::new(&fixture, "carol").await;
    carol.say(&fixture, 1).await;
    let user = fixture.admin.rooms().user_nid(&bob.user_id).unwrap().unwrap();
    fixture.admin.users().deactivate(user).await.unwrap();
    upload(&fixture, b"123").await;
    count(&fixture).await;
    fixture.admin.statistics().sample().await.unwrap();
    // On the third day the server stands still, and the fourth is quiet.
    fixture = fixture.restart().await;
    fixture.clock.advance(DAY * 2);
    count(&fixture).await;
    fixture.admin.statistics().sample().await.unwrap();
    for _ in 0..2 {
        let days = fixture.admin.statistics().days((first - 1, first + 3)).unwrap();
        let users: Vec<_> = days.iter().map(|day| (day.users, day.new_users)).collect();
        assert_eq!(users, [(None, 0), (Some(2), 2), (Some(2), 1), (Some(2), 0), (Some(2), 0)]);
        let rooms: Vec<_> = days.iter().map(|day| (day.rooms, day.new_rooms)).collect();
        assert_eq!(rooms, [(None, 0), (Some(2), 2), (Some(3), 1), (Some(3), 0), (Some(3), 0)]);
        let active: Vec<_> = days.iter().map(|day| (day.daily_active, day.monthly_active)).collect();
        assert_eq!(active, [(0, 0), (2, 2), (1, 3), (0, 3), (0, 3)]);
        let media: Vec<_> = days.iter().map(|day| (day.stored.local.bytes, day.local_media)).collect();
        let (one, two) = (Some((1, 5)), Some((2, 8)));
        assert_eq!(media, [(0, None), (5, one), (3, two), (0, two), (0, two)]);
        // As many as are counted by room and type.
        let events = days.iter().map(|day| day.events).sum::<u64>();
        let counts = fixture.admin.statistics().messages((first, first + 3), None, &[]).unwrap();
        assert_eq!(vec![events], counts.iter().map(|count| count.count).collect::<Vec<_>>());
        fixture = fixture.restart().await;
        count(&fixture).await;
        fixture.admin.statistics().sample().await.unwrap();
    }
    // What there was is known of a range that begins later, too.
    assert_eq!((figures(&fixture, first + 2).users, figures(&fixture, first + 20).rooms), (Some(2), Some(3)));
}

async fn upload(fixture: &Fixture, bytes: &[u8]) {
    let media = fixture.admin.media();
    let user = UserId::parse("@alice:us").unwrap();
    let mut upload = media.new_upload();
    upload.write(bytes).await.unwrap();
    media.upload(&user, upload, media::Description::default()).await.unwrap();
}

#[tokio::test]
async fn an_account_that_was_made_just_before_a_stop_is_counted() {
    let mut fixture = Fixture::new();
    let first = today(&fixture);
    fixture.admin.statistics().catch_up().await.unwrap();
    Talker::new(&fixture, "alice").await;
    for _ in 0..2 {
        fixture = fixture.restart().await;
        count(&fixture).await;
        fixture.admin.statistics().sample().await.unwrap();
        let figures = figures(&fixture, first);
        assert_eq!((figures.new_users, figures.users, figures.new_rooms, figures.rooms), (1, Some(1), 1, Some(1)));
    }
}

#[tokio::test]
async fn a_room_that_is_deleted_meanwhile_keeps_no_other_from_being_counted() {
    let fixture = Fixture::new();
    let statistics = fixture.admin.statistics();
    statistics.catch_up().await.unwrap();
    let day = today(&fixture);
    let (alice, bob) = (Talker::new(&fixture, "alice").await, Talker::new(&fixture, "bob").await);
    // Counted, half deleted; then deleted wholly, with events that nobody has counted.
    alice.say(&fixture, 2).await;
    let rooms = fixture.admin.rooms();
    for stage in ["begun", "done"] {
        let content = Map::from_iter([("body".to_owned(), json!(stage))]);
        let draft = Draft::message(bob.user_id.clone(), "m.room.message", content);
        rooms.append(bob.room, vec![draft], None).await.unwrap();
        statistics.catch_up().await.unwrap();
        match stage {
            "begun" => rooms.begin_deletion(alice.room, true).await.unwrap(),
            _ => while !rooms.delete_on(alice.room, &[]).await.unwrap() {},
        }
        statistics.arrivals.lock().rooms.insert(alice.room);
        statistics.count_arrived().await.unwrap();
        statistics.sample().await.unwrap();
        assert_eq!(figures(&fixture, day).rooms, Some(1), "{stage}");
    }
    assert_eq!(messages(&fixture, day), (4, 4));
    // It is shown without its name, and listed no more.
    assert_eq!(statistics.room_id(alice.room).unwrap(), None);
    let admin = &fixture.admin;
    for (verb, rows) in [("messages", 2), ("rooms", 1)] {
        let by_room = if verb == "messages" { json!({"by": ["room"]}) } else { json!({}) };
        let prepared = crate::operations::prepare("stats", verb, by_room.as_object().unwrap().clone()).unwrap();
        let shown = admin.perform(&crate::Caller::server(), prepared).await.unwrap().to_json();
        assert_eq!(shown["items"].as_array().unwrap().len(), rows, "{shown}");
    }
}

async fn clear<K: RowKey, V>(fixture: &Fixture, keyspace: &Keyspace<K, V>) {
    let mut batch = Batch::new();
    fixture.admin.store().scan(keyspace, &()).keys().for_each(|key| _ = batch.delete(keyspace, &key.unwrap()));
    fixture.admin.store().commit(batch).await.unwrap();
}

#[tokio::test]
async fn what_a_release_without_days_has_left_is_taken_over() {
    let mut fixture = Fixture::new();
    fixture.admin.statistics().catch_up().await.unwrap();
    let first = today(&fixture);
    let alice = Talker::new(&fixture, "alice").await;
    alice.say(&fixture, 3).await;
    fixture.clock.advance(DAY * 3);
    let bob = Talker::new(&fixture, "bob").await;
    bob.say(&fixture, 1).await;
    fixture.admin.statistics().sample().await.unwrap();
    let known = |fixture: &Fixture| {
        let days = fixture.admin.statistics().days((first, first + 40)).unwrap();
        days.into_iter()
            .map(|day| (day.new_users, day.daily_active, day.monthly_active, day.new_rooms, day.events))
            .collect::<Vec<_>>()
    };
    let before = known(&fixture);
    assert_eq!((before[0].0, before[3].2, before[32].2, before[33].2), (1, 2, 1, 0));
    // As that release has left it: who was active, and how many on a day long ago.
    clear(&fixture, &FACTS).await;
    clear(&fixture, &KNOWN).await;
    clear(&fixture, &TOTALS).await;
    let mut batch = Batch::new();
    batch.delete(&CURSOR, &BACKFILLED).put(&ACTIVE_DAYS, &(first - 70), &ActiveDayRow { day: 5, month: 7 });
    fixture.admin.store().commit(batch).await.unwrap();
    for _ in 0..2 {
        fixture = fixture.restart().await;
        count(&fixture).await;
        fixture.admin.statistics().sample().await.unwrap();
        assert_eq!(known(&fixture), before);
        assert_eq!(active(&fixture, first - 70), (5, 7));
        let (then, now) = (figures(&fixture, first), figures(&fixture, first + 3));
        assert_eq!((then.users, now.users, then.rooms, now.rooms), (Some(1), Some(2), Some(1), Some(2)));
    }
    // And it goes on from there.
    alice.say(&fixture, 1).await;
    assert_eq!((active(&fixture, first + 3), active(&fixture, first + 32)), ((2, 2), (0, 2)));
}

#[tokio::test]
async fn how_long_things_took_is_known_by_day() {
    let mut fixture = Fixture::new();
    let first = today(&fixture);
    let measure = |fixture: &Fixture, seconds: f64, times: usize| {
        let histogram = fixture.admin.metrics().histogram(
            Stretch::SendToSync.metric(),
            "From a request to send to the answer of a sync.",
            runtime::TIME_BUCKETS,
            &[],
        );
        (0..times).for_each(|_| histogram.observe(seconds));
    };
    measure(&fixture, 0.0009, 3);
    for _ in 0..2 {
        // Looked at twice, counted once.
        fixture.admin.statistics().sample().await.unwrap();
    }
    // A new run begins from nothing, and adds to the day.
    fixture = fixture.restart().await;
    measure(&fixture, 0.0009, 1);
    fixture.admin.statistics().sample().await.unwrap();
    fixture.clock.advance(DAY);
    measure(&fixture, 2.0, 4);
    fixture.admin.statistics().sample().await.unwrap();
    let statistics = fixture.admin.statistics();
    let of = |range, by_day| -> Vec<_> {
        let mut figures = statistics.latency(range, by_day).unwrap();
        figures.retain(|figures| figures.stretch == Stretch::SendToSync);
        figures
            .iter()
            .map(|figures| (figures.day, figures.count, figures.quantiles[0].is_some_and(|seconds| seconds < 0.01)))
            .collect()
    };
    assert_eq!(of((first, first + 1), true), [(Some(first), 4, true), (Some(first + 1), 4, false)]);
    assert_eq!(of((first, first), false), [(None, 4, true)]);
    assert_eq!(of((first, first + 1), false)[0].1, 8);
    assert_eq!(of((first + 2, first + 9), false), [(None, 0, false)]);
}

#[test]
fn days_are_shown_as_dates() {
    let day = crate::Cell::Day(day_of(1_700_000_000_000));
    assert_eq!((day.to_text().as_str(), day.to_json()), ("2023-11-14", json!("2023-11-14")));
}

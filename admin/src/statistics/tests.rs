use std::time::Duration;

use rooms::{CreateRoom, Draft, Preset, RoomNid};
use serde_json::{Map, json};
use spec::ids::UserId;
use storage::Read;
use users::{AccountKind, AdminRights, NewAccount};

use super::rows::{ACTIVE, ALL_ROOMS, MESSAGES};
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
        let request = CreateRoom {
            creator: user_id.clone(),
            creator_profile: Map::new(),
            version: rooms.default_version(),
            preset: Preset::PrivateChat,
            public: false,
            alias: None,
            name: None,
            topic: None,
            invites: Vec::new(),
            is_direct: false,
            creation_content: Map::new(),
            initial_state: Vec::new(),
            power_levels: Map::new(),
        };
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

/// Daily and monthly active users.
fn active(fixture: &Fixture, day: Day) -> (u64, u64) {
    let days = fixture.admin.statistics().active_users(day, day).unwrap();
    (days[0].daily, days[0].monthly)
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
    assert!(statistics.active_users(first + 1, first).is_err());
}

#[tokio::test]
async fn retention_says_who_of_the_month_before_came_back() {
    let fixture = Fixture::new();
    fixture.admin.statistics().catch_up().await.unwrap();
    let alice = Talker::new(&fixture, "alice").await;
    let bob = Talker::new(&fixture, "bob").await;
    alice.say(&fixture, 1).await;
    bob.say(&fixture, 1).await;
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), (0, 0));
    fixture.clock.advance(DAY * 40);
    alice.say(&fixture, 1).await;
    // New users have not come back.
    Talker::new(&fixture, "carol").await.say(&fixture, 1).await;
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), (1, 2));
    fixture.clock.advance(DAY * 30);
    assert_eq!(fixture.admin.statistics().retention(today(&fixture)).unwrap(), (0, 2));
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

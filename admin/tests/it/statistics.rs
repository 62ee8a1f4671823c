//! Figures by day, on a whole server.

use serde_json::{Value, json};
use testkit::{Account, encode_path_segment};

use crate::admin_room::wait_for;
use crate::media_bed::{Bed, DAY, upload};

const FIRST: &str = "2023-11-14";
const SECOND: &str = "2023-11-15";

impl Bed {
    /// The rows of an operation, from the first day on.
    fn stats(&mut self, verb: &str) -> Vec<Value> {
        let answer = self.done("stats", verb, &json!({"since": FIRST}));
        answer["items"].as_array().unwrap().clone()
    }

    /// Moves the clock until so many events of the newest day are counted.
    fn wait_for_events(&mut self, least: u64) {
        wait_for("the count of events", || {
            self.advance(std::time::Duration::from_secs(1));
            let days = self.stats("growth");
            (days.last().unwrap()["events"].as_u64() >= Some(least)).then_some(())
        });
    }
}

#[test]
fn each_day_is_shown_with_what_there_was_and_what_was_new() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({}));
    for number in 0..3 {
        bed.bob.send_text(&room, &number.to_string(), "hello");
    }
    upload(&mut bed.bob, b"12345", "a");
    let path = format!("/rooms/{}/messages?dir=b&limit=100", encode_path_segment(&room));
    let events = bed.bob.expect("GET", &path, None)["chunk"].as_array().unwrap().len() as u64;
    bed.wait_for_events(events);
    bed.advance(DAY);
    bed.server.restart();
    for account in [&mut bed.admin, &mut bed.bob] {
        account.client = bed.server.client();
    }
    let mut carol = Account::register(bed.server.client(), "carol");
    let other = carol.create_room(&json!({}));
    carol.send_text(&other, "1", "hello");
    upload(&mut carol, b"123", "b");
    bed.wait_for_events(2);
    for _ in 0..2 {
        let days = |rows: &[Value], columns: &[&str]| -> Vec<Vec<Value>> {
            rows.iter().map(|row| columns.iter().map(|column| row[column].clone()).collect()).collect()
        };
        let growth = bed.stats("growth");
        let seen = days(&growth, &["day", "users", "new_users", "rooms", "new_rooms"]);
        assert_eq!(json!(seen), json!([[FIRST, 2, 2, 1, 1], [SECOND, 3, 1, 2, 1]]));
        assert_eq!(growth[0]["events"], events);
        let users = bed.stats("users");
        assert_eq!(json!(days(&users, &["day", "users", "new"])), json!([[FIRST, 2, 2], [SECOND, 3, 1]]));
        assert!(users[0]["daily_active"].as_u64() >= Some(1), "{users:?}");
        assert!(users[1]["monthly_active"].as_u64() >= users[0]["monthly_active"].as_u64(), "{users:?}");
        let media = bed.stats("media");
        let seen = days(&media, &["uploaded", "uploaded_size", "local", "local_size", "copied", "remote"]);
        assert_eq!(json!(seen), json!([[1, 5, 1, 5, 0, 0], [1, 3, 2, 8, 0, 0]]));
        let storage = bed.stats("storage");
        assert_eq!(json!(days(&storage, &["events", "media"])), json!([[events, 5], [growth[1]["events"], 8]]));
        // What was measured before the restart is not lost.
        let latency = bed.done("stats", "latency", &json!({"since": FIRST, "by_day": true}));
        let appended = |day: &str| {
            let rows = latency["items"].as_array().unwrap().iter();
            let mut rows = rows.filter(|row| row["day"] == day && row["what"] == "request to commit");
            rows.next().unwrap_or_else(|| panic!("{day}: {latency}"))["count"].as_u64().unwrap()
        };
        // The messages that were sent.
        assert_eq!((appended(FIRST), appended(SECOND)), (3, 1), "{latency}");
        let together = bed.done("stats", "latency", &json!({"since": FIRST}));
        assert!(together["items"].as_array().unwrap().iter().all(|row| row.get("day").is_none()), "{together}");
        bed.server.restart();
        bed.admin.client = bed.server.client();
    }
    // One day, days that nobody has seen yet, and a range that ends before it begins.
    let one = bed.done("stats", "growth", &json!({"since": SECOND, "until": SECOND}));
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    let before = bed.done("stats", "users", &json!({"since": "2023-01-01", "until": "2023-01-02"}));
    assert_eq!(before["items"][0]["users"], json!(null));
    assert_eq!(bed.perform("stats", "growth", &json!({"since": SECOND, "until": FIRST})).0, 400);
    assert_eq!(bed.perform("stats", "media", &json!({"since": 0})).0, 400);
}

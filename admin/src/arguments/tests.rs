use serde_json::json;

use super::{Document, Secret, Size, UserArg, When};

#[test]
fn moments_are_dates_distances_and_numbers() {
    let parse = |text: &str| text.parse::<When>().ok();
    assert_eq!(parse("1970-01-01"), Some(When::At(0)));
    assert_eq!(parse("2000-03-01"), Some(When::At(951_868_800_000)));
    assert_eq!(parse("2026-01-31T12:00:05Z"), Some(When::At(1_769_860_805_000)));
    assert_eq!(parse("30d"), Some(When::Distance(2_592_000_000)));
    assert_eq!(parse("1769817600000"), Some(When::At(1_769_817_600_000)));
    for wrong in ["", "yesterday", "2026-02-29", "2026-13-01", "2026-00-10", "1969-12-31", "2026-01-01T24:00", "1-2"] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
    assert_eq!(When::Distance(5).in_the_past(3), 0);
    assert_eq!(When::Distance(5).in_the_future(3), 8);
    assert_eq!(serde_json::from_value::<When>(json!("2d")).unwrap(), When::Distance(172_800_000));
    assert_eq!(serde_json::from_value::<When>(json!(17)).unwrap(), When::At(17));
}

#[test]
fn what_is_written_of_a_moment_reads_as_the_same() {
    for (when, expected) in [
        (When::At(0), json!("1970-01-01")),
        (When::At(17), json!(17)),
        (When::At(1_769_860_805_000), json!("2026-01-31T12:00:05")),
        (When::At(1_769_860_805_001), json!(1_769_860_805_001_u64)),
        (When::At(u64::MAX), json!(u64::MAX)),
        (When::Distance(0), json!("0ms")),
        (When::Distance(2_592_000_000), json!("30d")),
        (When::Distance(90_061_001), json!("1d 1h 1m 1s 1ms")),
        (When::Distance(u64::MAX), json!("213503982334d 14h 25m 51s 615ms")),
    ] {
        let written = serde_json::to_value(when).unwrap();
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<When>(written).unwrap(), when);
    }
}

#[test]
fn sizes_have_units() {
    assert_eq!("50MiB".parse(), Ok(Size(52_428_800)));
    assert_eq!(serde_json::from_value::<Size>(json!(12)).unwrap(), Size(12));
    assert!("a lot".parse::<Size>().is_err());
}

#[test]
fn identifiers_are_bounded() {
    assert!("alice".parse::<UserArg>().is_ok());
    assert!("".parse::<UserArg>().is_err());
    assert!("a".repeat(600).parse::<UserArg>().is_err());
}

#[test]
fn secrets_and_files_are_not_shown() {
    let Ok(secret) = "hunter2".parse::<Secret>();
    assert_eq!(secret.reveal().unwrap(), "hunter2");
    assert!(!format!("{secret:?} {}", json!(secret)).contains("hunter2"));
    let Ok(asked) = "-".parse::<Secret>();
    let question = asked.question("password").unwrap();
    assert!(asked.reveal().is_err());
    question.answer("later".to_owned()).unwrap();
    assert_eq!(asked.reveal().unwrap(), "later");
    let Ok(file) = "users.csv".parse::<Document>();
    file.question().unwrap().answer("a,b".to_owned()).unwrap();
    assert_eq!((file.text().unwrap(), json!(file)), ("a,b", json!("users.csv")));
}

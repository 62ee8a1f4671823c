use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use spec::ids::UserId;
use users::DeviceTarget;

use super::{EDU_BYTES, MAX_MESSAGE_BYTES, add_message, number_message};

fn user(name: &str) -> UserId {
    UserId::parse(format!("@{name}:there")).unwrap()
}

fn content(bytes: usize) -> Box<RawValue> {
    to_raw_value(&json!({ "text": "x".repeat(bytes) })).unwrap()
}

#[test]
fn messages_share_an_edu_until_it_is_large() {
    let mut parcels = Vec::new();
    let device = DeviceTarget::One("D".into());
    add_message(&mut parcels, &user("a"), &device, &content(10)).unwrap();
    add_message(&mut parcels, &user("a"), &DeviceTarget::All, &content(10)).unwrap();
    add_message(&mut parcels, &user("b"), &device, &content(10)).unwrap();
    assert_eq!(parcels.len(), 1);
    assert_eq!(parcels[0].1["@a:there"]["*"]["text"], "x".repeat(10));
    add_message(&mut parcels, &user("c"), &device, &content(EDU_BYTES)).unwrap();
    add_message(&mut parcels, &user("d"), &device, &content(10)).unwrap();
    assert_eq!(parcels.len(), 3, "what is large has one of its own");
}

#[test]
fn the_size_of_a_message_has_a_limit_and_it_is_an_object() {
    let mut parcels = Vec::new();
    assert!(add_message(&mut parcels, &user("a"), &DeviceTarget::All, &content(MAX_MESSAGE_BYTES)).is_err());
    assert!(add_message(&mut parcels, &user("a"), &DeviceTarget::All, &to_raw_value("text").unwrap()).is_err());
    assert!(parcels.is_empty());
}

#[test]
fn message_ids_stay_short_and_differ() {
    let long = "x".repeat(32);
    assert_eq!(number_message(&long, 0), long);
    let (second, third) = (number_message(&long, 1), number_message(&long, 99_999));
    assert!(second != third && second.len() <= 32 && third.len() <= 32);
}

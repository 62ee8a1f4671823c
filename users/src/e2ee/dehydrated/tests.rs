use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{DeviceTarget, fixture::Fixture};

fn upload(user: &str, device: &str) -> DehydratedUpload {
    serde_json::from_value(json!({
        "device_id": device,
        "device_data": { "algorithm": "org.matrix.msc3814.v2", "device_pickle": "x" },
        "device_keys": {
            "user_id": user, "device_id": device, "algorithms": [], "keys": { format!("ed25519:{device}"): "k" }
        },
        "fallback_keys": { "signed_curve25519:F": { "key": "f", "fallback": true } }
    }))
    .unwrap()
}

#[test]
fn a_dehydrated_device_receives_keys_and_is_replaced_by_the_next() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let user_id = session.user_id.clone();
    f.run(f.users.put_dehydrated_device(session.user, upload(user_id.as_str(), "SLEEP"))).unwrap();
    let content = serde_json::value::to_raw_value(&json!({})).unwrap();
    let messages = BTreeMap::from([(user_id.clone(), BTreeMap::from([(DeviceTarget::All, content)]))]);
    f.run(f.users.queue_to_device(&user_id, "m.room.encrypted", None, &messages)).unwrap();
    let page = f.users.dehydrated_messages(session.user, "SLEEP", StreamPos::ZERO).unwrap();
    assert_eq!(page.events.len(), 1);
    let next = f.users.dehydrated_messages(session.user, "SLEEP", page.last.unwrap()).unwrap();
    assert!(next.events.is_empty());
    assert!(matches!(f.users.dehydrated_messages(session.user, "D", StreamPos::ZERO), Err(UserError::NotFound(_))));
    let wanted = BTreeMap::from([(user_id.clone(), Vec::new())]);
    assert!(f.users.query_keys(None, &wanted).unwrap().device_keys[&user_id].contains_key("SLEEP"));

    f.run(f.users.put_dehydrated_device(session.user, upload(user_id.as_str(), "NEXT"))).unwrap();
    assert_eq!(&*f.users.dehydrated_device(session.user).unwrap().unwrap().device_id, "NEXT");
    assert!(f.users.device(session.user, "SLEEP").unwrap().is_none());
    assert_eq!(f.run(f.users.delete_dehydrated_device(session.user)).unwrap().as_deref(), Some("NEXT"));
    assert!(f.run(f.users.delete_dehydrated_device(session.user)).unwrap().is_none());
}

#[test]
fn a_logged_in_device_is_not_overwritten_and_bad_keys_store_nothing() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    let user_id = session.user_id.as_str();
    let refused = f.run(f.users.put_dehydrated_device(session.user, upload(user_id, "D")));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
    let refused = f.run(f.users.put_dehydrated_device(session.user, upload("@bob:example.org", "SLEEP")));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
    assert!(f.users.dehydrated_device(session.user).unwrap().is_none());
    assert!(f.users.device(session.user, "SLEEP").unwrap().is_none());
}

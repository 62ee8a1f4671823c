use std::convert::Infallible;
use std::sync::Arc;

use rooms::UserNid;
use serde_json::json;
use storage::StreamPos;
use users::{DeviceListChange, DeviceListChangeKind, UserDevice, UserDevices};

use super::{MAX_DEVICES_OF_USER, Update, plan_updates, render_update};

fn change(pos: u64, user: u64, device: Option<&str>) -> DeviceListChange {
    let kind = if device.is_some() { DeviceListChangeKind::Updated } else { DeviceListChangeKind::CrossSigning };
    DeviceListChange {
        pos: StreamPos(pos),
        user: UserNid(user),
        device_id: device.map(Arc::from),
        kind,
        only_for: None,
    }
}

fn device(user: u64, device: &str, pos: u64, prev: Option<u64>) -> Update {
    Update::Device { user: UserNid(user), device: device.into(), pos: StreamPos(pos), prev: prev.map(StreamPos) }
}

/// The change before one is at the position before, but for the first.
fn plan(changes: &[DeviceListChange], limit: usize) -> (Vec<Update>, Option<StreamPos>) {
    let before = |_, pos: StreamPos| Ok::<_, Infallible>((pos.0 > 1).then(|| StreamPos(pos.0 - 1)));
    plan_updates(changes, limit, before).unwrap()
}

#[test]
fn changes_of_a_user_form_a_chain() {
    let changes = [change(5, 1, Some("A")), change(7, 2, Some("X")), change(9, 1, Some("B")), change(9, 1, None)];
    let (updates, done) = plan(&changes, 40);
    assert_eq!(done, None);
    let expected = [
        Update::SigningKeys { user: UserNid(1) },
        device(1, "A", 5, Some(4)),
        device(1, "B", 9, Some(5)),
        device(2, "X", 7, Some(6)),
    ];
    assert_eq!(updates, expected);
    assert_eq!(plan(&[change(1, 1, Some("A"))], 40).0, [device(1, "A", 1, None)]);
}

#[test]
fn only_the_last_change_of_a_device_is_told_after_what_was_told_before() {
    let changes = [change(5, 1, Some("A")), change(6, 1, Some("B")), change(8, 1, Some("A"))];
    assert_eq!(plan(&changes, 40).0, [device(1, "B", 6, Some(4)), device(1, "A", 8, Some(6))]);
}

#[test]
fn devices_that_share_a_position_and_many_devices_are_told_by_one_edu() {
    let changes = [change(5, 1, Some("A")), change(5, 1, Some("B"))];
    let whole = |device: &str, pos| Update::Whole { user: UserNid(1), device: device.into(), pos: StreamPos(pos) };
    assert_eq!(plan(&changes, 40).0, [whole("B", 5)]);
    let many: Vec<_> = (1..=MAX_DEVICES_OF_USER as u64 + 1).map(|n| change(n, 1, Some(&format!("D{n}")))).collect();
    assert_eq!(plan(&many, 40).0, [whole("D11", 11)]);
}

#[test]
fn too_many_users_are_told_in_parts_of_whole_commits() {
    let changes: Vec<_> = (1..=150u64).map(|n| change(n.div_ceil(2), n, Some("A"))).collect();
    let (updates, done) = plan(&changes, 41);
    assert_eq!((updates.len(), done), (40, Some(StreamPos(20))), "both of position 21 come next");
    let rest: Vec<_> = changes.into_iter().filter(|change| change.pos > StreamPos(20)).collect();
    assert_eq!(plan(&rest, 200), (plan(&rest, 200).0, None));
}

#[test]
fn a_device_is_told_as_it_is_now() {
    let list = UserDevices {
        user_id: spec::ids::UserId::parse("@a:us").unwrap(),
        stream_id: 9,
        devices: vec![UserDevice {
            device_id: "A".into(),
            keys: json!({"k": 1}),
            device_display_name: Some("Phone".into()),
        }],
        master_key: Some(json!({"m": 1})),
        self_signing_key: None,
    };
    let render = |update: &Update| render_update(update, "@a:us", Some(&list), None);
    assert_eq!(
        render(&device(1, "A", 9, Some(5))),
        json!({"edu_type": "m.device_list_update", "content": {
            "user_id": "@a:us", "device_id": "A", "stream_id": 9, "prev_id": [5], "deleted": false,
            "keys": {"k": 1}, "device_display_name": "Phone",
        }})
    );
    let gone = render(&device(1, "B", 9, None));
    assert_eq!((&gone["content"]["deleted"], &gone["content"]["prev_id"]), (&json!(true), &json!([])));
    assert!(gone["content"].get("keys").is_none());
    let whole = render(&Update::Whole { user: UserNid(1), device: "A".into(), pos: StreamPos(9) });
    assert_eq!(whole["content"]["prev_id"], json!([9]), "only who has it can apply it");
    assert_eq!(
        render(&Update::SigningKeys { user: UserNid(1) }),
        json!({"edu_type": "m.signing_key_update", "content": {"user_id": "@a:us", "master_key": {"m": 1}}})
    );
    let keyless = users::Device {
        nid: users::DeviceNid(1),
        device_id: "C".into(),
        display_name: Some("Tablet".into()),
        last_seen_ms: None,
        last_seen_ip: None,
        last_seen_user_agent: None,
    };
    let named = render_update(&device(1, "C", 9, None), "@a:us", Some(&list), Some(&keyless));
    let content = &named["content"];
    assert_eq!((&content["deleted"], &content["device_display_name"]), (&json!(false), &json!("Tablet")));
    assert!(content.get("keys").is_none(), "a device without keys is there all the same");
}

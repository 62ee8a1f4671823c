use std::time::Duration;

use rooms::Membership;
use serde_json::json;
use spec::ids::RoomId;
use spec::signing::SigningKey;

use super::*;
use crate::fixture::Fixture;

pub(crate) fn id(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

pub(crate) fn server(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Keys of a device; `mark` tells versions of them apart.
pub(crate) fn device_keys(user: &str, device_id: &str, mark: &str) -> Value {
    json!({
        "user_id": user,
        "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {format!("curve25519:{device_id}"): mark},
        "signatures": {user: {}},
    })
}

/// Alice of this server, who shares a room with Bob of another one.
pub(crate) struct Shared {
    pub(crate) f: Fixture,
    pub(crate) alice: UserNid,
    pub(crate) bob: UserNid,
    pub(crate) room: RoomId,
}

pub(crate) const BOB: &str = "@bob:remote.example";

impl Shared {
    pub(crate) fn new() -> Self {
        let f = Fixture::new();
        let alice = f.account("alice");
        let room = f.room(&alice.user_id);
        f.set_membership(&room, &id(BOB), Membership::Join);
        let bob = f.rooms.user_nid(&id(BOB)).unwrap().unwrap();
        Self { f, alice: alice.user, bob, room }
    }

    fn state(&self) -> ListState {
        self.f.users.remote_list_state(self.bob).unwrap()
    }

    fn fetch(&self, stream_id: i64, devices: &[(&str, &str)]) {
        self.store(self.state(), stream_id, devices);
    }

    fn store(&self, state: ListState, stream_id: i64, devices: &[(&str, &str)]) {
        let devices: Vec<_> = devices
            .iter()
            .map(|(device_id, mark)| json!({"device_id": device_id, "keys": device_keys(BOB, device_id, mark)}))
            .collect();
        let answer = json!({"user_id": BOB, "stream_id": stream_id, "devices": devices}).to_string();
        let list = RemoteDeviceList::parse(&id(BOB), &RawValue::from_string(answer).unwrap()).unwrap();
        self.f.run(self.f.users.store_remote_devices(self.bob, state, &list)).unwrap();
    }

    fn update(&self, content: Value) -> Result<(), UserError> {
        self.f.run(self.f.users.receive_device_list_update(&server("remote.example"), object(content)))
    }

    fn change(&self, stream_id: i64, prev_id: &[i64], device_id: &str, mark: &str) {
        self.update(json!({
            "user_id": BOB, "device_id": device_id, "stream_id": stream_id, "prev_id": prev_id,
            "keys": device_keys(BOB, device_id, mark), "device_display_name": "Phone",
        }))
        .unwrap();
    }

    /// The devices that are kept, each with what tells versions apart.
    fn devices(&self) -> Vec<(String, String)> {
        let mut devices = Vec::new();
        for row in self.f.store.scan(&REMOTE_DEVICES, &self.bob).iter() {
            let ((_, device_id), json) = row.unwrap();
            let keys: Value = serde_json::from_slice(&json).unwrap();
            let mark = keys["keys"][format!("curve25519:{device_id}")].as_str().unwrap().to_owned();
            devices.push((device_id.to_string(), mark));
        }
        devices
    }

    fn has_news(&self, since: StreamPos) -> bool {
        let changed = self.f.users.users_with_changed_devices(self.alice, since, self.f.store.visible()).unwrap();
        changed.contains(&self.bob)
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn updates_that_follow_are_applied_and_told() {
    let s = Shared::new();
    assert!(matches!(s.state(), ListState::Outdated { seen: None, .. }), "nothing is known at first");
    s.fetch(5, &[("A", "1")]);
    assert_eq!(s.state(), ListState::Current);

    let before = s.f.store.visible();
    s.change(6, &[5], "B", "1");
    s.change(9, &[6], "A", "2");
    assert_eq!((s.state(), s.devices()), (ListState::Current, pairs(&[("A", "2"), ("B", "1")])));
    assert!(s.has_news(before));
    let name: Value =
        serde_json::from_slice(&s.f.store.get(&REMOTE_DEVICES, &(s.bob, "B".into())).unwrap().unwrap()).unwrap();
    assert_eq!(name["unsigned"], json!({"device_display_name": "Phone"}));

    let before = s.f.store.visible();
    s.change(9, &[6], "A", "3");
    assert!(!s.has_news(before), "the same update again changes nothing");
    s.update(json!({"user_id": BOB, "device_id": "B", "stream_id": 10, "prev_id": [9], "deleted": true})).unwrap();
    assert_eq!((s.state(), s.devices()), (ListState::Current, pairs(&[("A", "2")])));
    assert!(s.has_news(before));
}

#[test]
fn a_gap_makes_the_list_stale_until_it_is_fetched() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    let before = s.f.store.visible();
    s.change(8, &[7], "B", "1");
    assert!(matches!(s.state(), ListState::Outdated { seen: Some(_), .. }));
    assert!(s.has_news(before), "clients are told all the same");
    s.change(9, &[8], "C", "1");
    assert!(matches!(s.state(), ListState::Outdated { .. }), "what follows on a gap does not close it");
    s.fetch(9, &[("A", "1"), ("B", "1"), ("C", "1")]);
    s.change(10, &[9], "C", "2");
    assert_eq!((s.state(), s.devices()), (ListState::Current, pairs(&[("A", "1"), ("B", "1"), ("C", "2")])));
    // Servers that number all users' changes together name the last update of this user.
    s.fetch(100, &[("A", "1")]);
    s.change(120, &[10], "A", "4");
    assert_eq!(s.state(), ListState::Current);
}

#[test]
fn a_list_without_predecessor_is_fetched() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    s.change(6, &[], "A", "2");
    assert!(matches!(s.state(), ListState::Outdated { .. }));
}

#[test]
fn an_update_during_a_fetch_keeps_the_list_stale() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    s.change(8, &[7], "B", "1");
    let asked = s.state();
    s.change(9, &[8], "C", "1");
    s.store(asked, 8, &[("A", "1"), ("B", "1")]);
    assert!(matches!(s.state(), ListState::Outdated { .. }));
    s.fetch(9, &[("A", "1"), ("B", "1"), ("C", "1")]);
    assert_eq!(s.state(), ListState::Current);
}

#[test]
fn only_the_users_server_speaks_and_only_of_those_who_share_a_room() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    let before = s.f.store.visible();
    let forged = json!({"user_id": BOB, "device_id": "A", "stream_id": 6, "prev_id": [5], "deleted": true});
    let refused = s.f.run(s.f.users.receive_device_list_update(&server("evil.example"), object(forged.clone())));
    assert!(matches!(refused, Err(UserError::Forbidden(_))));
    let key = json!({"user_id": BOB});
    let refused = s.f.run(s.f.users.receive_signing_key_update(&server("evil.example"), object(key)));
    assert!(matches!(refused, Err(UserError::Forbidden(_))));
    let stranger = json!({"user_id": "@x:remote.example", "device_id": "A", "stream_id": 6});
    s.update(stranger).unwrap();
    assert_eq!(s.f.store.visible(), before, "nothing is written");

    s.f.set_membership(&s.room, &id(BOB), Membership::Leave);
    assert_eq!(s.state(), ListState::Untracked);
    let before = s.f.store.visible();
    s.update(forged).unwrap();
    assert_eq!(s.f.store.visible(), before);
}

#[test]
fn malformed_updates_do_no_harm() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    for content in [json!({}), json!({"user_id": BOB}), json!({"user_id": 3, "device_id": "A", "stream_id": 6})] {
        assert!(matches!(s.update(content), Err(UserError::BadJson(_))));
    }
    assert_eq!(s.state(), ListState::Current);
    let big = "x".repeat(MAX_DEVICE_BYTES);
    for (n, keys) in [
        device_keys("@eve:remote.example", "A", "2"),
        device_keys(BOB, "OTHER", "2"),
        device_keys(BOB, "A", &big),
        json!({"user_id": BOB, "device_id": "A"}),
    ]
    .into_iter()
    .enumerate()
    {
        let id = 10 * (i64::try_from(n).unwrap() + 1);
        s.fetch(id, &[("A", "1")]);
        s.update(json!({"user_id": BOB, "device_id": "A", "stream_id": id + 1, "prev_id": [id], "keys": keys}))
            .unwrap();
        assert!(matches!(s.state(), ListState::Outdated { .. }), "what cannot be applied is fetched: {n}");
        assert_eq!(s.devices(), pairs(&[("A", "1")]));
    }
}

#[test]
fn a_list_counts_only_if_a_room_was_shared_all_the_time() {
    let s = Shared::new();
    s.fetch(5, &[("A", "1")]);
    // A new name is no new arrival.
    s.f.set_member(&s.room, &id(BOB), Membership::Join, object(json!({"displayname": "Bob"})));
    assert_eq!(s.state(), ListState::Current);
    s.f.set_membership(&s.room, &id(BOB), Membership::Leave);
    s.f.set_membership(&s.room, &id(BOB), Membership::Join);
    assert!(matches!(s.state(), ListState::Outdated { .. }));
    s.fetch(6, &[("A", "1")]);
    let alice = s.f.rooms.user_id(s.alice).unwrap();
    s.f.set_membership(&s.room, &alice, Membership::Leave);
    assert_eq!(s.state(), ListState::Untracked);
    let other = s.f.room(&alice);
    s.f.set_membership(&other, &id(BOB), Membership::Join);
    assert!(matches!(s.state(), ListState::Outdated { .. }), "another room, later");
}

#[test]
fn too_many_devices_are_not_kept() {
    let s = Shared::new();
    let names: Vec<_> = (0..=MAX_DEVICES).map(|n| format!("D{n}")).collect();
    let devices: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    s.fetch(1, &devices);
    assert_eq!(s.devices(), []);
    s.fetch(2, &devices[1..]);
    assert_eq!(s.devices().len(), MAX_DEVICES);
    s.change(3, &[2], "ONE-MORE", "1");
    assert!(matches!(s.state(), ListState::Outdated { .. }));
}

#[test]
fn many_updates_leave_one_row_in_the_log() {
    let s = Shared::new();
    s.fetch(0, &[]);
    for n in 1..=200 {
        s.change(n, &[n - 1], "A", &n.to_string());
        s.f.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(s.f.users.device_list_changes(StreamPos::ZERO, s.f.store.visible()).unwrap().len(), 1);
    let head = s.f.store.get(&REMOTE_DEVICE_LISTS, &s.bob).unwrap().unwrap().value;
    assert_eq!((head.seen.len(), head.devices), (MAX_SEEN, 1));
}

#[test]
fn cross_signing_keys_are_taken_if_they_are_signed() {
    let s = Shared::new();
    s.fetch(1, &[]);
    let master_key = SigningKey::from_seed([7; 32], "1").unwrap();
    let public = master_key.public_base64();
    let master = json!({"user_id": BOB, "usage": ["master"], "keys": {format!("ed25519:{public}"): public}});
    let other = SigningKey::from_seed([8; 32], "1").unwrap().public_base64();
    let mut self_signing =
        object(json!({"user_id": BOB, "usage": ["self_signing"], "keys": {format!("ed25519:{other}"): other}}));
    let send = |content: Value| {
        s.f.run(s.f.users.receive_signing_key_update(&server("remote.example"), object(content))).unwrap();
    };
    send(json!({"user_id": BOB, "master_key": master}));
    assert_eq!(s.state(), ListState::Current);
    assert!(s.f.users.cross_signing_key(s.bob, KeyUsage::Master).unwrap().is_some());

    send(json!({"user_id": BOB, "self_signing_key": self_signing.clone()}));
    assert!(matches!(s.state(), ListState::Outdated { .. }), "a key without signature is not taken");
    assert!(s.f.users.cross_signing_key(s.bob, KeyUsage::SelfSigning).unwrap().is_none());

    let named = SigningKey::from_seed([7; 32], public.replace(['+', '/'], "_").as_str()).unwrap();
    assert_eq!(named.public_base64(), public);
    let mut unsigned = self_signing.clone();
    named.sign_json(&mut unsigned, BOB).unwrap();
    let signature = unsigned["signatures"][BOB].as_object().unwrap().values().next().unwrap().clone();
    self_signing.insert("signatures".into(), json!({BOB: {format!("ed25519:{public}"): signature}}));
    s.fetch(2, &[]);
    send(json!({"user_id": BOB, "master_key": master, "self_signing_key": self_signing}));
    assert!(s.f.users.cross_signing_key(s.bob, KeyUsage::SelfSigning).unwrap().is_some());
}

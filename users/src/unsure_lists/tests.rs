use serde_json::json;

use super::*;
use crate::fixture::Fixture;

fn rows(f: &Fixture) -> usize {
    f.store.scan(&UNSURE_DEVICE_LISTS, &()).keys().count()
}

#[test]
fn changes_of_strangers_are_forgotten_and_those_of_members_told() {
    let f = Fixture::new();
    let alice = f.account("alice");
    let room = f.room(&alice.user_id);
    let server = ServerName::parse("remote.example").unwrap();
    let update = json!({"user_id": "@zoe:remote.example", "device_id": "D", "stream_id": 1});
    let receive = || f.users.receive_device_list_update(&server, update.as_object().unwrap().clone());
    f.run(receive()).unwrap();
    assert_eq!(rows(&f), 0, "no room of hers is partial");

    // As it was written while one was.
    let zoe = UserId::parse("@zoe:remote.example").unwrap();
    let yan = UserId::parse("@yan:remote.example").unwrap();
    f.set_member(&room, &zoe, rooms::Membership::Join, serde_json::Map::new());
    let nids = [&zoe, &yan].map(|user| f.run(f.users.rooms().intern_user(user)).unwrap());
    let mut batch = Batch::new();
    nids.iter().for_each(|user| _ = batch.put(&UNSURE_DEVICE_LISTS, user, &()));
    f.run(f.store.commit(batch)).unwrap();
    let before = f.users.latest_device_list_change();
    f.run(f.users.settle_unsure_lists()).unwrap();
    assert_eq!(rows(&f), 0);
    let changes = f.users.device_list_changes(before, f.store.visible()).unwrap();
    assert_eq!(changes.iter().map(|change| change.user).collect::<Vec<_>>(), [nids[0]], "Zoe is in a room, Yan is not");
    f.run(f.users.settle_unsure_lists()).unwrap();
    assert_eq!(f.users.device_list_changes(changes[0].pos, f.store.visible()).unwrap(), []);
}

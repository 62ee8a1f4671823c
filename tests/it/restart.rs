//! A proper stop and start: clients notice nothing.

use serde_json::json;
use testkit::{Account, TestServer, encode_path_segment};

#[test]
fn sessions_rooms_transactions_and_sync_tokens_outlive_a_restart() {
    let mut server = TestServer::start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({"name": "Before"}));
    let before = alice.send_text(&room, "t1", "before");
    let since = alice.expect("GET", "/sync", None)["next_batch"].as_str().unwrap().to_owned();
    server.restart();
    alice.client = server.client();

    assert_eq!(alice.send_text(&room, "t1", "before"), before, "the transaction is remembered");
    let path = format!("/sync?since={}", encode_path_segment(&since));
    assert_eq!(alice.expect("GET", &path, None)["rooms"].get("join"), None, "nothing is new");
    let after = alice.send_text(&room, "t2", "after");
    assert_ne!(after, before);
    let synced = alice.expect("GET", &path, None);
    let events = &synced["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(events.as_array().map(Vec::len), Some(1), "{synced}");
    assert_eq!(events[0]["event_id"], after);
}

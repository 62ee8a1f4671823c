//! The search index of the real program: made at the first start, kept over restarts, rebuilt on command.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Account, ConduitProcess};

/// Searches until something is found: the index follows within about a second.
fn find(account: &mut Account, term: &str) -> Value {
    let body = json!({"search_categories": {"room_events": {"search_term": term}}});
    for _ in 0..1200 {
        let found = account.expect("POST", "/search", Some(&body))["search_categories"]["room_events"].clone();
        if found["count"] != 0 {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{term} is not found");
}

#[test]
fn messages_are_found_over_restarts_and_losses_of_the_index() {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[]);
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    let event = alice.send_text(&room, "1", "a needle in the hay");
    assert_eq!(find(&mut alice, "needle")["results"][0]["result"]["event_id"], event);
    let rebuilt = server.run_command(&["search", "rebuild"]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert!(String::from_utf8_lossy(&rebuilt.stdout).contains("complete"));
    assert_eq!(find(&mut alice, "needle")["count"], 1);
    assert!(server.terminate().success());
    server.start();
    alice.client = server.client();
    assert_eq!(find(&mut alice, "needle")["count"], 1);
    assert!(server.terminate().success());
    fs::remove_dir_all(server.data_dir().join("search")).unwrap();
    let stopped = server.run_command(&["search", "rebuild"]);
    assert!(!stopped.status.success() && String::from_utf8_lossy(&stopped.stderr).contains("no server is running"));
    server.start();
    alice.client = server.client();
    assert_eq!(find(&mut alice, "needle")["count"], 1);
    assert!(server.terminate().success());
}

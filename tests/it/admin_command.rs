//! `conduit admin`: operations of administrators by the real program.

use std::fs;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use testkit::{Account, ConduitProcess};

fn start() -> ConduitProcess {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &["admin.room=false"]);
    server.start();
    server
}

/// Runs the command without a terminal.
fn admin(server: &ConduitProcess, words: &[&str]) -> Output {
    let mut command = server.command();
    command.arg("admin").args(words).stdin(Stdio::null()).current_dir(server.folder());
    command.output().unwrap()
}

fn done(server: &ConduitProcess, words: &[&str]) -> String {
    let output = admin(server, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn failed(server: &ConduitProcess, words: &[&str]) -> String {
    let output = admin(server, words);
    assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty(), "mistakes are told elsewhere than answers");
    String::from_utf8(output.stderr).unwrap()
}

fn read_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn answers_are_tables_or_json_and_mistakes_are_explained() {
    let server = start();
    assert!(done(&server, &["user", "--help"]).contains("Usage: conduit admin user"));
    assert!(failed(&server, &["user", "lsit"]).contains("'list'"));
    assert!(failed(&server, &["user", "show", "nobody"]).contains("there is no account"));
    let made = read_json(&done(&server, &["user", "create", "ada", "--display-name", "Ada L", "--json"]));
    assert_eq!(made["user_id"], "@ada:hs.test");
    assert_eq!(read_json(&done(&server, &["user", "list", "--json"]))["items"][0]["user_id"], "@ada:hs.test");
    let table = done(&server, &["user", "list"]);
    assert!(table.lines().count() >= 2 && table.contains("@ada:hs.test") && table.ends_with('\n'), "{table}");
    let audit = read_json(&done(&server, &["audit", "list", "--operation", "user create", "--json"]));
    let record = &audit["items"][0];
    assert_eq!((&record["who"], &record["through"]), (&json!("operator"), &json!("command line")), "{audit}");
}

#[test]
fn what_destroys_is_refused_without_a_terminal_unless_it_is_said_to_be_meant() {
    let server = start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    let refused = failed(&server, &["room", "delete", &room]);
    assert!(refused.contains("no terminal") && refused.contains("--yes"), "{refused}");
    assert_eq!(read_json(&done(&server, &["room", "show", &room, "--json"]))["room"], *room);
    assert_eq!(read_json(&done(&server, &["job", "list", "--json"]))["items"], json!([]));
    let job = read_json(&done(&server, &["room", "delete", &room, "--yes", "--json"]));
    assert!(job["job"].is_u64(), "{job}");
    // A secret cannot be asked for either.
    let refused = failed(&server, &["user", "reset-password", "alice", "--password", "-"]);
    assert!(refused.contains("no terminal to ask for the password"), "{refused}");
}

#[test]
fn files_are_read_and_written() {
    let server = start();
    let list = server.folder().join("users.csv");
    fs::write(&list, "name,password\nada,a-long-password\ngrace,another-password\n").unwrap();
    let made = read_json(&done(&server, &["user", "import", list.to_str().unwrap(), "--json"]));
    assert_eq!(made["items"].as_array().unwrap().len(), 2, "{made}");
    assert!(failed(&server, &["user", "import", "missing.csv"]).contains("cannot read missing.csv"));
    // Into a pipe goes the file itself, and nothing else.
    let export = done(&server, &["user", "export", "ada"]);
    let lines: Vec<Value> = export.lines().map(read_json).collect();
    assert_eq!((&lines[0]["kind"], &lines[0]["user_id"]), (&json!("account"), &json!("@ada:hs.test")));
    assert!(!server.folder().join("ada.jsonl").exists());
}

#[test]
fn the_configuration_is_reloaded_by_either_command() {
    let server = start();
    let told = done(&server, &["server", "reload"]);
    assert!(told.contains("changed"), "{told}");
    let reloaded = server.run_command(&["reload"]);
    assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    assert_eq!(String::from_utf8_lossy(&reloaded.stdout), told);
    let differences = read_json(&done(&server, &["server", "config", "server_name", "--diff", "--json"]));
    assert_eq!(differences["items"][0]["value"], "\"hs.test\"");
}

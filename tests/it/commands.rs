//! Commands of the real program: `fsck` and `user create`.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use storage::{Backend, Batch, Keyspace, Options, Profile, Read, Store};
use testkit::{Account, ConduitProcess};

/// As `rooms` has it, as far as names and bytes go.
const EVENT_IDS: Keyspace<String, Vec<u8>> = Keyspace::new("event_ids", Profile::Points);

fn new_server() -> ConduitProcess {
    ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that reads `input`.
fn run_with_input(server: &ConduitProcess, arguments: &[&str], input: &str) -> Output {
    let mut command = server.command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn log_in(server: &ConduitProcess, name: &str, password: &str) -> u16 {
    let body = json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": password,
    });
    server.client().request("POST", "/_matrix/client/v3/login", None, Some(&body)).unwrap().status
}

#[test]
fn fsck_checks_only_what_is_there_and_nobody_uses() {
    let mut server = new_server();
    let missing = server.run_command(&["fsck"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("there is no database"), "{}", stderr(&missing));
    assert!(!server.data_dir().join("store").exists(), "checking makes no database");
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    alice.send_text(&room, "1", "hello");
    let running = server.run_command(&["fsck"]);
    assert_eq!(running.status.code(), Some(2));
    assert!(stderr(&running).contains("stop it first"), "{}", stderr(&running));
    assert!(server.terminate().success());

    let sound = server.run_command(&["fsck"]);
    assert_eq!((sound.status.code(), stdout(&sound).as_str()), (Some(0), ""), "{}", stderr(&sound));
    let sound: Value = serde_json::from_slice(&server.run_command(&["fsck", "--json"]).stdout).unwrap();
    assert_eq!(sound["problems"], json!([]));
    // The admin room is the second, if it was made before the server stopped.
    assert!(matches!(sound["rooms"].as_u64(), Some(1 | 2)), "{sound}");
    assert!(sound["events"].as_u64().unwrap() >= 7);
}

#[test]
fn fsck_names_what_is_broken() {
    let mut server = new_server();
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    let event = alice.send_text(&room, "1", "hello");
    assert!(server.terminate().success());
    {
        let backend = Backend::Rocks { path: server.data_dir().join("store") };
        let store = Store::open(Options::new(backend, vec![EVENT_IDS.info()])).unwrap();
        assert!(store.contains(&EVENT_IDS, &event).unwrap());
        let mut batch = Batch::new();
        batch.delete(&EVENT_IDS, &event);
        store.commit_blocking(batch).unwrap();
        store.close().unwrap();
    }
    let broken = server.run_command(&["fsck"]);
    assert_eq!(broken.status.code(), Some(1), "{}", stderr(&broken));
    assert!(stdout(&broken).lines().any(|line| line.contains(&event)), "{}", stdout(&broken));
    let broken: Value = serde_json::from_slice(&server.run_command(&["fsck", "--json"]).stdout).unwrap();
    assert!(broken["problems"].to_string().contains(&event), "{broken}");
}

#[test]
fn accounts_are_made_with_and_without_a_running_server() {
    let mut server = new_server();
    let first = run_with_input(&server, &["user", "create", "ada", "--password-stdin"], "first password\n");
    assert_eq!(stdout(&first), "@ada:hs.test\n", "{}", stderr(&first));
    server.start();
    assert_eq!(log_in(&server, "ada", "first password"), 200);
    assert_eq!(log_in(&server, "ada", "another password"), 403);

    let file = server.folder().join("password");
    fs::write(&file, "second password\r\nnot this").unwrap();
    let arguments = ["user", "create", "@bob:hs.test", "--admin", "--password-file", file.to_str().unwrap()];
    let second = server.run_command(&arguments);
    assert_eq!(stdout(&second), "@bob:hs.test\n", "{}", stderr(&second));
    assert_eq!(log_in(&server, "bob", "second password"), 200);

    let again = server.run_command(&arguments);
    assert!(!again.status.success() && stderr(&again).contains("already in use"), "{}", stderr(&again));
    let foreign = run_with_input(&server, &["user", "create", "@bob:other.test", "--password-stdin"], "password\n");
    assert!(stderr(&foreign).contains("another server"), "{}", stderr(&foreign));
    let short = run_with_input(&server, &["user", "create", "carol", "--password-stdin"], "x\n");
    assert!(stderr(&short).contains("too short"), "{}", stderr(&short));
    let empty = run_with_input(&server, &["user", "create", "carol", "--password-stdin"], "\n");
    assert!(stderr(&empty).contains("it is empty"), "{}", stderr(&empty));
    let silent = server.run_command(&["user", "create", "carol"]);
    assert!(stderr(&silent).contains("--password-stdin"), "{}", stderr(&silent));
    assert!(server.terminate().success());
}

#[test]
fn completions_know_every_operation() {
    let server = new_server();
    for shell in ["bash", "zsh", "fish"] {
        let done = server.run_command(&["completions", shell]);
        let script = stdout(&done);
        assert!(done.status.success() && script.contains("conduit"), "{}", stderr(&done));
        for group in admin::operations::groups() {
            for entry in &group.entries {
                let is_named = script.lines().any(|line| line.contains(group.name)) && script.contains(entry.verb);
                assert!(is_named, "{shell} does not complete {}", entry.name());
            }
        }
    }
    // In bash each command has a branch of its own.
    let script = stdout(&server.run_command(&["completions", "bash"]));
    for group in admin::operations::groups() {
        for entry in &group.entries {
            let branch = format!("admin__{}__{})", group.name, entry.verb).replace('-', "__");
            let written = script.replace("__subcmd__", "__").replace('-', "__");
            assert!(written.contains(&branch), "{branch}");
        }
    }
    assert!(!server.run_command(&["completions", "dos"]).status.success());
}

/// A running server with a configuration file; settings that commands are told too win over it.
fn with_file(content: &str) -> (ConduitProcess, std::path::PathBuf) {
    let mut server = new_server();
    let file = server.folder().join("conduit.toml");
    fs::write(&file, content).unwrap();
    // In the folder the file is found without being named.
    server.start();
    (server, file)
}

#[test]
fn the_running_server_judges_the_configuration_that_is_reloaded() {
    let (server, file) = with_file("[media]\nmax_upload = \"1MiB\"\n");
    let shown = || stdout(&server.run_command(&["admin", "server", "config", "media.max_upload"]));
    assert!(shown().contains("1MiB"), "{}", shown());
    fs::write(&file, "[media]\nmax_upload = \"2MiB\"\n[search]\nenabled = false\n").unwrap();
    let reloaded = server.run_command(&["reload"]);
    let told = stdout(&reloaded);
    assert!(reloaded.status.success(), "{}", stderr(&reloaded));
    assert!(told.contains("media.max_upload: \"1MiB\" → \"2MiB\""), "{told}");
    let restart = told.lines().find(|line| line.starts_with("needs_restart")).unwrap();
    assert!(restart.contains("search.enabled"), "{told}");
    assert!(shown().contains("2MiB"), "{}", shown());
    // A mistake: the server says which, nothing changes, and the exit code tells. Other commands go on working.
    for (wrong, mistake) in [
        ("[media]\nmax_upload = \"3 parsecs\"\n", "media.max_upload"),
        ("[media]\nmax_upload = \"3MiB\"\nmax_uplaod = 1\n", "did you mean"),
        ("this is no TOML", "TOML"),
    ] {
        fs::write(&file, wrong).unwrap();
        let refused = server.run_command(&["reload"]);
        assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(1), ""), "{wrong}");
        assert!(stderr(&refused).contains(mistake), "{wrong}: {}", stderr(&refused));
        assert!(shown().contains("2MiB"), "{wrong}: {}", shown());
    }
    // The signal is on record as the same operation, with the same end.
    server.hang_up();
    let records = || {
        let told = server.run_command(&["admin", "audit", "list", "--operation", "server reload", "--json"]);
        let records: Value = serde_json::from_slice(&told.stdout).unwrap();
        let records = records["items"].as_array().unwrap().clone();
        records.into_iter().filter(|record| record["through"] == "server").collect::<Vec<_>>()
    };
    let recorded = wait_for(|| records().into_iter().find(|record| record["outcome"] == "failed"));
    assert!(recorded["message"].as_str().unwrap().contains("TOML"), "{recorded}");
    fs::write(&file, "[media]\nmax_upload = \"4MiB\"\n").unwrap();
    server.hang_up();
    wait_for(|| shown().contains("4MiB").then_some(()));
    wait_for(|| records().into_iter().find(|record| record["outcome"] == "done"));
}

fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..300 {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it never happened")
}

#[test]
fn short_forms_are_on_record_as_the_operations_that_they_are() {
    let mut server = new_server();
    let made = run_with_input(&server, &["user", "create", "ada", "--password-stdin"], "first password\n");
    assert!(made.status.success(), "{}", stderr(&made));
    server.start();
    let made = run_with_input(&server, &["user", "create", "bob", "--password-stdin"], "second password\n");
    assert_eq!(stdout(&made), "@bob:hs.test\n", "{}", stderr(&made));
    let rebuilt = server.run_command(&["search", "rebuild"]);
    assert!(stdout(&rebuilt).contains("the search index is complete"), "{}", stderr(&rebuilt));
    assert!(server.run_command(&["appservice", "list"]).status.success());
    assert!(server.run_command(&["backup", "copy"]).status.success(), "from the folder of the command");
    assert!(server.folder().join("copy/store").exists());
    let told = server.run_command(&["admin", "audit", "list", "--who", "operator", "--json"]);
    let records: Value = serde_json::from_slice(&told.stdout).unwrap();
    let records = records["items"].as_array().unwrap();
    let names: Vec<&str> = records.iter().rev().filter_map(|record| record["operation"].as_str()).collect();
    let expected = ["user create", "user create", "search rebuild", "appservice list", "server backup"];
    assert_eq!(names[..expected.len()], expected, "the first was made without a running server");
    assert!(records.iter().all(|record| record["arguments"].is_object() && record["through"] == "command line"));
    let told = stdout(&told);
    assert!(!told.contains("first password") && !told.contains("second password"), "{told}");
}

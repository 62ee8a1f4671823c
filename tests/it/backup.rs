//! `conduit backup` of a server in use: a second server goes on from the copy.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Account, ConduitProcess, encode_path_segment};

const SENDERS: usize = 3;
/// So many messages of each sender are acknowledged before the backup begins.
const SENT_BEFORE: usize = 20;

fn new_server() -> ConduitProcess {
    ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[])
}

fn upload(account: &mut Account, bytes: &[u8]) -> String {
    let response = account.client.request_bytes("POST", "/_matrix/media/v3/upload", Some(&account.token), Some(bytes));
    let response = response.unwrap();
    assert_eq!(response.status, 200);
    response.json()["content_uri"].as_str().unwrap().to_owned()
}

fn download(account: &mut Account, mxc: &str) -> Vec<u8> {
    let path = format!("/_matrix/client/v1/media/download/{}", mxc.strip_prefix("mxc://").unwrap());
    let response = account.client.request("GET", &path, Some(&account.token), None).unwrap();
    assert_eq!(response.status, 200, "{mxc}");
    response.body
}

/// The ids of all events of a room, from the first to the last.
fn read_room(account: &mut Account, room: &str) -> Vec<String> {
    let path = format!("/rooms/{}/messages?dir=f&limit=1000", encode_path_segment(room));
    let (mut events, mut from) = (Vec::new(), String::new());
    loop {
        let page = account.expect("GET", &format!("{path}{from}"), None);
        let ids = page["chunk"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned());
        events.extend(ids);
        let Some(end) = page["end"].as_str() else { return events };
        from = format!("&from={}", encode_path_segment(end));
    }
}

fn assert_sound(server: &ConduitProcess) {
    let output = server.run_command(&["fsck"]);
    let (found, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && found.is_empty(), "fsck: {}\n{found}{told}", output.status);
}

/// Sends and uploads until `stop`; returns what was acknowledged: events and media with their content.
fn write_until(
    mut account: Account,
    room: &str,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) -> (Vec<String>, Vec<(String, String)>) {
    let (mut events, mut media) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let n = events.len();
        events.push(account.send_text(room, &n.to_string(), "hello"));
        let content = format!("{} of {}", n, account.user_id);
        media.push((upload(&mut account, content.as_bytes()), content));
        acknowledged.store(n + 1, Ordering::SeqCst);
    }
    (events, media)
}

#[test]
fn a_backup_of_a_busy_server_is_all_that_another_needs() {
    let mut server = new_server();
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({"preset": "public_chat"}));
    let image = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/image.png")).unwrap();
    let picture = upload(&mut alice, &image);
    let target = server.folder().join("copies/first");
    let (stop, counts) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; SENDERS]);
    let (before, written) = thread::scope(|scope| {
        let senders: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(n, count)| {
                let mut account = Account::register(server.client(), &format!("sender{n}"));
                account.join(&room);
                let (room, stop) = (&room, &stop);
                scope.spawn(move || write_until(account, room, count, stop))
            })
            .collect();
        while counts.iter().any(|count| count.load(Ordering::SeqCst) < SENT_BEFORE) {
            thread::sleep(Duration::from_millis(5));
        }
        let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        let made = server.run_command(&["backup", target.to_str().unwrap()]);
        stop.store(true, Ordering::SeqCst);
        let (told, progress) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
        assert!(made.status.success() && told.contains("signing key"), "{told}{progress}");
        assert!(progress.contains("copying the media"), "{progress}");
        (before, senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<_>>())
    });
    let original: Vec<_> = read_room(&mut alice, &room);
    let copied_dir = target.display().to_string();
    let mut copy = new_server();
    copy.set(&format!("data_dir={copied_dir}"));
    assert_sound(&copy);
    copy.start();
    alice.client = copy.client();

    let copied = read_room(&mut alice, &room);
    assert!(original.starts_with(&copied), "what is there is a beginning of what was sent");
    let there: BTreeSet<_> = copied.iter().collect();
    for (before, (events, media)) in before.iter().zip(&written) {
        assert!(events.iter().take(*before).all(|event| there.contains(event)), "an acknowledged event is missing");
        for (mxc, content) in media.iter().take(*before) {
            assert_eq!(download(&mut alice, mxc), content.as_bytes());
        }
    }
    assert_eq!(download(&mut alice, &picture), image);
    let key = |server: &ConduitProcess| server.client().request("GET", "/_matrix/key/v2/server", None, None).unwrap();
    assert_eq!(key(&copy).json()["verify_keys"], key(&server).json()["verify_keys"], "it is the same server");
    alice.send_text(&room, "goes-on", "in the copy");

    alice.client = server.client();
    assert_eq!(read_room(&mut alice, &room), original, "the first server does not notice");
    assert!(copy.terminate().success() && server.terminate().success());
    assert_sound(&copy);
    assert_sound(&server);
    assert_private(&target);
}

fn assert_private(target: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(target), mode(&target.join("signing.key"))), (0o700, 0o600));
}

#[test]
fn a_backup_overwrites_nothing_and_half_of_one_is_not_used() {
    let mut server = new_server();
    server.start();
    let back_up = |target: &Path| {
        let made = server.run_command(&["backup", target.to_str().unwrap()]);
        (made.status.success(), String::from_utf8_lossy(&made.stderr).into_owned())
    };
    let target = server.folder().join("backup");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("letter"), "dear").unwrap();
    let (made, told) = back_up(&target);
    assert!(!made && told.contains("is not empty"), "{told}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    let inside = server.data_dir().join("media/files/copy");
    let (made, told) = back_up(&inside);
    assert!(!made && told.contains("belongs to the running server"), "{told}");
    assert!(!inside.exists());
    symlink(server.data_dir().join("store"), server.folder().join("door")).unwrap();
    let (made, told) = back_up(&server.folder().join("door/copy"));
    assert!(!made && told.contains("belongs to the running server"), "{told}");

    // What cannot be copied leaves half a backup.
    let half = server.folder().join("half");
    fs::rename(server.data_dir().join("signing.key"), server.folder().join("away")).unwrap();
    let (made, told) = back_up(&half);
    assert!(!made && told.contains("cannot copy the signing key") && told.contains("delete it"), "{told}");
    assert!(half.join("store").is_dir(), "what was copied stays");
    fs::rename(server.folder().join("away"), server.data_dir().join("signing.key")).unwrap();

    let mut copy = new_server();
    copy.set(&format!("data_dir={}", half.display()));
    let password = copy.folder().join("password");
    fs::write(&password, "a good password").unwrap();
    let create = ["user", "create", "ada", "--password-file", password.to_str().unwrap()];
    for command in [&["run"][..], &["fsck"], &create] {
        let refused = copy.run_command(command);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("not finished"), "{command:?}: {told}");
    }
    assert!(!half.join("signing.key").exists(), "no new key was made");
    let whole = server.data_dir().join("backups/whole");
    let (made, told) = back_up(&whole);
    assert!(made, "{told}");
    assert_eq!(names_in(&whole), ["media", "signing.key", "store"]);
    assert!(server.terminate().success());
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn fsck_names_media_without_their_file() {
    let mut server = new_server();
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let mxc = upload(&mut alice, b"soon gone");
    assert!(server.terminate().success());
    assert_sound(&server);
    fs::remove_dir_all(server.data_dir().join("media/files")).unwrap();
    let broken = server.run_command(&["fsck", "--json"]);
    assert_eq!(broken.status.code(), Some(1));
    let broken: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert!(broken["problems"].to_string().contains(&mxc), "{broken}");
    assert_eq!(broken["media"], json!(1));
    // The server's own account is the second, if it was made before the server stopped.
    assert!(matches!(broken["accounts"].as_u64(), Some(1 | 2)), "{broken}");
}

//! The configuration of the running server: what is in force, and reading it again.

use std::fs;
use std::path::PathBuf;

use conduit::{ConfigSources, ControlRequest, converse};
use serde_json::{Value, json};
use testkit::{Account, TestServer};

struct Bed {
    server: TestServer,
    admin: Account,
    file: PathBuf,
}

impl Bed {
    /// A server whose configuration is in a file. Keys that tests of any kind set differ from it, and need a restart.
    fn start() -> Bed {
        let server = TestServer::start();
        let admin = Account::register(server.client(), "alice");
        let file = server.data_dir().with_file_name("conduit.toml");
        let bed = Bed { server, admin, file };
        bed.write("");
        bed.server.set_origin(ConfigSources { file: Some(bed.file.clone()), ..ConfigSources::default() });
        bed
    }

    fn write(&self, more: &str) {
        fs::write(&self.file, format!("server_name = \"hs.test\"\n[rate_limits]\nenabled = false\n{more}")).unwrap();
    }

    fn perform(&mut self, verb: &str, arguments: &Value) -> (u16, Value) {
        let path = format!("/_conduit/admin/v1/server/{verb}");
        let answer = self.admin.client.request("POST", &path, Some(&self.admin.token), Some(arguments)).unwrap();
        (answer.status, answer.json())
    }

    fn value(&mut self, key: &str) -> String {
        let (_, values) = self.perform("config", &json!({"key": key}));
        values["items"][0]["value"].as_str().unwrap_or_else(|| panic!("{values}")).to_owned()
    }
}

const KEY: &str = "media.max_upload";

#[test]
fn a_changed_file_is_taken_over_and_what_cannot_be_is_named() {
    let mut bed = Bed::start();
    let before = bed.value(KEY);
    bed.write("[media]\nmax_upload = \"7KiB\"\n");
    let (status, told) = bed.perform("reload", &json!({}));
    assert_eq!(status, 200, "{told}");
    let changed = told["changed"].as_array().unwrap();
    assert!(changed.iter().any(|line| line.as_str().unwrap().starts_with(KEY)), "{told}");
    let needs_restart = told["needs_restart"].to_string();
    assert!(needs_restart.contains("listeners"), "{told}");
    assert_ne!(bed.value(KEY), before);
    // What was taken over is in force: a larger file is refused.
    let large = vec![0; 7 * 1024 + 1];
    let (path, token) = ("/_matrix/media/v3/upload", Some(bed.admin.token.as_str()));
    assert_eq!(bed.admin.client.request_bytes("POST", path, token, Some(&large)).unwrap().status, 413);
    // And it is a difference from the defaults.
    let (_, differences) = bed.perform("config", &json!({"key": KEY, "diff": true}));
    assert_eq!(differences["items"][0]["default"], *before, "{differences}");
    let (_, none) = bed.perform("config", &json!({"key": "media.max_image_pixels", "diff": true}));
    assert_eq!(none["items"], json!([]));
    // The command for the control socket does the same.
    bed.write("");
    let told =
        converse(bed.server.data_dir(), &ControlRequest::operation(&["server", "reload"]), &mut |_| Ok(None)).unwrap();
    assert!(told.contains(KEY), "{told}");
    assert_eq!(bed.value(KEY), before);
}

#[test]
fn a_wrong_file_is_refused_by_the_server_and_changes_nothing() {
    let mut bed = Bed::start();
    let before = bed.perform("config", &json!({})).1;
    let folder = bed.file.with_file_name("registrations");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("bridge.yaml"), "id: [").unwrap();
    let appservices = format!("[media]\nmax_upload = \"7MiB\"\n[appservices]\nfolder = {folder:?}\n");
    for (wrong, mistake) in [
        ("[media]\nmax_upload = \"7MiB\"\nmax_uplaod = \"7MiB\"\n", "max_uplaod"),
        ("[media]\nmax_upload = \"7 parsecs\"\n", KEY),
        ("[media]\nmax_upload = \"7MiB\"\n[log]\nlevel = \"=====\"\n", "log"),
        (&appservices, "bridge.yaml"),
        ("this is no TOML", "TOML"),
    ] {
        bed.write(wrong);
        let (status, told) = bed.perform("reload", &json!({}));
        assert_eq!((status, told["errcode"].as_str()), (400, Some("M_INVALID_PARAM")), "{wrong}: {told}");
        assert!(told["error"].as_str().unwrap().contains(mistake), "{wrong}: {told}");
        let failed =
            converse(bed.server.data_dir(), &ControlRequest::operation(&["server", "reload"]), &mut |_| Ok(None));
        assert!(failed.unwrap_err().to_string().contains(mistake), "{wrong}");
        assert_eq!(bed.perform("config", &json!({})).1, before, "{wrong}");
    }
    fs::remove_file(&bed.file).unwrap();
    assert_eq!(bed.perform("reload", &json!({})).0, 400);
    assert_eq!(bed.perform("config", &json!({})).1, before);
}

#[test]
fn a_server_without_a_file_says_so_and_secrets_are_not_shown() {
    let server = TestServer::start_with(runtime::Clock::system(), |config| {
        config.registration_token = Some("very-secret".to_owned());
    });
    let mut admin = Account::register(server.client(), "alice");
    let mut ask = |verb: &str, arguments: Value| {
        let path = format!("/_conduit/admin/v1/server/{verb}");
        admin.client.request("POST", &path, Some(&admin.token), Some(&arguments)).unwrap()
    };
    let refused = ask("reload", json!({}));
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("does not know"), "{}", refused.json());
    for arguments in [json!({}), json!({"diff": true})] {
        let shown = ask("config", arguments).json().to_string();
        assert!(shown.contains("registration_token") && !shown.contains("very-secret"), "{shown}");
    }
}

#[test]
fn rules_against_spam_are_taken_over() {
    let mut bed = Bed::start();
    let mut bob = Account::register(bed.server.client(), "bob");
    let mut status = || bob.request("POST", "/createRoom", Some(&json!({}))).unwrap().status;
    assert_eq!((status(), status()), (200, 200));
    fs::write(&bed.file, "server_name = \"hs.test\"\n[spam]\nrooms_per_hour = 1\n").unwrap();
    let (_, told) = bed.perform("reload", &json!({}));
    assert!(told["changed"].to_string().contains("spam.rooms_per_hour"), "{told}");
    assert_eq!((status(), status()), (200, 429));
}

//! A server with an administrator and a user who has uploaded things.

use std::time::Duration;

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::wait_for;

/// When the tests begin, in milliseconds since 1970.
pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Bed {
    pub server: TestServer,
    pub admin: Account,
    pub bob: Account,
}

impl Bed {
    pub fn start() -> Bed {
        Bed::start_with(|_| {})
    }

    pub fn start_with(adjust: impl FnOnce(&mut conduit::Config)) -> Bed {
        Bed::of(TestServer::start_with(Clock::fake(START_MS), adjust))
    }

    /// With accounts on a server that has none.
    pub fn of(server: TestServer) -> Bed {
        let admin = Account::register(server.client(), "alice");
        let bob = Account::register(server.client(), "bob");
        Bed { server, admin, bob }
    }

    /// A request of the administrator in the Synapse form; `path` begins after `/_synapse/admin/v1`.
    pub fn synapse(&mut self, method: &str, path: &str) -> (u16, Value) {
        let body = matches!(method, "POST" | "PUT").then(|| json!({}));
        let path = format!("/_synapse/admin/v1{path}");
        let response = self.admin.client.request(method, &path, Some(&self.admin.token), body.as_ref()).unwrap();
        (response.status, response.json())
    }

    /// As [`Bed::synapse`], for what must be answered with 200.
    pub fn ask(&mut self, method: &str, path: &str) -> Value {
        let (status, answer) = self.synapse(method, path);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// As [`Bed::synapse`], for what must be refused: status and code.
    pub fn refuse(&mut self, method: &str, path: &str) -> (u16, String) {
        let (status, answer) = self.synapse(method, path);
        (status, answer["errcode"].as_str().unwrap_or_default().to_owned())
    }

    /// Performs an operation in our own HTTP form.
    pub fn perform(&mut self, group: &str, verb: &str, arguments: &Value) -> (u16, Value) {
        let path = format!("/_conduit/admin/v1/{group}/{verb}");
        let response = self.admin.client.request("POST", &path, Some(&self.admin.token), Some(arguments)).unwrap();
        (response.status, response.json())
    }

    /// As [`Bed::perform`], for what must be answered with 200.
    pub fn done(&mut self, group: &str, verb: &str, arguments: &Value) -> Value {
        let (status, answer) = self.perform(group, verb, arguments);
        assert_eq!(status, 200, "{group} {verb} {arguments}: {answer}");
        answer
    }

    /// Starts a job, and waits for its result.
    pub fn finish_job(&mut self, group: &str, verb: &str, arguments: &Value) -> Value {
        let job = self.done(group, verb, arguments)["job"].clone();
        wait_for("the end of a job", || {
            let row = self.done("job", "show", &json!({"job": job}));
            assert_ne!(row["state"], "failed", "{row}");
            (row["state"] == "done").then_some(row)
        })
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.server.clock().advance(by);
    }
}

/// Uploads a file; returns its address.
pub(crate) fn upload(account: &mut Account, bytes: &[u8], name: &str) -> String {
    let (status, answer) = try_upload(account, bytes, name);
    assert_eq!(status, 200, "{answer}");
    answer["content_uri"].as_str().unwrap().to_owned()
}

pub(crate) fn try_upload(account: &mut Account, bytes: &[u8], name: &str) -> (u16, Value) {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let response = account.client.request_bytes("POST", &path, Some(&account.token), Some(bytes)).unwrap();
    (response.status, response.json())
}

/// The status of a download.
pub(crate) fn download(account: &mut Account, mxc: &str) -> u16 {
    let path = format!("/_matrix/client/v1/media/download/{}", mxc.trim_start_matches("mxc://"));
    account.client.request("GET", &path, Some(&account.token), None).unwrap().status
}

/// Downloads, and waits until it is noted that it was.
pub(crate) fn use_media(bed: &mut Bed, mxc: &str) {
    let now = bed.server.clock().now_ms();
    assert_eq!(download(&mut bed.bob, mxc), 200);
    wait_for("the time of the access", || {
        let info = bed.ask("GET", &format!("/media/{}", mxc.trim_start_matches("mxc://")));
        (info["media_info"]["last_access_ts"] == now).then_some(())
    });
}

/// Sends a picture into a room.
pub(crate) fn send_picture(account: &mut Account, room: &str, transaction: &str, mxc: &str) -> String {
    let path = format!("/rooms/{}/send/m.room.message/{transaction}", encode_path_segment(room));
    let content = json!({"msgtype": "m.image", "body": "p.png", "url": mxc});
    account.expect("PUT", &path, Some(&content))["event_id"].as_str().unwrap().to_owned()
}

/// The part of a media's address after the server.
pub(crate) fn id_of(mxc: &str) -> &str {
    mxc.rsplit('/').next().unwrap_or_default()
}

//! What users do to their own accounts, in the audit log.

use std::time::Duration;

use admin::Face;
use admin::audit::{AuditQuery, AuditRow, Ending};
use hmac::{Hmac, KeyInit, Mac};
use runtime::Clock;
use serde_json::{Value, json};
use sha1::Sha1;
use testkit::{Account, TestServer};

use crate::admin_room::wait_for;

const ALICE: &str = "@alice:hs.test";

struct Bed {
    server: TestServer,
    alice: Account,
}

impl Bed {
    fn start() -> Bed {
        let server = TestServer::start_with(Clock::fake(1_700_000_000_000), |_| {});
        // The first account cannot be closed by its owner: it would be the last administrator.
        let _ = Account::register(server.client(), "admin");
        let alice = Account::register(server.client(), "alice");
        Bed { server, alice }
    }

    fn log_in(&mut self, password: &str, device: &str) -> (u16, Value) {
        let body = json!({
            "type": "m.login.password", "password": password, "device_id": device,
            "identifier": {"type": "m.id.user", "user": "alice"},
        });
        let answer = self.server.client().request("POST", "/_matrix/client/v3/login", None, Some(&body)).unwrap();
        (answer.status, answer.json())
    }

    /// A request that asks for the password.
    fn confirmed(&mut self, method: &str, path: &str, mut body: Value) {
        body["auth"] = json!({
            "type": "m.login.password", "password": "alice-password",
            "identifier": {"type": "m.id.user", "user": "alice"},
        });
        self.alice.expect(method, path, Some(&body));
    }

    /// The record of an event, which is written soon after it.
    fn record(&self, operation: &str, fits: impl Fn(&AuditRow, &Value) -> bool) -> (AuditRow, Value) {
        let query = AuditQuery { operation: Some(operation.to_owned()), ..AuditQuery::default() };
        wait_for(operation, || {
            let records = self.server.admin().audit().search(&query, 100).unwrap().records;
            let read = |(_, row): (_, AuditRow)| {
                let arguments: Value = serde_json::from_str(&row.arguments).unwrap();
                (row, arguments)
            };
            records.into_iter().map(read).find(|(row, arguments)| fits(row, arguments))
        })
    }
}

fn check(row: &AuditRow, arguments: &Value, ending: Ending) {
    assert_eq!((row.who.as_str(), row.face, row.ending), (ALICE, Face::Client, ending), "{row:?}");
    assert_eq!(arguments["user"], ALICE);
}

#[test]
fn logins_are_on_record_and_failed_ones_are_counted_in_one() {
    let mut bed = Bed::start();
    assert_eq!(bed.log_in("alice-password", "PHONE").0, 200);
    let (row, arguments) = bed.record("account login", |_, arguments| arguments["device"] == "PHONE");
    check(&row, &arguments, Ending::Done);
    for _ in 0..5 {
        assert_eq!(bed.log_in("a-wrong-password", "EVIL").0, 403);
        bed.server.clock().advance(Duration::from_secs(2));
    }
    let (row, arguments) = bed.record("account login", |row, _| row.ending == Ending::Refused && row.count == 5);
    check(&row, &arguments, Ending::Refused);
    assert_eq!(row.last_ms - row.at_ms, 8_000);
    let query = AuditQuery { ending: Some(Ending::Refused), ..AuditQuery::default() };
    let records = bed.server.admin().audit().search(&query, 10).unwrap().records;
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(!format!("{records:?}").contains("a-wrong-password"));
}

#[test]
fn what_ends_sessions_is_on_record() {
    let mut bed = Bed::start();
    for device in ["A", "B", "C", "D"] {
        bed.log_in("alice-password", device);
    }
    bed.confirmed("DELETE", "/devices/A", json!({}));
    let (row, arguments) = bed.record("account logout", |_, arguments| arguments["devices"] == json!(["A"]));
    check(&row, &arguments, Ending::Done);
    bed.confirmed("POST", "/delete_devices", json!({"devices": ["B", "C"]}));
    let (row, arguments) = bed.record("account logout", |_, arguments| arguments["devices"] == json!(["B", "C"]));
    check(&row, &arguments, Ending::Done);
    let token = bed.log_in("alice-password", "E").1["access_token"].as_str().unwrap().to_owned();
    let mut client = bed.server.client();
    assert_eq!(
        client.request("POST", "/_matrix/client/v3/logout", Some(&token), Some(&json!({}))).unwrap().status,
        200
    );
    let (row, arguments) = bed.record("account logout", |_, arguments| arguments["devices"] == json!(["E"]));
    check(&row, &arguments, Ending::Done);
    bed.alice.expect("POST", "/logout/all", Some(&json!({})));
    let (row, arguments) = bed.record("account logout", |_, arguments| arguments["devices"] == "all");
    check(&row, &arguments, Ending::Done);
}

#[test]
fn a_new_password_and_the_end_of_an_account_are_on_record() {
    let mut bed = Bed::start();
    bed.confirmed("POST", "/account/password", json!({"new_password": "alice-password", "logout_devices": false}));
    let (row, arguments) = bed.record("account password", |_, _| true);
    check(&row, &arguments, Ending::Done);
    assert!(!row.arguments.contains("alice-password"));
    bed.confirmed("POST", "/account/deactivate", json!({"erase": true}));
    let (row, arguments) = bed.record("account deactivate", |_, _| true);
    check(&row, &arguments, Ending::Done);
    assert_eq!(arguments["erase"], true);
}

#[test]
fn accounts_made_with_the_shared_secret_are_on_record() {
    let server = TestServer::start_with(Clock::fake(1_700_000_000_000), |config| {
        config.registration_shared_secret = Some("the secret".to_owned());
    });
    let alice = Account::register(server.client(), "alice");
    let mut bed = Bed { server, alice };
    let path = "/_synapse/admin/v1/register";
    let attempt = |bed: &mut Bed, name: &str, secret: &str, admin: bool| {
        let mut client = bed.server.client();
        let nonce = client.request("GET", path, None, None).unwrap().json()["nonce"].as_str().unwrap().to_owned();
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        let rights = if admin { "admin" } else { "notadmin" };
        mac.update(format!("{nonce}\0{name}\0long-enough-pw\0{rights}").as_bytes());
        let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({
            "nonce": nonce, "username": name, "password": "long-enough-pw", "admin": admin, "mac": mac,
        });
        let first = client.request("POST", path, None, Some(&body)).unwrap().status;
        (first, client.request("POST", path, None, Some(&body)).unwrap().status)
    };
    // Each nonce serves once.
    assert_eq!(attempt(&mut bed, "boss", "the secret", true), (200, 400));
    let (row, arguments) = bed.record("account register", |row, _| row.ending == Ending::Done);
    assert_eq!((row.who.as_str(), row.face), ("@boss:hs.test", Face::Client));
    assert_eq!((&arguments["admin"], &arguments["by"]), (&json!(true), &json!("shared secret")));
    assert!(!row.arguments.contains("long-enough-pw"));
    assert_eq!(attempt(&mut bed, "clerk", "the secret", false).0, 200);
    let is_clerk = |row: &AuditRow, _: &Value| row.who == "@clerk:hs.test" && row.ending == Ending::Done;
    // What is not so is left out of records.
    assert_eq!(bed.record("account register", is_clerk).1.get("admin"), None);
    assert_eq!(attempt(&mut bed, "thief", "a guess", true).0, 403);
    let (row, _) = bed.record("account register", |row, _| row.who == "@thief:hs.test");
    assert_eq!(row.ending, Ending::Refused);
}

#[test]
fn what_a_rule_against_spam_refused_is_on_record() {
    let server = TestServer::start_with(Clock::fake(1_700_000_000_000), |config| {
        config.rate_limits.enabled = true;
        config.spam.rooms_per_hour = 1;
    });
    let _ = Account::register(server.client(), "admin");
    let alice = Account::register(server.client(), "alice");
    let mut bed = Bed { server, alice };
    bed.alice.create_room(&json!({}));
    assert_eq!(bed.alice.request("POST", "/createRoom", Some(&json!({}))).unwrap().status, 429);
    let (row, arguments) = bed.record("account spam", |_, _| true);
    check(&row, &arguments, Ending::Refused);
    assert_eq!(arguments["rule"], "rooms");
}

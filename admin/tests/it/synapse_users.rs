//! Accounts, devices and registration tokens in the form of the Synapse admin API.

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::wait_for;

/// A server with its administrator, `alice`, and a member, `bob`.
struct Bed {
    server: TestServer,
    alice: Account,
    bob: Account,
}

/// A request to the admin API: its status and what it says.
pub(crate) fn ask(account: &mut Account, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let path = format!("/_synapse/admin{path}");
    let answer = account.client.request(method, &path, Some(&account.token), body.as_ref()).unwrap();
    (answer.status, answer.json())
}

impl Bed {
    fn start() -> Bed {
        Bed::of(TestServer::start())
    }

    fn of(server: TestServer) -> Bed {
        let alice = Account::register(server.client(), "alice");
        let bob = Account::register(server.client(), "bob");
        Bed { server, alice, bob }
    }

    fn ok(&mut self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = ask(&mut self.alice, method, path, body);
        assert!(matches!(status, 200 | 201), "{method} {path}: {status} {answer}");
        answer
    }

    fn refused(&mut self, method: &str, path: &str, body: Option<Value>, status: u16, errcode: &str) {
        let (is, answer) = ask(&mut self.alice, method, path, body);
        assert_eq!((is, answer["errcode"].as_str()), (status, Some(errcode)), "{method} {path}: {answer}");
    }

    fn log_in(&self, name: &str, password: &str) -> (u16, Value) {
        let body = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password});
        let answer = self.server.client().request("POST", "/_matrix/client/v3/login", None, Some(&body)).unwrap();
        (answer.status, answer.json())
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect()
}

#[test]
fn accounts_are_listed_in_pages_and_filtered() {
    let mut bed = Bed::start();
    for name in ["carl", "dora"] {
        let _ = Account::register(bed.server.client(), name);
    }
    let page = bed.ok("GET", "/v2/users?from=0&limit=2", None);
    assert_eq!(names(&page), ["@alice:hs.test", "@bob:hs.test"]);
    assert_eq!((&page["next_token"], &page["total"]), (&json!("2"), &json!(4)));
    let page = bed.ok("GET", "/v2/users?from=2&limit=2", None);
    assert_eq!(names(&page), ["@carl:hs.test", "@dora:hs.test"]);
    assert_eq!(page.get("next_token"), None);
    assert_eq!(names(&bed.ok("GET", "/v2/users?admins=true", None)), ["@alice:hs.test"]);
    assert_eq!(names(&bed.ok("GET", "/v2/users?name=ca", None)), ["@carl:hs.test"]);
    assert_eq!(names(&bed.ok("GET", "/v2/users?order_by=name&dir=b&limit=1", None)), ["@dora:hs.test"]);
    bed.ok("POST", "/v1/deactivate/@dora:hs.test", Some(json!({"erase": false})));
    assert_eq!(bed.ok("GET", "/v2/users", None)["total"], 3);
    assert_eq!(bed.ok("GET", "/v2/users?deactivated=true", None)["total"], 4);
    assert_eq!(names(&bed.ok("GET", "/v3/users?deactivated=true", None)), ["@dora:hs.test"]);
    assert_eq!(bed.ok("GET", "/v3/users", None)["total"], 4);
    for bad in ["order_by=shoe_size", "dir=up", "from=-1", "limit=many", "guests=perhaps"] {
        bed.refused("GET", &format!("/v2/users?{bad}"), None, 400, "M_INVALID_PARAM");
    }
    let (status, refused) = ask(&mut bed.bob, "GET", "/v2/users", None);
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));
}

#[test]
fn an_account_is_made_and_changed_by_one_request() {
    let mut bed = Bed::start();
    let path = "/v2/users/@new:hs.test";
    let body = json!({
        "password": "correct horse",
        "displayname": "New",
        "threepids": [{"medium": "email", "address": "new@example.org"}],
        "external_ids": [{"auth_provider": "oidc", "external_id": "4711"}],
        "admin": false,
        "user_type": "bot",
    });
    let (status, made) = ask(&mut bed.alice, "PUT", path, Some(body));
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["displayname"], &made["user_type"]), (&json!("New"), &json!("bot")));
    assert_eq!(made["threepids"][0]["address"], "new@example.org");
    assert!(made["creation_ts"].as_u64().unwrap() < 100_000_000_000, "seconds: {made}");
    assert_eq!(bed.log_in("new", "correct horse").0, 200);
    let found = bed.ok("GET", "/v1/auth_providers/oidc/users/4711", None);
    assert_eq!(found, json!({"user_id": "@new:hs.test"}));
    assert_eq!(bed.ok("GET", "/v1/threepid/email/users/new@example.org", None), found);
    bed.refused("GET", "/v1/threepid/email/users/old@example.org", None, 404, "M_NOT_FOUND");
    let (status, changed) = ask(&mut bed.alice, "PUT", path, Some(json!({"displayname": "Other", "locked": true})));
    assert_eq!((status, &changed["displayname"], &changed["locked"]), (200, &json!("Other"), &json!(true)));
    assert_eq!((&changed["user_type"], &changed["external_ids"][0]["external_id"]), (&json!("bot"), &json!("4711")));
    assert_eq!(bed.log_in("new", "correct horse").1["errcode"], "M_USER_LOCKED");
    bed.ok("PUT", path, Some(json!({"locked": false, "deactivated": true})));
    bed.refused("PUT", path, Some(json!({"deactivated": false})), 400, "M_UNKNOWN");
    bed.ok("PUT", path, Some(json!({"deactivated": false, "password": "another horse"})));
    assert_eq!(bed.log_in("new", "another horse").0, 200);
}

#[test]
fn what_cannot_be_done_to_an_account_is_refused_and_changes_nothing() {
    let mut bed = Bed::start();
    bed.refused("GET", "/v2/users/@nobody:hs.test", None, 404, "M_NOT_FOUND");
    bed.refused("GET", "/v2/users/nobody", None, 400, "M_INVALID_PARAM");
    bed.refused("GET", "/v2/users/@bob:elsewhere.test", None, 400, "M_UNKNOWN");
    bed.refused("PUT", "/v2/users/@bob:elsewhere.test", Some(json!({})), 400, "M_UNKNOWN");
    bed.refused("PUT", "/v2/users/@UPPER:hs.test", Some(json!({"password": "long enough"})), 400, "M_INVALID_PARAM");
    bed.ok("PUT", "/v2/users/@bob:hs.test", Some(json!({"threepids": [{"medium": "email", "address": "b@b"}]})));
    let taken = json!({"password": "long enough", "threepids": [{"medium": "email", "address": "b@b"}]});
    bed.refused("PUT", "/v2/users/@half:hs.test", Some(taken), 409, "M_UNKNOWN");
    bed.refused("GET", "/v2/users/@half:hs.test", None, 404, "M_NOT_FOUND");
    let myself = "/v2/users/@alice:hs.test";
    bed.refused("PUT", myself, Some(json!({"admin": false})), 400, "M_INVALID_PARAM");
    bed.refused("PUT", myself, Some(json!({"locked": true})), 400, "M_INVALID_PARAM");
    bed.refused("PUT", myself, Some(json!({"deactivated": true})), 400, "M_INVALID_PARAM");
    bed.refused("PUT", "/v1/suspend/@alice:hs.test", Some(json!({"suspend": true})), 400, "M_INVALID_PARAM");
    bed.refused("POST", "/v1/users/@alice:hs.test/login", Some(json!({})), 400, "M_INVALID_PARAM");
    bed.refused("PUT", "/v1/users/@bob:hs.test/admin", Some(json!({"admin": "yes"})), 400, "M_BAD_JSON");
    let own = bed.ok("GET", myself, None);
    assert_eq!((&own["admin"], &own["locked"], &own["deactivated"]), (&json!(true), &json!(false), &json!(false)));
}

#[test]
fn rights_passwords_and_sessions_are_changed() {
    let mut bed = Bed::start();
    assert_eq!(bed.ok("GET", "/v1/users/@bob:hs.test/admin", None), json!({"admin": false}));
    bed.ok("PUT", "/v1/users/@bob:hs.test/admin", Some(json!({"admin": true})));
    assert_eq!(ask(&mut bed.bob, "GET", "/v2/users", None).0, 200);
    bed.ok("PUT", "/v1/users/@bob:hs.test/admin", Some(json!({"admin": false})));
    assert_eq!(ask(&mut bed.bob, "GET", "/v2/users", None).0, 403);
    let suspended = bed.ok("PUT", "/v1/suspend/@bob:hs.test", Some(json!({"suspend": true})));
    assert_eq!(suspended, json!({"user_@bob:hs.test_suspended": true}));
    assert_eq!(bed.bob.request("POST", "/createRoom", Some(&json!({}))).unwrap().json()["errcode"], "M_USER_SUSPENDED");
    bed.ok("PUT", "/v1/suspend/@bob:hs.test", Some(json!({"suspend": false})));
    let limit = json!({"messages_per_second": 5, "burst_count": 7});
    assert_eq!(bed.ok("GET", "/v1/users/@bob:hs.test/override_ratelimit", None), json!({}));
    assert_eq!(bed.ok("POST", "/v1/users/@bob:hs.test/override_ratelimit", Some(limit.clone())), limit);
    assert_eq!(bed.ok("GET", "/v1/users/@bob:hs.test/override_ratelimit", None), limit);
    bed.ok("DELETE", "/v1/users/@bob:hs.test/override_ratelimit", None);
    assert_eq!(bed.ok("GET", "/v1/users/@bob:hs.test/override_ratelimit", None), json!({}));
    let acting = bed.ok("POST", "/v1/users/@bob:hs.test/login", Some(json!({})));
    let token = acting["access_token"].as_str().unwrap().to_owned();
    let own = std::mem::replace(&mut bed.bob.token, token);
    assert_eq!(bed.bob.expect("GET", "/account/whoami", None)["user_id"], "@bob:hs.test");
    bed.bob.token = own;
    bed.ok("POST", "/v1/reset_password/@bob:hs.test", Some(json!({"new_password": "another horse"})));
    assert_eq!(bed.bob.request("GET", "/account/whoami", None).unwrap().status, 401);
    assert_eq!(bed.log_in("bob", "another horse").0, 200);
    let expired = json!({"user_id": "@bob:hs.test", "expiration_ts": 1});
    assert_eq!(bed.ok("POST", "/v1/account_validity/validity", Some(expired)), json!({"expiration_ts": 1}));
    assert_eq!(bed.log_in("bob", "another horse").1["errcode"], "ORG_MATRIX_EXPIRED_ACCOUNT");
}

#[test]
fn devices_are_listed_made_renamed_and_deleted() {
    let mut bed = Bed::start();
    let devices = "/v2/users/@bob:hs.test/devices";
    let listed = bed.ok("GET", devices, None);
    assert_eq!((&listed["total"], &listed["devices"][0]["device_id"]), (&json!(1), &json!("TEST")));
    assert_eq!(ask(&mut bed.alice, "POST", devices, Some(json!({"device_id": "SECOND"}))).0, 201);
    bed.ok("PUT", &format!("{devices}/SECOND"), Some(json!({"display_name": "My phone"})));
    let one = bed.ok("GET", &format!("{devices}/SECOND"), None);
    assert_eq!((&one["display_name"], &one["user_id"]), (&json!("My phone"), &json!("@bob:hs.test")));
    bed.refused("GET", &format!("{devices}/THIRD"), None, 404, "M_NOT_FOUND");
    bed.ok("DELETE", &format!("{devices}/SECOND"), None);
    bed.ok("POST", "/v2/users/@bob:hs.test/delete_devices", Some(json!({"devices": ["TEST", "GONE"]})));
    assert_eq!(bed.ok("GET", devices, None)["total"], 0);
    assert_eq!(bed.bob.request("GET", "/account/whoami", None).unwrap().status, 401);
}

#[test]
fn what_a_user_has_and_did_is_shown() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({"invite": ["@alice:hs.test"]}));
    let joined = bed.ok("GET", "/v1/users/@bob:hs.test/joined_rooms", None);
    assert_eq!(joined, json!({"joined_rooms": [room], "total": 1}));
    let memberships = bed.ok("GET", "/v1/users/@alice:hs.test/memberships", None);
    assert_eq!(memberships["memberships"][&room], "invite");
    bed.alice.join(&room);
    let count = bed.ok("GET", "/v1/users/@bob:hs.test/sent_invite_count?from_ts=0", None);
    assert_eq!(count, json!({"invite_count": 1}));
    let count = bed.ok("GET", "/v1/users/@alice:hs.test/cumulative_joined_room_count", None);
    assert_eq!(count, json!({"cumulative_joined_room_count": 1}));
    bed.refused("GET", "/v1/users/@bob:hs.test/sent_invite_count", None, 400, "M_MISSING_PARAM");
    bed.bob.expect("PUT", "/user/@bob:hs.test/account_data/com.example.x", Some(&json!({"a": 1})));
    let data = bed.ok("GET", "/v1/users/@bob:hs.test/accountdata", None);
    assert_eq!(data["account_data"]["global"]["com.example.x"], json!({"a": 1}));
    assert_eq!(bed.ok("GET", "/v1/users/@bob:hs.test/pushers", None), json!({"pushers": [], "total": 0}));
    let whois = bed.ok("GET", "/v1/whois/@bob:hs.test", None);
    assert!(whois["devices"][""]["sessions"][0]["connections"][0]["last_seen"].is_u64(), "{whois}");
    let features = "/v1/experimental_features/@bob:hs.test";
    assert_eq!(bed.ok("GET", features, None)["features"]["msc3881"], true);
    bed.ok("PUT", features, Some(json!({"features": {"msc3881": true}})));
    bed.refused("PUT", features, Some(json!({"features": {"msc3881": false}})), 400, "M_INVALID_PARAM");
    bed.refused("PUT", features, Some(json!({"features": {"msc0": true}})), 400, "M_UNKNOWN");
}

#[test]
fn registration_tokens_are_made_changed_and_deleted() {
    let mut bed = Bed::start();
    let tokens = "/v1/registration_tokens";
    let made = bed.ok("POST", &format!("{tokens}/new"), Some(json!({"token": "open", "uses_allowed": 1})));
    let wanted = json!({"token": "open", "uses_allowed": 1, "pending": 0, "completed": 0, "expiry_time": null});
    assert_eq!(made, wanted);
    let random = bed.ok("POST", &format!("{tokens}/new"), Some(json!({"length": 24})));
    assert_eq!(random["token"].as_str().unwrap().len(), 24);
    let changed = bed.ok("PUT", &format!("{tokens}/open"), Some(json!({"uses_allowed": null})));
    assert_eq!(changed["uses_allowed"], Value::Null);
    bed.ok("PUT", &format!("{tokens}/open"), Some(json!({"uses_allowed": 0})));
    let valid = bed.ok("GET", &format!("{tokens}?valid=true"), None);
    assert_eq!(valid["registration_tokens"].as_array().unwrap().len(), 1);
    assert_eq!(bed.ok("GET", tokens, None)["registration_tokens"].as_array().unwrap().len(), 2);
    bed.ok("DELETE", &format!("{tokens}/open"), None);
    bed.refused("GET", &format!("{tokens}/open"), None, 404, "M_NOT_FOUND");
    bed.refused("DELETE", &format!("{tokens}/open"), None, 404, "M_NOT_FOUND");
    for bad in [json!({"length": 65}), json!({"token": "no spaces"}), json!({"expiry_time": 1})] {
        bed.refused("POST", &format!("{tokens}/new"), Some(bad), 400, "M_INVALID_PARAM");
    }
    assert_eq!(bed.ok("GET", "/v1/username_available?username=free", None), json!({"available": true}));
    bed.refused("GET", "/v1/username_available?username=bob", None, 400, "M_USER_IN_USE");
    bed.refused("GET", "/v1/username_available?username=B%20B", None, 400, "M_INVALID_USERNAME");
}

#[test]
fn shadow_banned_users_are_answered_and_heard_by_nobody() {
    let mut bed = Bed::start();
    let room = bed.alice.create_room(&json!({"preset": "public_chat"}));
    bed.bob.join(&room);
    bed.ok("POST", "/v1/users/@bob:hs.test/shadow_ban", None);
    let fake = bed.bob.send_text(&room, "t1", "buy this");
    assert_eq!(bed.bob.send_text(&room, "t1", "buy this"), fake);
    let path = format!("/rooms/{}/event/{fake}", encode_path_segment(&room));
    assert_eq!(bed.alice.request("GET", &path, None).unwrap().status, 404);
    let invite = format!("/rooms/{}/invite", encode_path_segment(&room));
    bed.bob.expect("POST", &invite, Some(&json!({"user_id": "@carl:hs.test"})));
    let members = bed.alice.expect("GET", &format!("/rooms/{}/members", encode_path_segment(&room)), None);
    assert_eq!(members["chunk"].as_array().unwrap().len(), 2, "{members}");
    bed.ok("DELETE", "/v1/users/@bob:hs.test/shadow_ban", None);
    let real = bed.bob.send_text(&room, "t2", "sorry");
    let path = format!("/rooms/{}/event/{real}", encode_path_segment(&room));
    bed.alice.expect("GET", &path, None);
}

#[test]
fn what_a_user_sent_is_redacted_by_a_job() {
    let mut bed = Bed::of(TestServer::start_with(Clock::system(), |_| {}));
    let room = bed.alice.create_room(&json!({"preset": "public_chat"}));
    bed.bob.join(&room);
    let sent: Vec<String> = (0..30).map(|number| bed.bob.send_text(&room, &number.to_string(), "spam")).collect();
    let kept = bed.alice.send_text(&room, "a", "stays");
    let order = json!({"rooms": [], "reason": "spam"});
    let id = bed.ok("POST", "/v1/user/@bob:hs.test/redact", Some(order))["redact_id"].as_str().unwrap().to_owned();
    let done = wait_for("the redaction", || {
        let status = bed.ok("GET", &format!("/v1/user/redact_status/{id}"), None);
        (status["status"] == "complete").then_some(status)
    });
    assert_eq!(done["failed_redactions"], json!({}));
    let content = |account: &mut Account, event: &str| {
        let path = format!("/rooms/{}/event/{event}", encode_path_segment(&room));
        account.expect("GET", &path, None)["content"].clone()
    };
    for event in &sent {
        assert_eq!(content(&mut bed.alice, event), json!({}), "{event}");
    }
    assert_eq!(content(&mut bed.alice, &kept)["body"], "stays");
    bed.refused("GET", "/v1/user/redact_status/none", None, 404, "M_NOT_FOUND");
    bed.refused("POST", "/v1/user/@stranger:hs.test/redact", Some(json!({"rooms": []})), 404, "M_NOT_FOUND");
}

#[test]
fn cross_signing_keys_can_be_replaced_for_ten_minutes_only_where_there_are_any() {
    let mut bed = Bed::start();
    let path = "/v1/users/@bob:hs.test/_allow_cross_signing_replacement_without_uia";
    bed.refused("POST", path, Some(json!({})), 404, "M_NOT_FOUND");
    let master = |key: &str| {
        json!({"master_key": {
            "user_id": "@bob:hs.test", "usage": ["master"], "keys": {format!("ed25519:{key}"): key},
        }})
    };
    // Public keys of RFC 8032 §7.1.
    let first = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    bed.bob.expect("POST", "/keys/device_signing/upload", Some(&master(first)));
    let second = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw";
    let upload = |bob: &mut Account| bob.request("POST", "/keys/device_signing/upload", Some(&master(second)));
    assert_eq!(upload(&mut bed.bob).unwrap().status, 401);
    let answer = bed.ok("POST", path, Some(json!({})));
    assert!(answer["updatable_without_uia_before_ms"].is_u64(), "{answer}");
    assert_eq!(upload(&mut bed.bob).unwrap().status, 200);
}

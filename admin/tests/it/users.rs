//! Operations on accounts, devices and registration tokens, in their own form.

use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

struct Bed {
    server: TestServer,
    alice: Account,
    bob: Account,
}

/// Performs an operation: its status and what it says.
fn perform(account: &mut Account, operation: &str, arguments: Value) -> (u16, Value) {
    let path = format!("/_conduit/admin/v1/{operation}");
    let answer = account.client.request("POST", &path, Some(&account.token), Some(&arguments)).unwrap();
    let body = serde_json::from_slice(&answer.body);
    (answer.status, body.unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into()))
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

    fn ok(&mut self, operation: &str, arguments: Value) -> Value {
        let (status, answer) = perform(&mut self.alice, operation, arguments);
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    fn refused(&mut self, operation: &str, arguments: Value, status: u16) {
        let (is, answer) = perform(&mut self.alice, operation, arguments);
        assert_eq!(is, status, "{operation}: {answer}");
    }

    fn log_in(&self, name: &str, password: &str) -> (u16, Value) {
        let body = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password});
        let answer = self.server.client().request("POST", "/_matrix/client/v3/login", None, Some(&body)).unwrap();
        (answer.status, answer.json())
    }
}

#[test]
fn a_role_decides_what_its_bearer_may_do() {
    let mut bed = Bed::start();
    bed.ok("user/role", json!({"user": "bob", "role": "guest"}));
    let refused = bed.bob.request("POST", "/createRoom", Some(&json!({}))).unwrap();
    assert_eq!((refused.status, &refused.json()["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert!(refused.json()["error"].as_str().unwrap().contains("role"));
    bed.ok("user/role", json!({"user": "bob", "role": "moderator"}));
    assert_eq!(bed.bob.request("POST", "/createRoom", Some(&json!({}))).unwrap().status, 200);
    assert_eq!(perform(&mut bed.bob, "user/show", json!({"user": "alice"})).0, 200);
    assert_eq!(perform(&mut bed.bob, "user/suspend", json!({"user": "alice"})).0, 403);
    assert_eq!(perform(&mut bed.bob, "user/role", json!({"user": "bob", "role": "administrator"})).0, 403);
    bed.refused("user/role", json!({"user": "alice", "role": "member"}), 400);
    bed.refused("user/role", json!({"user": "bob", "role": "king"}), 400);
}

#[test]
fn a_list_makes_accounts_line_by_line() {
    let mut bed = Bed::start();
    let list = "name,password,displayname,role,email\n\
        carla,long enough,\"Carla, C.\",moderator,c@example.org\n\
        bob,long enough,,,\n\
        dora,,,,\n\
        emil,short,,,\n\
        fritz,long enough,,,c@example.org\n\
        greta,long enough,,boss,\n";
    let checked = bed.ok("user/import", json!({"file": list, "check": true}));
    assert_eq!(checked["total"], 6);
    assert!(checked["items"][4]["error"].as_str().unwrap().contains("line 2"), "{checked}");
    bed.refused("user/show", json!({"user": "carla"}), 404);
    let made = bed.ok("user/import", json!({"file": list}));
    let items = made["items"].as_array().unwrap();
    let lines: Vec<(u64, bool)> =
        items.iter().map(|item| (item["line"].as_u64().unwrap(), item["error"].is_null())).collect();
    assert_eq!(lines, [(2, true), (3, false), (4, true), (5, false), (6, false), (7, false)], "{made}");
    assert_eq!(items[0]["password"], Value::Null);
    assert_eq!(bed.log_in("dora", items[2]["password"].as_str().unwrap()).0, 200);
    let carla = bed.ok("user/show", json!({"user": "carla"}));
    assert_eq!((&carla["role"], &carla["display_name"]), (&json!("moderator"), &json!("Carla, C.")));
    for nobody in ["emil", "fritz", "greta"] {
        bed.refused("user/show", json!({"user": nobody}), 404);
    }
    bed.refused("user/import", json!({"file": "nom\nx"}), 400);
    bed.refused("user/import", json!({"file": ""}), 400);
}

#[test]
fn who_registers_is_let_in_when_approved() {
    let server = TestServer::start_with(runtime::Clock::system(), |config| config.users.registration_approval = true);
    let alice = Account::register(server.client(), "alice");
    let mut client = server.client();
    let body = json!({"username": "bob", "password": "bob-password", "auth": {"type": "m.login.dummy"}});
    let answer = client.request("POST", "/_matrix/client/v3/register", None, Some(&body)).unwrap();
    assert_eq!(answer.json()["errcode"], "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL");
    let bob = Account { client, user_id: "@bob:hs.test".to_owned(), token: String::new() };
    let mut bed = Bed { server, alice, bob };
    assert_eq!(bed.log_in("bob", "bob-password").0, 403);
    assert_eq!(bed.ok("user/list", json!({"state": "unapproved"}))["total"], 1);
    bed.ok("user/approve", json!({"user": "@bob:hs.test"}));
    assert_eq!(bed.log_in("bob", "bob-password").0, 200);
    bed.refused("user/deny", json!({"user": "bob"}), 400);
}

#[test]
fn an_account_is_closed_erased_and_opened_again() {
    let mut bed = Bed::start();
    let room = bed.alice.create_room(&json!({"preset": "public_chat"}));
    bed.bob.join(&room);
    let event = bed.bob.send_text(&room, "t", "my secret");
    let job = bed.ok("user/deactivate", json!({"user": "bob", "erase": true}))["job"].clone();
    assert!(job.is_u64(), "{job}");
    // That is so from the moment on in which the account is closed, whatever the job has done.
    assert_eq!(bed.ok("user/show", json!({"user": "bob"}))["state"], json!(["deactivated", "erased"]));
    assert_eq!(bed.bob.request("GET", "/account/whoami", None).unwrap().status, 401);
    let path = format!("/rooms/{}/event/{event}", encode_path_segment(&room));
    crate::admin_room::wait_for("the erasure", || {
        (bed.alice.expect("GET", &path, None)["content"] == json!({})).then_some(())
    });
    let members = format!("/rooms/{}/joined_members", encode_path_segment(&room));
    crate::admin_room::wait_for("the leaving", || {
        bed.alice.expect("GET", &members, None)["joined"].get("@bob:hs.test").is_none().then_some(())
    });
    bed.refused("user/suspend", json!({"user": "bob"}), 400);
    let opened = bed.ok("user/reactivate", json!({"user": "bob"}));
    assert_eq!(bed.log_in("bob", opened["password"].as_str().unwrap()).0, 200);
    bed.refused("user/reactivate", json!({"user": "bob"}), 400);
    bed.refused("user/deactivate", json!({"user": "alice"}), 400);
    let told = bed.ok("user/deactivate", json!({"user": "bob"}));
    assert_eq!(told, json!({"message": "@bob:hs.test is deactivated, and leaves its rooms."}));
}

#[test]
fn all_data_of_a_user_is_exported() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({"name": "Mine"}));
    bed.bob.send_text(&room, "t", "mine");
    bed.alice.create_room(&json!({}));
    let path = "/_conduit/admin/v1/user/export";
    let answer = bed.alice.client.request("POST", path, Some(&bed.alice.token), Some(&json!({"user": "bob"}))).unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: std::collections::BTreeSet<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    for kind in ["account", "profile", "account_data", "device", "room", "event"] {
        assert!(kinds.contains(kind), "{kind} is missing: {kinds:?}");
    }
    assert!(lines.iter().any(|line| line["content"]["body"] == "mine"));
    assert!(lines.iter().filter(|line| line["kind"] == "room").all(|line| line["room_id"] == room.as_str()));
}

#[test]
fn bad_arguments_are_refused() {
    let mut bed = Bed::start();
    bed.refused("user/show", json!({"user": "nobody"}), 404);
    bed.refused("user/show", json!({"user": "@bob:elsewhere.test"}), 400);
    bed.refused("user/show", json!({"user": "@nobody"}), 400);
    bed.refused("user/show", json!({}), 400);
    bed.refused("user/lock", json!({"user": "alice"}), 400);
    bed.refused("user/create", json!({"name": "bob"}), 409);
    bed.refused("user/create", json!({"name": "Bob Smith"}), 400);
    bed.refused("user/create", json!({"name": "short", "password": "x"}), 400);
    bed.refused("device/rename", json!({"user": "bob", "device": "NONE", "name": "x"}), 404);
    bed.refused("token/show", json!({"token": "none"}), 404);
    bed.refused("user/rate-limit", json!({"user": "bob", "per_second": 0}), 400);
    bed.ok("user/rename", json!({"user": "bob", "name": "Robert"}));
    assert_eq!(bed.ok("user/list", json!({"name": "robert"}))["total"], 1);
}

#[test]
fn whom_the_rules_against_spam_refused_is_seen_and_exempted() {
    let server = TestServer::start_with(runtime::Clock::system(), |config| {
        config.rate_limits.enabled = true;
        config.spam.rooms_per_hour = 1;
    });
    let mut bed = Bed::of(server);
    let status = |bed: &mut Bed| bed.bob.request("POST", "/createRoom", Some(&json!({}))).unwrap().status;
    assert_eq!((status(&mut bed), status(&mut bed), status(&mut bed)), (200, 429, 429));
    let seen = bed.ok("user/spam", json!({}));
    let row = &seen["items"][0];
    assert_eq!((&row["user_id"], &row["rule"], &row["refused"]), (&json!("@bob:hs.test"), &json!("rooms"), &json!(2)));
    assert_eq!((&row["exempt"], &seen["total"]), (&json!(false), &json!(1)));
    assert_eq!(bed.ok("user/spam", json!({"user": "alice"}))["total"], 0);
    assert_eq!(bed.ok("user/show", json!({"user": "bob"}))["spam_rules"], true);
    bed.ok("user/exempt", json!({"user": "bob"}));
    assert_eq!(bed.ok("user/show", json!({"user": "bob"}))["spam_rules"], false);
    assert_eq!(status(&mut bed), 200);
    bed.ok("user/exempt", json!({"user": "bob", "lift": true}));
    assert_eq!(status(&mut bed), 429);
    bed.ok("user/approve", json!({"user": "bob"}));
    assert_eq!(status(&mut bed), 200);
    bed.refused("user/exempt", json!({"user": "nobody"}), 404);
}

#[test]
fn an_export_can_be_of_single_rooms() {
    let mut bed = Bed::start();
    let (first, second) = (bed.bob.create_room(&json!({})), bed.bob.create_room(&json!({})));
    let exported = bed.ok("user/export", json!({"user": "bob", "rooms": [second]}));
    let text = exported.as_str().unwrap();
    assert!(text.contains(&second) && !text.contains(&first), "{text}");
    assert!(!text.contains("\"kind\":\"device\""), "{text}");
    bed.refused("user/export", json!({"user": "bob", "rooms": ["!unknown:hs.test"]}), 404);
}

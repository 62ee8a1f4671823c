//! Messages of the server to its users.

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

const SEND: &str = "/_synapse/admin/v1/send_server_notice";
const SENDER: &str = "@_server:hs.test";

struct Bed {
    server: TestServer,
    admin: Account,
    alice: Account,
}

impl Bed {
    fn start() -> Bed {
        let server = TestServer::start_with(Clock::system(), |config| {
            config.server_notices.localpart = Some("_server".to_owned());
        });
        let admin = Account::register(server.client(), "admin");
        let alice = Account::register(server.client(), "alice");
        Bed { server, admin, alice }
    }

    fn send(&mut self, user: &str) -> String {
        ok(&mut self.admin, "POST", SEND, &notice(user))["event_id"].as_str().unwrap().to_owned()
    }
}

fn notice(user: &str) -> Value {
    json!({"user_id": user, "content": {"msgtype": "m.text", "body": "hello from server notices!"}})
}

fn ask(account: &mut Account, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = account.client.request(method, path, Some(&account.token), Some(body)).unwrap();
    (answer.status, answer.json())
}

fn ok(account: &mut Account, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = ask(account, method, path, body);
    assert_eq!(status, 200, "{method} {path} {body}: {answer}");
    answer
}

fn refused(account: &mut Account, method: &str, path: &str, body: &Value, status: u16, errcode: &str) {
    let (is, answer) = ask(account, method, path, body);
    assert_eq!((is, answer["errcode"].as_str()), (status, Some(errcode)), "{method} {path} {body}: {answer}");
}

/// A path of the client API in a room.
fn in_room(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode_path_segment(room))
}

/// The one room that the user is invited to, by the sender of the notices.
fn invitation(user: &mut Account) -> String {
    let sync = user.expect("GET", "/sync", None);
    let invites = sync["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invites.len(), 1, "{sync}");
    let (room, invite) = invites.iter().next().unwrap();
    assert_eq!(invite["invite_state"]["events"][0]["sender"], SENDER);
    room.clone()
}

fn is_invited(user: &mut Account) -> bool {
    !user.expect("GET", "/sync", None)["rooms"]["invite"].is_null()
}

fn timeline_of(user: &mut Account, room: &str) -> Vec<String> {
    let sync = user.expect("GET", "/sync", None);
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().unwrap();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_administrators_send_notices() {
    let Bed { mut admin, mut alice, server: _server } = Bed::start();
    let to_admin = notice(&admin.user_id);
    refused(&mut alice, "POST", SEND, &to_admin, 403, "M_FORBIDDEN");
    refused(&mut alice, "PUT", &format!("{SEND}/1"), &to_admin, 403, "M_FORBIDDEN");
    ok(&mut admin, "POST", SEND, &notice(&alice.user_id));
}

#[test]
fn a_user_is_invited_cannot_reject_and_may_leave_once_joined() {
    let mut bed = Bed::start();
    let alice = bed.alice.user_id.clone();
    let event = bed.send(&alice);
    let room = invitation(&mut bed.alice);
    let code = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
    refused(&mut bed.alice, "POST", &in_room(&room, "leave"), &json!({}), 403, code);
    bed.alice.join(&room);
    assert!(timeline_of(&mut bed.alice, &room).contains(&event));
    ok(&mut bed.alice, "POST", &in_room(&room, "leave"), &json!({}));
    // Told again, they are invited again: to the same room.
    bed.send(&alice);
    assert_eq!(invitation(&mut bed.alice), room);
}

#[test]
fn there_is_no_other_way_to_reject() {
    let mut bed = Bed::start();
    let alice = bed.alice.user_id.clone();
    bed.send(&alice);
    let room = invitation(&mut bed.alice);
    let code = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
    let member = in_room(&room, &format!("state/m.room.member/{alice}"));
    refused(&mut bed.alice, "PUT", &member, &json!({"membership": "leave"}), 403, code);
    refused(&mut bed.alice, "POST", &in_room(&room, "kick"), &json!({"user_id": alice}), 403, code);
    assert_eq!(invitation(&mut bed.alice), room);
    // Of other rooms invitations can be rejected.
    let other = bed.admin.create_room(&json!({"invite": [alice]}));
    ok(&mut bed.alice, "POST", &in_room(&other, "leave"), &json!({}));
}

#[test]
fn a_transaction_tells_once() {
    let mut bed = Bed::start();
    let alice = notice(&bed.alice.user_id);
    let other = Account::register(bed.server.client(), "other");
    let path = format!("{SEND}/1");
    let first = ok(&mut bed.admin, "PUT", &path, &alice);
    assert!(first["event_id"].is_string());
    assert_eq!(ok(&mut bed.admin, "PUT", &path, &alice), first);
    // The id is for one user.
    assert_ne!(ok(&mut bed.admin, "PUT", &path, &notice(&other.user_id)), first);
    let room = invitation(&mut bed.alice);
    bed.alice.join(&room);
    ok(&mut bed.alice, "POST", &in_room(&room, "leave"), &json!({}));
    // Nobody is invited again by a request that was answered before.
    assert_eq!(ok(&mut bed.admin, "PUT", &path, &alice), first);
    assert!(!is_invited(&mut bed.alice));
    // Another device has ids of its own.
    let login = json!({
        "type": "m.login.password", "password": "admin-password",
        "identifier": {"type": "m.id.user", "user": "admin"},
    });
    bed.admin.token = bed.admin.expect("POST", "/login", Some(&login))["access_token"].as_str().unwrap().to_owned();
    assert_ne!(ok(&mut bed.admin, "PUT", &path, &alice), first);
    let long = format!("{SEND}/{}", "x".repeat(256));
    refused(&mut bed.admin, "PUT", &long, &alice, 400, "M_INVALID_PARAM");
}

#[test]
fn the_room_is_the_users_alone_tagged_and_read_only() {
    let mut bed = Bed::start();
    let (alice, admin) = (bed.alice.user_id.clone(), bed.admin.user_id.clone());
    let mut other = Account::register(bed.server.client(), "other");
    bed.send(&alice);
    bed.send(&other.user_id);
    let room = invitation(&mut bed.alice);
    assert_ne!(invitation(&mut other), room);
    bed.alice.join(&room);
    let tags = bed.alice.expect("GET", &format!("/user/{alice}/rooms/{}/tags", encode_path_segment(&room)), None);
    assert_eq!(tags, json!({"tags": {"m.server_notice": {}}}));
    let sync = bed.alice.expect("GET", "/sync", None);
    let data = sync["rooms"]["join"][&room]["account_data"]["events"].as_array().unwrap();
    assert!(data.iter().any(|event| event["type"] == "m.tag"), "{data:?}");
    let name = bed.alice.expect("GET", &format!("/rooms/{}/state/m.room.name", encode_path_segment(&room)), None);
    assert_eq!(name, json!({"name": "Server Notices"}));
    let message = json!({"msgtype": "m.text", "body": "answer"});
    refused(&mut bed.alice, "PUT", &in_room(&room, "send/m.room.message/1"), &message, 403, "M_FORBIDDEN");
    refused(&mut bed.alice, "POST", &in_room(&room, "invite"), &json!({"user_id": admin}), 403, "M_FORBIDDEN");
    // A second notice to who is there invites nobody, and repeats no state.
    let before = timeline_of(&mut bed.alice, &room);
    let event = bed.send(&alice);
    assert_eq!(timeline_of(&mut bed.alice, &room), [&before[before.len() - 9..], &[event]].concat());
}

#[test]
fn several_users_are_told_at_once_or_nobody() {
    let mut bed = Bed::start();
    let (alice, admin) = (bed.alice.user_id.clone(), bed.admin.user_id.clone());
    let content = json!({"msgtype": "m.text", "body": "maintenance"});
    let missing = json!({"user_ids": [alice, "@nobody:hs.test"], "content": content});
    refused(&mut bed.admin, "POST", SEND, &missing, 404, "M_NOT_FOUND");
    assert!(!is_invited(&mut bed.alice));
    let events = ok(&mut bed.admin, "POST", SEND, &json!({"user_ids": [alice, admin], "content": content}));
    assert!(events["event_ids"][&alice].is_string() && events["event_ids"][&admin].is_string());
    invitation(&mut bed.alice);
    invitation(&mut bed.admin);
}

#[test]
fn what_is_no_notice_is_refused() {
    let mut bed = Bed::start();
    let alice = bed.alice.user_id.clone();
    let body = |key: &str, value: Value| {
        let mut body = notice(&alice);
        body[key] = value;
        body
    };
    for (body, status, errcode) in [
        (json!({"user_id": alice}), 400, "M_MISSING_PARAM"),
        (json!({"content": {}}), 400, "M_MISSING_PARAM"),
        (body("user_id", json!("@a:elsewhere.test")), 400, "M_INVALID_PARAM"),
        (body("user_id", json!("@nobody:hs.test")), 404, "M_NOT_FOUND"),
        (body("user_id", json!(SENDER)), 400, "M_INVALID_PARAM"),
        (body("user_ids", json!([])), 400, "M_INVALID_PARAM"),
        (body("type", json!("m.room.member")), 400, "M_INVALID_PARAM"),
    ] {
        refused(&mut bed.admin, "POST", SEND, &body, status, errcode);
    }
    assert!(!is_invited(&mut bed.alice));
    let taken = json!({"username": "_server", "password": "correct horse", "auth": {"type": "m.login.dummy"}});
    refused(&mut bed.alice, "POST", "/_matrix/client/v3/register", &taken, 400, "M_EXCLUSIVE");
    // State is a notice too: what is pinned is shown at once.
    let event = bed.send(&alice);
    let pinned = json!({
        "user_id": alice, "type": "m.room.pinned_events", "state_key": "", "content": {"pinned": [event]},
    });
    ok(&mut bed.admin, "POST", SEND, &pinned);
}

#[test]
fn the_operation_tells_the_same_and_is_on_record() {
    let mut bed = Bed::start();
    let path = "/_conduit/admin/v1/notice/send";
    let order = json!({"text": "The server rests at noon.", "users": ["alice", "@admin:hs.test"]});
    let sent = ok(&mut bed.admin, "POST", path, &order);
    assert_eq!(sent["items"][0]["user"], "@alice:hs.test");
    let room = invitation(&mut bed.alice);
    bed.alice.join(&room);
    assert!(timeline_of(&mut bed.alice, &room).contains(&sent["items"][0]["event"].as_str().unwrap().to_owned()));
    refused(&mut bed.admin, "POST", path, &json!({"text": "x", "users": []}), 400, "M_INVALID_PARAM");
    ok(&mut bed.admin, "POST", SEND, &notice("@alice:hs.test"));
    let audit = ok(&mut bed.admin, "POST", "/_conduit/admin/v1/audit/list", &json!({"operation": "notice"}));
    let faces: Vec<&str> =
        audit["items"].as_array().unwrap().iter().filter_map(|row| row["through"].as_str()).collect();
    assert!(faces.contains(&"http") && faces.contains(&"synapse"), "{audit}");
}

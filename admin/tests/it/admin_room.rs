//! The admin room, as administrators see it in their clients.

use std::time::Duration;

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long it is waited between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A server with an admin room, and its first account in it.
pub(crate) struct Room {
    pub server: TestServer,
    pub admin: Account,
    pub id: String,
    sent: usize,
}

/// Looks until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let begin = clock.monotonic();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock.monotonic().saturating_sub(begin) < PATIENCE, "{what} does not happen");
        std::thread::sleep(PAUSE);
    }
}

/// The rooms that an account is invited to.
pub(crate) fn invites(account: &mut Account) -> Vec<String> {
    let sync = account.expect("GET", "/sync", None);
    sync["rooms"]["invite"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
}

/// The newest events of a room, newest first.
pub(crate) fn events(account: &mut Account, room: &str) -> Vec<Value> {
    let path = format!("/rooms/{}/messages?dir=b&limit=100", encode_path_segment(room));
    account.expect("GET", &path, None)["chunk"].as_array().cloned().unwrap_or_default()
}

fn replies(account: &mut Account, room: &str, event_id: &str) -> Vec<Value> {
    let mut found = events(account, room);
    found.retain(|event| event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event_id);
    found
}

impl Room {
    pub fn start() -> Room {
        Room::start_at(Clock::system())
    }

    pub fn start_at(clock: Clock) -> Room {
        Room::of(TestServer::start_with(clock, |config| config.admin.room = true))
    }

    /// The admin room of a server that nobody has an account on.
    pub fn of(server: TestServer) -> Room {
        let admin = Account::register(server.client(), "alice");
        Room::with_admin(server, admin)
    }

    /// The admin room of a server that has this administrator, who is invited.
    pub fn with_admin(server: TestServer, mut admin: Account) -> Room {
        let id = enter(&mut admin);
        Room::with_member(server, admin, id)
    }

    /// The admin room of a server, and somebody in it.
    pub fn with_member(server: TestServer, admin: Account, id: String) -> Room {
        Room { server, admin, id, sent: 0 }
    }

    pub fn restart(&mut self) {
        self.server.restart();
        self.admin.client = self.server.client();
    }

    fn send(&mut self, text: &str) -> String {
        self.sent += 1;
        let transaction = format!("t{}", self.sent);
        self.admin.send_text(&self.id, &transaction, text)
    }

    /// Writes a command, and gives its event id and what it is answered.
    pub fn write(&mut self, text: &str) -> (String, Value) {
        let event_id = self.send(text);
        let (admin, id) = (&mut self.admin, &self.id);
        let reply = wait_for(text, || replies(admin, id, &event_id).into_iter().next());
        assert!(matches!(reply["content"]["msgtype"].as_str(), Some("m.notice" | "m.file")), "{reply}");
        (event_id, reply)
    }

    /// Writes a command, and gives the text of its answer.
    pub fn ask(&mut self, text: &str) -> String {
        self.write(text).1["content"]["body"].as_str().unwrap().to_owned()
    }

    /// Says something that is no command; waits for a further reply to an earlier message.
    pub fn say(&mut self, text: &str, about: &str) -> String {
        let (admin, id) = (&mut self.admin, &self.id);
        let before = replies(admin, id, about).len();
        self.send(text);
        let (admin, id) = (&mut self.admin, &self.id);
        let reply = wait_for(text, || Some(replies(admin, id, about)).filter(|found| found.len() > before));
        reply.first().unwrap()["content"]["body"].as_str().unwrap().to_owned()
    }

    fn membership(&mut self, user: &str) -> Option<String> {
        let path =
            format!("/rooms/{}/state/m.room.member/{}", encode_path_segment(&self.id), encode_path_segment(user));
        let response = self.admin.request("GET", &path, None).unwrap();
        response.json()["membership"].as_str().map(str::to_owned)
    }
}

/// Accepts the invitation to the admin room.
pub(crate) fn enter(account: &mut Account) -> String {
    let room = wait_for("an invitation", || invites(account).into_iter().next());
    account.join(&room);
    room
}

#[test]
fn the_first_account_is_invited_and_finds_a_guide() {
    let mut room = Room::start();
    let found = wait_for("the guide", || {
        let (admin, id) = (&mut room.admin, &room.id);
        let body = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
        events(admin, id).iter().filter_map(body).find(|body| body.contains("!admin --help"))
    });
    assert!(found.contains("audit log"), "{found}");
    let alias = room.admin.expect("GET", "/directory/room/%23admins%3Ahs.test", None);
    assert_eq!(alias["room_id"], *room.id);
    // Nobody else is.
    let mut bob = Account::register(room.server.client(), "bob");
    assert_eq!(room.ask("!admin admin list").lines().count(), 2);
    assert_eq!(invites(&mut bob), Vec::<String>::new());
    // Nobody can become the server.
    let path = "/_matrix/client/v3/register/available?username=conduit";
    assert_eq!(bob.client.request("GET", path, None, None).unwrap().status, 400);
    // The room stays what it is.
    let path = format!("/rooms/{}/state/m.room.encryption/", encode_path_segment(&room.id));
    let refused = room.admin.request("PUT", &path, Some(&json!({"algorithm": "m.megolm.v1.aes-sha2"}))).unwrap();
    assert_eq!(refused.status, 403);
}

#[test]
fn commands_are_answered_in_replies_with_help_and_suggestions() {
    let mut room = Room::start();
    for command in ["!admin", "!admin --help", "!admin admin --help", "!admin admin add --help"] {
        assert!(room.ask(command).contains("Usage: !admin"), "{command}");
    }
    assert!(room.ask("!admin admin lsit").contains("list"));
    assert!(room.ask("!admin admin 'list").contains("quotation mark"));
    let (_, reply) = room.write("!admin admin list");
    let html = reply["content"]["formatted_body"].as_str().unwrap();
    assert!(html.starts_with("<table><thead><tr><th>user</th>") && html.contains("<td>@alice:hs.test</td>"), "{html}");
    assert_eq!(reply["content"]["m.mentions"], json!({}));
    let json = room.ask("!admin admin list --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"][0]["user"], "@alice:hs.test");
    assert!(room.ask("!admin admin add @nobody:hs.test").contains("there is no account"));
}

#[test]
fn administrators_come_and_go() {
    let mut room = Room::start();
    let mut bob = Account::register(room.server.client(), "bob");
    assert_eq!(room.ask("!admin admin add bob"), "@bob:hs.test is an administrator.");
    assert_eq!(enter(&mut bob), room.id);
    let asked = bob.send_text(&room.id, "b1", "!admin server version");
    wait_for("an answer for the second administrator", || replies(&mut bob, &room.id, &asked).pop());
    // A refused, and a confirmed question.
    let (command, question) = room.write("!admin admin remove bob");
    assert!(question["content"]["body"].as_str().unwrap().contains("Say yes"), "{question}");
    assert_eq!(room.say("no, wait", &command), "Nothing was done.");
    assert!(room.ask("!admin admin list").contains("@bob:hs.test"));
    let (command, _) = room.write("!admin admin remove bob");
    assert_eq!(room.say("Yes", &command), "@bob:hs.test is no administrator any more.");
    wait_for("the removal", || (room.membership("@bob:hs.test").as_deref() == Some("leave")).then_some(()));
    let path = format!("/rooms/{}/send/m.room.message/b2", encode_path_segment(&room.id));
    let said = bob.request("PUT", &path, Some(&json!({"msgtype": "m.text", "body": "!admin admin add bob"}))).unwrap();
    assert_eq!(said.status, 403);
    // The last one stays.
    let (command, _) = room.write("!admin admin remove alice");
    assert!(room.say("yes", &command).contains("is the last administrator"));
}

#[test]
fn only_the_one_who_was_asked_can_say_yes() {
    let mut room = Room::start();
    let mut bob = Account::register(room.server.client(), "bob");
    let _ = Account::register(room.server.client(), "carol");
    room.ask("!admin admin add bob");
    room.ask("!admin admin add carol");
    enter(&mut bob);
    let (command, _) = room.write("!admin admin remove carol");
    bob.send_text(&room.id, "b1", "yes");
    // What bob says after it is answered, so his yes was heard.
    let asked = bob.send_text(&room.id, "b2", "!admin admin list");
    let list = wait_for("bob's answer", || replies(&mut bob, &room.id, &asked).pop());
    assert!(list["content"]["body"].as_str().unwrap().contains("@carol:hs.test"), "{list}");
    // Another command is no yes.
    let list = room.ask("!admin admin list");
    assert!(list.contains("@carol:hs.test"), "{list}");
    assert!(room.ask("!admin admin list").contains("@carol:hs.test"));
    let (admin, id) = (&mut room.admin, &room.id);
    let told = replies(admin, id, &command);
    assert!(told.iter().any(|reply| reply["content"]["body"].as_str().unwrap().contains("not confirmed")), "{told:?}");
}

#[test]
fn a_question_is_forgotten_after_five_minutes() {
    let mut room = Room::start_at(Clock::fake(1_800_000_000_000));
    let _ = Account::register(room.server.client(), "bob");
    room.ask("!admin admin add bob");
    let (command, _) = room.write("!admin admin remove bob");
    room.server.clock().advance(Duration::from_secs(5 * 60 + 1));
    let told = wait_for("the end of the question", || {
        let bodies = replies(&mut room.admin, &room.id, &command);
        bodies.into_iter().find(|reply| reply["content"]["body"].as_str().unwrap().contains("Nobody said yes"))
    });
    assert!(told["content"]["body"].as_str().unwrap().contains("Nothing was done"));
    room.send("yes");
    assert!(room.ask("!admin admin list").contains("@bob:hs.test"));
}

#[test]
fn who_administers_nothing_is_not_kept_in_the_room() {
    let mut room = Room::start();
    let bob = Account::register(room.server.client(), "bob");
    let path = format!("/rooms/{}/invite", encode_path_segment(&room.id));
    room.admin.expect("POST", &path, Some(&json!({"user_id": bob.user_id})));
    wait_for("the removal", || (room.membership("@bob:hs.test").as_deref() == Some("leave")).then_some(()));
}

#[test]
fn a_command_runs_once_whenever_the_server_stops() {
    let mut room = Room::start();
    let answered = room.write("!admin server version").0;
    let pending = room.send("!admin admin list");
    room.restart();
    let (admin, id) = (&mut room.admin, &room.id);
    wait_for("an answer, or word that there is none", || replies(admin, id, &pending).pop());
    // Whatever comes later was read after it.
    room.ask("!admin admin list");
    for command in [answered, pending] {
        assert_eq!(replies(&mut room.admin, &room.id, &command).len(), 1);
    }
    assert_eq!(room.membership("@alice:hs.test").as_deref(), Some("join"));
    assert_eq!(invites(&mut room.admin), Vec::<String>::new());
}

#[test]
fn without_the_room_nobody_is_invited() {
    let server = TestServer::start();
    let mut alice = Account::register(server.client(), "alice");
    let _ = Account::register(server.client(), "bob");
    assert_eq!(invites(&mut alice), Vec::<String>::new());
}

fn is_removed(room: &mut Room, event_id: &str) -> bool {
    let events = events(&mut room.admin, &room.id);
    let event = events.iter().find(|event| event["event_id"] == *event_id).unwrap();
    event["content"] == json!({})
}

#[test]
fn a_password_does_not_stay_in_the_room() {
    let mut room = Room::start();
    let (command, reply) = room.write("!admin user create carol --password correct-horse-battery");
    let told = reply["content"]["body"].as_str().unwrap();
    assert!(told.contains("@carol:hs.test") && told.contains("was removed"), "{told}");
    assert!(is_removed(&mut room, &command));
    // A mistake is not repeated.
    let (command, reply) = room.write("!admin user create dave correct-horse --pasword=x --password correct-horse");
    assert!(is_removed(&mut room, &command));
    assert!(!reply.to_string().contains("correct-horse"), "{reply}");
    // What holds no secret stays.
    let (command, _) = room.write("!admin user show carol");
    assert!(!is_removed(&mut room, &command));
    let audit = room.ask("!admin audit list --json");
    assert!(audit.contains("user create") && !audit.contains("correct-horse"), "{audit}");
    let login = json!({
        "type": "m.login.password", "password": "correct-horse-battery",
        "identifier": {"type": "m.id.user", "user": "carol"},
    });
    let path = "/_matrix/client/v3/login";
    assert_eq!(room.server.client().request("POST", path, None, Some(&login)).unwrap().status, 200);
}

#[test]
fn a_chosen_password_is_removed_after_a_while_also_by_a_restarted_server() {
    let clock = Clock::fake(1_700_000_000_000);
    let mut room = Room::start_at(clock.clone());
    let (_, reply) = room.write("!admin user create carol");
    let (told, event_id) = (reply["content"]["body"].as_str().unwrap(), reply["event_id"].as_str().unwrap().to_owned());
    assert!(told.contains("password:") && told.contains("removed from the room in 10 min"), "{told}");
    // What is read after it moves the position from which a restarted server reads.
    let stays = room.write("!admin user show carol").1["event_id"].as_str().unwrap().to_owned();
    room.restart();
    clock.advance(Duration::from_secs(9 * 60));
    assert!(!is_removed(&mut room, &event_id));
    clock.advance(Duration::from_secs(60));
    wait_for("the removal", || is_removed(&mut room, &event_id).then_some(()));
    assert!(!is_removed(&mut room, &stays));
}

#[test]
fn a_code_block_is_the_file_of_a_command() {
    let mut room = Room::start();
    let block = "```csv\nname,displayname\ncarol,Carol <3\ndave,Dave\n```";
    let (command, reply) = room.write(&format!("!admin user import\n{block}"));
    let html = reply["content"]["formatted_body"].as_str().unwrap();
    assert!(html.contains("<td>@carol:hs.test</td>") && html.contains("<td>@dave:hs.test</td>"), "{html}");
    assert!(is_removed(&mut room, &command));
    let block = "```\nname\nerin\n```";
    assert!(room.ask(&format!("!admin user import list.csv --check\n{block}")).contains("@erin:hs.test"));
    assert!(room.ask("!admin user import list.csv").contains("into a code block"));
    assert!(room.ask(&format!("!admin admin list\n{block}")).contains("takes no file"));
}

#[test]
fn a_report_is_announced() {
    let mut room = Room::start();
    let mut bob = Account::register(room.server.client(), "bob");
    let reported = bob.create_room(&json!({}));
    let path = format!("/rooms/{}/report", encode_path_segment(&reported));
    bob.expect("POST", &path, Some(&json!({"reason": "<b>bad</b>"})));
    let told = wait_for("the announcement", || {
        let events = events(&mut room.admin, &room.id);
        events.into_iter().find(|event| event["content"]["body"].as_str().is_some_and(|body| body.contains(&reported)))
    });
    let html = told["content"]["formatted_body"].as_str().unwrap();
    assert!(html.contains("@bob:hs.test reports the room") && html.contains("&lt;b&gt;bad"), "{html}");
}

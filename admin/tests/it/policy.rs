//! Policy lists that the server follows.

use conduit::Config;
use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::{Room, enter, events, wait_for};

/// The room of a list, and what it says.
pub(crate) struct List {
    pub room: Room,
    pub list: String,
}

impl List {
    fn start() -> List {
        List::start_with(|config| config.admin.suspend_listed_users = true)
    }

    /// The list, and the server whose administrator has it.
    pub fn start_with(adjust: impl FnOnce(&mut Config)) -> List {
        let server = TestServer::start_with(Clock::system(), |config| {
            config.admin.room = true;
            adjust(config);
        });
        let mut room = Room::of(server);
        let list = room.admin.create_room(&json!({"preset": "public_chat", "name": "Bad <people>"}));
        List { room, list }
    }

    pub fn rule(&mut self, kind: &str, key: &str, content: &Value) {
        let path = format!("/rooms/{}/state/{kind}/{key}", encode_path_segment(&self.list));
        self.room.admin.expect("PUT", &path, Some(content));
    }

    pub fn ban(&mut self, kind: &str, key: &str, entity: &str) {
        self.rule(kind, key, &json!({"entity": entity, "recommendation": "m.ban", "reason": "<b>spam</b>"}));
    }

    pub fn follow(&mut self) -> String {
        let (command, _) = self.room.write(&format!("!admin policy follow '{}'", self.list));
        // What comes before may be progress.
        wait_for("the following", || {
            let mut told = events(&mut self.room.admin, &self.room.id);
            told.retain(|event| event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == *command);
            let bodies = told.iter().filter_map(|event| event["content"]["body"].as_str());
            bodies.into_iter().find(|body| body.contains("followed")).map(str::to_owned)
        })
    }

    fn test(&mut self, entity: &str) -> String {
        self.room.ask(&format!("!admin policy test '{entity}'"))
    }

    /// Waits until the server knows of a rule, or no more.
    fn wait_for_rule(&mut self, entity: &str, is_there: bool) {
        wait_for("the reading of the list", || {
            let found = self.room.ask(&format!("!admin policy test '{entity}'"));
            (found.contains(entity) == is_there).then_some(())
        });
    }
}

pub(crate) fn invite(account: &mut Account, room: &str, user: &str) -> (u16, String) {
    let path = format!("/rooms/{}/invite", encode_path_segment(room));
    let answer = account.request("POST", &path, Some(&json!({"user_id": user}))).unwrap();
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

pub(crate) fn join(account: &mut Account, room: &str) -> u16 {
    let path = format!("/rooms/{}/join", encode_path_segment(room));
    account.request("POST", &path, Some(&json!({}))).unwrap().status
}

pub(crate) fn send(account: &mut Account, room: &str, transaction: &str) -> u16 {
    let path = format!("/rooms/{}/send/m.room.message/{transaction}", encode_path_segment(room));
    account.request("PUT", &path, Some(&json!({"msgtype": "m.text", "body": "hello"}))).unwrap().status
}

#[test]
fn a_list_is_followed_shown_and_left() {
    let mut list = List::start();
    list.ban("m.policy.rule.user", "a", "@spam:evil.test");
    list.ban("m.policy.rule.server", "b", "*.evil.test");
    assert!(list.follow().contains("it has 2 rules"));
    assert!(list.follow().contains("followed already"));
    let lists = list.room.ask("!admin policy list");
    assert!(lists.contains(&list.list) && lists.contains("Bad <people>"), "{lists}");
    let (_, shown) = list.room.write("!admin policy show");
    let html = shown["content"]["formatted_body"].as_str().unwrap();
    assert!(html.contains("&lt;b&gt;spam&lt;/b&gt;") && !html.contains("<b>"), "{html}");
    // Later rules count too, and those that are taken back do not.
    list.ban("m.policy.rule.room", "c", "!other:evil.test");
    list.wait_for_rule("!other:evil.test", true);
    list.rule("m.policy.rule.user", "a", &json!({}));
    list.wait_for_rule("@spam:evil.test", false);
    assert!(list.test("@x:a.evil.test").contains("*.evil.test"));
    assert!(list.test("a.evil.test:8448").contains("*.evil.test"));
    // After a restart they are there again.
    list.room.restart();
    list.wait_for_rule("!other:evil.test", true);
    let command = format!("!admin policy unfollow '{}'", list.list);
    assert!(list.room.ask(&command).contains("not followed any more"));
    assert_eq!(list.room.ask("!admin policy show"), "none");
    assert!(list.room.ask("!admin policy follow '!nowhere:hs.test'").contains("does not know the room"));
}

#[test]
fn whom_a_list_names_is_not_invited_and_it_is_on_record() {
    let mut list = List::start();
    let room = list.room.admin.create_room(&json!({}));
    list.ban("m.policy.rule.user", "a", "@spam:evil.invalid");
    list.follow();
    let (status, error) = invite(&mut list.room.admin, &room, "@spam:evil.invalid");
    assert_eq!((status, error.contains("policy list")), (403, true), "{error}");
    let direct = json!({"invite": ["@spam:evil.invalid"]});
    assert_eq!(list.room.admin.request("POST", "/createRoom", Some(&direct)).unwrap().status, 400);
    wait_for("the record", || {
        let audit = list.room.ask("!admin audit list --json");
        (audit.contains("policy refuse") && audit.contains("@spam:evil.invalid")).then_some(())
    });
}

#[test]
fn rooms_are_closed_and_opened_again() {
    let mut list = List::start();
    let mut bob = Account::register(list.room.server.client(), "bob");
    let banned = list.room.admin.create_room(&json!({"preset": "public_chat"}));
    let gone = list.room.admin.create_room(&json!({"preset": "public_chat"}));
    list.ban("m.policy.rule.room", "a", &banned);
    let takedown = json!({"entity": gone, "recommendation": "org.matrix.msc4204.takedown"});
    list.rule("m.policy.rule.room", "b", &takedown);
    list.follow();
    assert_eq!((join(&mut bob, &banned), join(&mut bob, &gone)), (403, 403));
    assert_eq!(invite(&mut list.room.admin, &banned, "@bob:hs.test").0, 403);
    let audit = list.room.ask("!admin audit list --json");
    assert!(audit.contains("policy block-room") && audit.contains(&gone), "{audit}");
    list.rule("m.policy.rule.room", "a", &json!({}));
    list.rule("m.policy.rule.room", "b", &json!({}));
    wait_for("the opening", || (join(&mut bob, &gone) == 200).then_some(()));
    assert_eq!(join(&mut bob, &banned), 200);
}

#[test]
fn listed_users_of_this_server_are_suspended_but_administrators_are_not() {
    let mut list = List::start();
    let mut bob = Account::register(list.room.server.client(), "bob");
    let mut carol = Account::register(list.room.server.client(), "carol");
    let room = bob.create_room(&json!({"preset": "public_chat"}));
    carol.join(&room);
    list.ban("m.policy.rule.user", "a", "@bob:hs.test");
    list.ban("m.policy.rule.user", "b", "@alice:hs.test");
    // A wildcard names nobody of this server.
    list.ban("m.policy.rule.user", "c", "@c*:*");
    list.follow();
    assert_eq!((send(&mut bob, &room, "1"), send(&mut carol, &room, "1")), (403, 200));
    assert!(list.room.ask("!admin policy list").contains(" 3 "));
    let command = format!("!admin policy unfollow '{}'", list.list);
    assert!(list.room.ask(&command).contains("not followed any more"));
    assert_eq!(send(&mut bob, &room, "2"), 200);
}

#[test]
fn a_long_answer_is_a_file() {
    let mut list = List::start();
    for number in 0..60 {
        list.ban("m.policy.rule.user", &number.to_string(), &format!("@somebody-with-a-long-name-{number}:evil.test"));
    }
    list.follow();
    let (command, _) = list.room.write("!admin policy show --limit 100");
    let told = wait_for("the file and the summary", || {
        let mut found = events(&mut list.room.admin, &list.room.id);
        found.retain(|event| event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == *command);
        (found.len() == 2).then_some(found)
    });
    let file = told.iter().find(|event| event["content"]["msgtype"] == "m.file").unwrap();
    let mxc = file["content"]["url"].as_str().unwrap().strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/download/{mxc}");
    let token = list.room.admin.token.clone();
    let downloaded = list.room.admin.client.request("GET", &path, Some(&token), None).unwrap();
    let text = String::from_utf8(downloaded.body).unwrap();
    assert!(text.contains("long-name-0:") && text.contains("long-name-59:"), "{text}");
    let summary = told.iter().find(|event| event["content"]["msgtype"] == "m.notice").unwrap();
    assert!(summary["content"]["body"].as_str().unwrap().starts_with("The answer has 61 lines"), "{summary}");
}

#[test]
fn a_moderator_shows_lists_and_does_not_choose_them() {
    let mut list = List::start();
    let mut bob = Account::register(list.room.server.client(), "bob");
    list.room.ask("!admin user role bob moderator");
    let path = format!("/rooms/{}/invite", encode_path_segment(&list.room.id));
    list.room.admin.expect("POST", &path, Some(&json!({"user_id": bob.user_id})));
    enter(&mut bob);
    let ask = |bob: &mut Account, room: &str, number: usize, text: &str| {
        let asked = bob.send_text(room, &number.to_string(), text);
        let answer = wait_for(text, || {
            let events = events(bob, room);
            events.into_iter().find(|event| event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == *asked)
        });
        answer["content"]["body"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(&mut bob, &list.room.id, 1, "!admin policy list"), "none");
    let refused = ask(&mut bob, &list.room.id, 2, &format!("!admin policy follow '{}'", list.list));
    assert!(refused.contains("only administrators"), "{refused}");
}

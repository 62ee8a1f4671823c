//! Every operation of the registry, with the arguments of its example, on a server of its own, through each face; and by
//! somebody who may not. Each time there is a record of it.

use admin::audit::{AuditQuery, AuditRow, Ending};
use admin::operations::groups;
use admin::tree::{Parsed, parse};
use admin::{Actor, Admin, Caller, Effect, Entry, Face, Needs};
use conduit::{ControlAnswer, ControlQuestion, ControlReply, ControlRequest, converse};
use serde_json::{Value, json};
use testkit::{Account, encode_path_segment};
use users::Role;

use crate::admin_room::{Room, enter, wait_for};
use crate::seed::{DOCUMENTS, Seed};

fn entries() -> Vec<Entry> {
    groups().into_iter().flat_map(|group| group.entries).collect()
}

/// How the one operation fails that a store in memory does not have; the tests of the program do it on a disk.
const NO_BACKUP: &str = "this storage backend cannot be backed up";

/// Tries every operation, and tells of all that fail together.
fn try_every(face: &str, mut attempt: impl FnMut(&Entry) -> Result<(), String>) {
    let entries = entries();
    let mut failed = |entry: &Entry| {
        let reason = attempt(entry).err().filter(|reason| !reason.contains(NO_BACKUP));
        reason.map(|reason| format!("{}: {reason}", entry.name()))
    };
    let failures: Vec<String> = entries.iter().filter_map(&mut failed).collect();
    assert!(failures.is_empty(), "{} of {} fail {face}:\n{}", failures.len(), entries.len(), failures.join("\n"));
}

/// An operation with its example on this server, as it is typed.
fn line_of(entry: &Entry, seed: &Seed) -> String {
    let mut line = format!("{} {}", entry.name(), entry.example);
    for (name, value) in seed.placeholders() {
        line = line.replace(&format!("{{{name}}}"), &value);
    }
    assert!(!line.contains('{'), "{line} has a placeholder that is not known");
    line
}

/// The words of that.
fn words_of(entry: &Entry, seed: &Seed) -> Vec<String> {
    admin::tree::split_words(&line_of(entry, seed)).unwrap()
}

/// The arguments of the example as a body of JSON.
fn body_of(entry: &Entry, seed: &Seed) -> Value {
    let Parsed::Run(order) = parse("test", words_of(entry, seed)) else { panic!("{} does not parse", entry.name()) };
    let mut arguments = order.prepared.arguments;
    for value in arguments.as_object_mut().unwrap().values_mut() {
        if let Some((_, content)) = DOCUMENTS.iter().find(|(name, _)| *value == json!(name)) {
            *value = json!(content);
        }
    }
    arguments
}

fn check_record(admin: &Admin, entry: &Entry, who: &str, face: Face, ending: Ending) -> Result<(), String> {
    let query = AuditQuery { operation: Some(entry.name()), ..AuditQuery::default() };
    let records = admin.audit().search(&query, 100).map_err(|error| error.to_string())?.records;
    let fits = |row: &admin::audit::AuditRow| row.who == who && row.face == face && row.ending == ending;
    if records.iter().any(|(_, row)| row.operation == entry.name() && fits(row)) {
        return Ok(());
    }
    Err(format!("there is no record of {who}, {}, {}: {records:?}", face.name(), ending.name()))
}

#[test]
fn every_operation_runs_on_the_command_line() {
    try_every("on the command line", |entry| {
        let seed = Seed::new();
        let mut words = words_of(entry, &seed);
        words.extend(["--json".to_owned(), "--yes".to_owned()]);
        let mut hear = |reply| match reply {
            ControlReply::Ask(ControlQuestion::Read(name)) => {
                let content = DOCUMENTS.iter().find(|(known, _)| *known == name).unwrap().1;
                Ok(Some(ControlAnswer::Text(content.to_owned())))
            }
            ControlReply::Ask(ControlQuestion::Secret(_)) => Ok(Some(ControlAnswer::Text("a-good-secret".to_owned()))),
            _ => Ok(None),
        };
        let done = converse(seed.server.data_dir(), &ControlRequest::Admin { words }, &mut hear);
        let text = done.map_err(|error| error.to_string())?;
        serde_json::from_str::<Value>(&text).map_err(|error| format!("{error}: {text}"))?;
        check_record(seed.admin(), entry, "operator", Face::CommandLine, Ending::Done)
    });
}

#[test]
fn every_operation_runs_over_http_for_those_who_may() {
    try_every("over HTTP", |entry| {
        let mut seed = Seed::new();
        let path = format!("/_conduit/admin/v1/{}/{}", entry.group, entry.verb);
        let body = body_of(entry, &seed);
        let ask = |account: &mut Account| {
            account.client.request("POST", &path, Some(&account.token), Some(&body)).map_err(|error| error.to_string())
        };
        let refused = ask(&mut seed.user)?;
        if (refused.status, refused.json()["errcode"].as_str()) != (403, Some("M_FORBIDDEN")) {
            return Err(format!("a member is answered {}: {}", refused.status, refused.json()));
        }
        check_record(seed.server.admin(), entry, &seed.user.user_id, Face::Http, Ending::Refused)?;
        let done = ask(&mut seed.alice)?;
        if done.status != 200 {
            return Err(format!("{}: {}", done.status, done.json()));
        }
        let who = seed.alice.user_id.clone();
        check_record(seed.admin(), entry, &who, Face::Http, Ending::Done)?;
        if entry.effect != Effect::Reads {
            let refused = seed.alice.client.request("GET", &path, Some(&seed.alice.token), None);
            assert_eq!(refused.unwrap().status, 405, "{path}");
        }
        Ok(())
    });
}

#[test]
fn every_operation_runs_in_the_admin_room_and_what_destroys_is_asked_about() {
    try_every("in the admin room", |entry| {
        let seed = Seed::with(|config| config.admin.room = true);
        let line = room_line(entry, &seed);
        let mut room = Room::with_admin(seed.server, seed.alice);
        let (command, told) = room.write(&line);
        let told = told["content"]["body"].to_string();
        let who = room.admin.user_id.clone();
        let look = |room: &Room| check_record(room.server.admin(), entry, &who, Face::Room, Ending::Done);
        if entry.effect == Effect::Destroys {
            if !told.contains("Say yes") || look(&room).is_ok() {
                return Err(format!("it is not asked whether it is meant: {told}"));
            }
            room.say("yes", &command);
        }
        // What was said first may be progress. What failed has its record, too.
        let query = AuditQuery { operation: Some(entry.name()), ..AuditQuery::default() };
        let has_ended = |row: &AuditRow| row.face == Face::Room && row.ending != Ending::Begun;
        wait_for(&line, || {
            let records = room.server.admin().audit().search(&query, 100).unwrap().records;
            records.iter().any(|(_, row)| has_ended(row)).then_some(())
        });
        look(&room).map_err(|error| format!("{told}; {error}"))
    });
}

#[test]
fn a_moderator_is_refused_in_the_admin_room_what_is_for_administrators() {
    let seed = Seed::with(|config| config.admin.room = true);
    let moderator = seed.admin().users().parse_local_user(&seed.user.user_id).unwrap();
    let nid = seed.admin().users().account_by_id(&moderator).unwrap().unwrap().user;
    seed.server.block_on(seed.admin().users().set_role(nid, Role::Moderator)).unwrap();
    let lines: Vec<(Entry, String)> = entries().into_iter().map(|entry| (entry, room_line(&entry, &seed))).collect();
    let Seed { server, mut alice, mut user, .. } = seed;
    let id = enter(&mut alice);
    alice.expect(
        "POST",
        &format!("/rooms/{}/invite", encode_path_segment(&id)),
        Some(&json!({"user_id": user.user_id})),
    );
    user.join(&id);
    let mut room = Room::with_member(server, user, id);
    for (entry, line) in lines.iter().filter(|(entry, _)| entry.needs == Needs::Administrator) {
        let told = room.ask(&line.replacen("!admin", "!admin --yes", 1));
        assert!(told.contains("only administrators of this server may do this"), "{line}: {told}");
        check_record(room.server.admin(), entry, moderator.as_str(), Face::Room, Ending::Refused).unwrap();
    }
}

/// The line of a command as it is written in the admin room: with a file in a code block, and secrets in clear.
fn room_line(entry: &Entry, seed: &Seed) -> String {
    let mut line = format!("!admin {}", line_of(entry, seed));
    if let Some((_, content)) = DOCUMENTS.iter().find(|(name, _)| line.split_whitespace().any(|word| word == *name)) {
        line.push_str(&format!("\n```\n{content}```"));
    }
    line
}

#[test]
fn a_member_is_refused_by_the_core_whatever_the_face() {
    let seed = Seed::new();
    let member = seed.admin().users().parse_local_user(&seed.user.user_id).unwrap();
    let user = seed.admin().users().account_by_id(&member).unwrap().unwrap().user;
    try_every("to refuse a member", |entry| {
        for face in [Face::Room, Face::CommandLine, Face::Http, Face::Synapse] {
            let words = words_of(entry, &seed);
            let Parsed::Run(order) = parse("test", words) else { return Err("it does not parse".to_owned()) };
            let caller = Caller::new(Actor::User(user, member.clone()), face);
            let admin = seed.admin().clone();
            let outcome = seed.server.block_on(async move { admin.perform(&caller, order.prepared).await });
            if !matches!(outcome, Err(admin::AdminError::Forbidden(_))) {
                return Err(format!("through {}: {outcome:?}", face.name()));
            }
            check_record(seed.admin(), entry, member.as_str(), face, Ending::Refused)?;
        }
        Ok(())
    });
}

#[test]
fn every_route_of_the_synapse_form_refuses_a_member_and_strangers() {
    let mut seed = Seed::new();
    for route in admin::synapse::route_table() {
        let path: String = route
            .path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let method = route.method.as_str();
        let client = &mut seed.user.client;
        let nobody = client.request(method, &path, None, Some(&json!({}))).unwrap();
        assert_eq!(
            (nobody.status, nobody.json()["errcode"].as_str()),
            (401, Some("M_MISSING_TOKEN")),
            "{method} {path}"
        );
        let wrong = client.request(method, &path, Some("wrong"), Some(&json!({}))).unwrap();
        assert_eq!((wrong.status, wrong.json()["errcode"].as_str()), (401, Some("M_UNKNOWN_TOKEN")), "{method} {path}");
        let member = client.request(method, &path, Some(&seed.user.token), Some(&json!({}))).unwrap();
        assert_eq!((member.status, member.json()["errcode"].as_str()), (403, Some("M_FORBIDDEN")), "{method} {path}");
        let query = AuditQuery { operation: Some(format!("{method} {}", route.path)), ..AuditQuery::default() };
        let records = seed.server.admin().audit().search(&query, 1).unwrap().records;
        assert_eq!(records.len(), 1, "{method} {path} left no record");
    }
}

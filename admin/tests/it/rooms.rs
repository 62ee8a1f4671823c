//! Operations on rooms in our own form, and work that a restart cuts off.

use serde_json::{Value, json};

use crate::admin_room::wait_for;
use crate::synapse_rooms::Bed;

fn perform(bed: &mut Bed, verb: &str, arguments: &Value) -> (u16, Value) {
    perform_operation(bed, &format!("room/{verb}"), arguments)
}

fn perform_operation(bed: &mut Bed, operation: &str, arguments: &Value) -> (u16, Value) {
    let path = format!("/_conduit/admin/v1/{operation}");
    let response = bed.admin.client.request("POST", &path, Some(&bed.admin.token), Some(arguments)).unwrap();
    (response.status, response.json())
}

fn done(bed: &mut Bed, verb: &str, arguments: &Value) -> Value {
    let (status, answer) = perform(bed, verb, arguments);
    assert_eq!(status, 200, "{verb} {arguments}: {answer}");
    answer
}

fn finish(bed: &mut Bed, verb: &str, arguments: &Value) -> Value {
    let job = done(bed, verb, arguments)["job"].clone();
    wait_for_job(bed, &job)
}

fn wait_for_job(bed: &mut Bed, job: &Value) -> Value {
    wait_for("the job", || {
        let (_, row) = perform_operation(bed, "job/show", &json!({"job": job}));
        assert_ne!(row["state"], "failed", "{row}");
        (row["state"] == "done").then_some(row)
    })
}

#[test]
fn a_room_is_shown_and_changed() {
    let mut bed = Bed::start();
    let (room, said) = bed.room("Lobby");
    let list = done(&mut bed, "list", &json!({"order": "joined_members"}));
    assert_eq!((&list["items"][0]["room"], &list["total"]), (&json!(room), &json!(1)));
    assert_eq!(done(&mut bed, "show", &json!({"room": room}))["local_members"], 2);
    let members = done(&mut bed, "members", &json!({"room": room, "limit": 1}));
    assert_eq!((&members["total"], &members["next"]), (&json!(2), &json!("1")));
    let messages = done(&mut bed, "messages", &json!({"room": room, "limit": 1}));
    assert_eq!((&messages["items"][0]["text"], &messages["items"][0]["event"]), (&json!("word4"), &json!(said[4])));
    let next = messages["next"].clone();
    assert_eq!(
        done(&mut bed, "messages", &json!({"room": room, "limit": 1, "from": next}))["items"][0]["text"],
        "word3"
    );
    assert_eq!(done(&mut bed, "event", &json!({"event": said[0]}))["in_timeline"], true);
    done(&mut bed, "kick", &json!({"room": room, "user": "carol", "reason": "rude"}));
    let left = done(&mut bed, "members", &json!({"room": room, "membership": "leave"}));
    assert_eq!((&left["items"][0]["user"], &left["items"][0]["reason"]), (&json!("@carol:hs.test"), &json!("rude")));
    done(&mut bed, "join", &json!({"room": room, "user": "carol"}));
    done(&mut bed, "kick", &json!({"room": room, "user": "carol", "ban": true}));
    assert_eq!(perform(&mut bed, "join", &json!({"room": room, "user": "carol"})).0, 403);
    for (verb, arguments, status) in [
        ("show", json!({"room": "!unknown:hs.test"}), 404),
        ("show", json!({"room": "nonsense"}), 400),
        ("members", json!({"room": room, "membership": "friend"}), 400),
        ("messages", json!({"room": room, "from": "nonsense"}), 400),
        ("event", json!({"event": "nonsense"}), 400),
        ("purge", json!({"room": room}), 400),
    ] {
        assert_eq!(perform(&mut bed, verb, &arguments).0, status, "{verb} {arguments}");
    }
}

#[test]
fn all_that_a_user_said_is_redacted() {
    let mut bed = Bed::start();
    let (room, said) = bed.room("Lobby");
    let other = bed.carol.send_text(&room, "1", "innocent");
    let (_, begun) = perform_operation(&mut bed, "user/redact", &json!({"user": "bob", "reason": "spam"}));
    wait_for_job(&mut bed, &begun["job"]);
    assert_eq!(done(&mut bed, "event", &json!({"event": said[0]}))["redacted"], true);
    assert_eq!(done(&mut bed, "event", &json!({"event": said[4]}))["redacted"], true);
    assert_eq!(done(&mut bed, "event", &json!({"event": other}))["redacted"], false);
    assert_eq!(done(&mut bed, "show", &json!({"room": room}))["name"], "Lobby");
}

#[test]
fn a_room_is_shut_down_and_deleted() {
    let mut bed = Bed::start();
    let (room, _) = bed.room("Lobby");
    finish(&mut bed, "shutdown", &json!({"room": room}));
    let shown = done(&mut bed, "show", &json!({"room": room}));
    assert_eq!((&shown["local_members"], &shown["blocked"]), (&json!(0), &json!(true)));
    assert_eq!(done(&mut bed, "blocked", &json!({}))["items"][0]["room"], json!(room));
    finish(&mut bed, "delete", &json!({"room": room}));
    assert_eq!(perform(&mut bed, "show", &json!({"room": room})).0, 404);
    done(&mut bed, "unblock", &json!({"room": room}));
    assert_eq!(done(&mut bed, "blocked", &json!({}))["items"], json!([]));
}

#[test]
fn a_restart_does_not_end_a_deletion() {
    let mut bed = Bed::start();
    let (room, _) = bed.room("Lobby");
    for number in 0..40 {
        bed.bob.send_text(&room, &format!("more{number}"), "more");
    }
    let job = done(&mut bed, "delete", &json!({"room": room}))["job"].clone();
    bed.restart();
    wait_for_job(&mut bed, &job);
    assert_eq!(perform(&mut bed, "show", &json!({"room": room})).0, 404);
}

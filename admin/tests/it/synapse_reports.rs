//! The family Reports of the Synapse admin API.

use serde_json::{Value, json};
use testkit::{Account, encode_path_segment};

use crate::media_bed::{Bed, START_MS};

pub(crate) fn report_event(account: &mut Account, room: &str, event: &str, body: &Value) {
    let path = format!("/rooms/{}/report/{}", encode_path_segment(room), encode_path_segment(event));
    account.expect("POST", &path, Some(body));
}

#[test]
fn reported_events_are_listed_shown_and_deleted() {
    let mut bed = Bed::start();
    let request = json!({"preset": "public_chat", "name": "Lobby", "room_alias_name": "lobby"});
    let room = bed.bob.create_room(&request);
    bed.admin.join(&room);
    let event = bed.bob.send_text(&room, "1", "spam");
    let other = bed.admin.send_text(&room, "1", "answer");
    report_event(&mut bed.admin, &room, &event, &json!({"reason": "rude", "score": -100}));
    bed.advance(std::time::Duration::from_secs(1));
    report_event(&mut bed.bob, &room, &other, &json!({}));
    // Those of rooms and users are no reports of events.
    bed.bob.expect("POST", &format!("/rooms/{}/report", encode_path_segment(&room)), Some(&json!({"reason": "room"})));
    bed.bob.expect("POST", "/users/@alice:hs.test/report", Some(&json!({"reason": "user"})));
    let list = bed.ask("GET", "/event_reports");
    assert_eq!((&list["total"], list["event_reports"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let first = list["event_reports"][1].clone();
    let id = first["id"].as_u64().unwrap();
    assert_eq!(
        first,
        json!({"id": id, "received_ts": START_MS, "room_id": room, "name": "Lobby", "canonical_alias": "#lobby:hs.test",
               "event_id": event, "user_id": "@alice:hs.test", "reason": "rude", "score": -100, "sender": "@bob:hs.test"})
    );
    let mut total = |query: &str| {
        let list = bed.ask("GET", &format!("/event_reports?{query}"));
        (list["total"].clone(), list["event_reports"][0]["event_id"].clone(), list["next_token"].clone())
    };
    let none = json!(null);
    assert_eq!(total("limit=1"), (json!(2), json!(other), json!(1)), "the newest first");
    assert_eq!(total("limit=1&from=1"), (json!(2), json!(event), none.clone()));
    assert_eq!(total("dir=f&limit=1"), (json!(2), json!(event), json!(1)));
    assert_eq!(total("user_id=bob"), (json!(1), json!(other), none.clone()));
    assert_eq!(total("sender_user_id=@bob:hs.test"), (json!(1), json!(event), none.clone()));
    assert_eq!(total(&format!("room_id={}", encode_path_segment(&room))).0, 2);
    assert_eq!(total("room_id=nowhere"), (json!(0), none.clone(), none));
    let one = bed.ask("GET", &format!("/event_reports/{id}"));
    assert_eq!((&one["reason"], &one["event_json"]["content"]["body"]), (&json!("rude"), &json!("spam")));
    assert_eq!(one["event_json"]["sender"], "@bob:hs.test");
    assert_eq!(bed.ask("DELETE", &format!("/event_reports/{id}")), json!({}));
    assert_eq!(bed.refuse("GET", &format!("/event_reports/{id}")), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(bed.refuse("DELETE", &format!("/event_reports/{id}")), (404, "M_NOT_FOUND".to_owned()));
}

#[test]
fn reported_users_are_listed_shown_and_deleted() {
    let mut bed = Bed::start();
    bed.bob.expect("POST", "/users/@alice:hs.test/report", Some(&json!({"reason": "one"})));
    bed.admin.expect("POST", "/users/@bob:hs.test/report", Some(&json!({"reason": "two"})));
    let list = bed.ask("GET", "/user_reports");
    let id = list["user_reports"][1]["id"].as_u64().unwrap();
    let first = json!({"id": id, "received_ts": START_MS, "target_user_id": "@alice:hs.test",
        "user_id": "@bob:hs.test", "reason": "one"});
    assert_eq!((&list["total"], &list["user_reports"][1]), (&json!(2), &first));
    assert_eq!(bed.ask("GET", "/user_reports?target_user_id=bob")["total"], 1);
    assert_eq!(bed.ask("GET", "/user_reports?user_id=bob")["user_reports"], json!([first]));
    assert_eq!(bed.ask("GET", "/user_reports?limit=1")["next_token"], 1);
    assert_eq!(bed.ask("GET", &format!("/user_reports/{id}")), first);
    assert_eq!(bed.refuse("GET", &format!("/event_reports/{id}")).0, 404, "it is about no event");
    assert_eq!(bed.ask("DELETE", &format!("/user_reports/{id}")), json!({}));
    assert_eq!(bed.ask("GET", "/user_reports")["total"], 1);
}

#[test]
fn bad_input_and_other_callers_are_refused() {
    let mut bed = Bed::start();
    for family in ["event_reports", "user_reports"] {
        for bad in ["?dir=x", "?limit=-1", "?from=-1", "/-1", "/x"] {
            let refused = bed.refuse("GET", &format!("/{family}{bad}"));
            assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()), "{family}{bad}");
        }
        for method in ["GET", "DELETE"] {
            assert_eq!(bed.refuse(method, &format!("/{family}/12345")), (404, "M_NOT_FOUND".to_owned()));
            let path = format!("/_synapse/admin/v1/{family}/12345");
            let response = bed.bob.client.request(method, &path, Some(&bed.bob.token.clone()), None).unwrap();
            assert_eq!(response.status, 403, "{method} {path}");
        }
    }
}

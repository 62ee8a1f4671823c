//! Operations on reports.

use serde_json::json;

use crate::media_bed::Bed;
use crate::synapse_reports::report_event;

#[test]
fn reports_are_listed_assigned_answered_and_deleted() {
    let mut bed = Bed::start_with(|config| config.server_notices.localpart = Some("_server".to_owned()));
    let room = bed.bob.create_room(&json!({"preset": "public_chat"}));
    bed.admin.join(&room);
    let event = bed.admin.send_text(&room, "1", "spam");
    report_event(&mut bed.bob, &room, &event, &json!({"reason": "rude"}));
    bed.bob.expect("POST", "/users/@alice:hs.test/report", Some(&json!({"reason": "user"})));
    let list = bed.done("report", "list", &json!({"kind": "event"}));
    assert_eq!(list["total"], 1);
    let item = list["items"][0].clone();
    assert_eq!(
        (&item["subject"], &item["sender"], &item["state"]),
        (&json!(event), &json!("@alice:hs.test"), &json!("open"))
    );
    let report = item["report"].clone();
    let shown = bed.done("report", "show", &json!({"report": report}));
    assert!(shown["event_json"].as_str().unwrap().contains("spam"), "{shown}");
    let not_moderating = bed.perform("report", "assign", &json!({"report": report, "to": "bob"}));
    assert_eq!(not_moderating.0, 400, "{}", not_moderating.1);
    bed.done("report", "assign", &json!({"report": report, "to": "alice"}));
    let shown = bed.done("report", "show", &json!({"report": report}));
    assert_eq!((&shown["state"], &shown["assigned_to"]), (&json!("assigned"), &json!("@alice:hs.test")));
    bed.done("report", "assign", &json!({"report": report}));
    assert_eq!(bed.done("report", "list", &json!({"state": "open"}))["total"], 2);
    let answer = json!({"report": report, "note": "warned", "tell_reporter": "We have looked into it."});
    bed.done("report", "answer", &answer);
    let shown = bed.done("report", "show", &json!({"report": report}));
    assert_eq!((&shown["state"], &shown["note"]), (&json!("closed"), &json!("warned")));
    let sync = bed.bob.expect("GET", "/sync", None);
    assert_eq!(sync["rooms"]["invite"].as_object().map(serde_json::Map::len), Some(1), "the reporter is told");
    for (filter, total) in [
        (json!({"state": "closed"}), 1),
        (json!({"reporter": "bob"}), 2),
        (json!({"user": "alice"}), 1),
        (json!({"sender": "alice"}), 1),
        (json!({"sender": "bob"}), 0),
        (json!({"room": room}), 1),
        (json!({"kind": "room"}), 0),
    ] {
        assert_eq!(bed.done("report", "list", &filter)["total"], total, "{filter}");
    }
    bed.done("report", "delete", &json!({"report": report}));
    for verb in ["show", "delete", "assign"] {
        assert_eq!(bed.perform("report", verb, &json!({"report": report})).0, 404, "{verb}");
    }
    assert_eq!(bed.perform("report", "answer", &json!({"report": report, "note": ""})).0, 404);
    assert_eq!(bed.perform("report", "show", &json!({"report": "x"})).0, 400);
    assert_eq!(bed.perform("report", "list", &json!({"state": "lost"})).0, 400);
}

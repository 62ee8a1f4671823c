//! The server itself and what goes on in it, in the form of the Synapse admin API; the description of our own form.

use serde_json::{Value, json};

use crate::media_bed::Bed;
use crate::seed::Seed;

/// A server that does not answer.
const SILENT: &str = "127.0.0.1:9";

fn ask(seed: &mut Seed, method: &str, path: &str) -> (u16, Value) {
    let body = (method == "POST").then(|| json!({}));
    let path = format!("/_synapse/admin/v1{path}");
    let answer = seed.alice.client.request(method, &path, Some(&seed.alice.token), body.as_ref()).unwrap();
    (answer.status, answer.json())
}

#[test]
fn destinations_are_told_as_tools_read_them() {
    let mut seed = Seed::new();
    let (status, list) = ask(&mut seed, "GET", "/federation/destinations");
    assert_eq!((status, &list["total"]), (200, &json!(1)), "{list}");
    let row = list["destinations"][0].clone();
    assert_eq!(row["destination"], SILENT);
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["destination", "failure_ts", "last_successful_stream_ordering", "retry_interval", "retry_last_ts"]
    );
    // On a slow machine it may be asked again already: then the interval is 0.
    assert!(row["failure_ts"].as_u64().unwrap() > 0 && row["retry_interval"].is_u64(), "{row}");
    assert!(list.get("next_token").is_none());
    let one = ask(&mut seed, "GET", &format!("/federation/destinations/{SILENT}"));
    assert_eq!((one.0, &one.1["destination"]), (200, &json!(SILENT)));
    let (_, none) = ask(&mut seed, "GET", "/federation/destinations?destination=elsewhere");
    assert_eq!((&none["total"], &none["destinations"]), (&json!(0), &json!([])));
    let (_, end) = ask(&mut seed, "GET", "/federation/destinations?from=1&limit=1&order_by=retry_interval&dir=b");
    assert_eq!((&end["total"], &end["destinations"]), (&json!(1), &json!([])));
    for (path, status, errcode) in [
        ("/federation/destinations?order_by=nonsense", 400, "M_INVALID_PARAM"),
        ("/federation/destinations?dir=sideways", 400, "M_INVALID_PARAM"),
        ("/federation/destinations?limit=many", 400, "M_INVALID_PARAM"),
        ("/federation/destinations/elsewhere.test", 404, "M_NOT_FOUND"),
    ] {
        let (is, told) = ask(&mut seed, "GET", path);
        assert_eq!((is, told["errcode"].as_str()), (status, Some(errcode)), "{path}: {told}");
    }
    let rooms = ask(&mut seed, "GET", &format!("/federation/destinations/{SILENT}/rooms"));
    assert_eq!(rooms, (200, json!({"rooms": [], "total": 0})));
    let path = format!("/federation/destinations/{SILENT}/reset_connection");
    assert_eq!(ask(&mut seed, "POST", &path), (200, json!({})));
    // It is forgotten with its failure, or known without one: nothing is left to reset.
    let again = ask(&mut seed, "POST", &path).0;
    assert!(matches!(again, 400 | 404), "{again}");
}

#[test]
fn jobs_are_told_as_tasks_and_background_updates() {
    let mut bed = Bed::start();
    let version = bed.ask("GET", "/server_version");
    assert!(version["server_version"].as_str().unwrap().starts_with("Conduit "), "{version}");
    assert_eq!(bed.ask("GET", "/scheduled_tasks"), json!({"scheduled_tasks": []}));
    let room = bed.bob.create_room(&json!({}));
    bed.finish_job("room", "delete", &json!({"room": room}));
    let tasks = bed.ask("GET", "/scheduled_tasks")["scheduled_tasks"].clone();
    let task = &tasks[0];
    assert_eq!(
        (tasks.as_array().unwrap().len(), &task["status"], &task["resource_id"]),
        (1, &json!("complete"), &json!(room))
    );
    assert!(task["id"].is_string() && task["timestamp_ms"].is_u64() && task["error"].is_null(), "{task}");
    let kind = task["action"].as_str().unwrap().to_owned();
    for (query, count) in [
        (format!("action_name={kind}"), 1),
        ("action_name=nothing".to_owned(), 0),
        (format!("resource_id={}", testkit::encode_path_segment(&room)), 1),
        ("resource_id=nothing".to_owned(), 0),
        ("job_status=complete".to_owned(), 1),
        ("job_status=failed".to_owned(), 0),
        ("max_timestamp=1".to_owned(), 0),
    ] {
        let found = bed.ask("GET", &format!("/scheduled_tasks?{query}"));
        assert_eq!(found["scheduled_tasks"].as_array().unwrap().len(), count, "{query}: {found}");
    }
    let status = bed.ask("GET", "/background_updates/status");
    assert_eq!(status, json!({"enabled": true, "current_updates": {}}));
    assert_eq!(bed.ask("GET", "/background_updates/enabled"), json!({"enabled": true}));
    for (path, body, status) in [
        ("/background_updates/enabled", json!({"enabled": true}), 200),
        ("/background_updates/enabled", json!({"enabled": false}), 400),
        ("/background_updates/enabled", json!({}), 400),
        ("/background_updates/start_job", json!({"job_name": "populate_stats_process_rooms"}), 400),
    ] {
        let path = format!("/_synapse/admin/v1{path}");
        let answer = bed.admin.client.request("POST", &path, Some(&bed.admin.token), Some(&body)).unwrap();
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.json());
    }
}

#[test]
fn our_own_form_is_described_to_anybody() {
    let bed = Bed::start();
    let mut stranger = bed.server.client();
    let description = stranger.request("GET", "/_conduit/admin/v1/openapi.json", None, None).unwrap();
    assert_eq!(description.status, 200);
    let description = description.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."), "{}", description["openapi"]);
    let paths = description["paths"].as_object().unwrap();
    for group in admin::operations::groups() {
        for entry in group.entries {
            let path = format!("/_conduit/admin/v1/{}/{}", entry.group, entry.verb);
            let of_path = paths.get(&path).unwrap_or_else(|| panic!("{path} is not described"));
            assert!(of_path["post"]["summary"].is_string(), "{path}: {of_path}");
            assert_eq!(of_path.get("get").is_some(), entry.effect == admin::Effect::Reads, "{path}");
        }
    }
    let page = stranger.request("GET", "/_conduit/docs", None, None).unwrap();
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    for group in admin::operations::groups() {
        for entry in group.entries {
            assert!(text.contains(&entry.name()), "{} is not on the page", entry.name());
        }
    }
    assert!(!text.contains("<script src"), "the page needs nothing from elsewhere");
}

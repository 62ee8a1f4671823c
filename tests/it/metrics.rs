//! Metrics, their dashboard, and health.

use std::collections::BTreeSet;

use runtime::text::read_exposition;
use serde_json::{Value, json};
use testkit::{Account, ConduitProcess};

/// A server that some things have happened on, and what it tells to Prometheus.
fn read_metrics(settings: &[&str]) -> String {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("metrics.sock");
    let listener = format!("metrics.listener=unix:{}", path.display());
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[settings, &[&listener]].concat());
    server.start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    alice.send_text(&room, "1", "hello");
    alice.expect("GET", "/sync", None);
    let body = get_over_unix(&path, "/metrics");
    assert_eq!(get_over_unix(&path, "/health"), "OK");
    assert!(server.terminate().success());
    body
}

fn get_over_unix(path: &std::path::Path, target: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

/// Every part has figures: the beginnings of their names.
const PARTS: [(&str, &[&str]); 13] = [
    ("storage", &["conduit_store_", "conduit_commit_", "conduit_cache_"]),
    ("rooms", &["conduit_events_total", "conduit_event_append_", "conduit_rooms", "conduit_state_resolution_"]),
    ("sync", &["conduit_sync_", "conduit_delivery_sync_"]),
    (
        "federation, out",
        &["conduit_federation_pdus_sent_", "conduit_federation_transactions_sent_", "conduit_delivery_federation_"],
    ),
    ("federation, in", &["conduit_federation_pdus_received_", "conduit_federation_transactions_received_"]),
    ("push", &["conduit_push_sent_", "conduit_push_pending_"]),
    ("application services", &["conduit_appservice_transactions_", "conduit_appservice_waiting_"]),
    ("media", &["conduit_media_total", "conduit_media_stored_"]),
    ("search", &["conduit_search_events", "conduit_search_behind"]),
    ("calls", &["conduit_sfu_rooms", "conduit_sfu_participants", "conduit_call_leg_", "conduit_turn_allocations"]),
    ("administration", &["conduit_admin_operations_total", "conduit_admin_jobs", "conduit_admin_jobs_ended_total"]),
    ("HTTP", &["conduit_http_requests_total", "conduit_http_route_"]),
    ("process", &["process_", "conduit_tasks_running"]),
];

#[test]
fn every_part_has_figures() {
    // With an application service, and calls.
    let folder = tempfile::tempdir().unwrap();
    let service = "id: a\nurl: 'http://127.0.0.1:9'\nas_token: one-token\nhs_token: other-token\nsender_localpart: a\nnamespaces: {}\n";
    std::fs::write(folder.path().join("a.yaml"), service).unwrap();
    let services = format!("appservices.folder={:?}", folder.path());
    let text = read_metrics(&[
        &services,
        "client.public_baseurl=https://hs.test",
        "sfu.listen=[\"127.0.0.1\"]",
        "sfu.udp_port=0",
        "sfu.tcp_port=0",
        "turn.listen=[\"127.0.0.1\"]",
        "turn.port=0",
        "turn.tls_port=0",
    ]);
    let families = read_exposition(&text).unwrap();
    for (part, beginnings) in PARTS {
        for beginning in beginnings {
            assert!(families.keys().any(|name| name.starts_with(beginning)), "{part} has no {beginning}");
        }
    }
}

/// Parts that are there only with a public address, an application service, or a call.
const OF_OTHER_SETUPS: [&str; 4] = ["conduit_sfu_", "conduit_turn_", "conduit_call_leg", "conduit_appservice_"];

#[test]
fn metrics_are_in_the_format_and_the_dashboard_names_only_what_there_is() {
    let text = read_metrics(&[]);
    let families = read_exposition(&text).unwrap();
    for (name, least) in [
        ("conduit_events_total", 7.0),
        ("conduit_event_append_seconds", 1.0),
        ("conduit_sync_answers_total", 1.0),
        ("conduit_commits_total", 5.0),
        ("conduit_commit_write_seconds", 5.0),
        ("conduit_cache_lookups_total", 5.0),
        ("conduit_http_route_responses_total", 4.0),
        ("conduit_store_memory_bytes", 1.0),
        ("conduit_tasks_running", 1.0),
        ("process_cpu_seconds_total", 0.0),
        ("conduit_build_info", 1.0),
    ] {
        let family = families.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(family.total() >= least, "{name}: {}", family.total());
    }
    let dashboard = include_str!("../../docs/grafana/conduit.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let mut named = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            named.extend(metric_names(target["expr"].as_str().unwrap()));
        }
    }
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        let is_elsewhere = OF_OTHER_SETUPS.iter().any(|prefix| name.starts_with(prefix));
        assert!(is_elsewhere || families.contains_key(family), "the dashboard names {name}");
    }
}

fn metric_names(expression: &str) -> Vec<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("conduit_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn health_is_told_without_a_token() {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[]);
    server.start();
    let get = |path: &str| server.client().request("GET", path, None, None).unwrap();
    assert_eq!((get("/health").status, get("/health/live").status), (200, 200));
    let ready = get("/health/ready");
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    assert_eq!(ready.json()["problems"], json!([]));
    assert_eq!(get("/health/other").status, 404);
    assert!(server.terminate().success());
}

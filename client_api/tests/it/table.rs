//! Every route: without a token, with a wrong one, with malformed bodies; and the generated list of endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::body::Body;
use client_api::{Auth, RouteInfo, route_table};
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::coverage;
use crate::server::{Client, Reply, Server, run};

/// A path with plausible arguments.
fn fill(path: &str) -> String {
    [
        ("{roomId}", "!room:hs.test"),
        ("{roomIdOrAlias}", "%23alias:hs.test"),
        ("{roomAlias}", "%23alias:hs.test"),
        ("{eventId}", "$event"),
        ("{userId}", "@alice:hs.test"),
        ("{txnId}", "txn"),
        ("{eventType}", "m.room.message"),
        ("{stateKey}", "key"),
        ("{serverName}", "hs.test"),
        ("{mediaId}", "media"),
        ("{kind}", "override"),
        ("{version}", "1"),
        ("{receiptType}", "m.read"),
        ("{filterId}", "1"),
        ("{relType}", "m.thread"),
        ("{keyName}", "displayname"),
        ("{action}", "restart"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
    .replace(['{', '}'], "")
}

fn takes_json(route: &RouteInfo) -> bool {
    !route.path.contains("/media/")
        && matches!(route.method, Method::PUT | Method::POST)
        && !route.path.ends_with("/logout")
        && !route.path.ends_with("/logout/all")
        && !route.path.ends_with("request_token")
}

fn assert_matrix_error(route: &RouteInfo, reply: &Reply) {
    assert!(
        !reply.status.is_server_error()
            || reply.status == StatusCode::BAD_GATEWAY
            || reply.status == StatusCode::GATEWAY_TIMEOUT,
        "{route:?}: {reply:?}"
    );
    assert_eq!(reply.headers["access-control-allow-origin"], "*", "{route:?}");
    if !reply.status.is_success() {
        let body = reply.json();
        let coded = body["errcode"].as_str().is_some_and(|code| code.starts_with("M_")) && body["error"].is_string();
        assert!(coded || body["flows"].is_array(), "{route:?}: {body}");
    }
}

#[test]
fn requests_without_a_good_token_are_refused() {
    run(async |server| {
        for route in route_table() {
            let path = fill(route.path);
            let reply = server.call(route.method.clone(), &path, None, Body::empty()).await;
            assert_matrix_error(&route, &reply);
            if route.auth.needs_token() {
                reply.refused(401, "M_MISSING_TOKEN");
            } else {
                assert_ne!(reply.json()["errcode"], "M_MISSING_TOKEN", "{route:?}");
            }
            let reply = server.call(route.method.clone(), &path, Some("wrong"), Body::empty()).await;
            assert_matrix_error(&route, &reply);
            if route.auth != Auth::Anybody {
                assert_eq!(reply.refused(401, "M_UNKNOWN_TOKEN")["soft_logout"], false, "{route:?}");
            }
        }
    });
}

/// Calls every route with the body; from a new device where the last route logged it out.
async fn call_all(server: &Server, body: &str, mut check: impl FnMut(&RouteInfo, &Reply)) {
    let mut alice = server.register("alice").await;
    for route in route_table() {
        if alice.get("account/whoami").await.status != 200 {
            alice = log_in(server, &alice).await;
        }
        let reply = alice.call(route.method.clone(), &fill(route.path), body.to_owned()).await;
        assert_matrix_error(&route, &reply);
        check(&route, &reply);
    }
}

async fn log_in<'a>(server: &'a Server, user: &Client<'_>) -> Client<'a> {
    server.client(&server.post("/_matrix/client/v3/login", user.password()).await.ok())
}

#[test]
fn malformed_json_is_refused_everywhere() {
    run(async |server| {
        call_all(&server, "{nonsense", |route, reply| {
            if takes_json(route) && route.auth != Auth::Admin {
                reply.refused(400, "M_NOT_JSON");
            }
        })
        .await;
    });
}

#[test]
fn json_of_another_shape_is_refused_everywhere() {
    run(async |server| {
        for body in ["[]", "3", "null", "\"text\""] {
            let server = Server::start(crate::server::no_limits());
            call_all(&server, body, |route, reply| {
                if takes_json(route) && route.auth != Auth::Admin {
                    reply.refused(400, "M_BAD_JSON");
                }
            })
            .await;
        }
        drop(server);
    });
}

#[test]
fn wrong_types_never_break_the_server() {
    run(async |server| {
        let keys = [
            "user_id",
            "room_id",
            "displayname",
            "reason",
            "invite",
            "initial_state",
            "power_level_content_override",
            "creation_content",
            "messages",
            "device_keys",
            "one_time_keys",
            "actions",
            "enabled",
            "typing",
            "locked",
            "suspended",
            "new_password",
            "auth",
            "devices",
            "filter",
            "search_term",
            "limit",
            "visibility",
            "type",
            "identifier",
            "membership",
            "m.read",
            "thread_id",
            "rooms",
            "sessions",
            "algorithm",
            "auth_data",
            "presence",
            "new_version",
            "refresh_token",
            "app_id",
            "kind",
            "data",
            "master_key",
            "nonce",
            "username",
            "order",
        ];
        for value in [json!([1]), json!(17), json!({"a": []}), json!("text"), json!(true)] {
            let server = Server::start(crate::server::no_limits());
            let body: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), value.clone())).collect();
            call_all(&server, &serde_json::to_string(&body).unwrap(), |_, _| {}).await;
        }
        drop(server);
    });
}

#[test]
fn each_route_lets_in_whom_it_says() {
    run(async |server| {
        let admin = server.register("admin").await;
        let bob = server.register("bob").await;
        let guest = server.client(&server.post("/_matrix/client/v3/register?kind=guest", json!({})).await.ok());
        let set = async |what: &str| {
            let path = format!("/_matrix/client/v1/admin/{what}/@bob:hs.test");
            admin.put(&path, json!({"suspended": true, "locked": true})).await.ok();
        };
        set("suspend").await;
        let calls = async |user: &Client<'_>, route: &RouteInfo| {
            let body = if takes_json(route) { "{nonsense" } else { "" };
            user.call(route.method.clone(), &fill(route.path), body).await
        };
        let skipped = |route: &RouteInfo| !route.auth.needs_token() || route.auth == Auth::EvenLocked;
        for route in route_table().iter().filter(|route| !skipped(route)) {
            let reply = calls(&guest, route).await;
            match route.auth {
                Auth::Guest | Auth::GuestReader => assert_ne!(reply.errcode(), "M_GUEST_ACCESS_FORBIDDEN", "{route:?}"),
                Auth::Admin => drop(reply.refused(403, "M_FORBIDDEN")),
                _ => drop(reply.refused(403, "M_GUEST_ACCESS_FORBIDDEN")),
            }
            let reply = calls(&bob, route).await;
            match route.auth {
                Auth::User | Auth::Guest => drop(reply.refused(403, "M_USER_SUSPENDED")),
                Auth::Admin => drop(reply.refused(403, "M_FORBIDDEN")),
                _ => assert_ne!(reply.errcode(), "M_USER_SUSPENDED", "{route:?}"),
            }
        }
        set("lock").await;
        for route in route_table().iter().filter(|route| !skipped(route)) {
            calls(&bob, route).await.refused(401, "M_USER_LOCKED");
        }
    });
}

#[test]
fn malformed_path_arguments_are_refused() {
    run(async |server| {
        let mut alice = server.client(&new_user(&server).await);
        for route in route_table() {
            if !route.path.contains('{') {
                continue;
            }
            if alice.get("account/whoami").await.status != 200 {
                alice = server.client(&new_user(&server).await);
            }
            for bad in ["%ff", "%00", "%F0%9F%98%80", "nonsense"] {
                let path = fill_all(route.path, bad);
                let reply = alice.call(route.method.clone(), &path, "{}").await;
                assert_matrix_error(&route, &reply);
                if bad == "%ff" && route.auth != Auth::Admin {
                    assert_eq!(reply.status, 400, "{route:?} {reply:?}");
                }
            }
        }
    });
}

#[test]
fn long_path_arguments_never_break_the_server() {
    run(async |server| {
        let mut alice = server.client(&new_user(&server).await);
        let room = alice.create_room(json!({})).await;
        let bodies = [
            json!({}),
            json!({"displayname": "x", "algorithm": "a", "auth_data": {}, "actions": [], "pattern": "x", "messages": {}}),
            json!({"first_message_index": 1, "forwarded_count": 1, "is_verified": true, "session_data": {}}),
        ];
        alice.post("room_keys/version", json!({"algorithm": "x", "auth_data": {}})).await.ok();
        for route in route_table().iter().filter(|route| route.path.contains('{')) {
            if alice.get("account/whoami").await.status != 200 {
                alice = server.client(&new_user(&server).await);
            }
            let path = route.path.replace("{roomId}", &room).replace("{userId}", &alice.user_id);
            let long = "x".repeat(3000);
            let path = format!("{}?version=1", fill_all(&path, &long).replace("/rooms//", "/rooms/x/"));
            for body in &bodies {
                let mut body = body.clone();
                body[&long] = "x".into();
                let reply = alice.call(route.method.clone(), &path, body.to_string()).await;
                assert_matrix_error(route, &reply);
            }
        }
        let message = json!({"messages": {&alice.user_id: {"y".repeat(3000): {}}}});
        let reply = alice.put("sendToDevice/t/1", message).await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
        let keys = json!({"first_message_index": 1, "forwarded_count": 1, "is_verified": true, "session_data": {}});
        let keys = json!({"rooms": {"z".repeat(3000): {"sessions": {"z".repeat(3000): keys}}}});
        let reply = alice.put("room_keys/keys?version=1", keys).await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
        let keys = json!({"one_time_keys": {format!("curve25519:{}", "k".repeat(3000)): "x"}, "fallback_keys": {format!("{}:x", "k".repeat(3000)): "x"}});
        let reply = alice.post("keys/upload", keys).await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
        let login = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "u".repeat(3000)}, "password": "p".repeat(3000)});
        assert!(!server.post("/_matrix/client/v3/login", login).await.status.is_server_error());
        let mut login = alice.password();
        login["device_id"] = "d".repeat(3000).into();
        login["initial_device_display_name"] = "d".repeat(100_000).into();
        assert!(!server.post("/_matrix/client/v3/login", login).await.status.is_server_error());
        let reply = alice
            .post("pushers/set", json!({"app_id": "a".repeat(3000), "pushkey": "k".repeat(3000), "kind": null}))
            .await;
        assert!(!reply.status.is_server_error(), "{reply:?}");
    });
}

async fn new_user(server: &Server) -> serde_json::Value {
    let body = json!({"password": "correct horse", "auth": {"type": "m.login.dummy"}});
    server.post("/_matrix/client/v3/register", body).await.ok()
}

fn fill_all(path: &str, value: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { value.to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn unknown_paths_and_methods_are_unrecognized() {
    run(async |server| {
        server.get("/_matrix/client/v3/nothing/here").await.refused(404, "M_UNRECOGNIZED");
        server.get("/").await.refused(404, "M_UNRECOGNIZED");
        let reply = server.call(Method::DELETE, "/_matrix/client/v3/login", None, Body::empty()).await;
        reply.refused(405, "M_UNRECOGNIZED");
        let allowed: BTreeSet<&str> = reply.headers["allow"].to_str().unwrap().split(',').map(str::trim).collect();
        assert_eq!(allowed, BTreeSet::from(["GET", "HEAD", "POST"]));
    });
}

#[test]
fn web_clients_of_other_origins_are_let_in() {
    run(async |server| {
        for path in ["/_matrix/client/v3/login", "/_matrix/client/v3/nothing", "/_matrix/client/v3/sync"] {
            let reply = server.call(Method::OPTIONS, path, None, Body::empty()).await;
            assert!(reply.status.is_success(), "{path}: {reply:?}");
            assert_eq!(reply.headers["access-control-allow-origin"], "*");
            assert!(reply.headers["access-control-allow-headers"].to_str().unwrap().contains("Authorization"));
            assert!(reply.headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
        }
        let reply = server.call(Method::HEAD, "/_matrix/client/versions", None, Body::empty()).await;
        assert_eq!((reply.status.as_u16(), reply.bytes.len()), (200, 0));
    });
}

#[test]
fn older_paths_and_tokens_in_the_query_are_served() {
    run(async |server| {
        let alice = server.register("alice").await;
        let request = format!("/_matrix/client/r0/account/whoami?access_token={}", alice.token);
        assert_eq!(server.get(&request).await.ok()["user_id"], alice.user_id);
        let request = Request::get("/_matrix/client/v3/account/whoami").header("authorization", "Basic x");
        server.send(request.body(Body::empty()).unwrap()).await.refused(401, "M_MISSING_TOKEN");
    });
}

/// `docs/endpoints.md` says of each operation of the specification whether it is built, and names a test that calls it
/// with success. `UPDATE=1` writes it; `ENDPOINT_LOG` is a log of a run of all tests, for the names.
#[test]
fn the_list_of_endpoints_is_up_to_date() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let file = docs.join("endpoints.md");
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let tests = coverage::noted().unwrap_or_else(|| named_tests(&written));
    let listed = std::fs::read_to_string(docs.join("endpoints.tsv")).unwrap();
    let routes = route_table();
    let built =
        |method: &str, path: &str| routes.iter().any(|route| route.method.as_str() == method && route.path == path);
    let (mut rows, mut done, mut all, mut untested) = (String::new(), 0, 0, Vec::new());
    for line in listed.lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(api), Some(method), Some(path)) = (columns.next(), columns.next(), columns.next()) else { continue };
        if matches!(api, "application-service" | "push-gateway") || path == "/_matrix/policy/v1/sign" {
            // The homeserver calls these.
            continue;
        }
        all += 1;
        let test = tests.get(&(method.to_owned(), path.to_owned())).filter(|test| is_test(test));
        // The other edge has a list, and tests, of its own.
        let (state, test) = match (api, test) {
            ("server-server", _) => ("built", "`federation/tests/serve`".to_owned()),
            (_, Some(test)) => ("built", format!("`{test}`")),
            _ if built(method, path) => {
                untested.push(format!("{method} {path}"));
                ("built", String::new())
            }
            _ => ("not yet", String::new()),
        };
        done += usize::from(state == "built");
        rows.push_str(&format!("| {api} | {method} | `{path}` | {state} | {test} |\n"));
    }
    let text = format!(
        "# Endpoints\n\nWhich of the operations of the specification (v1.19) that clients and servers call are built: \
         {done} of {all},\nand a test in `client_api/tests/it` that calls each with success. Generated from the route table \
         and a run of the tests:\n`make endpoints`. What is not built, and why: [compliance.md](compliance.md#what-is-not-built).\n\n| API | Method | Path | State | Test |\n|---|---|---|---|---|\n{rows}"
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    } else {
        assert!(written == text, "docs/endpoints.md is not up to date: make endpoints");
    }
    assert!(untested.is_empty(), "no test calls these with success: {untested:#?}");
}

/// The tests that `docs/endpoints.md` names, by method and path.
fn named_tests(written: &str) -> BTreeMap<(String, String), String> {
    let rows =
        written.lines().map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>());
    let row = |cells: Vec<&str>| match cells[..] {
        [_, _, method, path, _, test, _] if !test.is_empty() => {
            Some(((method.to_owned(), path.to_owned()), test.to_owned()))
        }
        _ => None,
    };
    rows.filter_map(row).collect()
}

/// Whether a test of this name, with its module, stands in this folder.
fn is_test(name: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let Some((module, function)) = name.rsplit_once("::") else { return false };
    std::fs::read_to_string(folder.join(module.replace("::", "/")).with_extension("rs"))
        .is_ok_and(|source| source.contains(&format!("fn {function}(")))
}

#[test]
fn routes_are_named_once() {
    let routes = route_table();
    let names: BTreeSet<(String, &str)> = routes.iter().map(|route| (route.method.to_string(), route.path)).collect();
    assert_eq!(names.len(), routes.len());
}

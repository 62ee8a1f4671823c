//! What holds for every endpoint, by the list of them: who is let in, and what becomes of bodies and arguments that are
//! not what they should be.

use axum::body::Body;
use bytes::Bytes;
use federation::{Auth, FederationConfig, RouteInfo, route_table};
use http::{Method, StatusCode};
use rooms::Preset;
use runtime::config::ByteSize;
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, ServerName};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use spec::xmatrix::XMatrix;

use crate::bed::{Server, escape, object, run, run_with};

/// The room and event that requests are about.
struct Subject {
    room: RoomId,
    event: EventId,
}

/// A room of both servers, and an event in it.
async fn shared_room(here: &Server, there: &Server) -> (Subject, spec::ids::UserId) {
    let (alice, _) = here.user("alice").await;
    let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
    there.join(here, &room, &there.user_id("bob")).await.unwrap();
    let event = here.send(&room, &alice, "hello").await;
    (Subject { room, event }, alice)
}

/// A request to an endpoint that is well formed: path with query, and body.
fn well_formed(route: &RouteInfo, subject: &Subject) -> (String, Option<Value>) {
    let (room, event) = (escape(subject.room.as_str()), escape(subject.event.as_str()));
    let path = [
        ("{roomId}", room.as_str()),
        ("{eventId}", &event),
        ("{userId}", "%40bob%3Aremote.test"),
        ("{txnId}", "t1"),
        ("{mediaId}", "media"),
        ("{queryType}", "weather"),
        ("{serverName}", "nobody.test"),
    ];
    let path = path.iter().fold(route.path.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(!path.contains('{'), "{path} has an argument that is not known here");
    let last = route.path.trim_start_matches("/_matrix/federation/").split('/').nth(1).unwrap_or_default();
    let query = match last {
        "state" | "state_ids" => format!("?event_id={event}"),
        "backfill" => format!("?v={event}&limit=1"),
        "timestamp_to_event" => "?ts=1&dir=f".to_owned(),
        "make_join" | "make_knock" => "?ver=11".to_owned(),
        "media" => "?width=32&height=32&timeout_ms=1".to_owned(),
        "query" => "?room_alias=%23a%3Ahs.test&user_id=%40alice%3Ahs.test".to_owned(),
        _ => String::new(),
    };
    let body = match (last, &route.method) {
        (_, &Method::GET) => None,
        ("send", _) => Some(json!({"origin": "remote.test", "pdus": []})),
        ("get_missing_events", _) => Some(json!({"earliest_events": [], "latest_events": [subject.event.as_str()]})),
        ("invite", _) => Some(json!({"room_version": "11", "event": {"type": "m.room.member"}})),
        ("exchange_third_party_invite", _) => Some(json!({
            "type": "m.room.member", "room_id": subject.room.as_str(), "sender": "@alice:hs.test",
            "state_key": "@bob:remote.test",
            "content": {"membership": "invite", "third_party_invite": {"display_name": "b", "signed": {"token": "t"}}},
        })),
        ("user", _) => Some(json!({"device_keys": {}, "one_time_keys": {}})),
        _ => Some(json!({})),
    };
    (format!("{path}{query}"), body)
}

fn signed_routes() -> Vec<RouteInfo> {
    let routes: Vec<RouteInfo> = route_table().into_iter().filter(|route| route.auth == Auth::Server).collect();
    assert!(routes.len() >= 30, "only {} endpoints are signed", routes.len());
    routes
}

fn header(key: &SigningKey, origin: &str, to: &str, method: &Method, uri: &str, body: Option<&Value>) -> String {
    let name = |name: &str| ServerName::parse(name).unwrap();
    let content = body.and_then(Value::as_object);
    XMatrix::sign(key, &name(origin), &name(to), method.as_str(), uri, content).to_header()
}

/// A request with any body and any `Authorization`.
async fn send(
    here: &Server,
    method: &Method,
    uri: &str,
    authorization: Option<String>,
    body: Body,
) -> (StatusCode, Value) {
    use tower::ServiceExt;
    let request = http::Request::builder().method(method.clone()).uri(uri);
    let request = match authorization {
        Some(authorization) => request.header("Authorization", authorization),
        None => request,
    };
    let answer = here.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = answer.status();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// As `there` sends it.
async fn ask(here: &Server, there: &Server, method: &Method, uri: &str, body: Option<Value>) -> (StatusCode, Value) {
    let header = header(&there.key, "remote.test", "hs.test", method, uri, body.as_ref());
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    send(here, method, uri, Some(header), body).await
}

#[track_caller]
fn assert_is(answer: &(StatusCode, Value), status: StatusCode, errcode: &str, what: &str) {
    assert_eq!((answer.0, answer.1["errcode"].as_str()), (status, Some(errcode)), "{what}: {}", answer.1);
}

#[test]
fn servers_that_the_operator_keeps_out_are_refused_by_every_endpoint() {
    let list = |name: &str| vec![name.to_owned()];
    let denied = FederationConfig { denied_servers: list("remote.*"), ..FederationConfig::default() };
    let not_allowed = FederationConfig { allowed_servers: list("*.friend.test"), ..FederationConfig::default() };
    for config in [denied, not_allowed] {
        run_with(config, async |here, there| {
            let (alice, _) = here.user("alice").await;
            let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
            let event = here.send(&room, &alice, "hello").await;
            let subject = Subject { room, event };
            for route in signed_routes() {
                let (uri, body) = well_formed(&route, &subject);
                let answer = ask(&here, &there, &route.method, &uri, body).await;
                assert_is(&answer, StatusCode::FORBIDDEN, "M_FORBIDDEN", &uri);
            }
            // What is open to everybody is open to it too: it could ask as anybody.
            let answer = send(&here, &Method::GET, "/_matrix/federation/v1/version", None, Body::empty()).await;
            assert_eq!(answer.0, StatusCode::OK);
        });
    }
}

#[test]
fn every_endpoint_of_a_room_keeps_out_whom_the_room_keeps_out() {
    run(async |here, there| {
        let (subject, alice) = shared_room(&here, &there).await;
        let of_rooms = || {
            signed_routes()
                .into_iter()
                .filter(|route| route.path.contains("{roomId}") || route.path.ends_with("/event/{eventId}"))
        };
        let mut refused_before = Vec::new();
        for route in of_rooms() {
            let (uri, body) = well_formed(&route, &subject);
            if ask(&here, &there, &route.method, &uri, body).await.0 == StatusCode::FORBIDDEN {
                refused_before.push(route.path);
            }
        }
        // A knock on a public room, and an offer that nobody made: all others do not refuse yet.
        let allowed = ["/make_knock/", "/exchange_third_party_invite/", "/make_leave/"];
        refused_before.retain(|path| !allowed.iter().any(|part| path.contains(part)));
        assert_eq!(refused_before, Vec::<&str>::new());

        here.set(&subject.room, &alice, "m.room.server_acl", "", json!({"allow": ["*"], "deny": ["remote.test"]}))
            .await;
        for route in of_rooms() {
            let (uri, body) = well_formed(&route, &subject);
            let answer = ask(&here, &there, &route.method, &uri, body).await;
            assert_is(&answer, StatusCode::FORBIDDEN, "M_FORBIDDEN", &uri);
        }
    });
}

#[test]
fn requests_that_are_not_signed_as_they_should_be_are_refused_by_every_endpoint() {
    run(async |here, there| {
        let (subject, _) = shared_room(&here, &there).await;
        let thief = SigningKey::from_seed([9; 32], "k2").unwrap();
        for route in signed_routes() {
            let (uri, body) = well_formed(&route, &subject);
            let sign = |key: &SigningKey, origin: &str, to: &str, uri: &str| {
                Some(header(key, origin, to, &route.method, uri, body.as_ref()))
            };
            let long = format!("X-Matrix origin=\"remote.test\",x=\"{}\"", "x".repeat(5000));
            for (what, authorization) in [
                ("nothing", None),
                ("a token", Some("Bearer abc".to_owned())),
                ("no parameters", Some("X-Matrix".to_owned())),
                ("a long header", Some(long)),
                ("for another server", sign(&there.key, "remote.test", "other.test", &uri)),
                ("by another key", sign(&thief, "remote.test", "hs.test", &uri)),
                ("as this server", sign(&here.key, "hs.test", "hs.test", &uri)),
                ("by a server that is not there", sign(&thief, "gone.test", "hs.test", &uri)),
                ("over another address", sign(&there.key, "remote.test", "hs.test", &format!("{uri}x"))),
            ] {
                let sent = body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()));
                let answer = send(&here, &route.method, &uri, authorization, sent).await;
                assert_is(&answer, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", &format!("{uri} {what}"));
            }
        }
    });
}

#[test]
fn malformed_arguments_are_refused_by_every_endpoint() {
    run(async |here, there| {
        let (subject, _) = shared_room(&here, &there).await;
        let long = "x".repeat(300);
        let ids = [
            "x",
            "%00",
            "%FF",
            "!",
            "@",
            "%24",
            "%2E%2E",
            "%21%3A",
            "%40%3Ahs.test",
            "%21r%3Ahs.test%3A99999999",
            "%21%F0%9F%A6%80%3Ahs.test",
            "%24a%0D%0Ab",
            &format!("%21{long}%3Ahs.test"),
            &format!("%24{long}"),
            &format!("%40{long}%3Ahs.test"),
        ];
        for route in signed_routes() {
            let (uri, body) = well_formed(&route, &subject);
            let query = uri.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
            let parts: Vec<&str> = route.path.split('/').collect();
            for (place, _) in parts.iter().enumerate().filter(|(_, part)| part.starts_with('{')) {
                for id in ids {
                    let mut path: Vec<&str> = uri.split(['?']).next().unwrap().split('/').collect();
                    path[place] = id;
                    let uri = format!("{}{query}", path.join("/"));
                    let (status, answer) = ask(&here, &there, &route.method, &uri, body.clone()).await;
                    // A transaction may have any id that is not too long.
                    let is_free = route.path.contains("{txnId}") && status == StatusCode::OK;
                    assert!(status.is_client_error() || is_free, "{} {uri}: {status} {answer}", route.method);
                }
            }
            let path = uri.split('?').next().unwrap();
            for value in ["%FF", "", "-1", "99999999999999999999999", "%00", "x%20y", &long, "NaN"] {
                let names = ["event_id", "v", "limit", "ts", "dir", "ver", "room_alias", "user_id", "since"];
                let names =
                    names.into_iter().chain(["width", "height", "timeout_ms", "suggested_only", "omit_members"]);
                let query: Vec<String> = names.map(|name| format!("{name}={value}")).collect();
                let uri = format!("{path}?{}", query.join("&"));
                let (status, answer) = ask(&here, &there, &route.method, &uri, body.clone()).await;
                assert!(!status.is_server_error(), "{} {uri}: {status} {answer}", route.method);
            }
        }
    });
}

#[test]
fn bodies_beyond_their_bound_are_refused_by_every_endpoint() {
    let config = FederationConfig { max_transaction: ByteSize::kib(64), ..FederationConfig::default() };
    run_with(config, async |here, there| {
        let (subject, _) = shared_room(&here, &there).await;
        let with_body = route_table().into_iter().filter(|route| route.method != Method::GET);
        for route in with_body {
            let (uri, _) = well_formed(&route, &subject);
            let is_small = route.auth == Auth::Anybody || route.path.contains("/send/");
            let most = if is_small { 64 * 1024 } else { 1024 * 1024 };
            let authorization = || Some(header(&there.key, "remote.test", "hs.test", &route.method, &uri, None));
            // At once with its length, and in pieces without one.
            let whole = format!("{{\"x\":\"{}\"}}", "x".repeat(most));
            let pieces: Vec<Result<Bytes, std::io::Error>> =
                whole.as_bytes().chunks(8192).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let streamed = Body::from_stream(futures_util::stream::iter(pieces));
            for (what, body) in [("whole", Body::from(whole)), ("in pieces", streamed)] {
                let answer = send(&here, &route.method, &uri, authorization(), body).await;
                assert_is(&answer, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", &format!("{uri} {what}"));
            }
            // Just below the bound it is read: what is wrong is something else.
            let below = format!("{{\"x\":\"{}\"}}", "x".repeat(most - 8));
            let answer = send(&here, &route.method, &uri, authorization(), Body::from(below)).await;
            assert!(answer.0.is_client_error() && answer.0 != StatusCode::PAYLOAD_TOO_LARGE, "{uri}: {answer:?}");
        }
    });
}

#[test]
fn bodies_that_are_no_json_object_of_the_right_shape_are_refused_by_every_endpoint() {
    run(async |here, there| {
        let (subject, _) = shared_room(&here, &there).await;
        let deep = format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000));
        let wide: Map<String, Value> = (0..2000).map(|number| (format!("k{number}"), json!([number]))).collect();
        for route in route_table().into_iter().filter(|route| route.method != Method::GET) {
            let (uri, _) = well_formed(&route, &subject);
            let no_objects: [&[u8]; 9] =
                [b"[]", b"{", b"null", b"7", b"\xff\xfe", b"{\"a\":1}x", b"{\"a\":\"\xff\"}", b" ", deep.as_bytes()];
            for body in no_objects {
                let authorization = Some(header(&there.key, "remote.test", "hs.test", &route.method, &uri, None));
                let (status, answer) = send(&here, &route.method, &uri, authorization, Body::from(body.to_vec())).await;
                let code = answer["errcode"].as_str().unwrap_or_default();
                let shown = String::from_utf8_lossy(body.get(..10.min(body.len())).unwrap()).into_owned();
                assert_eq!(status, StatusCode::BAD_REQUEST, "{uri} {shown}: {answer}");
                assert!(matches!(code, "M_NOT_JSON" | "M_BAD_JSON"), "{uri} {shown}: {answer}");
            }
            for body in [json!({}), Value::Object(wide.clone()), hostile(&subject), json!({"event": 1, "pdus": 1})] {
                let (status, answer) = ask(&here, &there, &route.method, &uri, Some(body)).await;
                assert!(!status.is_server_error(), "{uri}: {status} {answer}");
            }
        }
    });
}

/// Properties of all endpoints, each of a wrong type or with a wrong value.
fn hostile(subject: &Subject) -> Value {
    let event = object(json!({
        "type": 5, "room_id": subject.room.as_str(), "sender": "@:", "state_key": {}, "content": [], "depth": -1,
        "prev_events": {"a": 1}, "auth_events": [[1, 2], [[]]], "hashes": {"sha256": "%"}, "signatures": [],
        "origin_server_ts": "now",
    }));
    let mut all = event.clone();
    all.extend(object(json!({
        "origin": "remote.test", "pdus": [event, 1, null], "edus": [{"edu_type": 1}, {"edu_type": "m.receipt"}],
        "event": event, "room_version": "11", "invite_room_state": [[], 1, {"type": 1}], "limit": 18446744073709551615u64,
        "min_depth": i64::MIN, "earliest_events": ["$a"], "latest_events": [""], "device_keys": {"x": 1},
        "one_time_keys": {"@a:hs.test": {"D": 5}}, "since": "p1_99999999999999999999", "filter": {"room_types": [1]},
        "server_keys": {"": {}, "a b": {"ed25519:a": {"minimum_valid_until_ts": -1}}}, "mxid": "@a", "invites": [1],
    })));
    Value::Object(all)
}

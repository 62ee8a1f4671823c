//! What other servers ask about users, aliases, spaces and media.

use axum::body::Body;
use federation::{Ask, FederationConfig};
use http::{Method, StatusCode};
use media::Description;
use rooms::{CreateRoom, Preset};
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, UserId};
use spec::version::RoomVersion;

use crate::bed::{Server, assert_refused, escape, object, run, run_with};

#[test]
fn what_is_open_is_open_and_the_rest_has_to_be_signed() {
    run(async |here, _| {
        let (alice, nid) = here.user("alice").await;
        let (status, body) = here.call(Method::GET, "/_matrix/federation/v1/version", Body::empty()).await;
        assert_eq!((status, &body["server"]["name"]), (StatusCode::OK, &json!("Conduit")));
        let token = here.users.create_openid_token(nid).await.unwrap().access_token;
        let userinfo = "/_matrix/federation/v1/openid/userinfo";
        let (status, body) = here.call(Method::GET, &format!("{userinfo}?access_token={token}"), Body::empty()).await;
        assert_eq!((status, body), (StatusCode::OK, json!({"sub": alice.as_str()})));
        let (status, body) = here.call(Method::GET, &format!("{userinfo}?access_token=wrong"), Body::empty()).await;
        assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNKNOWN_TOKEN")));
        let (status, body) = here.call(Method::GET, userinfo, Body::empty()).await;
        assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_MISSING_TOKEN")));
        let (status, _) = here.call(Method::GET, "/.well-known/matrix/server", Body::empty()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        for route in federation::route_table() {
            // Every route is mounted, and refuses with a Matrix error.
            let path = ["{roomId}", "{userId}", "{eventId}"].iter().fold(route.path.to_owned(), |path, name| {
                path.replace(
                    name,
                    match *name {
                        "{roomId}" => "!r:hs.test",
                        "{userId}" => "@u:hs.test",
                        _ => "$e",
                    },
                )
            });
            let path = path.replace("{serverName}", "nobody.test").replace(['{', '}'], "");
            let (status, body) = here.call(route.method.clone(), &path, Body::from("{}")).await;
            if route.auth == federation::Auth::Server {
                assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNAUTHORIZED")), "{path}");
            } else {
                assert!(status == StatusCode::OK || body["errcode"].is_string(), "{path}: {status} {body}");
            }
        }
        let (status, body) = here.call(Method::DELETE, "/_matrix/federation/v1/version", Body::empty()).await;
        assert_eq!((status, &body["errcode"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("M_UNRECOGNIZED")));
    });
}

#[test]
fn the_well_known_answer_is_what_is_configured() {
    let config =
        FederationConfig { well_known_server: Some("matrix.hs.test:443".into()), ..FederationConfig::default() };
    run_with(config, async |here, _| {
        let (status, body) = here.call(Method::GET, "/.well-known/matrix/server", Body::empty()).await;
        assert_eq!((status, body), (StatusCode::OK, json!({"m.server": "matrix.hs.test:443"})));
    });
}

#[test]
fn profiles_are_told() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        here.users.set_profile_field(nid, "displayname", Some("Alice".into())).await.unwrap();
        let path = format!("query/profile?user_id={}", escape(alice.as_str()));
        assert_eq!(there.get(&here, &path).await.unwrap(), json!({"displayname": "Alice"}));
        let field = |name: &str| format!("{path}&field={name}");
        assert_eq!(there.get(&here, &field("displayname")).await.unwrap(), json!({"displayname": "Alice"}));
        assert_eq!(there.get(&here, &field("avatar_url")).await.unwrap(), json!({}));
        assert_refused(there.get(&here, "query/profile?user_id=%40nobody%3Ahs.test").await, 404, "M_NOT_FOUND");
        assert_refused(there.get(&here, "query/profile?user_id=%40bob%3Aremote.test").await, 400, "M_INVALID_PARAM");
        assert_refused(there.get(&here, "query/profile").await, 400, "M_MISSING_PARAM");
        assert_refused(there.get(&here, "query/weather?city=x").await, 404, "M_UNRECOGNIZED");
    });
}

#[test]
fn what_is_not_shared_is_refused() {
    let config = FederationConfig { share_profiles: false, share_public_rooms: false, ..FederationConfig::default() };
    run_with(config, async |here, there| {
        here.user("alice").await;
        assert_refused(there.get(&here, "query/profile?user_id=%40alice%3Ahs.test").await, 403, "M_FORBIDDEN");
        assert_refused(there.get(&here, "publicRooms").await, 403, "M_FORBIDDEN");
        let search = Ask::post("/_matrix/federation/v1/publicRooms".into(), &json!({}));
        assert_refused(there.ask(&here, search).await, 403, "M_FORBIDDEN");
    });
}

#[test]
fn federation_that_is_switched_off_answers_nobody() {
    let config = FederationConfig { enabled: false, ..FederationConfig::default() };
    run_with(config, async |here, there| {
        assert_refused(there.get(&here, "query/profile?user_id=%40alice%3Ahs.test").await, 403, "M_FORBIDDEN");
        let (status, _) = here.call(Method::PUT, "/_matrix/federation/v1/3pid/onbind", Body::from("{}")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    });
}

#[test]
fn aliases_lead_to_rooms_and_the_servers_in_them() {
    run(async |here, there| {
        let (alice, nid) = here.user("alice").await;
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        there.join(&here, &room, &there.user_id("bob")).await.unwrap();
        let alias = RoomAlias::parse("#room:hs.test").unwrap();
        here.rooms.create_alias(&alias, &room, nid).await.unwrap();
        let answer = there.get(&here, "query/directory?room_alias=%23room%3Ahs.test").await.unwrap();
        assert_eq!(answer, json!({"room_id": room.as_str(), "servers": ["hs.test", "remote.test"]}));
        let foreign = RoomAlias::parse("#老虎Â£я🤨:hs.test").unwrap();
        here.rooms.create_alias(&foreign, &room, nid).await.unwrap();
        let path = format!("query/directory?room_alias={}", escape(foreign.as_str()));
        assert_eq!(there.get(&here, &path).await.unwrap()["room_id"], room.as_str());
        assert_refused(there.get(&here, "query/directory?room_alias=%23none%3Ahs.test").await, 404, "M_NOT_FOUND");
        assert_refused(there.get(&here, "query/directory?room_alias=%23a%3Aother.test").await, 400, "M_INVALID_PARAM");
    });
}

#[test]
fn the_public_list_is_paged_and_searched() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        for _ in 0..3 {
            let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
            here.rooms.set_public(&room, true).await.unwrap();
        }
        let first = there.get(&here, "publicRooms?limit=2").await.unwrap();
        assert_eq!((first["chunk"].as_array().unwrap().len(), &first["total_room_count_estimate"]), (2, &json!(3)));
        let next = first["next_batch"].as_str().unwrap();
        let second = there.get(&here, &format!("publicRooms?limit=2&since={next}")).await.unwrap();
        assert_eq!(second["chunk"].as_array().unwrap().len(), 1);
        let search = |term: &str| {
            Ask::post("/_matrix/federation/v1/publicRooms".into(), &json!({"filter": {"generic_search_term": term}}))
        };
        assert_eq!(there.ask(&here, search("the room")).await.unwrap()["chunk"].as_array().unwrap().len(), 3);
        assert_eq!(there.ask(&here, search("else")).await.unwrap()["chunk"], json!([]));
    });
}

#[test]
fn devices_and_keys_are_those_of_our_users() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let devices = there.get(&here, &format!("user/devices/{}", escape(alice.as_str()))).await.unwrap();
        assert_eq!(devices["user_id"], alice.as_str());
        assert!(devices["stream_id"].is_u64() && devices["devices"].is_array());
        for user in ["@nobody:hs.test", "@bob:remote.test"] {
            let path = format!("user/devices/{}", escape(user));
            assert_refused(there.get(&here, &path).await, 404, "M_NOT_FOUND");
        }
        let wanted = json!({"device_keys": {alice.as_str(): [], "@bob:remote.test": []}});
        let query = Ask::post("/_matrix/federation/v1/user/keys/query".into(), &wanted);
        let found = there.ask(&here, query).await.unwrap();
        assert_eq!(found["device_keys"], json!({alice.as_str(): {}}));
        assert!(found.get("user_signing_keys").is_none());
        let wanted = json!({"one_time_keys": {alice.as_str(): {"DEVICE": "signed_curve25519"}}});
        let claim = Ask::post("/_matrix/federation/v1/user/keys/claim".into(), &wanted);
        assert_eq!(there.ask(&here, claim).await.unwrap(), json!({"one_time_keys": {}}));
        let many: Map<String, Value> = (0..1001).map(|number| (format!("@u{number}:hs.test"), json!([]))).collect();
        let query = Ask::post("/_matrix/federation/v1/user/keys/query".into(), &json!({"device_keys": many}));
        assert_refused(there.ask(&here, query).await, 413, "M_TOO_LARGE");
    });
}

async fn create_space(here: &Server, creator: &UserId, children: &[&RoomId]) -> RoomId {
    let child =
        |room: &&RoomId| ("m.space.child".to_owned(), room.as_str().to_owned(), object(json!({"via": ["hs.test"]})));
    let space = CreateRoom {
        name: Some("The space".into()),
        creation_content: object(json!({"type": "m.space"})),
        initial_state: children.iter().map(child).collect(),
        ..CreateRoom::new(creator.clone(), RoomVersion::V11, Preset::PublicChat)
    };
    here.rooms.create_room(space).await.unwrap()
}

#[test]
fn spaces_tell_what_the_other_server_can_get_into() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let open = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let closed = here.create(&alice, RoomVersion::V11, Preset::PrivateChat).await;
        let club = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let rule =
            json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club.as_str()}]});
        let members =
            here.create_with(&alice, RoomVersion::V11, Preset::PrivateChat, vec![("m.room.join_rules", rule)]).await;
        let unknown = RoomId::parse("!unknown:far.test").unwrap();
        let space = create_space(&here, &alice, &[&open, &closed, &members, &unknown]).await;
        let path = format!("hierarchy/{}", escape(space.as_str()));
        let ids = |answer: &Value| {
            let children = answer["children"].as_array().unwrap().iter();
            children.map(|room| room["room_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let answer = there.get(&here, &path).await.unwrap();
        assert_eq!(answer["room"]["name"], "The space");
        assert_eq!(answer["room"]["children_state"].as_array().unwrap().len(), 4);
        assert_eq!(ids(&answer), [open.as_str()]);
        let mut hidden: Vec<&str> =
            answer["inaccessible_children"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        hidden.sort_unstable();
        let mut expected = [closed.as_str(), members.as_str()];
        expected.sort_unstable();
        assert_eq!(hidden, expected);
        there.join(&here, &club, &there.user_id("bob")).await.unwrap();
        let answer = there.get(&here, &path).await.unwrap();
        assert!(ids(&answer).contains(&members.as_str().to_owned()));
        assert_eq!(answer["inaccessible_children"], json!([closed.as_str()]));
        let path = format!("hierarchy/{}", escape(closed.as_str()));
        assert_refused(there.get(&here, &path).await, 404, "M_NOT_FOUND");
    });
}

#[test]
fn media_come_in_two_parts() {
    run(async |here, there| {
        let (alice, _) = here.user("alice").await;
        let mut upload = here.media.new_upload();
        upload.write(b"some \r\n--bytes").await.unwrap();
        let about = Description { content_type: Some("text/plain".into()), file_name: Some("notes.txt".into()) };
        let mxc = here.media.upload(&alice, upload, about).await.unwrap();
        let path = format!("/_matrix/federation/v1/media/download/{}", mxc.media_id());
        let answer = there.client.ask_stream(&here.name, Ask::get(path)).await.unwrap();
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let boundary = content_type.strip_prefix("multipart/mixed; boundary=").unwrap().to_owned();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(body.len(), length);
        let body = String::from_utf8(body.to_vec()).unwrap();
        let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
        assert_eq!(parts[0], "");
        assert_eq!(parts[1], "\r\nContent-Type: application/json\r\n\r\n{}\r\n");
        let (head, content) = parts[2].split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: text/plain") && head.contains("notes.txt"), "{head}");
        assert_eq!(content, "some \r\n--bytes\r\n");
        assert_eq!(parts[3], "--\r\n");
        for path in ["media/download/none", "media/download/%2e%2e", "media/thumbnail/none?width=1&height=1"] {
            assert_refused(there.get(&here, path).await, 404, "M_NOT_FOUND");
        }
        assert_refused(there.get(&here, "media/thumbnail/none?width=1").await, 400, "M_MISSING_PARAM");
    });
}

//! Calls, as clients ask for them: where, with which tokens, and what is left behind.

use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use calls::{
    CallAnswer, CallError, CallsConfig, Grant, LegStatistics, LiveLeg, MediaServer, OpenIdProof, RemoteCalls,
    RemoteSeat, TurnCredentials, TurnServer,
};
use http::{Method, Request};
use serde_json::{Value, json};
use spec::ids::{ServerName, UserId};

use crate::server::{Client, Reply, Server, eventually, no_limits, run};

const UNSTABLE: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";
const STABLE: &str = "/_matrix/client/v1/rtc/livekit";
const SFU: &str = "wss://hs.test/_rtc/sfu";
const SLOT: &str = "m.call#ROOM";

/// A media server whose tokens are the grants, a TURN server, and one other homeserver, `far.test`.
#[derive(Default)]
pub struct FakeMedia {
    disconnected: Mutex<Vec<String>>,
    asked: Mutex<Vec<RemoteSeat>>,
}

impl MediaServer for FakeMedia {
    fn token(&self, grant: &Grant) -> String {
        let Grant { room, identity, can_publish, may_create, .. } = grant;
        json!({"room": room, "sub": identity, "publish": can_publish, "create": may_create}).to_string()
    }

    fn disconnect(&self, _: &str, identity: &str) {
        self.disconnected.lock().unwrap().push(identity.to_owned());
    }

    fn participants(&self, _: &str) -> Vec<LiveLeg> {
        Vec::new()
    }

    fn mute(&self, _: &str, _: &str, _: &str) {}
}

impl TurnServer for FakeMedia {
    fn credentials(&self, user_key: &str, lifetime: Duration) -> TurnCredentials {
        let uris = vec!["turn:hs.test:3478?transport=udp".to_owned()];
        TurnCredentials { username: format!("1:{user_key}"), password: "secret".to_owned(), uris, ttl: lifetime }
    }
}

impl RemoteCalls for FakeMedia {
    fn openid_user<'a>(&'a self, server: &'a ServerName, proof: &'a OpenIdProof) -> CallAnswer<'a, UserId> {
        // Its tokens are the user ids.
        let user = UserId::parse(&proof.access_token);
        Box::pin(async move { user.map_err(|_| CallError::RemoteUnavailable(server.as_str().to_owned())) })
    }

    fn token<'a>(&'a self, server: &'a ServerName, wanted: &'a RemoteSeat) -> CallAnswer<'a, String> {
        self.asked.lock().unwrap().push(wanted.clone());
        let refused = |status, errcode: &str| CallError::RemoteRefused {
            status,
            errcode: errcode.to_owned(),
            message: "no".to_owned(),
        };
        let result = match wanted.url.as_str() {
            "wss://far.test/forbidden" => Err(refused(403, "M_FORBIDDEN")),
            "wss://far.test/broken" => Err(refused(500, "M_UNKNOWN")),
            "wss://far.test/down" => Err(CallError::RemoteUnavailable(server.as_str().to_owned())),
            _ => Ok("token of far.test".to_owned()),
        };
        Box::pin(async { result })
    }
}

async fn openid(user: &Client<'_>) -> Value {
    user.post(&format!("user/{}/openid/request_token", user.user_id), json!({})).await.ok()
}

/// What a token says that the fake media server made.
fn grant(reply: &Reply) -> Value {
    serde_json::from_str(reply.ok()["jwt"].as_str().unwrap()).unwrap()
}

async fn member(user: &Client<'_>, room: &str) -> Value {
    json!({
        "room_id": room, "slot_id": SLOT, "openid_token": openid(user).await,
        "member": {"id": "m1", "claimed_user_id": user.user_id, "claimed_device_id": user.device_id},
    })
}

/// Schedules a leave and answers its id.
async fn schedule(user: &Client<'_>, room: &str) -> String {
    let key = format!("_{}_{}_m.call", user.user_id, user.device_id);
    let path = format!("rooms/{room}/state/org.matrix.msc3401.call.member/{key}?org.matrix.msc4140.delay=3600000");
    user.put(&path, json!({})).await.ok()["delay_id"].as_str().unwrap().to_owned()
}

#[test]
fn clients_find_the_media_server() {
    run(async |server| {
        let alice = server.register("alice").await;
        let guest = server.client(&server.post("/_matrix/client/v3/register?kind=guest", json!({})).await.ok());
        let transport = json!({"type": "livekit", "livekit_service_url": "https://hs.test/_rtc/jwt"});
        for path in ["/_matrix/client/v1/rtc/transports", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"]
        {
            assert_eq!(alice.get(path).await.ok(), json!({"rtc_transports": [transport]}));
            guest.get(path).await.ok();
            server.get(path).await.refused(401, "M_MISSING_TOKEN");
        }
        let well_known = server.get("/.well-known/matrix/client").await.ok();
        assert_eq!(well_known["org.matrix.msc4143.rtc_foci"], json!([transport]));
        assert_eq!(server.get("/_matrix/client/versions").await.ok()["unstable_features"]["org.matrix.msc4143"], true);
        let turn = alice.get("voip/turnServer").await.ok();
        let expected = json!({
            "username": "1:@alice:hs.test", "password": "secret", "uris": ["turn:hs.test:3478?transport=udp"],
            "ttl": 86400,
        });
        assert_eq!(turn, expected);
        assert_eq!(server.get("/_rtc/jwt/healthz").await.status, 200);
        let head = server.call(Method::HEAD, "/_rtc/jwt/healthz", None, Body::empty()).await;
        assert_eq!((head.status.as_u16(), head.bytes.len()), (200, 0));
    });
}

#[test]
fn where_calls_are_off_nothing_looks_like_them() {
    run(async |_| {
        let server = Server::start_with(no_limits(), CallsConfig { enabled: false, ..CallsConfig::default() });
        let alice = server.register("alice").await;
        alice.get("/_matrix/client/v1/rtc/transports").await.refused(404, "M_UNRECOGNIZED");
        let well_known = server.get("/.well-known/matrix/client").await.ok();
        assert_eq!(well_known, json!({"m.homeserver": {"base_url": "https://hs.test"}}));
        assert_eq!(server.get("/_matrix/client/versions").await.ok()["unstable_features"]["org.matrix.msc4143"], false);
        // Clients look without a token whether leaves can be handed over, and take anything but 404 for a yes.
        for path in ["/_rtc/jwt/delegate_delayed_leave", &format!("{UNSTABLE}/delegate_delayed_leave")] {
            server.post(path, json!({})).await.refused(404, "M_UNRECOGNIZED");
        }
        for path in ["/_rtc/jwt/sfu/get", "/_rtc/jwt/get_token", &format!("{STABLE}/get_token")] {
            alice.post(path, json!({})).await.refused(404, "M_UNRECOGNIZED");
        }
        server.get("/_rtc/jwt/healthz").await.refused(404, "M_UNRECOGNIZED");
        // Without an address there is nothing to offer, which is an answer.
        let nowhere = CallsConfig { public_url: Some("nowhere".to_owned()), ..CallsConfig::default() };
        let server = Server::start_with(no_limits(), nowhere);
        let alice = server.register("alice").await;
        let transports = alice.get("/_matrix/client/v1/rtc/transports").await.ok();
        assert_eq!(transports, json!({"rtc_transports": []}));
        server.post("/_rtc/jwt/delegate_delayed_leave", json!({})).await.refused(404, "M_UNRECOGNIZED");
    });
}

#[test]
fn all_generations_of_clients_meet_in_one_call() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("rooms/{room}/join"), json!({})).await.ok();
        let request = json!({"room": room, "openid_token": openid(&alice).await, "device_id": alice.device_id});
        let reply = server.post("/_rtc/jwt/sfu/get", request).await;
        assert_eq!(reply.ok()["url"], SFU);
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
        let first = grant(&reply);
        assert_eq!(first["sub"], format!("{}:{}", alice.user_id, alice.device_id));
        let reply = server.post("/_rtc/jwt/get_token", member(&bob, &room).await).await;
        assert_eq!(reply.ok()["url"], SFU);
        let second = grant(&reply);
        let mut request = json!({"url": SFU, "room_id": room, "slot_id": SLOT, "member_id": "m1"});
        let third = grant(&bob.post(&format!("{STABLE}/get_token"), request.clone()).await);
        assert_eq!(first["room"], second["room"]);
        assert_eq!(second["room"], third["room"]);
        assert_ne!(second["sub"], third["sub"], "the device is part of one name and not of the other");
        // As clients of the time between say it.
        request["member"] = json!({"id": "m1"});
        request.as_object_mut().unwrap().remove("member_id");
        assert_eq!(grant(&bob.post(&format!("{UNSTABLE}/get_token"), request.clone()).await), third);
        request["member"] = json!({"id": "m1", "claimed_device_id": bob.device_id});
        request["server_name"] = "hs.test".into();
        assert_eq!(grant(&bob.post(&format!("{UNSTABLE}/get_token"), request).await), second);
    });
}

#[test]
fn the_service_asks_for_proof() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let get = async |body: Value| server.post("/_rtc/jwt/sfu/get", body).await;
        let token = openid(&alice).await;
        let good = json!({"room": room, "openid_token": token, "device_id": alice.device_id});
        for key in ["room", "openid_token", "device_id"] {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(key);
            get(body).await.refused(400, "M_BAD_JSON");
        }
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        get(with("room", "no room".into())).await.refused(400, "M_BAD_JSON");
        get(with("device_id", "".into())).await.refused(400, "M_BAD_JSON");
        get(with("delay_id", "x".into())).await.refused(400, "M_BAD_JSON");
        get(with("device_id", "UNKNOWN".into())).await.refused(403, "M_FORBIDDEN");
        let forged = json!({"access_token": "x", "token_type": "Bearer", "matrix_server_name": "hs.test"});
        get(with("openid_token", forged)).await.refused(401, "M_UNAUTHORIZED");
        get(with("openid_token", openid(&bob).await)).await.refused(403, "M_FORBIDDEN");
        // Another server may speak for its own users only.
        let far = |user: &str| json!({"access_token": user, "token_type": "Bearer", "matrix_server_name": "far.test"});
        get(with("openid_token", far("@alice:hs.test"))).await.refused(401, "M_UNAUTHORIZED");
        get(with("openid_token", far("down"))).await.refused(401, "M_UNAUTHORIZED");
        get(with("openid_token", far("@carol:far.test"))).await.refused(403, "M_FORBIDDEN");
        server.call(Method::POST, "/_rtc/jwt/sfu/get", None, "{").await.refused(400, "M_NOT_JSON");
        server.get("/_rtc/jwt/sfu/get").await.refused(405, "M_UNRECOGNIZED");
        let options = server.call(Method::OPTIONS, "/_rtc/jwt/sfu/get", None, Body::empty()).await;
        assert!(options.status.is_success());
        let mut claimed = member(&alice, &room).await;
        claimed["member"]["claimed_user_id"] = bob.user_id.clone().into();
        server.post("/_rtc/jwt/get_token", claimed).await.refused(401, "M_UNAUTHORIZED");
        let mut nobody = member(&alice, &room).await;
        nobody["member"].as_object_mut().unwrap().remove("id");
        server.post("/_rtc/jwt/get_token", nobody).await.refused(400, "M_BAD_JSON");
        get(good.clone()).await.ok();
        server.clock.advance(Duration::from_secs(3600));
        get(good).await.refused(401, "M_UNAUTHORIZED");
        let large = "x".repeat(20_000);
        let request = Request::post("/_rtc/jwt/sfu/get").body(Body::from(large)).unwrap();
        server.send(request).await.refused(413, "M_TOO_LARGE");
    });
}

#[test]
fn users_of_other_servers_join_what_is_open() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
        let carol = UserId::parse("@carol:far.test").unwrap();
        server.rooms.intern_user(&carol).await.unwrap();
        let change = rooms::MembershipChange {
            sender: carol.clone(),
            target: carol,
            membership: rooms::Membership::Join,
            content: serde_json::Map::new(),
        };
        let id = spec::ids::RoomId::parse(&room).unwrap();
        server.rooms.change_membership(&id, change).await.unwrap();
        let token = json!({"access_token": "@carol:far.test", "matrix_server_name": "far.test"});
        let request = json!({"room": room, "openid_token": token, "device_id": "ANY"});
        let of_carol = grant(&server.post("/_rtc/jwt/sfu/get", request.clone()).await);
        assert_eq!((&of_carol["publish"], &of_carol["create"]), (&json!(true), &json!(false)));
        let own = json!({"room": room, "openid_token": openid(&alice).await, "device_id": alice.device_id});
        assert_eq!(grant(&server.post("/_rtc/jwt/sfu/get", own).await)["create"], true);
        assert_eq!(grant(&server.post("/_rtc/jwt/sfu/get", request).await)["create"], true);
    });
}

#[test]
fn tokens_for_other_media_servers_come_from_their_homeserver() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let ask = async |user: &Client<'_>, url: &str| {
            let body =
                json!({"server_name": "far.test", "url": url, "room_id": room, "slot_id": SLOT, "member_id": "m"});
            user.post(&format!("{STABLE}/get_token"), body).await
        };
        assert_eq!(ask(&alice, "wss://far.test/sfu").await.ok(), json!({"jwt": "token of far.test"}));
        ask(&alice, "wss://far.test/forbidden").await.refused(403, "M_FORBIDDEN");
        ask(&alice, "wss://far.test/broken").await.refused(502, "M_UNKNOWN");
        ask(&alice, "wss://far.test/down").await.refused(502, "M_UNKNOWN");
        let asked = server.call_media.asked.lock().unwrap().len();
        ask(&bob, "wss://far.test/sfu").await.refused(403, "M_FORBIDDEN");
        assert_eq!(server.call_media.asked.lock().unwrap().len(), asked, "no server is asked for a stranger");
        let body = json!({"url": "wss://far.test/sfu", "room_id": room, "slot_id": SLOT, "member_id": "m"});
        alice.post(&format!("{STABLE}/get_token"), body).await.refused(400, "M_INVALID_PARAM");
        let body = json!({"url": SFU, "room_id": room, "slot_id": SLOT});
        alice.post(&format!("{STABLE}/get_token"), body).await.refused(400, "M_BAD_JSON");
        let body = json!({"url": SFU, "room_id": "!unknown:hs.test", "slot_id": SLOT, "member_id": "m"});
        alice.post(&format!("{STABLE}/get_token"), body).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn leaves_that_are_handed_over_are_sent_when_their_participant_is_gone() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let outcome = async |id: &str| {
            let path = format!("/_matrix/client/v1/delayed_events/{id}");
            alice.get(&path).await.ok()["finalised"]["event_id"].is_string()
        };
        // By all ways there are.
        let mut ways = Vec::new();
        for way in ["sfu/get", "get_token", "delegate_delayed_leave", "client"] {
            let id = schedule(&alice, &room).await;
            let mut of_member = member(&alice, &room).await;
            of_member["delay_id"] = id.clone().into();
            of_member["delay_timeout"] = 3_600_000.into();
            of_member["delay_cs_api_url"] = "https://hs.test".into();
            let mut of_device = of_member.clone();
            of_device["room"] = room.clone().into();
            of_device["device_id"] = alice.device_id.clone().into();
            let token = match way {
                "sfu/get" => grant(&server.post("/_rtc/jwt/sfu/get", of_device).await),
                "get_token" => grant(&server.post("/_rtc/jwt/get_token", of_member).await),
                "delegate_delayed_leave" => {
                    of_member["member"]["id"] = "m2".into();
                    let token = grant(
                        &server
                            .post("/_rtc/jwt/get_token", {
                                let mut only = of_member.clone();
                                only.as_object_mut().unwrap().retain(|key, _| !key.starts_with("delay"));
                                only
                            })
                            .await,
                    );
                    of_member["openid_token"] = openid(&alice).await;
                    let reply = server.post("/_rtc/jwt/delegate_delayed_leave", of_member).await;
                    assert_eq!(reply.ok(), json!({}));
                    token
                }
                _ => {
                    let mut body = json!({"url": SFU, "room_id": room, "slot_id": SLOT, "member_id": "m3"});
                    let token = grant(&alice.post(&format!("{STABLE}/get_token"), body.clone()).await);
                    body["delay_id"] = id.clone().into();
                    let reply = alice.post(&format!("{STABLE}/delegate_delayed_leave"), body.clone()).await;
                    assert_eq!(reply.ok(), json!({}));
                    body.as_object_mut().unwrap().remove("url");
                    alice.post(&format!("{UNSTABLE}/delegate_delayed_leave"), body).await.ok();
                    token
                }
            };
            ways.push((id, token["room"].as_str().unwrap().to_owned(), token["sub"].as_str().unwrap().to_owned()));
        }
        for (_, call, identity) in &ways {
            server.call_events.joined(call, identity);
        }
        eventually("what calls tell", async || {
            server.calls.overview().unwrap().first().is_some_and(|call| call.legs.len() == 4)
        })
        .await;
        for (id, call, identity) in &ways {
            assert!(!outcome(id).await);
            server.call_events.left(call, identity, LegStatistics::default());
            eventually("what calls tell", async || {
                server.clock.advance(Duration::from_secs(1));
                outcome(id).await
            })
            .await;
        }
    });
}

#[test]
fn only_ones_own_leaves_are_handed_over() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("rooms/{room}/join"), json!({})).await.ok();
        let of_bob = schedule(&bob, &room).await;
        for id in ["unknown", &of_bob] {
            let body = json!({"room_id": room, "slot_id": SLOT, "member_id": "m", "delay_id": id});
            alice.post(&format!("{STABLE}/delegate_delayed_leave"), body).await.refused(400, "M_INVALID_PARAM");
            let mut body = member(&alice, &room).await;
            body["delay_id"] = id.into();
            body["delay_timeout"] = 1000.into();
            let reply = server.post("/_rtc/jwt/delegate_delayed_leave", body.clone()).await;
            reply.refused(400, "M_INVALID_PARAM");
            // With this code clients ask again, and look after the event themselves.
            server.post("/_rtc/jwt/get_token", body).await.refused(400, "M_BAD_JSON");
        }
        let body = member(&alice, &room).await;
        server.post("/_rtc/jwt/delegate_delayed_leave", body).await.refused(400, "M_BAD_JSON");
        let body = json!({
            "url": "wss://far.test", "room_id": room, "slot_id": SLOT, "member_id": "m",
            "delay_id": schedule(&alice, &room).await,
        });
        alice.post(&format!("{STABLE}/delegate_delayed_leave"), body).await.refused(400, "M_INVALID_PARAM");
        // What clients look at first: that the endpoints are there.
        for path in ["/_rtc/jwt/delegate_delayed_leave", &format!("{UNSTABLE}/delegate_delayed_leave")] {
            assert_ne!(server.post(path, json!({})).await.status, 404);
        }
    });
}

#[test]
fn who_is_removed_or_logs_out_is_put_out_of_the_call() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        bob.post(&format!("rooms/{room}/join"), json!({})).await.ok();
        let mut identities = Vec::new();
        for user in [&alice, &bob] {
            let body = json!({"url": SFU, "room_id": room, "slot_id": SLOT, "member_id": "m"});
            let token = grant(&user.post(&format!("{STABLE}/get_token"), body).await);
            let (call, identity) = (token["room"].as_str().unwrap(), token["sub"].as_str().unwrap());
            server.call_events.joined(call, identity);
            identities.push(identity.to_owned());
        }
        eventually("what calls tell", async || {
            server.calls.overview().unwrap().first().is_some_and(|call| call.legs.len() == 2)
        })
        .await;
        let gone = |identity: &String| server.call_media.disconnected.lock().unwrap().contains(identity);
        alice.post(&format!("rooms/{room}/kick"), json!({"user_id": bob.user_id})).await.ok();
        eventually("what calls tell", async || gone(&identities[1])).await;
        assert!(!gone(&identities[0]));
        // The device of the session, which no client has named.
        alice.post("logout", json!({})).await.ok();
        eventually("what calls tell", async || gone(&identities[0])).await;
    });
}

//! Application services as callers: identity assertion, registration, devices, namespaces, third-party networks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Method;
use runtime::config::RateLimit;
use serde_json::{Value, json};
use spec::ids::{RoomAlias, UserId};
use users::{
    AppService, AppServiceAnswer, AppServiceFailure, AppServiceQueries, ClaimedKeys, QueriedKeys, ThirdPartyQuestion,
};

use crate::server::{Reply, Server, no_limits, run, run_with};

/// What the services of a test answer, by what is asked of which.
#[derive(Default)]
pub struct Services {
    answers: Mutex<HashMap<String, Result<Value, AppServiceFailure>>>,
    asked: Mutex<Vec<String>>,
}

impl Services {
    fn lay_down(&self, question: &str, answer: Result<Value, AppServiceFailure>) {
        self.answers.lock().unwrap().insert(question.to_owned(), answer);
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn ask<'a, T: Send + 'a>(
        &self,
        question: String,
        read: impl FnOnce(Option<Value>) -> T,
    ) -> AppServiceAnswer<'a, T> {
        let answer = self.answers.lock().unwrap().get(&question).cloned().transpose();
        self.asked.lock().unwrap().push(question);
        Box::pin(std::future::ready(answer.map(read)))
    }
}

impl AppServiceQueries for Services {
    fn ping<'a>(&'a self, service: &'a Arc<AppService>, id: Option<&'a str>) -> AppServiceAnswer<'a, Duration> {
        self.ask(format!("{} ping {}", service.id(), id.unwrap_or("-")), |_| Duration::from_millis(17))
    }

    fn has_user<'a>(&'a self, service: &'a Arc<AppService>, user: &'a UserId) -> AppServiceAnswer<'a, bool> {
        self.ask(format!("{} user {user}", service.id()), |answer| answer.is_some())
    }

    fn has_alias<'a>(&'a self, service: &'a Arc<AppService>, alias: &'a RoomAlias) -> AppServiceAnswer<'a, bool> {
        self.ask(format!("{} alias {alias}", service.id()), |answer| answer.is_some())
    }

    fn third_party<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        question: &'a ThirdPartyQuestion,
    ) -> AppServiceAnswer<'a, Option<Value>> {
        self.ask(format!("{} {question:?}", service.id()), |answer| answer)
    }

    fn claim_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        _: &'a BTreeMap<UserId, BTreeMap<String, String>>,
    ) -> AppServiceAnswer<'a, ClaimedKeys> {
        self.ask(format!("{} claim", service.id()), |answer| {
            answer.map(|answer| serde_json::from_value(answer).unwrap()).unwrap_or_default()
        })
    }

    fn query_keys<'a>(
        &'a self,
        service: &'a Arc<AppService>,
        _: &'a BTreeMap<UserId, Vec<String>>,
    ) -> AppServiceAnswer<'a, QueriedKeys> {
        self.ask(format!("{} query", service.id()), |answer| {
            answer.map(|answer| serde_json::from_value(answer).unwrap()).unwrap_or_default()
        })
    }
}

const IRC: &str = r#"
id: irc
url: http://irc.test/
as_token: irc-as-token
hs_token: irc-hs-token
sender_localpart: _irc_bot
rate_limited: false
protocols: [irc]
org.matrix.msc3202: true
namespaces:
  users: [{exclusive: true, regex: '@_irc_.*'}]
  aliases: [{exclusive: true, regex: '#_irc_.*'}]
"#;

const PUPPETS: &str = r"
id: puppets
url: null
as_token: puppets-as-token
hs_token: puppets-hs-token
sender_localpart: puppeteer
protocols: [irc]
namespaces:
  users: [{exclusive: false, regex: '@.*:hs\.test'}]
";

/// A service that calls, as one of its users unless it is the sender.
struct Service<'a> {
    server: &'a Server,
    token: &'static str,
}

impl Service<'_> {
    async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let path = if path.starts_with("/_") { path.to_owned() } else { format!("/_matrix/client/v3/{path}") };
        self.server.call(method, &path, Some(self.token), body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Body::empty()).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body.to_string()).await
    }

    async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, body.to_string()).await
    }

    async fn register(&self, name: &str) -> Reply {
        let kind = "m.login.application_service";
        self.post("register", json!({"type": kind, "username": name, "inhibit_login": true})).await
    }
}

async fn with_services(server: &Server) -> (Service<'_>, Service<'_>) {
    server.users.add_appservice(IRC).await.unwrap();
    server.users.add_appservice(PUPPETS).await.unwrap();
    (Service { server, token: "irc-as-token" }, Service { server, token: "puppets-as-token" })
}

#[test]
fn services_act_as_their_sender_and_as_users_of_their_namespaces() {
    run(async |server| {
        let (irc, puppets) = with_services(&server).await;
        let alice = server.register("alice").await;
        let me = irc.get("account/whoami").await.ok();
        assert_eq!(me, json!({"user_id": "@_irc_bot:hs.test", "is_guest": false}));
        irc.get("account/whoami?user_id=@_irc_nobody:hs.test").await.refused(403, "M_FORBIDDEN");
        irc.register("_irc_bob").await.ok();
        assert_eq!(irc.get("account/whoami?user_id=@_irc_bob:hs.test").await.ok()["user_id"], "@_irc_bob:hs.test");
        irc.get("account/whoami?user_id=@alice:hs.test").await.refused(403, "M_FORBIDDEN");
        irc.get("account/whoami?user_id=@_irc_bob:elsewhere.test").await.refused(403, "M_FORBIDDEN");
        irc.get("account/whoami?user_id=nonsense").await.refused(400, "M_INVALID_PARAM");
        assert_eq!(puppets.get("account/whoami?user_id=@alice:hs.test").await.ok()["user_id"], alice.user_id);
        // For everybody else it is an argument like any other.
        let other = alice.get("account/whoami?user_id=@_irc_bob:hs.test&device_id=X").await.ok();
        assert_eq!((&other["user_id"], &other["device_id"]), (&json!(alice.user_id), &json!(alice.device_id)));
    });
}

#[test]
fn users_of_services_join_rooms_elsewhere() {
    run(async |server| {
        let (irc, _) = with_services(&server).await;
        irc.register("_irc_bob").await.ok();
        *server.elsewhere.accepts.lock().unwrap() = true;
        let path = "join/!room:far.test?via=far.test&user_id=@_irc_bob:hs.test";
        assert_eq!(irc.post(path, json!({})).await.ok()["room_id"], "!room:far.test");
        assert_eq!(server.elsewhere.take_asked(), ["join @_irc_bob:hs.test !room:far.test far.test"]);
    });
}

#[test]
fn services_act_as_devices_that_they_made() {
    run(async |server| {
        let (irc, _) = with_services(&server).await;
        irc.register("_irc_bob").await.ok();
        let bob = "user_id=@_irc_bob:hs.test";
        irc.get(&format!("account/whoami?{bob}&device_id=D")).await.refused(400, "M_UNKNOWN_DEVICE");
        irc.get("account/whoami?device_id=D").await.refused(400, "M_UNKNOWN_DEVICE");
        let made = irc.put(&format!("devices/D?{bob}"), json!({"display_name": "first"})).await;
        assert_eq!(made.status, 201);
        assert_eq!(irc.put(&format!("devices/D?{bob}"), json!({"display_name": "again"})).await.status, 200);
        for name in ["device_id", "org.matrix.msc3202.device_id"] {
            assert_eq!(irc.get(&format!("account/whoami?{bob}&{name}=D")).await.ok()["device_id"], "D");
        }
        let keys = json!({"one_time_keys": {"curve25519:A": "key"}});
        irc.post(&format!("keys/upload?{bob}"), keys.clone()).await.refused(400, "M_MISSING_PARAM");
        let counts = irc.post(&format!("keys/upload?{bob}&device_id=D"), keys).await.ok();
        assert_eq!(counts["one_time_key_counts"]["curve25519"], 1);
        assert_eq!(irc.get(&format!("devices/D?{bob}")).await.ok()["display_name"], "again");
        // Without any proof besides the token.
        irc.call(Method::DELETE, &format!("devices/D?{bob}"), "{}").await.ok();
        irc.get(&format!("devices/D?{bob}")).await.refused(404, "M_NOT_FOUND");
        let alice = server.register("alice").await;
        alice.put("devices/NEW", json!({"display_name": "x"})).await.refused(404, "M_NOT_FOUND");
        assert_eq!(alice.delete(&format!("devices/{}", alice.device_id), json!({})).await.status, 401);
    });
}

#[test]
fn services_sync_as_users_without_a_device() {
    run(async |server| {
        let (irc, _) = with_services(&server).await;
        irc.register("_irc_bob").await.ok();
        irc.register("_irc_eve").await.ok();
        let created = irc.post("createRoom?user_id=@_irc_bob:hs.test", json!({})).await.ok();
        let room = created["room_id"].as_str().unwrap().to_owned();
        let sliding = "/_matrix/client/v4/sync?user_id=";
        let body = json!({"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}});
        let of_bob = irc.post(&format!("{sliding}@_irc_bob:hs.test"), body.clone()).await.ok();
        assert!(of_bob["rooms"][&room].is_object(), "{of_bob}");
        let of_eve = irc.post(&format!("{sliding}@_irc_eve:hs.test"), body.clone()).await.ok();
        assert_eq!(of_eve["rooms"], json!({}));
        // Bob's connection is none of Eve's, although neither has a device.
        let pos = of_bob["pos"].as_str().unwrap();
        let stolen = irc.post(&format!("{sliding}@_irc_eve:hs.test&pos={pos}"), body).await;
        assert_ne!(stolen.status, 200, "{stolen:?}");
        let synced = irc.get("sync?user_id=@_irc_bob:hs.test").await.ok();
        assert!(synced["rooms"]["join"][&room].is_object());
    });
}

#[test]
fn only_services_register_and_log_in_as_services() {
    run(async |server| {
        let (irc, _) = with_services(&server).await;
        let kind = "m.login.application_service";
        let body = json!({"type": kind, "username": "_irc_bob"});
        server.post("/_matrix/client/v3/register", body.clone()).await.refused(401, "M_MISSING_TOKEN");
        let path = "/_matrix/client/v3/register";
        server.call(Method::POST, path, Some("wrong"), body.to_string()).await.refused(401, "M_UNKNOWN_TOKEN");
        let session = irc.post("register", body.clone()).await.ok();
        assert_eq!(session["user_id"], "@_irc_bob:hs.test");
        assert!(server.client(&session).get("account/whoami").await.ok()["device_id"].is_string());
        irc.post("register", body).await.refused(400, "M_USER_IN_USE");
        irc.register("bob").await.refused(400, "M_EXCLUSIVE");
        let inhibited = irc.register("_irc_carol").await.ok();
        assert!(inhibited["access_token"].is_null(), "{inhibited}");
        irc.post("register", json!({"type": kind})).await.refused(400, "M_MISSING_PARAM");
        let flows = server.get("/_matrix/client/v3/login").await.ok();
        assert!(flows["flows"].as_array().unwrap().contains(&json!({"type": kind})));
        let login = |user: &str| json!({"type": kind, "identifier": {"type": "m.id.user", "user": user}});
        let session = irc.post("login", login("_irc_carol")).await.ok();
        assert_eq!(server.client(&session).get("account/whoami").await.ok()["user_id"], "@_irc_carol:hs.test");
        irc.post("login", login("@_irc_nobody:hs.test")).await.refused(403, "M_FORBIDDEN");
        let alice = server.register("alice").await;
        irc.post("login", login(&alice.user_id)).await.refused(400, "M_EXCLUSIVE");
        alice.post("login", login("_irc_carol")).await.refused(401, "M_UNKNOWN_TOKEN");
        server.post("/_matrix/client/v3/login", login("_irc_carol")).await.refused(401, "M_MISSING_TOKEN");
    });
}

#[test]
fn exclusive_namespaces_are_closed_to_others() {
    run(async |server| {
        let (irc, puppets) = with_services(&server).await;
        for name in ["_irc_mallory", "_irc_bot"] {
            let body = json!({"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}});
            server.post("/_matrix/client/v3/register", body).await.refused(400, "M_EXCLUSIVE");
            let available = format!("/_matrix/client/v3/register/available?username={name}");
            server.get(&available).await.refused(400, "M_EXCLUSIVE");
        }
        puppets.register("_irc_mallory").await.refused(400, "M_EXCLUSIVE");
        puppets.register("fine").await.ok();
        // The first account administers the server, and may more.
        server.register("admin").await;
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        let alias = "directory/room/%23_irc_x:hs.test";
        alice.put(alias, json!({"room_id": room})).await.refused(400, "M_EXCLUSIVE");
        alice.post("createRoom", json!({"room_alias_name": "_irc_x"})).await.refused(400, "M_EXCLUSIVE");
        irc.post(&format!("join/{room}"), json!({})).await.ok();
        irc.put(alias, json!({"room_id": room})).await.ok();
        irc.put("directory/room/%23other:hs.test", json!({"room_id": room})).await.refused(400, "M_EXCLUSIVE");
        alice.delete(alias, json!({})).await.refused(400, "M_EXCLUSIVE");
        irc.call(Method::DELETE, alias, Body::empty()).await.ok();
        alice.put("directory/room/%23free:hs.test", json!({"room_id": room})).await.ok();
    });
}

#[test]
fn services_choose_the_time_of_their_events() {
    run(async |server| {
        let (irc, _) = with_services(&server).await;
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({"preset": "public_chat"})).await;
        irc.post(&format!("join/{room}"), json!({})).await.ok();
        alice.post(&format!("rooms/{room}/invite"), json!({"user_id": "@_irc_bot:hs.test"})).await;
        let send = |txn: &str, ts: &str| format!("rooms/{room}/send/m.room.message/{txn}?ts={ts}");
        let time = async |reply: Reply| {
            let id = reply.ok()["event_id"].as_str().unwrap().to_owned();
            alice.get(&format!("rooms/{room}/event/{id}")).await.ok()["origin_server_ts"].clone()
        };
        let body = json!({"msgtype": "m.text", "body": "old"});
        assert_eq!(time(irc.put(&send("1", "1234"), body.clone()).await).await, 1234);
        let member = format!("rooms/{room}/state/m.room.member/@_irc_bot:hs.test?ts=99");
        let content = json!({"membership": "join", "displayname": "Bot"});
        assert_eq!(time(irc.put(&member, content).await).await, 99);
        for wrong in ["-1", "x", "9007199254740992"] {
            irc.put(&send("2", wrong), body.clone()).await.refused(400, "M_INVALID_PARAM");
        }
        assert_ne!(time(alice.put(&send("3", "1234"), body).await).await, 1234, "others have no say");
        let power = json!({"users": {&alice.user_id: 100, "@_irc_bot:hs.test": 50}});
        alice.put(&format!("rooms/{room}/state/m.room.power_levels"), power).await;
    });
}

#[test]
fn services_are_limited_only_if_they_have_to_be() {
    let mut limits = no_limits();
    limits.enabled = true;
    limits.message = RateLimit::new(0.001, 1);
    limits.registration = RateLimit::new(0.001, 1);
    run_with(limits, async |server| {
        let (irc, puppets) = with_services(&server).await;
        for name in ["_irc_a", "_irc_b", "_irc_c"] {
            irc.register(name).await.ok();
        }
        puppets.register("first").await.ok();
        puppets.register("second").await.refused(429, "M_LIMIT_EXCEEDED");
        let room = irc.post("createRoom", json!({"preset": "public_chat"})).await.ok()["room_id"].clone();
        let room = room.as_str().unwrap().to_owned();
        let join = async |service: &Service<'_>, user: &str| {
            service.post(&format!("join/{room}?user_id={user}"), json!({})).await.ok();
        };
        join(&irc, "@_irc_a:hs.test").await;
        join(&puppets, "@first:hs.test").await;
        join(&puppets, "@puppeteer:hs.test").await;
        let send = async |service: &Service<'_>, user: &str, txn: u32| {
            let path = format!("rooms/{room}/send/m.room.message/{txn}?user_id={user}");
            service.put(&path, json!({"msgtype": "m.text", "body": "x"})).await
        };
        for txn in 0..3 {
            send(&irc, "@_irc_a:hs.test", txn).await.ok();
            send(&puppets, "@puppeteer:hs.test", txn).await.ok();
        }
        send(&puppets, "@first:hs.test", 0).await.ok();
        send(&puppets, "@first:hs.test", 1).await.refused(429, "M_LIMIT_EXCEEDED");
    });
}

#[test]
fn pings_tell_what_went_wrong() {
    run(async |server| {
        let (irc, puppets) = with_services(&server).await;
        let alice = server.register("alice").await;
        let ping = "/_matrix/client/v1/appservice/irc/ping";
        let body = json!({"transaction_id": "t"});
        assert_eq!(irc.post(ping, body.clone()).await.ok(), json!({"duration_ms": 17}));
        assert_eq!(server.services.take_asked(), ["irc ping t"]);
        alice.post(ping, body.clone()).await.refused(403, "M_FORBIDDEN");
        puppets.post(ping, body.clone()).await.refused(403, "M_FORBIDDEN");
        let failures = [
            (AppServiceFailure::NoUrl, 400, "M_URL_NOT_SET"),
            (AppServiceFailure::Timeout, 504, "M_CONNECTION_TIMEOUT"),
            (AppServiceFailure::Unreachable("no".into()), 502, "M_CONNECTION_FAILED"),
            (AppServiceFailure::BadStatus { status: 403, body: "why".into() }, 502, "M_BAD_STATUS"),
        ];
        for (failure, status, errcode) in failures {
            server.services.lay_down("irc ping t", Err(failure));
            let refused = irc.post(ping, body.clone()).await.refused(status, errcode);
            if errcode == "M_BAD_STATUS" {
                assert_eq!((&refused["status"], &refused["body"]), (&json!(403), &json!("why")));
            }
        }
    });
}

#[test]
fn networks_are_described_by_services() {
    run(async |server| {
        let alice = server.register("alice").await;
        assert_eq!(alice.get("thirdparty/protocols").await.ok(), json!({}));
        alice.get("thirdparty/protocol/irc").await.refused(404, "M_NOT_FOUND");
        let (irc, _) = with_services(&server).await;
        let protocol = r#"irc Protocol("irc")"#;
        let described = json!({
            "user_fields": ["nick"], "location_fields": ["channel"], "icon": "mxc://hs.test/i", "field_types": {},
            "instances": [{"network_id": "libera", "desc": "Libera", "fields": {}}],
        });
        server.services.lay_down(protocol, Ok(described));
        let found = alice.get("thirdparty/protocol/irc").await.ok();
        assert_eq!(found["instances"][0]["instance_id"], "irc|libera");
        assert_eq!(alice.get("thirdparty/protocols").await.ok()["irc"], found);
        let question = r##"irc Locations("irc", [("channel", "#rust")])"##;
        let location = json!([{"alias": "#_irc_rust:hs.test", "protocol": "irc", "fields": {}}]);
        server.services.lay_down(question, Ok(location.clone()));
        assert_eq!(alice.get("thirdparty/location/irc?channel=%23rust").await.ok(), location);
        alice.get("thirdparty/location/irc?channel=other").await.refused(404, "M_NOT_FOUND");
        alice.get("thirdparty/user/irc?nick=x").await.refused(404, "M_NOT_FOUND");
        alice.get("thirdparty/user").await.refused(400, "M_MISSING_PARAM");
        alice.get("thirdparty/user?userid=@_irc_x:hs.test").await.refused(404, "M_NOT_FOUND");
        alice.get("thirdparty/location?alias=%23_irc_x:hs.test").await.refused(404, "M_NOT_FOUND");
        let of_alias = ThirdPartyQuestion::LocationsOf(RoomAlias::parse("#_irc_rust:hs.test").unwrap());
        server.services.lay_down(&format!("irc {of_alias:?}"), Ok(location.clone()));
        assert_eq!(alice.get("thirdparty/location?alias=%23_irc_rust:hs.test").await.ok(), location);
        let user = json!([{"userid": "@_irc_bob:hs.test", "protocol": "irc", "fields": {}}]);
        let by_fields = ThirdPartyQuestion::Users("irc".into(), vec![("nick".into(), "bob".into())]);
        let by_id = ThirdPartyQuestion::UsersOf(UserId::parse("@_irc_bob:hs.test").unwrap());
        for (question, path) in [(by_fields, "user/irc?nick=bob"), (by_id, "user?userid=@_irc_bob:hs.test")] {
            server.services.lay_down(&format!("irc {question:?}"), Ok(user.clone()));
            assert_eq!(alice.get(&format!("thirdparty/{path}")).await.ok(), user);
        }
        // Rooms are listed in the networks of the service that listed them.
        let room = irc.post("createRoom", json!({"preset": "public_chat"})).await.ok()["room_id"].clone();
        let room = room.as_str().unwrap();
        let list = format!("directory/list/appservice/libera/{room}");
        alice.put(&list, json!({"visibility": "public"})).await.refused(403, "M_FORBIDDEN");
        irc.put(&list, json!({"visibility": "public"})).await.ok();
        let search = async |body: Value| alice.post("publicRooms", body).await.ok()["chunk"].as_array().unwrap().len();
        assert_eq!(search(json!({})).await, 0);
        assert_eq!(search(json!({"third_party_instance_id": "irc|libera"})).await, 1);
        assert_eq!(search(json!({"third_party_instance_id": "irc|other"})).await, 0);
        assert_eq!(search(json!({"include_all_networks": true})).await, 1);
        irc.put(&list, json!({"visibility": "private"})).await.ok();
        assert_eq!(search(json!({"include_all_networks": true})).await, 0);
    });
}

#[test]
fn services_are_asked_for_users_aliases_and_keys_that_are_theirs() {
    run(async |server| {
        let (_irc, _) = with_services(&server).await;
        let alice = server.register("alice").await;
        server.services.take_asked();
        alice.get("directory/room/%23_irc_x:hs.test").await.refused(404, "M_NOT_FOUND");
        alice.get("profile/@_irc_bob:hs.test").await.refused(404, "M_NOT_FOUND");
        alice.get("profile/@nobody:hs.test").await.refused(404, "M_NOT_FOUND");
        let missing = "irc alias #_irc_x:hs.test";
        assert_eq!(server.services.take_asked(), [missing, "irc user @_irc_bob:hs.test"]);
        let key = json!({"@_irc_bob:hs.test": {"D": {"signed_curve25519:A": {"key": "k"}}}});
        server.services.lay_down("irc claim", Ok(key.clone()));
        let wanted = json!({"one_time_keys": {"@_irc_bob:hs.test": {"D": "signed_curve25519"}}});
        assert_eq!(alice.post("keys/claim", wanted).await.ok()["one_time_keys"], key);
        let keys = json!({"device_keys": {"@_irc_bob:hs.test": {"D": {"keys": {}}}, &alice.user_id: {"E": {}}}});
        server.services.lay_down("irc query", Ok(keys));
        let found = alice.post("keys/query", json!({"device_keys": {"@_irc_bob:hs.test": []}})).await.ok();
        assert_eq!(found["device_keys"], json!({"@_irc_bob:hs.test": {"D": {"keys": {}}}}), "of its own users only");
    });
}

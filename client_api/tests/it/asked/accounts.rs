//! Accounts, sessions and devices.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::server::run;

const LOGIN: &str = "/_matrix/client/v3/login";
const REGISTER: &str = "/_matrix/client/v3/register";

#[test]
fn a_new_password_ends_other_sessions_unless_it_is_told_not_to() {
    run(async |server| {
        let alice = server.register("alice").await;
        let pusher = |key: &str| {
            json!({
                "app_id": "com.example", "pushkey": key, "kind": "http", "app_display_name": "App", "lang": "en",
                "device_display_name": "Phone", "data": {"url": "https://push.test/_matrix/push/v1/notify"},
            })
        };
        let other = alice.other_device().await;
        alice.post("pushers/set", pusher("of this session")).await.ok();
        other.post("pushers/set", pusher("of another session")).await.ok();
        let body = json!({"new_password": "battery staple", "auth": alice.password(), "logout_devices": false});
        alice.post("account/password", body).await.ok();
        other.get("account/whoami").await.ok();
        let mut auth = alice.password();
        server.post(LOGIN, auth.clone()).await.refused(403, "M_FORBIDDEN");
        auth["password"] = "battery staple".into();
        server.post(LOGIN, auth.clone()).await.ok();
        alice.post("account/password", json!({"new_password": "correct battery", "auth": auth})).await.ok();
        alice.get("account/whoami").await.ok();
        other.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        let pushers = alice.get("pushers").await.ok();
        let keys: Vec<_> = pushers["pushers"].as_array().unwrap().iter().map(|pusher| &pusher["pushkey"]).collect();
        assert_eq!(keys, ["of this session"]);
    });
}

#[test]
fn an_account_is_deactivated_with_its_own_password_only() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        alice.put("profile/@alice:hs.test/displayname", json!({"displayname": "Alice"})).await.ok();
        assert_eq!(alice.post("account/deactivate", json!({})).await.status, 401);
        let mut wrong = alice.password();
        wrong["password"] = "wrong".into();
        let refused = alice.post("account/deactivate", json!({"auth": wrong})).await;
        assert_eq!((refused.status.as_u16(), refused.errcode().as_str()), (401, "M_FORBIDDEN"));
        assert_ne!(alice.post("account/deactivate", json!({"auth": bob.password()})).await.status, 200);
        alice.get("account/whoami").await.ok();
        alice.post("account/deactivate", json!({"auth": alice.password()})).await.ok();
        server.post(LOGIN, alice.password()).await.refused(403, "M_USER_DEACTIVATED");
        let body = json!({"username": "alice", "password": "correct horse", "auth": {"type": "m.login.dummy"}});
        server.post(REGISTER, body).await.refused(400, "M_USER_IN_USE");
    });
}

#[test]
fn logging_in_names_the_user_in_old_and_new_ways() {
    run(async |server| {
        let alice = server.register("alice").await;
        let flows = server.get(LOGIN).await.ok();
        let flows = flows["flows"].as_array().unwrap().clone();
        assert!(flows.iter().any(|flow| flow["type"] == "m.login.password"), "{flows:?}");
        for user in ["alice", "@alice:hs.test", "ALICE"] {
            let identifier = json!({"type": "m.id.user", "user": user});
            let body = json!({"type": "m.login.password", "identifier": identifier, "password": "correct horse"});
            assert_eq!(server.post(LOGIN, body).await.ok()["user_id"], "@alice:hs.test");
        }
        let old = json!({"type": "m.login.password", "user": "alice", "password": "correct horse"});
        let session = server.post(LOGIN, old).await.ok();
        assert_eq!(session["home_server"].as_str().unwrap_or("hs.test"), "hs.test");
        server.client(&session).get("account/whoami").await.ok();
        let mut named = alice.password();
        named["device_id"] = "MINE".into();
        named["initial_device_display_name"] = "Mine".into();
        assert_eq!(server.post(LOGIN, named).await.ok()["device_id"], "MINE");
        assert_eq!(alice.get("devices/MINE").await.ok()["display_name"], "Mine");
        let elsewhere = json!({"type": "m.id.user", "user": "@alice:elsewhere.test"});
        let body = json!({"type": "m.login.password", "identifier": elsewhere, "password": "correct horse"});
        server.post(LOGIN, body).await.refused(403, "M_FORBIDDEN");
        server.call(Method::POST, LOGIN, None, "no JSON").await.refused(400, "M_NOT_JSON");
        server
            .call(Method::POST, LOGIN, None, Body::from(&b"{\"type\":\"\xff\"}"[..]))
            .await
            .refused(400, "M_NOT_JSON");
    });
}

#[test]
fn names_of_accounts_have_their_grammar() {
    run(async |server| {
        let register = async |name: &str| {
            let body = json!({"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}});
            server.post(REGISTER, body).await
        };
        // Capitals become small.
        assert_eq!(register("user-UPPER").await.ok()["user_id"], "@user-upper:hs.test");
        register("user-upper").await.refused(400, "M_USER_IN_USE");
        for name in ["chrissy", "user.dot", "user_underscore", "user-dash", "user/slash", "user=equals", "1user"] {
            assert_eq!(register(name).await.ok()["user_id"], format!("@{name}:hs.test"));
        }
        for symbol in ["!", "\"", ":", "?", "\\", "@", "[", "]", "{", "|", "}", "£", "é", "\n", "'"] {
            register(&format!("user{symbol}")).await.refused(400, "M_INVALID_USERNAME");
        }
        let body = json!({"username": "loner", "password": "correct horse", "inhibit_login": true,
            "auth": {"type": "m.login.dummy"}});
        let quiet = server.post(REGISTER, body).await.ok();
        assert!(quiet.get("access_token").is_none() && quiet.get("device_id").is_none(), "{quiet}");
        server.get(&format!("{REGISTER}/available?username=un%20sinn")).await.refused(400, "M_INVALID_USERNAME");
    });
}

#[test]
fn devices_are_named_and_deleted_by_their_user() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let second = alice.other_device().await;
        let path = format!("devices/{}", second.device_id);
        alice.get("devices/unheard-of").await.refused(404, "M_NOT_FOUND");
        alice.put("devices/unheard-of", json!({"display_name": "x"})).await.refused(404, "M_NOT_FOUND");
        alice.put(&path, json!({"display_name": "Tablet"})).await.ok();
        // Without a name nothing changes.
        alice.put(&path, json!({})).await.ok();
        let device = alice.get(&path).await.ok();
        assert_eq!((&device["display_name"], &device["device_id"]), (&json!("Tablet"), &json!(second.device_id)));
        bob.get(&path).await.refused(404, "M_NOT_FOUND");
        let challenge = alice.delete(&path, json!({})).await;
        assert_eq!(challenge.status, 401);
        let session = challenge.json()["session"].clone();
        for mut auth in [bob.password(), alice.password()] {
            auth["session"] = session.clone();
            if auth["identifier"]["user"] == "@alice:hs.test" {
                auth["password"] = "wrong".into();
            }
            assert_ne!(alice.delete(&path, json!({"auth": auth})).await.status, 200);
        }
        alice.get(&path).await.ok();
        let mut auth = alice.password();
        auth["session"] = session;
        alice.delete(&path, json!({"auth": auth})).await.ok();
        alice.get(&path).await.refused(404, "M_NOT_FOUND");
        second.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    });
}

#[test]
fn logging_out_needs_a_session_and_may_end_all() {
    run(async |server| {
        let alice = server.register("alice").await;
        server.post("/_matrix/client/v3/logout", json!({})).await.refused(401, "M_MISSING_TOKEN");
        server.post("/_matrix/client/v3/logout/all", json!({})).await.refused(401, "M_MISSING_TOKEN");
        let (second, third) = (alice.other_device().await, alice.other_device().await);
        second.post("logout", json!({})).await.ok();
        second.post("logout", json!({})).await.refused(401, "M_UNKNOWN_TOKEN");
        alice.get(&format!("devices/{}", second.device_id)).await.refused(404, "M_NOT_FOUND");
        third.post("logout/all", json!({})).await.ok();
        for session in [&alice, &third] {
            session.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
        }
        assert_eq!(alice.other_device().await.get("devices").await.ok()["devices"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_transaction_is_of_its_device_also_with_another_token() {
    run(async |server| {
        let alice = server.register("alice").await;
        let mut body = alice.password();
        body["refresh_token"] = true.into();
        let session = server.post(LOGIN, body).await.ok();
        let first = server.client(&session);
        let room = first.create_room(json!({})).await;
        let event = first.say(&room, "same", "hello").await;
        let refreshed =
            server.post("/_matrix/client/v3/refresh", json!({"refresh_token": session["refresh_token"]})).await.ok();
        let mut again = first.clone();
        again.token = refreshed["access_token"].as_str().unwrap().to_owned();
        assert_eq!(again.say(&room, "same", "hello").await, event);
        assert_ne!(alice.say(&room, "same", "hello").await, event);
        // The id of the transaction is told to the device that sent it, and to no other.
        let path = format!("rooms/{room}/event/{event}");
        assert_eq!(again.get(&path).await.ok()["unsigned"]["transaction_id"], "same");
        assert_eq!(alice.get(&path).await.ok()["unsigned"].get("transaction_id"), None);
        for (client, expected) in [(&again, Some(&json!("same"))), (&alice, None)] {
            let synced = client.sync("").await;
            let timeline = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap();
            let echo = timeline.iter().find(|found| found["event_id"] == event).unwrap();
            assert_eq!(echo["unsigned"].get("transaction_id"), expected);
        }
    });
}

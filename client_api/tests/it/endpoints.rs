//! The families of endpoints that the flows do not touch.

use axum::body::Body;
use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use media::MediaConfig;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::server::{Client, Reply, Server, run};

#[test]
fn the_server_describes_itself() {
    run(async |server| {
        let versions = server.get("/_matrix/client/versions").await.ok();
        assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.11")));
        let known = server.get("/.well-known/matrix/client").await.ok();
        assert_eq!(known["m.homeserver"]["base_url"], "https://hs.test");
        let support = server.get("/.well-known/matrix/support").await.ok();
        assert_eq!(support, json!({"support_page": "https://hs.test/help"}));
        let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=";
        assert_eq!(server.get(&format!("{validity}let.me.in")).await.ok(), json!({"valid": true}));
        assert_eq!(server.get(&format!("{validity}other")).await.ok(), json!({"valid": false}));
        let alice = server.register("alice").await;
        let capabilities = alice.get("capabilities").await.ok();
        assert_eq!(capabilities["capabilities"]["m.room_versions"]["default"], "12");
    });
}

#[test]
fn scripts_register_with_the_shared_secret() {
    run(async |server| {
        let path = "/_synapse/admin/v1/register";
        let nonce = server.get(path).await.ok()["nonce"].as_str().unwrap().to_owned();
        let mut mac = Hmac::<Sha1>::new_from_slice(b"shared secret").unwrap();
        mac.update(format!("{nonce}\0carol\0correct horse\0admin").as_bytes());
        let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({"nonce": nonce, "username": "carol", "password": "correct horse", "admin": true, "mac": mac});
        let carol = server.client(&server.post(path, body.clone()).await.ok());
        assert_eq!(carol.get("admin/whois/@carol:hs.test").await.ok()["user_id"], "@carol:hs.test");
        server.post(path, body).await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn whois_tells_the_program_of_a_device() {
    run(async |server| {
        let alice = server.register("alice").await;
        let request = Request::get("/_matrix/client/v3/account/whoami")
            .header("authorization", format!("Bearer {}", alice.token))
            .header("user-agent", "Element/1.12 (Linux)");
        server.send(request.body(Body::empty()).unwrap()).await.ok();
        let whois = alice.get("admin/whois/@alice:hs.test").await.ok();
        let connection = &whois["devices"][&*alice.device_id]["sessions"][0]["connections"][0];
        assert_eq!(
            (&connection["user_agent"], &connection["ip"]),
            (&json!("Element/1.12 (Linux)"), &json!("192.0.2.1"))
        );
    });
}

#[test]
fn account_data_tags_and_filters() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let global = "user/@alice:hs.test/account_data/com.example";
        alice.get(global).await.refused(404, "M_NOT_FOUND");
        alice.put(global, json!({"a": [1, {"b": null}]})).await.ok();
        assert_eq!(alice.get(global).await.ok(), json!({"a": [1, {"b": null}]}));
        bob.get(global).await.refused(403, "M_FORBIDDEN");
        alice.put("user/@alice:hs.test/account_data/m.fully_read", json!({})).await.refused(405, "M_BAD_JSON");
        let of_room = format!("user/@alice:hs.test/rooms/{room}/account_data/com.example");
        alice.put(&of_room, json!({"x": 1})).await.ok();
        assert_eq!(alice.get(&of_room).await.ok(), json!({"x": 1}));
        alice.get("user/@alice:hs.test/rooms/nonsense/account_data/com.example").await.refused(400, "M_INVALID_PARAM");
        let tags = format!("user/@alice:hs.test/rooms/{room}/tags");
        alice.put(&format!("{tags}/m.favourite"), json!({"order": 0.5})).await.ok();
        assert_eq!(alice.get(&tags).await.ok()["tags"]["m.favourite"]["order"], 0.5);
        alice.delete(&format!("{tags}/m.favourite"), json!({})).await.ok();
        assert_eq!(alice.get(&tags).await.ok(), json!({"tags": {}}));
        let filters = "user/@alice:hs.test/filter";
        let id = alice.post(filters, json!({"room": {"timeline": {"limit": 1}}})).await.ok()["filter_id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(alice.get(&format!("{filters}/{id}")).await.ok()["room"]["timeline"]["limit"], 1);
        alice.post(filters, json!({"room": {"timeline": {"limit": "x"}}})).await.refused(400, "M_BAD_JSON");
        alice.get(&format!("{filters}/999")).await.refused(404, "M_NOT_FOUND");
        let synced = alice.get(&format!("sync?filter={id}")).await.ok();
        assert_eq!(synced["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().len(), 1);
        alice.get("sync?filter=999").await.refused(400, "M_INVALID_PARAM");
        alice.get("sync?since=nonsense").await.refused(400, "M_INVALID_PARAM");
        alice.get("sync?timeout=x").await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn push_rules_and_pushers() {
    run(async |server| {
        let alice = server.register("alice").await;
        let rules = alice.get("pushrules/").await.ok();
        assert_eq!(rules["global"], alice.get("pushrules/global/").await.ok());
        let rule = "pushrules/global/content/word";
        alice.get(rule).await.refused(404, "M_NOT_FOUND");
        alice.put(rule, json!({"actions": ["notify"]})).await.refused(400, "M_MISSING_PARAM");
        alice.put(rule, json!({"actions": ["notify"], "pattern": "cake"})).await.ok();
        assert_eq!(alice.get(rule).await.ok()["pattern"], "cake");
        alice.put(&format!("{rule}/enabled"), json!({"enabled": false})).await.ok();
        assert_eq!(alice.get(&format!("{rule}/enabled")).await.ok(), json!({"enabled": false}));
        alice.put(&format!("{rule}/actions"), json!({"actions": []})).await.ok();
        assert_eq!(alice.get(&format!("{rule}/actions")).await.ok(), json!({"actions": []}));
        alice.delete(rule, json!({})).await.ok();
        alice.delete(rule, json!({})).await.refused(404, "M_NOT_FOUND");
        alice.get("pushrules/global/nonsense/x").await.refused(400, "M_INVALID_PARAM");
        let pusher = json!({
            "app_id": "com.example", "pushkey": "key", "kind": "http", "app_display_name": "App", "lang": "en",
            "device_display_name": "Phone", "data": {"url": "https://push.test/_matrix/push/v1/notify"},
        });
        alice.post("pushers/set", pusher).await.ok();
        assert_eq!(alice.get("pushers").await.ok()["pushers"][0]["pushkey"], "key");
        alice.post("pushers/set", json!({"app_id": "com.example", "pushkey": "key", "kind": null})).await.ok();
        assert_eq!(alice.get("pushers").await.ok(), json!({"pushers": []}));
        alice
            .post("pushers/set", json!({"app_id": "a", "pushkey": "k", "kind": "http"}))
            .await
            .refused(400, "M_MISSING_PARAM");
    });
}

#[test]
fn keys_and_to_device_messages() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let keys = json!({
            "user_id": alice.user_id, "device_id": alice.device_id, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {format!("curve25519:{}", alice.device_id): "k"}, "signatures": {},
        });
        let upload = json!({"device_keys": keys, "one_time_keys": {"curve25519:AAA": "key"}});
        assert_eq!(alice.post("keys/upload", upload).await.ok()["one_time_key_counts"]["curve25519"], 1);
        let query = json!({"device_keys": {&alice.user_id: [], "@x:elsewhere.test": []}});
        let found = bob.post("keys/query", query).await.ok();
        assert_eq!(found["device_keys"][&alice.user_id][&alice.device_id]["algorithms"], keys["algorithms"]);
        assert!(found["failures"]["elsewhere.test"].is_object());
        let claim = json!({"one_time_keys": {&alice.user_id: {&alice.device_id: "curve25519"}}});
        let claimed = bob.post("keys/claim", claim.clone()).await.ok();
        assert_eq!(claimed["one_time_keys"][&alice.user_id][&alice.device_id]["curve25519:AAA"], "key");
        let claimed = bob.post("keys/claim", claim).await.ok();
        assert!(
            claimed["one_time_keys"][&alice.user_id].get(&alice.device_id).is_none_or(|keys| keys == &json!({})),
            "{claimed}"
        );
        bob.post("keys/query", json!({"device_keys": {"nonsense": []}})).await.refused(400, "M_BAD_JSON");
        let message = json!({"messages": {&alice.user_id: {"*": {"hello": 1}}}});
        for _ in 0..2 {
            bob.put("sendToDevice/com.example/txn1", message.clone()).await.ok();
        }
        let synced = alice.get("sync").await.ok();
        assert_eq!(
            synced["to_device"]["events"],
            json!([{"type": "com.example", "sender": bob.user_id, "content": {"hello": 1}}])
        );
        let from = synced["next_batch"].as_str().unwrap();
        let room = alice.create_room(json!({"invite": [bob.user_id]})).await;
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        let to = alice.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        let changes = alice.get(&format!("keys/changes?from={from}&to={to}")).await.ok();
        assert_eq!(changes, json!({"changed": [bob.user_id], "left": []}));
        bob.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
        let end = alice.get("sync").await.ok()["next_batch"].as_str().unwrap().to_owned();
        let changes = alice.get(&format!("keys/changes?from={to}&to={end}")).await.ok();
        assert_eq!(changes, json!({"changed": [], "left": [bob.user_id]}));
        alice.get("keys/changes?from=x&to=y").await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn key_backups() {
    run(async |server| {
        let alice = server.register("alice").await;
        alice.get("room_keys/version").await.refused(404, "M_NOT_FOUND");
        let backup = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "k"}});
        let version = alice.post("room_keys/version", backup).await.ok()["version"].as_str().unwrap().to_owned();
        let key =
            json!({"first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": {"a": 1}});
        let path = format!("room_keys/keys/!r:hs.test/session?version={version}");
        assert_eq!(alice.put(&path, key.clone()).await.ok()["count"], 1);
        assert_eq!(alice.get(&path).await.ok(), key);
        let all = alice.get(&format!("room_keys/keys?version={version}")).await.ok();
        assert_eq!(all["rooms"]["!r:hs.test"]["sessions"]["session"], key);
        alice.put("room_keys/keys/!r:hs.test/session", key.clone()).await.refused(400, "M_MISSING_PARAM");
        let newer = alice.post("room_keys/version", json!({"algorithm": "x", "auth_data": {}})).await.ok();
        assert_eq!(
            alice.put(&path, key).await.refused(403, "M_WRONG_ROOM_KEYS_VERSION")["current_version"],
            newer["version"]
        );
        assert_eq!(alice.delete(&path, json!({})).await.ok()["count"], 0);
        alice.delete(&format!("room_keys/version/{version}"), json!({})).await.ok();
        alice.get(&format!("room_keys/version/{version}")).await.refused(404, "M_NOT_FOUND");
        alice.get("room_keys/version/nonsense").await.refused(404, "M_NOT_FOUND");
    });
}

async fn relate(alice: &Client<'_>, room: &str, txn: &str, relates: Value) -> Reply {
    let content = json!({"msgtype": "m.text", "body": "x", "m.relates_to": relates, "m.new_content": {"body": "y"}});
    alice.put(&format!("rooms/{room}/send/m.room.message/{txn}"), content).await
}

#[test]
fn relations_threads_and_context() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let root = alice.say(&room, "root", "root").await;
        let thread = json!({"rel_type": "m.thread", "event_id": root});
        let reply = relate(&alice, &room, "1", thread).await.ok()["event_id"].clone();
        let edit =
            relate(&alice, &room, "2", json!({"rel_type": "m.replace", "event_id": root})).await.ok()["event_id"]
                .clone();
        let relations = format!("/_matrix/client/v1/rooms/{room}/relations/{root}");
        let all = alice.get(&relations).await.ok();
        assert_eq!(all["chunk"].as_array().unwrap().len(), 2);
        let replies = alice.get(&format!("{relations}/m.thread")).await.ok();
        assert_eq!(replies["chunk"].as_array().unwrap().len(), 1);
        let threaded = alice.get(&format!("{relations}/m.thread/m.room.message?dir=f&limit=1")).await.ok();
        assert_eq!(threaded["chunk"][0]["event_id"], reply);
        assert!(threaded.get("next_batch").is_none(), "{threaded}");
        let threads = alice.get(&format!("/_matrix/client/v1/rooms/{room}/threads")).await.ok();
        assert_eq!(threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 1);
        assert_eq!(threads["chunk"][0]["unsigned"]["m.relations"]["m.replace"]["event_id"], edit);
        let context = alice.get(&format!("rooms/{room}/context/{root}?limit=4")).await.ok();
        assert_eq!(context["event"]["event_id"], root);
        assert_eq!(context["events_after"][0]["event_id"], reply);
        assert_eq!(context["events_before"].as_array().unwrap().len(), 2);
        assert!(context["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.member"));
        let near = alice.get(&format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?dir=f&ts=0")).await.ok();
        assert!(near["event_id"].is_string());
        alice.get(&format!("rooms/{room}/context/$nothing")).await.refused(404, "M_NOT_FOUND");
        alice.get(&format!("rooms/{room}/event/$nothing")).await.refused(404, "M_NOT_FOUND");
        alice.get("rooms/!unknown:hs.test/event/$nothing").await.refused(404, "M_NOT_FOUND");
    });
}

#[test]
fn receipts_typing_and_presence() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({"invite": [bob.user_id]})).await;
        let event = alice.say(&room, "1", "hello").await;
        let receipt = format!("rooms/{room}/receipt/m.read/{event}");
        bob.post(&receipt, json!({})).await.refused(403, "M_FORBIDDEN");
        bob.post(&format!("join/{room}"), json!({})).await.ok();
        bob.post(&receipt, json!({"thread_id": ""})).await.refused(400, "M_INVALID_PARAM");
        bob.post(&receipt, json!({"thread_id": "x".repeat(2_000)})).await.refused(400, "M_INVALID_PARAM");
        bob.post(&receipt, json!({})).await.ok();
        bob.post(&format!("rooms/{room}/receipt/m.unknown/{event}"), json!({})).await.refused(400, "M_INVALID_PARAM");
        bob.post(&format!("rooms/{room}/read_markers"), json!({"m.fully_read": event, "m.read.private": event}))
            .await
            .ok();
        bob.put(&format!("rooms/{room}/typing/{}", bob.user_id), json!({"typing": true, "timeout": 5000})).await.ok();
        bob.put(&format!("rooms/{room}/typing/{}", alice.user_id), json!({"typing": true}))
            .await
            .refused(403, "M_FORBIDDEN");
        let synced = alice.get("sync").await.ok();
        let ephemeral = synced["rooms"]["join"][&room]["ephemeral"]["events"].as_array().unwrap();
        let receipt = ephemeral.iter().find(|event| event["type"] == "m.receipt").unwrap();
        assert!(receipt["content"][&event]["m.read"][&bob.user_id].is_object(), "{receipt}");
        assert!(receipt["content"][&event].get("m.read.private").is_none());
        let typing = ephemeral.iter().find(|event| event["type"] == "m.typing").unwrap();
        assert_eq!(typing["content"]["user_ids"], json!([bob.user_id]));
        let status = format!("presence/{}/status", bob.user_id);
        bob.put(&status, json!({"presence": "unavailable", "status_msg": "away"})).await.ok();
        assert_eq!(alice.get(&status).await.ok()["status_msg"], "away");
        bob.put(&status, json!({"presence": "nonsense"})).await.refused(400, "M_INVALID_PARAM");
        server.register("carol").await.get(&status).await.refused(403, "M_FORBIDDEN");
    });
}

#[test]
fn aliases_directory_spaces_and_upgrades() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let space = alice
            .create_room(
                json!({"creation_content": {"type": "m.space"}, "preset": "public_chat", "room_version": "11"}),
            )
            .await;
        let child = alice.create_room(json!({"preset": "public_chat", "name": "Child"})).await;
        alice.put(&format!("rooms/{space}/state/m.space.child/{child}"), json!({"via": ["hs.test"]})).await.ok();
        let hierarchy = format!("/_matrix/client/v1/rooms/{space}/hierarchy");
        let page = bob.get(&format!("{hierarchy}?limit=1")).await.ok();
        assert_eq!(page["rooms"][0]["children_state"][0]["state_key"], child);
        let next = page["next_batch"].as_str().unwrap();
        assert_eq!(bob.get(&format!("{hierarchy}?limit=1&from={next}")).await.ok()["rooms"][0]["name"], "Child");
        bob.get(&format!("{hierarchy}?limit=1&suggested_only=true&from={next}")).await.refused(400, "M_INVALID_PARAM");
        let alias = "directory/room/%23child:hs.test";
        bob.put(alias, json!({"room_id": child})).await.refused(403, "M_FORBIDDEN");
        alice.put(alias, json!({"room_id": child})).await.ok();
        alice.put(alias, json!({"room_id": child})).await.refused(409, "M_UNKNOWN");
        alice
            .put("directory/room/%23x:elsewhere.test", json!({"room_id": child}))
            .await
            .refused(400, "M_INVALID_PARAM");
        assert_eq!(alice.get(&format!("rooms/{child}/aliases")).await.ok(), json!({"aliases": ["#child:hs.test"]}));
        bob.delete(alias, json!({})).await.refused(403, "M_FORBIDDEN");
        let main = format!("rooms/{child}/state/m.room.canonical_alias");
        alice.put(&main, json!({"alias": "#child:hs.test", "alt_aliases": ["#child:hs.test"]})).await.ok();
        alice.delete(alias, json!({})).await.ok();
        assert_eq!(alice.get(&main).await.ok(), json!({"alt_aliases": []}));
        alice.get(alias).await.refused(404, "M_NOT_FOUND");
        let listing = format!("directory/list/room/{child}");
        bob.put(&listing, json!({"visibility": "public"})).await.refused(403, "M_FORBIDDEN");
        alice.put(&listing, json!({})).await.ok();
        assert_eq!(bob.get(&listing).await.ok()["visibility"], "public");
        bob.post(&format!("rooms/{space}/upgrade"), json!({"new_version": "12"})).await.refused(403, "M_FORBIDDEN");
        alice
            .post(&format!("rooms/{space}/upgrade"), json!({"new_version": "x"}))
            .await
            .refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        let new = alice.post(&format!("rooms/{space}/upgrade"), json!({"new_version": "12"})).await.ok();
        let tombstone = alice.get(&format!("rooms/{space}/state/m.room.tombstone")).await.ok();
        assert_eq!(tombstone["replacement_room"], new["replacement_room"]);
        bob.post(&format!("join/{child}"), json!({})).await.ok();
        let mutual = bob.get("/_matrix/client/v1/mutual_rooms?user_id=@alice:hs.test").await.ok();
        assert_eq!(mutual, json!({"joined": [child], "count": 1}));
        bob.get("/_matrix/client/v1/mutual_rooms?user_id=@bob:hs.test").await.refused(400, "M_INVALID_PARAM");
    });
}

#[test]
fn reports_are_stored() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let event = alice.say(&room, "1", "spam").await;
        let path = format!("rooms/{room}/report/{event}");
        bob.post(&path, json!({"reason": "spam"})).await.refused(404, "M_NOT_FOUND");
        alice.post(&path, json!({"reason": "spam", "score": -50})).await.ok();
        alice.post(&path, json!({"score": -500})).await.refused(400, "M_INVALID_PARAM");
        bob.post(&format!("rooms/{room}/report"), json!({"reason": "room"})).await.ok();
        bob.post("users/@alice:hs.test/report", json!({"reason": "user"})).await.ok();
        bob.post("users/@nobody:hs.test/report", json!({"reason": "user"})).await.refused(404, "M_NOT_FOUND");
        let long = "x".repeat(5000);
        bob.post("users/@alice:hs.test/report", json!({"reason": long})).await.refused(413, "M_TOO_LARGE");
        let reports = server.users.list_reports(&users::ReportFilter::default(), false, 0, 10).unwrap().items;
        let reasons: Vec<&str> = reports.iter().map(|stored| stored.report.reason.as_str()).collect();
        assert_eq!(reasons, ["spam", "room", "user"]);
        assert_eq!(reports[0].report.event_id.as_deref(), Some(event.as_str()));
    });
}

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

async fn upload(server: &Server, alice: &Client<'_>, path: &str, kind: &str, body: &'static [u8]) -> Reply {
    let method = if path.contains("/upload/") { "PUT" } else { "POST" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.header("authorization", format!("Bearer {}", alice.token));
    server.send(request.body(Body::from(body)).unwrap()).await
}

#[test]
fn media_goes_up_and_down() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let reply = upload(&server, &alice, "/_matrix/media/v3/upload?filename=a%20b.txt", "text/plain", b"0123456789")
            .await
            .ok();
        let id = reply["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let path = format!("/_matrix/client/v1/media/download/{id}");
        let whole = bob.get(&path).await;
        assert_eq!((whole.status.as_u16(), &*whole.bytes), (200, &b"0123456789"[..]));
        assert_eq!(whole.headers["content-type"], "text/plain");
        assert_eq!(whole.headers["content-length"], "10");
        assert!(whole.headers["content-disposition"].to_str().unwrap().contains("a b.txt"));
        assert!(whole.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
        assert!(
            bob.get(&format!("{path}/other.txt")).await.headers["content-disposition"]
                .to_str()
                .unwrap()
                .contains("other.txt")
        );
        let ranged =
            Request::get(&path).header("authorization", format!("Bearer {}", bob.token)).header("range", "bytes=2-4");
        let part = server.send(ranged.body(Body::empty()).unwrap()).await;
        assert_eq!((part.status.as_u16(), &*part.bytes), (206, &b"234"[..]));
        assert_eq!(part.headers["content-range"], "bytes 2-4/10");
        let beyond =
            Request::get(&path).header("authorization", format!("Bearer {}", bob.token)).header("range", "bytes=20-");
        assert_eq!(server.send(beyond.body(Body::empty()).unwrap()).await.status, 416);
        server.get(&path).await.refused(401, "M_MISSING_TOKEN");
        let open = format!("/_matrix/media/v3/download/{id}");
        server.get(&open).await.refused(404, "M_NOT_FOUND");
        server.media.reload(MediaConfig { unauthenticated_downloads: true, ..MediaConfig::default() });
        assert_eq!(server.get(&open).await.bytes, b"0123456789");
        assert_eq!(server.get(&format!("{open}/x.txt")).await.bytes, b"0123456789");
        bob.get("/_matrix/client/v1/media/download/hs.test/nothing").await.refused(404, "M_NOT_FOUND");
        bob.get("/_matrix/client/v1/media/download/hs.test/%2e%2e").await.refused(400, "M_INVALID_PARAM");
        bob.get("/_matrix/client/v1/media/download/elsewhere.test/x").await.refused(502, "M_UNKNOWN");
        bob.get(&format!("/_matrix/client/v1/media/thumbnail/{id}?width=10&height=10")).await.refused(400, "M_UNKNOWN");
        bob.get(&format!("/_matrix/client/v1/media/thumbnail/{id}?width=10")).await.refused(400, "M_MISSING_PARAM");
        let picture = upload(&server, &alice, "/_matrix/media/v3/upload", "image/gif", GIF).await.ok();
        let picture = picture["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let thumbnail = format!("thumbnail/{picture}?width=32&height=32&method=crop");
        let small = bob.get(&format!("/_matrix/client/v1/media/{thumbnail}")).await;
        assert_eq!((small.status.as_u16(), small.headers["content-type"].to_str().unwrap()), (200, "image/gif"));
        assert_eq!(server.get(&format!("/_matrix/media/v3/{thumbnail}")).await.status, 200);
        let reserved =
            alice.post("/_matrix/media/v1/create", json!({})).await.ok()["content_uri"].as_str().unwrap().to_owned();
        let fill = format!("/_matrix/media/v3/upload/{}", reserved.strip_prefix("mxc://").unwrap());
        upload(&server, &bob, &fill, "text/plain", b"x").await.refused(403, "M_FORBIDDEN");
        upload(&server, &alice, &fill, "text/plain", b"x").await.ok();
        upload(&server, &alice, &fill, "text/plain", b"x").await.refused(409, "M_CANNOT_OVERWRITE_MEDIA");
        assert!(alice.get("/_matrix/client/v1/media/config").await.ok()["m.upload.size"].as_u64().unwrap() > 0);
    });
}

#[test]
fn openid_tokens_are_for_oneself() {
    run(async |server| {
        let alice = server.register("alice").await;
        let token = alice.post("user/@alice:hs.test/openid/request_token", json!({})).await.ok();
        assert_eq!((&token["token_type"], &token["matrix_server_name"]), (&json!("Bearer"), &json!("hs.test")));
        alice.post("user/@bob:hs.test/openid/request_token", json!({})).await.refused(403, "M_FORBIDDEN");
    });
}

//! The family Rooms of the Synapse admin API.

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::wait_for;

pub(crate) struct Bed {
    pub server: TestServer,
    pub admin: Account,
    pub bob: Account,
    pub carol: Account,
}

impl Bed {
    pub fn start() -> Bed {
        let server = TestServer::start_with(Clock::system(), |config| config.admin.room = false);
        let admin = Account::register(server.client(), "alice");
        let bob = Account::register(server.client(), "bob");
        let carol = Account::register(server.client(), "carol");
        Bed { server, admin, bob, carol }
    }

    pub fn restart(&mut self) {
        self.server.restart();
        for account in [&mut self.admin, &mut self.bob, &mut self.carol] {
            account.client = self.server.client();
        }
    }

    /// A request of the administrator; `path` begins after `/_synapse/admin`.
    pub fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = matches!(method, "POST" | "PUT" | "DELETE").then_some(body);
        let path = format!("/_synapse/admin{path}");
        let response = self.admin.client.request(method, &path, Some(&self.admin.token), body).unwrap();
        (response.status, response.json())
    }

    pub fn expect(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    pub fn get(&mut self, path: &str) -> Value {
        self.expect("GET", path, &Value::Null)
    }

    pub fn refuse(&mut self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body);
        (status, answer["errcode"].as_str().unwrap_or_default().to_owned())
    }

    /// A public room of bob's with carol in it, and what they said there.
    pub fn room(&mut self, name: &str) -> (String, Vec<String>) {
        let room = self.bob.create_room(&json!({"preset": "public_chat", "name": name}));
        self.carol.join(&room);
        let said = (0..5).map(|number| self.bob.send_text(&room, &format!("{name}{number}"), &format!("word{number}")));
        let said = said.collect();
        (room, said)
    }
}

fn path(room: &str) -> String {
    format!("/v1/rooms/{}", encode_path_segment(room))
}

#[test]
fn rooms_are_listed_in_any_order() {
    let mut bed = Bed::start();
    let (one, _) = bed.room("Amber");
    let two = bed.bob.create_room(&json!({"name": "beryl", "visibility": "public", "room_alias_name": "gem"}));
    let three = bed.carol.create_room(&json!({"creation_content": {"type": "m.space"}, "name": "Coral"}));
    let list = bed.get("/v1/rooms");
    assert_eq!((&list["total_rooms"], &list["offset"]), (&json!(3), &json!(0)));
    let ids = |list: &Value| -> Vec<String> {
        list["rooms"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list), [&*one, &*three, &*two]);
    assert_eq!(ids(&bed.get("/v1/rooms?dir=b")), [&*two, &*three, &*one]);
    assert_eq!(ids(&bed.get("/v1/rooms?order_by=joined_members&limit=1")), [&*one]);
    assert_eq!(ids(&bed.get("/v1/rooms?search_term=BER")), [&*one, &*two]);
    assert_eq!(ids(&bed.get("/v1/rooms?search_term=gem")), [&*two]);
    assert_eq!(ids(&bed.get(&format!("/v1/rooms?search_term={}", encode_path_segment(&three)))), [&*three]);
    assert_eq!(ids(&bed.get("/v1/rooms?public_rooms=true")), [&*two]);
    assert_eq!(bed.get("/v1/rooms?empty_rooms=true")["total_rooms"], 0);
    let page = bed.get("/v1/rooms?from=1&limit=1");
    assert_eq!((&page["next_batch"], &page["prev_batch"]), (&json!(2), &json!(0)));
    assert_eq!(page["rooms"][0]["room_type"], "m.space");
    assert_eq!(bed.refuse("GET", "/v1/rooms?order_by=weather", &Value::Null), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(bed.refuse("GET", "/v1/rooms?search_term=", &Value::Null), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(bed.refuse("GET", "/v1/rooms?dir=x", &Value::Null).0, 400);
    assert_eq!(bed.refuse("GET", "/v1/rooms?from=-1", &Value::Null).0, 400);
}

#[test]
fn a_room_is_looked_into_by_one_who_is_not_in_it() {
    let mut bed = Bed::start();
    let (room, said) = bed.room("Lobby");
    let base = path(&room);
    let details = bed.get(&base);
    for (key, value) in [
        ("room_id", json!(room)),
        ("name", json!("Lobby")),
        ("joined_members", json!(2)),
        ("joined_local_members", json!(2)),
        ("joined_local_devices", json!(2)),
        ("creator", json!("@bob:hs.test")),
        ("public", json!(false)),
        ("federatable", json!(true)),
        ("join_rules", json!("public")),
        ("encryption", Value::Null),
        ("forgotten", json!(false)),
        ("topic", Value::Null),
        ("room_type", Value::Null),
    ] {
        assert_eq!(details[key], value, "{key}");
    }
    let members = bed.get(&format!("{base}/members"));
    assert_eq!((&members["total"], members["members"].as_array().unwrap().len()), (&json!(2), 2));
    let state = bed.get(&format!("{base}/state"));
    assert_eq!(details["state_events"], state["state"].as_array().unwrap().len());
    let names = bed.get(&format!("{base}/state?type=m.room.name"));
    assert_eq!(names["state"][0]["content"]["name"], "Lobby");
    let page = bed.get(&format!("{base}/messages?dir=b&limit=2"));
    assert_eq!((&page["chunk"][0]["event_id"], &page["chunk"][1]["event_id"]), (&json!(said[4]), &json!(said[3])));
    let next = page["end"].as_str().unwrap().to_owned();
    let page = bed.get(&format!("{base}/messages?dir=b&limit=1&from={next}"));
    assert_eq!(page["chunk"][0]["event_id"], json!(said[2]));
    let context = bed.get(&format!("{base}/context/{}", encode_path_segment(&said[2])));
    assert_eq!(
        (&context["event"]["event_id"], &context["events_before"][0]["event_id"]),
        (&json!(said[2]), &json!(said[1]))
    );
    assert_eq!(context["events_after"][0]["event_id"], json!(said[3]));
    let near = bed.get(&format!("{base}/timestamp_to_event?ts=99999999999999&dir=b"));
    assert_eq!(near["event_id"], json!(said[4]));
    let event = bed.get(&format!("/v1/fetch_event/{}", encode_path_segment(&said[0])));
    assert_eq!(event["event"]["content"]["body"], "word0");
    let extremities = bed.get(&format!("{base}/forward_extremities"));
    assert_eq!((&extremities["count"], &extremities["results"][0]["event_id"]), (&json!(1), &json!(said[4])));
    assert_eq!(bed.expect("DELETE", &format!("{base}/forward_extremities"), &json!({})), json!({"deleted": 0}));
    let space = bed.bob.create_room(&json!({"creation_content": {"type": "m.space"}}));
    let child = format!("/rooms/{}/state/m.space.child/{}", encode_path_segment(&space), encode_path_segment(&room));
    bed.bob.expect("PUT", &child, Some(&json!({"via": ["hs.test"]})));
    let rooms = bed.get(&format!("{}/hierarchy", path(&space)));
    assert_eq!((&rooms["rooms"][0]["room_id"], &rooms["rooms"][1]["room_id"]), (&json!(space), &json!(room)));
    let first = bed.get(&format!("{}/hierarchy?limit=1", path(&space)));
    let next = first["next_batch"].as_str().unwrap().to_owned();
    assert_eq!(bed.get(&format!("{}/hierarchy?limit=1&from={next}", path(&space)))["rooms"][0]["room_id"], json!(room));
}

#[test]
fn what_is_unknown_or_malformed_is_refused() {
    let mut bed = Bed::start();
    let (room, _) = bed.room("Lobby");
    let unknown = path("!unknown:hs.test");
    for sub in ["", "/members", "/state", "/messages", "/timestamp_to_event?ts=1", "/hierarchy", "/forward_extremities"]
    {
        let refused = bed.refuse("GET", &format!("{unknown}{sub}"), &Value::Null);
        assert_eq!(refused, (404, "M_NOT_FOUND".to_owned()), "{sub}");
        assert_eq!(bed.refuse("GET", &format!("{}{sub}", path("nonsense")), &Value::Null).0, 400, "{sub}");
    }
    for (method, path, body, status) in [
        ("GET", "/v1/fetch_event/nonsense", json!({}), 400),
        ("GET", "/v1/fetch_event/$unknown", json!({}), 404),
        ("POST", "/v1/purge_history/!unknown:hs.test", json!({"purge_up_to_ts": 1}), 404),
        ("POST", "/v1/purge_history/nonsense", json!({"purge_up_to_ts": 1}), 400),
        ("GET", "/v1/purge_history_status/77", json!({}), 404),
        ("GET", "/v1/purge_history_status/nonsense", json!({}), 404),
        ("GET", "/v2/rooms/delete_status/77", json!({}), 404),
        ("GET", "/v2/rooms/!unknown:hs.test/delete_status", json!({}), 404),
        ("DELETE", "/v2/rooms/!unknown:hs.test", json!({}), 404),
        ("DELETE", "/v2/rooms/nonsense", json!({}), 400),
        ("DELETE", "/v1/rooms/!unknown:hs.test", json!({}), 404),
        ("PUT", "/v1/rooms/nonsense/block", json!({"block": true}), 400),
        ("POST", "/v1/join/nonsense", json!({"user_id": "@bob:hs.test"}), 400),
        ("POST", "/v1/rooms/!unknown:hs.test/make_room_admin", json!({}), 404),
    ] {
        assert_eq!(bed.refuse(method, path, &body).0, status, "{method} {path}");
    }
    let base = path(&room);
    assert_eq!(bed.refuse("PUT", &format!("{base}/block"), &json!({})), (400, "M_BAD_JSON".to_owned()));
    assert_eq!(bed.refuse("PUT", &format!("{base}/block"), &json!({"block": "yes"})).0, 400);
    assert_eq!(bed.refuse("GET", &format!("{base}/timestamp_to_event"), &Value::Null).1, "M_MISSING_PARAM");
    assert_eq!(bed.refuse("GET", &format!("{base}/context/$unknown"), &Value::Null).0, 404);
    let purge = format!("/v1/purge_history/{}", encode_path_segment(&room));
    assert_eq!(bed.refuse("POST", &purge, &json!({})).0, 400);
    assert_eq!(bed.refuse("POST", &purge, &json!({"purge_up_to_event_id": "$unknown"})).0, 404);
    assert_eq!(bed.refuse("POST", &purge, &json!({"purge_up_to_ts": 1})).0, 404);
    let join = format!("/v1/join/{}", encode_path_segment(&room));
    assert_eq!(bed.refuse("POST", &join, &json!({})).1, "M_MISSING_PARAM");
    assert_eq!(bed.refuse("POST", &join, &json!({"user_id": "@nobody:hs.test"})).0, 404);
    assert_eq!(bed.refuse("POST", &join, &json!({"user_id": "@x:elsewhere.test"})).0, 400);
    // Nobody but administrators and moderators gets anything.
    for (method, path) in
        [("GET", "/v1/rooms"), ("DELETE", "/v2/rooms/!a:hs.test"), ("GET", &*format!("{base}/messages"))]
    {
        let path = format!("/_synapse/admin{path}");
        let body = (method == "DELETE").then(|| json!({}));
        let response = bed.bob.client.request(method, &path, Some(&bed.bob.token), body.as_ref()).unwrap();
        assert_eq!((response.status, response.json()["errcode"].as_str()), (403, Some("M_FORBIDDEN")), "{path}");
    }
}

#[test]
fn people_are_let_in_and_given_power() {
    let mut bed = Bed::start();
    let room = bed.bob.create_room(&json!({"preset": "private_chat", "room_version": "11"}));
    let join = format!("/v1/join/{}", encode_path_segment(&room));
    assert_eq!(bed.expect("POST", &join, &json!({"user_id": "@carol:hs.test"})), json!({"room_id": room}));
    assert_eq!(bed.get(&format!("{}/members", path(&room)))["total"], 2);
    let make = format!("{}/make_room_admin", path(&room));
    assert_eq!(bed.expect("POST", &make, &json!({"user_id": "@carol:hs.test"})), json!({}));
    let levels = bed.get(&format!("{}/state?type=m.room.power_levels", path(&room)));
    assert_eq!(levels["state"][0]["content"]["users"]["@carol:hs.test"], 100);
    // Without a name it is the one who asks.
    bed.expect("POST", &make, &json!({}));
    assert_eq!(bed.get(&format!("{}/members", path(&room)))["total"], 3);
}

#[test]
fn blocked_rooms_are_closed() {
    let mut bed = Bed::start();
    let (room, _) = bed.room("Lobby");
    let block = format!("{}/block", path(&room));
    assert_eq!(bed.get(&block), json!({"block": false}));
    assert_eq!(bed.expect("PUT", &block, &json!({"block": true})), json!({"block": true}));
    assert_eq!(bed.get(&block), json!({"block": true, "user_id": "@alice:hs.test"}));
    let join = format!("/rooms/{}/join", encode_path_segment(&room));
    let refused = bed.admin.request("POST", &join, Some(&json!({}))).unwrap();
    assert_eq!((refused.status, refused.json()["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
    assert_eq!(bed.expect("PUT", &block, &json!({"block": false})), json!({"block": false}));
    bed.admin.expect("POST", &join, Some(&json!({})));
    let unknown = format!("{}/block", path("!unknown:elsewhere.test"));
    bed.expect("PUT", &unknown, &json!({"block": true}));
    assert_eq!(bed.get(&unknown)["block"], true);
}

#[test]
fn history_is_purged() {
    let mut bed = Bed::start();
    let (room, said) = bed.room("Lobby");
    let purge = format!("/v1/purge_history/{}/{}", encode_path_segment(&room), encode_path_segment(&said[3]));
    let id = bed.expect("POST", &purge, &json!({"delete_local_events": true}))["purge_id"].clone();
    let status = format!("/v1/purge_history_status/{}", id.as_str().unwrap());
    wait_for("the purge", || (bed.get(&status)["status"] == "complete").then_some(()));
    let page = bed.get(&format!("{}/messages?dir=b", path(&room)));
    let seen: Vec<&str> =
        page["chunk"].as_array().unwrap().iter().filter_map(|event| event["event_id"].as_str()).collect();
    assert_eq!(seen, [&*said[4], &*said[3]]);
    let event = format!("/v1/fetch_event/{}", encode_path_segment(&said[0]));
    assert_eq!(bed.refuse("GET", &event, &Value::Null).0, 404);
    // The room goes on.
    bed.carol.send_text(&room, "later", "still here");
    assert_eq!(bed.get(&path(&room))["name"], "Lobby");
    let by_time = format!("/v1/purge_history/{}", encode_path_segment(&room));
    let id =
        bed.expect("POST", &by_time, &json!({"delete_local_events": true, "purge_up_to_ts": 99_999_999_999_999_i64}));
    let status = format!("/v1/purge_history_status/{}", id["purge_id"].as_str().unwrap());
    wait_for("the purge", || (bed.get(&status)["status"] == "complete").then_some(()));
    assert_eq!(bed.get(&format!("{}/messages?dir=b", path(&room)))["chunk"].as_array().unwrap().len(), 1);
}

#[test]
fn a_room_is_deleted_in_the_background() {
    let mut bed = Bed::start();
    let (room, said) = bed.room("Lobby");
    let delete = format!("/v2/rooms/{}", encode_path_segment(&room));
    let request =
        json!({"new_room_user_id": "@alice:hs.test", "room_name": "Closed", "message": "read this", "block": true});
    let id = bed.expect("DELETE", &delete, &request)["delete_id"].as_str().unwrap().to_owned();
    let status = format!("/v2/rooms/delete_status/{id}");
    wait_for("the deletion", || (bed.get(&status)["status"] == "complete").then_some(()));
    let told = bed.get(&status)["shutdown_room"].clone();
    assert_eq!(told["kicked_users"], json!(["@bob:hs.test", "@carol:hs.test"]));
    assert_eq!(told["failed_to_kick_users"], json!([]));
    let new = told["new_room_id"].as_str().unwrap().to_owned();
    assert_eq!(bed.get(&format!("{}/members", path(&new)))["total"], 3);
    assert_eq!(bed.get(&path(&new))["name"], "Closed");
    let results = bed.get(&format!("{delete}/delete_status"));
    assert_eq!((&results["results"][0]["delete_id"], results["results"].as_array().unwrap().len()), (&json!(id), 1));
    // Nothing is left, and nobody comes back.
    assert_eq!(bed.refuse("GET", &path(&room), &Value::Null).0, 404);
    assert_eq!(bed.refuse("GET", &format!("/v1/fetch_event/{}", encode_path_segment(&said[0])), &Value::Null).0, 404);
    assert_eq!(bed.get(&format!("{}/block", path(&room)))["block"], true);
    let join = format!("/rooms/{}/join", encode_path_segment(&room));
    assert_eq!(bed.bob.request("POST", &join, Some(&json!({}))).unwrap().status, 403);
    let synced = bed.bob.expect("GET", "/sync", None);
    assert!(synced["rooms"]["join"].get(&room).is_none());
    assert!(synced["rooms"]["join"].get(&new).is_some());
}

#[test]
fn a_room_is_deleted_at_once() {
    let mut bed = Bed::start();
    let (room, _) = bed.room("Lobby");
    let answer = bed.expect("DELETE", &path(&room), &json!({"purge": false}));
    assert_eq!(answer["kicked_users"], json!(["@bob:hs.test", "@carol:hs.test"]));
    assert_eq!((&answer["new_room_id"], &answer["local_aliases"]), (&Value::Null, &json!([])));
    assert_eq!(bed.get(&path(&room))["joined_members"], 0);
    bed.expect("DELETE", &path(&room), &json!({}));
    assert_eq!(bed.refuse("GET", &path(&room), &Value::Null).0, 404);
}

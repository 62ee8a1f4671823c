//! How long messages are kept, from the sending to the last row.

use std::time::Duration;

use conduit::Config;
use runtime::Clock;
use runtime::config::Span;
use serde_json::{Value, json};
use spec::ids::EventId;
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::wait_for;

const START_MS: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A server at whose clock the tests turn, and a room of two.
struct Bed {
    server: TestServer,
    alice: Account,
    bob: Account,
    room: String,
}

impl Bed {
    fn start(adjust: impl FnOnce(&mut Config)) -> Bed {
        let server = TestServer::start_with(Clock::fake(START_MS), |config| {
            config.retention.enabled = true;
            config.retention.allowed_min_lifetime = Span::seconds(60);
            adjust(config);
        });
        let mut alice = Account::register(server.client(), "alice");
        let mut bob = Account::register(server.client(), "bob");
        let room = alice.create_room(&json!({"preset": "public_chat", "topic": "first", "room_version": "11"}));
        bob.join(&room);
        Bed { server, alice, bob, room }
    }

    fn path(&self, rest: &str) -> String {
        format!("/rooms/{}/{rest}", encode_path_segment(&self.room))
    }

    fn want(&mut self, content: &Value) {
        let path = self.path("state/m.room.retention/");
        self.alice.expect("PUT", &path, Some(content));
    }

    fn operation(&mut self, verb: &str, arguments: &Value) -> Value {
        let path = format!("/_conduit/admin/v1/room/{verb}");
        let token = self.alice.token.clone();
        let response = self.alice.client.request("POST", &path, Some(&token), Some(arguments)).unwrap();
        assert_eq!(response.status, 200, "{verb} {arguments}: {}", response.json());
        response.json()
    }

    /// The bodies that bob is told of the room, over `/sync` from the beginning, from a token on, and over the sliding
    /// one.
    fn synced(&mut self, since: &str) -> [Vec<String>; 3] {
        let room = self.room.clone();
        let whole = self.bob.expect("GET", "/sync", None)["rooms"]["join"][&room]["timeline"].clone();
        let part = self.bob.expect("GET", &format!("/sync?since={since}"), None);
        let request = json!({"lists": {"a": {"ranges": [[0, 9]], "timeline_limit": 20, "required_state": []}}});
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
        let token = self.bob.token.clone();
        let sliding = self.bob.client.request("POST", path, Some(&token), Some(&request)).unwrap().json();
        [
            bodies(&whole["events"]),
            bodies(&part["rooms"]["join"][&room]["timeline"]["events"]),
            bodies(&sliding["rooms"][&room]["timeline"]),
        ]
    }

    fn status(&mut self, path: &str) -> u16 {
        let path = self.path(path);
        self.bob.request("GET", &path, None).unwrap().status
    }

    /// Whether the row of an event is on the disk.
    fn is_stored(&self, event: &str) -> bool {
        self.server.admin().rooms().room_of_event(&EventId::parse(event).unwrap()).unwrap().is_some()
    }
}

fn bodies(events: &Value) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).map(str::to_owned).collect()
}

#[test]
fn a_message_expires_is_not_shown_any_more_and_goes() {
    let mut bed = Bed::start(|_| {});
    bed.want(&json!({"max_lifetime": HOUR.as_millis() as u64}));
    let since = bed.bob.expect("GET", "/sync", None)["next_batch"].as_str().unwrap().to_owned();
    let room = bed.room.clone();
    let old = bed.alice.send_text(&room, "1", "old word");
    let thread = json!({"msgtype": "m.text", "body": "old answer",
        "m.relates_to": {"rel_type": "m.thread", "event_id": old}});
    let path = bed.path("send/m.room.message/2");
    let answer = bed.alice.expect("PUT", &path, Some(&thread))["event_id"].as_str().unwrap().to_owned();
    assert_eq!(
        bed.synced(&since),
        [["old word", "old answer"], ["old word", "old answer"], ["old word", "old answer"]]
    );
    assert_eq!(bed.status(&format!("event/{}", encode_path_segment(&old))), 200);
    bed.server.clock().advance(HOUR + Duration::from_secs(1));
    let new = bed.alice.send_text(&room, "3", "new word");
    assert_eq!(bed.synced(&since), [["new word"], ["new word"], ["new word"]]);
    for path in [format!("event/{}", encode_path_segment(&old)), format!("context/{}", encode_path_segment(&answer))] {
        assert_eq!(bed.status(&path), 404, "{path}");
    }
    let path = bed.path("messages?dir=b&limit=50");
    let page = bed.bob.expect("GET", &path, None);
    assert_eq!(bodies(&page["chunk"]), ["new word"]);
    // State is kept, however old it is.
    assert!(page["chunk"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.topic"));
    let context = bed.path(&format!("context/{}?limit=20", encode_path_segment(&new)));
    let context = bed.bob.expect("GET", &context, None);
    assert_eq!(bodies(&context["events_before"]), Vec::<String>::new());
    let relations = format!("/_matrix/client/v1{}", bed.path(&format!("relations/{}", encode_path_segment(&old))));
    let token = bed.bob.token.clone();
    let relations = bed.bob.client.request("GET", &relations, Some(&token), None).unwrap();
    assert!(relations.status == 404 || relations.json()["chunk"] == json!([]), "{}", relations.json());
    let threads = format!("/_matrix/client/v1{}", bed.path("threads"));
    let threads = bed.bob.client.request("GET", &threads, Some(&token), None).unwrap().json();
    assert_eq!(bodies(&threads["chunk"]), Vec::<String>::new(), "{threads}");
    let search = json!({"search_categories": {"room_events": {"search_term": "old"}}});
    let found = bed.bob.expect("POST", "/search", Some(&search));
    assert_eq!(found["search_categories"]["room_events"]["results"], json!([]), "{found}");
    // They are there until it is looked for them.
    assert!(bed.is_stored(&old) && bed.is_stored(&answer));
    bed.server.clock().advance(24 * HOUR);
    wait_for("the purge", || {
        bed.server.clock().advance(Duration::from_secs(1));
        (!bed.is_stored(&old) && !bed.is_stored(&answer)).then_some(())
    });
    let path = bed.path("state/m.room.topic/");
    assert_eq!(bed.bob.expect("GET", &path, None)["topic"], "first");
    let members = bed.path("joined_members");
    assert_eq!(bed.bob.expect("GET", &members, None)["joined"].as_object().unwrap().len(), 2);
    let problems = rooms::fsck::check(bed.server.admin().store(), &mut |_| {}).unwrap().problems;
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn what_applies_to_a_room_is_shown_and_decided() {
    let mut bed = Bed::start(|config| {
        config.retention.allowed_max_lifetime = Span::seconds(30 * 24 * 3600);
        config.retention.default_max_lifetime = Span::seconds(20 * 24 * 3600);
    });
    let room = json!({"room": bed.room});
    let shown = |bed: &mut Bed| {
        let shown = bed.operation("retention", &room);
        let text = |key: &str| shown[key].as_str().unwrap_or("-").to_owned();
        (text("lifetime"), text("because"), text("room_wants"), text("decided"))
    };
    let expect =
        |found: (String, String, String, String), lifetime: &str, because: &str, wants: &str, decided: &str| {
            assert_eq!((&*found.0, &*found.2, &*found.3), (lifetime, wants, decided));
            assert!(found.1.contains(because), "{}", found.1);
        };
    expect(shown(&mut bed), "20d", "the default", "-", "-");
    // A room chooses within the limits.
    bed.want(&json!({"max_lifetime": 90 * 24 * HOUR.as_millis() as u64}));
    expect(shown(&mut bed), "30d", "the room says so", "90d", "-");
    bed.want(&json!({"max_lifetime": 1}));
    expect(shown(&mut bed), "1m", "the room says so", "0ms", "-");
    bed.want(&json!({"max_lifetime": "soon"}));
    expect(shown(&mut bed), "20d", "the default", "-", "-");
    // An administrator is bound by none, and keeps the last word over a restart.
    let decide = |bed: &mut Bed, more: Value| {
        let mut arguments = json!({"room": bed.room});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bed.operation("set-retention", &arguments)
    };
    decide(&mut bed, json!({"lifetime": "5s"}));
    expect(shown(&mut bed), "5s", "an administrator", "-", "5s");
    bed.server.restart();
    (bed.alice.client, bed.bob.client) = (bed.server.client(), bed.server.client());
    expect(shown(&mut bed), "5s", "an administrator", "-", "5s");
    let room_id = bed.room.clone();
    let event = bed.alice.send_text(&room_id, "1", "short");
    bed.server.clock().advance(Duration::from_secs(6));
    assert_eq!(bed.status(&format!("event/{}", encode_path_segment(&event))), 404);
    decide(&mut bed, json!({"forever": true}));
    expect(shown(&mut bed), "for ever", "an administrator", "-", "for ever");
    assert_eq!(bed.status(&format!("event/{}", encode_path_segment(&event))), 200);
    decide(&mut bed, json!({"reset": true}));
    expect(shown(&mut bed), "20d", "the default", "-", "-");
    // Said in the room it is for other servers too.
    decide(&mut bed, json!({"lifetime": "10d", "in_room": true}));
    expect(shown(&mut bed), "10d", "the room says so", "10d", "-");
    let path = bed.path("state/m.room.retention/");
    assert_eq!(bed.bob.expect("GET", &path, None)["max_lifetime"], 864_000_000);
    for wrong in
        [json!({}), json!({"lifetime": "0s"}), json!({"lifetime": "x"}), json!({"forever": true, "reset": true})]
    {
        let mut arguments = json!({"room": bed.room});
        arguments.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let path = "/_conduit/admin/v1/room/set-retention";
        let token = bed.alice.token.clone();
        let refused = bed.alice.client.request("POST", path, Some(&token), Some(&arguments)).unwrap();
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

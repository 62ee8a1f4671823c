//! Push notifications from a whole server to a gateway that speaks real HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, TestServer, encode_path_segment};

/// How long a notification may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A push gateway on this machine. It rejects the key `dead` and takes everything else.
struct Gateway {
    url: String,
    taken: Receiver<Value>,
}

impl Gateway {
    fn start() -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr().unwrap());
        let (sender, taken) = channel();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || serve(&stream, &sender));
            }
        });
        Gateway { url, taken }
    }

    fn next(&self) -> Value {
        self.taken.recv_timeout(PATIENCE).expect("a notification arrives")
    }

    fn pusher(&self, pushkey: &str) -> Value {
        json!({
            "app_id": "org.app", "pushkey": pushkey, "kind": "http", "app_display_name": "App",
            "device_display_name": "Phone", "lang": "en", "data": {"url": self.url, "format": "event_id_only"},
        })
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, sender: &Sender<Value>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        assert_eq!(line, "POST /_matrix/push/v1/notify HTTP/1.1\r\n");
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let notification = serde_json::from_slice::<Value>(&body).unwrap()["notification"].take();
        let key = notification["devices"][0]["pushkey"].as_str().unwrap().to_owned();
        let answer = if key == "dead" { json!({"rejected": [key]}) } else { json!({"rejected": []}) }.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        let mut writer = stream;
        writer.write_all(format!("{head}{answer}").as_bytes()).unwrap();
        sender.send(notification).unwrap();
    }
}

fn pushkeys(account: &mut Account) -> Vec<String> {
    let pushers = account.expect("GET", "/pushers", None)["pushers"].take();
    pushers.as_array().unwrap().iter().map(|pusher| pusher["pushkey"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn messages_reach_a_gateway_and_reading_them_clears_the_badge() {
    let gateway = Gateway::start();
    let mut server = TestServer::start_with(Clock::system(), |config| config.allow_private_addresses = true);
    let mut alice = Account::register(server.client(), "alice");
    let mut bob = Account::register(server.client(), "bob");
    bob.expect("POST", "/pushers/set", Some(&gateway.pusher("key")));
    let room = alice.create_room(&json!({"invite": [bob.user_id]}));
    let invited = gateway.next();
    assert_eq!((&invited["room_id"], &invited["counts"]["unread"]), (&json!(room), &json!(1)));
    bob.join(&room);
    let joined = gateway.next();
    assert_eq!((joined.get("event_id"), &joined["counts"]["unread"]), (None, &json!(0)), "{joined}");

    let said = alice.send_text(&room, "t1", "hello");
    let told = gateway.next();
    assert_eq!((&told["event_id"], &told["counts"]["unread"]), (&json!(said), &json!(1)));
    let listed = bob.expect("GET", "/notifications?limit=5", None);
    assert_eq!(listed["notifications"][0]["event"]["event_id"], said);
    assert_eq!(
        (&listed["notifications"][0]["read"], &listed["notifications"][0]["room_id"]),
        (&json!(false), &json!(room))
    );
    let receipt = format!("/rooms/{}/receipt/m.read/{}", encode_path_segment(&room), encode_path_segment(&said));
    bob.expect("POST", &receipt, Some(&json!({})));
    let cleared = gateway.next();
    assert_eq!((cleared.get("event_id"), &cleared["counts"]["unread"]), (None, &json!(0)), "{cleared}");
    assert_eq!(bob.expect("GET", "/notifications", None)["notifications"][0]["read"], true);

    server.restart();
    alice.client = server.client();
    let said = alice.send_text(&room, "t2", "after a restart");
    assert_eq!(gateway.next()["event_id"], said, "and nothing again");
}

#[test]
fn a_pusher_ends_with_its_session_and_at_its_gateways_word() {
    let gateway = Gateway::start();
    let server = TestServer::start_with(Clock::system(), |config| config.allow_private_addresses = true);
    let mut alice = Account::register(server.client(), "alice");
    let mut bob = Account::register(server.client(), "bob");
    let room = alice.create_room(&json!({"preset": "public_chat"}));
    bob.join(&room);
    bob.expect("POST", "/pushers/set", Some(&gateway.pusher("dead")));
    bob.expect("POST", "/pushers/set", Some(&gateway.pusher("own")));
    alice.send_text(&room, "t1", "hello");
    let mut told = [gateway.next(), gateway.next()].map(|told| told["devices"][0]["pushkey"].to_string());
    told.sort();
    assert_eq!(told, ["\"dead\"", "\"own\""]);
    // The pusher goes when the answer has been read.
    let gone = (0..3000).any(|_| {
        thread::sleep(Duration::from_millis(20));
        pushkeys(&mut bob) == ["own"]
    });
    assert!(gone);

    // Of another session: it ends with a change of the password.
    let login = json!({
        "type": "m.login.password", "password": "bob-password", "identifier": {"type": "m.id.user", "user": "bob"},
    });
    let session = bob.expect("POST", "/login", Some(&login));
    let token = session["access_token"].as_str().unwrap().to_owned();
    let mut other = Account { client: server.client(), user_id: bob.user_id.clone(), token };
    other.expect("POST", "/pushers/set", Some(&gateway.pusher("other")));
    assert_eq!(pushkeys(&mut bob), ["other", "own"]);
    let auth = json!({
        "type": "m.login.password", "password": "bob-password", "identifier": {"type": "m.id.user", "user": "bob"},
    });
    let change = json!({"new_password": "another-password", "auth": auth});
    bob.expect("POST", "/account/password", Some(&change));
    assert_eq!(pushkeys(&mut bob), ["own"]);
}

//! A small application service over real HTTP, against the whole server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, ConduitProcess, HttpClient, TestServer};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What the service was asked: method, path, token and body.
struct Asked {
    method: String,
    path: String,
    token: String,
    body: Value,
}

/// Answers 200 to everything, on a port of its own, until the process ends.
fn start_service() -> (u16, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &sender));
        }
    });
    (port, asked)
}

fn serve(stream: TcpStream, asked: &Sender<Asked>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let (mut token, mut length) = (String::new(), 0);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => token = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        // The test may have ended.
        let _ = asked.send(Asked { method, path, token, body });
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    }
}

fn call(client: &mut HttpClient, method: &str, path: &str, body: &Value) -> Value {
    let path = format!("/_matrix/client/{path}");
    let response = client.request(method, &path, Some("as-token"), Some(body)).unwrap();
    let answer = response.json();
    assert_eq!(response.status, 200, "{path}: {answer}");
    answer
}

/// The first event with this text that the service is told, by the transactions it is in.
fn wait_for_text(asked: &Receiver<Asked>, text: &str) -> Value {
    loop {
        let Asked { method, path, token, body } = asked.recv_timeout(LIMIT).expect("the service is told");
        assert_eq!(token, "Bearer hs-token");
        if method != "PUT" {
            continue;
        }
        assert!(path.starts_with("/prefix/_matrix/app/v1/transactions/"), "{path}");
        let events = body["events"].as_array().unwrap();
        if let Some(event) = events.iter().find(|event| event["content"]["body"] == text) {
            return event.clone();
        }
    }
}

#[test]
fn a_service_in_the_folder_is_told_and_speaks() {
    let (port, asked) = start_service();
    let folder = tempfile::tempdir().unwrap();
    let registration = format!(
        "id: bridge\nurl: http://127.0.0.1:{port}/prefix\nas_token: as-token\nhs_token: hs-token\n\
         sender_localpart: bridgebot\nnamespaces:\n  users: [{{exclusive: true, regex: '@_ghost_.*'}}]\n"
    );
    std::fs::write(folder.path().join("bridge.yaml"), registration).unwrap();
    let path = folder.path().to_owned();
    let mut server = TestServer::start_with(Clock::system(), |config| config.appservices.folder = Some(path));
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({"preset": "public_chat"}));
    let mut service = server.client();
    let ping = call(&mut service, "POST", "v1/appservice/bridge/ping", &json!({"transaction_id": "hello"}));
    assert!(ping["duration_ms"].is_u64());
    let pinged = asked.recv_timeout(LIMIT).unwrap();
    assert_eq!((pinged.method.as_str(), &pinged.body), ("POST", &json!({"transaction_id": "hello"})));
    let ghost = json!({"type": "m.login.application_service", "username": "_ghost_bob", "inhibit_login": true});
    call(&mut service, "POST", "v3/register", &ghost);
    let as_ghost = "user_id=@_ghost_bob:hs.test";
    call(&mut service, "POST", &format!("v3/join/{room}?{as_ghost}"), &json!({}));
    alice.send_text(&room, "1", "hello bridge");
    let event = wait_for_text(&asked, "hello bridge");
    assert_eq!((&event["room_id"], &event["sender"]), (&json!(room), &json!("@alice:hs.test")));
    let message = json!({"msgtype": "m.text", "body": "hello alice"});
    let send = format!("v3/rooms/{room}/send/m.room.message/1?{as_ghost}&ts=1234567");
    call(&mut service, "PUT", &send, &message);
    let event = wait_for_text(&asked, "hello alice");
    assert_eq!((&event["sender"], &event["origin_server_ts"]), (&json!("@_ghost_bob:hs.test"), &json!(1_234_567)));
    server.restart();
    let mut alice = Account { client: server.client(), ..alice };
    alice.send_text(&room, "2", "after a restart");
    wait_for_text(&asked, "after a restart");
}

#[test]
fn the_operator_adds_and_removes_services() {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), &[]);
    server.start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("irc.yaml");
    let registration = "id: irc\nurl: null\nas_token: secret-as\nhs_token: secret-hs\nsender_localpart: ircbot\n";
    std::fs::write(&file, registration).unwrap();
    let run = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["appservice"].iter().chain(arguments).copied().collect();
        let output = server.run_command(&arguments);
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let whoami = || {
        let path = "/_matrix/client/v3/account/whoami";
        server.client().request("GET", path, Some("secret-as"), None).unwrap().status
    };
    assert_eq!(whoami(), 401);
    let file = file.to_str().unwrap();
    assert!(run(&["add", file]).0);
    assert_eq!(whoami(), 200);
    assert!(!run(&["add", file]).0, "not twice");
    let (_, listed) = run(&["list"]);
    assert!(listed.lines().count() == 2 && listed.contains("irc") && listed.contains("the database"), "{listed}");
    let (_, shown) = run(&["show", "irc"]);
    assert!(shown.contains("sender_localpart: ircbot") && !shown.contains("secret"), "{shown}");
    assert!(run(&["remove", "irc"]).0);
    assert_eq!(whoami(), 401);
    assert!(!run(&["remove", "irc"]).0);
    assert!(server.terminate().success());
}

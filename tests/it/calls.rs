//! Calls in a whole server: clients find the media server, get their tokens, and open its signalling.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use conduit::Config;
use runtime::Clock;
use serde_json::{Value, json};
use testkit::{Account, HttpAddress, TestServer};

/// Ports that nobody else has.
fn offer_calls(config: &mut Config) {
    let here = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    config.client.public_baseurl = Some("https://hs.test".to_owned());
    (config.sfu.udp_port, config.sfu.tcp_port, config.sfu.listen) = (0, 0, here.clone());
    (config.turn.port, config.turn.tcp, config.turn.listen, config.turn.relay_addresses) =
        (0, false, here.clone(), here);
}

fn token_for(account: &mut Account, room: &str) -> Value {
    let path = format!("/user/{}/openid/request_token", account.user_id);
    let openid = account.expect("POST", &path, Some(&json!({})));
    let body = json!({"room": room, "openid_token": openid, "device_id": "TEST"});
    let response = account.client.request("POST", "/_rtc/jwt/sfu/get", None, Some(&body)).unwrap();
    assert_eq!(response.status, 200, "{}", response.json());
    response.json()
}

/// The status line with which the server answers the wish for a WebSocket.
fn open_socket(address: &HttpAddress, path: &str) -> String {
    let HttpAddress::Unix(path_of_socket) = address else { panic!("the test server is at a unix socket") };
    let mut stream = UnixStream::connect(path_of_socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: hs.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_client_gets_from_discovery_to_the_media_server() {
    let mut server = TestServer::start_with(Clock::system(), offer_calls);
    let mut alice = Account::register(server.client(), "alice");
    let transports = alice.client.request("GET", "/_matrix/client/v1/rtc/transports", Some(&alice.token), None);
    let service = "https://hs.test/_rtc/jwt";
    let expected = json!({"rtc_transports": [{"type": "livekit", "livekit_service_url": service}]});
    assert_eq!(transports.unwrap().json(), expected);
    let turn = alice.expect("GET", "/voip/turnServer", None);
    assert!(turn["username"].as_str().unwrap().ends_with(":@alice:hs.test"), "{turn}");
    assert!(turn["uris"][0].as_str().unwrap().starts_with("turn:hs.test:"), "{turn}");

    let room = alice.create_room(&json!({}));
    let access = token_for(&mut alice, &room);
    assert_eq!(access["url"], "wss://hs.test/_rtc/sfu");
    let token = access["jwt"].as_str().unwrap();
    let mut get = |path: &str| alice.client.request("GET", path, None, None).unwrap();
    assert_eq!(get("/_rtc/sfu").status, 200);
    assert_eq!(get(&format!("/_rtc/sfu/rtc/validate?access_token={token}")).status, 200);
    assert_eq!(get("/_rtc/sfu/rtc/validate?access_token=forged").status, 401);
    let address = server.address();
    let path = |token: &str| format!("/_rtc/sfu/rtc?access_token={token}&auto_subscribe=1");
    assert_eq!(open_socket(&address, &path(token)), "HTTP/1.1 101 Switching Protocols");
    assert!(open_socket(&address, &path("forged")).starts_with("HTTP/1.1 401"));
    // The token is still good after a restart, and worth nothing once its user has left the room.
    let token = token.to_owned();
    server.restart();
    assert_eq!(open_socket(&server.address(), &path(&token)), "HTTP/1.1 101 Switching Protocols");
    alice.client = server.client();
    alice.expect("POST", &format!("/rooms/{room}/leave"), Some(&json!({})));
    assert!(open_socket(&server.address(), &path(&token)).starts_with("HTTP/1.1 403"));
}

#[test]
fn without_a_public_address_no_port_is_opened_and_nothing_is_offered() {
    let server = TestServer::start();
    let mut alice = Account::register(server.client(), "alice");
    let transports = alice.client.request("GET", "/_matrix/client/v1/rtc/transports", Some(&alice.token), None);
    assert_eq!(transports.unwrap().json(), json!({"rtc_transports": []}));
    assert_eq!(alice.request("GET", "/voip/turnServer", None).unwrap().status, 404);
    assert_eq!(alice.client.request("GET", "/_rtc/sfu", None, None).unwrap().status, 404);
    let probe = alice.client.request("POST", "/_rtc/jwt/delegate_delayed_leave", None, Some(&json!({})));
    assert_eq!(probe.unwrap().status, 404);
}

#[test]
fn a_port_that_is_taken_costs_calls_and_no_messages() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = TestServer::start_with(Clock::system(), |config| {
        offer_calls(config);
        config.sfu.udp_port = port;
        config.turn.port = port;
    });
    let mut alice = Account::register(server.client(), "alice");
    let transports = alice.client.request("GET", "/_matrix/client/v1/rtc/transports", Some(&alice.token), None);
    assert_eq!(transports.unwrap().json(), json!({"rtc_transports": []}));
    assert_eq!(alice.request("GET", "/voip/turnServer", None).unwrap().status, 404);
    alice.create_room(&json!({}));
}

/// The status and code with which a wish to record is refused.
fn ask_to_record(account: &mut Account, room: &str) -> (u16, String) {
    let path = format!("/_conduit/client/v1/rooms/{room}/call/recording");
    let token = account.token.clone();
    let answer = account.client.request("POST", &path, Some(&token), Some(&json!({"action": "start"}))).unwrap();
    (answer.status, answer.json()["errcode"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn recording_is_refused_where_it_is_off_and_where_there_is_no_call() {
    let server = TestServer::start_with(Clock::system(), offer_calls);
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    assert_eq!(ask_to_record(&mut alice, &room), (403, "M_FORBIDDEN".to_owned()), "it is off by default");
    let server = TestServer::start_with(Clock::system(), |config| {
        offer_calls(config);
        config.calls.recording.enabled = true;
    });
    let mut alice = Account::register(server.client(), "alice");
    let mut bob = Account::register(server.client(), "bob");
    let room = alice.create_room(&json!({"preset": "public_chat"}));
    assert_eq!(ask_to_record(&mut bob, &room), (403, "M_FORBIDDEN".to_owned()), "he is not in the room");
    assert_eq!(ask_to_record(&mut alice, &room), (404, "M_NOT_FOUND".to_owned()), "there is no call");
    // Without calls there is no such endpoint.
    let server = TestServer::start();
    let mut alice = Account::register(server.client(), "alice");
    let room = alice.create_room(&json!({}));
    assert_eq!(ask_to_record(&mut alice, &room), (404, "M_UNRECOGNIZED".to_owned()));
}

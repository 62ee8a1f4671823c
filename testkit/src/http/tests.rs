use std::io::Cursor;
use std::net::TcpListener;
use std::thread;

use super::*;

fn read(bytes: &str) -> Result<(HttpResponse, bool), HttpError> {
    read_response(&mut Cursor::new(bytes.as_bytes().to_vec()), false)
}

#[test]
fn bodies_of_every_framing_are_read() {
    let (response, reusable) = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n{}rest").unwrap();
    assert_eq!((response.status, response.json(), reusable), (200, serde_json::json!({}), true));
    assert_eq!(response.header("x"), Some("y"));
    let (response, reusable) =
        read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n").unwrap();
    assert_eq!((response.body.as_slice(), reusable), (&b"abcde"[..], true));
    let (response, reusable) = read("HTTP/1.1 200 OK\r\n\r\nall of it").unwrap();
    assert_eq!((response.body.as_slice(), reusable), (&b"all of it"[..], false));
    let (response, _) =
        read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(response.status, 204);
}

#[test]
fn broken_responses_are_errors() {
    for broken in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 xyz\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        assert!(read(broken).is_err(), "{broken:?}");
    }
    assert!(read(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000))).is_err());
}

#[test]
fn a_silent_server_does_not_hold_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = HttpAddress::Tcp(listener.local_addr().unwrap());
    let mut client = HttpClient::new(address).with_timeout(Duration::from_millis(100));
    assert!(matches!(client.request("GET", "/", None, None), Err(HttpError::Io(_))));
}

#[test]
fn one_connection_carries_many_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = HttpAddress::Tcp(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).unwrap();
            requests.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
        requests
    });
    let mut client = HttpClient::new(address).with_timeout(Duration::from_secs(5));
    client.request("GET", "/a?b", None, None).unwrap();
    client.request("PUT", "/c", Some("secret"), Some(&serde_json::json!({"a": 1}))).unwrap();
    let requests = server.join().unwrap();
    assert_eq!(requests[0], "GET /a?b HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(requests[1].starts_with("PUT /c HTTP/1.1\r\n") && requests[1].contains("authorization: Bearer secret\r\n"));
    assert!(requests[1].ends_with("content-length: 7\r\n\r\n{\"a\":1}"), "{}", requests[1]);
}

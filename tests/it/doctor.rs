//! `conduit calls doctor` with the real program: set-ups that are right, and those that are wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Output;
use std::thread;

use serde_json::Value;
use testkit::{ConduitProcess, HttpAddress};

/// A port that nobody has, of UDP and TCP.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server with calls on loopback; where it listens for HTTP.
fn server(settings: &[&str]) -> (ConduitProcess, SocketAddr) {
    let mut server = ConduitProcess::new(env!("CARGO_BIN_EXE_conduit"), settings);
    let HttpAddress::Tcp(address) = server.add_tcp_listener() else { panic!("TCP was asked for") };
    let first = free_port();
    for setting in [
        format!("client.public_baseurl=http://{address}"),
        format!("sfu.udp_port={}", free_port()),
        format!("sfu.tcp_port={}", free_port()),
        format!("turn.port={}", free_port()),
        format!("turn.relay_ports={first}-{}", first.saturating_add(20)),
    ] {
        server.set(&setting);
    }
    for key in ["sfu.listen", "turn.listen", "turn.relay_addresses"] {
        server.set(&format!("{key}=[\"127.0.0.1\"]"));
    }
    (server, address)
}

/// The exit code, and level and text of each thing that was looked at.
fn examine(server: &ConduitProcess) -> (i32, Vec<(String, String, String)>) {
    let output: Output = server.run_command(&["calls", "doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.map(|finding| (text(finding, "check"), text(finding, "level"), text(finding, "found")));
    (output.status.code().unwrap(), findings.collect())
}

fn levels<'a>(findings: &'a [(String, String, String)], check: &str) -> Vec<&'a str> {
    findings.iter().filter(|finding| finding.0 == check).map(|finding| finding.1.as_str()).collect()
}

#[test]
fn a_good_set_up_has_no_failures() {
    let (mut server, _) = server(&[]);
    server.start();
    let (code, findings) = examine(&server);
    assert_eq!(code, 0, "{findings:#?}");
    for check in
        ["server", "signalling", "websocket", "media_udp", "media_tcp", "relay_udp", "relay_tcp", "relay_ports"]
    {
        assert_eq!(levels(&findings, check), ["ok"], "{check}: {findings:#?}");
    }
    assert_eq!(levels(&findings, "transports"), ["ok", "ok"], "{findings:#?}");
    assert_eq!(levels(&findings, "tokens"), ["ok", "ok"], "{findings:#?}");
    // Loopback is not where others reach it, and http is not how.
    assert_eq!(levels(&findings, "media_address"), ["warn"]);
    assert_eq!(levels(&findings, "public_address"), ["warn"]);
    let text = server.run_command(&["calls", "doctor"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("ok   media_udp: udp 127.0.0.1:"), "{text}");
}

#[test]
fn without_a_server_only_the_configuration_is_looked_at() {
    let (server, _) = server(&[]);
    let (code, findings) = examine(&server);
    assert_eq!((code, levels(&findings, "server")), (1, vec!["fail"]), "{findings:#?}");
    assert!(levels(&findings, "media_udp").is_empty());
}

#[test]
fn a_public_address_that_leads_nowhere_fails() {
    let (mut server, _) = server(&[]);
    server.set(&format!("client.public_baseurl=http://127.0.0.1:{}", free_port()));
    server.start();
    let (code, findings) = examine(&server);
    assert_eq!(code, 1);
    for check in ["signalling", "websocket"] {
        assert_eq!(levels(&findings, check), ["fail"], "{check}: {findings:#?}");
    }
    assert_eq!(levels(&findings, "media_udp"), ["ok"], "the ports are another matter");
}

#[test]
fn a_proxy_that_passes_on_no_websockets_is_found() {
    let (mut server, address) = server(&[]);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set(&format!("client.public_baseurl=http://{}", proxy.local_addr().unwrap()));
    server.start();
    thread::spawn(move || {
        for client in proxy.incoming().take(100).flatten() {
            thread::spawn(move || pass_on(client, address));
        }
    });
    let (code, findings) = examine(&server);
    assert_eq!(code, 1);
    assert_eq!(levels(&findings, "signalling"), ["ok"], "{findings:#?}");
    assert_eq!(levels(&findings, "websocket"), ["fail"], "{findings:#?}");
    let found = &findings.iter().find(|finding| finding.0 == "websocket").unwrap().2;
    assert!(found.contains("not as a WebSocket"), "{found}");
}

/// Passes on one request without what wishes for a WebSocket, and its answer.
fn pass_on(mut client: TcpStream, server: SocketAddr) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.extend(byte);
    }
    let head = String::from_utf8(request).unwrap();
    let kept = head.trim_end().lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("upgrade:") && !line.starts_with("connection:")
    });
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body).unwrap();
    let mut stream = TcpStream::connect(server).unwrap();
    let head = kept.map(|line| format!("{line}\r\n")).collect::<String>();
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let _ = client.write_all(&answer);
}

#[test]
fn the_public_address_is_asked_of_a_stun_server() {
    // The TURN server of one is the STUN server of the other.
    let (mut other, _) = server(&[]);
    let port = free_port();
    other.set(&format!("turn.port={port}"));
    other.start();
    let (mut here, _) = server(&[]);
    here.set(&format!("calls.stun_server=127.0.0.1:{port}"));
    // All interfaces: without STUN the machine's own address would be told.
    here.set("sfu.listen=[\"0.0.0.0\"]");
    here.start();
    let (code, findings) = examine(&here);
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(levels(&findings, "media_address"), ["warn", "ok"], "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.0 == "media_udp" && finding.2.contains("udp 127.0.0.1:")));
    // Whoever says another address is corrected.
    here.set("sfu.public_addresses=[\"192.0.2.7\"]");
    assert!(here.terminate().success());
    here.start();
    let (code, findings) = examine(&here);
    assert_eq!((code, levels(&findings, "media_address")), (1, vec!["warn", "fail"]), "{findings:#?}");
    assert_eq!(levels(&findings, "hairpin").first(), Some(&"warn"), "nobody is at that address: {findings:#?}");
}

#[test]
fn a_relay_that_is_elsewhere_or_does_not_answer_is_told() {
    let (mut server, _) = server(&[]);
    // A documentation address, which nobody has.
    server.set("turn.host=192.0.2.7");
    server.start();
    let (code, findings) = examine(&server);
    assert_eq!((code, levels(&findings, "hairpin")), (0, vec!["warn", "warn"]), "{findings:#?}");
    assert!(levels(&findings, "relay_udp").is_empty());
    // Another program has the port that clients are told.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set("turn.host=127.0.0.1");
    server.set("turn.tcp=false");
    server.set(&format!("turn.port={}", taken.local_addr().unwrap().port()));
    assert!(server.terminate().success());
    server.start();
    let (code, findings) = examine(&server);
    assert_eq!((code, levels(&findings, "relay")), (1, vec!["fail"]), "{findings:#?}");
}

#[test]
fn a_media_server_that_does_not_run_is_told() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut server, _) = server(&[]);
    server.set(&format!("sfu.udp_port={}", taken.local_addr().unwrap().port()));
    server.start();
    let (code, findings) = examine(&server);
    assert_eq!((code, levels(&findings, "media")), (1, vec!["fail"]), "{findings:#?}");
}

//! What clients are given.

use std::net::IpAddr;

use crate::config::TurnConfig;

/// How to use the relay, in the form of `GET /_matrix/client/v3/voip/turnServer` and of WebRTC's `RTCIceServer`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The relay's URIs (RFC 7065), the cheapest way first.
    pub uris: Vec<String>,
    /// For how many seconds they are good.
    pub ttl: u64,
}

/// The URIs of the relay, which is called `name` unless the settings name it.
pub(crate) fn uris(config: &TurnConfig, name: &str, has_certificate: bool) -> Vec<String> {
    let host = config.host.as_deref().unwrap_or_else(|| without_port(name));
    let host = match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    };
    let mut uris = vec![format!("turn:{host}:{}?transport=udp", config.port)];
    if config.tcp {
        uris.push(format!("turn:{host}:{}?transport=tcp", config.port));
    }
    if has_certificate && config.tls_port != 0 {
        uris.push(format!("turns:{host}:{}?transport=tcp", config.tls_port));
    }
    uris
}

/// A name or address, maybe in brackets, without the port after it.
fn without_port(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match name.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_the_relay() {
        let mut config = TurnConfig::default();
        let udp_and_tcp = ["turn:a.org:3478?transport=udp", "turn:a.org:3478?transport=tcp"];
        assert_eq!(uris(&config, "a.org:8448", false), udp_and_tcp);
        assert_eq!(uris(&config, "[2001:db8::1]:8448", true)[2], "turns:[2001:db8::1]:5349?transport=tcp");
        assert_eq!(uris(&config, "2001:db8::1", true)[0], "turn:[2001:db8::1]:3478?transport=udp");
        config.host = Some("turn.a.org".to_owned());
        config.tcp = false;
        config.tls_port = 0;
        assert_eq!(uris(&config, "a.org", true), ["turn:turn.a.org:3478?transport=udp"]);
    }
}

//! What clients ask over HTTP, at the public address: through the reverse proxy, if there is one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use calls::CallAddresses;
use http::{Request, StatusCode, Uri};
use outbound::{Reach, Web, WebClient, WebParts, read_body};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use turn::client::Stream;

use super::super::call_addresses;
use super::super::status::MediaStatus;
use super::Doctor;

/// How long a whole question may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// As long as the addresses with which clients join.
const LONG: usize = 12_000;
/// Where both forms of the question for transports are.
const TRANSPORTS: [&str; 2] =
    ["/_matrix/client/v1/rtc/transports", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"];

/// An answer over HTTP.
struct Answer {
    status: StatusCode,
    json: Option<Value>,
}

impl Answer {
    fn errcode(&self) -> Option<&str> {
        self.json.as_ref()?.get("errcode")?.as_str()
    }
}

impl Doctor<'_> {
    pub(super) async fn check_web(&mut self, media: Option<&MediaStatus>) {
        let (Some(addresses), true) = (call_addresses(self.config), self.config.calls.enabled) else { return };
        let web = WebClient::new(WebParts {
            trusted_ca_file: self.config.trusted_ca_file.clone(),
            allow_private_addresses: true,
            connect_timeout: LIMIT,
            clock: self.clock.clone(),
        });
        let web = match web {
            Ok(web) => web,
            Err(error) => return self.fail("web", error.to_string(), "correct trusted_ca_file"),
        };
        self.check_well_known(&web, &addresses).await;
        self.check_transports(&web).await;
        self.check_tokens(&web, &addresses).await;
        if let Some(media) = media {
            self.check_signalling(&web, &addresses, media).await;
            self.check_socket(&addresses, media).await;
        }
    }

    async fn ask(&self, web: &WebClient, method: &str, url: &str, body: &'static str) -> Result<Answer, String> {
        let request = Request::builder().method(method).uri(url).header("content-type", "application/json");
        let request = request.body(Bytes::from_static(body.as_bytes())).map_err(|error| error.to_string())?;
        let answer = self.clock.timeout(LIMIT, web.send(request, Reach::Anywhere)).await;
        let answer = answer.ok_or("no answer")?.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = read_body(answer.into_body(), MAX_ANSWER, &self.clock, LIMIT).await;
        let json = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        Ok(Answer { status, json })
    }

    async fn check_well_known(&mut self, web: &WebClient, addresses: &CallAddresses) {
        let host = self.config.server_name.clone();
        // Clients look at the host of user ids, without its port.
        let host =
            host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(&*host, |(host, _)| host);
        let url = format!("https://{host}/.well-known/matrix/client");
        let advice = format!(
            "older clients find calls there alone: serve the key org.matrix.msc4143.rtc_foci with {}",
            addresses.service
        );
        match self.ask(web, "GET", &url, "").await {
            Ok(Answer { status: StatusCode::OK, json: Some(document) }) if names(&document, &addresses.service) => {
                self.ok("well_known", format!("{url} names {}", addresses.service));
            }
            Ok(Answer { status: StatusCode::OK, json: Some(_) }) => {
                self.warn("well_known", format!("{url} does not name {}", addresses.service), advice);
            }
            Ok(Answer { status, .. }) => self.warn("well_known", format!("{url} answers {status}"), advice),
            Err(error) => self.warn("well_known", format!("{url}: {error}"), advice),
        }
    }

    async fn check_transports(&mut self, web: &WebClient) {
        let Some(base) = &self.config.client.public_baseurl else { return };
        for path in TRANSPORTS {
            let url = format!("{}{path}", base.trim_end_matches('/'));
            match self.ask(web, "GET", &url, "").await {
                Ok(answer) if answer.errcode() == Some("M_MISSING_TOKEN") => {
                    self.ok("transports", format!("{url} is there"))
                }
                Ok(answer) => self.fail_proxy("transports", &url, answer.status),
                Err(error) => self.fail_url("transports", &url, &error, "client.public_baseurl"),
            }
        }
    }

    async fn check_tokens(&mut self, web: &WebClient, addresses: &CallAddresses) {
        for path in ["/sfu/get", "/get_token"] {
            let url = format!("{}{path}", addresses.service);
            match self.ask(web, "POST", &url, "{}").await {
                Ok(answer) if answer.status == StatusCode::BAD_REQUEST && answer.errcode().is_some() => {
                    self.ok("tokens", format!("{url} is there"));
                }
                Ok(answer) => self.fail_proxy("tokens", &url, answer.status),
                Err(error) => self.fail_url("tokens", &url, &error, "calls.public_url"),
            }
        }
    }

    /// Shows a token that only this server knows to be well signed.
    async fn check_signalling(&mut self, web: &WebClient, addresses: &CallAddresses, media: &MediaStatus) {
        let url = format!("{}/rtc/validate", http_form(&addresses.media));
        let asked = self.ask(web, "GET", &format!("{url}?access_token={}", media.token), "").await;
        match asked.map(|answer| answer.status) {
            Ok(StatusCode::FORBIDDEN) => self.ok("signalling", format!("{url} leads to this server")),
            Ok(StatusCode::UNAUTHORIZED) => {
                let advice = "two servers must not share this address, nor one be restarted with another calls.key";
                self.fail("signalling", format!("{url} leads to another media server"), advice);
            }
            Ok(status) => self.fail_proxy("signalling", &url, status),
            Err(error) => self.fail_url("signalling", &url, &error, "calls.public_url"),
        }
    }

    /// Wishes for a WebSocket, with an address as long as that of real clients.
    async fn check_socket(&mut self, addresses: &CallAddresses, media: &MediaStatus) {
        let url = format!("{}/rtc", addresses.media);
        let query = format!("access_token={}&padding={}", media.token, "x".repeat(LONG));
        let asked = self.clock.timeout(LIMIT, self.wish_for_socket(&url, &query)).await;
        match asked.unwrap_or_else(|| Err("no answer".to_owned())) {
            // Whoever gets this far has had the wish understood, and the token too.
            Ok(403) => self.ok("websocket", format!("{url} takes WebSockets")),
            Ok(404) => {
                let advice = "have the reverse proxy pass on the headers Upgrade and Connection below /_rtc";
                self.fail("websocket", format!("{url} is reached, but not as a WebSocket"), advice);
            }
            Ok(status @ (400 | 414 | 431)) => {
                let advice = "have the reverse proxy take lines of 32 kB below /_rtc";
                self.fail("websocket", format!("{url} answers {status} to a long line"), advice);
            }
            Ok(status) => {
                let advice = "have the reverse proxy pass on /_rtc, with WebSockets; see docs/calls.md";
                self.fail("websocket", format!("{url} answers {status}"), advice);
            }
            Err(error) => self.fail_url("websocket", &url, &error, "calls.public_url"),
        }
    }

    /// The status with which the wish is answered.
    async fn wish_for_socket(&self, url: &str, query: &str) -> Result<u16, String> {
        let described = |error: &dyn std::fmt::Display| error.to_string();
        let uri: Uri = http_form(url).parse().map_err(|error| described(&error))?;
        let host = uri.host().ok_or("it has no host")?;
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((name.as_str(), port)).await.map_err(|error| described(&error))?;
        let mut stream: Box<dyn Stream> = if secure {
            let connector = TlsConnector::from(Arc::new(self.tls().map_err(|error| described(&error))?));
            let name = ServerName::try_from(name).map_err(|error| described(&error))?;
            Box::new(connector.connect(name, stream).await.map_err(|error| described(&error))?)
        } else {
            Box::new(stream)
        };
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let request = format!(
            "GET {}?{query} HTTP/1.1\r\nhost: {authority}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: Y29uZHVpdCBzZWxmLXRlc3Q=\r\n\r\n",
            uri.path()
        );
        stream.write_all(request.as_bytes()).await.map_err(|error| described(&error))?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.map_err(|error| described(&error))?;
        let status = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 "));
        status.and_then(|status| status.parse().ok()).ok_or_else(|| "the answer is no HTTP".to_owned())
    }

    fn fail_proxy(&mut self, check: &'static str, url: &str, status: StatusCode) {
        let advice = "have the reverse proxy pass on /_matrix and /_rtc to this server";
        self.fail(check, format!("{url} answers {status}"), advice);
    }

    fn fail_url(&mut self, check: &'static str, url: &str, error: &str, key: &str) {
        let advice = format!("the address in {key} has to lead to this server, also from this machine");
        self.fail(check, format!("{url}: {error}"), advice);
    }
}

/// Whether the document names the service among the transports.
fn names(document: &Value, service: &str) -> bool {
    let transports = document.get("org.matrix.msc4143.rtc_foci").and_then(Value::as_array);
    let url = |transport: &Value| transport.get("livekit_service_url").and_then(Value::as_str).map(str::to_owned);
    transports.into_iter().flatten().filter_map(url).any(|url| url.trim_end_matches('/') == service)
}

/// `ws` as `http`, and `wss` as `https`.
fn http_form(url: &str) -> String {
    url.replacen("ws", "http", 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_names_the_service_or_not() {
        let service = "https://a.org/_rtc/jwt";
        let document =
            |url: &str| json!({"org.matrix.msc4143.rtc_foci": [{"type": "livekit", "livekit_service_url": url}]});
        assert!(names(&document(service), service) && names(&document("https://a.org/_rtc/jwt/"), service));
        assert!(!names(&document("https://b.org/_rtc/jwt"), service) && !names(&json!({}), service));
        assert_eq!(http_form("wss://ws.org/rtc"), "https://ws.org/rtc");
    }
}

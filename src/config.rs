//! The whole configuration: the keys of the program itself and the sections of the crates.

mod address;
pub(crate) mod check;
mod difference;
mod load;
mod render;
mod secrets;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use runtime::LogConfig;
use runtime::config::{ByteSize, Span};
use serde::{Deserialize, Serialize};

pub use address::{BadAddress, ListenAddress};
pub use difference::{Difference, differences_from_defaults, render_differences};
pub(crate) use difference::{Values, compare, compare_with_defaults, is_reloadable, list_values};
pub(crate) use load::find_data_dir;
pub use load::{ConfigError, ConfigErrors, ConfigSources, LoadedConfig, Source, load_config};
pub(crate) use render::list_effective_values;
pub use render::{render_default_config, render_effective_config};
pub use secrets::OpenSecret;

runtime::config_section! {
    /// The configuration of a Conduit server.
    pub struct Config {
        /// The name of this server: the part of user ids after the colon. It cannot be changed
        /// once the first account exists.
        pub server_name: String = "localhost".to_owned();
        /// The folder that holds everything the server keeps.
        pub data_dir: PathBuf = PathBuf::from("./data");
        /// Where to listen: `"127.0.0.1:8008"` (HTTP, for a reverse proxy), `"tls://[::]:8448"`
        /// (HTTPS, see `[tls]`), `"unix:/run/conduit.sock"`.
        pub listeners: Vec<ListenAddress> = vec![ListenAddress::default()];
        /// Who may make an account: `closed` (nobody but the administrator), `token` (whoever has
        /// a registration token), `open` (anybody).
        pub registration: Registration = Registration::Closed;
        /// A token that always lets its bearer register when `registration = "token"`.
        pub registration_token: Option<String> = None, secret, example("\"a long random word\"");
        /// A secret with which scripts make accounts (`/_synapse/admin/v1/register`).
        pub registration_shared_secret: Option<String> = None, secret, example("{ file = \"/etc/conduit/secret\" }");
        /// When a message counts as sent: `always` (it is on the disk and survives a power
        /// failure) or `interval` (it survives a crash of the server; a power failure loses what
        /// was sent within `durability_interval`).
        pub durability: DurabilityMode = DurabilityMode::Always;
        /// The longest time between two writes to the disk with `durability = "interval"`.
        pub durability_interval: Span = Span::seconds(1);
        /// Memory for caching the database.
        pub cache_bytes: ByteSize = ByteSize::mib(32);
        /// The room version of new rooms.
        pub default_room_version: String = "12".to_owned();
        /// A file of certificates (PEM) to trust besides the usual ones when talking to other
        /// servers.
        pub trusted_ca_file: Option<PathBuf> = None, example("\"/etc/conduit/ca.pem\"");
        /// Whether the server may connect to private, loopback and link-local addresses. Anybody
        /// can make a server connect somewhere, so leave this off outside of test networks.
        pub allow_private_addresses: bool = false;
        /// Reverse proxies whose `X-Forwarded-For` header is believed. Unix sockets always are.
        pub trusted_proxies: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        /// The most connections at a time; further ones wait.
        pub max_connections: usize = 8192;
        /// How long requests in progress may take to end when the server stops.
        pub shutdown_grace: Span = Span::seconds(10);
    }
    sections {
        client: client_api::ClientApiConfig, users: users::UsersSettings, roles: users::RolesConfig, media: media::MediaConfig, sync: sync::SyncConfig, push: push::PushConfig, search: search::SearchConfig, tls: TlsConfig,
        federation: federation::FederationConfig, metrics: MetricsConfig, log: LogConfig, rate_limits: client_api::RateLimitsConfig, spam: client_api::SpamConfig, delayed_events: rooms::DelayedEventsConfig, retention: rooms::RetentionConfig,
        calls: calls::CallsConfig, sfu: sfu::SfuConfig, turn: turn::TurnConfig, appservices: users::AppServicesSettings, server_notices: users::ServerNoticesConfig, admin: admin::AdminConfig
    }
}

runtime::config_section! {
    /// The certificate of `tls://` listeners. Files are read again on SIGHUP.
    pub struct TlsConfig {
        /// The certificate chain (PEM), own certificate first.
        pub certificate: Option<PathBuf> = None, reloadable, example("\"/etc/conduit/fullchain.pem\"");
        /// The private key (PEM).
        pub key: Option<PathBuf> = None, reloadable, example("\"/etc/conduit/privkey.pem\"");
        /// For test networks, instead of the two above: the certificate (PEM) of an authority. At
        /// each start it signs a new certificate for `server_name`, which is kept in memory only.
        pub authority_certificate: Option<PathBuf> = None, reloadable, example("\"/etc/conduit/authority.pem\"");
        /// The private key (PEM) of that authority.
        pub authority_key: Option<PathBuf> = None, reloadable, example("\"/etc/conduit/authority-key.pem\"");
    }
}

runtime::config_section! {
    /// Figures for Prometheus, at `/metrics`.
    pub struct MetricsConfig {
        /// Where to serve them; not at all by default. Everybody who can connect can read them.
        pub listener: Option<ListenAddress> = None, example("\"127.0.0.1:9008\"");
    }
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody but the administrator.
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Anybody.
    Open,
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityMode {
    /// When it is on the disk.
    Always,
    /// When the operating system has it; written to the disk at intervals.
    Interval,
}

impl Config {
    /// What is wrong with the values together, beyond their types: `(key, reason)`. Does not look
    /// at the disk.
    pub(crate) fn find_contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Err(error) = spec::ids::ServerName::parse(&self.server_name) {
            found.push(("server_name", error.to_string()));
        }
        if let Err(error) = self.default_room_version.parse::<spec::version::RoomVersion>() {
            found.push(("default_room_version", error.to_string()));
        }
        if self.listeners.is_empty() {
            found.push(("listeners", "without a listener nobody can reach the server".to_owned()));
        }
        let uses_tls = self.listeners.iter().any(|address| matches!(address, ListenAddress::Tls(_)));
        found.extend(self.tls.find_contradictions(uses_tls));
        if matches!(self.metrics.listener, Some(ListenAddress::Tls(_))) {
            found.push(("metrics.listener", "metrics are served without TLS".to_owned()));
        }
        if self.registration_token.as_deref().is_some_and(str::is_empty) {
            found.push(("registration_token", "an empty token would let everybody in".to_owned()));
        }
        if self.registration_shared_secret.as_deref().is_some_and(str::is_empty) {
            found.push(("registration_shared_secret", "an empty secret would let everybody in".to_owned()));
        }
        if self.calls.public_url.as_deref().is_some_and(|url| calls::CallAddresses::below(url).is_none()) {
            found.push(("calls.public_url", "an http or https address is needed".to_owned()));
        }
        if let Err((key, reason)) = self.search.check() {
            found.push((key, reason));
        }
        if let Err((key, reason)) = self.server_notices.check() {
            found.push((key, reason));
        }
        if let Err((key, reason)) = self.admin.check() {
            found.push((key, reason));
        }
        if self.max_connections == 0 {
            found.push(("max_connections", "nobody could connect".to_owned()));
        }
        if let Err(error) = self.log.check() {
            found.push(("log.level", error.to_string()));
        }
        found
    }
}

impl TlsConfig {
    /// `needed` tells that there is a listener with TLS.
    fn find_contradictions(&self, needed: bool) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        match (&self.authority_certificate, &self.authority_key) {
            (None, None) => {
                let files = [("tls.certificate", &self.certificate), ("tls.key", &self.key)];
                let missing = files.into_iter().filter(|(_, file)| needed && file.is_none());
                found.extend(missing.map(|(key, _)| (key, "needed by the tls:// listener".to_owned())));
            }
            (None, Some(_)) => found.push(("tls.authority_certificate", "needed by tls.authority_key".to_owned())),
            (Some(_), None) => found.push(("tls.authority_key", "needed by tls.authority_certificate".to_owned())),
            (Some(_), Some(_)) if self.certificate.is_some() || self.key.is_some() => {
                let reason = "an authority signs the certificate, so tls.certificate and tls.key must not be set";
                found.push(("tls.authority_certificate", reason.to_owned()));
            }
            (Some(_), Some(_)) => {}
        }
        found
    }
}

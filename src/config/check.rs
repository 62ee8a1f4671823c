//! What `conduit config check` finds beyond mistakes: contradictions between keys, files that cannot be used, and what is
//! usually not meant. Each finding says what to do.

mod files;
mod ports;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use super::{Config, ConfigError, ListenAddress, OpenSecret, Registration};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The server does not start, or a part of it cannot work.
    Error,
    /// It works, but perhaps not as it is meant.
    Warning,
}

/// One thing that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// The dotted key; empty if it is about none.
    pub(crate) key: String,
    pub(crate) problem: String,
    /// What to do.
    pub(crate) advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        write!(f, "{level}: ")?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n  do: {}", self.advice) }
    }
}

impl Finding {
    fn error(key: &str, problem: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Error, key: key.to_owned(), problem: problem.into(), advice: advice.into() }
    }

    fn warning(key: &str, problem: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, ..Finding::error(key, problem, advice) }
    }

    /// A mistake that keeps the configuration from being read.
    pub(crate) fn of_error(error: &ConfigError) -> Finding {
        let (key, advice) = match error {
            ConfigError::UnknownKey { key, .. } => (key.as_str(), "take it out, or correct its name"),
            ConfigError::BadValue { key, .. } | ConfigError::Contradiction { key, .. } => (key.as_str(), "correct it"),
            ConfigError::Unreadable { .. } => ("", "see whether the file is there and the server's user may read it"),
            ConfigError::NotToml { .. } => ("", "correct that line"),
            ConfigError::NotAnAssignment(_) => ("", "write --set KEY=VALUE"),
        };
        Finding::error(key, error.to_string(), advice)
    }

    /// A secret that everybody can read.
    pub(crate) fn of_open_secret(open: &OpenSecret) -> Finding {
        let problem = format!("everybody on this machine can read {}", open.path.display());
        Finding::warning(&open.key, problem, "chmod o-r, and let the server's user own it")
    }

    /// What was said of the environment.
    pub(crate) fn of_environment(warning: String) -> Finding {
        Finding::warning("", warning, "rename or unset it if it is meant for the server")
    }
}

/// Looks at everything, files and folders among it: errors first. Does not open ports, so that it works beside a running
/// server.
pub(crate) fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    files::examine(config, &mut found);
    ports::examine(config, &mut found);
    examine_access(config, &mut found);
    examine_calls(config, &mut found);
    examine_media(config, &mut found);
    examine_federation(config, &mut found);
    examine_times(config, &mut found);
    found.sort_by_key(|finding| finding.level);
    found
}

/// Whether it can only be connected to from this machine.
fn is_local(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => address.ip().is_loopback(),
        ListenAddress::Unix(_) => true,
    }
}

fn examine_access(config: &Config, found: &mut Vec<Finding>) {
    match config.registration {
        Registration::Open => found.push(Finding::warning(
            "registration",
            "anybody can make accounts, and nothing keeps programs from making many",
            "set registration = \"token\", or watch the accounts that are made",
        )),
        Registration::Closed if config.registration_token.is_some() => found.push(Finding::warning(
            "registration_token",
            "it is not used, since registration is closed",
            "set registration = \"token\", or take it out",
        )),
        _ => {}
    }
    if !config.rate_limits.enabled {
        found.push(Finding::warning(
            "rate_limits.enabled",
            "nothing limits how often passwords are tried or messages are sent",
            "leave it on outside of test networks",
        ));
    }
    if config.allow_private_addresses {
        found.push(Finding::warning(
            "allow_private_addresses",
            "anybody can make the server connect to addresses inside its network",
            "leave it off outside of test networks",
        ));
    }
    if config.metrics.listener.as_ref().is_some_and(|address| !is_local(address)) {
        found.push(Finding::warning(
            "metrics.listener",
            "metrics can be read by everybody who reaches that address",
            "listen on a loopback address or a unix socket, or let a firewall decide",
        ));
    }
}

fn examine_calls(config: &Config, found: &mut Vec<Finding>) {
    if !config.calls.enabled {
        return;
    }
    let has_address = config.client.public_baseurl.is_some() || config.calls.public_url.is_some();
    if !has_address && is_meant_for_others(config) {
        found.push(Finding::warning(
            "calls.enabled",
            "calls are not offered, since the server does not know under which address clients reach it",
            "set client.public_baseurl, or calls.enabled = false",
        ));
    }
    if !has_address {
        return;
    }
    if config.delayed_events.max_delay.duration().is_zero() {
        found.push(Finding::warning(
            "delayed_events.max_delay",
            "without delayed events, participants whose client died stay in calls",
            "leave it at its default, or set calls.enabled = false",
        ));
    }
    let has_certificate = config.listeners.iter().any(|address| matches!(address, ListenAddress::Tls(_)));
    if config.turn.enabled && config.turn.tls_port != 0 && !has_certificate {
        found.push(Finding::warning(
            "turn.tls_port",
            "there is no TURN over TLS, since no listener has a certificate",
            "set turn.tls_port = 0, or see docs/calls.md on certificates",
        ));
    }
}

/// Whether somebody has begun to set the server up: the defaults are for a first look.
fn is_meant_for_others(config: &Config) -> bool {
    config.server_name != Config::default().server_name
}

fn examine_media(config: &Config, found: &mut Vec<Finding>) {
    let media = &config.media;
    let quotas = [
        ("media.user_quota", media.user_quota),
        ("media.guest_quota", media.guest_quota),
        ("media.moderator_quota", media.moderator_quota),
        ("media.administrator_quota", media.administrator_quota),
        ("media.server_quota", media.server_quota),
    ];
    for (key, quota) in quotas {
        if quota.is_some_and(|quota| quota.bytes() < media.max_upload.bytes()) {
            found.push(Finding::warning(
                key,
                "it is smaller than media.max_upload: clients are told that they may upload files that are refused",
                "raise it, or lower media.max_upload",
            ));
        }
    }
    if let (Some(user), Some(server)) = (media.user_quota, media.server_quota)
        && user.bytes() > server.bytes()
    {
        found.push(Finding::warning(
            "media.user_quota",
            "one user may store more than all users together",
            "lower it, or raise media.server_quota",
        ));
    }
}

fn examine_federation(config: &Config, found: &mut Vec<Finding>) {
    let federation = &config.federation;
    if !federation.enabled {
        return;
    }
    let is_named = config.client.public_baseurl.is_some() || federation.well_known_server.is_some();
    if is_meant_for_others(config) && !is_named && config.listeners.iter().all(is_local) {
        found.push(Finding::warning(
            "federation.enabled",
            "other servers cannot reach this one but through a reverse proxy on this machine",
            "set up the proxy and federation.well_known_server, listen on a public address, or set federation.enabled = false",
        ));
    }
    let both = federation.allowed_servers.iter().filter(|server| federation.denied_servers.contains(server));
    for server in both {
        found.push(Finding::warning(
            "federation.denied_servers",
            format!("{server} is allowed and denied, so it is denied"),
            "name it in one of the two lists",
        ));
    }
}

fn examine_times(config: &Config, found: &mut Vec<Finding>) {
    let pairs = [
        ("federation.backoff", config.federation.backoff, "federation.max_backoff", config.federation.max_backoff),
        ("push.backoff", config.push.backoff, "push.max_backoff", config.push.max_backoff),
        ("turn.lifetime", config.turn.lifetime, "turn.max_lifetime", config.turn.max_lifetime),
    ];
    for (key, time, limit_key, limit) in pairs {
        if time.duration() > limit.duration() {
            found.push(Finding::warning(key, format!("it is longer than {limit_key}"), format!("raise {limit_key}")));
        }
    }
}

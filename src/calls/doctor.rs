//! The self-test of calls: looks at the configuration, asks the running server what it tells its clients, and goes the
//! ways that clients go. It runs where the server runs, so a firewall in front of the machine can hide from it; every
//! line says what was tried.

mod media;
mod relay;
mod web;

use std::net::IpAddr;
use std::time::Duration;

use runtime::{Clock, Random};
use serde::Serialize;

use super::public_address::ask_public_addresses;
use super::{CallsStatus, call_addresses};
use crate::config::{Config, ListenAddress};

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Calls work for some, or it cannot be told from here.
    Warn,
    /// Calls do not work.
    Fail,
}

/// One line of the self-test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: a short name that does not change.
    pub check: &'static str,
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to open or to set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What the checks of the network work with.
pub(super) struct Doctor<'a> {
    config: &'a Config,
    clock: Clock,
    random: Random,
    findings: Vec<Finding>,
}

/// Looks at everything. `status` is what the running server says; without one only the configuration is looked at.
pub(crate) async fn examine(config: &Config, status: Result<CallsStatus, String>) -> Vec<Finding> {
    let mut doctor = Doctor { config, clock: Clock::system(), random: Random::system(), findings: Vec::new() };
    doctor.check_configuration();
    let status = match status {
        Ok(status) => {
            doctor.ok("server", "the server runs");
            status
        }
        Err(error) => {
            doctor.fail("server", error, "start the server, and run this as its user with its configuration");
            return doctor.findings;
        }
    };
    doctor.check_web(status.media.as_ref()).await;
    doctor.check_media(status.media.as_ref()).await;
    doctor.check_relay(status.relay.as_ref()).await;
    doctor.findings
}

impl Doctor<'_> {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.findings.push(Finding { check, level: Level::Ok, found: found.into(), advice: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let (found, advice) = (found.into(), Some(advice.into()));
        self.findings.push(Finding { check, level: Level::Warn, found, advice });
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let (found, advice) = (found.into(), Some(advice.into()));
        self.findings.push(Finding { check, level: Level::Fail, found, advice });
    }

    fn check_configuration(&mut self) {
        let config = self.config;
        match call_addresses(config) {
            None => self.fail(
                "public_address",
                "it is not known where clients reach this server",
                "set client.public_baseurl",
            ),
            Some(addresses) if addresses.service.starts_with("http://") => self.warn(
                "public_address",
                format!("clients use {} without TLS", addresses.service),
                "use https in client.public_baseurl: pages that were loaded over it connect to nothing else",
            ),
            Some(addresses) => self.ok("public_address", addresses.service),
        }
        for (check, is_on, key) in [
            ("media_enabled", config.calls.enabled, "calls.enabled"),
            ("relay_enabled", config.turn.enabled, "turn.enabled"),
        ] {
            if is_on {
                self.ok(check, format!("{key} = true"));
            } else {
                self.warn(check, format!("{key} = false"), format!("set {key} = true"));
            }
        }
        let has_tls = config.listeners.iter().any(|listener| matches!(listener, ListenAddress::Tls(_)));
        if config.turn.enabled && (!has_tls || config.turn.tls_port == 0) {
            self.warn(
                "relay_tls_configured",
                "TURN is not offered over TLS: networks that let nothing else through are shut out",
                "set a certificate in [tls], a tls:// listener, and turn.tls_port",
            );
        }
    }

    /// Whether others can reach addresses that clients are told.
    async fn check_announced(&mut self, check: &'static str, announced: &[IpAddr], key: &str) {
        let list = announced.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if announced.iter().any(|address| outbound::is_public(*address)) {
            self.ok(check, format!("clients are told {list}"));
        } else {
            self.warn(
                check,
                format!("clients are told {list}, which nobody on the Internet reaches"),
                format!("behind NAT, set {key} to the public address, or calls.stun_server"),
            );
        }
        let Some(server) = &self.config.calls.stun_server else { return };
        match ask_public_addresses(server, &self.clock, &self.random).await {
            Ok(seen) => {
                let wrong: Vec<String> =
                    seen.iter().filter(|seen| is_contradicted(**seen, announced)).map(ToString::to_string).collect();
                if wrong.is_empty() {
                    self.ok(check, format!("the STUN server {server} sees the same address"));
                } else {
                    let found = format!("clients are told {list}, but {server} sees {}", wrong.join(", "));
                    self.fail(check, found, format!("correct {key}, or restart the server if its address has changed"));
                }
            }
            Err(error) => {
                self.warn(check, format!("the STUN server {server}: {error}"), "correct calls.stun_server");
            }
        }
    }
}

/// Whether `announced` has addresses of this family, and another one than `seen`.
fn is_contradicted(seen: IpAddr, announced: &[IpAddr]) -> bool {
    let mut family = announced.iter().filter(|address| address.is_ipv4() == seen.is_ipv4()).peekable();
    family.peek().is_some() && family.all(|address| *address != seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn levels(change: impl FnOnce(&mut Config)) -> Vec<(&'static str, Level)> {
        let mut config = Config::default();
        change(&mut config);
        let findings = examine(&config, Err("nobody is there".to_owned())).await;
        findings.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[tokio::test]
    async fn a_configuration_without_an_address_fails() {
        let found = levels(|_| {}).await;
        assert!(found.contains(&("public_address", Level::Fail)) && found.contains(&("server", Level::Fail)));
        let found = levels(|config| config.client.public_baseurl = Some("http://a.org".to_owned())).await;
        assert!(found.contains(&("public_address", Level::Warn)));
        let found = levels(|config| config.client.public_baseurl = Some("https://a.org".to_owned())).await;
        assert!(
            found.contains(&("public_address", Level::Ok)) && found.contains(&("relay_tls_configured", Level::Warn))
        );
        let found = levels(|config| config.calls.enabled = false).await;
        assert!(found.contains(&("media_enabled", Level::Warn)));
    }

    #[test]
    fn an_address_is_compared_with_those_of_its_family() {
        let [four, other, six] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert!(!is_contradicted(four, &[four, six]));
        assert!(is_contradicted(four, &[other, six]));
        assert!(!is_contradicted(six, &[four]), "it is not told");
    }
}

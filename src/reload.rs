//! Taking over a changed configuration while the server runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use client_api::{RateLimitsConfig, SpamConfig};
use federation::FederationClient;
use media::Media;
use parking_lot::Mutex;
use runtime::LogHandle;
use runtime::config::Live;
use serde::Serialize;
use users::{AppServiceError, Users};

use crate::config::{
    Config, ConfigErrors, ConfigSources, Difference, Values, compare, is_reloadable, list_values, load_config,
};
use crate::tls::{Certificate, TlsError};

/// The configuration cannot be read again; the operator's business. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has mistakes.
    #[error("the configuration has mistakes: {0}")]
    Config(#[from] ConfigErrors),
    /// The server was started without a file to read again.
    #[error("this server does not know where its configuration is from")]
    NoSources,
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The registrations of application services.
    #[error(transparent)]
    AppServices(#[from] AppServiceError),
    /// The log.
    #[error(transparent)]
    Log(#[from] runtime::TelemetryError),
}

/// What a reload has changed, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// What is in force now.
    pub changed: Vec<Difference>,
    /// What needs a restart.
    pub needs_restart: Vec<Difference>,
    /// How many registrations of application services were read.
    pub appservices: usize,
}

/// Reloads the configuration of a running server. A cheap handle.
#[derive(Clone)]
pub(crate) struct Reloader(Arc<Inner>);

struct Inner {
    parts: ReloadParts,
    /// The values in force.
    running: Mutex<Values>,
    origin: OnceLock<(ConfigSources, Option<LogHandle>)>,
}

/// What takes over new settings.
pub(crate) struct ReloadParts {
    pub certificate: Option<Arc<Certificate>>,
    pub users: Users,
    pub media: Media,
    pub federation: FederationClient,
    pub rate_limits: Live<RateLimitsConfig>,
    pub spam: Live<SpamConfig>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloader")
    }
}

impl Reloader {
    /// `config` is what the server was started with.
    pub(crate) fn new(parts: ReloadParts, config: &Config) -> Reloader {
        let running = Mutex::new(list_values(config));
        Reloader(Arc::new(Inner { parts, running, origin: OnceLock::new() }))
    }

    /// Tells where the configuration comes from, and which log it sets. Once.
    pub(crate) fn set_origin(&self, sources: ConfigSources, log: Option<LogHandle>) {
        self.0.origin.get_or_init(|| (sources, log));
    }

    /// The values in force.
    pub(crate) fn running(&self) -> Values {
        self.0.running.lock().clone()
    }

    /// Reads the configuration again from where it came from, and takes over what can be. Blocks on the disk.
    ///
    /// # Errors
    /// See [`ReloadError`]: everything stays as it was.
    pub(crate) fn reload_from_origin(&self) -> Result<Reloaded, ReloadError> {
        let (sources, _) = self.0.origin.get().ok_or(ReloadError::NoSources)?;
        self.reload(&load_config(sources)?.config)
    }

    /// Takes over what can be of `config`.
    ///
    /// # Errors
    /// See [`ReloadError`]: everything stays as it was.
    pub(crate) fn reload(&self, config: &Config) -> Result<Reloaded, ReloadError> {
        let parts = &self.0.parts;
        // One at a time: the values in force are those of the last one.
        let mut running = self.0.running.lock();
        // What can fail comes first, and what changes something last.
        let certificate = parts.certificate.as_ref().map(|_| Certificate::read(config)).transpose()?;
        config.log.check()?;
        let appservices = parts.users.load_appservices(config.appservices.folder.as_deref())?;
        if let (Some(current), Some(fresh)) = (&parts.certificate, certificate) {
            current.replace(fresh);
        }
        if let Some((_, Some(log))) = self.0.origin.get() {
            log.set_level(&config.log.level)?;
        }
        parts.media.reload(config.media.clone());
        parts.federation.reload(Arc::new(config.federation.clone()));
        parts.rate_limits.replace(config.rate_limits.clone());
        parts.spam.replace(config.spam.clone());
        let wanted = list_values(config);
        let (changed, needs_restart): (Vec<_>, Vec<_>) =
            compare(&running, &wanted).into_iter().partition(|difference| is_reloadable(&difference.key));
        take_over(&mut running, &wanted, &changed);
        let reloaded = Reloaded { changed, needs_restart, appservices };
        tracing::info!(
            changed = ?reloaded.changed.iter().map(|difference| &difference.key).collect::<Vec<_>>(),
            needs_restart = ?reloaded.needs_restart.iter().map(|difference| &difference.key).collect::<Vec<_>>(),
            appservices,
            "the configuration was read again"
        );
        Ok(reloaded)
    }
}

fn take_over(running: &mut Values, wanted: &BTreeMap<String, toml::Value>, changed: &[Difference]) {
    for Difference { key, .. } in changed {
        match wanted.get(key) {
            Some(value) => running.insert(key.clone(), value.clone()),
            None => running.remove(key),
        };
    }
}

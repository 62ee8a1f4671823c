//! The process's log.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

crate::config_section! {
    /// What the server logs and how.
    pub struct LogConfig {
        /// What to log: `error`, `warn`, `info`, `debug`, `trace`, or directives for single
        /// modules such as `info,rooms=debug`.
        pub level: String = "info".to_owned(), reloadable;
        /// `text` for people, `json` (one object a line) for log collectors.
        pub format: LogFormat = LogFormat::Text;
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging could not start or change: the operator's configuration is wrong, or the process
/// already logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The operator wrote a filter that cannot be read.
    #[error("log.level {level:?} is not understood: {reason}")]
    Level { level: String, reason: String },
    /// [`start_logging`] was called twice in one process.
    #[error("this process has a log already")]
    AlreadyStarted,
}

/// Changes the running log.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

/// Sends the process's log to standard error. Once per process, from `main`.
///
/// # Errors
/// See [`TelemetryError`].
pub fn start_logging(config: &LogConfig) -> Result<LogHandle, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parse_level(&config.level)?);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(LogHandle(handle))
}

impl LogHandle {
    /// Replaces the filter (`log.level`).
    ///
    /// # Errors
    /// [`TelemetryError::Level`] when the filter cannot be read; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = parse_level(level)?;
        self.0
            .reload(filter)
            .map_err(|error| TelemetryError::Level { level: level.to_owned(), reason: error.to_string() })
    }
}

impl LogConfig {
    /// Whether `level` can be read.
    ///
    /// # Errors
    /// [`TelemetryError::Level`] if not.
    pub fn check(&self) -> Result<(), TelemetryError> {
        parse_level(&self.level).map(drop)
    }
}

fn parse_level(level: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(level)
        .map_err(|error| TelemetryError::Level { level: level.to_owned(), reason: error.to_string() })
}

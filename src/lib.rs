//! A Matrix homeserver: the program around the domain crates.
//!
//! Invariants of this crate:
//! - It connects and configures; it decides nothing about Matrix.
//! - A server is started by [`Server::start`] only, in `main` as in tests, and several may run in
//!   one process: nothing here is global but the log, the allocator and the signal handlers, which
//!   belong to the command line.
//! - Nothing is listened on before everything else has started, and the store is closed after the
//!   last request has been answered.

mod administration;
mod assemble;
mod backup;
mod calls;
mod cli;
mod config;
mod control;
mod health;
mod listen;
mod media;
mod metrics;
mod reload;
mod server;
mod signing;
mod tls;
mod top;

pub use cli::run_command_line;
pub use config::{
    BadAddress, Config, ConfigError, ConfigErrors, ConfigSources, Difference, DurabilityMode, ListenAddress,
    LoadedConfig, MetricsConfig, OpenSecret, Registration, Source, TlsConfig, load_config, render_default_config,
    render_effective_config,
};
pub use control::{
    ControlAnswer, ControlError, ControlQuestion, ControlReply, ControlRequest, converse, send_control_request,
};
pub use listen::ListenError;
pub use reload::{ReloadError, Reloaded};
pub use server::{Environment, OtherTransport, Server, StartError};
pub use tls::TlsError;

//! `conduit run`: the server, until it is told to stop.

use std::io::{self, IsTerminal};

use admin::operations::prepare;
use admin::{Actor, Caller, Face};
use runtime::LogHandle;
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use serde_json::Map;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigSources, ListenAddress, LoadedConfig, Registration};
use crate::server::Server;

pub(super) fn run_server(sources: ConfigSources, loaded: LoadedConfig) -> Result<(), String> {
    let log = runtime::start_logging(&loaded.config.log).map_err(|error| error.to_string())?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("conduit")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(serve_until_stopped(sources, loaded, &log))
}

/// Every connection and every database file needs a file descriptor; the usual soft limit of 1024
/// is far below what the system allows.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

async fn serve_until_stopped(sources: ConfigSources, loaded: LoadedConfig, log: &LogHandle) -> Result<(), String> {
    let no_signals = |error: io::Error| format!("cannot listen for signals: {error}");
    // Before the start, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(no_signals)?;
    let config = loaded.config.clone();
    let is_first_start = !config.data_dir.join("store").exists();
    let server = Server::start(loaded.config).await.map_err(|error| error.to_string())?;
    server.set_origin(sources, Some(log.clone()));
    tell_service_manager(NotifyState::Ready);
    tracing::info!(server_name = config.server_name, addresses = %join_addresses(&server), "the server is ready");
    if is_first_start {
        eprint!("{}", describe_first_start(&config, &server));
    }
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            _ = hang_up.recv() => reload(&server).await,
            () = server.wait_for_failure() => break true,
        }
    };
    tell_service_manager(NotifyState::Stopping);
    tracing::info!("the server stops");
    let clean = server.shutdown().await;
    tracing::info!(clean, "the server has stopped");
    if failed { Err("a part of the server failed; see the log".to_owned()) } else { Ok(()) }
}

/// Has the server read its configuration again, as the operation does: it is on record, and says in the log what came of
/// it.
async fn reload(server: &Server) {
    let caller = Caller::new(Actor::Operator, Face::Server);
    let done = match prepare("server", "reload", Map::new()) {
        Ok(prepared) => server.admin().perform(&caller, prepared).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        tracing::error!(%error, "the configuration was not reloaded");
    }
}

/// Does nothing unless systemd (or something like it) started the process.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

fn join_addresses(server: &Server) -> String {
    server.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What somebody who has just started a server for the first time wants to know.
fn describe_first_start(config: &Config, server: &Server) -> String {
    let url = server.addresses().iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(format!("http://{address}")),
        ListenAddress::Tls(address) => Some(format!("https://{address}")),
        ListenAddress::Unix(_) => None,
    });
    let url = url.unwrap_or_else(|| join_addresses(server));
    let first_account = match config.registration {
        Registration::Open => "register with any Matrix client; registration is open to everybody",
        Registration::Token => "register with any Matrix client and the registration token",
        Registration::Closed => "conduit user create NAME",
    };
    let (bold, plain) = if io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    format!(
        "\n{bold}Conduit serves {name} at {url}{plain}\n  \
           data:           {data}\n  \
           first account:  {first_account}\n                  \
                           (it becomes the administrator)\n  \
           configuration:  conduit config show\n\n",
        name = config.server_name,
        data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone()).display(),
    )
}

//! The command line.

mod admin;
mod appservice;
mod calls;
mod config;
mod fsck;
mod user;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use runtime::{Clock, LogHandle, Random};
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use storage::{Backend, Options, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::assemble::{STORE_DIR, all_keyspaces};
use crate::config::{
    Config, ConfigErrors, ConfigSources, ListenAddress, LoadedConfig, Registration, load_config, render_default_config,
    render_effective_config,
};
use crate::control::{ControlRequest, send_control_request};
use crate::server::Server;
use crate::signing::rotate_signing_key;
use crate::top;

/// Tried in this order when neither `--config` nor CONDUIT_CONFIG is given.
const USUAL_FILES: [&str; 2] = ["conduit.toml", "/etc/conduit/conduit.toml"];

#[derive(Debug, Parser)]
#[command(
    name = "conduit",
    version,
    about = "A Matrix homeserver",
    after_help = "Without a command the server runs. Every key of the configuration can also be given as an \
                  environment variable (CONDUIT_SERVER_NAME, CONDUIT_LOG__LEVEL) or by --set."
)]
struct CommandLine {
    #[command(flatten)]
    sources: SourceArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct SourceArguments {
    /// The configuration file [default: ./conduit.toml, else /etc/conduit/conduit.toml, else none]
    #[arg(long, short, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, such as log.level=debug; may be given several times
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without a command)
    Run,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Have the running server read its configuration again
    ///
    /// Says what has changed and what needs a restart. If the configuration has mistakes, nothing changes.
    Reload,
    /// Administer the running server: users, rooms, media and everything else
    ///
    /// The server explains itself: `conduit admin --help`, `conduit admin user --help`.
    #[command(disable_help_flag = true)]
    Admin {
        /// The operation and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPERATION")]
        words: Vec<String>,
    },
    /// Watch what the running server does
    ///
    /// Shows requests, events, how long things take, queues, memory and the busiest rooms. Press q to leave.
    Top {
        /// Seconds between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
        /// Print one look and end; rates are those of one interval
        #[arg(long)]
        once: bool,
        /// Print JSON; only with --once
        #[arg(long, requires = "once")]
        json: bool,
    },
    /// Copy everything the running server keeps into a new folder
    Backup {
        /// A folder that does not exist yet or is empty
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Check everything stored for damage; the server must not run
    ///
    /// Prints one finding a line. Exits with 0 if all is well, 1 if something is broken, 2 if it
    /// cannot check.
    Fsck {
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Look after the index of messages
    #[command(subcommand)]
    Search(SearchCommand),
    /// Look after application services: bridges and the like
    #[command(subcommand, name = "appservice")]
    AppService(appservice::AppServiceCommand),
    /// Look after calls
    #[command(subcommand)]
    Calls(calls::CallsCommand),
    /// Look after accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Look after the key that signs in the server's name
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
}

#[derive(Debug, Subcommand)]
enum SigningKeyCommand {
    /// Begin a new key; the server must not run
    ///
    /// The old key stays published as one that was in use before, so that others can still check what it signed.
    Rotate,
}

#[derive(Debug, Subcommand)]
enum SearchCommand {
    /// Have the running server build its search index from nothing
    ///
    /// Meanwhile only a part of the messages is found. Interrupting this command does not interrupt the server.
    Rebuild,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Look for mistakes, contradictions and what is usually not meant
    ///
    /// Prints one finding a line with what to do about it. Exits with 1 if there is a mistake that keeps the server from
    /// starting or working; warnings alone end with 0. Looks at files and ports: run it on the server's machine, as the
    /// server's user.
    Check {
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Print what differs from the defaults, as a configuration file; secrets are not shown
    Diff {
        /// Print JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Print the values in force and where each is from
    Show,
    /// Print a configuration file with every key, its documentation and its default
    Default,
}

/// Parses the process's arguments and does what they ask for.
pub fn run_command_line() -> ExitCode {
    let command_line = CommandLine::parse();
    let sources = &command_line.sources;
    let outcome = match command_line.command.unwrap_or(Command::Run) {
        Command::Run => load(sources).and_then(|loaded| run_server(sources, loaded)),
        Command::Config(ConfigCommand::Default) => print(&render_default_config()),
        Command::Config(ConfigCommand::Check { json }) => return config::check(&find_sources(sources), json),
        Command::Config(ConfigCommand::Diff { json }) => {
            load(sources).and_then(|loaded| config::show_differences(&loaded, json))
        }
        Command::Config(ConfigCommand::Show) => {
            load(sources).and_then(|loaded| print(&render_effective_config(&loaded)))
        }
        Command::Top { interval, once, json } => load(sources).and_then(|loaded| {
            let interval = Duration::from_secs(interval);
            top::run(&loaded.config.data_dir, interval, once, json).and_then(|text| print(&text))
        }),
        Command::Reload => load(sources).and_then(|loaded| reload_server(&loaded.config)),
        Command::Admin { words } => load(sources).and_then(|loaded| admin::run(words, &loaded.config)),
        Command::Backup { directory } => load(sources).and_then(|loaded| back_up(&loaded.config, &directory)),
        Command::Fsck { json } => return fsck::check_data(load(sources).map(|loaded| loaded.config), json),
        Command::Search(SearchCommand::Rebuild) => load(sources).and_then(|loaded| rebuild_search(&loaded.config)),
        Command::AppService(command) => load(sources).and_then(|loaded| appservice::run(command, &loaded.config)),
        Command::Calls(command) => return calls::run(command, load(sources).map(|loaded| loaded.config)),
        Command::User(command) => load(sources).and_then(|loaded| user::run(command, loaded.config)),
        Command::SigningKey(SigningKeyCommand::Rotate) => load(sources).and_then(|loaded| rotate_key(&loaded.config)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("conduit: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn rotate_key(config: &Config) -> Result<(), String> {
    // Whoever holds the database's lock would go on with the old key until its next start.
    let path = config.data_dir.join(STORE_DIR);
    let options = Options::new(Backend::Rocks { path }, all_keyspaces());
    let store = Store::open(options).map_err(|error| format!("the server must not run: {error}"))?;
    let (random, clock) = (Random::system(), Clock::system());
    let key = rotate_signing_key(&config.data_dir, &random, clock.now_ms()).map_err(|error| error.to_string());
    store.close().map_err(|error| error.to_string())?;
    print(&format!("from its next start on the server signs with {}\n", key?))
}

fn find_sources(arguments: &SourceArguments) -> ConfigSources {
    let named = || std::env::var_os("CONDUIT_CONFIG").map(PathBuf::from);
    let usual = || USUAL_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    ConfigSources {
        file: arguments.config.clone().or_else(named).or_else(usual),
        // A variable that is not Unicode cannot be meant for us.
        environment: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
        arguments: arguments.set.clone(),
    }
}

fn load(arguments: &SourceArguments) -> Result<LoadedConfig, String> {
    let loaded = load_config(&find_sources(arguments)).map_err(|errors| describe_errors(&errors))?;
    for warning in &loaded.warnings {
        eprintln!("conduit: {warning}");
    }
    Ok(loaded)
}

fn describe_errors(errors: &ConfigErrors) -> String {
    format!("the configuration has mistakes\n{}", errors.to_string().replace('\n', "\n  ")).replacen('\n', "\n  ", 1)
}

fn back_up(config: &Config, directory: &Path) -> Result<(), String> {
    let directory = std::path::absolute(directory).map_err(|error| error.to_string())?;
    let request = ControlRequest::Backup { directory };
    let done = send_control_request(&config.data_dir, &request, &mut |text| eprintln!("{text} …"));
    done.map_err(|error| error.to_string()).and_then(|text| print(&format!("{text}\n")))
}

fn reload_server(config: &Config) -> Result<(), String> {
    let done = send_control_request(&config.data_dir, &ControlRequest::Reload, &mut |_| {});
    done.map_err(|error| error.to_string()).and_then(|text| print(&format!("{}\n", text.trim_end())))
}

fn rebuild_search(config: &Config) -> Result<(), String> {
    let done =
        send_control_request(&config.data_dir, &ControlRequest::RebuildSearch, &mut |text| eprintln!("{text} …"));
    done.map_err(|error| error.to_string()).and_then(|text| print(&format!("{text}\n")))
}

fn run_server(arguments: &SourceArguments, loaded: LoadedConfig) -> Result<(), String> {
    let log = runtime::start_logging(&loaded.config.log).map_err(|error| error.to_string())?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("conduit")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(serve_until_stopped(arguments, loaded, &log))
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

async fn serve_until_stopped(arguments: &SourceArguments, loaded: LoadedConfig, log: &LogHandle) -> Result<(), String> {
    let no_signals = |error: io::Error| format!("cannot listen for signals: {error}");
    // Before the start, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(no_signals)?;
    let config = loaded.config.clone();
    let is_first_start = !config.data_dir.join("store").exists();
    let server = Server::start(loaded.config).await.map_err(|error| error.to_string())?;
    server.set_origin(find_sources(arguments), Some(log.clone()));
    tell_service_manager(NotifyState::Ready);
    tracing::info!(server_name = config.server_name, addresses = %join_addresses(&server), "the server is ready");
    if is_first_start {
        eprint!("{}", describe_first_start(&config, &server));
    }
    let failed = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            _ = hang_up.recv() => reload(&server),
            () = server.wait_for_failure() => break true,
        }
    };
    tell_service_manager(NotifyState::Stopping);
    tracing::info!("the server stops");
    let clean = server.shutdown().await;
    tracing::info!(clean, "the server has stopped");
    if failed { Err("a part of the server failed; see the log".to_owned()) } else { Ok(()) }
}

fn reload(server: &Server) {
    if let Err(error) = server.reload_from_origin() {
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

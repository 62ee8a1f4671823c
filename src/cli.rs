//! The command line.

mod admin;
mod appservice;
mod calls;
mod config;
mod fsck;
mod run;
mod user;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use runtime::{Clock, Random};
use storage::{Backend, Options, Store};

use crate::assemble::{STORE_DIR, all_keyspaces};
use crate::config::{
    Config, ConfigErrors, ConfigSources, LoadedConfig, find_data_dir, load_config, render_default_config,
    render_effective_config,
};
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
    /// Have the running server read its configuration again: short for `conduit admin server reload`
    ///
    /// Says what has changed and what needs a restart. If the configuration has mistakes, nothing changes, and the exit
    /// code is 1.
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
    /// Copy everything the running server keeps into a new folder: short for `conduit admin server backup`
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
    /// Print what a shell needs to complete the words of commands, those of `conduit admin` too
    ///
    /// For bash: `conduit completions bash > /usr/share/bash-completion/completions/conduit`.
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
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
    /// Have the running server build its search index from nothing: short for `conduit admin search rebuild --wait`
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
    // Commands for the running server need no more of the configuration than where it is: the server judges the rest.
    let perform = |words: Vec<String>| admin::run(words, &find_data_dir(&find_sources(sources)));
    let outcome = match command_line.command.unwrap_or(Command::Run) {
        Command::Run => load(sources).and_then(|loaded| run::run_server(find_sources(sources), loaded)),
        Command::Config(ConfigCommand::Default) => print(&render_default_config()),
        Command::Config(ConfigCommand::Check { json }) => return config::check(&find_sources(sources), json),
        Command::Config(ConfigCommand::Diff { json }) => {
            load(sources).and_then(|loaded| config::show_differences(&loaded, json))
        }
        Command::Config(ConfigCommand::Show) => {
            load(sources).and_then(|loaded| print(&render_effective_config(&loaded)))
        }
        Command::Top { interval, once, json } => {
            let (data_dir, interval) = (find_data_dir(&find_sources(sources)), Duration::from_secs(interval));
            top::run(&data_dir, interval, once, json).and_then(|text| print(&text))
        }
        Command::Reload => perform(words_of(&["server", "reload"])),
        Command::Admin { words } => perform(words),
        Command::Backup { directory } => std::path::absolute(&directory)
            .map_err(|error| error.to_string())
            .and_then(|directory| perform(words_of(&["server", "backup", &directory.to_string_lossy()]))),
        Command::Fsck { json } => return fsck::check_data(load(sources).map(|loaded| loaded.config), json),
        Command::Search(SearchCommand::Rebuild) => perform(words_of(&["search", "rebuild", "--wait"])),
        Command::AppService(command) => perform(command.words()),
        Command::Calls(command) => return calls::run(command, load(sources).map(|loaded| loaded.config)),
        Command::User(command) => user::run(command, sources),
        Command::Completions { shell } => print_completions(shell),
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
    for warning in loaded.open_secrets.iter().map(ToString::to_string).chain(loaded.warnings.iter().cloned()) {
        eprintln!("conduit: {warning}");
    }
    Ok(loaded)
}

fn describe_errors(errors: &ConfigErrors) -> String {
    format!("the configuration has mistakes\n{}", errors.to_string().replace('\n', "\n  ")).replacen('\n', "\n  ", 1)
}

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The words of `conduit admin` are known to the server; here they are put in its place.
fn print_completions(shell: clap_complete::Shell) -> Result<(), String> {
    let mut command = CommandLine::command().mut_subcommand("admin", |admin| {
        let about = admin.get_about().cloned().unwrap_or_default();
        ::admin::tree::command("admin").about(about)
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "conduit", &mut script);
    print(&String::from_utf8_lossy(&script))
}

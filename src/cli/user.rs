//! `conduit user`: accounts, made by whoever runs the server.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use ::admin::operations::prepare;
use ::admin::{Actor, Caller, Face};
use clap::{Args, Subcommand};
use runtime::Tasks;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Map, Value, json};
use storage::OpenError;

use super::{SourceArguments, admin};
use crate::assemble::{Parts, assemble_parts};
use crate::calls::Carriers;
use crate::config::{Config, find_data_dir};
use crate::control::ControlError;
use crate::server::{Environment, StartError};

/// The longest password that is read, in bytes; the server has a limit of its own.
const MAX_PASSWORD_INPUT: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make an account and print its user id; the first one becomes an administrator
    ///
    /// Short for `conduit admin user create` where the server runs, and works without it, too. Asks for the password
    /// unless it is given.
    Create(CreateUser),
}

#[derive(Debug, Args)]
pub(super) struct CreateUser {
    /// The name before the colon of the user id: a-z, 0-9 and . _ = - / +
    name: String,
    /// Read the password from the first line of the standard input
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Make it an administrator
    #[arg(long)]
    admin: bool,
}

pub(super) fn run(command: UserCommand, sources: &SourceArguments) -> Result<(), String> {
    let UserCommand::Create(arguments) = command;
    let password = find_password(&arguments)?;
    let data_dir = find_data_dir(&super::find_sources(sources));
    let role: &[&str] = if arguments.admin { &["--role", "administrator"] } else { &[] };
    let words = [&["user", "create", "--json", "--password", "-"], role, &["--", &arguments.name]].concat();
    // The running server alone has the database open; without one, it is opened here.
    let told = match admin::perform(super::words_of(&words), &data_dir, Some(&password)) {
        Err(ControlError::NotRunning { .. }) => {
            let config = super::load(sources)?.config;
            create_without_server(&config, &arguments, &password)?
        }
        told => {
            let text = told.map_err(|error| error.to_string())?.unwrap_or_default();
            serde_json::from_str(&text).map_err(|error| format!("the server is of another version: {error}"))?
        }
    };
    super::print(&format!("{}\n", told["user_id"].as_str().unwrap_or_default()))
}

/// The same operation, on the database that no server has open.
fn create_without_server(config: &Config, arguments: &CreateUser, password: &str) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let mut wanted =
        Map::from_iter([("name".to_owned(), json!(arguments.name)), ("password".to_owned(), json!(password))]);
    if arguments.admin {
        wanted.insert("role".to_owned(), json!("administrator"));
    }
    let prepared = prepare("user", "create", wanted).map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let data_dir_failed = |error| format!("cannot use the data folder {}: {error}", config.data_dir.display());
        std::fs::create_dir_all(&config.data_dir).map_err(data_dir_failed)?;
        let environment = Environment::system(config);
        let tasks = Tasks::new(&environment.metrics);
        let parts = assemble_parts(config, &environment, &tasks, Carriers::default(), None);
        let Parts { store, admin, .. } = parts.map_err(|error| describe_start_error(config, &error))?;
        let caller = Caller::new(Actor::Operator, Face::CommandLine);
        let created = admin.perform(&caller, prepared).await;
        tasks.shut_down();
        store.close().map_err(|error| error.to_string())?;
        created.map(|outcome| outcome.to_json()).map_err(|error| error.to_string())
    })
}

fn describe_start_error(config: &Config, error: &StartError) -> String {
    match error {
        StartError::Store(OpenError::Locked { .. }) => format!(
            "a server is running with the data in {} but takes no commands: wait until it has started",
            config.data_dir.display()
        ),
        error => error.to_string(),
    }
}

fn find_password(arguments: &CreateUser) -> Result<String, String> {
    if arguments.password_stdin {
        return read_password(io::stdin().lock()).map_err(|error| format!("cannot read the password: {error}"));
    }
    if let Some(path) = &arguments.password_file {
        return read_password_file(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    }
    if !io::stdin().is_terminal() {
        return Err("there is no terminal to ask for a password at: use --password-stdin or --password-file".into());
    }
    let failed = |error: io::Error| format!("cannot read the password: {error}");
    let password = ask_hidden("Password: ").map_err(failed)?;
    if ask_hidden("Once more: ").map_err(failed)? != password {
        return Err("the two passwords are not the same".into());
    }
    Ok(password)
}

fn read_password_file(path: &Path) -> io::Result<String> {
    read_password(io::BufReader::new(File::open(path)?))
}

/// The first line, without its end.
fn read_password(input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(MAX_PASSWORD_INPUT).read_line(&mut line)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    Ok(password.to_owned())
}

/// Shows typing again when it ends.
struct HiddenTyping(Termios);

impl HiddenTyping {
    fn begin() -> io::Result<HiddenTyping> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The line's end is shown, so that the cursor moves on.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(HiddenTyping(before))
    }
}

impl Drop for HiddenTyping {
    fn drop(&mut self) {
        // The terminal may be gone, and then nothing has to be put back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks for a secret at the terminal, which does not show it.
pub(super) fn ask_hidden(prompt: &str) -> io::Result<String> {
    let hidden = HiddenTyping::begin()?;
    eprint!("{prompt}");
    io::stderr().flush()?;
    let password = read_password(io::stdin().lock());
    drop(hidden);
    password
}

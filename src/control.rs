//! The control socket: how `conduit backup` and other commands talk to the running server, which
//! alone has the database open.
//!
//! It is `control.sock` in `data_dir`, for the server's own user only. A client writes one line of
//! JSON, a [`ControlRequest`], and reads lines, [`ControlReply`], until one is the last. Where the
//! server asks something, the client writes another line, a [`ControlAnswer`].

mod operations;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admin::{Action, Actor, Admin, AdminError, Caller, Effect, Face, Needs};
use runtime::{Metrics, Tasks};
use search::{BuildStatus, Search};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;
use users::{AccountKind, AdminRights, NewAccount, UserError, Users};

use crate::appservices;
use crate::backup::BackupSource;
use crate::calls::StatusSource;
use crate::listen::bind_unix;
use crate::top;

/// The socket's name in `data_dir`.
const SOCKET_NAME: &str = "control.sock";
/// Only the server's own user may give commands.
const SOCKET_MODE: u32 = 0o600;
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 256 * 1024;
/// A client sends its request within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer to a question, in bytes: a file of 8 MiB, as text in JSON.
const MAX_ANSWER: u64 = 20 * 1024 * 1024;
/// A client answers a question within this time: somebody may have to read it.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// A command for the running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Write a consistent copy of everything in `data_dir` into a new or empty folder.
    Backup {
        /// The folder, as an absolute path.
        directory: PathBuf,
    },
    /// Build the search index from nothing.
    RebuildSearch,
    /// Read the configuration again, and take over what can be without a restart.
    Reload,
    /// Tell the figures of the server, for `conduit top`.
    Figures,
    /// Add an application service for good.
    AddAppService {
        /// Its registration, in YAML.
        document: Document,
    },
    /// Say which application services there are.
    ListAppServices,
    /// Show the registration of one, without its tokens.
    ShowAppService {
        /// Its id.
        id: String,
    },
    /// Remove an application service that was added.
    RemoveAppService {
        /// Its id.
        id: String,
    },
    /// Perform an operation of administrators.
    Admin {
        /// Its command line, without the name of the program.
        words: Vec<String>,
    },
    /// Make an account, whoever may register.
    CreateUser {
        /// Localpart or whole user id.
        name: String,
        /// The password.
        password: Password,
        /// Make it an administrator. The first account is one in any case.
        admin: bool,
    },
    /// Say what self-tests of calls need to know, in JSON.
    CallsStatus,
}

/// A password in clear. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A registration, which holds tokens. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub String);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(…)")
    }
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// What is being done; more follows.
    Progress(String),
    /// Something has to be answered before it goes on.
    Ask(ControlQuestion),
    /// A file that belongs to the answer; more follows.
    File {
        /// Its name, without a path.
        name: String,
        /// Its content, in base64.
        content: String,
    },
    /// The last line: it is done.
    Done(String),
    /// The last line: it failed.
    Failed(String),
}

/// What the server asks the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlQuestion {
    /// Is this meant?
    Confirm(String),
    /// The secret for the argument of this name.
    Secret(String),
    /// The content of the file at this path, or of the standard input for `-`.
    Read(String),
}

/// What the client answers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlAnswer {
    /// It is meant, or not.
    Confirmed(bool),
    /// The content. It may be a secret: it is not shown by `Debug`.
    Text(String),
}

impl std::fmt::Debug for ControlAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ControlAnswer::Confirmed(confirmed) => f.debug_tuple("Confirmed").field(confirmed).finish(),
            ControlAnswer::Text(_) => f.write_str("Text(…)"),
        }
    }
}

/// A command could not be given to the server or failed there.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens at the socket.
    #[error("no server is running with the data in {}: {source}", data_dir.display())]
    NotRunning { data_dir: PathBuf, source: io::Error },
    /// The socket is there, but not for this user.
    #[error("the server with the data in {} takes commands from its own user only: {source}", data_dir.display())]
    Denied { data_dir: PathBuf, source: io::Error },
    /// The server went away or is of another version.
    #[error("the server did not answer as expected: {0}")]
    BadAnswer(#[from] io::Error),
    /// The server's own words.
    #[error("{0}")]
    Failed(String),
}

/// Serves the control socket.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) data_dir: Arc<Path>,
    pub(crate) backup: BackupSource,
    pub(crate) users: Users,
    pub(crate) search: Option<Search>,
    pub(crate) admin: Admin,
    pub(crate) metrics: Metrics,
    pub(crate) calls: StatusSource,
    pub(crate) tasks: Tasks,
}

impl Control {
    /// Opens the socket. Must be called in a tokio runtime.
    pub(crate) fn bind(&self) -> io::Result<UnixListener> {
        bind_unix(&self.data_dir.join(SOCKET_NAME), SOCKET_MODE)
    }

    /// Answers commands until the shutdown begins, then removes the socket.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let shutdown = self.tasks.shutdown_token();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let control = self.clone();
                    self.tasks.spawn("control", async move {
                        if let Err(error) = control.serve_client(stream).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept control connections");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // If it is gone already, all is well.
        let _ = fs::remove_file(self.data_dir.join(SOCKET_NAME));
    }

    async fn serve_client(&self, stream: tokio::net::UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        let mut reader = tokio::io::BufReader::new(reader.take(MAX_REQUEST));
        tokio::time::timeout(REQUEST_LIMIT, reader.read_line(&mut line)).await??;
        let (replies, mut queue) = mpsc::unbounded_channel();
        let answering = async {
            let mut dialogue = Dialogue { replies, reader };
            let last = match serde_json::from_str(&line) {
                Ok(request) => self.answer(request, &mut dialogue).await,
                Err(error) => Err(format!("not a command of this version: {error}")),
            };
            dialogue.say(last.map_or_else(ControlReply::Failed, ControlReply::Done));
        };
        let writing = async {
            while let Some(reply) = queue.recv().await {
                let mut line = serde_json::to_vec(&reply)?;
                line.push(b'\n');
                writer.write_all(&line).await?;
            }
            writer.shutdown().await
        };
        tokio::join!(answering, writing).1
    }

    async fn answer(&self, request: ControlRequest, dialogue: &mut Dialogue) -> Result<String, String> {
        let progress = dialogue.replies.clone();
        match request {
            ControlRequest::Admin { words } => operations::perform(&self.admin, words, dialogue).await,
            ControlRequest::Backup { directory } => {
                let arguments = json!({"directory": directory});
                self.record("server backup", arguments, self.back_up(directory, progress)).await
            }
            ControlRequest::RebuildSearch => {
                self.record("search rebuild", json!({}), rebuild_search(self.search.as_ref(), progress)).await
            }
            ControlRequest::Reload => {
                let words = ["server", "reload"].map(str::to_owned).into();
                operations::perform(&self.admin, words, dialogue).await
            }
            ControlRequest::Figures => top::tell_figures(&self.admin, &self.metrics),
            ControlRequest::AddAppService { document } => {
                self.record("appservice add", json!({}), appservices::add(&self.users, &document.0)).await
            }
            ControlRequest::ListAppServices => Ok(appservices::list(&self.users)),
            ControlRequest::ShowAppService { id } => appservices::show(&self.users, &id),
            ControlRequest::RemoveAppService { id } => {
                self.record("appservice remove", json!({"id": id}), appservices::remove(&self.users, &id)).await
            }
            ControlRequest::CallsStatus => Ok(self.calls.status().await),
            ControlRequest::CreateUser { name, password, admin } => {
                let arguments = json!({"user": name, "admin": admin});
                self.record("user create", arguments, create_user(&self.users, &name, &password, admin)).await
            }
        }
    }

    /// Does what an older command asks for, and records it as the operation that it is.
    async fn record(
        &self,
        name: &str,
        arguments: Value,
        work: impl Future<Output = Result<String, String>>,
    ) -> Result<String, String> {
        let action = Action { name: name.to_owned(), needs: Needs::Administrator, effect: Effect::Changes, arguments };
        let caller = Caller::new(Actor::Operator, Face::CommandLine);
        let work = async { work.await.map_err(AdminError::Invalid) };
        self.admin.audited(&caller, action, work).await.map_err(|error| error.to_string())
    }

    async fn back_up(
        &self,
        directory: PathBuf,
        progress: mpsc::UnboundedSender<ControlReply>,
    ) -> Result<String, String> {
        let source = self.backup.clone();
        let work = move || {
            // Progress is for whoever is still there to read it.
            source.copy_to(&directory, &|text| drop(progress.send(ControlReply::Progress(text))))
        };
        // It waits for the disk: it must not take a core's place among computations.
        let made = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
        match &made {
            Ok(report) => tracing::info!("{report}"),
            Err(error) => tracing::error!(%error, "there is no backup"),
        }
        made.map(|report| report.to_string()).map_err(|error| error.to_string())
    }
}

/// A conversation with a client.
struct Dialogue {
    replies: mpsc::UnboundedSender<ControlReply>,
    reader: tokio::io::BufReader<tokio::io::Take<OwnedReadHalf>>,
}

impl Dialogue {
    /// Says something, to whoever is still there.
    fn say(&self, reply: ControlReply) {
        drop(self.replies.send(reply));
    }

    /// Asks something and waits for the answer.
    async fn ask(&mut self, question: ControlQuestion) -> Result<ControlAnswer, String> {
        self.say(ControlReply::Ask(question));
        self.reader.get_mut().set_limit(MAX_ANSWER);
        let mut line = String::new();
        let read = tokio::time::timeout(ANSWER_LIMIT, self.reader.read_line(&mut line)).await;
        match read {
            Ok(Ok(_)) => serde_json::from_str(&line).map_err(|_| "there was no answer".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the answer took too long".to_owned()),
        }
    }
}

/// Builds the search index again and says how far that is. Whoever asked may go away: it goes on.
async fn rebuild_search(
    search: Option<&Search>,
    progress: mpsc::UnboundedSender<ControlReply>,
) -> Result<String, String> {
    let search = search.ok_or("the search is not enabled: see [search] in the configuration")?;
    let report = |BuildStatus { rooms_left, events }| {
        // Progress is for whoever is still there to read it.
        let text = format!("building the search index; events in it: {events}, rooms left: {rooms_left}");
        drop(progress.send(ControlReply::Progress(text)));
    };
    let events = search.rebuild(&report).await.map_err(|error| describe_chain(&error))?;
    Ok(format!("the search index is complete; events in it: {events}"))
}

/// Makes an account for the operator: what is configured for registration does not matter. Returns the
/// user id. Cancel-safe: the account is made, or it is not.
pub(crate) async fn create_user(users: &Users, name: &str, password: &Password, admin: bool) -> Result<String, String> {
    let made = async {
        let user_id = users.parse_local_user(name)?;
        let new = NewAccount {
            localpart: user_id.localpart(),
            password: Some(&password.0),
            kind: AccountKind::User,
            admin: if admin { AdminRights::Granted } else { AdminRights::IfFirst },
            registration_token: None,
        };
        users.create_account(new).await
    };
    let account = made.await.map_err(|error: UserError| describe_chain(&error))?;
    tracing::info!(user_id = %account.user_id, is_admin = account.is_admin, "the operator made an account");
    Ok(account.user_id.to_string())
}

/// An error with its causes, for the operator.
fn describe_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Gives a command to the server that runs with `data_dir`, and calls `progress` for each thing it
/// reports. Blocks until the command is done; returns the server's last words.
///
/// # Errors
/// See [`ControlError`].
pub fn send_control_request(
    data_dir: &Path,
    request: &ControlRequest,
    progress: &mut dyn FnMut(&str),
) -> Result<String, ControlError> {
    converse(data_dir, request, &mut |reply| {
        if let ControlReply::Progress(text) = reply {
            progress(&text);
        }
        Ok(None)
    })
}

/// As [`send_control_request`], for commands that ask back: `hear` is told each line but the last,
/// and returns the answer to a question.
///
/// # Errors
/// See [`ControlError`]; what `hear` fails with ends the conversation.
pub fn converse(
    data_dir: &Path,
    request: &ControlRequest,
    hear: &mut dyn FnMut(ControlReply) -> Result<Option<ControlAnswer>, ControlError>,
) -> Result<String, ControlError> {
    let mut stream = UnixStream::connect(data_dir.join(SOCKET_NAME)).map_err(|source| {
        let data_dir = data_dir.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ControlError::Denied { data_dir, source },
            _ => ControlError::NotRunning { data_dir, source },
        }
    })?;
    write_line(&mut stream, request)?;
    let reader = BufReader::new(stream.try_clone()?);
    for line in reader.lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            ControlReply::Done(text) => return Ok(text),
            ControlReply::Failed(text) => return Err(ControlError::Failed(text)),
            reply => {
                if let Some(answer) = hear(reply)? {
                    write_line(&mut stream, &answer)?;
                }
            }
        }
    }
    Err(ControlError::BadAnswer(io::ErrorKind::UnexpectedEof.into()))
}

fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)
}

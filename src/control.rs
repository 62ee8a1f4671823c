//! The control socket: how `conduit backup` and other commands talk to the running server, which
//! alone has the database open.
//!
//! It is `control.sock` in `data_dir`, for the server's own user only. A client writes one line of
//! JSON, a [`ControlRequest`], and reads lines, [`ControlReply`], until one is the last.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::Tasks;
use search::{BuildStatus, Search};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use users::{AccountKind, AdminRights, NewAccount, UserError, Users};

use crate::appservices;
use crate::backup::BackupSource;
use crate::calls::StatusSource;
use crate::listen::bind_unix;

/// The socket's name in `data_dir`.
const SOCKET_NAME: &str = "control.sock";
/// Only the server's own user may give commands.
const SOCKET_MODE: u32 = 0o600;
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 256 * 1024;
/// A client sends its request within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

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
    /// The last line: it is done.
    Done(String),
    /// The last line: it failed.
    Failed(String),
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
            let last = match serde_json::from_str(&line) {
                Ok(request) => self.answer(request, replies.clone()).await,
                Err(error) => Err(format!("not a command of this version: {error}")),
            };
            let last = last.map_or_else(ControlReply::Failed, ControlReply::Done);
            // The receiver lives until the sender is dropped.
            let _ = replies.send(last);
            drop(replies);
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

    async fn answer(
        &self,
        request: ControlRequest,
        progress: mpsc::UnboundedSender<ControlReply>,
    ) -> Result<String, String> {
        match request {
            ControlRequest::Backup { directory } => {
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
            ControlRequest::RebuildSearch => rebuild_search(self.search.as_ref(), progress).await,
            ControlRequest::AddAppService { document } => appservices::add(&self.users, &document.0).await,
            ControlRequest::ListAppServices => Ok(appservices::list(&self.users)),
            ControlRequest::ShowAppService { id } => appservices::show(&self.users, &id),
            ControlRequest::RemoveAppService { id } => appservices::remove(&self.users, &id).await,
            ControlRequest::CallsStatus => Ok(self.calls.status().await),
            ControlRequest::CreateUser { name, password, admin } => {
                create_user(&self.users, &name, &password, admin).await
            }
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
    let mut stream = UnixStream::connect(data_dir.join(SOCKET_NAME)).map_err(|source| {
        let data_dir = data_dir.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ControlError::Denied { data_dir, source },
            _ => ControlError::NotRunning { data_dir, source },
        }
    })?;
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            ControlReply::Progress(text) => progress(&text),
            ControlReply::Done(text) => return Ok(text),
            ControlReply::Failed(text) => return Err(ControlError::Failed(text)),
        }
    }
    Err(ControlError::BadAnswer(io::ErrorKind::UnexpectedEof.into()))
}

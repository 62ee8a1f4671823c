//! The control socket: how `conduit admin` and other commands talk to the running server, which
//! alone has the database open.
//!
//! It is `control.sock` in `data_dir`, for the server's own user only. A client writes one line of
//! JSON, a [`ControlRequest`], and reads lines, [`ControlReply`], until one is the last. Where the
//! server asks something, the client writes another line, a [`ControlAnswer`].

mod client;
mod operations;
mod serve;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::{converse, send_control_request};
pub(crate) use serve::Control;

/// The socket's name in `data_dir`.
const SOCKET_NAME: &str = "control.sock";

/// A command for the running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Perform an operation of administrators.
    Admin {
        /// Its command line, without the name of the program.
        words: Vec<String>,
    },
    /// Tell the figures of the server, for `conduit top`.
    Figures,
    /// Say what self-tests of calls need to know, in JSON.
    CallsStatus,
}

impl ControlRequest {
    /// The operation with these words.
    #[must_use]
    pub fn operation(words: &[&str]) -> ControlRequest {
        ControlRequest::Admin { words: words.iter().map(|word| (*word).to_owned()).collect() }
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

//! The side of the server.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use admin::Admin;
use runtime::{Metrics, Tasks};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::{ControlAnswer, ControlQuestion, ControlReply, ControlRequest, SOCKET_NAME, operations};
use crate::calls::StatusSource;
use crate::listen::bind_unix;
use crate::top;

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

/// Serves the control socket.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) data_dir: Arc<Path>,
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
        match request {
            ControlRequest::Admin { words } => operations::perform(&self.admin, words, dialogue).await,
            ControlRequest::Figures => top::tell_figures(&self.admin, &self.metrics),
            ControlRequest::CallsStatus => Ok(self.calls.status().await),
        }
    }
}

/// A conversation with a client.
pub(super) struct Dialogue {
    pub(super) replies: mpsc::UnboundedSender<ControlReply>,
    reader: tokio::io::BufReader<tokio::io::Take<OwnedReadHalf>>,
}

impl Dialogue {
    /// Says something, to whoever is still there.
    pub(super) fn say(&self, reply: ControlReply) {
        drop(self.replies.send(reply));
    }

    /// Asks something and waits for the answer.
    pub(super) async fn ask(&mut self, question: ControlQuestion) -> Result<ControlAnswer, String> {
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

//! The side of commands.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;

use super::{ControlAnswer, ControlError, ControlReply, ControlRequest, SOCKET_NAME};

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

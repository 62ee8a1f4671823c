//! `conduit admin`: operations of the running server, which reads and explains the command line itself.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::user::ask_hidden;
use crate::control::{ControlAnswer, ControlError, ControlQuestion, ControlReply, ControlRequest, converse};

/// The largest file that is read, in bytes; the server has a limit of its own.
const MAX_FILE: u64 = 16 * 1024 * 1024;

pub(super) fn run(words: Vec<String>, data_dir: &Path) -> Result<(), String> {
    let told = perform(words, data_dir, None).map_err(|error| error.to_string())?;
    told.map_or(Ok(()), |text| super::print(&format!("{}\n", text.trim_end())))
}

/// Has the server perform an operation. Where it asks for a secret, `secret` is told; without one somebody is asked at the
/// terminal. Returns what the server says, unless a file was written to the standard output instead.
///
/// # Errors
/// See [`ControlError`].
pub(super) fn perform(
    words: Vec<String>,
    data_dir: &Path,
    secret: Option<&str>,
) -> Result<Option<String>, ControlError> {
    let mut file_to_output = false;
    let mut hear = |reply| match reply {
        ControlReply::Progress(text) => {
            eprintln!("{text} …");
            Ok(None)
        }
        ControlReply::Ask(question) => answer(question, secret).map(Some).map_err(ControlError::Failed),
        ControlReply::File { name, content } => {
            file_to_output = keep_file(&name, &content).map_err(ControlError::Failed)?;
            Ok(None)
        }
        ControlReply::Done(_) | ControlReply::Failed(_) => Ok(None),
    };
    let text = converse(data_dir, &ControlRequest::Admin { words }, &mut hear)?;
    Ok((!file_to_output).then_some(text))
}

fn answer(question: ControlQuestion, secret: Option<&str>) -> Result<ControlAnswer, String> {
    match question {
        ControlQuestion::Confirm(text) => confirm(&text).map(ControlAnswer::Confirmed),
        ControlQuestion::Secret(name) => {
            if let Some(secret) = secret {
                return Ok(ControlAnswer::Text(secret.to_owned()));
            }
            if !io::stdin().is_terminal() {
                return Err(format!("there is no terminal to ask for the {name} at"));
            }
            let secret =
                ask_hidden(&format!("{name}: ")).map_err(|error| format!("cannot read the {name}: {error}"))?;
            Ok(ControlAnswer::Text(secret))
        }
        ControlQuestion::Read(path) => {
            read(&path).map(ControlAnswer::Text).map_err(|error| format!("cannot read {path}: {error}"))
        }
    }
}

fn confirm(text: &str) -> Result<bool, String> {
    if !io::stdin().is_terminal() {
        return Err(format!("{text}; there is no terminal to ask at: say --yes if it is meant"));
    }
    eprint!("{text}. Is it meant? [y/N] ");
    let mut line = String::new();
    let read = io::stderr().flush().and_then(|()| io::stdin().read_line(&mut line));
    read.map_err(|error| format!("cannot read the answer: {error}"))?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    match path {
        "-" => io::stdin().lock().take(MAX_FILE).read_to_string(&mut text)?,
        path => File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// Writes a file of the answer: to the standard output if that leads somewhere (then this returns true), else into the
/// current folder, where nothing is overwritten.
fn keep_file(name: &str, content: &str) -> Result<bool, String> {
    let bytes = STANDARD.decode(content).map_err(|error| format!("the file is damaged: {error}"))?;
    if !io::stdout().is_terminal() {
        let written = io::stdout().write_all(&bytes);
        return written.map(|()| true).map_err(|error| error.to_string());
    }
    // The name is the server's; it stays in this folder all the same.
    let name = name.rsplit(['/', '\\']).next().filter(|name| !name.starts_with('.')).unwrap_or("answer");
    let written = File::create_new(name).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| format!("cannot write {name}: {error}"))?;
    eprintln!("written to {name}");
    Ok(false)
}

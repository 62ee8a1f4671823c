//! Secrets in files of their own: `{ file = "PATH" }` as the value of a secret means the content of that file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use runtime::config::ConfigSection;
use toml::Value;

use super::Config;
use super::load::{ConfigError, Setting, find_field};

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// Whoever is neither the owner nor of the group may read.
const READ_BY_OTHERS: u32 = 0o004;

/// A secret in a file that everybody on the machine can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSecret {
    /// The key.
    pub key: String,
    /// The file.
    pub path: PathBuf,
}

impl fmt::Display for OpenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: everybody on this machine can read {}", self.key, self.path.display())
    }
}

/// Puts the contents in place. White space around them does not count. Returns which files everybody can read.
pub(super) fn read_secret_files(settings: &mut [Setting], errors: &mut Vec<ConfigError>) -> Vec<OpenSecret> {
    let mut open = Vec::new();
    for setting in settings {
        if !find_field(&Config::INFO, &setting.key).is_some_and(|field| field.secret) {
            continue;
        }
        let named = setting.value.as_table().filter(|table| table.len() == 1).and_then(|table| table.get("file"));
        let Some(path) = named.and_then(Value::as_str) else { continue };
        match read(path) {
            Ok((secret, is_open)) => {
                if is_open {
                    open.push(OpenSecret { key: setting.key.clone(), path: path.into() });
                }
                setting.value = Value::String(secret);
            }
            Err(error) => {
                errors.push(ConfigError::Unreadable { path: path.into(), reason: error.to_string() });
                // Nothing is said of its form.
                setting.value = Value::String("unreadable".to_owned());
            }
        }
    }
    open
}

/// The secret in a file, and whether everybody can read it.
fn read(path: &str) -> io::Result<(String, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    let mut text = String::new();
    if file.take(MAX_SECRET + 1).read_to_string(&mut text)? as u64 > MAX_SECRET {
        return Err(io::Error::other(format!("it is longer than {MAX_SECRET} bytes")));
    }
    let secret = text.trim();
    if secret.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok((secret.to_owned(), metadata.mode() & READ_BY_OTHERS != 0))
}

#[cfg(test)]
mod tests;

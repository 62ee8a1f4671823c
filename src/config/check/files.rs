//! Files and folders that the configuration names.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Finding, ListenAddress};
use crate::config::Config;
use crate::tls::Certificate;

pub(super) fn examine(config: &Config, found: &mut Vec<Finding>) {
    if let Some(problem) = check_folder(&config.data_dir) {
        let advice = "make it belong to the user that the server runs as, or set data_dir to another folder";
        found.push(Finding::error("data_dir", problem, advice));
    }
    let uses_tls = config.listeners.iter().any(|address| matches!(address, ListenAddress::Tls(_)));
    if uses_tls && let Err(error) = Certificate::read(config) {
        let advice = "see whether certificate and key belong together, and whether the server's user may read them";
        found.push(Finding::error("tls", error.to_string(), advice));
    }
    let names_files = config.tls.certificate.is_some() || config.tls.key.is_some();
    if names_files && !uses_tls {
        let advice = "begin a listener with tls://, or take it out";
        found.push(Finding::warning("tls.certificate", "it is not used: no listener begins with tls://", advice));
    }
    if let Some(path) = &config.trusted_ca_file
        && let Err(error) = std::fs::read(path)
    {
        let problem = format!("cannot read {}: {error}", path.display());
        found.push(Finding::error("trusted_ca_file", problem, "see whether the server's user may read it"));
    }
    if let Some(folder) = &config.appservices.folder
        && let Err(error) = std::fs::read_dir(folder)
    {
        let problem = format!("cannot read the folder {}: {error}", folder.display());
        found.push(Finding::error("appservices.folder", problem, "make the folder, or take it out"));
    }
    for address in config.listeners.iter().chain(&config.metrics.listener) {
        if let ListenAddress::Unix(path) = address
            && let Some(problem) = check_folder(&folder_of(path))
        {
            found.push(Finding::error("listeners", format!("{address}: {problem}"), "make the folder for the socket"));
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Why nothing can be written into a folder, or into the one that it would be made in.
fn check_folder(folder: &Path) -> Option<String> {
    let mut existing = folder.to_owned();
    while std::fs::symlink_metadata(&existing).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        let above = folder_of(&existing);
        if above == existing {
            break;
        }
        existing = above;
    }
    if !existing.is_dir() {
        return Some(format!("{} is not a folder", existing.display()));
    }
    match access(&existing, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(error) => Some(format!("nothing can be written to {}: {error}", existing.display())),
    }
}

//! `conduit appservice`: application services, added to and removed from the running server.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::config::Config;
use crate::control::{ControlRequest, Document, send_control_request};

/// The largest registration that is read, in bytes; the server has a limit of its own.
const MAX_DOCUMENT: u64 = 128 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum AppServiceCommand {
    /// Register an application service with the running server, for good
    Add {
        /// The registration file (YAML) that the application service came with or made
        file: PathBuf,
    },
    /// Print the id, the URL and the origin of every application service, one a line
    List,
    /// Print the registration of an application service, without its tokens
    Show {
        /// Its id
        id: String,
    },
    /// Take back the registration of an application service that was added by `add`
    Remove {
        /// Its id
        id: String,
    },
}

pub(super) fn run(command: AppServiceCommand, config: &Config) -> Result<(), String> {
    let request = match command {
        AppServiceCommand::Add { file } => {
            let document = read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            ControlRequest::AddAppService { document: Document(document) }
        }
        AppServiceCommand::List => ControlRequest::ListAppServices,
        AppServiceCommand::Show { id } => ControlRequest::ShowAppService { id },
        AppServiceCommand::Remove { id } => ControlRequest::RemoveAppService { id },
    };
    let done = send_control_request(&config.data_dir, &request, &mut |_| {});
    done.map_err(|error| error.to_string()).and_then(|text| super::print(&format!("{text}\n")))
}

fn read(file: &Path) -> io::Result<String> {
    let mut document = String::new();
    File::open(file)?.take(MAX_DOCUMENT).read_to_string(&mut document)?;
    Ok(document)
}

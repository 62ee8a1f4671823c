//! `conduit appservice`: short for `conduit admin appservice`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum AppServiceCommand {
    /// Register an application service with the running server, for good
    Add {
        /// The registration file (YAML) that the application service came with or made
        file: String,
    },
    /// List the application services
    List,
    /// Print the registration of an application service, without its tokens
    Show {
        /// Its id
        id: String,
    },
    /// Take back the registration of an application service that was added by `add`; this asks nothing
    Remove {
        /// Its id
        id: String,
    },
}

impl AppServiceCommand {
    /// The operation that it is short for.
    pub(super) fn words(self) -> Vec<String> {
        // What begins with `-` is a name all the same.
        match self {
            AppServiceCommand::Add { file } => super::words_of(&["appservice", "add", "--", &file]),
            AppServiceCommand::List => super::words_of(&["appservice", "list"]),
            AppServiceCommand::Show { id } => super::words_of(&["appservice", "show", "--", &id]),
            AppServiceCommand::Remove { id } => super::words_of(&["appservice", "remove", "--yes", "--", &id]),
        }
    }
}

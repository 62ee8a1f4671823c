//! What an operation is.

use std::future::Future;

use clap::{Args, FromArgMatches};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::outcome::Outcome;

/// Who may use an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Moderators and administrators of this server.
    Moderator,
    /// Administrators of this server only.
    Administrator,
}

/// What an operation does to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it only shows.
    Reads,
    /// Something that can be changed back.
    Changes,
    /// Something that cannot be brought back: faces for people ask whether it is meant.
    Destroys,
}

/// One thing an administrator can do. The fields of the struct are its arguments, and the comments on them the help
/// text; the first line of the comment on the struct says in short what it does.
///
/// Options that need not be given are `Option<T>` with `#[arg(long)]`; switches are `bool` with `#[arg(long)]` and
/// `#[serde(default)]`; lists are `Vec<T>` with `#[arg(long)]` and `#[serde(default)]`. For identifiers, times, sizes
/// and secrets there are types in [`crate::arguments`].
pub trait Operation: Args + FromArgMatches + DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static {
    /// Group and verb: `("user", "suspend")` is `!admin user suspend`, `conduit admin user suspend` and
    /// `POST /_conduit/admin/v1/user/suspend`.
    const NAME: (&'static str, &'static str);
    /// Who may.
    const NEEDS: Needs;
    /// What it does.
    const EFFECT: Effect;
    /// Arguments that work on the seeded server of the tests, as typed on a command line, with `{admin}`, `{user}`,
    /// `{other}`, `{room}`, `{event}`, `{mxc}`, `{server}` and `{token}` to be filled in.
    const EXAMPLE: &'static str;

    /// Does it. Who asks has been checked. It runs in a task of its own, to its end, whatever becomes of the request.
    fn run(self, admin: &Admin, caller: &Caller) -> impl Future<Output = Result<Outcome, AdminError>> + Send;
}

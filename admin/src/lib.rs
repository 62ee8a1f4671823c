//! Administration: what an administrator can do, defined once and offered by several faces.
//!
//! Invariants:
//! - [`operations`] is the only list of operations. Each is one struct: its fields are the arguments of the command
//!   line, of the JSON body and of the OpenAPI document.
//! - An operation runs through [`Admin::perform`] only, and what else administrators do through [`Admin::audited`]: there
//!   it is decided who may, and there it is recorded, before it begins and when it ends.
//! - [`synapse`] is the only list of routes in the form of the Synapse admin API.
//! - What is recorded holds no secret: arguments that are secrets are [`arguments::Secret`].
//! - Work that takes long is a job ([`jobs`]): small steps, each of which can be repeated, so that a restart resumes it.
//! - This crate knows no other edge: what it needs of them are ports ([`ports`]).

mod admin;
mod administrators;
mod ahead;
mod appservice;
pub mod arguments;
pub mod audit;
mod call;
mod caller;
mod config;
mod device;
mod entry;
mod error;
mod every_account;
mod face;
mod federation;
pub mod http;
mod job;
pub mod jobs;
mod media;
mod meters;
mod notice;
mod operation;
pub mod operations;
mod outcome;
mod policy;
pub mod ports;
mod report;
mod room;
mod search;
mod server;
pub mod statistics;
pub mod synapse;
mod token;
pub mod tree;
mod user;

#[cfg(test)]
mod fixture;

use storage::KeyspaceInfo;

pub use self::media::pictures_in_use;
pub use admin::{Action, Admin, AdminParts};
pub use caller::{Actor, Caller, Face, ProgressSink};
pub use config::AdminConfig;
pub use entry::{BoxFuture, Entry, Prepared};
pub use error::AdminError;
pub use operation::{Effect, Needs, Operation};
pub use outcome::{Cell, File, Outcome, Table, format_time};

/// The keyspaces of this crate, to be declared when the store is opened.
#[must_use]
pub fn keyspaces() -> Vec<KeyspaceInfo> {
    let own = [audit::AUDIT.info(), jobs::JOBS.info()];
    [&own, face::room::rows::KEYSPACES, policy::rows::KEYSPACES, statistics::KEYSPACES].concat()
}

/// The router of all HTTP faces. It has no fallback.
pub fn router(admin: Admin) -> axum::Router {
    http::finish(synapse::router().merge(face::api::router())).with_state(admin)
}

//! The edge as clients see it, in process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delayed;
mod elsewhere;
mod endpoints;
mod federated;
mod flows;
mod limits;
mod old_sync;
mod pages;
mod policy;
mod proposals;
mod server;
mod table;
mod thread_subscriptions;
mod url_preview;

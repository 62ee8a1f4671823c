//! The edge as clients see it, in process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appservices;
mod asked;
mod calls;
mod coverage;
mod delayed;
mod elsewhere;
mod encryption;
mod endpoints;
mod federated;
mod flows;
mod limits;
mod newcomers;
mod old_sync;
mod pages;
mod partial;
mod policy;
mod proposals;
mod roles;
mod search;
mod server;
mod sticky;
mod table;
mod thread_subscriptions;
mod url_preview;

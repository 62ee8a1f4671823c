//! The edge as clients see it, in process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod elsewhere;
mod endpoints;
mod federated;
mod flows;
mod limits;
mod server;
mod table;

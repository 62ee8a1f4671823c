//! The index as it follows a store: what is found, and what survives a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod follower;
mod server;
mod visibility;

//! Sync on the memory backend, over real rooms and accounts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod convergence;
mod cost;
mod lists;
mod sections;
mod server;
mod timelines;
mod waiting;

//! Sync on the memory backend, over real rooms and accounts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests wait for their own tasks, and some measure real time")]

mod convergence;
mod cost;
mod deleted;
mod lists;
mod outside;
mod partial;
mod sections;
mod server;
mod timelines;
mod waiting;

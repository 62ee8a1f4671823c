//! Rooms on the memory backend, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod convergence;
mod crash;
mod pipeline;
mod reading;
mod server;

//! The server as a whole, in process.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

mod config;
mod layers;
mod serving;

//! The relay from outside, over loopback sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod connections;
mod datagrams;
mod probing;
mod server;
mod streams;

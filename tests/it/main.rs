//! The server as a whole, in process.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

mod admin_command;
mod appservices;
mod asked;
mod backup;
mod calls;
mod commands;
mod config;
mod crash;
mod doctor;
mod layers;
mod metrics;
mod policy;
mod push;
mod restart;
mod search;
mod serving;

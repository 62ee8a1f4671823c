//! Rooms on the memory backend, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod convergence;
mod crash;
mod delayed;
mod delete;
mod foreign;
mod former_members;
mod hostile;
mod invites;
mod measure;
mod overview;
mod partial;
mod pipeline;
mod policy;
mod purge;
mod reading;
mod remote;
mod server;
mod server_view;
mod servers;
mod sticky;

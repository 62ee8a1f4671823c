//! Administration, against whole servers in this process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod admin_room;
mod configuration;
mod every_operation;
mod media;
mod media_bed;
mod notices;
mod policy;
mod policy_here;
mod reports;
mod retention;
mod rooms;
mod security;
mod seed;
mod server;
mod statistics;
mod synapse_media;
mod synapse_reports;
mod synapse_rooms;
mod synapse_users;
mod two_servers;
mod users;

//! Administration, against whole servers in this process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod admin_room;
mod configuration;
mod every_operation;
mod media;
mod media_bed;
mod notices;
mod policy;
mod reports;
mod rooms;
mod security;
mod seed;
mod server;
mod synapse_media;
mod synapse_reports;
mod synapse_rooms;
mod synapse_users;
mod users;

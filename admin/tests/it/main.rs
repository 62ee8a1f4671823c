//! Administration, against whole servers in this process.
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests wait")]

mod admin_room;
mod every_operation;
mod media;
mod media_bed;
mod policy;
mod reports;
mod rooms;
mod seed;
mod synapse_media;
mod synapse_reports;
mod synapse_rooms;
mod synapse_users;
mod users;

//! What other servers may ask: a server of ours, and others in the same process that sign their requests.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bed;
mod bounds;
mod calls;
mod events;
mod gates;
mod handshakes;
mod invites;
mod joins;
mod kept_away;
mod queries;

//! Comparison with an independent implementation of the same rules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth_second_opinion;
mod events_second_opinion;
mod random_room;
mod ruma_event;
mod state_res_second_opinion;

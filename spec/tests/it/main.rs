//! Comparison with an independent implementation of the same rules.

mod auth_second_opinion;
mod events_second_opinion;
mod random_room;
mod ruma_event;
mod state_res_second_opinion;

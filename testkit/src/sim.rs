//! A federation in one process: servers whose only way to each other is a simulated network, in simulated time.
//!
//! - [`SimRuntime`] runs everything on one thread, and lets time pass only when nothing is left to do: what takes an
//!   hour there takes seconds here, and a slow machine changes nothing.
//! - [`SimNetwork`] carries requests between the servers' routers, late, out of order, or not at all.
//! - [`SimServer`] is a server without listeners and clients: its domains and its federation edge.
//! - [`World`] is some servers that share a room, and users who do there, at random, whatever they may.
//! - [`Picture`] is what a server has of a room in the end, for comparing it with the others'.
//! - [`Witness`] sees every event that is carried, and tells those that history visibility forbids.
//! - [`Enemy`] is a server without scruples: it signs what it likes and sends it to whom it likes.
//!
//! What happens is drawn from one seed. Threads that commit to a server's store still race with each other, so two
//! runs of a seed may differ in details, though not in who does what to whom when.

mod enemy;
mod network;
mod picture;
mod server;
mod time;
mod witness;
mod world;

pub use enemy::{Enemy, Forged, wire};
pub use network::{Carried, Conditions, SimNetwork};
pub use picture::{EventPicture, Picture, StateMap, compare_pictures, compare_present};
pub use server::{Member, SimServer};
pub use time::SimRuntime;
pub use witness::{Leak, Witness};
pub use world::{Mood, World, introduce, join};

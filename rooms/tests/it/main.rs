//! Rooms on the memory backend, through the public interface.

mod pipeline;
mod reading;
mod server;

//! The relay with recorded sockets and a time that the tests set.

mod properties;
mod relaying;
mod requests;
mod world;

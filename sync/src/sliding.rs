//! Simplified sliding sync (MSC4186).

pub(crate) mod connection;
pub(crate) mod facts;
pub(crate) mod request;

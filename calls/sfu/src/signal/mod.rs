//! Signalling as LiveKit clients speak it: a WebSocket that carries protobuf messages, and the endpoints
//! that say why it could not be opened.

mod http;
mod limits;
pub(crate) mod params;
mod socket;

pub use http::router;
pub use limits::{JoinLimits, SignalMetrics};

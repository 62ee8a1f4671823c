//! For tests only: servers to test against, and a client to talk to them.
//!
//! Invariants of this crate:
//! - Nothing here waits for ever: every read, start and stop has a deadline.
//! - A server started here keeps its files in a folder of its own, listens where nobody else does, and
//!   is gone, with its folder, when its handle is dropped.
//! - What goes wrong with a server ends the test: the functions that start, stop and ask one panic with
//!   a description. Only [`HttpClient`] returns errors, for tests that kill their server.

mod account;
mod http;
mod in_process;
mod neighbours;
mod process;
pub mod sim;

pub use account::{Account, encode_path_segment};
pub use http::{HttpAddress, HttpClient, HttpError, HttpResponse};
pub use in_process::TestServer;
pub use neighbours::Neighbours;
pub use process::ConduitProcess;

//! Clock, randomness, supervised tasks, metrics, logging and the description of configuration.
//!
//! Invariants of this crate:
//! - It knows nothing of Matrix. Anything that needs a Matrix type belongs in another crate.
//! - Time and randomness enter the server only here, through [`Clock`] and [`Random`], so that a
//!   test can choose both. `clippy.toml` forbids the direct calls elsewhere.
//! - Every long-running future is started by [`Tasks`]: a panic is logged and counted, and
//!   shutdown can wait for all of them.
//! - No global state but the one logging subscriber a process may have: two servers in one process
//!   have separate clocks, metrics and tasks.
//!
//! Budget: 1,000 lines without tests, of which [`config`] is a third; it is here because every
//! crate declares its own configuration section.

mod clock;
pub mod config;
mod metrics;
mod random;
mod tasks;
mod telemetry;

pub use clock::Clock;
pub use metrics::text;
pub use metrics::{Counter, DELIVERY_BUCKETS, Gauge, Histogram, Metrics, Published, SIZE_BUCKETS, TIME_BUCKETS};
pub use random::Random;
pub use tasks::{TaskFailed, Tasks};
pub use telemetry::{LogConfig, LogFormat, LogHandle, TelemetryError, start_logging};
pub use tokio_util::sync::CancellationToken;

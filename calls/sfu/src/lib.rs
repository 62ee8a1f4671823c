//! The media server of group calls: signalling as LiveKit clients speak it, and a selective forwarding
//! unit. It knows rooms and identities by name and nothing of Matrix.
//!
//! Invariants of this crate:
//! - A room lives on one media thread, which owns all of its state: nothing there is shared or locked. The
//!   HTTP side and the thread talk by bounded channels only.
//! - Media never waits for signalling and never runs on the async workers.
//! - The bytes of a media packet are never changed and never copied per receiver: what is encrypted end to
//!   end stays so, and only RTP header, header extensions and the payload descriptor are read.
//! - Whatever comes from outside has a bound: sizes, counts, rates, time.
//! - The modules `media` and `room` are free of input and output: time and randomness are given to them.
//!
//! Budget: 8,000 lines without tests.

mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod media;
mod record;
mod report;
mod room;
mod server;
mod shard;
mod signal;
mod token;

pub use config::SfuConfig;
pub use record::{RecordError, RecordingFile, RecordingOrder};
pub use report::{LegStats, ParticipantOverview, RoomOverview, TrackOverview, Transport};
pub use server::{DisconnectReason, IceServer, Observer, Relay, Sfu, SfuError, SfuParts};
pub use token::{BadToken, Grant};

//! The Matrix side of calls: who may join which call, and what ends it (MSC4143, MSC4195). No HTTP, and nothing of how
//! media flow: a media server and a TURN server are behind ports ([`MediaServer`], [`TurnServer`]).
//!
//! Invariants:
//! - Whoever is let into a call has proven who they are, and is joined to the Matrix room that the call belongs to; for
//!   a user of this server the device exists and the account may send.
//! - All three generations of clients that are served name a call's room in the same way, so that they meet.
//! - A token that was given out is worth nothing once its user has left the room or lost the device: [`Calls::may_join`]
//!   looks again, and a leg that goes on is ended by the commit that ended its reason.
//! - A leave event that was delegated is sent when its participant is gone, also if this server was restarted meanwhile;
//!   the end of this server itself sends none.
//! - Everything that strangers can make grow is bounded: rows expire, names have a greatest length.

mod admit;
mod advertise;
mod calls;
mod config;
mod delegate;
mod error;
mod events;
mod forget_room;
mod grants;
mod history;
mod legs;
mod names;
mod openid;
mod operate;
mod ports;
mod recording;
mod rings;
mod seat;
mod table;
#[cfg(test)]
mod tests;

use storage::KeyspaceInfo;

pub use admit::{Access, Entrance};
pub use advertise::CallAddresses;
pub use calls::{Calls, CallsParts, WeakCalls};
pub use config::{CallsConfig, RecordingConfig};
pub use error::CallError;
pub use events::CallEvents;
pub use history::{LegStatistics, PastLeg};
pub use names::{CALL_SLOT, room_name};
pub use openid::OpenIdProof;
pub use operate::{CallParticipant, MuteScope};
pub use ports::{
    CallAnswer, Grant, LiveLeg, LiveTrack, MediaServer, Recorder, RecordingStart, RemoteCalls, RemoteSeat,
    StoredRecording, TurnCredentials, TurnServer,
};
pub use recording::{RECORDING_EVENT, Recording, RecordingError};
pub use rings::{PastRing, RingOutcome};
pub use seat::{Member, Seat};
pub use table::{CallOverview, LegOverview};

/// The keyspaces of this crate, to be declared when the store is opened.
pub const KEYSPACES: &[KeyspaceInfo] = &[
    grants::CALL_GRANTS.info(),
    delegate::LEAVE_JOBS.info(),
    history::CALL_LEGS.info(),
    rings::CALL_RINGS.info(),
    recording::CALL_RECORDINGS.info(),
];

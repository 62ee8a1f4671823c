//! Somebody in a call.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use livekit_protocol as proto;
use prost::Message;
use str0m::rtp::Ssrc;

use super::join::Link;
use super::meters::Meters;
use super::peer::Peer;
use super::permission::Sharing;
use super::{Side, TrackId};
use crate::media::layers::Layer;
use crate::media::speakers::Loudness;
use crate::token::Grant;

/// How far somebody's arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Signalling works, media are not connected yet.
    Joined,
    /// Media are connected.
    Active,
}

/// What a participant wants of a track.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Whether it is wanted at all.
    pub wanted: bool,
    /// Whether it is not shown at the moment: nothing is sent, but the line stays.
    pub disabled: bool,
    /// The highest layer wanted.
    pub layer: Layer,
    /// The size it is shown at, in pixels: the larger, the more important.
    pub area: u64,
    /// Whether a line is given to it.
    pub placed: bool,
}

/// Somebody in a call.
pub struct Participant {
    pub sid: String,
    pub grant: Grant,
    pub name: String,
    pub metadata: String,
    pub attributes: HashMap<String, String>,
    pub client: proto::ClientInfo,
    pub joined_ms: u64,
    pub joined_at: Instant,
    pub state: State,
    /// Grows with every change that others are told of.
    pub version: u32,
    pub auto_subscribe: bool,
    pub adaptive_stream: bool,
    /// One connection for both directions, always offered by the client.
    pub single: bool,
    pub main: Option<Peer>,
    pub receiving: Option<Peer>,
    /// The signalling connection, if there is one.
    pub link: Option<Link>,
    pub lost_at: Option<Instant>,
    /// When media last came, ICE checks included.
    pub last_media: Instant,
    /// Which track and layer the packets of an SSRC are.
    pub sources: HashMap<Ssrc, (TrackId, Layer)>,
    /// Published tracks, and announced ones whose line has not been negotiated.
    pub published: Vec<TrackId>,
    pub subscriptions: BTreeMap<TrackId, Subscription>,
    /// When the client was asked to offer again and has not yet.
    pub asked_offer: Option<Instant>,
    /// The next negotiation is not begun earlier.
    pub next_offer: Instant,
    /// Layers are not raised before, because the line was found too narrow.
    pub no_raise_before: Instant,
    /// Whether the client has to be asked.
    pub wants_offer: bool,
    pub sharing: Sharing,
    pub loudness: Loudness,
    pub meters: Meters,
    /// The sequence number of the newest reliable message of theirs that was passed on.
    pub last_sequence: u32,
}

impl Participant {
    pub fn peer(&mut self, side: Side) -> Option<&mut Peer> {
        match side {
            Side::Main => self.main.as_mut(),
            Side::Receiving => self.receiving.as_mut(),
        }
    }

    /// The connection media are sent to the participant on.
    pub fn receiving_side(&self) -> Side {
        if self.single { Side::Main } else { Side::Receiving }
    }

    pub fn receiving_peer(&mut self) -> Option<&mut Peer> {
        self.peer(self.receiving_side())
    }

    /// Sends a message, if somebody listens. A client that does not read is cut off; it can resume.
    pub fn send(&mut self, message: proto::signal_response::Message) {
        if self.link.is_none() {
            return;
        }
        let response = proto::SignalResponse { message: Some(message) };
        self.send_frame(response.encode_to_vec().into());
    }

    /// As [`Participant::send`], for a message that was encoded for several.
    pub fn send_frame(&mut self, frame: bytes::Bytes) {
        if self.link.as_ref().is_some_and(|link| !link.send(frame)) {
            tracing::debug!(participant = %self.sid, "signalling is not read");
            self.link = None;
        }
    }
}

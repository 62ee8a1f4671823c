//! A published track and those it is sent to.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use str0m::format::PayloadParams;
use str0m::media::{Mid, Pt, Rid};
use str0m::rtp::Ssrc;

use super::{ParticipantId, Side};
use crate::media::codec::Codec;
use crate::media::layers::{LAYERS, Layer};
use crate::media::munger::Munger;
use crate::media::packet::{ExtensionIds, Repeats};
use crate::media::sdp::Kind;

/// A layer from which nothing came for this long is not being sent.
pub const LAYER_SILENT: Duration = Duration::from_millis(1500);
/// The weight of the newest half second in the bit rate.
const RATE_WEIGHT: f64 = 0.5;

/// Counts bytes into a bit rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMeter {
    bytes: u64,
    /// Bit/s, smoothed.
    pub rate: u64,
}

impl RateMeter {
    pub fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Ends a window of `passed`.
    pub fn end_window(&mut self, passed: Duration) {
        let bytes = std::mem::take(&mut self.bytes);
        let now = bytes as f64 * 8.0 / passed.as_secs_f64().max(0.001);
        // The first window counts whole, or a new layer would look half as large as it is.
        let rate = if self.rate == 0 { now } else { self.rate as f64 * (1.0 - RATE_WEIGHT) + now * RATE_WEIGHT };
        self.rate = rate as u64;
    }
}

/// One of the streams of a track.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub rid: Option<Rid>,
    pub meter: RateMeter,
    pub last: Option<Instant>,
    /// When a key frame was last asked for.
    pub key_asked: Option<Instant>,
    /// Whether somebody waits for a key frame.
    pub key_wanted: bool,
}

impl Stream {
    pub fn is_live(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < LAYER_SILENT)
    }
}

/// What the packets of a codec have for one receiver.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub payload_type: Pt,
    pub ids: ExtensionIds,
    /// How packets are sent again, if they can be.
    pub repeats: Option<Repeats>,
}

/// A track on its way to one receiver.
#[derive(Debug)]
pub struct Down {
    pub subscriber: ParticipantId,
    pub side: Side,
    pub mid: Mid,
    pub ssrc: Ssrc,
    pub munger: Munger,
    /// The layer being sent.
    pub current: Option<Layer>,
    /// The layer to be sent; reached at its next key frame.
    pub target: Option<Layer>,
    /// When a packet last went through the engine.
    pub through_engine: Option<Instant>,
    /// The publisher's payload type, and what its packets have for the receiver.
    pub form: Option<(Pt, Form)>,
    /// Nothing is sent earlier: the client has to take over the description that announces the line, and
    /// browsers treat media that come before it as somebody else's.
    pub not_before: Instant,
    /// Whether the client was told that the stream pauses.
    pub told_paused: bool,
    /// When it last began to be sent or paused.
    pub turned: Instant,
}

/// A published track.
pub struct Track {
    pub publisher: ParticipantId,
    pub kind: Kind,
    /// The names the client's descriptions may have for it.
    pub cids: Vec<String>,
    pub info: proto::TrackInfo,
    /// The line it is published on, once negotiated.
    pub mid: Option<Mid>,
    pub codec: Codec,
    pub params: Option<PayloadParams>,
    pub clock_rate: u32,
    pub streams: [Stream; LAYERS],
    /// The picture sizes of the layers, lowest first.
    pub sizes: Vec<(u32, u32)>,
    pub downs: Vec<Down>,
    /// The highest layer the publisher was asked for; it begins with all.
    pub asked_layer: Option<Layer>,
    /// Since when less than that would do.
    pub lower_since: Option<Instant>,
    /// Whether the publisher was told that somebody receives the track.
    pub told_subscribed: bool,
}

impl Track {
    pub fn is_video(&self) -> bool {
        self.kind == Kind::Video
    }

    /// The highest layer there can be.
    pub fn top(&self) -> Layer {
        self.sizes.len().clamp(1, LAYERS) as Layer - 1
    }

    pub fn stream(&mut self, layer: Layer) -> Option<&mut Stream> {
        self.streams.get_mut(usize::from(layer))
    }

    /// Notes which layers somebody waits to begin with; while the track is muted, nobody gets any.
    pub fn want_keys(&mut self, now: Instant) {
        if self.info.muted {
            return;
        }
        for down in &self.downs {
            let waits = down.target.filter(|_| down.target != down.current && down.not_before <= now);
            if let Some(stream) = waits.and_then(|layer| self.streams.get_mut(usize::from(layer))) {
                stream.key_wanted = true;
            }
        }
    }

    /// The layer of a simulcast stream's name.
    pub fn layer_of(rid: Option<Rid>) -> Layer {
        match rid.as_deref() {
            Some("h" | "1") => 1,
            Some("f" | "2") => 2,
            _ => 0,
        }
    }
}

//! Recording a room: which packets of it are handed over.

use livekit_protocol as proto;
use str0m::rtp::RtpPacket;

use super::env::Env;
use super::info::source_name;
use super::track::Track;
use super::{Room, TrackId};
use crate::media::codec::Codec;
use crate::media::layers::Layer;
use crate::record::{RecordError, Tap, Tapped, Took};

impl Track {
    /// Whether the publisher encrypts it end to end.
    pub(super) fn is_encrypted(&self) -> bool {
        self.info.encryption != proto::encryption::Type::None as i32
    }
}

impl Room {
    /// Hands what is published from now on to a recording.
    ///
    /// # Errors
    /// [`RecordError`]: why this call is not to be recorded.
    pub fn record(&mut self, mut tap: Tap, env: &Env<'_>) -> Result<(), RecordError> {
        if self.participants.is_empty() {
            return Err(RecordError::NoCall);
        }
        if self.tap.is_some() {
            return Err(RecordError::Recorded);
        }
        if self.tracks.iter().any(|(_, track)| track.is_encrypted()) {
            return Err(RecordError::Encrypted);
        }
        tap.begin(env.now);
        self.tap = Some(tap);
        tracing::info!(room = %self.sid, "the recording of a call begins");
        Ok(())
    }

    /// Ends the recording, if there is one.
    pub fn stop_recording(&mut self) {
        if self.tap.take().is_some() {
            tracing::info!(room = %self.sid, "the recording of a call ends");
        }
    }

    /// Hands a packet to the recording, if there is one. What is encrypted, or has a codec that the file cannot hold, is
    /// left out.
    pub(super) fn tap(&mut self, id: TrackId, layer: Layer, is_key: bool, packet: &RtpPacket, env: &Env<'_>) {
        let (Some(tap), Some(track)) = (&mut self.tap, self.tracks.get_mut(id)) else { return };
        if track.is_encrypted() || (track.is_video() && track.codec != Codec::Vp8) {
            return;
        }
        let live = track.streams.iter().rposition(|stream| stream.is_live(env.now));
        let best = live.and_then(|best| Layer::try_from(best).ok()).unwrap_or(layer);
        let publisher = self.participants.get(track.publisher);
        let name = || {
            let identity = publisher.map_or("", |publisher| publisher.grant.identity.as_str());
            format!("{identity} {}", source_name(track.info.source))
        };
        let is_sound = !track.is_video();
        let tapped = Tapped {
            track: &track.info.sid,
            name: &name,
            is_sound,
            seq: *packet.seq_no,
            time: packet.header.timestamp,
            marker: packet.header.marker,
            payload: &packet.payload,
            arrived: packet.timestamp,
            layer,
            best,
            is_key,
        };
        match tap.take(&tapped) {
            Took::Done => {}
            Took::NeedsKey => {
                if let Some(stream) = track.stream(layer) {
                    stream.key_wanted = true;
                }
            }
            Took::Ended => self.stop_recording(),
        }
    }
}

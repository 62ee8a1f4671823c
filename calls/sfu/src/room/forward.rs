//! The path of a media packet: from its publisher to everybody who is sent the track.

use std::time::{Duration, Instant};

use str0m::Rtc;
use str0m::format::{Codec as EngineCodec, PayloadParams};
use str0m::media::{KeyframeRequestKind, Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc, Vp8Descriptor, Vp8Patch};

use super::env::Env;
use super::participant::Participant;
use super::peer::LineState;
use super::track::{Down, Track};
use super::{ParticipantId, PeerAt, Room, Side, TrackId};
use crate::media::codec::{Codec, Vp8};
use crate::media::layers::Layer;
use crate::media::munger::Munged;
use crate::media::sdp::Kind;

/// A publisher is not asked for a key frame of the same stream more often.
const KEY_EVERY: Duration = Duration::from_millis(500);

/// What was read of a packet once, for all receivers.
struct Parsed {
    layer: Layer,
    key: bool,
    vp8: Option<(Vp8, Vp8Descriptor)>,
}

impl Room {
    /// Sends a packet that `publisher` sent to everybody who is to have it.
    pub(super) fn forward(&mut self, publisher: ParticipantId, packet: RtpPacket, env: &mut Env<'_>) {
        let Some((track_id, layer)) = self.find_source(publisher, packet.header.ssrc) else { return };
        let Some(participant) = self.participants.get_mut(publisher) else { return };
        let Some(track) = self.tracks.get_mut(track_id) else { return };
        let limit = u64::from(env.fixed.config.max_publish_kbits);
        if !participant.meters.admit(packet.payload.len(), limit) {
            env.fixed.metrics.dropped.add(1);
            return;
        }
        if track.params.is_none_or(|params| params.pt() != packet.header.payload_type) {
            note_codec(track, participant, &packet);
        }
        // Whatever the publisher still sends: some browsers send black pictures, and a moderator's word holds.
        if track.info.muted {
            return;
        }
        if !track.is_video()
            && let Some(level) = packet.header.ext_vals.audio_level
        {
            participant.loudness.add(level.unsigned_abs());
        }
        let parsed = parse(track, layer, &packet, env.now);
        let mut forwarded = 0;
        for down in &mut track.downs {
            let Some(write) = down.renumber(&packet, &parsed, track.clock_rate) else { continue };
            let Some(receiver) = self.participants.get_mut(down.subscriber) else { continue };
            let at = PeerAt { participant: down.subscriber, side: down.side };
            let Some(peer) = receiver.peer(down.side) else { continue };
            let Some(payload) = down.payload_type(packet.header.payload_type, track.params, &peer.rtc) else {
                continue;
            };
            let direct = if track.kind == Kind::Audio { peer.seal(down, &write, payload, &packet) } else { None };
            match direct {
                Some(datagram) => env.out.datagrams.push(datagram),
                None => {
                    let mut engine = peer.rtc.direct_api();
                    let Some(stream) = engine.stream_tx(&down.ssrc) else { continue };
                    stream.write_rtp(write.into_packet(payload, &packet, track.kind));
                    peer.note_written();
                    if peer.note_dirty() {
                        self.dirty.push(at);
                    }
                }
            }
            receiver.meters.bytes_down = receiver.meters.bytes_down.saturating_add(packet.payload.len() as u64);
            forwarded += 1;
        }
        env.fixed.metrics.received.add(1);
        env.fixed.metrics.forwarded.add(forwarded);
        if self.tap.is_some() {
            self.tap(track_id, layer, parsed.key, &packet, env);
        }
    }

    /// Which track and layer an SSRC of a publisher is.
    fn find_source(&mut self, publisher: ParticipantId, ssrc: Ssrc) -> Option<(TrackId, Layer)> {
        let participant = self.participants.get_mut(publisher)?;
        if let Some(found) = participant.sources.get(&ssrc) {
            return Some(*found);
        }
        let (mid, rid) = {
            let mut engine = participant.main.as_mut()?.rtc.direct_api();
            let stream = engine.stream_rx(&ssrc)?;
            (stream.mid(), stream.rid())
        };
        let bound = |id: &TrackId| self.tracks.get(*id).is_some_and(|track| track.mid == Some(mid));
        let track_id = participant.published.iter().copied().find(bound)?;
        let layer = Track::layer_of(rid);
        participant.sources.insert(ssrc, (track_id, layer));
        self.tracks.get_mut(track_id)?.stream(layer)?.rid = rid;
        Some((track_id, layer))
    }

    /// A receiver cannot decode and asks for a key frame.
    pub(super) fn relay_key_request(&mut self, at: PeerAt, mid: Mid, env: &mut Env<'_>) {
        let Some(LineState::Sending(track_id)) = self.peer(at).and_then(|peer| peer.line(mid)).map(|line| line.state)
        else {
            return;
        };
        let Some(track) = self.tracks.get_mut(track_id) else { return };
        let down = track.downs.iter().find(|down| down.subscriber == at.participant && down.side == at.side);
        let Some(layer) = down.and_then(|down| down.current.or(down.target)) else { return };
        if let Some(stream) = track.stream(layer) {
            stream.key_wanted = true;
        }
        self.ask_key_frames(track_id, env.now, env);
    }

    /// Asks the publisher of a track for the key frames that somebody waits for.
    pub(super) fn ask_key_frames(&mut self, track_id: TrackId, now: Instant, env: &Env<'_>) {
        let Some(track) = self.tracks.get_mut(track_id) else { return };
        let Some(mid) = track.mid else { return };
        let Some(peer) = self.participants.get_mut(track.publisher).and_then(|publisher| publisher.main.as_mut())
        else {
            return;
        };
        let mut asked = false;
        for stream in track.streams.iter_mut().filter(|stream| stream.key_wanted) {
            if stream.key_asked.is_some_and(|last| now.saturating_duration_since(last) < KEY_EVERY) {
                continue;
            }
            let mut engine = peer.rtc.direct_api();
            let Some(source) = engine.stream_rx_by_mid(mid, stream.rid) else { continue };
            source.request_keyframe(KeyframeRequestKind::Pli);
            stream.key_asked = Some(now);
            env.fixed.metrics.key_requests.add(1);
            asked = true;
        }
        let at = PeerAt { participant: track.publisher, side: Side::Main };
        if asked {
            self.mark(at);
        }
    }
}

/// What a packet is sent to one receiver with.
pub(super) struct Write {
    pub numbers: Munged,
    patch: Option<Vp8Patch>,
}

impl Write {
    fn into_packet(self, payload: Pt, packet: &RtpPacket, kind: Kind) -> RtpWrite {
        let Munged { seq, time, .. } = self.numbers;
        let from = &packet.header.ext_vals;
        let extensions = ExtensionValues {
            audio_level: from.audio_level,
            voice_activity: from.voice_activity,
            video_orientation: from.video_orientation,
            ..ExtensionValues::default()
        };
        // Shares the payload: one buffer for all receivers.
        let write = RtpWrite::new(payload, seq.into(), time, packet.timestamp, packet.payload.clone())
            .marker(packet.header.marker)
            .nackable(kind == Kind::Video)
            .ext_vals(extensions);
        match self.patch {
            Some(patch) => write.vp8_patch(patch),
            None => write,
        }
    }
}

impl Down {
    /// The receiver's payload type for the publisher's `ours` with these parameters.
    fn payload_type(&mut self, ours: Pt, params: Option<PayloadParams>, receiver: &Rtc) -> Option<Pt> {
        if let Some((known, theirs)) = self.payload
            && known == ours
        {
            return Some(theirs);
        }
        let params = params?;
        let theirs = receiver.codec_config().match_params(params)?.pt();
        self.payload = Some((params.pt(), theirs));
        Some(theirs)
    }

    /// The numbers of a packet for this receiver, or `None` when it is not for them.
    fn renumber(&mut self, packet: &RtpPacket, parsed: &Parsed, clock_rate: u32) -> Option<Write> {
        let layer = Some(parsed.layer);
        if self.target.is_none() {
            self.current = None;
            return None;
        }
        if packet.timestamp < self.not_before {
            return None;
        }
        let (seq, time, at) = (*packet.seq_no, packet.header.timestamp, packet.timestamp);
        let vp8 = parsed.vp8.as_ref().map(|(numbers, _)| numbers);
        if self.current != layer {
            if self.target != layer || !parsed.key {
                return None;
            }
            self.munger.switch(seq, time, vp8, at, clock_rate);
            self.current = layer;
        }
        let munged = self.munger.renumber(seq, time, at)?;
        let patch = parsed.vp8.as_ref().and_then(|(numbers, descriptor)| {
            let numbers = self.munger.renumber_vp8(numbers, munged.newest);
            let mut patch = descriptor.patch();
            if let Some(id) = numbers.picture_id {
                patch = patch.picture_id(id);
            }
            if let Some(tl0) = numbers.tl0 {
                patch = patch.tl0_pic_idx(tl0);
            }
            if let Some(key_idx) = numbers.key_idx {
                patch = patch.key_idx(key_idx);
            }
            patch.build().ok()
        });
        Some(Write { numbers: munged, patch })
    }
}

fn parse(track: &mut Track, layer: Layer, packet: &RtpPacket, now: Instant) -> Parsed {
    let payload = &packet.payload;
    let vp8 =
        (track.codec == Codec::Vp8).then(|| Vp8::parse(payload).zip(Vp8Descriptor::parse(payload).ok())).flatten();
    let key = match &vp8 {
        Some((numbers, _)) => numbers.key_frame,
        None => track.codec.starts_key_frame(payload),
    };
    if let Some(stream) = track.stream(layer) {
        stream.meter.add(payload.len());
        stream.last = Some(now);
        if key {
            stream.key_wanted = false;
        }
    }
    Parsed { layer, key, vp8 }
}

/// The publisher has begun to send with another codec.
fn note_codec(track: &mut Track, publisher: &Participant, packet: &RtpPacket) {
    let pt = packet.header.payload_type;
    let Some(main) = &publisher.main else { return };
    let Some(params) = main.rtc.codec_config().params().iter().find(|params| params.pt() == pt) else { return };
    let spec = PayloadParams::spec(params);
    track.codec = match spec.codec {
        EngineCodec::Vp8 => Codec::Vp8,
        EngineCodec::Vp9 => Codec::Vp9,
        EngineCodec::H264 => Codec::H264,
        EngineCodec::Av1 => Codec::Av1,
        _ => Codec::Other,
    };
    track.clock_rate = spec.clock_rate.get();
    track.params = Some(*params);
}

//! The path of a media packet: from its publisher to everybody who is sent the track.

use std::time::{Duration, Instant};

use str0m::format::{Codec as EngineCodec, PayloadParams};
use str0m::media::{KeyframeRequestKind, Mid, Pt};
use str0m::rtp::{RtpPacket, RtpWrite, Ssrc};

use super::env::Env;
use super::participant::Participant;
use super::peer::{LineState, Peer};
use super::track::{Down, Form, Track};
use super::{ParticipantId, PeerAt, Room, Side, TrackId};
use crate::media::codec::{Codec, Vp8};
use crate::media::layers::Layer;
use crate::media::munger::{Munged, MungedVp8};
use crate::media::packet::{ExtensionIds, Packet, Repeats};

/// A publisher is not asked for a key frame of the same stream more often.
const KEY_EVERY: Duration = Duration::from_millis(500);

/// What was read of a packet once, for all receivers.
struct Parsed {
    layer: Layer,
    key: bool,
    vp8: Option<Vp8>,
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
            let Some(form) = down.form(packet.header.payload_type, track.params, peer) else { continue };
            peer.forward(down, form, &write, &packet);
            if !std::mem::replace(&mut peer.listed, true) {
                self.unsettled.push(at);
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

/// So often a packet of each line goes through the engine, for its reports.
const THROUGH_ENGINE_EVERY: Duration = Duration::from_millis(500);

/// The numbers that a packet is sent to one receiver with.
struct Write {
    numbers: Munged,
    vp8: Option<MungedVp8>,
}

impl Peer {
    /// Sends a packet on a line, with the next flush.
    fn forward(&mut self, down: &mut Down, form: Form, write: &Write, packet: &RtpPacket) {
        let (header, from) = (&packet.header, &packet.header.ext_vals);
        let level = from.audio_level.zip(from.voice_activity);
        let level = level.map(|(level, voice)| if voice { 0x80 } else { 0 } | (level.unsigned_abs() & 0x7f));
        let numbers = write.numbers;
        let own = Packet {
            ssrc: *down.ssrc,
            payload_type: *form.payload_type,
            seq: numbers.seq,
            time: numbers.time,
            marker: header.marker,
            level,
            orientation: from.video_orientation.map(|orientation| orientation as u8),
            mid: down.mid,
            ids: form.ids,
            payload: packet.payload.clone(),
            vp8: write.vp8,
        };
        self.egress.push(own, form.repeats);
        let passed = |last: Instant| packet.timestamp.saturating_duration_since(last);
        let due = down.through_engine.is_none_or(|last| passed(last) >= THROUGH_ENGINE_EVERY);
        if (due && numbers.newest) || self.egress.take_doubt() {
            down.through_engine = Some(packet.timestamp);
            let mut engine = self.rtc.direct_api();
            let Some(stream) = engine.stream_tx(&down.ssrc) else { return };
            let (payload_type, time) = (form.payload_type, numbers.time);
            let sample =
                RtpWrite::new(payload_type, numbers.seq.into(), time, packet.timestamp, packet.payload.clone());
            stream.write_rtp(sample.nackable(false));
            self.note_written();
        }
    }
}

impl Down {
    /// What packets of the publisher's type `ours`, with these parameters, have for the receiver.
    fn form(&mut self, ours: Pt, params: Option<PayloadParams>, peer: &mut Peer) -> Option<Form> {
        if let Some((known, form)) = self.form
            && known == ours
        {
            return Some(form);
        }
        let params = params?;
        let theirs = *peer.rtc.codec_config().match_params(params)?;
        let ids = ExtensionIds::of(peer.rtc.media(self.mid)?.remote_extmap());
        let stream = peer.rtc.direct_api().stream_tx(&self.ssrc)?.rtx();
        let repeats = stream.zip(theirs.resend()).filter(|_| !theirs.spec().codec.is_audio());
        let repeats = repeats.map(|(ssrc, payload_type)| Repeats { ssrc: *ssrc, payload_type: *payload_type });
        let form = Form { payload_type: theirs.pt(), ids, repeats };
        self.form = Some((params.pt(), form));
        Some(form)
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
        let vp8 = parsed.vp8.as_ref();
        if self.current != layer {
            if self.target != layer || !parsed.key {
                return None;
            }
            self.munger.switch(seq, time, vp8, at, clock_rate);
            self.current = layer;
        }
        let munged = self.munger.renumber(seq, time, at)?;
        let vp8 = vp8.map(|numbers| self.munger.renumber_vp8(numbers, munged.newest));
        Some(Write { numbers: munged, vp8 })
    }
}

fn parse(track: &mut Track, layer: Layer, packet: &RtpPacket, now: Instant) -> Parsed {
    let payload = &packet.payload;
    let vp8 = if track.codec == Codec::Vp8 { Vp8::parse(payload) } else { None };
    let key = match &vp8 {
        Some(numbers) => numbers.key_frame,
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

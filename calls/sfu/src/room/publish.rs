//! Publishing: a track is announced by a message, then bound to a line of the publisher's description.

use livekit_protocol as proto;
use proto::signal_response::Message as Response;

use super::env::Env;
use super::track::{Stream, Track};
use super::{ParticipantId, Room, TrackId};
use crate::media::codec::Codec;
use crate::media::layers::{LAYERS, Layer};
use crate::media::sdp::{Kind, Section};

const SID_LETTERS: usize = 12;
/// Longer names are cut off.
const MAX_NAME: usize = 256;
const AUDIO_CLOCK: u32 = 48_000;
const VIDEO_CLOCK: u32 = 90_000;

impl Room {
    /// A participant announces a track.
    pub(super) fn add_track(&mut self, publisher: ParticipantId, request: proto::AddTrackRequest, env: &mut Env<'_>) {
        let Some(participant) = self.participants.get_mut(publisher) else { return };
        let kind = match proto::TrackType::try_from(request.r#type) {
            Ok(proto::TrackType::Audio) => Kind::Audio,
            Ok(proto::TrackType::Video) => Kind::Video,
            _ => return,
        };
        let refused = if !participant.grant.can_publish {
            Some(proto::request_response::Reason::NotAllowed)
        } else if participant.published.len() >= env.fixed.config.max_tracks as usize {
            Some(proto::request_response::Reason::LimitExceeded)
        } else {
            None
        };
        if let Some(reason) = refused {
            participant.send(Response::RequestResponse(proto::RequestResponse {
                reason: reason as i32,
                message: "this track cannot be published".to_owned(),
                request: Some(proto::request_response::Request::AddTrack(request)),
                ..Default::default()
            }));
            return;
        }
        let known = |id: &TrackId| self.tracks.get(*id).is_some_and(|track| track.cids.contains(&request.cid));
        if let Some(existing) = participant.published.iter().copied().find(known) {
            // Asked again, after a resume.
            if let Some(track) = self.tracks.get(existing) {
                let (cid, track) = (request.cid, Some(track.info.clone()));
                participant.send(Response::TrackPublished(proto::TrackPublishedResponse { cid, track }));
            }
            return;
        }
        let cid = request.cid.clone();
        let sid = format!("TR_{}", env.fixed.random.token(SID_LETTERS));
        let track = new_track(publisher, kind, sid, request);
        let info = track.info.clone();
        let id = self.tracks.insert(track);
        participant.published.push(id);
        participant.send(Response::TrackPublished(proto::TrackPublishedResponse { cid, track: Some(info) }));
    }

    /// Binds what a participant's new description sends to what they announced, and ends what it no longer
    /// sends.
    pub(super) fn bind_tracks(&mut self, publisher: ParticipantId, sections: &[Section]) {
        let Some(participant) = self.participants.get(publisher) else { return };
        let published = participant.published.clone();
        let sending = |mid: &str| sections.iter().any(|section| section.mid == mid && section.direction.sends());
        for id in &published {
            let gone = self.tracks.get(*id).and_then(|track| track.mid).is_some_and(|mid| !sending(&mid));
            if gone {
                self.end_track(*id);
            }
        }
        let mut changed = false;
        for section in sections.iter().filter(|section| section.kind != Kind::Data && section.direction.sends()) {
            changed |= self.bind_section(publisher, section);
        }
        if changed {
            self.announce(publisher);
        }
    }

    /// Binds one line; whether that is news.
    fn bind_section(&mut self, publisher: ParticipantId, section: &Section) -> bool {
        let Some(participant) = self.participants.get(publisher) else { return false };
        let tracks = &self.tracks;
        let find = |fits: &dyn Fn(&Track) -> bool| {
            participant.published.iter().copied().find(|id| tracks.get(*id).is_some_and(fits))
        };
        let named = |track: &Track| section.track.as_ref().is_some_and(|cid| track.cids.contains(cid));
        let bound = find(&|track| track.mid.as_deref() == Some(section.mid.as_str()));
        let pending = find(&|track| track.mid.is_none() && track.kind == section.kind && named(track));
        let id = match (bound, pending) {
            // The line is used for another track than before.
            (Some(old), Some(new)) => {
                self.end_track(old);
                new
            }
            (Some(_), None) => return false,
            (None, Some(new)) => new,
            // The description names it otherwise: cloned and replaced tracks have names of their own.
            (None, None) => match find(&|track| track.mid.is_none() && track.kind == section.kind) {
                Some(id) => id,
                None => return false,
            },
        };
        let Some(track) = self.tracks.get_mut(id) else { return false };
        track.mid = Some(section.mid.as_str().into());
        track.info.mid = section.mid.clone();
        for codec in &mut track.info.codecs {
            codec.mid = section.mid.clone();
        }
        if let Some(name) = &section.track
            && !track.cids.contains(name)
        {
            track.cids.push(name.clone());
        }
        if section.rids.len() <= 1 {
            // Whatever was announced, there is one stream.
            track.sizes = track.sizes.last().copied().into_iter().collect();
        }
        track.asked_layer = Some(track.top());
        tracing::debug!(room = %self.sid, track = %track.info.sid, mid = %section.mid, "a track is published");
        let others: Vec<_> =
            self.participants.iter().map(|(other, _)| other).filter(|other| *other != publisher).collect();
        for other in others {
            self.auto_subscribe(other, id);
        }
        true
    }

    /// A track is no longer published; its publisher stays.
    fn end_track(&mut self, id: TrackId) {
        let Some(publisher) = self.tracks.get(id).map(|track| track.publisher) else { return };
        self.unpublish(id);
        self.announce(publisher);
    }

    /// Takes a track away from everybody and forgets it.
    pub(super) fn unpublish(&mut self, id: TrackId) {
        let everybody: Vec<_> = self.participants.iter().map(|(other, _)| other).collect();
        for other in everybody {
            self.unsubscribe(other, id);
        }
        if let Some(track) = self.tracks.try_remove(id)
            && let Some(publisher) = self.participants.get_mut(track.publisher)
        {
            publisher.published.retain(|other| *other != id);
            publisher.sources.retain(|_, (other, _)| *other != id);
        }
    }

    /// The publisher mutes or unmutes.
    pub(super) fn set_muted(&mut self, publisher: ParticipantId, sid: &str, muted: bool) {
        let Some(id) = self.published_track(publisher, sid) else { return };
        let Some(track) = self.tracks.get_mut(id) else { return };
        if track.info.muted != muted {
            track.info.muted = muted;
            // What comes afterwards follows what was sent last: pictures with a key frame, sound without a gap.
            for down in &mut track.downs {
                down.current = None;
            }
            self.announce(publisher);
        }
    }

    /// Somebody with the power to do so mutes a track of `identity`.
    pub fn mute_track(&mut self, identity: &str, sid: &str) {
        let Some(id) = self.by_identity.get(identity).copied() else { return };
        if self.published_track(id, sid).is_none() {
            return;
        }
        if let Some(participant) = self.participants.get_mut(id) {
            participant.send(Response::Mute(proto::MuteTrackRequest { sid: sid.to_owned(), muted: true }));
        }
        self.set_muted(id, sid, true);
    }

    pub(super) fn published_track(&self, publisher: ParticipantId, sid: &str) -> Option<TrackId> {
        let is = |id: &TrackId| self.tracks.get(*id).is_some_and(|track| track.info.sid == sid);
        self.participants.get(publisher)?.published.iter().copied().find(is)
    }
}

fn new_track(publisher: ParticipantId, kind: Kind, sid: String, mut request: proto::AddTrackRequest) -> Track {
    request.name.truncate(request.name.floor_char_boundary(MAX_NAME));
    let first = request.simulcast_codecs.first();
    let mime = mime_of(kind, first.map_or("", |codec| &codec.codec));
    let mut layers = match first {
        Some(codec) if !codec.layers.is_empty() => codec.layers.clone(),
        _ => request.layers,
    };
    layers.truncate(LAYERS);
    layers.sort_by_key(|layer| layer.quality);
    let sizes = layers.iter().map(|layer| (layer.width, layer.height)).collect::<Vec<_>>();
    let sizes = if sizes.is_empty() { vec![(request.width, request.height)] } else { sizes };
    let cids = std::iter::once(request.cid.clone()).chain(first.map(|codec| codec.cid.clone()));
    let cids = cids.filter(|cid| !cid.is_empty()).collect();
    let codec_info = proto::SimulcastCodecInfo {
        mime_type: mime.clone(),
        cid: request.cid,
        layers: layers.clone(),
        ..Default::default()
    };
    #[expect(deprecated, reason = "clients of today read these fields")]
    let info = proto::TrackInfo {
        sid,
        r#type: request.r#type,
        name: request.name,
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        mime_type: mime,
        codecs: if kind == Kind::Video { vec![codec_info] } else { Vec::new() },
        stereo: request.stereo,
        disable_red: true,
        encryption: request.encryption,
        stream: request.stream,
        audio_features: request.audio_features,
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features,
        ..Default::default()
    };
    Track {
        publisher,
        kind,
        cids,
        info,
        mid: None,
        codec: Codec::Other,
        params: None,
        clock_rate: if kind == Kind::Audio { AUDIO_CLOCK } else { VIDEO_CLOCK },
        streams: <[Stream; LAYERS]>::default(),
        sizes,
        downs: Vec::new(),
        asked_layer: Some(LAYERS as Layer - 1),
        lower_since: None,
        told_subscribed: false,
    }
}

/// The media type of a codec as clients name it in requests (`vp8`, `video/VP8` or nothing).
fn mime_of(kind: Kind, codec: &str) -> String {
    let name = codec.rsplit('/').next().unwrap_or_default();
    match (kind, name.to_ascii_lowercase().as_str()) {
        (Kind::Audio, _) => "audio/opus".to_owned(),
        (_, "h264") => "video/H264".to_owned(),
        (_, "vp9") => "video/VP9".to_owned(),
        (_, "av1") => "video/AV1".to_owned(),
        _ => "video/VP8".to_owned(),
    }
}

//! The room, its participants and tracks as clients are told of them.

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message;
use proto::signal_response::Message as Response;

use super::participant::{Participant, State};
use super::{ParticipantId, Room, TrackId};
use crate::config::SfuConfig;
use crate::report::{ParticipantOverview, RoomOverview, TrackOverview};

/// The version of the LiveKit protocol we speak.
pub const PROTOCOL: i32 = 16;
/// The version of LiveKit's server that can do what we can: clients decide by it what they may use (calls of
/// procedures need 1.8).
pub const LEVEL: &str = "1.9.0";

impl Room {
    pub(super) fn room_info(&self, config: &SfuConfig) -> proto::Room {
        let codec = |mime: &str| proto::Codec { mime: mime.to_owned(), fmtp_line: String::new() };
        let seconds = |span: runtime::config::Span| u32::try_from(span.duration().as_secs()).unwrap_or(u32::MAX);
        proto::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: seconds(config.empty_timeout),
            departure_timeout: seconds(config.departure_timeout),
            max_participants: config.max_room_participants,
            creation_time: signed(self.created_ms / 1000),
            creation_time_ms: signed(self.created_ms),
            enabled_codecs: CODECS.iter().copied().map(codec).collect(),
            num_participants: u32::try_from(self.participants.len()).unwrap_or(u32::MAX),
            ..Default::default()
        }
    }

    /// `id` as others see it.
    pub(super) fn participant_info(&self, id: ParticipantId) -> Option<proto::ParticipantInfo> {
        let participant = self.participants.get(id)?;
        let published = |track: &TrackId| self.tracks.get(*track).filter(|track| track.mid.is_some());
        let tracks: Vec<_> =
            participant.published.iter().filter_map(published).map(|track| track.info.clone()).collect();
        Some(proto::ParticipantInfo {
            sid: participant.sid.clone(),
            identity: participant.grant.identity.clone(),
            state: match participant.state {
                State::Joined => proto::participant_info::State::Joined,
                State::Active => proto::participant_info::State::Active,
            } as i32,
            is_publisher: !tracks.is_empty(),
            tracks,
            metadata: participant.metadata.clone(),
            joined_at: signed(participant.joined_ms / 1000),
            joined_at_ms: signed(participant.joined_ms),
            name: participant.name.clone(),
            version: participant.version,
            permission: Some(proto::ParticipantPermission {
                can_subscribe: participant.grant.can_subscribe,
                can_publish: participant.grant.can_publish,
                can_publish_data: participant.grant.can_publish,
                can_update_metadata: true,
                ..Default::default()
            }),
            attributes: participant.attributes.clone(),
            client_protocol: participant.client.client_protocol,
            capabilities: participant.client.capabilities.clone(),
            ..Default::default()
        })
    }

    /// Tells everybody, the participant included, what is new of `id`.
    pub(super) fn announce(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        participant.version = participant.version.saturating_add(1);
        let Some(info) = self.participant_info(id) else { return };
        self.broadcast(Response::Update(proto::ParticipantUpdate { participants: vec![info] }), None);
    }

    /// Sends a message to all but `except`, encoded once.
    pub(super) fn broadcast(&mut self, message: Response, except: Option<ParticipantId>) {
        let frame = encode(message);
        for (id, participant) in &mut self.participants {
            if Some(id) != except {
                participant.send_frame(frame.clone());
            }
        }
    }

    /// Everybody but `id`.
    pub(super) fn others(&self, id: ParticipantId) -> Vec<proto::ParticipantInfo> {
        let others = self.participants.iter().map(|(other, _)| other).filter(|other| *other != id);
        others.filter_map(|other| self.participant_info(other)).collect()
    }

    /// The room as operators see it.
    pub fn overview(&self, now: std::time::Instant) -> RoomOverview {
        let track = |id: &TrackId| {
            self.tracks.get(*id).map(|track| TrackOverview {
                sid: track.info.sid.clone(),
                source: source_name(track.info.source),
                codec: track.info.mime_type.clone(),
                muted: track.info.muted,
                encrypted: track.is_encrypted(),
                layers: track
                    .streams
                    .iter()
                    .take(usize::from(track.top()) + 1)
                    .map(|stream| stream.meter.rate)
                    .collect(),
                subscribers: track.downs.len(),
            })
        };
        let participant = |participant: &Participant| ParticipantOverview {
            identity: participant.grant.identity.clone(),
            sid: participant.sid.clone(),
            joined_ms: participant.joined_ms,
            stats: participant.leg_stats(now),
            tracks: participant.published.iter().filter_map(track).collect(),
        };
        RoomOverview {
            name: self.name.clone(),
            sid: self.sid.clone(),
            created_ms: self.created_ms,
            participants: self.participants.iter().map(|(_, who)| participant(who)).collect(),
        }
    }
}

/// What may be published.
pub const CODECS: &[&str] = &["audio/opus", "video/VP8", "video/H264", "video/VP9", "video/AV1", "video/rtx"];

pub fn encode(message: Response) -> Bytes {
    proto::SignalResponse { message: Some(message) }.encode_to_vec().into()
}

pub(super) fn source_name(source: i32) -> &'static str {
    match proto::TrackSource::try_from(source) {
        Ok(proto::TrackSource::Camera) => "camera",
        Ok(proto::TrackSource::Microphone) => "microphone",
        Ok(proto::TrackSource::ScreenShare) => "screen_share",
        Ok(proto::TrackSource::ScreenShareAudio) => "screen_share_audio",
        _ => "unknown",
    }
}

pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

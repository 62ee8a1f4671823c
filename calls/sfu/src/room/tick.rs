//! What a room does from time to time.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::signal_response::Message as Response;

use super::env::Env;
use super::meters::WINDOW;
use super::{Goodbye, ParticipantId, Room, TrackId};
use crate::media::layers::Layer;
use crate::media::quality::Grade;

/// How often [`Room::tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(100);
const SPEAKERS_EVERY: Duration = Duration::from_millis(400);
const QUALITY_EVERY: Duration = Duration::from_secs(5);
/// A publisher is told to send less only after less has been wanted for this long.
const LOWER_AFTER: Duration = Duration::from_secs(5);
/// A participant whose media were not connected by then is removed.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// As long as signalling works, silence of media is borne for this long: the client restarts ICE.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
/// Without media for this long a connection counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// When each of the periodic duties was last done.
pub struct Clocks {
    windows: Instant,
    speakers: Instant,
    quality: Instant,
}

impl Clocks {
    pub fn new(now: Instant) -> Clocks {
        Clocks { windows: now, speakers: now, quality: now }
    }
}

/// Whether `every` has passed since `last`, and how much exactly; `last` becomes now.
fn due(last: &mut Instant, now: Instant, every: Duration) -> Option<Duration> {
    let passed = now.saturating_duration_since(*last);
    if passed < every {
        return None;
    }
    *last = now;
    Some(passed)
}

impl Room {
    /// The periodic duties.
    pub fn tick(&mut self, env: &mut Env<'_>) {
        self.remove_gone(env);
        if let Some(passed) = due(&mut self.clocks.windows, env.now, WINDOW) {
            self.end_windows(passed, env);
        }
        if due(&mut self.clocks.speakers, env.now, SPEAKERS_EVERY).is_some() {
            self.tell_speakers();
        }
        if due(&mut self.clocks.quality, env.now, QUALITY_EVERY).is_some() {
            self.tell_quality(env.now);
        }
        let tracks: Vec<TrackId> = self.tracks.iter().map(|(id, _)| id).collect();
        for id in tracks {
            if let Some(track) = self.tracks.get_mut(id) {
                track.want_keys(env.now);
            }
            self.ask_key_frames(id, env.now, env);
            self.tell_wanted_layers(id, env.now);
        }
        self.serve_offers(env);
    }

    fn end_windows(&mut self, passed: Duration, env: &mut Env<'_>) {
        for (_, track) in &mut self.tracks {
            for stream in &mut track.streams {
                stream.meter.end_window(passed);
            }
        }
        let everybody: Vec<ParticipantId> = self.participants.iter().map(|(id, _)| id).collect();
        for id in everybody {
            if let Some(participant) = self.participants.get_mut(id) {
                participant.meters.end_window(passed);
            }
            self.note_way_down(id, env.now);
            self.allocate(id, env);
        }
    }

    /// Removes those who are gone without a word.
    fn remove_gone(&mut self, env: &mut Env<'_>) {
        let (now, config) = (env.now, &env.fixed.config);
        let mut gone = Vec::new();
        for (id, participant) in &mut self.participants {
            if participant.link.as_ref().is_some_and(|link| link.frames.is_closed()) {
                participant.link = None;
            }
            if participant.link.is_none() {
                participant.lost_at.get_or_insert(now);
            }
            let silent = now.saturating_duration_since(participant.last_media);
            let connected = participant.main.iter().chain(&participant.receiving).any(|peer| peer.connected);
            let lost = participant.lost_at.map(|lost| now.saturating_duration_since(lost));
            let unconnected = !connected && now.saturating_duration_since(participant.joined_at) > CONNECT_LIMIT;
            let left_behind = lost.is_some_and(|lost| {
                lost > config.resume_window.duration() || (connected && silent > config.media_timeout.duration())
            });
            if unconnected || left_behind || (connected && silent > SILENCE_LIMIT) {
                gone.push(id);
            }
        }
        for id in gone {
            self.remove(id, Goodbye::Silent, env);
        }
    }

    fn tell_speakers(&mut self) {
        let mut speakers = Vec::new();
        for (_, participant) in &mut self.participants {
            if let Some((level, active)) = participant.loudness.end_window() {
                speakers.push(proto::SpeakerInfo { sid: participant.sid.clone(), level, active });
            }
        }
        if !speakers.is_empty() {
            self.broadcast(Response::SpeakersChanged(proto::SpeakersChanged { speakers }), None);
        }
    }

    fn tell_quality(&mut self, now: Instant) {
        let mut updates = Vec::new();
        for (_, participant) in &mut self.participants {
            let (mut score, mut grade) = participant.meters.grade_recent();
            if now.saturating_duration_since(participant.last_media) > LOST_AFTER {
                (score, grade) = (1.0, Grade::Lost);
            }
            if participant.meters.grade.replace(grade) == Some(grade) {
                continue;
            }
            let quality = match grade {
                Grade::Lost => proto::ConnectionQuality::Lost,
                Grade::Poor => proto::ConnectionQuality::Poor,
                Grade::Good => proto::ConnectionQuality::Good,
                Grade::Excellent => proto::ConnectionQuality::Excellent,
            } as i32;
            updates.push(proto::ConnectionQualityInfo { participant_sid: participant.sid.clone(), quality, score });
        }
        if !updates.is_empty() {
            self.broadcast(Response::ConnectionQuality(proto::ConnectionQualityUpdate { updates }), None);
        }
    }

    /// Tells the publisher which layers somebody wants, so that it does not make others. More at once, less
    /// after a while.
    fn tell_wanted_layers(&mut self, id: TrackId, now: Instant) {
        let Some(wanted) = self.wanted_layer(id) else { return };
        let Some(track) = self.tracks.get_mut(id) else { return };
        let lower = wanted < track.asked_layer;
        if track.asked_layer == wanted {
            track.lower_since = None;
            return;
        }
        if lower && now.saturating_duration_since(*track.lower_since.get_or_insert(now)) < LOWER_AFTER {
            return;
        }
        track.lower_since = None;
        track.asked_layer = wanted;
        let top = track.top();
        let enabled = |layer: Layer| wanted.is_some_and(|wanted| layer <= wanted);
        let quality = |layer: Layer| proto::SubscribedQuality { quality: i32::from(layer), enabled: enabled(layer) };
        let qualities: Vec<_> = (0..=top).map(quality).collect();
        let codec = track.info.mime_type.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        #[expect(deprecated, reason = "older clients read only this field")]
        let update = proto::SubscribedQualityUpdate {
            track_sid: track.info.sid.clone(),
            subscribed_qualities: qualities.clone(),
            subscribed_codecs: vec![proto::SubscribedCodec { codec, qualities }],
        };
        if let Some(publisher) = self.participants.get_mut(track.publisher) {
            publisher.send(Response::SubscribedQualityUpdate(update));
        }
    }

    /// The highest layer of a video track that anybody wants; outer `None` when that is not a question.
    fn wanted_layer(&self, id: TrackId) -> Option<Option<Layer>> {
        let track = self.tracks.get(id).filter(|track| track.is_video() && track.mid.is_some())?;
        if self.tap.is_some() {
            return Some(Some(track.top()));
        }
        let wish = |participant: &super::participant::Participant| {
            participant.subscriptions.get(&id).filter(|wish| !wish.disabled).map(|wish| wish.layer.min(track.top()))
        };
        Some(self.participants.iter().filter_map(|(_, participant)| wish(participant)).max())
    }
}

//! Subscriptions: who wants which track, and on which line it is sent.

use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use str0m::media::Mid;

use super::env::Env;
use super::participant::Subscription;
use super::peer::{Line, LineState};
use super::track::Down;
use super::{ParticipantId, PeerAt, Room, TrackId};
use crate::media::layers::{LAYERS, Layer, layer_for_size};
use crate::media::sdp::Kind;

/// The area a picture is taken to be shown at before the client has told.
const UNKNOWN_AREA: u64 = 320 * 180;
/// How long a client is given to take over a description before media come on its lines.
const SETTLE: Duration = Duration::from_millis(100);

impl Room {
    /// Whether a participant may receive a track.
    pub(super) fn may_receive(&self, subscriber: ParticipantId, track: TrackId) -> bool {
        let (Some(participant), Some(track)) = (self.participants.get(subscriber), self.tracks.get(track)) else {
            return false;
        };
        let Some(publisher) = self.participants.get(track.publisher) else { return false };
        track.publisher != subscriber
            && track.mid.is_some()
            && participant.grant.can_subscribe
            && publisher.sharing.allows(&participant.sid, &participant.grant.identity, &track.info.sid)
    }

    /// A track is there for a participant, who gets it unless they want to choose.
    pub(super) fn auto_subscribe(&mut self, subscriber: ParticipantId, track: TrackId) {
        let chooses = self.participants.get(subscriber).is_none_or(|participant| !participant.auto_subscribe);
        if !chooses && self.may_receive(subscriber, track) {
            self.subscribe(subscriber, track);
        }
    }

    /// A participant wants a track.
    pub(super) fn subscribe(&mut self, subscriber: ParticipantId, track: TrackId) {
        let Some(participant) = self.participants.get_mut(subscriber) else { return };
        // With adaptive streams the client tells soon how large it shows the picture.
        let layer = if participant.adaptive_stream { 0 } else { LAYERS as Layer - 1 };
        let fresh = Subscription { wanted: true, disabled: false, layer, area: UNKNOWN_AREA, placed: false };
        let subscription = participant.subscriptions.entry(track).or_insert(fresh);
        subscription.wanted = true;
        if subscription.placed {
            return;
        }
        participant.wants_offer = true;
    }

    /// A participant no longer gets a track. Their line has to be parked before it can be used again.
    pub(super) fn unsubscribe(&mut self, subscriber: ParticipantId, track: TrackId) {
        let down = self.tracks.get_mut(track).and_then(|track| {
            let at = track.downs.iter().position(|down| down.subscriber == subscriber)?;
            Some(track.downs.swap_remove(at))
        });
        let Some(participant) = self.participants.get_mut(subscriber) else { return };
        if participant.subscriptions.remove(&track).is_none() {
            return;
        }
        let Some(peer) = participant.receiving_peer() else { return };
        let mut parked = false;
        for line in peer.lines.iter_mut().filter(|line| line.state == LineState::Sending(track)) {
            line.state = LineState::Draining;
            parked = true;
        }
        if let Some(down) = down
            && let Some(line) = peer.line(down.mid)
        {
            line.munger = down.munger;
            peer.egress.forget_sent(*down.ssrc);
        }
        participant.wants_offer |= parked;
    }

    /// The tracks of `kind` that a participant wants and has no line for.
    pub(super) fn waiting(&self, subscriber: ParticipantId, kind: Kind) -> Vec<TrackId> {
        let Some(participant) = self.participants.get(subscriber) else { return Vec::new() };
        let waits = participant.subscriptions.iter().filter(|(_, wish)| wish.wanted && !wish.placed);
        let of_kind =
            |id: &TrackId| self.tracks.get(*id).is_some_and(|track| track.kind == kind && track.mid.is_some());
        waits.map(|(id, _)| *id).filter(of_kind).collect()
    }

    /// Gives the idle lines of a participant to the tracks they wait for.
    pub(super) fn place_waiting(&mut self, subscriber: ParticipantId) {
        for kind in [Kind::Audio, Kind::Video] {
            let waiting = self.waiting(subscriber, kind);
            let Some(participant) = self.participants.get_mut(subscriber) else { return };
            let Some(peer) = participant.receiving_peer() else { return };
            let is_idle = |line: &&mut Line| line.kind == kind && line.state == LineState::Idle && line.offered;
            let idle = peer.lines.iter_mut().filter(is_idle);
            let mut placed = Vec::new();
            for (line, track) in idle.zip(waiting) {
                line.state = LineState::Sending(track);
                placed.push(track);
            }
            for track in placed {
                if let Some(subscription) = participant.subscriptions.get_mut(&track) {
                    subscription.placed = true;
                }
            }
        }
    }

    /// Begins to send on the lines that the client knows of by now.
    pub(super) fn start_lines(&mut self, at: PeerAt, env: &mut Env<'_>) {
        let Some(peer) = self.peer(at) else { return };
        let sending: Vec<(TrackId, Mid)> = peer
            .lines
            .iter()
            .filter_map(|line| match line.state {
                LineState::Sending(track) => Some((track, line.mid)),
                _ => None,
            })
            .collect();
        for (track, mid) in sending {
            self.start_line(at, track, mid, env);
        }
        self.allocate(at.participant, env);
    }

    fn start_line(&mut self, at: PeerAt, track_id: TrackId, mid: Mid, env: &mut Env<'_>) {
        let Some(track) = self.tracks.get_mut(track_id) else { return };
        if track.downs.iter().any(|down| down.subscriber == at.participant) {
            return;
        }
        let Some(peer) = self.participants.get_mut(at.participant).and_then(|receiver| receiver.peer(at.side)) else {
            return;
        };
        let mut engine = peer.rtc.direct_api();
        let Some(stream) = engine.stream_tx_by_mid(mid, None) else {
            tracing::warn!(room = %self.sid, track = %track.info.sid, %mid, "a line has no stream to send on");
            return;
        };
        let ssrc = stream.ssrc();
        let munger = peer.line(mid).map(|line| std::mem::take(&mut line.munger)).unwrap_or_default();
        track.downs.push(Down {
            subscriber: at.participant,
            side: at.side,
            mid,
            ssrc,
            munger,
            current: None,
            target: Some(0),
            through_engine: None,
            form: None,
            not_before: env.now + SETTLE,
            told_paused: false,
            turned: env.now,
        });
        tracing::debug!(room = %self.sid, track = %track.info.sid, to = at.participant, %mid, "a track is sent");
        if !std::mem::replace(&mut track.told_subscribed, true) {
            let message = Response::TrackSubscribed(proto::TrackSubscribed { track_sid: track.info.sid.clone() });
            if let Some(publisher) = self.participants.get_mut(track.publisher) {
                publisher.send(message);
            }
        }
    }

    /// A participant says which tracks they want.
    pub(super) fn update_subscription(&mut self, subscriber: ParticipantId, update: &proto::UpdateSubscription) {
        let listed = update.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids);
        let sids: Vec<&String> = update.track_sids.iter().chain(listed).take(MAX_LISTED).collect();
        for sid in sids {
            let Some(track) = self.track_by_sid(sid) else {
                if update.subscribe
                    && let Some(participant) = self.participants.get_mut(subscriber)
                {
                    participant.send(Response::SubscriptionResponse(proto::SubscriptionResponse {
                        track_sid: sid.clone(),
                        err: proto::SubscriptionError::SeTrackNotfound as i32,
                    }));
                }
                continue;
            };
            if !update.subscribe {
                self.unsubscribe(subscriber, track);
            } else if self.may_receive(subscriber, track) {
                self.subscribe(subscriber, track);
            }
        }
    }

    /// A participant says how they show tracks.
    pub(super) fn update_settings(
        &mut self,
        subscriber: ParticipantId,
        settings: &proto::UpdateTrackSettings,
        env: &mut Env<'_>,
    ) {
        for sid in settings.track_sids.iter().take(MAX_LISTED) {
            let Some(id) = self.track_by_sid(sid) else { continue };
            let Some(track) = self.tracks.get(id) else { continue };
            let layer = if settings.width > 0 {
                layer_for_size(&track.sizes, settings.width, settings.height)
            } else {
                match proto::VideoQuality::try_from(settings.quality) {
                    Ok(proto::VideoQuality::Low) => 0,
                    Ok(proto::VideoQuality::Medium) => 1,
                    _ => LAYERS as Layer - 1,
                }
            };
            let Some(participant) = self.participants.get_mut(subscriber) else { return };
            let Some(subscription) = participant.subscriptions.get_mut(&id) else { continue };
            subscription.disabled = settings.disabled;
            subscription.layer = layer;
            subscription.area = match u64::from(settings.width) * u64::from(settings.height) {
                0 => UNKNOWN_AREA << (2 * layer),
                area => area,
            };
        }
        self.allocate(subscriber, env);
    }

    pub(super) fn track_by_sid(&self, sid: &str) -> Option<TrackId> {
        self.tracks.iter().find(|(_, track)| track.info.sid == sid).map(|(id, _)| id)
    }
}

/// More tracks in one message are ignored.
const MAX_LISTED: usize = 1000;

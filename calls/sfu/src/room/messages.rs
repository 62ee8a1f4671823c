//! The messages of clients.

use livekit_protocol as proto;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use str0m::{Candidate, CandidateKind};

use super::env::Env;
use super::join::MAX_METADATA;
use super::permission::Sharing;
use super::{Goodbye, ParticipantId, Room, Side};

/// More attributes are refused.
const MAX_ATTRIBUTES: usize = 64;
/// More relay addresses of one connection are not remembered.
const MAX_RELAYS: usize = 16;
/// More audio features are cut off.
const MAX_FEATURES: usize = 16;

impl Room {
    /// A message of a participant. Those that are not known are ignored: clients are ahead of us.
    pub fn take_message(&mut self, id: ParticipantId, message: Request, env: &mut Env<'_>) {
        match message {
            Request::Offer(offer) => self.answer_offer(id, &offer, env),
            Request::Answer(answer) => self.take_answer(id, &answer, env),
            Request::Trickle(trickle) => self.note_candidate(id, &trickle),
            Request::AddTrack(request) => self.add_track(id, request, env),
            Request::Mute(mute) => self.set_muted(id, &mute.sid, mute.muted),
            Request::Subscription(update) => self.update_subscription(id, &update),
            Request::TrackSetting(settings) => self.update_settings(id, &settings, env),
            Request::Leave(_) => self.remove(id, Goodbye::Client, env),
            Request::SubscriptionPermission(permission) => self.set_sharing(id, Sharing::read(permission)),
            Request::SyncState(state) => self.sync(id, &state, env),
            Request::UpdateMetadata(update) => self.update_metadata(id, update),
            Request::UpdateAudioTrack(update) => self.update_features(id, update),
            Request::UpdateVideoTrack(update) => self.update_size(id, &update),
            _ => {}
        }
        self.serve_offers(env);
    }

    /// A client's candidate. Checks come from the client, so all there is to learn is which addresses are
    /// those of a relay.
    fn note_candidate(&mut self, id: ParticipantId, trickle: &proto::TrickleRequest) {
        #[derive(serde::Deserialize)]
        struct Init {
            candidate: String,
        }
        let Ok(init) = serde_json::from_str::<Init>(&trickle.candidate_init) else { return };
        let Ok(candidate) = Candidate::from_sdp_string(&init.candidate) else { return };
        let receiving = trickle.target == proto::SignalTarget::Subscriber as i32;
        let side = if receiving { Side::Receiving } else { Side::Main };
        let Some(peer) = self.participants.get_mut(id).and_then(|participant| participant.peer(side)) else { return };
        let ip = candidate.addr().ip();
        if candidate.kind() == CandidateKind::Relayed && peer.relays.len() < MAX_RELAYS && !peer.relays.contains(&ip) {
            peer.relays.push(ip);
        }
    }

    /// After a resume the client says what it takes the state to be; ours holds, except for what it wants.
    fn sync(&mut self, id: ParticipantId, state: &proto::SyncState, env: &mut Env<'_>) {
        if let Some(subscription) = &state.subscription {
            // With automatic subscription the list is what is not wanted, and says so.
            self.update_subscription(id, subscription);
        }
        if !state.track_sids_disabled.is_empty() {
            for sid in &state.track_sids_disabled {
                let Some(track) = self.track_by_sid(sid) else { continue };
                let Some(participant) = self.participants.get_mut(id) else { return };
                if let Some(subscription) = participant.subscriptions.get_mut(&track) {
                    subscription.disabled = true;
                }
            }
            self.allocate(id, env);
        }
    }

    fn update_metadata(&mut self, id: ParticipantId, update: proto::UpdateParticipantMetadata) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        let mut attributes = participant.attributes.clone();
        for (key, value) in update.attributes {
            if value.is_empty() {
                attributes.remove(&key);
            } else {
                attributes.insert(key, value);
            }
        }
        let size: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
        let fits = attributes.len() <= MAX_ATTRIBUTES
            && size <= MAX_METADATA
            && update.metadata.len() <= MAX_METADATA
            && update.name.len() <= MAX_METADATA;
        let reason = if fits {
            participant.attributes = attributes;
            if !update.metadata.is_empty() {
                participant.metadata = update.metadata;
            }
            if !update.name.is_empty() {
                participant.name = update.name;
            }
            proto::request_response::Reason::Ok
        } else {
            proto::request_response::Reason::LimitExceeded
        };
        participant.send(Response::RequestResponse(proto::RequestResponse {
            request_id: update.request_id,
            reason: reason as i32,
            ..Default::default()
        }));
        if fits {
            self.announce(id);
        }
    }

    fn update_features(&mut self, id: ParticipantId, mut update: proto::UpdateLocalAudioTrack) {
        let Some(track) = self.published_track(id, &update.track_sid) else { return };
        update.features.truncate(MAX_FEATURES);
        if let Some(track) = self.tracks.get_mut(track) {
            track.info.audio_features = update.features;
        }
        self.announce(id);
    }

    fn update_size(&mut self, id: ParticipantId, update: &proto::UpdateLocalVideoTrack) {
        let Some(track) = self.published_track(id, &update.track_sid) else { return };
        if let Some(track) = self.tracks.get_mut(track) {
            (track.info.width, track.info.height) = (update.width, update.height);
        }
        self.announce(id);
    }
}

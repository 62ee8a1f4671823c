//! How somebody gets into a room, or back into it.

use std::collections::HashMap;

use bytes::Bytes;
use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::env::{Env, Notice};
use super::info::{LEVEL, PROTOCOL};
use super::meters::Meters;
use super::participant::{Participant, State};
use super::peer::Peer;
use super::permission::Sharing;
use super::{Goodbye, ParticipantId, PeerAt, Room, Side};
use crate::media::speakers::Loudness;
use crate::token::Grant;

/// The client sends a ping this often, in seconds, and gives up after this long without an answer.
const PING_EVERY_S: i32 = 5;
const PING_TIMEOUT_S: i32 = 15;
/// Letters in the part of an identifier that is random.
const SID_LETTERS: usize = 12;
/// Longer attributes and metadata are not taken over.
pub const MAX_METADATA: usize = 64 * 1024;

/// The way to a client's signalling connection.
#[derive(Debug)]
pub struct Link {
    /// The number of the connection.
    pub connection: u64,
    pub frames: mpsc::Sender<Bytes>,
}

impl Link {
    /// `false` when the client is gone or does not read.
    pub fn send(&self, frame: Bytes) -> bool {
        match self.frames.try_send(frame) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
        }
    }
}

/// What a client says when it comes.
#[derive(Debug)]
pub struct JoinOptions {
    pub grant: Grant,
    pub client: proto::ClientInfo,
    pub auto_subscribe: bool,
    pub adaptive_stream: bool,
    pub metadata: String,
    pub attributes: HashMap<String, String>,
    /// Whether it has one media connection for both directions.
    pub single: bool,
    pub tracks: Vec<proto::AddTrackRequest>,
    pub offer: Option<proto::SessionDescription>,
    /// The session to be taken up again.
    pub resume: Option<String>,
    pub ice_servers: Vec<proto::IceServer>,
    pub link: Link,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRefusal {
    /// There is no such room, and the grant does not allow to make it.
    NoRoom,
    /// No capacity.
    Full,
    /// There is no session to take up: the client has to join anew.
    NoSession,
}

impl Room {
    /// Lets somebody in.
    ///
    /// # Errors
    /// [`JoinRefusal`]; nothing was sent.
    pub fn join(&mut self, options: JoinOptions, env: &mut Env<'_>) -> Result<ParticipantId, JoinRefusal> {
        if let Some(sid) = options.resume.clone() {
            return self.resume(&sid, options, env);
        }
        if let Some(old) = self.by_identity.get(&options.grant.identity).copied() {
            self.remove(old, Goodbye::Duplicate, env);
        }
        if self.participants.len() >= env.fixed.config.max_room_participants as usize {
            return Err(JoinRefusal::Full);
        }
        let JoinOptions { tracks, offer, ice_servers, .. } = &options;
        let (tracks, offer, ice_servers) = (tracks.clone(), offer.clone(), ice_servers.clone());
        let id = self.insert(options, env);
        self.welcome(id, ice_servers, env);
        let info = self.participant_info(id);
        let update = proto::ParticipantUpdate { participants: info.into_iter().collect() };
        self.broadcast(Response::Update(update), Some(id));
        let existing: Vec<_> = self.tracks.iter().filter(|(_, track)| track.mid.is_some()).map(|(id, _)| id).collect();
        for track in existing {
            self.auto_subscribe(id, track);
        }
        for track in tracks {
            self.add_track(id, track, env);
        }
        if let Some(offer) = offer {
            self.answer_offer(id, &offer, env);
        }
        self.serve_offers(env);
        Ok(id)
    }

    fn insert(&mut self, options: JoinOptions, env: &mut Env<'_>) -> ParticipantId {
        let id = self.participants.vacant_key();
        let at = |side| PeerAt { participant: id, side };
        let short = |text: String| if text.len() <= MAX_METADATA { text } else { String::new() };
        let participant = Participant {
            sid: format!("PA_{}", env.fixed.random.token(SID_LETTERS)),
            name: options.grant.name.clone(),
            metadata: short(options.metadata),
            attributes: options.attributes,
            client: options.client,
            joined_ms: env.now_ms,
            joined_at: env.now,
            state: State::Joined,
            version: 1,
            auto_subscribe: options.auto_subscribe,
            adaptive_stream: options.adaptive_stream,
            single: options.single,
            main: Some(Peer::new(at(Side::Main), env)),
            receiving: (!options.single).then(|| Peer::new(at(Side::Receiving), env)),
            link: Some(options.link),
            lost_at: None,
            last_media: env.now,
            sources: HashMap::new(),
            published: Vec::new(),
            subscriptions: std::collections::BTreeMap::new(),
            asked_offer: None,
            next_offer: env.now,
            no_raise_before: env.now,
            // A client with two connections waits for our first offer.
            wants_offer: !options.single,
            sharing: Sharing::default(),
            loudness: Loudness::default(),
            meters: Meters::default(),
            last_sequence: 0,
            grant: options.grant,
        };
        self.by_identity.insert(participant.grant.identity.clone(), id);
        self.empty_since = None;
        self.ever_joined = true;
        self.participants.insert(participant)
    }

    fn welcome(&mut self, id: ParticipantId, ice_servers: Vec<proto::IceServer>, env: &Env<'_>) {
        let others = self.others(id);
        let response = proto::JoinResponse {
            room: Some(self.room_info(&env.fixed.config)),
            participant: self.participant_info(id),
            other_participants: others,
            server_version: LEVEL.to_owned(),
            server_info: Some(server_info()),
            ice_servers,
            subscriber_primary: self.participants.get(id).is_some_and(|participant| !participant.single),
            client_configuration: Some(proto::ClientConfiguration::default()),
            ping_timeout: PING_TIMEOUT_S,
            ping_interval: PING_EVERY_S,
            // We never put frames of our own into a stream, so no trailer has to be told from frames.
            sif_trailer: env.fixed.random.token(16).into_bytes(),
            enabled_publish_codecs: self.room_info(&env.fixed.config).enabled_codecs,
            ..Default::default()
        };
        if let Some(participant) = self.participants.get_mut(id) {
            participant.send(Response::Join(response));
        }
    }

    fn resume(&mut self, sid: &str, options: JoinOptions, env: &mut Env<'_>) -> Result<ParticipantId, JoinRefusal> {
        let id = self.by_identity.get(&options.grant.identity).copied().ok_or(JoinRefusal::NoSession)?;
        let participant = self.participants.get_mut(id).filter(|participant| participant.sid == sid);
        let participant = participant.ok_or(JoinRefusal::NoSession)?;
        participant.link = Some(options.link);
        let lost_at = participant.lost_at.take().unwrap_or(env.now);
        participant.asked_offer = None;
        participant.meters.resumes = participant.meters.resumes.saturating_add(1);
        participant.send(Response::Reconnect(proto::ReconnectResponse {
            ice_servers: options.ice_servers,
            client_configuration: Some(proto::ClientConfiguration::default()),
            server_info: Some(server_info()),
            last_message_seq: participant.last_sequence,
        }));
        let mut everybody = self.others(id);
        everybody.extend(self.participant_info(id));
        everybody.extend(self.departed_since(lost_at));
        if let Some(participant) = self.participants.get_mut(id) {
            participant.send(Response::Update(proto::ParticipantUpdate { participants: everybody }));
        }
        if let Some(offer) = options.offer {
            self.answer_offer(id, &offer, env);
        }
        if let Some(participant) = self.participants.get_mut(id)
            && let Some(peer) = participant.receiving.as_mut()
        {
            peer.restart_ice = true;
            for track in peer.roll_back() {
                if let Some(subscription) = participant.subscriptions.get_mut(&track) {
                    subscription.placed = false;
                }
            }
            participant.wants_offer = true;
        }
        self.serve_offers(env);
        tracing::debug!(room = %self.sid, %sid, "a participant is back");
        Ok(id)
    }

    /// The media of a participant are connected.
    pub(super) fn note_connected(&mut self, at: PeerAt, env: &mut Env<'_>) {
        let Some(participant) = self.participants.get_mut(at.participant) else { return };
        let Some(peer) = participant.peer(at.side) else { return };
        peer.connected = true;
        peer.egress.begin();
        if participant.state == State::Active {
            return;
        }
        participant.state = State::Active;
        let waited = env.now.saturating_duration_since(participant.joined_at);
        env.fixed.metrics.join_seconds.observe_duration(waited);
        let identity = participant.grant.identity.clone();
        env.out.notices.push(Notice::Joined { identity });
        self.announce(at.participant);
    }
}

fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        version: LEVEL.to_owned(),
        protocol: PROTOCOL,
        node_id: "conduit".to_owned(),
        ..Default::default()
    }
}

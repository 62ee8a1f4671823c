//! Offers of clients: on their only connection, or on the one they publish on.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use str0m::RtcError;
use str0m::change::SdpOffer;
use str0m::error::SdpError;

use super::env::Env;
use super::peer::{Line, LineState, Peer};
use super::track::Track;
use super::{Goodbye, ParticipantId, PeerAt, Room, Side, TrackId};
use crate::media::munger::Munger;
use crate::media::sdp::{self, BadSdp, Direction, Kind, Label, Section};

/// Why an offer cannot be answered; the client's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadOffer {
    #[error(transparent)]
    Text(#[from] BadSdp),
    #[error("the session description cannot be parsed")]
    Parse(#[from] SdpError),
    #[error("the session description does not fit the session")]
    Apply(#[from] RtcError),
}

impl Room {
    /// Answers an offer. One that cannot be answered ends the session.
    pub(super) fn answer_offer(&mut self, id: ParticipantId, offer: &proto::SessionDescription, env: &mut Env<'_>) {
        if let Err(error) = self.try_answer(id, offer, env) {
            tracing::info!(room = %self.sid, participant = id, %error, "an offer is refused");
            self.remove(id, Goodbye::MediaLost, env);
        }
    }

    fn try_answer(
        &mut self,
        id: ParticipantId,
        offer: &proto::SessionDescription,
        env: &mut Env<'_>,
    ) -> Result<(), BadOffer> {
        let at = PeerAt { participant: id, side: Side::Main };
        let sections = sdp::sections(&offer.sdp)?;
        let Some(participant) = self.participants.get_mut(id) else { return Ok(()) };
        participant.asked_offer = None;
        participant.wants_offer = false;
        let single = participant.single;
        let Some(peer) = participant.main.as_mut() else { return Ok(()) };
        if single {
            peer.add_lines(&sections);
        }
        // What is published by this offer may be received by others at once; what is wanted by this client is
        // placed on lines that were already idle, because a line has to be seen parked between two tracks.
        if single {
            self.place_waiting(id);
        }
        let Some(peer) = self.peer(at) else { return Ok(()) };
        let placed: HashMap<String, TrackId> = peer.sending_lines().collect();
        let text = sdp::park(&offer.sdp, |mid| placed.contains_key(mid));
        let answer = peer.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&text)?)?;
        for line in peer.lines.iter_mut().filter(|line| line.state == LineState::Draining) {
            line.state = LineState::Idle;
        }
        peer.renew_name(at, env);
        let labels = self.labels(&placed);
        let steady = self.steady_lines(id, &sections);
        let answer = sdp::label(&answer.to_sdp_string(), &labels, |mid| steady.iter().any(|line| line == mid));
        let mid_to_track_id = labels.into_iter().map(|(mid, label)| (mid, label.track)).collect();
        let Some(participant) = self.participants.get_mut(id) else { return Ok(()) };
        participant.send(Response::Answer(proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer,
            id: offer.id,
            mid_to_track_id,
        }));
        self.bind_tracks(id, &sections);
        self.start_lines(at, env);
        self.mark(at);
        self.want_more_lines(id);
        Ok(())
    }

    /// The lines with audio that is to be sent without pauses, such as music.
    fn steady_lines(&self, id: ParticipantId, sections: &[Section]) -> Vec<String> {
        let Some(participant) = self.participants.get(id) else { return Vec::new() };
        #[expect(deprecated, reason = "clients of today write this field")]
        let wants = |track: &Track| track.info.disable_dtx;
        let tracks =
            || participant.published.iter().filter_map(|track| self.tracks.get(*track)).filter(|track| wants(track));
        let is_steady = |section: &&Section| {
            let of_line = |track: &Track| track.mid.as_deref() == Some(section.mid.as_str());
            let named = |track: &Track| section.track.as_ref().is_some_and(|name| track.cids.contains(name));
            tracks().any(|track| of_line(track) || named(track))
        };
        sections.iter().filter(is_steady).map(|section| section.mid.clone()).collect()
    }

    /// What each of these lines carries, as clients are told.
    pub(super) fn labels(&self, placed: &HashMap<String, TrackId>) -> HashMap<String, Label> {
        let label = |track: &TrackId| {
            let track = self.tracks.get(*track)?;
            let publisher = self.participants.get(track.publisher)?;
            let track_sid = track.info.sid.clone();
            Some(Label { stream: format!("{}|{track_sid}", publisher.sid), track: track_sid })
        };
        placed.iter().filter_map(|(mid, track)| Some((mid.clone(), label(track)?))).collect()
    }

    /// Remembers to ask the client for another offer if there is something to negotiate.
    pub(super) fn want_more_lines(&mut self, id: ParticipantId) {
        let waits = [Kind::Audio, Kind::Video].into_iter().any(|kind| !self.waiting(id, kind).is_empty());
        let Some(participant) = self.participants.get_mut(id) else { return };
        let Some(peer) = participant.receiving_peer() else { return };
        let draining = peer.lines.iter().any(|line| line.state == LineState::Draining);
        participant.wants_offer |= waits || draining;
    }

    /// Asks a client with one connection for another offer, with as many further lines as are missing.
    pub(super) fn ask_offer(&mut self, id: ParticipantId, env: &Env<'_>) {
        let missing = |kind: Kind, room: &Room| {
            let waiting = room.waiting(id, kind).len();
            let peer = room.participants.get(id).and_then(|participant| participant.main.as_ref());
            let usable = peer.map_or(0, |peer| {
                let usable =
                    |line: &&Line| line.kind == kind && line.offered && !matches!(line.state, LineState::Sending(_));
                peer.lines.iter().filter(usable).count()
            });
            u32::try_from(waiting.saturating_sub(usable)).unwrap_or(u32::MAX)
        };
        let (num_audios, num_videos) = (missing(Kind::Audio, self), missing(Kind::Video, self));
        let Some(participant) = self.participants.get_mut(id) else { return };
        participant.wants_offer = false;
        participant.asked_offer = Some(env.now);
        let requirement = proto::MediaSectionsRequirement { num_audios, num_videos };
        participant.send(Response::MediaSectionsRequirement(requirement));
    }
}

impl Peer {
    /// Takes over on which lines of an offer the client can receive.
    fn add_lines(&mut self, sections: &[Section]) {
        for section in sections {
            let mid = section.mid.as_str().into();
            let offered = section.kind != Kind::Data && section.direction == Direction::RecvOnly;
            if let Some(line) = self.line(mid) {
                line.offered = offered;
            } else if offered {
                let (kind, state, munger) = (section.kind, LineState::Idle, Munger::default());
                self.lines.push(Line { mid, kind, state, offered, munger });
            }
        }
    }

    /// The lines given to tracks.
    pub fn sending_lines(&self) -> impl Iterator<Item = (String, TrackId)> + '_ {
        self.lines.iter().filter_map(|line| match line.state {
            LineState::Sending(track) => Some((line.mid.to_string(), track)),
            _ => None,
        })
    }
}

//! Our own offers, to clients that receive on a second connection.

use std::collections::HashMap;
use std::time::Duration;

use livekit_protocol as proto;
use proto::signal_response::Message as Response;
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, Reliability};
use str0m::media::{Direction, MediaKind};

use super::data::{LOSSY, RELIABLE};
use super::env::Env;
use super::negotiate::BadOffer;
use super::peer::{Line, LineState, Peer};
use super::{Goodbye, ParticipantId, PeerAt, Room, Side, TrackId};
use crate::media::munger::Munger;
use crate::media::sdp::{self, Kind};

/// After this long a client that was asked for an offer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Between two negotiations with one client passes this much for each participant of the room, so that many
/// who come at once cost one negotiation and not one each.
const OFFER_GAP: Duration = Duration::from_millis(25);
const MAX_OFFER_GAP: Duration = Duration::from_secs(1);

impl Room {
    /// Negotiates with everybody for whom there is something to negotiate. To be called after messages, and
    /// now and then.
    pub fn serve_offers(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        let due: Vec<(ParticipantId, bool)> = self
            .participants
            .iter()
            .filter(|(_, participant)| {
                let asked = participant.asked_offer.is_some_and(|at| now.saturating_duration_since(at) < ASK_AGAIN);
                participant.wants_offer && participant.link.is_some() && !asked && now >= participant.next_offer
            })
            .map(|(id, participant)| (id, participant.single))
            .collect();
        let gap =
            OFFER_GAP.saturating_mul(u32::try_from(self.participants.len()).unwrap_or(u32::MAX)).min(MAX_OFFER_GAP);
        for (id, single) in due {
            if let Some(participant) = self.participants.get_mut(id) {
                participant.next_offer = now + gap;
            }
            if single {
                self.ask_offer(id, env);
            } else {
                self.offer(id, env);
            }
        }
    }

    /// Offers what the client is to receive, unless an offer is open.
    fn offer(&mut self, id: ParticipantId, env: &mut Env<'_>) {
        let at = PeerAt { participant: id, side: Side::Receiving };
        let open = self.peer(at).is_none_or(|peer| peer.pending.is_some());
        if open {
            return;
        }
        self.place_waiting(id);
        let waiting: Vec<(Kind, TrackId)> = [Kind::Audio, Kind::Video]
            .into_iter()
            .flat_map(|kind| self.waiting(id, kind).into_iter().map(move |track| (kind, track)))
            .collect();
        let Some(participant) = self.participants.get_mut(id) else { return };
        participant.wants_offer = false;
        for (_, track) in &waiting {
            if let Some(subscription) = participant.subscriptions.get_mut(track) {
                subscription.placed = true;
            }
        }
        let Some(peer) = participant.receiving.as_mut() else { return };
        let Some(text) = peer.make_offer(&waiting) else { return };
        let (offer_id, placed): (u32, HashMap<String, TrackId>) = (peer.offer_id, peer.sending_lines().collect());
        let labels = self.labels(&placed);
        let text = sdp::label(&text, &labels, |_| true);
        let mid_to_track_id = labels.into_iter().map(|(mid, label)| (mid, label.track)).collect();
        if let Some(participant) = self.participants.get_mut(id) {
            participant.send(Response::Offer(proto::SessionDescription {
                r#type: "offer".to_owned(),
                sdp: text,
                id: offer_id,
                mid_to_track_id,
            }));
        }
        self.mark(at);
        tracing::debug!(room = %self.sid, participant = id, now_ms = env.now_ms, "offered");
    }

    /// The client's answer to our offer. One that cannot be used ends the session.
    pub(super) fn take_answer(&mut self, id: ParticipantId, answer: &proto::SessionDescription, env: &mut Env<'_>) {
        let at = PeerAt { participant: id, side: Side::Receiving };
        let Some(peer) = self.peer(at) else { return };
        if answer.id != 0 && answer.id != peer.offer_id {
            return;
        }
        let Some(pending) = peer.pending.take() else { return };
        let parsed = sdp::sections(&answer.sdp).map_err(BadOffer::from);
        let parsed = parsed.and_then(|_| Ok(SdpAnswer::from_sdp_string(&answer.sdp)?));
        let outcome = parsed.and_then(|answer| Ok(peer.rtc.sdp_api().accept_answer(pending, answer)?));
        if let Err(error) = outcome {
            tracing::info!(room = %self.sid, participant = id, %error, "an answer is refused");
            return self.remove(id, Goodbye::MediaLost, env);
        }
        peer.adding.clear();
        let parked = std::mem::take(&mut peer.parking);
        for line in peer.lines.iter_mut() {
            if line.state == LineState::Draining && parked.contains(&line.mid) {
                line.state = LineState::Idle;
            }
        }
        peer.renew_name(at, env);
        self.start_lines(at, env);
        self.mark(at);
        self.want_more_lines(id);
    }
}

impl Peer {
    /// An offer with the lines as they are, and new ones for `waiting`. `None` when there is nothing to change.
    fn make_offer(&mut self, waiting: &[(Kind, TrackId)]) -> Option<String> {
        let mut changes = self.rtc.sdp_api();
        if self.offer_id == 0 {
            changes.add_channel_with_config(ChannelConfig { label: RELIABLE.to_owned(), ..ChannelConfig::default() });
            changes.add_channel_with_config(ChannelConfig {
                label: LOSSY.to_owned(),
                ordered: false,
                reliability: Reliability::MaxRetransmits { retransmits: 0 },
                ..ChannelConfig::default()
            });
        }
        self.parking.clear();
        for line in &self.lines {
            match line.state {
                LineState::Sending(_) => changes.set_direction(line.mid, Direction::SendOnly),
                LineState::Draining => {
                    changes.set_direction(line.mid, Direction::Inactive);
                    self.parking.push(line.mid);
                }
                LineState::Idle => {}
            }
        }
        for (kind, track) in waiting {
            let media = if *kind == Kind::Audio { MediaKind::Audio } else { MediaKind::Video };
            let mid = changes.add_media(media, Direction::SendOnly, None, None, None);
            let (kind, state) = (*kind, LineState::Sending(*track));
            self.lines.push(Line { mid, kind, state, offered: true, munger: Munger::default() });
            self.adding.push(mid);
        }
        if std::mem::take(&mut self.restart_ice) && self.connected {
            changes.ice_restart(true);
        }
        let (offer, pending) = changes.apply()?;
        self.offer_id = self.offer_id.saturating_add(1);
        self.pending = Some(pending);
        Some(offer.to_sdp_string())
    }
}

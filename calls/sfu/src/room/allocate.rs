//! Which layer of which track each participant is sent.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::signal_response::Message as Response;

use super::env::Env;
use super::participant::Subscription;
use super::peer::Peer;
use super::track::Track;
use super::{ParticipantId, PeerAt, Room, TrackId};
use crate::media::layers::{self, Budget, Demand, LAYERS, Layer};

/// What an audio track takes at most, in bit/s.
const AUDIO_RATE: u64 = 50_000;
/// How much more than wanted the way is probed for, in percent: a layer is raised only where there is more room than it
/// takes.
const WISH_PERCENT: u64 = 100 + layers::HEADROOM_PERCENT + 5;
/// A picture is neither paused nor resumed sooner after it was resumed or paused.
const STEADY: Duration = Duration::from_secs(2);
/// How long layers are not raised after the line was found too narrow.
const CALM: Duration = Duration::from_secs(4);
/// When what is sent takes more than this of what the way carries, in percent, it ends before the lower layer begins.
const CROWDED_PERCENT: u64 = 120;

impl Room {
    /// Chooses the layers of all pictures of a participant anew.
    pub(super) fn allocate(&mut self, subscriber: ParticipantId, env: &mut Env<'_>) {
        let Some(participant) = self.participants.get_mut(subscriber) else { return };
        let side = participant.receiving_side();
        let (mut demands, mut shown, mut audio): (Vec<Demand>, Vec<TrackId>, u64) = (Vec::new(), Vec::new(), 0);
        let mut chosen: Vec<(TrackId, Option<Layer>, bool)> = Vec::new();
        for (id, wish) in &participant.subscriptions {
            let Some(track) = self.tracks.get(*id) else { continue };
            let Some(down) = track.downs.iter().find(|down| down.subscriber == subscriber) else { continue };
            if !track.is_video() {
                audio = audio.saturating_add(AUDIO_RATE);
                chosen.push((*id, (!wish.disabled).then_some(0), false));
            } else if wish.disabled {
                chosen.push((*id, None, false));
            } else {
                let mut demand = demand_of(track, wish, down.current.or(down.target), env.now);
                if let Some(current) = down.current.or(down.target).filter(|_| env.now < participant.no_raise_before) {
                    demand.wanted = demand.wanted.min(current);
                }
                if demand.rates.iter().all(|rate| *rate == 0) {
                    // Nothing has come yet: take what comes first.
                    chosen.push((*id, Some(wish.layer.min(track.top())), false));
                } else {
                    demands.push(demand);
                    shown.push(*id);
                }
            }
        }
        let Some(peer) = participant.peer(side) else { return };
        let desired = layers::desired(&demands).saturating_add(audio);
        let sent = layers::sent(&demands);
        peer.egress.bandwidth.set_wish(desired.saturating_mul(WISH_PERCENT) / 100);
        let budget = peer.budget(sent, audio, env.now);
        let measured = peer.egress.bandwidth.is_measured();
        let crowded = sent > budget.kept.saturating_mul(CROWDED_PERCENT) / 100;
        let given = layers::allocate(budget, &demands);
        tracing::trace!(participant = subscriber, ?budget, desired, sent, ?given, "allocated");
        participant.meters.note_shortfall(&demands, &given);
        let falls = |(demand, given): (&Demand, &Option<Layer>)| {
            demand.current.is_some_and(|current| demand.wanted >= current && given.is_none_or(|given| given < current))
        };
        // What is less than was tried at first, before anything was measured, says nothing of the way.
        if measured && demands.iter().zip(&given).any(falls) {
            tracing::debug!(room = %self.sid, participant = subscriber, ?budget, sent, "the way is too narrow");
            participant.no_raise_before = env.now + CALM;
        }
        chosen.extend(shown.into_iter().zip(given).map(|(id, layer)| (id, layer, layer.is_none())));
        for (id, layer, paused) in chosen {
            if crowded {
                self.cut(subscriber, id, layer);
            }
            self.set_target(subscriber, id, layer, paused, env);
        }
    }

    /// Ends at once what is sent of a layer above `target`: what does not fit only keeps the key frame of the lower
    /// layer waiting, and so does what would be sent again of it.
    fn cut(&mut self, subscriber: ParticipantId, id: TrackId, target: Option<Layer>) {
        let Some(track) = self.tracks.get_mut(id) else { return };
        let Some(down) = track.downs.iter_mut().find(|down| down.subscriber == subscriber) else { return };
        if down.current.is_none_or(|current| target.is_some_and(|target| target >= current)) {
            return;
        }
        down.current = None;
        // A pause may have to wait; until then the smallest there is.
        down.target = target.or(Some(0));
        let (at, ssrc) = (PeerAt { participant: subscriber, side: down.side }, down.ssrc);
        if let Some(peer) = self.peer(at) {
            peer.egress.forget_sent(*ssrc);
        }
    }

    fn set_target(
        &mut self,
        subscriber: ParticipantId,
        id: TrackId,
        target: Option<Layer>,
        paused: bool,
        env: &mut Env<'_>,
    ) {
        let Some(track) = self.tracks.get_mut(id) else { return };
        let sid = track.info.sid.clone();
        let publisher = track.publisher;
        let Some(down) = track.downs.iter_mut().find(|down| down.subscriber == subscriber) else { return };
        let turns = paused != down.told_paused;
        if turns && (paused || target.is_some()) && env.now.saturating_duration_since(down.turned) < STEADY {
            return;
        }
        if turns {
            down.turned = env.now;
        }
        down.target = target;
        let waits = target.is_some() && target != down.current && down.not_before <= env.now;
        let tell = std::mem::replace(&mut down.told_paused, paused) != paused;
        if let (true, Some(stream)) = (waits, target.and_then(|layer| track.stream(layer))) {
            stream.key_wanted = true;
            self.ask_key_frames(id, env.now, env);
        }
        if !tell {
            return;
        }
        let state = if paused { proto::StreamState::Paused } else { proto::StreamState::Active } as i32;
        let participant_sid =
            self.participants.get(publisher).map(|publisher| publisher.sid.clone()).unwrap_or_default();
        if let Some(participant) = self.participants.get_mut(subscriber) {
            let info = proto::StreamStateInfo { participant_sid, track_sid: sid, state };
            participant.send(Response::StreamStateUpdate(proto::StreamStateUpdate { stream_states: vec![info] }));
        }
    }
}

impl Peer {
    /// What there is for pictures, of which `sent` bit/s are being sent beside `audio` bit/s of sound.
    fn budget(&mut self, sent: u64, audio: u64, now: Instant) -> Budget {
        let bandwidth = &self.egress.bandwidth;
        let estimate = bandwidth.value();
        let kept = if bandwidth.is_measured() {
            self.shortage.kept(estimate, sent.saturating_add(audio), now)
        } else {
            estimate
        };
        Budget { kept: kept.saturating_sub(audio), raised: estimate.saturating_sub(audio) }
    }
}

fn demand_of(track: &Track, wish: &Subscription, current: Option<Layer>, now: Instant) -> Demand {
    let mut rates = [0; LAYERS];
    for (rate, stream) in rates.iter_mut().zip(&track.streams) {
        if stream.is_live(now) {
            *rate = stream.meter.rate.max(1);
        }
    }
    Demand { rates, wanted: wish.layer, priority: wish.area, current }
}

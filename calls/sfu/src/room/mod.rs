//! A call: its participants, their tracks, and who is sent what.
//!
//! A room is driven from outside by datagrams, messages, timers, and never waits. It owns the connections
//! of its participants (state machines without sockets).

mod allocate;
mod data;
mod egress;
mod env;
mod forward;
mod info;
mod join;
mod leave;
mod messages;
mod meters;
mod negotiate;
mod offer;
mod participant;
mod peer;
mod permission;
mod publish;
mod recording;
mod subscribe;
mod tick;
mod track;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;
use str0m::net::Receive;
use str0m::rtp::RtpPacket;
use str0m::{Event, Input};

pub use env::{Env, Fixed, Notice, Outbox, RouteChange};
pub use info::{encode, signed};
pub use join::{JoinOptions, JoinRefusal, Link};
pub use leave::Goodbye;
use participant::Participant;
use peer::{Peer, Until};
pub use tick::TICK;
use track::Track;

use crate::media::rtcp;
use crate::record::Tap;

/// A participant's place in the room.
pub type ParticipantId = usize;
/// A track's place in the room.
pub type TrackId = usize;

/// One of a participant's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAt {
    pub participant: ParticipantId,
    pub side: Side,
}

/// Which of a participant's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The only one, or the one the participant publishes on.
    Main,
    /// The one that clients with two connections receive on.
    Receiving,
}

/// A call.
pub struct Room {
    pub name: String,
    pub sid: String,
    pub created_ms: u64,
    participants: Slab<Participant>,
    by_identity: HashMap<String, ParticipantId>,
    tracks: Slab<Track>,
    /// Connections that have something to send, or may have something that was not taken out.
    unsettled: Vec<PeerAt>,
    /// Packets of participants that have not been forwarded yet. Empty between calls.
    arrived: Vec<(ParticipantId, RtpPacket)>,
    events: Vec<Event>,
    /// Those who left lately, and when.
    departed: VecDeque<(Instant, livekit_protocol::ParticipantInfo)>,
    clocks: tick::Clocks,
    empty_since: Option<Instant>,
    ever_joined: bool,
    /// Where the recording takes its packets, while there is one.
    tap: Option<Tap>,
}

impl Room {
    /// An empty room.
    pub fn new(name: String, sid: String, now: Instant, now_ms: u64) -> Room {
        Room {
            name,
            sid,
            created_ms: now_ms,
            participants: Slab::new(),
            by_identity: HashMap::new(),
            tracks: Slab::new(),
            unsettled: Vec::new(),
            arrived: Vec::new(),
            events: Vec::new(),
            departed: VecDeque::new(),
            clocks: tick::Clocks::new(now),
            empty_since: Some(now),
            ever_joined: false,
            tap: None,
        }
    }

    /// How many participants there are.
    pub fn len(&self) -> usize {
        self.participants.len()
    }

    /// Whether this signalling connection is the one of the participant.
    pub fn is_linked(&self, id: ParticipantId, connection: u64) -> bool {
        let link = self.participants.get(id).and_then(|participant| participant.link.as_ref());
        link.is_some_and(|link| link.connection == connection)
    }

    /// Those whose media are connected.
    pub fn active_identities(&self) -> impl Iterator<Item = &str> {
        let active =
            self.participants.iter().filter(|(_, participant)| participant.state == participant::State::Active);
        active.map(|(_, participant)| participant.grant.identity.as_str())
    }

    fn peer(&mut self, at: PeerAt) -> Option<&mut Peer> {
        self.participants.get_mut(at.participant)?.peer(at.side)
    }

    /// Whether the datagram is an ICE check that this connection authenticates.
    pub fn authenticates(&mut self, at: PeerAt, input: &Input<'_>) -> bool {
        self.peer(at).is_some_and(|peer| peer.rtc.accepts(input))
    }

    /// Remembers that datagrams from `address` are for the connection. An older one that is forgotten for it.
    pub fn add_address(&mut self, at: PeerAt, address: SocketAddr) -> Option<SocketAddr> {
        self.peer(at)?.add_address(address)
    }

    /// A datagram for one of the connections: as it came, and as the engine reads it.
    pub fn receive(&mut self, at: PeerAt, bytes: &[u8], datagram: Receive<'_>, env: &mut Env<'_>) {
        let Some(participant) = self.participants.get_mut(at.participant) else { return };
        participant.last_media = env.now;
        let Some(peer) = participant.peer(at.side) else { return };
        if rtcp::is_report(bytes) {
            let taken = peer.egress.take_reports(bytes, env.now);
            if taken.fell {
                // Less at once, or what does not fit piles up; more with the next regular round.
                self.allocate(at.participant, env);
            }
            self.settle_later(at);
            if !taken.for_engine {
                return;
            }
        }
        let Some(peer) = self.peer(at) else { return };
        if let Err(error) = peer.rtc.handle_input(Input::Receive(env.now, datagram)) {
            return self.fail(at, &error, env);
        }
        self.settle(at, Until::Packet, env);
    }

    /// The time a connection asked to be woken at may have come.
    pub fn wake(&mut self, at: PeerAt, env: &mut Env<'_>) {
        let now = env.now;
        let Some(peer) = self.peer(at) else { return };
        if peer.next_probe.is_some_and(|due| due <= now) {
            peer.next_probe = None;
            self.settle_later(at);
        }
        let Some(peer) = self.peer(at) else { return };
        if peer.deadline > now {
            if peer.queued_wake.is_some_and(|queued| queued > now) {
                // This wake was replaced by a later one.
                return;
            }
            // It has asked for a later time since.
            peer.queued_wake = Some(peer.deadline);
            env.out.wakes.push((peer.deadline, at));
            return;
        }
        peer.queued_wake = None;
        if let Err(error) = peer.rtc.handle_input(Input::Timeout(now)) {
            return self.fail(at, &error, env);
        }
        self.settle(at, Until::Empty, env);
    }

    /// Sends what one connection was given to send; `false` when there is none. To be called until then after each batch
    /// of calls, and what it gives to be sent at once: the engine takes the time of the call for that of sending.
    pub fn flush_next(&mut self, env: &mut Env<'_>) -> bool {
        let Some(at) = self.unsettled.pop() else { return false };
        let now = env.now;
        let Some(peer) = self.peer(at) else { return true };
        peer.listed = false;
        let (dirty, unread) = (std::mem::take(&mut peer.dirty), std::mem::take(&mut peer.unread));
        if dirty && let Err(error) = peer.rtc.handle_input(Input::Timeout(now)) {
            self.fail(at, &error, env);
        } else if dirty || unread {
            self.settle(at, Until::Empty, env);
        }
        // The engine has told by now where media go.
        if let Some(peer) = self.peer(at) {
            peer.send_media(at, env);
        }
        true
    }

    /// Marks a connection as having something to send through its engine.
    fn mark(&mut self, at: PeerAt) {
        if let Some(peer) = self.peer(at) {
            peer.dirty = true;
        }
        self.settle_later(at);
    }

    /// The connection is looked at with the next flush.
    fn settle_later(&mut self, at: PeerAt) {
        if let Some(peer) = self.peer(at)
            && !std::mem::replace(&mut peer.listed, true)
        {
            self.unsettled.push(at);
        }
    }

    /// Takes out of a connection what it has after it was given something.
    fn settle(&mut self, at: PeerAt, until: Until, env: &mut Env<'_>) {
        let mut events = std::mem::take(&mut self.events);
        let mut arrived = std::mem::take(&mut self.arrived);
        let outcome = match self.peer(at) {
            Some(peer) => peer.drain(at, env, until, &mut events, |packet| arrived.push((at.participant, packet))),
            None => Ok(false),
        };
        for event in events.drain(..) {
            self.note_event(at, event, env);
        }
        for (publisher, packet) in arrived.drain(..) {
            self.forward(publisher, packet, env);
        }
        self.events = events;
        self.arrived = arrived;
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                // What the connection still has is taken out with the next flush.
                if let Some(peer) = self.peer(at) {
                    peer.unread = true;
                }
                self.settle_later(at);
            }
            Err(error) => self.fail(at, &error, env),
        }
    }

    fn note_event(&mut self, at: PeerAt, event: Event, env: &mut Env<'_>) {
        match event {
            Event::Connected => self.note_connected(at, env),
            Event::ChannelOpen(id, label) => self.open_channel(at, id, &label),
            Event::ChannelData(data) => self.receive_data(at, data, env),
            Event::ChannelClose(id) => self.close_channel(at, id),
            Event::ChannelBufferedAmountLow(_) => self.send_queued(at),
            Event::KeyframeRequest(request) => self.relay_key_request(at, request.mid, env),
            Event::MediaIngressStats(stats) => self.note_ingress(at, &stats),
            Event::MediaEgressStats(stats) => self.note_egress(at, &stats),
            Event::Closed => self.remove(at.participant, Goodbye::MediaLost, env),
            _ => {}
        }
    }

    /// A connection is broken beyond repair: its participant has to come back with a new one.
    fn fail(&mut self, at: PeerAt, error: &str0m::RtcError, env: &mut Env<'_>) {
        tracing::info!(room = %self.sid, participant = at.participant, %error, "a media connection failed");
        self.remove(at.participant, Goodbye::MediaLost, env);
    }
}

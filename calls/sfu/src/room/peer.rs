//! A participant's media connection: the media engine, its lines and data channels.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use str0m::change::SdpPendingOffer;
use str0m::channel::ChannelId;
use str0m::format::CodecConfig;
use str0m::media::Mid;
use str0m::net::{Protocol, Transmit};
use str0m::rtp::RtpPacket;
use str0m::{Event, IceCreds, Input, Output, PacerReason, Reason, Rtc, RtcConfig, RtcError};

use super::egress::Egress;
use super::env::{Env, Fixed, RouteChange};
use super::{PeerAt, TrackId};
use crate::media::munger::Munger;
use crate::media::rtcp;
use crate::media::sdp::Kind;
use crate::media::shortage::Shortage;
use crate::media::srtp::slot;
use crate::report::Transport;

/// What the way to a client is taken to carry before it was measured, in bit/s.
pub const FIRST_ESTIMATE: u64 = 5_000_000;
/// How often the engine counts.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// The largest data message, in bytes.
pub const MAX_DATA: u32 = 256 * 1024;
/// The older addresses of a client are forgotten.
const MAX_ADDRESSES: usize = 16;
/// A connection is not woken earlier again: what is due by then is done together.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// The engine gives out one media packet for each look at the clock. When all that were written are out, the next look has
/// time until then.
const IDLE_LOOK: Duration = Duration::from_millis(10);
/// Events of one connection before it has to make room for others.
const MAX_OUTPUTS: usize = 100_000;

/// A line on which we may send.
#[derive(Debug)]
pub struct Line {
    pub mid: Mid,
    pub kind: Kind,
    pub state: LineState,
    /// Whether the client's last offer lets us send on it. Some clients never offer a line again that was parked.
    pub offered: bool,
    /// The line's numbers while nothing is sent on it; the track has them otherwise.
    pub munger: Munger,
}

/// What a line is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    /// Nothing; the client knows it.
    Idle,
    /// Given to a track in the offer or answer being made, or in use.
    Sending(TrackId),
    /// Nothing any more; the client has to be told before it can be used again.
    Draining,
}

/// How far [`Peer::drain`] goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to the media packet that a datagram has brought: there is never more than one. The engine walks through all
    /// its streams to say that it has nothing else, which is done once for all datagrams that came together.
    Packet,
    Empty,
}

/// The data channels and what waits for them.
#[derive(Debug, Default)]
pub struct Channels {
    pub reliable: Option<ChannelId>,
    pub lossy: Option<ChannelId>,
    /// Messages that the reliable channel has no room for yet.
    pub queue: VecDeque<Bytes>,
    pub queued_bytes: usize,
}

/// A media connection.
pub struct Peer {
    pub rtc: Rtc,
    /// Our ICE user name, by which first datagrams are told apart.
    ufrag: String,
    addresses: Vec<SocketAddr>,
    /// Addresses that the client said are those of a TURN server.
    pub relays: Vec<IpAddr>,
    pub lines: Vec<Line>,
    pub channels: Channels,
    /// When the engine wants to be woken.
    pub deadline: Instant,
    /// The earliest wake that was asked for and has not come.
    pub queued_wake: Option<Instant>,
    /// Whether the engine was given something to send, and has to look at it.
    pub dirty: bool,
    /// Whether the engine may have more than was taken out of it.
    pub unread: bool,
    /// Whether the room has the connection among those that are to be looked at.
    pub listed: bool,
    pub connected: bool,
    pub transport: Transport,
    /// What is sent of media.
    pub egress: Egress,
    pub shortage: Shortage,
    /// When more of a probe is to be sent.
    pub next_probe: Option<Instant>,
    /// Media packets written to the engine that it has not given out yet.
    written: usize,
    /// Our offer that has not been answered (clients with two connections).
    pub pending: Option<SdpPendingOffer>,
    pub offer_id: u32,
    /// The lines that our pending offer parks.
    pub parking: Vec<Mid>,
    /// The lines that our pending offer adds.
    pub adding: Vec<Mid>,
    /// Whether our next offer restarts ICE.
    pub restart_ice: bool,
}

impl Peer {
    pub fn new(at: PeerAt, env: &mut Env<'_>) -> Peer {
        let creds = IceCreds { ufrag: env.fixed.random.token(16), pass: env.fixed.random.token(32) };
        let (mut rtc, keys) = slot::build_with_slot(|| build_engine(env.fixed, creds.clone(), env.now));
        for candidate in &env.fixed.candidates {
            rtc.add_local_candidate(candidate.clone());
        }
        env.out.routes.push(RouteChange::AddName(creds.ufrag.clone(), at));
        Peer {
            rtc,
            ufrag: creds.ufrag,
            addresses: Vec::new(),
            relays: Vec::new(),
            lines: Vec::new(),
            channels: Channels::default(),
            deadline: env.now,
            queued_wake: None,
            dirty: false,
            unread: false,
            listed: false,
            connected: false,
            transport: Transport::None,
            egress: Egress::new(keys),
            shortage: Shortage::default(),
            next_probe: None,
            written: 0,
            pending: None,
            offer_id: 0,
            parking: Vec::new(),
            adding: Vec::new(),
            restart_ice: false,
        }
    }

    /// After a negotiation: an ICE restart has given us another user name.
    pub fn renew_name(&mut self, at: PeerAt, env: &mut Env<'_>) {
        let ufrag = self.rtc.direct_api().local_ice_credentials().ufrag;
        if ufrag != self.ufrag {
            let old = std::mem::replace(&mut self.ufrag, ufrag.clone());
            env.out.routes.push(RouteChange::RemoveName(old));
            env.out.routes.push(RouteChange::AddName(ufrag, at));
        }
    }

    /// Datagrams from `address` are for this connection from now on. An older one that is forgotten for it.
    pub fn add_address(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if self.addresses.contains(&address) {
            return None;
        }
        self.addresses.push(address);
        (self.addresses.len() > MAX_ADDRESSES).then(|| self.addresses.remove(0))
    }

    /// Forgets how datagrams get here.
    pub fn unroute(&self, env: &mut Env<'_>) {
        env.out.routes.push(RouteChange::RemoveName(self.ufrag.clone()));
        env.out.routes.extend(self.addresses.iter().copied().map(RouteChange::RemoveAddress));
    }

    /// Takes out what the engine has: datagrams into the outbox, media packets to `arrived`, the rest to `events`. Whether
    /// there may be more.
    ///
    /// # Errors
    /// The engine's, after which the connection is useless.
    pub fn drain(
        &mut self,
        at: PeerAt,
        env: &mut Env<'_>,
        until: Until,
        events: &mut Vec<Event>,
        mut arrived: impl FnMut(RtpPacket),
    ) -> Result<bool, RtcError> {
        for _ in 0..MAX_OUTPUTS {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    self.note_way(&transmit);
                    if !rtcp::is_media(&transmit.contents) {
                        env.out.datagrams.push(transmit);
                        continue;
                    }
                    // It was sent already. Media packets come after everything else and one for each look at the clock:
                    // until then the engine has nothing more, and asking it would walk through all its streams for nothing.
                    self.written = self.written.saturating_sub(1);
                    if self.written == 0 {
                        self.rest_until(env.now + IDLE_LOOK, at, env);
                        break;
                    }
                    self.rtc.handle_input(Input::Timeout(env.now))?;
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    arrived(packet);
                    if until == Until::Packet {
                        return Ok(true);
                    }
                }
                Output::Event(event) => events.push(event),
                Output::Timeout(at_time) => {
                    let looks = self.rtc.last_timeout_reason() == Reason::Pacer(PacerReason::Immediate);
                    if looks && self.written > 0 {
                        self.rtc.handle_input(Input::Timeout(at_time))?;
                        continue;
                    }
                    if !looks {
                        // Nothing waits: whatever was written and has not come out never will.
                        self.written = 0;
                    }
                    let rest = if looks { IDLE_LOOK } else { SHORTEST_REST };
                    self.rest_until(at_time.max(env.now + rest), at, env);
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Seals what waits to be sent.
    pub fn send_media(&mut self, at: PeerAt, env: &mut Env<'_>) {
        let next = self.egress.flush(&mut env.out.media, env.now);
        if let Some(due) = next
            && self.next_probe.is_none()
        {
            self.next_probe = Some(due);
            env.out.wakes.push((due, at));
        }
    }

    /// Asks to be woken at `deadline`.
    fn rest_until(&mut self, deadline: Instant, at: PeerAt, env: &mut Env<'_>) {
        self.deadline = deadline;
        if self.queued_wake.is_none_or(|queued| deadline < queued) {
            self.queued_wake = Some(deadline);
            env.out.wakes.push((deadline, at));
        }
    }

    /// A media packet was written to the engine.
    pub fn note_written(&mut self) {
        self.written = self.written.saturating_add(1);
        self.dirty = true;
    }

    /// Where media go; answers to checks go everywhere.
    fn note_way(&mut self, transmit: &Transmit) {
        const FIRST_DTLS: u8 = 20;
        let check = transmit.contents.first().is_none_or(|first| *first < FIRST_DTLS);
        self.egress.note_way(transmit, check);
        if check {
            return;
        }
        self.transport = match transmit.proto {
            Protocol::Udp if self.relays.contains(&transmit.destination.ip()) => Transport::Relay,
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
    }

    /// Gives up our pending offer; the tracks that have no line then.
    pub fn roll_back(&mut self) -> Vec<TrackId> {
        self.pending = None;
        self.parking.clear();
        let adding = std::mem::take(&mut self.adding);
        let is_gone = |line: &Line| adding.contains(&line.mid);
        let track = |line: &Line| if let LineState::Sending(track) = line.state { Some(track) } else { None };
        let unplaced = self.lines.iter().filter(|line| is_gone(line)).filter_map(track).collect();
        self.lines.retain(|line| !is_gone(line));
        unplaced
    }

    pub fn line(&mut self, mid: Mid) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.mid == mid)
    }
}

fn build_engine(fixed: &Fixed, creds: IceCreds, now: Instant) -> Rtc {
    let mut config = RtcConfig::new()
        .set_local_ice_credentials(creds)
        .set_crypto_provider(slot::provider())
        .set_dtls_cert(fixed.certificate.clone())
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_vp8(true)
        .enable_h264(true)
        .enable_vp9(true)
        .enable_av1(true)
        .set_stats_interval(Some(STATS_EVERY))
        .set_sctp_max_message_size(MAX_DATA);
    // Bandwidth is measured on video lines only: sound is little, and small packets say little.
    let codecs = config.codec_config();
    let mut params = codecs.params().to_vec();
    for params in params.iter_mut().filter(|params| params.spec().codec.is_audio()) {
        params.set_fb_transport_cc(false);
    }
    *codecs = CodecConfig::new_from_payload_params(params);
    config.build(now)
}

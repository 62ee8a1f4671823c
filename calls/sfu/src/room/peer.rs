//! A participant's media connection: the media engine, its lines and data channels.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use str0m::bwe::Bitrate;
use str0m::change::SdpPendingOffer;
use str0m::channel::ChannelId;
use str0m::format::CodecConfig;
use str0m::media::Mid;
use str0m::net::{Protocol, Transmit};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Event, IceCreds, Input, Output, PacerReason, Reason, Rtc, RtcConfig, RtcError};

use super::direct::Direct;
use super::env::{Env, Fixed, RouteChange};
use super::{PeerAt, TrackId};
use crate::media::estimate::Estimate;
use crate::media::munger::Munger;
use crate::media::sdp::Kind;
use crate::media::srtp;
use crate::report::Transport;

/// What the way to a client is taken to carry before it was measured, in bit/s.
pub const FIRST_ESTIMATE: u64 = 2_500_000;
/// How often the engine counts, and says what it takes the way to carry at this moment: how late a fall is seen.
const STATS_EVERY: Duration = Duration::from_millis(400);
/// How many video packets of each line are kept for sending again.
const VIDEO_KEPT: usize = 600;
/// The largest data message, in bytes.
pub const MAX_DATA: u32 = 256 * 1024;
/// The older addresses of a client are forgotten.
const MAX_ADDRESSES: usize = 16;
/// A connection is not woken earlier again: what is due by then is done together.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// The engine gives out one media packet for each look at the clock. When none is known to wait, the next look has
/// time until then: most often another packet comes first and pays for it.
const IDLE_LOOK: Duration = Duration::from_millis(10);
/// For so long after a packet that nobody wrote (a repetition, a probe) the engine's times are kept exactly.
const OWN_PACKETS: Duration = Duration::from_millis(50);
/// How long video is kept for sending again, and how much of the traffic repetitions may be.
const REPEAT_AGE: Duration = Duration::from_secs(3);
const REPEAT_SHARE: f32 = 0.15;
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
    pub connected: bool,
    pub transport: Transport,
    /// Sends audio past the engine, where that is possible.
    pub direct: Direct,
    /// What the way to the client carries.
    pub estimate: Estimate,
    /// The SSRCs that are written to.
    sources: Vec<u32>,
    /// Media packets written that the engine has not given out yet.
    written: usize,
    /// When the engine last gave out a media packet that nobody wrote.
    own_packet: Option<Instant>,
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
        let (mut rtc, sealer) = srtp::build_tapped(|| build_engine(env.fixed, creds.clone(), env.now));
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
            connected: false,
            transport: Transport::None,
            direct: Direct::new(sealer),
            estimate: Estimate::new(FIRST_ESTIMATE),
            sources: Vec::new(),
            written: 0,
            own_packet: None,
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
                    let source = media_source(&transmit.contents);
                    env.out.datagrams.push(transmit);
                    let Some(source) = source else { continue };
                    self.note_given_out(source, env.now);
                    // Media packets come after everything else and one for each look at the clock: until then the engine
                    // has nothing more, and asking it would walk through all its streams for nothing.
                    if self.written > 0 {
                        self.rtc.handle_input(Input::Timeout(env.now))?;
                    } else if !self.sends_own(env.now) {
                        self.rest_until(env.now + IDLE_LOOK, at, env);
                        break;
                    }
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
                    if looks && (self.written > 0 || self.sends_own(env.now)) {
                        self.rtc.handle_input(Input::Timeout(at_time))?;
                        continue;
                    }
                    let rest = if looks { IDLE_LOOK } else { SHORTEST_REST };
                    self.rest_until(at_time.max(env.now + rest), at, env);
                    break;
                }
            }
        }
        Ok(false)
    }

    /// The engine was given something to send. Whether the connection is new among those to be flushed.
    pub fn note_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true) && !self.unread
    }

    /// The engine may have more than was taken out. Whether the connection is new among those to be flushed.
    pub fn note_unread(&mut self) -> bool {
        !std::mem::replace(&mut self.unread, true) && !self.dirty
    }

    /// Asks to be woken at `deadline`.
    fn rest_until(&mut self, deadline: Instant, at: PeerAt, env: &mut Env<'_>) {
        self.deadline = deadline;
        if self.queued_wake.is_none_or(|queued| deadline < queued) {
            self.queued_wake = Some(deadline);
            env.out.wakes.push((deadline, at));
        }
    }

    /// Whether the engine has lately sent media packets that nobody wrote.
    fn sends_own(&self, now: Instant) -> bool {
        self.own_packet.is_some_and(|last| now < last + OWN_PACKETS)
    }

    /// A media packet was written to the engine.
    pub fn note_written(&mut self) {
        self.written = self.written.saturating_add(1);
    }

    /// The engine has given out a media packet: one that was written, or one that it has made itself.
    fn note_given_out(&mut self, source: u32, now: Instant) {
        if self.sources.contains(&source) {
            self.written = self.written.saturating_sub(1);
        } else {
            self.own_packet = Some(now);
        }
    }

    /// Packets of this source are written to the engine from now on.
    pub fn add_source(&mut self, ssrc: Ssrc) {
        if !self.sources.contains(&ssrc) {
            self.sources.push(*ssrc);
        }
    }

    /// What was sent on the line is of no use to the client any more: it is not sent again.
    pub fn forget_sent(&mut self, ssrc: Ssrc) {
        if let Some(stream) = self.rtc.direct_api().stream_tx(&ssrc) {
            stream.set_rtx_cache(VIDEO_KEPT, REPEAT_AGE, Some(REPEAT_SHARE));
        }
    }

    /// Where media go; answers to checks go everywhere.
    fn note_way(&mut self, transmit: &Transmit) {
        const FIRST_DTLS: u8 = 20;
        let check = transmit.contents.first().is_none_or(|first| *first < FIRST_DTLS);
        self.direct.note_way(transmit, check);
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

/// The SSRC of a datagram that is a media packet, and not a report on media (RFC 5761 section 4).
fn media_source(datagram: &[u8]) -> Option<u32> {
    match datagram {
        [128..=191, kind, _, _, _, _, _, _, a, b, c, d, ..] if !(192..=223).contains(kind) => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

fn build_engine(fixed: &Fixed, creds: IceCreds, now: Instant) -> Rtc {
    let mut config = RtcConfig::new()
        .set_local_ice_credentials(creds)
        .set_crypto_provider(srtp::provider())
        .set_dtls_cert(fixed.certificate.clone())
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_vp8(true)
        .enable_h264(true)
        .enable_vp9(true)
        .enable_av1(true)
        .enable_bwe(Some(Bitrate::bps(FIRST_ESTIMATE)))
        .set_stats_interval(Some(STATS_EVERY))
        .set_send_buffer_video(VIDEO_KEPT)
        .set_sctp_max_message_size(MAX_DATA);
    // Bandwidth is measured on video lines only: the engine's probes have no stream of their own, and on an
    // audio line Chromium takes them for the stream and loses the decryption of the real one.
    let codecs = config.codec_config();
    let mut params = codecs.params().to_vec();
    for params in params.iter_mut().filter(|params| params.spec().codec.is_audio()) {
        params.set_fb_transport_cc(false);
    }
    *codecs = CodecConfig::new_from_payload_params(params);
    config.build(now)
}

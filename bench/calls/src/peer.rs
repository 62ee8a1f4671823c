//! One WebRTC peer: a connection, its socket, what it sends and what became of what it received.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mio::net::UdpSocket;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::arrival::{self, Datagram};
use crate::decoder::Decoder;
use crate::measure::{Counters, Received};
use crate::source::{Audio, LAYERS, Packet, Video};
use crate::stamp;

const SOCKET_BUFFER: usize = 4 << 20;
const DATAGRAM: usize = 2000;
/// Datagrams taken from one socket before the next has its turn.
const BURST: usize = 64;

/// A line of an offer.
#[derive(Clone, Debug)]
pub struct Line {
    pub video: bool,
    /// What is sent on it; none: it is for receiving.
    pub sends: Option<Sends>,
}

/// A published track in an offer.
#[derive(Clone, Debug)]
pub struct Sends {
    /// The track's id in the offer.
    pub cid: String,
    /// Which of [`LAYERS`] a video has; one alone is sent without RID.
    pub levels: Vec<u8>,
}

impl Line {
    pub fn receiving(video: bool) -> Self {
        Self { video, sends: None }
    }
}

/// Something that is sent.
enum Outgoing {
    Audio(Mid, Audio),
    Video(Mid, Video),
}

/// One received stream.
struct Incoming {
    first: u64,
    last: u64,
    received: u64,
    bytes: u64,
    decoder: Option<Decoder>,
}

pub struct Peer {
    pub name: String,
    pub socket: UdpSocket,
    rtc: Rtc,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    outgoing: Vec<Outgoing>,
    incoming: HashMap<Ssrc, Incoming>,
    connected: bool,
    /// When the connection wants to be called again.
    deadline: Instant,
    /// When the datagram being handled arrived, for the delay.
    arrived: u64,
}

impl Peer {
    /// A peer with a socket of its own on `address`.
    pub fn new(name: String, address: IpAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address((address, 0).into()), Type::DGRAM, Some(SocketProtocol::UDP))?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.set_nonblocking(true)?;
        arrival::ask(&socket)?;
        socket.bind(&SocketAddr::from((address, 0)).into())?;
        let socket = UdpSocket::from_std(socket.into());
        let local = socket.local_addr()?;
        let now = Instant::now();
        let mut rtc =
            RtcConfig::new().clear_codecs().enable_opus(true, false).enable_vp8(true).set_rtp_mode(true).build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        Ok(Self {
            name,
            socket,
            rtc,
            local,
            pending: None,
            outgoing: Vec::new(),
            incoming: HashMap::new(),
            connected: false,
            deadline: now,
            arrived: 0,
        })
    }

    /// An offer with further lines, and their mids in their order.
    pub fn offer(&mut self, lines: &[Line]) -> Result<(String, Vec<Mid>)> {
        let mut changes = self.rtc.sdp_api();
        let mids = lines.iter().map(|line| {
            let kind = if line.video { MediaKind::Video } else { MediaKind::Audio };
            let Some(sends) = &line.sends else {
                return changes.add_media(kind, Direction::RecvOnly, None, None, None);
            };
            changes.add_media(kind, Direction::SendOnly, None, Some(sends.cid.clone()), simulcast(&sends.levels))
        });
        let mids = mids.collect();
        let (offer, pending) = changes.apply().context("an offer without lines")?;
        self.pending = Some(pending);
        Ok((offer.to_sdp_string(), mids))
    }

    /// Takes the answer to [`Peer::offer`].
    pub fn answer(&mut self, sdp: &str) -> Result<()> {
        let pending = self.pending.take().context("an answer without an offer")?;
        let answer = SdpAnswer::from_sdp_string(sdp).context("the answer cannot be read")?;
        self.rtc.sdp_api().accept_answer(pending, answer).context("the answer does not fit")
    }

    /// Answers an offer.
    pub fn accept(&mut self, sdp: &str) -> Result<String> {
        let offer = SdpOffer::from_sdp_string(sdp).context("the offer cannot be read")?;
        Ok(self.rtc.sdp_api().accept_offer(offer).context("the offer does not fit")?.to_sdp_string())
    }

    /// Adds a candidate of the other side.
    pub fn remote_candidate(&mut self, candidate: &str) -> Result<()> {
        self.rtc.add_remote_candidate(Candidate::from_sdp_string(candidate)?);
        Ok(())
    }

    /// Begins to send audio on a line.
    pub fn send_audio(&mut self, mid: Mid, audio: Audio) {
        self.outgoing.push(Outgoing::Audio(mid, audio));
    }

    /// Begins to send video on a line.
    pub fn send_video(&mut self, mid: Mid, video: Video) {
        self.outgoing.push(Outgoing::Video(mid, video));
    }

    /// Switches the layers of its videos: only those of `levels` are sent from now on.
    pub fn enable_levels(&mut self, levels: &[u8]) {
        for outgoing in &mut self.outgoing {
            if let Outgoing::Video(_, video) = outgoing {
                video.layers.iter_mut().for_each(|layer| layer.enable(levels.contains(&layer.level)));
            }
        }
    }

    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Begins to count what is received anew.
    pub fn restart_counting(&mut self, now: Instant) {
        for stream in self.incoming.values_mut() {
            (stream.first, stream.received, stream.bytes) = (stream.last + 1, 0, 0);
            if let Some(decoder) = &mut stream.decoder {
                decoder.restart(now);
            }
        }
    }

    /// What was received since then.
    pub fn received(&self, now: Instant) -> Received {
        let mut sum = Received::default();
        for stream in self.incoming.values() {
            sum.streams += 1;
            sum.expected += (stream.last + 1).saturating_sub(stream.first);
            sum.received += stream.received;
            sum.bytes += stream.bytes;
            if let Some(decoder) = &stream.decoder {
                sum.videos += 1;
                sum.frames += decoder.frames;
                sum.longest_gap = sum.longest_gap.max(decoder.longest_gap).max(decoder.standing(now));
                sum.level = sum.level.or(decoder.level);
            }
        }
        sum
    }

    /// When it has something to do next.
    pub fn next(&self) -> Instant {
        let sources = self.outgoing.iter().map(|outgoing| match outgoing {
            Outgoing::Audio(_, audio) => audio.next(),
            Outgoing::Video(_, video) => video.next(),
        });
        sources.filter(|_| self.connected).fold(self.deadline, Instant::min)
    }

    /// Does what is due at `now`: sends media, serves the connection's timers.
    pub fn advance(&mut self, now: Instant, counters: &mut Counters) -> Result<()> {
        if self.connected {
            self.send(now, counters)?;
        }
        if self.deadline <= now {
            self.rtc.handle_input(Input::Timeout(now))?;
            self.drain(counters)?;
        }
        Ok(())
    }

    /// Reads what waits in the socket; false when there may be more.
    pub fn read(&mut self, counters: &mut Counters) -> Result<bool> {
        let mut buffer = [0; DATAGRAM];
        for _ in 0..BURST {
            let Datagram { length, source, at } = match arrival::receive(&self.socket, &mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                // An earlier datagram met a closed port.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            self.arrived = at.unwrap_or_else(stamp::now);
            let Ok(contents) = buffer[..length].try_into() else { continue };
            let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
            self.drain(counters)?;
        }
        Ok(false)
    }

    /// Asks for key frames where the picture stands still.
    pub fn ask_for_keys(&mut self, now: Instant, counters: &mut Counters) -> Result<()> {
        let stuck: Vec<Ssrc> = self
            .incoming
            .iter_mut()
            .filter_map(|(ssrc, stream)| stream.decoder.as_mut()?.wants_key(now).then_some(*ssrc))
            .collect();
        for ssrc in stuck {
            if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
                counters.key_requests += 1;
            }
            self.drain(counters)?;
        }
        Ok(())
    }

    /// Hands on what the connection has to say until it only waits. To be called after every change.
    pub fn drain(&mut self, counters: &mut Counters) -> Result<()> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.deadline = at;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    let sent = self.socket.send_to(&transmit.contents, transmit.destination);
                    counters.unsent += u64::from(sent.is_err());
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::RtpPacket(packet)) => self.packet(&packet, counters),
                Output::Event(Event::KeyframeRequest(request)) => self.key_requested(request.mid, request.rid),
                Output::Event(Event::Closed) => bail!("{}: the server closed the connection", self.name),
                Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, now: Instant, counters: &mut Counters) -> Result<()> {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        for source in &mut outgoing {
            match source {
                Outgoing::Audio(mid, audio) => {
                    if let Some(packet) = audio.poll(now) {
                        self.write(now, (*mid, None), packet, counters)?;
                    }
                }
                Outgoing::Video(mid, video) => {
                    if !video.strike(now) {
                        continue;
                    }
                    let simulcast = video.layers.len() > 1;
                    for layer in 0..video.layers.len() {
                        let rid = simulcast.then(|| video.layers[layer].plan.rid);
                        for packet in video.frame(now, layer) {
                            self.write(now, (*mid, rid), packet, counters)?;
                        }
                    }
                }
            }
        }
        self.outgoing = outgoing;
        Ok(())
    }

    fn write(
        &mut self,
        now: Instant,
        line: (Mid, Option<&str>),
        packet: Packet,
        counters: &mut Counters,
    ) -> Result<()> {
        let (mid, rid) = line;
        let Some(media) = self.rtc.media(mid) else { bail!("{}: no line {mid}", self.name) };
        let video = media.kind() == MediaKind::Video;
        let codec: Pt =
            *media.remote_pts().first().with_context(|| format!("{}: line {mid} has no codec", self.name))?;
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, rid.map(Rid::from)) else { bail!("no stream {mid} {rid:?}") };
        let flow = counters.flow(video);
        flow.sent_packets += 1;
        flow.sent_bytes += packet.payload.len() as u64;
        let level =
            ExtensionValues { audio_level: Some(-30), voice_activity: Some(true), ..ExtensionValues::default() };
        let write = RtpWrite::new(codec, packet.sequence.into(), packet.time, now, packet.payload)
            .marker(packet.marker)
            .nackable(video)
            .ext_vals(if video { ExtensionValues::default() } else { level });
        stream.write_rtp(write);
        // The first call lets the packet into the queue, which only time moves on.
        self.drain(counters)?;
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain(counters)
    }

    fn key_requested(&mut self, mid: Mid, rid: Option<Rid>) {
        for outgoing in &mut self.outgoing {
            if let Outgoing::Video(of, video) = outgoing
                && *of == mid
            {
                video.want_key(rid.as_deref());
            }
        }
    }

    fn packet(&mut self, packet: &RtpPacket, counters: &mut Counters) {
        let Some((stamp, video)) = stamp::read(&packet.payload) else {
            counters.unstamped += 1;
            return;
        };
        let bytes = packet.payload.len() as u64;
        let flow = counters.flow(video);
        flow.received_packets += 1;
        flow.received_bytes += bytes;
        flow.latency.add(self.arrived.saturating_sub(stamp.sent));
        let sequence = *packet.seq_no;
        let stream = self.incoming.entry(packet.header.ssrc).or_insert_with(|| Incoming {
            first: sequence,
            last: sequence,
            received: 0,
            bytes: 0,
            decoder: video.then(|| Decoder::new(packet.timestamp)),
        });
        stream.last = stream.last.max(sequence);
        stream.bytes += bytes;
        // One that was on its way when the window began is of the time before.
        stream.received += u64::from(sequence >= stream.first);
        if let Some(decoder) = &mut stream.decoder {
            decoder.packet(packet.timestamp, stamp);
        }
    }
}

fn simulcast(levels: &[u8]) -> Option<Simulcast> {
    if levels.len() < 2 {
        return None;
    }
    let mut simulcast = Simulcast::new();
    for level in levels {
        if let Some(plan) = LAYERS.get(usize::from(*level)) {
            simulcast.add_send_layer(SimulcastLayer::new(plan.rid));
        }
    }
    Some(simulcast)
}

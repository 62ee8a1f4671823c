//! What the fuzz targets call of this crate. Compiled with the feature `fuzzing` only; nothing else may use it. A panic
//! here is how a target reports a finding.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message;
use proto::signal_request::Message as Request;
use runtime::{Metrics, Random};
use str0m::config::DtlsCert;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, RtcConfig};
use tokio::sync::mpsc;

use crate::config::SfuConfig;
use crate::media::bandwidth::{Bandwidth, CEILING, FLOOR};
use crate::media::codec::{Codec, Vp8};
use crate::media::munger::Munger;
use crate::media::rtcp::{self, Arrivals, Report};
use crate::media::sdp;
use crate::room::{Env, Fixed, JoinOptions, Link, Outbox, PeerAt, Room, Side};
use crate::shard::{MediaMetrics, routes, self_test::SelfTest};
use crate::signal::params::{Hello, Query};
use crate::token::{Grant, TokenKey};

/// How many messages may wait for a participant.
const FRAMES: usize = 512;
/// The largest datagram that reaches a call.
const MAX_DATAGRAM: usize = 1600;

/// Reads an address with which a client connects, and its token: nobody is let in with what is made up.
pub fn read_join(join_request: &str, token: &str) {
    assert!(TokenKey::new(&[7; 32]).verify(token, 1_700_000_000_000).is_err());
    let fields = serde_json::json!({"join_request": join_request, "reconnect": token, "protocol": join_request});
    let Ok(query) = serde_json::from_value::<Query>(fields) else { return };
    let _ = query.read_request();
    query.read_flags();
}

/// Reads a description of media, and writes it again as it is sent to clients.
pub fn read_description(text: &str) {
    let read = sdp::sections(text);
    let parked = sdp::park(text, |mid| mid.len() % 2 == 0);
    assert_eq!(read.is_ok(), sdp::sections(&parked).is_ok());
    sdp::label(text, &HashMap::new(), |mid| mid.len() % 2 == 0);
}

/// Reads payloads as every codec, and renumbers them: what is sent has numbers that never go back to before their source.
pub fn read_payloads(packets: &[(u64, u32, bool, &[u8])], start: Instant) {
    let mut munger = Munger::default();
    let mut lowest = 0;
    for (index, (seq, time, switch, payload)) in packets.iter().enumerate() {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Other] {
            codec.starts_key_frame(payload);
        }
        let vp8 = Vp8::parse(payload);
        let seq = seq & 0xffff_ffff_ffff;
        let at = start + Duration::from_millis(index as u64 * 20);
        if *switch {
            lowest = munger.sent_seq().map_or(0, |seq| seq + 1);
            munger.switch(seq, *time, vp8.as_ref(), at, 90_000);
        }
        let Some(munged) = munger.renumber(seq, *time, at) else { continue };
        assert!(munged.seq >= lowest || packets.first().is_none_or(|first| !first.2));
        if let Some(vp8) = vp8 {
            let numbers = munger.renumber_vp8(&vp8, munged.newest);
            assert_eq!(numbers.picture_id.is_some(), vp8.picture_id.is_some());
            assert!(numbers.key_idx.is_none_or(|key_idx| key_idx < 32));
        }
    }
}

/// Reads reports of a receiver, of which some say when packets came: whatever they say, the estimate stays within bounds and a
/// probe asks for no more than a burst.
pub fn read_reports(packets: &[(u16, &[u8])], start: Instant) {
    let (mut arrivals, mut bandwidth, mut outcomes) = (Arrivals::default(), Bandwidth::new(2_500_000), Vec::new());
    let (mut now, mut number) = (start, 1 << 16);
    bandwidth.set_wish(5_000_000);
    for (sent, packet) in packets {
        for _ in 0..sent % 64 {
            bandwidth.note_sent(number, 1200, None, now);
            number += 1;
        }
        for report in rtcp::reports(packet) {
            match report {
                Report::Missing { pairs, .. } => assert!(rtcp::missing(pairs).count() <= packet.len() / 4 * 17),
                Report::Arrivals(body) => {
                    outcomes.clear();
                    if arrivals.read(body, number - 1, &mut outcomes).is_some() {
                        bandwidth.note_feedback(&outcomes, now);
                    }
                }
                Report::Other => {}
            }
        }
        now += Duration::from_millis(u64::from(sent >> 6));
        bandwidth.note_time(now);
        assert!((FLOOR..=CEILING).contains(&(bandwidth.value() as f64)));
        assert!(bandwidth.next_probe(now).is_none_or(|probe| probe.bytes <= 1 << 20));
    }
}

/// Asks the media port as a stranger: nothing comes back that is larger than what was sent.
pub fn read_datagram(datagram: &[u8], source: SocketAddr) {
    if routes::is_stun(datagram) {
        routes::local_name(datagram);
    }
    let self_test = SelfTest::new(&[7; 32]);
    if let Some(answer) = self_test.answer(datagram, source) {
        assert!(answer.len() <= datagram.len());
    }
}

/// Made once: it takes longer than a whole call.
static CERTIFICATE: OnceLock<DtlsCert> = OnceLock::new();
/// What a client offers that sends sound and pictures and opens a channel.
static OFFER: OnceLock<String> = OnceLock::new();

fn make_certificate() -> DtlsCert {
    let provider = str0m::crypto::from_feature_flags().dtls_provider;
    provider.generate_certificate().expect("a certificate can be made")
}

fn make_offer(now: Instant) -> String {
    let mut client = RtcConfig::new().build(now);
    let mut change = client.sdp_api();
    for (kind, track) in [(MediaKind::Audio, "sound"), (MediaKind::Video, "pictures")] {
        change.add_media(kind, Direction::SendOnly, Some("stream".to_owned()), Some(track.to_owned()), None);
    }
    change.add_channel("_reliable".to_owned());
    let (offer, _) = change.apply().expect("there is something to offer");
    offer.to_sdp_string()
}

/// A call without sockets, with participants that say anything.
pub struct Call {
    fixed: Fixed,
    room: Room,
    out: Outbox,
    now: Instant,
    seats: HashMap<u8, (usize, mpsc::Receiver<Bytes>)>,
}

impl Call {
    /// An empty call. Nothing is random, but for keys.
    ///
    /// # Panics
    /// Where there is no cryptography.
    pub fn new(now: Instant) -> Call {
        let candidate = Candidate::host(SocketAddr::from(([192, 0, 2, 1], 7882)), "udp").expect("an address");
        let fixed = Fixed {
            config: SfuConfig { max_room_participants: 6, ..SfuConfig::default() },
            random: Random::seeded(1),
            certificate: CERTIFICATE.get_or_init(make_certificate).clone(),
            candidates: vec![candidate],
            metrics: MediaMetrics::new(&Metrics::new()),
        };
        let room = Room::new("call".to_owned(), "RM_1".to_owned(), now, 1);
        Call { fixed, room, out: Outbox::default(), now, seats: HashMap::new() }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Room, &mut Env<'_>) -> T) -> T {
        let mut env = Env { fixed: &self.fixed, now: self.now, now_ms: 1, out: &mut self.out };
        let done = act(&mut self.room, &mut env);
        while self.room.flush_next(&mut env) {}
        self.out = Outbox::default();
        assert!(self.room.len() <= 6);
        done
    }

    /// Somebody joins with what may be a join request.
    pub fn join(&mut self, name: u8, single: bool, can_publish: bool, request: &[u8]) {
        let request = proto::JoinRequest::decode(request).unwrap_or_default();
        let hello = Hello {
            client: request.client_info.unwrap_or_default(),
            auto_subscribe: true,
            metadata: request.metadata,
            attributes: request.participant_attributes,
            tracks: request.add_track_requests,
            offer: request.publisher_offer,
            resume: request.reconnect.then_some(request.participant_sid),
            ..Hello::default()
        };
        let (frames, received) = mpsc::channel(FRAMES);
        let options = JoinOptions {
            grant: Grant {
                room: "call".to_owned(),
                identity: format!("@{name}"),
                name: String::new(),
                can_publish,
                can_subscribe: true,
                may_create: true,
                lifetime: Duration::from_secs(60),
            },
            client: hello.client,
            auto_subscribe: hello.auto_subscribe,
            adaptive_stream: hello.adaptive_stream,
            metadata: hello.metadata,
            attributes: hello.attributes,
            single,
            tracks: hello.tracks,
            offer: hello.offer,
            resume: hello.resume,
            ice_servers: Vec::new(),
            link: Link { connection: name.into(), frames },
        };
        if let Ok(seat) = self.act(|room, env| room.join(options, env)) {
            self.seats.insert(name, (seat, received));
        }
    }

    /// A participant sends a message. What it is told can be read, and does not grow without bound.
    pub fn say(&mut self, name: u8, message: &[u8]) {
        let Ok(proto::SignalRequest { message: Some(message) }) = proto::SignalRequest::decode(message) else { return };
        let Some(seat) = self.seat(name) else { return };
        self.act(|room, env| room.take_message(seat, message, env));
        let Some((_, received)) = self.seats.get_mut(&name) else { return };
        while let Ok(frame) = received.try_recv() {
            assert!(proto::SignalResponse::decode(frame).is_ok());
        }
    }

    /// A participant names its tracks and offers them, as clients do, with some bytes of the description changed.
    pub fn offer(&mut self, name: u8, edits: &[(u16, u8)]) {
        let Some(seat) = self.seat(name) else { return };
        let now = self.now;
        let mut sdp = OFFER.get_or_init(|| make_offer(now)).clone().into_bytes();
        for (at, byte) in edits {
            let at = usize::from(*at) % sdp.len();
            sdp[at] = byte & 0x7f;
        }
        let sdp = String::from_utf8(sdp).expect("it is ASCII");
        for (cid, kind) in [("sound", proto::TrackType::Audio), ("pictures", proto::TrackType::Video)] {
            let track = proto::AddTrackRequest { cid: cid.to_owned(), r#type: kind as i32, ..Default::default() };
            self.act(|room, env| room.take_message(seat, Request::AddTrack(track), env));
        }
        let offer = proto::SessionDescription { r#type: "offer".to_owned(), sdp, ..Default::default() };
        if self.seat(name) == Some(seat) {
            self.act(|room, env| room.take_message(seat, Request::Offer(offer), env));
        }
    }

    /// A participant sends data to others.
    pub fn send_data(&mut self, name: u8, reliable: bool, data: &[u8]) {
        let Some(seat) = self.seat(name) else { return };
        let at = PeerAt { participant: seat, side: Side::Main };
        self.act(|room, env| room.relay_data(at, reliable, data, env));
    }

    /// A datagram comes from where a participant is.
    pub fn arrive(&mut self, name: u8, datagram: &[u8]) {
        let Some(seat) = self.seat(name) else { return };
        let datagram = datagram.get(..datagram.len().min(MAX_DATAGRAM)).unwrap_or_default();
        let at = PeerAt { participant: seat, side: Side::Main };
        let source = SocketAddr::from(([198, 51, 100, name], 4000));
        let here = SocketAddr::from(([192, 0, 2, 1], 7882));
        if let Ok(received) = Receive::new(Protocol::Udp, source, here, datagram) {
            self.act(|room, env| room.receive(at, datagram, received, env));
        }
    }

    /// Time passes.
    pub fn wait(&mut self, millis: u16) {
        self.now += Duration::from_millis(millis.into());
        self.act(|room, env| room.tick(env));
    }

    /// The place of a participant that is still in the call.
    fn seat(&self, name: u8) -> Option<usize> {
        let (seat, _) = self.seats.get(&name)?;
        self.room.is_linked(*seat, name.into()).then_some(*seat)
    }
}

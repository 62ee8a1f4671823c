//! What leaves on one connection. Media do not go through the engine: it gives out one packet for each look at all that it
//! has, which costs several times what sealing and sending a packet does. So packets are numbered, sealed, kept and sent
//! again here, with the engine's own keys, and here is estimated what the way carries.
//!
//! The engine is still given a packet of each line now and then: it learns by it how the line's times belong to ours (for
//! its reports), and tells by it where media go at present. What it makes of such a packet is thrown away, so no two
//! datagrams are ever sealed with one number.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::media::Mid;
use str0m::net::{Protocol, Transmit};

use super::peer::FIRST_ESTIMATE;
use crate::media::bandwidth::{Bandwidth, Outcome, Probe};
use crate::media::given::Given;
use crate::media::kept::Kept;
use crate::media::packet::{self, ExtensionIds, Packet, Repeats};
use crate::media::rtcp::{self, Arrivals, Report};
use crate::media::srtp::Keys;
use crate::media::srtp::slot::KeySlot;

/// How much of what is sent may be sent again, in percent, and how much at once, in bytes.
const REPEAT_PERCENT: usize = 15;
const REPEAT_BURST: usize = 60_000;
/// A packet is not sent again sooner, whatever the round trip.
const REPEAT_REST: Duration = Duration::from_millis(20);
/// The first number on a stream for repetitions: low, so that the receiver's rollover counter starts at 0.
const FIRST_REPEAT: u64 = 1000;
/// Between two parts of a probe.
const PROBE_STEP: Duration = Duration::from_millis(2);
/// So many of the last packets of a line are what a probe consists of.
const PROBE_REACH: usize = 16;
/// A probe has at least so many packets, or it measures nothing.
const PROBE_PACKETS: usize = 5;
/// More packets than any connection has to send between two looks, or to send again.
const MAX_QUEUED: usize = 4096;
const MAX_MISSING: usize = 600;

/// The way that datagrams take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// Sealed media packets, one after the other, and where they go.
#[derive(Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    ends: Vec<(Way, usize)>,
}

impl Sealed {
    /// The packets.
    pub fn packets(&self) -> impl Iterator<Item = (Way, &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |(way, end)| {
            let packet = self.bytes.get(begin..*end).unwrap_or_default();
            begin = *end;
            (*way, packet)
        })
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// What waits to be sent.
enum Queued {
    /// A packet that was forwarded, and how it can be repeated.
    Forwarded(Packet, Option<Repeats>),
    /// What was asked for again: a line's SSRC and the number.
    Missing(u32, u16),
}

/// A stream that packets are sent on.
#[derive(Default)]
struct Stream {
    given: Given,
    kept: Kept,
    /// How its packets are sent again, if they are.
    form: Option<RepeatForm>,
    /// How many packets were sent again.
    repeated: u64,
}

/// What packets that are sent again have.
#[derive(Clone, Copy)]
struct RepeatForm {
    repeats: Repeats,
    mid: Mid,
    ids: ExtensionIds,
}

/// A probe on its way.
struct Burst {
    probe: Probe,
    begun: Instant,
    sent: usize,
    /// How many packets it has had.
    count: usize,
}

/// What came of a datagram with reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The engine has to see it too.
    pub for_engine: bool,
    /// The estimate has fallen.
    pub fell: bool,
}

/// The sending half of a connection.
pub struct Egress {
    slot: KeySlot,
    keys: Option<Keys>,
    way: Option<Way>,
    /// The way may be about to change: the engine knows.
    doubted: bool,
    queue: Vec<Queued>,
    /// How many of those in the queue are to be sent again.
    missing: usize,
    streams: HashMap<u32, Stream>,
    /// The number in the transport of the next packet that has one.
    next_number: u64,
    arrivals: Arrivals,
    outcomes: Vec<Outcome>,
    pub bandwidth: Bandwidth,
    /// Bytes that may be sent again.
    allowance: usize,
    burst: Option<Burst>,
    header: Vec<u8>,
    scratch: Vec<u8>,
}

impl Egress {
    /// The slot is where the engine's keys will be.
    pub fn new(slot: KeySlot) -> Egress {
        Egress {
            slot,
            keys: None,
            way: None,
            doubted: false,
            queue: Vec::new(),
            missing: 0,
            streams: HashMap::new(),
            // Not 0, so that a report's base can be before it.
            next_number: 1 << 16,
            arrivals: Arrivals::default(),
            outcomes: Vec::new(),
            bandwidth: Bandwidth::new(FIRST_ESTIMATE),
            allowance: REPEAT_BURST,
            burst: None,
            header: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The connection is there, or its keys were negotiated anew.
    pub fn begin(&mut self) {
        self.keys = self.slot.take().or_else(|| self.keys.take());
    }

    /// Notes where the engine sends; `check`: a STUN message, which goes along all ways.
    pub fn note_way(&mut self, transmit: &Transmit, check: bool) {
        let way = Way { protocol: transmit.proto, source: transmit.source, destination: transmit.destination };
        if check {
            self.doubted |= self.way != Some(way);
        } else {
            self.way = Some(way);
        }
    }

    /// Whether the engine is to be asked where media go; it is asked once.
    pub fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubted)
    }

    /// A packet is to be sent with the next [`Egress::flush`].
    pub fn push(&mut self, packet: Packet, repeats: Option<Repeats>) {
        if self.queue.len() < MAX_QUEUED {
            self.queue.push(Queued::Forwarded(packet, repeats));
        }
    }

    /// What was sent on a line is of no use to the client any more: it is not sent again.
    pub fn forget_sent(&mut self, ssrc: u32) {
        if let Some(stream) = self.streams.get_mut(&ssrc) {
            stream.kept.clear();
        }
    }

    /// Acts on the reports in a datagram: repetitions wait for the next [`Egress::flush`] then.
    pub fn take_reports(&mut self, datagram: &[u8], now: Instant) -> Taken {
        let opened = self.keys.as_mut().and_then(|keys| keys.opener.open(datagram));
        let Some(opened) = opened else { return Taken { for_engine: true, fell: false } };
        let mut taken = Taken::default();
        let before = self.bandwidth.value();
        for report in rtcp::reports(&opened) {
            match report {
                Report::Missing { ssrc, pairs } if self.streams.contains_key(&ssrc) => {
                    let before = self.queue.len();
                    let room = MAX_MISSING.saturating_sub(self.missing);
                    self.queue.extend(rtcp::missing(pairs).take(room).map(|seq| Queued::Missing(ssrc, seq)));
                    self.missing += self.queue.len() - before;
                }
                Report::Arrivals(body) => {
                    self.outcomes.clear();
                    let newest = self.next_number.saturating_sub(1);
                    if self.arrivals.read(body, newest, &mut self.outcomes).is_some() {
                        self.bandwidth.note_feedback(&self.outcomes, now);
                    }
                }
                Report::Missing { .. } | Report::Other => taken.for_engine = true,
            }
        }
        taken.fell = self.bandwidth.value() < before;
        taken
    }

    /// Seals everything that waits; to be sent at once, as the time of the call is taken for that of sending. When there is
    /// to be another call, because a probe goes on.
    pub fn flush(&mut self, out: &mut Sealed, now: Instant) -> Option<Instant> {
        let mut queue = std::mem::take(&mut self.queue);
        if self.way.is_some() && self.keys.is_some() {
            for queued in queue.drain(..) {
                match queued {
                    Queued::Forwarded(packet, repeats) => self.send(packet, repeats, out, now),
                    Queued::Missing(ssrc, seq) => self.repeat(ssrc, seq, out, now),
                }
            }
        }
        queue.clear();
        self.queue = queue;
        self.missing = 0;
        if self.burst.is_none()
            && let Some(probe) = self.bandwidth.next_probe(now)
        {
            self.burst = Some(Burst { probe, begun: now, sent: 0, count: 0 });
        }
        self.go_on_probing(out, now)
    }

    fn send(&mut self, packet: Packet, repeats: Option<Repeats>, out: &mut Sealed, now: Instant) {
        let Some(keys) = &mut self.keys else { return };
        let stream = self.streams.entry(packet.ssrc).or_default();
        if !stream.given.take(packet.seq) {
            return;
        }
        self.header.clear();
        packet.write_header(&mut self.header, self.next_number as u16);
        let body = packet.body(&mut self.scratch);
        if keys.sealer.seal(&mut out.bytes, &self.header, packet.ssrc, packet.seq, body).is_none() {
            return;
        }
        let sent = self.note_sealed(packet.ids.counts(), None, out, now);
        self.allowance = self.allowance.saturating_add(sent * REPEAT_PERCENT / 100).min(REPEAT_BURST);
        if let Some(stream) = self.streams.get_mut(&packet.ssrc)
            && repeats.is_some()
        {
            let (mid, ids) = (packet.mid, packet.ids);
            stream.form = repeats.map(|repeats| RepeatForm { repeats, mid, ids });
            stream.kept.push(packet, now);
        }
    }

    fn repeat(&mut self, ssrc: u32, seq: u16, out: &mut Sealed, now: Instant) {
        let rest = self.bandwidth.rtt().unwrap_or(REPEAT_REST).max(REPEAT_REST);
        let Some(stream) = self.streams.get_mut(&ssrc) else { return };
        let Some(packet) = stream.kept.repeat(seq, rest, now) else { return };
        if packet.payload.len() > self.allowance {
            return;
        }
        self.allowance -= packet.payload.len();
        let packet = packet.clone();
        self.send_again(&packet, None, out, now);
    }

    /// Sends a packet on the stream for repetitions; how many bytes that was.
    fn send_again(&mut self, packet: &Packet, probe: Option<u32>, out: &mut Sealed, now: Instant) -> Option<usize> {
        let stream = self.streams.get_mut(&packet.ssrc)?;
        let (repeats, seq) = (stream.form?.repeats, FIRST_REPEAT.saturating_add(stream.repeated));
        stream.repeated = stream.repeated.saturating_add(1);
        self.header.clear();
        packet.write_repeat_header(&mut self.header, repeats, seq, self.next_number as u16);
        let body = packet.repeat_body(&mut self.scratch);
        self.keys.as_mut()?.sealer.seal(&mut out.bytes, &self.header, repeats.ssrc, seq, body)?;
        Some(self.note_sealed(packet.ids.counts(), probe, out, now))
    }

    /// Notes the packet that was sealed last; how many bytes it has.
    fn note_sealed(&mut self, counts: bool, probe: Option<u32>, out: &mut Sealed, now: Instant) -> usize {
        let begin = out.ends.last().map_or(0, |(_, end)| *end);
        let bytes = out.bytes.len().saturating_sub(begin);
        if let Some(way) = self.way {
            out.ends.push((way, out.bytes.len()));
        }
        if counts {
            self.bandwidth.note_sent(self.next_number, bytes, probe, now);
            self.next_number = self.next_number.saturating_add(1);
        }
        bytes
    }

    /// Sends a packet of nothing but padding on a stream for repetitions; how many bytes that was.
    fn send_padding(&mut self, ssrc: u32, probe: u32, out: &mut Sealed, now: Instant) -> Option<usize> {
        let stream = self.streams.get_mut(&ssrc)?;
        let RepeatForm { repeats, mid, ids } = stream.form?;
        let seq = FIRST_REPEAT.saturating_add(stream.repeated);
        stream.repeated = stream.repeated.saturating_add(1);
        self.header.clear();
        packet::write_padding_header(&mut self.header, repeats, mid, ids, seq, self.next_number as u16);
        self.keys.as_mut()?.sealer.seal(&mut out.bytes, &self.header, repeats.ssrc, seq, &packet::PADDING)?;
        Some(self.note_sealed(ids.counts(), Some(probe), out, now))
    }

    /// Sends what is due of a probe: packets that were sent lately, once more, or padding. When more is due.
    fn go_on_probing(&mut self, out: &mut Sealed, now: Instant) -> Option<Instant> {
        let burst = self.burst.as_ref()?;
        let (probe, begun, mut sent, mut count) = (burst.probe, burst.begun, burst.sent, burst.count);
        let passed = now.saturating_duration_since(begun) + PROBE_STEP;
        let due = (probe.rate as f64 / 8.0 * passed.as_secs_f64()) as usize;
        let line = self.line_for_probes();
        while sent < due.min(probe.bytes) {
            let recent = |stream: &Stream| stream.kept.recent(count % PROBE_REACH).cloned();
            let packet = line.and_then(|ssrc| self.streams.get(&ssrc)).and_then(recent);
            let bytes = match packet.filter(|packet| packet.payload.len() * PROBE_PACKETS <= probe.bytes) {
                Some(packet) => self.send_again(&packet, Some(probe.id), out, now),
                None => line.and_then(|ssrc| self.send_padding(ssrc, probe.id, out, now)),
            };
            let Some(bytes) = bytes else {
                self.burst = None;
                return None;
            };
            sent = sent.saturating_add(bytes);
            count = count.saturating_add(1);
        }
        self.burst = (sent < probe.bytes).then_some(Burst { probe, begun, sent, count });
        self.burst.as_ref().map(|_| now + PROBE_STEP)
    }

    /// The stream whose last packet is the largest, of those whose packets are counted.
    fn line_for_probes(&self) -> Option<u32> {
        let size = |stream: &Stream| stream.kept.recent(0).map(|packet| packet.payload.len());
        let counted = self.streams.iter().filter(|(_, stream)| stream.form.is_some_and(|form| form.ids.counts()));
        counted.max_by_key(|(_, stream)| size(stream)).map(|(ssrc, _)| *ssrc)
    }
}

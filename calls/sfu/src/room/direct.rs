//! Audio past the engine. The engine gives out one packet for each look at all that it has, which costs several times what
//! sealing a packet of sound does; and of sound it needs to know little: it is neither paced nor repeated, and the
//! bandwidth is not measured by it. So most packets of sound are sealed here, with the engine's own key.
//!
//! Now and then a packet goes through the engine, which learns by it how the line's times belong to ours (for its
//! reports), and tells by it where media go at present. Its reports count these packets only.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Transmit};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RtpPacket};

use super::forward::Write;
use super::peer::Peer;
use super::track::Down;
use crate::media::munger::Munged;
use crate::media::srtp::{Sealer, SealerSlot};

/// So often a packet of each line goes through the engine.
const THROUGH_ENGINE_EVERY: Duration = Duration::from_millis(500);
/// The most bytes of a packet's header: a fixed part, and two extensions.
const MAX_HEADER: usize = 40;
/// The longest name of a line in an extension of one byte's head.
const MAX_MID: usize = 16;

/// A connection's way past its engine.
pub struct Direct {
    slot: SealerSlot,
    sealer: Option<Sealer>,
    /// The way that media take.
    way: Option<(Protocol, SocketAddr, SocketAddr)>,
}

/// A line's part in it.
#[derive(Debug, Default)]
pub struct DirectLine {
    /// When a packet last went through the engine.
    through_engine: Option<Instant>,
    ids: Option<Ids>,
}

/// What the receiver calls the header extensions (RFC 8285).
#[derive(Clone, Copy, Debug)]
struct Ids {
    level: Option<u8>,
    mid: Option<u8>,
}

impl Direct {
    /// The slot is where the engine's key will be.
    pub fn new(slot: SealerSlot) -> Direct {
        Direct { slot, sealer: None, way: None }
    }

    /// The connection is there.
    pub fn begin(&mut self) {
        self.sealer = self.slot.take().or_else(|| self.sealer.take());
    }

    /// Notes where the engine sends; `check`: a STUN message, which goes along all ways.
    pub fn note_way(&mut self, transmit: &Transmit, check: bool) {
        let way = (transmit.proto, transmit.source, transmit.destination);
        if !check {
            self.way = Some(way);
        } else if self.way != Some(way) {
            // The way may be about to change: the next packet goes through the engine, which knows.
            self.way = None;
        }
    }
}

impl DirectLine {
    /// Whether a packet is to go past the engine. No number is ever sealed twice: what is not newer than all before goes
    /// through the engine.
    fn admits(&mut self, newest: bool, now: Instant) -> bool {
        let due = self.through_engine.is_none_or(|last| now.saturating_duration_since(last) >= THROUGH_ENGINE_EVERY);
        if due {
            self.through_engine = Some(now);
        }
        newest && !due
    }
}

impl Peer {
    /// The datagram of a packet that does not go through the engine; `None` for those that have to.
    pub(super) fn seal(&mut self, down: &mut Down, write: &Write, payload: Pt, packet: &RtpPacket) -> Option<Transmit> {
        let ((proto, source, destination), sealer) = (self.direct.way?, self.direct.sealer.as_mut()?);
        if !down.direct.admits(write.numbers.newest, packet.timestamp) {
            return None;
        }
        let ids = match down.direct.ids {
            Some(ids) => ids,
            None => *down.direct.ids.insert(Ids::of(self.rtc.media(down.mid)?.remote_extmap())),
        };
        let mut header = Vec::with_capacity(MAX_HEADER);
        write_header(&mut header, write.numbers, *payload, *down.ssrc, packet.header.marker);
        write_extensions(&mut header, ids, down.mid, &packet.header.ext_vals);
        let contents = sealer.seal(&header, *down.ssrc, write.numbers.seq, &packet.payload)?.into();
        Some(Transmit { proto, source, destination, contents })
    }
}

impl Ids {
    fn of(map: &ExtensionMap) -> Ids {
        Ids { level: map.id_of(Extension::AudioLevel), mid: map.id_of(Extension::RtpMid) }
    }
}

/// RFC 3550 section 5.1.
fn write_header(header: &mut Vec<u8>, numbers: Munged, payload: u8, ssrc: u32, marker: bool) {
    const VERSION_AND_EXTENSIONS: u8 = 0x90;
    let marker = if marker { 0x80 } else { 0 };
    header.extend_from_slice(&[VERSION_AND_EXTENSIONS, marker | (payload & 0x7f)]);
    header.extend_from_slice(&(numbers.seq as u16).to_be_bytes());
    header.extend_from_slice(&numbers.time.to_be_bytes());
    header.extend_from_slice(&ssrc.to_be_bytes());
}

/// The extensions with heads of one byte (RFC 8285 section 4.2): how loud it is (RFC 6464), and the line's name. The engine
/// leaves the name out once the receiver has reported on the line; here it is always told.
fn write_extensions(header: &mut Vec<u8>, ids: Ids, mid: Mid, values: &ExtensionValues) {
    const ONE_BYTE_HEADS: [u8; 2] = [0xbe, 0xde];
    let begin = header.len() + 4;
    header.extend_from_slice(&ONE_BYTE_HEADS);
    header.extend_from_slice(&[0, 0]);
    if let (Some(id @ 1..=14), Some(level), Some(voice)) = (ids.level, values.audio_level, values.voice_activity) {
        let voice = if voice { 0x80 } else { 0 };
        header.extend_from_slice(&[id << 4, voice | (level.unsigned_abs() & 0x7f)]);
    }
    let name = mid.as_bytes();
    if let (Some(id @ 1..=14), 1..=MAX_MID) = (ids.mid, name.len()) {
        header.push(id << 4 | (name.len() as u8 - 1));
        header.extend_from_slice(name);
    }
    let padded = header.len().next_multiple_of(4);
    header.resize(padded, 0);
    let words = (padded - begin) / 4;
    if let Some(length) = header.get_mut(begin - 2..begin) {
        length.copy_from_slice(&(words as u16).to_be_bytes());
    }
}

//! Media packets as they are sent: the header and its extensions (RFC 3550, RFC 8285).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use str0m::media::Mid;
use str0m::rtp::{Extension, ExtensionMap};

use super::codec;
use super::munger::MungedVp8;

/// The longest name of a line in an extension of one byte's head.
const MAX_MID: usize = 16;

/// What a receiver calls the header extensions on a line; `None` for those it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    level: Option<u8>,
    orientation: Option<u8>,
    mid: Option<u8>,
    number: Option<u8>,
}

impl ExtensionIds {
    pub fn of(map: &ExtensionMap) -> ExtensionIds {
        // Others would need heads of two bytes, which nobody asks for.
        let id = |extension| map.id_of(extension).filter(|id| (1..=14).contains(id));
        ExtensionIds {
            level: id(Extension::AudioLevel),
            orientation: id(Extension::VideoOrientation),
            mid: id(Extension::RtpMid),
            number: id(Extension::TransportSequenceNumber),
        }
    }

    /// Whether packets of the line have numbers in the transport, by which the receiver reports when they came.
    pub fn counts(&self) -> bool {
        self.number.is_some()
    }
}

/// A media packet for one client.
#[derive(Clone, Debug)]
pub struct Packet {
    pub ssrc: u32,
    pub payload_type: u8,
    /// The extended sequence number.
    pub seq: u64,
    pub time: u32,
    pub marker: bool,
    /// How loud it is: a voice's bit and -dBov (RFC 6464).
    pub level: Option<u8>,
    /// How the picture is turned (3GPP TS 26.114 section 7.4.5).
    pub orientation: Option<u8>,
    pub mid: Mid,
    pub ids: ExtensionIds,
    /// Shared by all who are sent it.
    pub payload: Arc<[u8]>,
    /// The numbers that the payload's VP8 descriptor is to have.
    pub vp8: Option<MungedVp8>,
}

/// The stream on which a line's packets are sent again (RFC 4588).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    pub ssrc: u32,
    pub payload_type: u8,
}

#[cfg(test)]
impl Packet {
    /// A packet without extensions.
    pub fn sample(ssrc: u32, seq: u64, payload: &[u8]) -> Packet {
        Packet {
            ssrc,
            payload_type: 96,
            seq,
            time: 0,
            marker: false,
            level: None,
            orientation: None,
            mid: "0".into(),
            ids: ExtensionIds::default(),
            payload: payload.into(),
            vp8: None,
        }
    }
}

impl Packet {
    /// Writes the header; `number` is that of the transport.
    pub fn write_header(&self, header: &mut Vec<u8>, number: u16) {
        write_fixed(header, false, (self.marker, self.payload_type), self.seq, self.time, self.ssrc);
        self.write_extensions(header, number);
    }

    /// Writes the header for sending the packet again, with the number `seq` of the stream for that.
    pub fn write_repeat_header(&self, header: &mut Vec<u8>, repeats: Repeats, seq: u64, number: u16) {
        write_fixed(header, false, (self.marker, repeats.payload_type), seq, self.time, repeats.ssrc);
        self.write_extensions(header, number);
    }

    fn write_extensions(&self, header: &mut Vec<u8>, number: u16) {
        write_extensions(header, self.ids, self.level, self.orientation, self.mid, number);
    }

    /// The payload as this client gets it; written to `scratch` if that is not as the publisher sent it.
    pub fn body<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(numbers) = &self.vp8 else { return &self.payload };
        scratch.clear();
        scratch.extend_from_slice(&self.payload);
        codec::rewrite_vp8(scratch, numbers);
        scratch
    }

    /// The payload for sending the packet again: behind the number that it was sent with.
    pub fn repeat_body<'a>(&self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        scratch.extend_from_slice(&(self.seq as u16).to_be_bytes());
        let begin = scratch.len();
        scratch.extend_from_slice(&self.payload);
        if let (Some(numbers), Some(payload)) = (&self.vp8, scratch.get_mut(begin..)) {
            codec::rewrite_vp8(payload, numbers);
        }
        scratch
    }
}

/// The payload of a packet of nothing but padding: the last byte says how much (RFC 3550 section 5.1).
pub const PADDING: [u8; 240] = {
    let mut padding = [0; 240];
    padding[239] = 240;
    padding
};

/// Writes the header of a packet of [`PADDING`] on a stream for repetitions.
pub fn write_padding_header(
    header: &mut Vec<u8>,
    repeats: Repeats,
    mid: Mid,
    ids: ExtensionIds,
    seq: u64,
    number: u16,
) {
    write_fixed(header, true, (false, repeats.payload_type), seq, 0, repeats.ssrc);
    write_extensions(header, ids, None, None, mid, number);
}

/// The part that all headers have (RFC 3550 section 5.1).
fn write_fixed(header: &mut Vec<u8>, padded: bool, kind: (bool, u8), seq: u64, time: u32, ssrc: u32) {
    const VERSION_AND_EXTENSIONS: u8 = 0x90;
    let (marker, payload_type) = kind;
    let (padding, marker) = (if padded { 0x20 } else { 0 }, if marker { 0x80 } else { 0 });
    header.extend_from_slice(&[VERSION_AND_EXTENSIONS | padding, marker | payload_type & 0x7f]);
    header.extend_from_slice(&(seq as u16).to_be_bytes());
    header.extend_from_slice(&time.to_be_bytes());
    header.extend_from_slice(&ssrc.to_be_bytes());
}

/// The extensions with heads of one byte (RFC 8285 section 4.2).
fn write_extensions(
    header: &mut Vec<u8>,
    ids: ExtensionIds,
    level: Option<u8>,
    orientation: Option<u8>,
    mid: Mid,
    number: u16,
) {
    const ONE_BYTE_HEADS: [u8; 2] = [0xbe, 0xde];
    let begin = header.len() + 4;
    header.extend_from_slice(&ONE_BYTE_HEADS);
    header.extend_from_slice(&[0, 0]);
    if let (Some(id), Some(level)) = (ids.level, level) {
        header.extend_from_slice(&[id << 4, level]);
    }
    if let (Some(id), Some(orientation)) = (ids.orientation, orientation) {
        header.extend_from_slice(&[id << 4, orientation]);
    }
    let name = mid.as_bytes();
    if let (Some(id), 1..=MAX_MID) = (ids.mid, name.len()) {
        header.push(id << 4 | (name.len() as u8 - 1));
        header.extend_from_slice(name);
    }
    if let Some(id) = ids.number {
        header.push(id << 4 | 1);
        header.extend_from_slice(&number.to_be_bytes());
    }
    let padded = header.len().next_multiple_of(4);
    header.resize(padded, 0);
    let words = (padded - begin) / 4;
    if let Some(length) = header.get_mut(begin - 2..begin) {
        length.copy_from_slice(&(words as u16).to_be_bytes());
    }
}

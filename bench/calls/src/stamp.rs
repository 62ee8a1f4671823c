//! What a packet says of itself: written into the payload by the sender, read again by the receiver.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a stamp.
pub const LENGTH: usize = 40;
/// Tells a stamped payload from another.
const MAGIC: [u8; 4] = *b"cB01";
/// Where the stamp begins in an Opus payload: behind the TOC byte (RFC 6716 section 3.1).
const AUDIO_OFFSET: usize = 1;
/// Where it begins in a VP8 payload: behind the descriptor (RFC 7741 section 4.2) and the ten bytes that stay clear in
/// encrypted key frames.
pub const VIDEO_OFFSET: usize = 16;

/// Who sent a packet when, and which part of what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since 1970: two processes of one machine may compare them.
    pub sent: u64,
    pub publisher: u16,
    /// Which of the simulcast layers, from the smallest; 0 for audio.
    pub layer: u8,
    pub key: bool,
    /// Number of the packet in its layer.
    pub packet: u32,
    /// Number of the frame in its layer.
    pub frame: u32,
    /// The frame without which this one cannot be decoded.
    pub reference: u32,
    /// Number of the packet in its frame.
    pub index: u16,
    /// Packets of the frame.
    pub count: u16,
}

impl Stamp {
    fn write(&self, target: &mut [u8]) {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MAGIC);
        bytes.extend(self.sent.to_be_bytes());
        bytes.extend(self.publisher.to_be_bytes());
        bytes.extend([self.layer, u8::from(self.key)]);
        bytes.extend(self.packet.to_be_bytes());
        bytes.extend(self.frame.to_be_bytes());
        bytes.extend(self.reference.to_be_bytes());
        bytes.extend(self.index.to_be_bytes());
        bytes.extend(self.count.to_be_bytes());
        target[..bytes.len()].copy_from_slice(&bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| (u32::from(two(at)) << 16) | u32::from(two(at + 2));
        (bytes[..4] == MAGIC).then(|| Self {
            sent: (u64::from(four(4)) << 32) | u64::from(four(8)),
            publisher: two(12),
            layer: bytes[14],
            key: bytes[15] != 0,
            packet: four(16),
            frame: four(20),
            reference: four(24),
            index: two(28),
            count: two(30),
        })
    }
}

/// An Opus payload of `length` bytes.
pub fn audio_payload(stamp: &Stamp, length: usize) -> Vec<u8> {
    let mut payload = vec![0; length.max(AUDIO_OFFSET + LENGTH)];
    payload[0] = 0xf8; // 20 ms of full band, one frame
    stamp.write(&mut payload[AUDIO_OFFSET..]);
    payload
}

/// The place of a VP8 frame in its stream, as its descriptor says it.
#[derive(Clone, Copy, Debug)]
pub struct Vp8Place {
    pub picture_id: u16,
    pub tl0: u8,
    pub temporal: u8,
    pub size: (u16, u16),
}

/// A VP8 payload of `length` bytes: descriptor, frame header and stamp.
pub fn video_payload(stamp: &Stamp, place: Vp8Place, length: usize) -> Vec<u8> {
    let mut payload = vec![0; length.max(VIDEO_OFFSET + LENGTH)];
    let first = stamp.index == 0;
    let droppable = place.temporal == 2;
    payload[0] = 0x80 | (u8::from(droppable) << 5) | (u8::from(first) << 4);
    payload[1] = 0xe0; // picture id, TL0PICIDX and TID follow
    payload[2] = 0x80 | ((place.picture_id >> 8) as u8 & 0x7f);
    payload[3] = place.picture_id as u8;
    payload[4] = place.tl0;
    payload[5] = place.temporal << 6;
    if first {
        payload[6] = 0x10 | u8::from(!stamp.key);
        if stamp.key {
            payload[9..12].copy_from_slice(&[0x9d, 0x01, 0x2a]);
            payload[12..14].copy_from_slice(&place.size.0.to_le_bytes());
            payload[14..16].copy_from_slice(&place.size.1.to_le_bytes());
        }
    }
    stamp.write(&mut payload[VIDEO_OFFSET..]);
    payload
}

/// The stamp of a payload, and whether it is one of video.
pub fn read(payload: &[u8]) -> Option<(Stamp, bool)> {
    if let Some(stamp) = payload.get(AUDIO_OFFSET..).and_then(Stamp::read) {
        return Some((stamp, false));
    }
    payload.get(VIDEO_OFFSET..).and_then(Stamp::read).map(|stamp| (stamp, true))
}

/// Now, as a stamp says it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp {
            sent: now(),
            publisher: 7,
            layer: 2,
            key: true,
            packet: 70_000,
            frame: 90_000,
            reference: 89_999,
            index: 0,
            count: 9,
        };
        let place = Vp8Place { picture_id: 0x7fff, tl0: 200, temporal: 0, size: (1280, 720) };
        let video = video_payload(&stamp, place, 1100);
        assert_eq!(video.len(), 1100);
        assert_eq!(read(&video), Some((stamp, true)));
        assert_eq!(&video[..6], &[0x90, 0xe0, 0xff, 0xff, 200, 0]);
        assert_eq!(&video[9..16], &[0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02]);
        assert_eq!(read(&audio_payload(&stamp, 80)), Some((stamp, false)));
        assert_eq!(read(&[0; 80]), None);
        assert_eq!(read(&video[..20]), None);
    }
}

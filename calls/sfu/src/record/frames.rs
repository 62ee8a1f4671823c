//! From the packets of one stream to its frames: puts packets in order, and VP8 frames together (RFC 7741 section 4).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::media::codec::Vp8;

/// How long a missing packet is waited for, in milliseconds: as long as asking for it again makes sense.
const WAIT_MS: u64 = 500;
/// How many packets may wait for a missing one.
const MAX_WAITING: usize = 512;
/// Larger frames are not put together.
const MAX_FRAME: usize = 2 * 1024 * 1024;
/// A clock that is this far from when packets arrive was set anew, in milliseconds.
const MAX_DRIFT_MS: u64 = 1000;

/// A packet of a stream.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The extended sequence number.
    pub seq: u64,
    /// The RTP time.
    pub time: u32,
    /// Whether it ends a frame of video.
    pub marker: bool,
    pub payload: Arc<[u8]>,
    /// When it arrived, in milliseconds after the recording began.
    pub arrived_ms: u64,
}

/// What is written into the file as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The RTP time.
    pub time: u32,
    pub arrived_ms: u64,
    pub is_key: bool,
    /// The size of the picture; key frames say it.
    pub size: Option<(u16, u16)>,
    pub data: Vec<u8>,
}

/// Puts packets in order.
#[derive(Default)]
pub struct Order {
    waiting: BTreeMap<u64, Packet>,
    next: Option<u64>,
}

impl Order {
    /// Takes a packet; one that came before, or too late, is forgotten.
    pub fn push(&mut self, packet: Packet) {
        if self.next.is_none_or(|next| packet.seq >= next) {
            self.waiting.entry(packet.seq).or_insert(packet);
        }
    }

    /// The next packet, and whether some before it are missing for good. `None` while one is waited for.
    pub fn pop(&mut self, now_ms: u64) -> Option<(Packet, bool)> {
        let (seq, first) = self.waiting.first_key_value()?;
        let has_gap = self.next.is_some_and(|next| *seq > next);
        let waited = now_ms.saturating_sub(first.arrived_ms) >= WAIT_MS || self.waiting.len() > MAX_WAITING;
        if has_gap && !waited {
            return None;
        }
        let (seq, packet) = self.waiting.pop_first()?;
        self.next = Some(seq.saturating_add(1));
        Some((packet, has_gap))
    }
}

/// Puts VP8 frames together. After a loss nothing is given out before the next key frame.
#[derive(Default)]
pub struct Vp8Frames {
    partial: Option<Frame>,
    /// Whether frames can be decoded: a key frame has come, and all since.
    is_whole: bool,
    last_picture: Option<(u16, bool)>,
}

impl Vp8Frames {
    /// Takes the next packet, and whether some before it are missing; the frame that it completes.
    pub fn push(&mut self, packet: &Packet, has_gap: bool) -> Option<Frame> {
        // What only fills the line has no descriptor and belongs to no frame.
        let descriptor = Vp8::parse(&packet.payload)?;
        // Packets that only filled the line may be what is missing: the numbers of the pictures tell.
        let follows = self.partial.is_none()
            && descriptor.starts_frame
            && self.last_picture.zip(descriptor.picture_id).is_some_and(|(last, this)| follows(last, this));
        if has_gap && !follows {
            self.lose();
        }
        self.last_picture = descriptor.picture_id;
        let content = packet.payload.get(descriptor.length..)?;
        if descriptor.starts_frame {
            if self.partial.is_some() {
                self.lose();
            }
            self.is_whole |= descriptor.key_frame;
            let size = descriptor.key_frame.then(|| picture_size(content)).flatten();
            let (time, arrived_ms, is_key) = (packet.time, packet.arrived_ms, descriptor.key_frame);
            self.partial = Some(Frame { time, arrived_ms, is_key, size, data: content.to_vec() });
        } else {
            match self.partial.as_mut().filter(|frame| frame.time == packet.time && frame.data.len() < MAX_FRAME) {
                Some(frame) => frame.data.extend_from_slice(content),
                None => {
                    self.lose();
                    return None;
                }
            }
        }
        if !packet.marker {
            return None;
        }
        self.partial.take().filter(|_| self.is_whole)
    }

    /// Whether a key frame is needed before anything can be given out.
    pub fn needs_key(&self) -> bool {
        !self.is_whole
    }

    fn lose(&mut self) {
        self.partial = None;
        self.is_whole = false;
    }
}

/// Whether one picture's number comes right after the other's.
fn follows((last, _): (u16, bool), (this, is_wide): (u16, bool)) -> bool {
    let mask = if is_wide { 0x7fff } else { 0x7f };
    last.wrapping_add(1) & mask == this & mask
}

/// RFC 6386 section 9.1: width and height, of 14 bits each, after the frame tag and the start code.
fn picture_size(frame: &[u8]) -> Option<(u16, u16)> {
    match frame {
        [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] => {
            let (width, height) = (u16::from_le_bytes([*w0, *w1]) & 0x3fff, u16::from_le_bytes([*h0, *h1]) & 0x3fff);
            (width > 0 && height > 0).then_some((width, height))
        }
        _ => None,
    }
}

/// The time of a stream's frames in the recording. Its clock begins when its first packet arrived.
pub struct Timeline {
    ticks_a_second: u32,
    /// The RTP time that was seen last, what has passed until then, and when that began.
    state: Option<(u32, i64, u64)>,
}

impl Timeline {
    pub fn new(ticks_a_second: u32) -> Timeline {
        Timeline { ticks_a_second: ticks_a_second.max(1), state: None }
    }

    /// When the frame belongs, in milliseconds after the recording began.
    pub fn place(&mut self, frame: &Frame) -> u64 {
        let (last, passed, begin_ms) = self.state.unwrap_or((frame.time, 0, frame.arrived_ms));
        let passed = passed.saturating_add(i64::from(frame.time.wrapping_sub(last).cast_signed()));
        let passed_ms = passed.saturating_mul(1000) / i64::from(self.ticks_a_second);
        let time_ms = begin_ms.saturating_add_signed(passed_ms);
        if time_ms.abs_diff(frame.arrived_ms) > MAX_DRIFT_MS {
            self.state = Some((frame.time, 0, frame.arrived_ms));
            return frame.arrived_ms;
        }
        self.state = Some((frame.time, passed, begin_ms));
        time_ms
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn packet(seq: u64, time: u32, marker: bool, payload: &[u8]) -> Packet {
        Packet { seq, time, marker, payload: payload.into(), arrived_ms: u64::from(time) / 90 }
    }

    /// The packets of a VP8 frame, `parts` long, of a picture 640 by 480.
    pub fn vp8(first: u64, picture: u8, time: u32, is_key: bool, parts: u8) -> Vec<Packet> {
        let part = |index: u8| {
            let start = if index == 0 { 0x10 } else { 0 };
            let mut payload = vec![0x80 | start, 0x80, picture & 0x7f];
            match (index, is_key) {
                (0, true) => payload.extend([0x00, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01]),
                (0, false) => payload.push(0x01),
                _ => payload.extend([index; 4]),
            }
            packet(first + u64::from(index), time, index + 1 == parts, &payload)
        };
        (0..parts).map(part).collect()
    }

    fn frames(packets: Vec<Packet>, now_ms: u64) -> Vec<Frame> {
        let (mut order, mut vp8) = (Order::default(), Vp8Frames::default());
        packets.into_iter().for_each(|packet| order.push(packet));
        std::iter::from_fn(|| order.pop(now_ms)).filter_map(|(packet, gap)| vp8.push(&packet, gap)).collect()
    }

    #[test]
    fn frames_are_put_together_in_whatever_order_their_packets_come() {
        let mut packets = vp8(1, 1, 0, true, 3);
        packets.extend(vp8(4, 2, 3000, false, 2));
        let whole = frames(packets.clone(), 0);
        assert_eq!(whole.len(), 2);
        assert_eq!((whole[0].is_key, whole[0].size), (true, Some((640, 480))));
        assert_eq!(whole[0].data[10..], [1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!((whole[1].is_key, whole[1].time, &whole[1].data[..]), (false, 3000, &[1, 1, 1, 1, 1][..]));
        packets[1..].reverse();
        packets.push(packets[2].clone());
        assert_eq!(frames(packets, 0), whole);
    }

    #[test]
    fn after_a_loss_nothing_is_given_out_before_a_key_frame() {
        let mut packets = vp8(1, 1, 0, true, 2);
        packets.extend(vp8(3, 2, 3000, false, 2));
        packets.extend(vp8(5, 3, 6000, false, 2));
        packets.extend(vp8(7, 4, 9000, true, 1));
        packets.remove(3);
        let before = frames(packets.clone(), 100);
        assert_eq!(before.len(), 1, "the missing one is waited for");
        let times: Vec<u32> = frames(packets, 10_000).iter().map(|frame| frame.time).collect();
        assert_eq!(times, [0, 9000]);
    }

    #[test]
    fn packets_that_carry_nothing_are_not_missed() {
        let mut packets = vp8(1, 127, 0, true, 1);
        packets.extend(vp8(5, 0, 3000, false, 1));
        assert_eq!(frames(packets.clone(), 10_000).len(), 2, "the pictures follow each other");
        let mut packets = vp8(1, 1, 0, true, 1);
        packets.extend(vp8(5, 3, 3000, false, 1));
        assert_eq!(frames(packets, 10_000).len(), 1);
    }

    #[test]
    fn nothing_that_is_sent_breaks_it() {
        let (mut order, mut vp8) = (Order::default(), Vp8Frames::default());
        let mut random = 7_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = random.to_be_bytes();
            let payload = &bytes[..usize::from(bytes[7] % 9)];
            order.push(packet(random >> 54, (random >> 40) as u32, bytes[3] & 1 == 0, payload));
            while let Some((packet, gap)) = order.pop(random >> 50) {
                vp8.push(&packet, gap);
            }
            assert!(order.waiting.len() <= MAX_WAITING + 1);
        }
    }

    #[test]
    fn the_clock_of_a_stream_is_followed_until_it_is_set() {
        let frame = |time, arrived_ms| Frame { time, arrived_ms, is_key: false, size: None, data: Vec::new() };
        let mut timeline = Timeline::new(48_000);
        let near_the_end = u32::MAX - 479;
        assert_eq!(timeline.place(&frame(near_the_end, 1000)), 1000);
        // Late, and over the end of the numbers.
        assert_eq!(timeline.place(&frame(480, 1090)), 1020);
        assert_eq!(timeline.place(&frame(0, 1091)), 1010);
        assert_eq!(timeline.place(&frame(77_777_777, 5000)), 5000);
        assert_eq!(timeline.place(&frame(77_777_777 + 960, 5021)), 5020);
    }
}

//! Synthetic media: Opus at 50 packets a second, and VP8 in up to three simulcast layers with three temporal layers each.

use std::time::{Duration, Instant};

use crate::stamp::{Stamp, Vp8Place, audio_payload, now, video_payload};

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const AUDIO_BYTES: usize = 80;
const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);
const FRAMES_A_SECOND: usize = 30;
/// Payload of a full video packet, as browsers fill them.
const VIDEO_BYTES: usize = 1100;
/// How much larger a key frame is than another.
const KEY_FACTOR: usize = 4;
/// An encoder does not make key frames more often, however many are asked for.
const KEY_INTERVAL: Duration = Duration::from_millis(300);

/// A packet to write.
pub struct Packet {
    pub payload: Vec<u8>,
    pub sequence: u64,
    pub time: u32,
    pub marker: bool,
}

/// A simulcast layer as `livekit-client` publishes it.
#[derive(Clone, Copy, Debug)]
pub struct LayerPlan {
    pub rid: &'static str,
    pub bits_a_second: usize,
    pub size: (u16, u16),
}

/// The layers from the smallest.
pub const LAYERS: [LayerPlan; 3] = [
    LayerPlan { rid: "q", bits_a_second: 150_000, size: (320, 180) },
    LayerPlan { rid: "h", bits_a_second: 450_000, size: (640, 360) },
    LayerPlan { rid: "f", bits_a_second: 1_700_000, size: (1280, 720) },
];

/// When something is to be sent next.
#[derive(Debug)]
struct Beat {
    next: Instant,
    interval: Duration,
}

impl Beat {
    /// Whether it is time; moves on if so. What was missed for long is not made up for.
    fn strike(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next += self.interval;
        if self.next + self.interval * 5 < now {
            self.next = now;
        }
        true
    }
}

pub struct Audio {
    beat: Beat,
    publisher: u16,
    packet: u32,
}

impl Audio {
    pub fn new(publisher: u16, first: Instant) -> Self {
        Self { beat: Beat { next: first, interval: AUDIO_INTERVAL }, publisher, packet: 0 }
    }

    pub fn next(&self) -> Instant {
        self.beat.next
    }

    pub fn poll(&mut self, at: Instant) -> Option<Packet> {
        if !self.beat.strike(at) {
            return None;
        }
        let number = self.packet;
        self.packet += 1;
        let stamp = Stamp {
            sent: now(),
            publisher: self.publisher,
            packet: number,
            frame: number,
            count: 1,
            ..Stamp::default()
        };
        Some(Packet {
            payload: audio_payload(&stamp, AUDIO_BYTES),
            sequence: u64::from(number) + 1,
            time: number.wrapping_mul(960),
            marker: number == 0,
        })
    }
}

pub struct Video {
    beat: Beat,
    publisher: u16,
    ticks: u32,
    pub layers: Vec<Layer>,
}

/// One encoding of a video.
pub struct Layer {
    pub plan: LayerPlan,
    /// Which of [`LAYERS`].
    pub level: u8,
    /// Whether anybody wants it (dynacast).
    pub enabled: bool,
    key_wanted: bool,
    last_key: Option<Instant>,
    packet: u32,
    frame: u32,
    /// Frames since the last key frame.
    cycle: u32,
    tl0: u8,
}

impl Video {
    /// A video with the given ones of [`LAYERS`], the first of its frames at `first`.
    pub fn new(publisher: u16, first: Instant, levels: &[u8]) -> Self {
        let layers = levels.iter().filter_map(|level| Some(Layer::new(*LAYERS.get(usize::from(*level))?, *level)));
        let beat = Beat { next: first, interval: FRAME_INTERVAL };
        Self { beat, publisher, ticks: 0, layers: layers.collect() }
    }

    pub fn next(&self) -> Instant {
        self.beat.next
    }

    /// Moves to the next frame if it is time for it; then [`Video::frame`] gives it layer by layer.
    pub fn strike(&mut self, at: Instant) -> bool {
        let struck = self.beat.strike(at);
        self.ticks += u32::from(struck);
        struck
    }

    /// The packets of the current frame in one of the layers.
    pub fn frame(&mut self, at: Instant, layer: usize) -> Vec<Packet> {
        let time = self.ticks.wrapping_mul(3000);
        let publisher = self.publisher;
        match self.layers.get_mut(layer) {
            Some(layer) if layer.enabled => layer.frame(at, publisher, time),
            _ => Vec::new(),
        }
    }

    /// Asks for a key frame of one layer, or of all.
    pub fn want_key(&mut self, rid: Option<&str>) {
        for layer in &mut self.layers {
            if rid.is_none_or(|rid| rid == layer.plan.rid) {
                layer.key_wanted = true;
            }
        }
    }
}

impl Layer {
    fn new(plan: LayerPlan, level: u8) -> Self {
        Self { plan, level, enabled: true, key_wanted: true, last_key: None, packet: 0, frame: 0, cycle: 0, tl0: 0 }
    }

    /// Switches the layer on or off; one that comes back begins with a key frame.
    pub fn enable(&mut self, enabled: bool) {
        self.key_wanted |= enabled && !self.enabled;
        self.enabled = enabled;
    }

    fn frame(&mut self, at: Instant, publisher: u16, time: u32) -> Vec<Packet> {
        let key = self.key_wanted && self.last_key.is_none_or(|last| at >= last + KEY_INTERVAL);
        if key {
            self.key_wanted = false;
            self.last_key = Some(at);
            self.cycle = 0;
        }
        let (temporal, back) = temporal_place(self.cycle);
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let place =
            Vp8Place { picture_id: (self.frame & 0x7fff) as u16, tl0: self.tl0, temporal, size: self.plan.size };
        let bytes = self.plan.bits_a_second / 8 / FRAMES_A_SECOND * if key { KEY_FACTOR } else { 1 };
        let count = bytes.div_ceil(VIDEO_BYTES).max(1);
        let packets = (0..count).map(|index| {
            let stamp = Stamp {
                sent: now(),
                publisher,
                layer: self.level,
                key,
                packet: self.packet,
                frame: self.frame,
                reference: if key { self.frame } else { self.frame.wrapping_sub(back) },
                index: index as u16,
                count: count as u16,
            };
            self.packet += 1;
            let payload = video_payload(&stamp, place, bytes / count);
            Packet { payload, sequence: u64::from(self.packet), time, marker: index + 1 == count }
        });
        let packets = packets.collect();
        self.frame += 1;
        self.cycle += 1;
        packets
    }
}

/// The temporal layer of a frame, and how many frames back the one it needs is: the pattern of browsers with three layers.
fn temporal_place(cycle: u32) -> (u8, u32) {
    match cycle % 4 {
        0 => (0, 4),
        2 => (1, 2),
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::read;

    #[test]
    fn a_layer_has_its_bitrate_and_numbers_without_gaps() {
        let start = Instant::now();
        let mut video = Video::new(3, start, &[0, 2]);
        let mut bytes = [0, 0];
        let mut numbers = Vec::new();
        for tick in 0..90 {
            let at = start + FRAME_INTERVAL * tick;
            assert!(video.strike(at), "{tick}");
            assert!(!video.strike(at));
            for (layer, bytes) in bytes.iter_mut().enumerate() {
                for packet in video.frame(at, layer) {
                    *bytes += packet.payload.len();
                    if layer == 1 {
                        numbers.push(packet.sequence);
                    }
                }
            }
        }
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
        let rate = |bytes: usize| bytes * 8 / 3;
        assert!((140_000..170_000).contains(&rate(bytes[0])), "{}", rate(bytes[0]));
        assert!((1_600_000..1_800_000).contains(&rate(bytes[1])), "{}", rate(bytes[1]));
    }

    #[test]
    fn a_key_frame_comes_when_asked_for_but_not_too_often() {
        let start = Instant::now();
        let mut video = Video::new(3, start, &[0]);
        let mut keys = Vec::new();
        for tick in 0..20 {
            let at = start + FRAME_INTERVAL * tick;
            video.strike(at);
            if tick == 2 {
                video.want_key(Some("q"));
            }
            let frame = video.frame(at, 0);
            if read(&frame[0].payload).is_some_and(|(stamp, _)| stamp.key) {
                keys.push(tick);
            }
        }
        assert_eq!(keys, [0, 10], "the second waits for 300 ms");
    }

    #[test]
    fn every_frame_needs_one_of_a_lower_or_equal_temporal_layer() {
        for cycle in 4..40 {
            let (temporal, back) = temporal_place(cycle);
            assert!(temporal_place(cycle - back).0 <= temporal);
        }
    }
}

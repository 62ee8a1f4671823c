//! Which frames a decoder could show: those that arrived whole and whose reference was shown. What a person sees as a
//! freeze is a gap between two of them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::stamp::Stamp;

/// Frames that are remembered as shown, and that may wait for another.
const REMEMBERED: usize = 64;
const WAITING: usize = 64;
/// After so long without a picture a key frame is asked for, and again after each such time.
const PATIENCE: Duration = Duration::from_millis(300);

/// One received video.
pub struct Decoder {
    waiting: HashMap<(u8, u32), Partial>,
    shown: VecDeque<(u8, u32)>,
    /// When the last frame was shown, or the video began.
    last: Instant,
    asked: Option<Instant>,
    /// Since the window began.
    pub longest_gap: Duration,
    pub frames: u64,
    pub level: Option<u8>,
}

struct Partial {
    stamp: Stamp,
    present: Vec<bool>,
}

impl Partial {
    fn whole(&self) -> bool {
        self.present.iter().all(|present| *present)
    }
}

impl Decoder {
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: HashMap::new(),
            shown: VecDeque::new(),
            last: now,
            asked: None,
            longest_gap: Duration::ZERO,
            frames: 0,
            level: None,
        }
    }

    /// Begins to count anew.
    pub fn restart(&mut self, now: Instant) {
        self.longest_gap = Duration::ZERO;
        self.frames = 0;
        self.last = self.last.max(now);
    }

    /// Takes a packet; shows what it makes whole.
    pub fn packet(&mut self, now: Instant, stamp: Stamp) {
        let id = (stamp.layer, stamp.frame);
        if self.shown.contains(&id) {
            return;
        }
        let partial =
            self.waiting.entry(id).or_insert_with(|| Partial { stamp, present: vec![false; usize::from(stamp.count)] });
        if let Some(present) = partial.present.get_mut(usize::from(stamp.index)) {
            *present = true;
        }
        if partial.whole() {
            while let Some(id) = self.next_decodable() {
                self.show(now, id);
            }
        }
        if self.waiting.len() > WAITING {
            self.forget_oldest();
        }
    }

    /// Whether a key frame should be asked for now.
    pub fn wants_key(&mut self, now: Instant) -> bool {
        let stuck = now.saturating_duration_since(self.last) > PATIENCE;
        let patient = self.asked.is_some_and(|asked| now < asked + PATIENCE);
        if stuck && !patient {
            self.asked = Some(now);
        }
        stuck && !patient
    }

    /// How long the picture has stood at `now`.
    pub fn standing(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    fn next_decodable(&self) -> Option<(u8, u32)> {
        let decodable = |(id, partial): (&(u8, u32), &Partial)| {
            let reference = (id.0, partial.stamp.reference);
            (partial.whole() && (partial.stamp.key || self.shown.contains(&reference))).then_some(*id)
        };
        self.waiting.iter().filter_map(decodable).min_by_key(|id| id.1)
    }

    fn show(&mut self, now: Instant, id: (u8, u32)) {
        self.waiting.remove(&id);
        self.shown.push_back(id);
        if self.shown.len() > REMEMBERED {
            self.shown.pop_front();
        }
        self.longest_gap = self.longest_gap.max(self.standing(now));
        self.last = self.last.max(now);
        self.frames += 1;
        self.level = Some(id.0);
        self.waiting.retain(|(layer, frame), _| *layer != id.0 || *frame + 8 > id.1);
    }

    fn forget_oldest(&mut self) {
        let oldest = self.waiting.iter().min_by_key(|(_, partial)| partial.stamp.sent).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.waiting.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(frame: u32, reference: u32, index: u16, count: u16) -> Stamp {
        Stamp { frame, reference, index, count, key: frame == reference, sent: u64::from(frame), ..Stamp::default() }
    }

    #[test]
    fn a_frame_is_shown_once_it_and_its_reference_are_whole() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut decoder = Decoder::new(start);
        decoder.packet(at(0), part(1, 1, 0, 2));
        assert_eq!(decoder.frames, 0);
        decoder.packet(at(40), part(2, 1, 0, 1));
        assert_eq!(decoder.frames, 0, "its reference is not whole");
        decoder.packet(at(250), part(1, 1, 1, 2));
        assert_eq!(decoder.frames, 2);
        assert_eq!(decoder.longest_gap, Duration::from_millis(250));
        decoder.packet(at(260), part(2, 1, 0, 1));
        assert_eq!(decoder.frames, 2, "a repetition is not shown again");
    }

    #[test]
    fn without_the_reference_a_key_frame_is_asked_for_and_ends_the_freeze() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut decoder = Decoder::new(start);
        decoder.packet(at(0), part(1, 1, 0, 1));
        decoder.packet(at(33), part(3, 2, 0, 1));
        assert!(!decoder.wants_key(at(200)));
        assert!(decoder.wants_key(at(301)));
        assert!(!decoder.wants_key(at(400)), "just asked");
        decoder.packet(at(500), part(9, 9, 0, 1));
        assert_eq!((decoder.frames, decoder.longest_gap), (2, Duration::from_millis(500)));
        assert!(!decoder.wants_key(at(700)));
    }
}

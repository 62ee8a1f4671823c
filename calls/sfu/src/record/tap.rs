//! Where the media thread gives packets to a recording.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use super::frames::Packet;
use super::writer::{Sample, Shared};
use crate::media::layers::Layer;

/// A published track in the recording.
struct Source {
    number: u32,
    /// Whether the writer knows of it.
    is_told: bool,
    layer: Layer,
    /// Grows whenever another layer is recorded.
    generation: u32,
}

/// A packet of a track as the room knows it.
pub struct Tapped<'a> {
    /// The identifier of the track.
    pub track: &'a str,
    /// Its name for people.
    pub name: &'a dyn Fn() -> String,
    pub is_sound: bool,
    /// The extended sequence number.
    pub seq: u64,
    /// The RTP time.
    pub time: u32,
    pub marker: bool,
    pub payload: &'a Arc<[u8]>,
    pub arrived: Instant,
    pub layer: Layer,
    /// The best layer that is sent.
    pub best: Layer,
    /// Whether the packet begins a key frame.
    pub is_key: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It was handed over, or is not needed.
    Done,
    /// The recording needs a key frame of this layer.
    NeedsKey,
    /// The recording has ended.
    Ended,
}

/// The room's end of a recording. Dropping it ends the recording.
pub struct Tap {
    samples: SyncSender<Sample>,
    shared: Arc<Shared>,
    began: Option<Instant>,
    sources: HashMap<String, Source>,
}

impl Tap {
    pub(super) fn new(samples: SyncSender<Sample>, shared: Arc<Shared>) -> Tap {
        Tap { samples, shared, began: None, sources: HashMap::new() }
    }

    /// The recording begins now.
    pub fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// Hands a packet over. Never waits: what there is no room for is counted and lost.
    pub fn take(&mut self, tapped: &Tapped<'_>) -> Took {
        let Some(began) = self.began else { return Took::Done };
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        if !self.sources.contains_key(tapped.track) {
            let source = Source { number, is_told: false, layer: tapped.best, generation: 0 };
            self.sources.insert(tapped.track.to_owned(), source);
        }
        let Some(source) = self.sources.get_mut(tapped.track) else { return Took::Done };
        let is_new = source.generation == 0 || source.layer != tapped.layer;
        if is_new {
            // Another layer is begun with when it is the best, with a key frame.
            if tapped.layer != tapped.best {
                return Took::Done;
            }
            if !tapped.is_key {
                return Took::NeedsKey;
            }
        }
        if !source.is_told {
            let (number, name, is_sound) = (source.number, (tapped.name)(), tapped.is_sound);
            match self.samples.try_send(Sample::Track { number, name, is_sound }) {
                Ok(()) => source.is_told = true,
                Err(error) => return missed(&self.shared, &error),
            }
        }
        if is_new {
            source.layer = tapped.layer;
            source.generation = source.generation.saturating_add(1);
        }
        let since = tapped.arrived.saturating_duration_since(began);
        let sample = Sample::Packet {
            number: source.number,
            generation: source.generation,
            packet: Packet {
                seq: tapped.seq,
                time: tapped.time,
                marker: tapped.marker,
                payload: tapped.payload.clone(),
                arrived_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            },
        };
        if let Err(error) = self.samples.try_send(sample) {
            return missed(&self.shared, &error);
        }
        let bit = 1_u64.checked_shl(source.number).unwrap_or(0);
        if self.shared.needs_key.load(Ordering::Relaxed) & bit != 0 {
            self.shared.needs_key.fetch_and(!bit, Ordering::Relaxed);
            return Took::NeedsKey;
        }
        Took::Done
    }
}

fn missed(shared: &Shared, error: &TrySendError<Sample>) -> Took {
    match error {
        TrySendError::Full(_) => {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            Took::Done
        }
        TrySendError::Disconnected(_) => Took::Ended,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    struct Bed {
        tap: Tap,
        samples: Receiver<Sample>,
        shared: Arc<Shared>,
        now: Instant,
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn bed(room: usize) -> Bed {
        let (samples, received) = sync_channel(room);
        let (shared, now) = (Arc::<Shared>::default(), Instant::now());
        let mut tap = Tap::new(samples, shared.clone());
        tap.begin(now);
        Bed { tap, samples: received, shared, now }
    }

    impl Bed {
        fn take(&mut self, track: &str, (layer, best): (Layer, Layer), is_key: bool) -> Took {
            let (name, payload) = (|| "alice camera".to_owned(), Arc::from([1_u8, 2, 3].as_slice()));
            self.tap.take(&Tapped {
                track,
                name: &name,
                is_sound: false,
                seq: 7,
                time: 9,
                marker: true,
                payload: &payload,
                arrived: self.now,
                layer,
                best,
                is_key,
            })
        }

        /// Number and generation of the packets that were handed over.
        fn handed(&self) -> Vec<(u32, u32)> {
            let packets = self.samples.try_iter().filter_map(|sample| match sample {
                Sample::Packet { number, generation, .. } => Some((number, generation)),
                Sample::Track { .. } => None,
            });
            packets.collect()
        }
    }

    #[test]
    fn the_best_layer_is_recorded_from_its_key_frame_on() {
        let mut bed = bed(100);
        assert_eq!(bed.take("TR_1", (1, 1), false), Took::NeedsKey);
        assert_eq!(bed.take("TR_1", (0, 1), true), Took::Done);
        assert_eq!(bed.handed(), []);
        assert_eq!(bed.take("TR_1", (1, 1), true), Took::Done);
        assert_eq!(bed.take("TR_1", (1, 1), false), Took::Done);
        assert_eq!(bed.take("TR_2", (0, 0), true), Took::Done);
        assert_eq!(bed.handed(), [(0, 1), (0, 1), (1, 1)]);
        // The best one is sent no more: until the next has a key frame, nothing of it is taken.
        assert_eq!(bed.take("TR_1", (0, 0), false), Took::NeedsKey);
        assert_eq!(bed.take("TR_1", (0, 0), true), Took::Done);
        assert_eq!(bed.handed(), [(0, 2)]);
    }

    #[test]
    fn it_never_waits_and_counts_what_is_lost() {
        let mut bed = bed(2);
        for _ in 0..5 {
            assert_eq!(bed.take("TR_1", (0, 0), true), Took::Done);
        }
        assert_eq!(bed.shared.dropped.load(Ordering::Relaxed), 4, "the name of the track and a packet have room");
        assert_eq!(bed.handed(), [(0, 1)]);
        assert_eq!(bed.take("TR_1", (0, 0), false), Took::Done);
        assert_eq!(bed.handed(), [(0, 1)]);
    }

    #[test]
    fn the_writer_asks_for_key_frames_and_ends_it() {
        let mut bed = bed(100);
        bed.take("TR_1", (0, 0), true);
        bed.shared.needs_key.store(0b11, Ordering::Relaxed);
        assert_eq!(bed.take("TR_1", (0, 0), false), Took::NeedsKey);
        assert_eq!(bed.take("TR_1", (0, 0), false), Took::Done);
        assert_eq!(bed.shared.needs_key.load(Ordering::Relaxed), 0b10);
        let (_, never) = sync_channel(1);
        bed.samples = never;
        assert_eq!(bed.take("TR_1", (0, 0), false), Took::Ended);
    }
}

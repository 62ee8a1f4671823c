//! The thread that writes a recording.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use runtime::Clock;

use super::frames::{Frame, Order, Packet, Timeline, Vp8Frames};
use super::webm::{Media, Webm};

/// Frames wait so long for those of other tracks, in milliseconds: longer than missing packets are waited for.
const HOLD_MS: u64 = 1500;
/// So many bytes of frames wait at most.
const MAX_HELD: usize = 16 * 1024 * 1024;
/// How often it is looked for what has waited long enough.
const ROUND: Duration = Duration::from_millis(200);
/// The clock of VP8, and of Opus.
const PICTURE_TICKS: u32 = 90_000;
const SOUND_TICKS: u32 = 48_000;

/// What the media thread hands over.
pub enum Sample {
    /// A track begins.
    Track { number: u32, name: String, is_sound: bool },
    /// A packet of it. Each generation is another stream with numbers of its own.
    Packet { number: u32, generation: u32, packet: Packet },
}

/// What the media thread and the writer tell each other beside the samples.
#[derive(Default)]
pub struct Shared {
    /// Packets for which there was no room.
    pub dropped: AtomicU64,
    /// A bit for each of the first 64 tracks: a key frame is needed.
    pub needs_key: AtomicU64,
}

/// When a recording ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_duration: Duration,
    pub max_bytes: u64,
}

struct Track {
    name: String,
    /// Its number in the file, once it has something to write; `Some(None)` when there was no room for it.
    in_file: Option<Option<u8>>,
    generation: u32,
    order: Order,
    timeline: Timeline,
    /// For pictures.
    vp8: Option<Vp8Frames>,
}

impl Track {
    fn new(name: String, is_sound: bool) -> Track {
        Track {
            name,
            in_file: None,
            generation: 0,
            order: Order::default(),
            timeline: Timeline::new(if is_sound { SOUND_TICKS } else { PICTURE_TICKS }),
            vp8: (!is_sound).then(Vp8Frames::default),
        }
    }

    /// Forgets the stream before, if this is another one.
    fn begin_stream(&mut self, generation: u32) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        self.order = Order::default();
        self.timeline = Timeline::new(if self.vp8.is_some() { PICTURE_TICKS } else { SOUND_TICKS });
        self.vp8 = self.vp8.as_ref().map(|_| Vp8Frames::default());
    }

    /// The next frame.
    fn next(&mut self, now_ms: u64) -> Option<Frame> {
        loop {
            let (packet, has_gap) = self.order.pop(now_ms)?;
            let frame = match &mut self.vp8 {
                Some(vp8) => vp8.push(&packet, has_gap),
                None => (!packet.payload.is_empty()).then(|| Frame {
                    time: packet.time,
                    arrived_ms: packet.arrived_ms,
                    is_key: true,
                    size: None,
                    data: packet.payload.to_vec(),
                }),
            };
            if frame.is_some() {
                return frame;
            }
        }
    }
}

/// A frame that waits for its turn.
struct Held {
    track: u8,
    is_key: bool,
    data: Vec<u8>,
}

/// Brings the samples of all tracks into one file.
struct Writer<W> {
    file: Webm<W>,
    shared: Arc<Shared>,
    tracks: HashMap<u32, Track>,
    /// By time, and in the order of coming.
    held: BTreeMap<(u64, u64), Held>,
    held_bytes: usize,
    count: u64,
}

impl<W: Write + Seek> Writer<W> {
    fn new(file: Webm<W>, shared: Arc<Shared>) -> Writer<W> {
        Writer { file, shared, tracks: HashMap::new(), held: BTreeMap::new(), held_bytes: 0, count: 0 }
    }

    fn take(&mut self, sample: Sample, now_ms: u64) -> io::Result<()> {
        match sample {
            Sample::Track { number, name, is_sound } => {
                self.tracks.insert(number, Track::new(name, is_sound));
            }
            Sample::Packet { number, generation, packet } => {
                let Some(track) = self.tracks.get_mut(&number) else { return Ok(()) };
                if track.generation != generation {
                    self.drain(number, u64::MAX)?;
                }
                let Some(track) = self.tracks.get_mut(&number) else { return Ok(()) };
                track.begin_stream(generation);
                track.order.push(packet);
                self.drain(number, now_ms)?;
            }
        }
        Ok(())
    }

    /// Takes the frames of a track that are complete.
    fn drain(&mut self, number: u32, now_ms: u64) -> io::Result<()> {
        let Some(track) = self.tracks.get_mut(&number) else { return Ok(()) };
        while let Some(frame) = track.next(now_ms) {
            let time_ms = track.timeline.place(&frame);
            if track.in_file.is_none() {
                let media = match (&track.vp8, frame.size) {
                    (None, _) => Media::Sound,
                    (Some(_), Some((width, height))) => Media::Pictures { width, height },
                    (Some(_), None) => continue,
                };
                track.in_file = Some(self.file.add_track(media, &track.name)?);
            }
            let Some(Some(in_file)) = track.in_file else { continue };
            self.held_bytes = self.held_bytes.saturating_add(frame.data.len());
            self.count = self.count.saturating_add(1);
            self.held.insert((time_ms, self.count), Held { track: in_file, is_key: frame.is_key, data: frame.data });
        }
        if track.vp8.as_ref().is_some_and(Vp8Frames::needs_key) && number < u64::BITS {
            self.shared.needs_key.fetch_or(1 << number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes what has waited long enough.
    fn write_ripe(&mut self, now_ms: u64) -> io::Result<()> {
        let numbers: Vec<u32> = self.tracks.keys().copied().collect();
        for number in numbers {
            self.drain(number, now_ms)?;
        }
        while let Some((&(time_ms, _), _)) = self.held.first_key_value() {
            if time_ms.saturating_add(HOLD_MS) > now_ms && self.held_bytes < MAX_HELD {
                break;
            }
            let Some((_, held)) = self.held.pop_first() else { break };
            self.held_bytes = self.held_bytes.saturating_sub(held.data.len());
            self.file.add_frame(held.track, time_ms, held.is_key, &held.data)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.write_ripe(u64::MAX)?;
        self.file.finish()
    }
}

/// Writes what comes until there is no more, or a limit is reached.
///
/// # Errors
/// The file cannot be made or written.
pub fn write(
    path: &Path,
    samples: &Receiver<Sample>,
    shared: Arc<Shared>,
    limits: Limits,
    clock: &Clock,
) -> io::Result<()> {
    let file = BufWriter::new(File::create_new(path)?);
    let mut writer = Writer::new(Webm::new(file, clock.now_ms())?, shared);
    let began = clock.monotonic();
    let mut last_round = began;
    loop {
        let received = samples.recv_timeout(ROUND);
        let now = clock.monotonic();
        let now_ms = u64::try_from(now.saturating_sub(began).as_millis()).unwrap_or(u64::MAX);
        match received {
            Ok(sample) => writer.take(sample, now_ms)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if now.saturating_sub(last_round) >= ROUND {
            last_round = now;
            writer.write_ripe(now_ms)?;
        }
        let has_ended = now.saturating_sub(began) >= limits.max_duration || writer.file.bytes() >= limits.max_bytes;
        if has_ended {
            tracing::info!("a recording has reached its limit");
            break;
        }
    }
    writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::frames::tests::{packet, vp8};
    use super::super::inspect::inspect_bytes;
    use super::*;

    fn write_all(samples: Vec<Sample>) -> (Vec<u8>, Arc<Shared>) {
        let shared = Arc::<Shared>::default();
        let mut writer = Writer::new(Webm::new(Cursor::new(Vec::new()), 0).unwrap(), shared.clone());
        for sample in samples {
            let now_ms = match &sample {
                Sample::Packet { packet, .. } => packet.arrived_ms,
                Sample::Track { .. } => 0,
            };
            writer.take(sample, now_ms).unwrap();
            writer.write_ripe(now_ms).unwrap();
        }
        (writer.finish().unwrap().into_inner(), shared)
    }

    fn track(number: u32, is_sound: bool) -> Sample {
        Sample::Track { number, name: "alice".to_owned(), is_sound }
    }

    fn sample(number: u32, generation: u32, packet: Packet) -> Sample {
        Sample::Packet { number, generation, packet }
    }

    #[test]
    fn sound_and_pictures_come_into_one_file() {
        let mut samples = vec![track(0, true), track(1, false)];
        for index in 0..200_u32 {
            let sound =
                Packet { arrived_ms: u64::from(index) * 20, ..packet(index.into(), index * 960, false, b"sound") };
            samples.push(sample(0, 1, sound));
            let picture = vp8(u64::from(index) * 2, index as u8, index * 1800, index % 50 == 0, 2);
            samples.extend(picture.into_iter().map(|packet| sample(1, 1, packet)));
        }
        let (file, _) = write_all(samples);
        let about = inspect_bytes(&file).unwrap();
        assert_eq!((about.pictures, about.has_sound), (Some((640, 480)), true));
        assert_eq!((about.duration_ms, about.bytes), (199 * 20, file.len() as u64));
    }

    #[test]
    fn pictures_begin_with_a_key_frame_also_after_a_change_of_layers() {
        let mut samples = vec![track(3, false)];
        samples.extend(vp8(1, 1, 0, false, 1).into_iter().map(|packet| sample(3, 1, packet)));
        let (file, shared) = write_all(samples);
        assert!(inspect_bytes(&file).is_none(), "nothing can be decoded");
        assert_eq!(shared.needs_key.load(Ordering::Relaxed), 1 << 3);
        let mut samples = vec![track(3, false)];
        samples.extend(vp8(1, 1, 0, true, 1).into_iter().map(|packet| sample(3, 1, packet)));
        // The numbers of the next stream are others, and lower.
        samples.extend(vp8(0, 9, 90_000, true, 1).into_iter().map(|packet| sample(3, 2, packet)));
        let (file, _) = write_all(samples);
        assert_eq!(inspect_bytes(&file).unwrap().duration_ms, 1000);
    }

    #[test]
    fn a_limit_ends_the_file_while_packets_come() {
        let path = std::env::temp_dir().join(format!("conduit-recording-{}.webm", std::process::id()));
        for (max_duration, max_bytes) in [(Duration::ZERO, u64::MAX), (Duration::MAX, 1)] {
            let (samples, received) = std::sync::mpsc::sync_channel(10);
            samples.send(track(0, true)).unwrap();
            samples.send(sample(0, 1, packet(1, 0, false, b"sound"))).unwrap();
            let limits = Limits { max_duration, max_bytes };
            write(&path, &received, Arc::default(), limits, &Clock::system()).unwrap();
            assert!(write(&path, &received, Arc::default(), limits, &Clock::system()).is_err(), "it is overwritten");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_belongs_to_no_track_is_left_out() {
        let (file, _) = write_all(vec![sample(9, 1, packet(1, 1, true, b"x"))]);
        assert!(inspect_bytes(&file).is_none());
    }
}

//! Writes WebM files (RFC 9559, and the WebM guidelines on top) of Opus and VP8 tracks that begin at any time.
//!
//! Players want to know of all tracks before the first media, so room is kept for that at the beginning of the file, and
//! filled whenever a track begins. The media are in clusters, each written as a whole: a file that is cut off by a crash
//! is a good one up to there.

#[cfg(test)]
mod tests;

use std::io::{self, Seek, SeekFrom, Write};

use super::ebml::{put_bytes, put_float, put_id, put_parent, put_size, put_uint, put_wide_size};

pub(super) const SEGMENT: u32 = 0x1853_8067;
pub(super) const INFO: u32 = 0x1549_a966;
pub(super) const DURATION: u32 = 0x4489;
pub(super) const TRACKS: u32 = 0x1654_ae6b;
pub(super) const TRACK_ENTRY: u32 = 0xae;
pub(super) const TRACK_TYPE: u32 = 0x83;
pub(super) const VIDEO: u32 = 0xe0;
pub(super) const PIXEL_WIDTH: u32 = 0xb0;
pub(super) const PIXEL_HEIGHT: u32 = 0xba;
pub(super) const CLUSTER: u32 = 0x1f43_b675;
pub(super) const TIMESTAMP: u32 = 0xe7;
pub(super) const TYPE_VIDEO: u64 = 1;
const TYPE_AUDIO: u64 = 2;
const EBML: u32 = 0x1a45_dfa3;
const CUES: u32 = 0x1c53_bb6b;
const SEEK_HEAD: u32 = 0x114d_9b74;
pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
const VOID: u32 = 0xec;

/// The room for everything before the first cluster.
pub(super) const HEADER_BYTES: usize = 24 * 1024;
/// How many tracks a file can have: as many as have room at its beginning, and fit a number of one byte.
const MAX_TRACKS: usize = 60;
/// The longest name of a track in bytes.
const MAX_NAME: usize = 160;
/// A cluster does not get longer than this, in milliseconds and bytes. Its times have 16 bits.
const CLUSTER_MS: u64 = 5_000;
const CLUSTER_BYTES: usize = 1024 * 1024;
/// A cluster begins with a key frame if the last one is at least so long, in milliseconds.
const KEY_CLUSTER_MS: u64 = 1_000;
/// What the encoder looks ahead, in samples at 48 kHz; what libopus has, as nobody says it in a call.
const PRE_SKIP: u16 = 312;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Opus.
    Sound,
    /// VP8, with the size of the first picture.
    Pictures { width: u16, height: u16 },
}

struct Entry {
    media: Media,
    name: String,
}

/// A place that players can jump to.
struct Cue {
    time_ms: u64,
    track: u8,
    /// From the beginning of the segment's content.
    position: u64,
}

struct Cluster {
    begin_ms: u64,
    first_track: u8,
    blocks: Vec<u8>,
}

/// Writes one file.
pub struct Webm<W> {
    out: W,
    began_ms: u64,
    tracks: Vec<Entry>,
    cluster: Option<Cluster>,
    cues: Vec<Cue>,
    /// The time of the newest block.
    last_ms: u64,
    /// Where the next cluster comes to lie.
    end: u64,
}

impl<W: Write + Seek> Webm<W> {
    /// Begins a file; `began_ms` is the time of its beginning since the Unix epoch.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn new(out: W, began_ms: u64) -> io::Result<Webm<W>> {
        let mut file = Webm {
            out,
            began_ms,
            tracks: Vec::new(),
            cluster: None,
            cues: Vec::new(),
            last_ms: 0,
            end: HEADER_BYTES as u64,
        };
        file.write_header(None)?;
        Ok(file)
    }

    /// Adds a track and returns its number; `None` if there are too many.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn add_track(&mut self, media: Media, name: &str) -> io::Result<Option<u8>> {
        if self.tracks.len() >= MAX_TRACKS {
            return Ok(None);
        }
        let end = name.floor_char_boundary(MAX_NAME);
        self.tracks.push(Entry { media, name: name.get(..end).unwrap_or_default().to_owned() });
        self.write_header(None)?;
        Ok(u8::try_from(self.tracks.len()).ok())
    }

    /// Adds a frame at `time_ms` after the beginning. What is earlier than the newest before it counts as of the same time.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn add_frame(&mut self, track: u8, time_ms: u64, is_key: bool, frame: &[u8]) -> io::Result<()> {
        let time_ms = time_ms.max(self.last_ms);
        let is_picture = usize::from(track).checked_sub(1).and_then(|index| self.tracks.get(index));
        let is_picture = is_picture.is_some_and(|entry| matches!(entry.media, Media::Pictures { .. }));
        if let Some(cluster) = &self.cluster {
            let age = time_ms.saturating_sub(cluster.begin_ms);
            let begins_anew = is_picture && is_key && age >= KEY_CLUSTER_MS;
            if age >= CLUSTER_MS || begins_anew || cluster.blocks.len().saturating_add(frame.len()) > CLUSTER_BYTES {
                self.end_cluster()?;
            }
        }
        self.last_ms = time_ms;
        let cluster = self.cluster.get_or_insert_with(|| Cluster {
            begin_ms: time_ms,
            first_track: track,
            blocks: Vec::with_capacity(64 * 1024),
        });
        let since = i16::try_from(time_ms.saturating_sub(cluster.begin_ms)).unwrap_or(i16::MAX);
        put_id(&mut cluster.blocks, SIMPLE_BLOCK);
        put_size(&mut cluster.blocks, (frame.len() as u64).saturating_add(4));
        cluster.blocks.push(0x80 | track);
        cluster.blocks.extend(since.to_be_bytes());
        cluster.blocks.push(if is_key { 0x80 } else { 0 });
        cluster.blocks.extend_from_slice(frame);
        Ok(())
    }

    /// How long the file will be if it ends now, in bytes, roughly.
    pub fn bytes(&self) -> u64 {
        let waiting = self.cluster.as_ref().map_or(0, |cluster| cluster.blocks.len() as u64);
        self.end.saturating_add(waiting).saturating_add(self.cues.len() as u64 * 24)
    }

    /// Ends the file: what waits is written, the length is noted, and a table by which players jump.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_cluster()?;
        let cues_at = self.end;
        let mut table = Vec::new();
        put_parent(&mut table, CUES, |table| {
            for cue in &self.cues {
                put_parent(table, 0xbb, |point| {
                    put_uint(point, 0xb3, cue.time_ms);
                    put_parent(point, 0xb7, |position| {
                        put_uint(position, 0xf7, u64::from(cue.track));
                        put_uint(position, 0xf1, cue.position);
                    });
                });
            }
        });
        // A table without entries is none.
        let has_cues = !self.cues.is_empty();
        if has_cues {
            self.out.write_all(&table)?;
            self.end = self.end.saturating_add(table.len() as u64);
        }
        self.write_header(Some(cues_at).filter(|_| has_cues))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_cluster(&mut self) -> io::Result<()> {
        let Some(cluster) = self.cluster.take() else { return Ok(()) };
        let position = self.end.saturating_sub(segment_start());
        self.cues.push(Cue { time_ms: cluster.begin_ms, track: cluster.first_track, position });
        let mut head = Vec::new();
        let mut time = Vec::new();
        put_uint(&mut time, TIMESTAMP, cluster.begin_ms);
        put_id(&mut head, CLUSTER);
        put_size(&mut head, (time.len() as u64).saturating_add(cluster.blocks.len() as u64));
        head.extend(time);
        self.out.write_all(&head)?;
        self.out.write_all(&cluster.blocks)?;
        self.end = self.end.saturating_add(head.len() as u64).saturating_add(cluster.blocks.len() as u64);
        Ok(())
    }

    /// Writes everything before the first cluster, and goes back to the end. `cues` is where the table is, at the end.
    fn write_header(&mut self, cues: Option<u64>) -> io::Result<()> {
        let mut header = file_head();
        put_id(&mut header, SEGMENT);
        put_wide_size(&mut header, cues.map(|_| self.end.saturating_sub(segment_start())));
        if let Some(cues) = cues {
            put_parent(&mut header, SEEK_HEAD, |seek_head| {
                put_parent(seek_head, 0x4dbb, |seek| {
                    put_bytes(seek, 0x53ab, &CUES.to_be_bytes());
                    put_uint(seek, 0x53ac, cues.saturating_sub(segment_start()));
                });
            });
        }
        put_parent(&mut header, INFO, |info| {
            put_uint(info, 0x002a_d7b1, 1_000_000);
            put_bytes(info, 0x4d80, b"Conduit");
            put_bytes(info, 0x5741, b"Conduit");
            put_bytes(info, 0x4461, &since_millennium(self.began_ms).to_be_bytes());
            if cues.is_some() {
                put_float(info, DURATION, self.last_ms as f64);
            }
        });
        if !self.tracks.is_empty() {
            put_parent(&mut header, TRACKS, |tracks| {
                for (number, entry) in (1..).zip(&self.tracks) {
                    put_parent(tracks, TRACK_ENTRY, |track| put_track(track, number, entry));
                }
            });
        }
        // The identifier of what is empty, its size in eight bytes, and nothing.
        let Some(left) = HEADER_BYTES.checked_sub(header.len().saturating_add(9)) else {
            return Err(io::Error::other("the tracks do not fit into the file's beginning"));
        };
        put_id(&mut header, VOID);
        put_wide_size(&mut header, Some(left as u64));
        header.resize(HEADER_BYTES, 0);
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }
}

fn file_head() -> Vec<u8> {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    put_parent(&mut head, EBML, |head| {
        put_uint(head, 0x4286, 1);
        put_uint(head, 0x42f7, 1);
        put_uint(head, 0x42f2, 4);
        put_uint(head, 0x42f3, 8);
        put_bytes(head, 0x4282, b"webm");
        put_uint(head, 0x4287, 4);
        put_uint(head, 0x4285, 2);
    });
    head
}

/// Where the content of the segment begins: positions in the file are counted from there.
fn segment_start() -> u64 {
    (file_head().len() as u64).saturating_add(12)
}

fn put_track(out: &mut Vec<u8>, number: u64, entry: &Entry) {
    put_uint(out, 0xd7, number);
    put_uint(out, 0x73c5, number);
    put_uint(out, 0x9c, 0);
    put_bytes(out, 0x0022_b59c, b"und");
    put_bytes(out, 0x536e, entry.name.as_bytes());
    match entry.media {
        Media::Sound => {
            put_uint(out, TRACK_TYPE, TYPE_AUDIO);
            put_bytes(out, 0x86, b"A_OPUS");
            put_bytes(out, 0x63a2, &opus_head());
            put_uint(out, 0x56aa, u64::from(PRE_SKIP) * 1_000_000_000 / 48_000);
            put_uint(out, 0x56bb, 80_000_000);
            put_parent(out, 0xe1, |audio| {
                put_float(audio, 0xb5, 48_000.0);
                put_uint(audio, 0x9f, 2);
            });
        }
        Media::Pictures { width, height } => {
            put_uint(out, TRACK_TYPE, TYPE_VIDEO);
            put_bytes(out, 0x86, b"V_VP8");
            put_parent(out, VIDEO, |video| {
                put_uint(video, PIXEL_WIDTH, u64::from(width));
                put_uint(video, PIXEL_HEIGHT, u64::from(height));
            });
        }
    }
}

/// RFC 7845 section 5.1: version 1, two channels (what mono streams are decoded to, too), 48 kHz, no gain.
fn opus_head() -> Vec<u8> {
    let mut head = b"OpusHead\x01\x02".to_vec();
    head.extend(PRE_SKIP.to_le_bytes());
    head.extend(48_000_u32.to_le_bytes());
    head.extend([0, 0, 0]);
    head
}

/// Nanoseconds since the beginning of 2001, as dates are written.
fn since_millennium(unix_ms: u64) -> i64 {
    const MILLENNIUM_MS: i64 = 978_307_200_000;
    i64::try_from(unix_ms).unwrap_or(i64::MAX).saturating_sub(MILLENNIUM_MS).saturating_mul(1_000_000)
}

//! What a recording holds, as its file says. Also of one that was cut off.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::ebml::{Elements, read_head, read_uint};
use super::webm::{
    CLUSTER, DURATION, HEADER_BYTES, INFO, PIXEL_HEIGHT, PIXEL_WIDTH, SEGMENT, SIMPLE_BLOCK, TIMESTAMP, TRACK_ENTRY,
    TRACK_TYPE, TRACKS, TYPE_VIDEO, VIDEO,
};

/// More of a cluster is not read: a full one, and a frame that did not fit any more.
const MAX_CLUSTER: u64 = 4 * 1024 * 1024;

/// What is in the file of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingFile {
    /// Its length.
    pub bytes: u64,
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// Width and height of the first of its pictures, if it has some.
    pub pictures: Option<(u16, u16)>,
    /// Whether it has sound.
    pub has_sound: bool,
}

impl RecordingFile {
    /// Reads the file of a recording; `None` if there is nothing to play in it. Blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<RecordingFile>> {
        inspect(File::open(path)?)
    }
}

fn inspect(mut file: impl Read + Seek) -> io::Result<Option<RecordingFile>> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    let Some(mut found) = read_header(&header) else { return Ok(None) };
    found.bytes = bytes;
    let last_ms = last_cluster(&mut file, bytes)?;
    let Some(last_ms) = last_ms.filter(|_| found.has_sound || found.pictures.is_some()) else { return Ok(None) };
    found.duration_ms = found.duration_ms.max(last_ms);
    Ok(Some(found))
}

/// What the header says.
fn read_header(header: &[u8]) -> Option<RecordingFile> {
    let (_, size, length) = read_head(header)?;
    let segment = header.get(length.checked_add(usize::try_from(size?).ok()?)?..)?;
    let (_, _, length) = read_head(segment).filter(|(id, ..)| *id == SEGMENT)?;
    let mut found = RecordingFile::default();
    for (id, content) in Elements(segment.get(length..)?) {
        match id {
            INFO => found.duration_ms = read_duration(content),
            TRACKS => {
                for (_, entry) in Elements(content).filter(|(id, _)| *id == TRACK_ENTRY) {
                    read_track(entry, &mut found);
                }
            }
            _ => {}
        }
    }
    Some(found)
}

fn read_duration(info: &[u8]) -> u64 {
    let duration = Elements(info).find(|(id, _)| *id == DURATION);
    let float = duration.and_then(|(_, content)| Some(f64::from_be_bytes(content.try_into().ok()?)));
    float.map_or(0, |milliseconds| milliseconds as u64)
}

fn read_track(entry: &[u8], found: &mut RecordingFile) {
    let number = |content: &[u8], wanted| {
        Elements(content).find(|(id, _)| *id == wanted).and_then(|(_, content)| read_uint(content))
    };
    if number(entry, TRACK_TYPE) != Some(TYPE_VIDEO) {
        found.has_sound = true;
    } else if found.pictures.is_none() {
        let size = Elements(entry).find(|(id, _)| *id == VIDEO).and_then(|(_, video)| {
            let side = |id| number(video, id).and_then(|side| u16::try_from(side).ok());
            side(PIXEL_WIDTH).zip(side(PIXEL_HEIGHT))
        });
        found.pictures = size;
    }
}

/// The time of the last block of the last cluster that is there as a whole.
fn last_cluster(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<Option<u64>> {
    let mut at = HEADER_BYTES as u64;
    let mut last = None;
    let mut head = Vec::with_capacity(64);
    while at < bytes {
        head.clear();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref().take(64).read_to_end(&mut head)?;
        let Some((CLUSTER, Some(size), length)) = read_head(&head) else { break };
        let end = at.saturating_add(length as u64).saturating_add(size);
        if end > bytes {
            break;
        }
        last = Some((at.saturating_add(length as u64), size));
        at = end;
    }
    let Some((begin, size)) = last else { return Ok(None) };
    let mut cluster = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.take(size.min(MAX_CLUSTER)).read_to_end(&mut cluster)?;
    Ok(last_block(&cluster))
}

/// The time of the last block of a cluster.
fn last_block(cluster: &[u8]) -> Option<u64> {
    let mut elements = Elements(cluster);
    let begin_ms = elements.next().filter(|(id, _)| *id == TIMESTAMP).and_then(|(_, time)| read_uint(time))?;
    let block = elements.filter(|(id, _)| *id == SIMPLE_BLOCK).last();
    let since = match block {
        Some((_, [_track, high, low, ..])) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    Some(begin_ms.saturating_add(u64::from(since)))
}

/// As [`RecordingFile::read`], of what is in memory.
#[cfg(test)]
pub fn inspect_bytes(file: &[u8]) -> Option<RecordingFile> {
    inspect(std::io::Cursor::new(file)).unwrap()
}

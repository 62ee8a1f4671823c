//! Checks of the stored invariants of this crate against the media folder, for `conduit fsck`. Reads only.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use storage::{Read, Store};

use crate::disk::{Disk, Hash, hex};
use crate::error::MediaError;
use crate::rows::{FILES, MEDIA, MediaState, PENDING, THUMBNAILS};
use crate::usage;

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a media address or a file's name.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// Counts of what was checked, and what was found broken.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many media have content, thumbnails not counted.
    pub media: usize,
    /// How many files are used.
    pub files: usize,
    /// How many files no row uses: not broken, the server removes them.
    pub unused_files: usize,
    /// What is broken.
    pub problems: Vec<Problem>,
}

impl Findings {
    fn expect(&mut self, holds: bool, place: impl FnOnce() -> String, what: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(Problem { place: place(), what: what() });
        }
    }
}

/// How a file is used.
struct Uses {
    count: i64,
    length: u64,
    /// One of the users.
    place: String,
}

/// Uses of files by hash.
#[derive(Default)]
struct UsedFiles(HashMap<Hash, Uses>);

impl UsedFiles {
    fn add(&mut self, hash: Hash, length: u64, place: impl FnOnce() -> String, findings: &mut Findings) {
        let uses = self.0.entry(hash).or_insert_with(|| Uses { count: 0, length, place: place() });
        uses.count += 1;
        let (expected, place) = (uses.length, || uses.place.clone());
        findings.expect(length == expected, place, || format!("one file has {expected} and {length} bytes"));
    }
}

/// Checks everything stored about media, and that the files in the media folder `dir` are there in their whole
/// length. Does not read what is in them.
///
/// # Errors
/// Where the store or the folder cannot be read at all; what can be read and is wrong is in the findings.
pub fn check(store: &Store, dir: &Path) -> Result<Findings, MediaError> {
    let (mut findings, mut used) = (Findings::default(), UsedFiles::default());
    check_media(store, &mut used, &mut findings)?;
    for row in store.scan(&THUMBNAILS, &()).iter() {
        // The media may be gone: it is deleted before its thumbnails.
        let ((server, media_id, size, _), row) = row?;
        if let Some((hash, length)) = row.file {
            used.add(hash, length, || format!("thumbnail {size} of mxc://{server}/{media_id}"), &mut findings);
        }
    }
    check_counts(store, &used, &mut findings)?;
    for (place, what) in usage::find_wrong(store)? {
        findings.problems.push(Problem { place, what });
    }
    check_files(&Disk::at(dir), &used, &mut findings)?;
    Ok(findings)
}

fn check_media(store: &Store, used: &mut UsedFiles, findings: &mut Findings) -> Result<(), MediaError> {
    let reserved = store.scan(&PENDING, &()).keys().collect::<Result<HashSet<_>, _>>()?;
    let mut waiting = HashSet::new();
    for row in store.scan(&MEDIA, &()).iter() {
        let ((server, media_id), row) = row?;
        let place = || format!("mxc://{server}/{media_id}");
        match row.state {
            MediaState::Complete { hash, length, .. } => {
                findings.media += 1;
                used.add(hash, length, place, findings);
            }
            MediaState::Pending { expires_ms } => {
                let reservation = (row.uploader.unwrap_or_default(), expires_ms, media_id.clone());
                findings.expect(reserved.contains(&reservation), place, || {
                    "waits for its upload, but is not reserved".into()
                });
                waiting.insert(reservation);
            }
        }
    }
    for reservation in reserved.difference(&waiting) {
        let (user, _, media_id) = reservation;
        findings.expect(false, || format!("media {media_id}"), || format!("reserved by {user}, but does not wait"));
    }
    Ok(())
}

fn check_counts(store: &Store, used: &UsedFiles, findings: &mut Findings) -> Result<(), MediaError> {
    let mut counted = HashSet::new();
    for row in store.scan(&FILES, &()).iter() {
        let (hash, count) = row?;
        counted.insert(hash);
        let real = used.0.get(&hash).map_or(0, |uses| uses.count);
        findings.expect(count == real, || hex(&hash), || format!("used {real} times, and {count} uses are counted"));
    }
    for (hash, uses) in &used.0 {
        findings.expect(counted.contains(hash), || uses.place.clone(), || "the use of its file is not counted".into());
    }
    Ok(())
}

fn check_files(disk: &Disk, used: &UsedFiles, findings: &mut Findings) -> Result<(), MediaError> {
    for (hash, uses) in &used.0 {
        let place = || uses.place.clone();
        let name = hex(hash);
        match fs::metadata(disk.path(hash)) {
            Ok(file) => {
                findings.files += 1;
                findings.expect(file.len() == uses.length, place, || {
                    format!("its file {name} has {} bytes, not {}", file.len(), uses.length)
                });
            }
            Err(error) => findings.expect(false, place, || format!("its file {name}: {error}")),
        }
    }
    let listed = disk.for_each_file(|hash| findings.unused_files += usize::from(!used.0.contains_key(&hash)));
    match listed {
        // Without the folder nothing is unused; what is missing was found above.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        listed => listed.map_err(MediaError::disk("list the media folder")),
    }
}

#[cfg(test)]
mod tests;

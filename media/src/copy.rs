//! Copying every file for a backup, while none is removed.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::{Disk, Hash};
use crate::error::MediaError;
use crate::media::{Inner, Media};

/// While one of these exists, no media file is removed; what became unused meanwhile is removed by a later
/// [`Media::sweep`]. See [`Media::hold_files`].
#[derive(Debug)]
pub struct HeldFiles(Arc<Inner>);

/// What [`HeldFiles::copy_to`] has copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedFiles {
    /// All files.
    pub files: u64,
    /// Those of them that are hard links and take no room of their own.
    pub links: u64,
    /// The length of all files together.
    pub bytes: u64,
}

impl Media {
    /// Keeps every file where it is until the result is dropped. Does not wait, and uploads go on.
    ///
    /// A backup takes this first, copies the rows second and the files last. Whatever a copied row names was in
    /// place before the row was committed, and is still there when the files are copied: a file is removed only if
    /// no file was held *after* its last row was seen to be gone, hence that row is not in a copy made later.
    #[must_use]
    pub fn hold_files(&self) -> HeldFiles {
        self.0.file_holds.fetch_add(1, Ordering::SeqCst);
        HeldFiles(Arc::clone(&self.0))
    }
}

impl Drop for HeldFiles {
    fn drop(&mut self) {
        self.0.file_holds.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    /// Whether files must stay. To be asked after the rows were read.
    pub(crate) fn holds_files(&self) -> bool {
        self.file_holds.load(Ordering::SeqCst) > 0
    }
}

impl HeldFiles {
    /// Copies every file into `dir`, a new media folder: as hard links where the file system can, since files never
    /// change. `progress` is told after each file and may end the work. Blocks; what was written is not synced to the
    /// disk.
    ///
    /// # Errors
    /// `Disk`: `dir` cannot be written to, or a file cannot be read (operator). `Interrupted` by `progress`. What was
    /// copied stays.
    pub fn copy_to(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(CopiedFiles) -> ControlFlow<()>,
    ) -> Result<CopiedFiles, MediaError> {
        let target = Disk::open(dir).map_err(MediaError::disk("make the folder for copies of media"))?;
        let mut hashes = Vec::new();
        let source = &self.0.disk;
        source.for_each_file(|hash| hashes.push(hash)).map_err(MediaError::disk("list the media folder"))?;
        let (mut copied, mut linking) = (CopiedFiles::default(), true);
        for hash in hashes {
            let length = match copy_file(source, &target, &hash, &mut linking) {
                // It was unused when the hold began, and its removal had begun too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                length => length.map_err(MediaError::disk("copy a media file"))?,
            };
            copied.files += 1;
            copied.links += u64::from(linking);
            copied.bytes += length;
            if progress(copied).is_break() {
                return Err(MediaError::Interrupted);
            }
        }
        Ok(copied)
    }
}

/// Copies one file and returns its length. `linking` is whether to try a hard link; after the first refusal the file
/// system is not asked again.
fn copy_file(source: &Disk, target: &Disk, hash: &Hash, linking: &mut bool) -> io::Result<u64> {
    let (from, to) = (source.path(hash), target.path(hash));
    let length = fs::metadata(&from)?.len();
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if *linking {
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => *linking = false,
            linked => return linked.map(|()| length),
        }
    }
    fs::copy(&from, &to)
}

#[cfg(test)]
mod tests;

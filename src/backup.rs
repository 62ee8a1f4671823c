//! A copy of everything in `data_dir`, made while the server runs: a `data_dir` of its own.
//!
//! Order: media files are held in place, then the database is copied as it is at one moment, then the files. So each
//! media that the copied database knows has its file; files that came later are unused there and are swept. The
//! signing key never changes. A target carries a mark until everything in it is on the disk, and a server refuses to
//! start from a marked folder: half a backup would make itself a new signing key.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use media::{CopiedFiles, Media, MediaError};
use runtime::Tasks;
use storage::Store;

use crate::assemble::{MEDIA_DIR, STORE_DIR};
use crate::signing::KEY_FILE;

/// The file that marks a folder as half a backup.
const MARK: &str = "UNFINISHED_BACKUP";
const MARK_TEXT: &str = "This backup is being written, or was not finished. Without its end it is of no use.\n";
/// A backup holds whatever users wrote and the server's key: it is for the server's own user only.
const DIR_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;
/// After so many media files it is told how far the copying is.
const REPORT_EVERY: u64 = 5_000;

/// Why there is no backup. What the target held before is never touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupFailed {
    /// The command must make it absolute: the server has a working directory of its own (ours).
    #[error("{} is not an absolute path", _0.display())]
    NotAbsolute(PathBuf),
    /// Nothing is ever overwritten (operator).
    #[error("{} is not empty", _0.display())]
    NotEmpty(PathBuf),
    /// The backup would become part of what it copies (operator).
    #[error("{} is inside of {}, which belongs to the running server", target.display(), folder.display())]
    Inside { target: PathBuf, folder: PathBuf },
    /// The target cannot be made (operator).
    #[error("cannot write to {}: {source}", target.display())]
    Target { target: PathBuf, source: io::Error },
    /// Something failed on the way (operator: disk full or damaged). What was written stays, with its mark.
    #[error("cannot {action}: {reason}; the backup in {} is unfinished: delete it", target.display())]
    Unfinished { target: PathBuf, action: &'static str, reason: String },
}

/// A backup that was made.
pub(crate) struct BackupReport {
    target: PathBuf,
    database_bytes: u64,
    media: CopiedFiles,
}

impl std::fmt::Display for BackupReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CopiedFiles { files, links, bytes } = self.media;
        write!(f, "backup written to {}: ", self.target.display())?;
        write!(f, "database ({}), {files} media files ({}", Size(self.database_bytes), Size(bytes))?;
        if links > 0 {
            write!(f, ", {links} hard links")?;
        }
        f.write_str("), signing key")
    }
}

/// A number of bytes for people.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor) {
            Some((unit, factor)) => write!(f, "{}.{} {unit}", self.0 / factor, self.0 % factor * 10 / factor),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Whether a folder is half a backup: a server must not start from it.
pub(crate) fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(MARK).exists()
}

/// What is copied.
#[derive(Clone, Debug)]
pub(crate) struct BackupSource {
    pub(crate) data_dir: Arc<Path>,
    pub(crate) store: Store,
    pub(crate) media: Media,
    /// Whose shutdown ends the work.
    pub(crate) tasks: Tasks,
}

impl BackupSource {
    /// Writes a backup into `target`, a new or empty folder, and tells `report` what it is doing. Blocks.
    ///
    /// # Errors
    /// See [`BackupFailed`].
    pub(crate) fn copy_to(&self, target: &Path, report: &dyn Fn(String)) -> Result<BackupReport, BackupFailed> {
        self.check_target(target)?;
        let failed = |source| BackupFailed::Target { target: target.to_owned(), source };
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(target).map_err(failed)?;
        if fs::read_dir(target).map_err(failed)?.next().is_some() {
            return Err(BackupFailed::NotEmpty(target.to_owned()));
        }
        let mut mark = match File::create_new(target.join(MARK)) {
            // Another backup into the same folder was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupFailed::NotEmpty(target.to_owned()));
            }
            mark => mark.map_err(failed)?,
        };
        let action = Cell::new("write the mark of an unfinished backup");
        let copied = mark
            .write_all(MARK_TEXT.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|()| self.copy_parts(target, &action, report));
        copied.map_err(|reason| BackupFailed::Unfinished { target: target.to_owned(), action: action.get(), reason })
    }

    fn copy_parts(
        &self,
        target: &Path,
        action: &Cell<&'static str>,
        report: &dyn Fn(String),
    ) -> Result<BackupReport, String> {
        let describe = |error: io::Error| error.to_string();
        // Before the database, see above.
        let held = self.media.hold_files();
        action.set("copy the database");
        report("copying the database".to_owned());
        self.store.backup(&target.join(STORE_DIR)).map_err(|error| error.to_string())?;
        let database_bytes = sum_lengths(&target.join(STORE_DIR)).map_err(describe)?;
        action.set("copy the media");
        report("copying the media".to_owned());
        let mut progress = |copied: CopiedFiles| {
            if copied.files.is_multiple_of(REPORT_EVERY) {
                report(format!("copied {} media files ({})", copied.files, Size(copied.bytes)));
            }
            if self.tasks.is_shutting_down() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let media =
            held.copy_to(&target.join(MEDIA_DIR), &mut progress).map_err(|error: MediaError| error.to_string())?;
        drop(held);
        action.set("copy the signing key");
        copy_signing_key(&self.data_dir.join(KEY_FILE), &target.join(KEY_FILE)).map_err(describe)?;
        action.set("write the backup to the disk");
        report("writing to the disk".to_owned());
        let folder = File::open(target).map_err(describe)?;
        // One call for all files and folders, instead of one for each.
        rustix::fs::syncfs(&folder).map_err(|error| error.to_string())?;
        fs::remove_file(target.join(MARK)).and_then(|()| folder.sync_all()).map_err(describe)?;
        Ok(BackupReport { target: target.to_owned(), database_bytes, media })
    }

    fn check_target(&self, target: &Path) -> Result<(), BackupFailed> {
        if !target.is_absolute() {
            return Err(BackupFailed::NotAbsolute(target.to_owned()));
        }
        // The part of the path that exists, without symbolic links.
        let Some(existing) = target.ancestors().find_map(|folder| folder.canonicalize().ok()) else { return Ok(()) };
        for folder in [STORE_DIR, MEDIA_DIR].map(|name| self.data_dir.join(name)) {
            if folder.canonicalize().is_ok_and(|folder| existing.starts_with(folder)) {
                return Err(BackupFailed::Inside { target: target.to_owned(), folder });
            }
        }
        Ok(())
    }
}

/// A copy, not a link: the backup keeps its key whatever is done to the original.
fn copy_signing_key(from: &Path, to: &Path) -> io::Result<()> {
    let key = fs::read(from)?;
    OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(to)?.write_all(&key)
}

/// The length of all files of a folder without folders.
fn sum_lengths(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

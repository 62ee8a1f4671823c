//! Files by content: `files/<2 hex digits>/<2 hex digits>/<60 hex digits>`, written through `temp/`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::{MediaError, run_blocking};

/// The SHA-256 of a file.
pub(crate) type Hash = [u8; 32];

/// What is kept in memory before it is written to disk, in bytes. Smaller files are written in one go.
const BUFFER_BYTES: usize = 256 * 1024;

/// The media folder.
#[derive(Debug)]
pub(crate) struct Disk {
    files: PathBuf,
    temp: PathBuf,
}

/// A hash in hexadecimal.
pub(crate) fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash that a hexadecimal text stands for.
pub(crate) fn parse_hex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 64 {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}

impl Disk {
    /// The folder as it is, for reading.
    pub(crate) fn at(dir: &Path) -> Self {
        Self { files: dir.join("files"), temp: dir.join("temp") }
    }

    /// Makes the folders and removes what unfinished uploads left behind.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let disk = Self::at(dir);
        fs::create_dir_all(&disk.files)?;
        fs::create_dir_all(&disk.temp)?;
        for entry in fs::read_dir(&disk.temp)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(disk)
    }

    /// Where the file with this hash is.
    pub(crate) fn path(&self, hash: &Hash) -> PathBuf {
        let hex = hex(hash);
        let (first, rest) = hex.split_at(2);
        let (second, rest) = rest.split_at(2);
        self.files.join(first).join(second).join(rest)
    }

    /// Removes a file. One that is not there counts as removed.
    pub(crate) fn remove(&self, hash: &Hash) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls `visit` with the hash of each file.
    pub(crate) fn for_each_file(&self, mut visit: impl FnMut(Hash)) -> io::Result<()> {
        for first in fs::read_dir(&self.files)? {
            let first = first?;
            for second in fs::read_dir(first.path())? {
                let second = second?;
                for file in fs::read_dir(second.path())? {
                    let names = [first.file_name(), second.file_name(), file?.file_name()];
                    let hex: String = names.iter().map(|name| name.to_string_lossy()).collect();
                    parse_hex(&hex).into_iter().for_each(&mut visit);
                }
            }
        }
        Ok(())
    }
}

/// Receives the bytes of one file. Dropped before it is handed on, it leaves nothing behind.
#[derive(Debug)]
pub struct MediaWriter {
    disk: Arc<Disk>,
    temp: PathBuf,
    /// The temporary file, once the buffer has overflowed.
    file: Option<File>,
    buffer: Vec<u8>,
    hasher: Sha256,
    /// The first bytes, by which images are recognised.
    head: Vec<u8>,
    length: u64,
    limit: u64,
    /// Whether the temporary file may exist.
    spilled: bool,
}

/// The number of first bytes that are kept.
const HEAD_BYTES: usize = 16;

impl MediaWriter {
    /// A writer for at most `limit` bytes; `token` makes the temporary name unique.
    pub(crate) fn new(disk: Arc<Disk>, token: &str, limit: u64) -> Self {
        let temp = disk.temp.join(token);
        Self {
            disk,
            temp,
            file: None,
            buffer: Vec::new(),
            hasher: Sha256::new(),
            head: Vec::new(),
            length: 0,
            limit,
            spilled: false,
        }
    }

    /// Appends bytes. After an error, or if the future was dropped, the writer must be dropped: not cancel-safe.
    ///
    /// # Errors
    /// `TooLarge` once the bytes exceed the limit; `Disk`.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.limit {
            return Err(MediaError::TooLarge { limit: self.limit });
        }
        self.hasher.update(bytes);
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.spill().await?;
        }
        Ok(())
    }

    /// Appends everything that `reader` yields. Not cancel-safe.
    ///
    /// # Errors
    /// As [`MediaWriter::write`]; `Disk` also if reading fails.
    pub async fn write_from(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), MediaError> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = reader.read(&mut chunk).await.map_err(MediaError::disk("read the upload"))?;
            if count == 0 {
                return Ok(());
            }
            self.write(chunk.get(..count).unwrap_or_default()).await?;
        }
    }

    /// How many bytes it takes at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many bytes have been written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The first bytes, at most 16.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    async fn spill(&mut self) -> Result<(), MediaError> {
        let (temp, file, mut buffer) = (self.temp.clone(), self.file.take(), std::mem::take(&mut self.buffer));
        self.spilled = true;
        let (file, buffer) = run_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => File::create_new(&temp).map_err(MediaError::disk("create a media file"))?,
            };
            file.write_all(&buffer).map_err(MediaError::disk("write a media file"))?;
            buffer.clear();
            Ok((file, buffer))
        })
        .await?;
        self.file = Some(file);
        self.buffer = buffer;
        Ok(())
    }

    /// The hash of all bytes written.
    pub(crate) fn hash(&self) -> Hash {
        self.hasher.clone().finalize().into()
    }

    /// Puts the file in its place, unless it is there already. Not cancel-safe: dropped, the file may appear.
    pub(crate) async fn place(self, hash: Hash) -> Result<(), MediaError> {
        run_blocking(move || self.place_blocking(&hash)).await
    }

    fn place_blocking(mut self, hash: &Hash) -> Result<(), MediaError> {
        let path = self.disk.path(hash);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == self.length) {
            return Ok(());
        }
        self.spilled = true;
        let file = match self.file.take() {
            Some(file) => file,
            None => File::create_new(&self.temp).map_err(MediaError::disk("create a media file"))?,
        };
        write_and_rename(file, &self.buffer, &self.temp, &path).map_err(MediaError::disk("write a media file"))?;
        self.spilled = false;
        Ok(())
    }
}

/// Completes a temporary file and gives it its name, durably.
fn write_and_rename(mut file: File, rest: &[u8], temp: &Path, path: &Path) -> io::Result<()> {
    file.write_all(rest)?;
    file.sync_all()?;
    let Some(folder) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let is_new = !folder.is_dir();
    fs::create_dir_all(folder)?;
    fs::rename(temp, path)?;
    File::open(folder)?.sync_all()?;
    // A new folder is durable only with the folders that name it.
    for ancestor in folder.ancestors().skip(1).take(if is_new { 2 } else { 0 }) {
        File::open(ancestor)?.sync_all()?;
    }
    Ok(())
}

impl Drop for MediaWriter {
    fn drop(&mut self) {
        if self.spilled {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

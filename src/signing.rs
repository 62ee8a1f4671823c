//! The file with the keys that sign this server's events and requests.
//!
//! A line a key, as other homeservers write it: `ed25519`, version, seed. The first line is the key in use. Each
//! further line is one that was in use before, with the time of its end in milliseconds behind the seed: it signs
//! nothing any more, but is published, so that old events can be checked.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use federation::{OldKey, OwnKeys};
use runtime::Random;
use spec::signing::SigningKey;

use crate::server::StartError;

/// The signing keys in `data_dir`.
pub(crate) const KEY_FILE: &str = "signing.key";

/// Reads the keys, or makes the first one on the first start. Whoever has one can speak in the server's name, so the
/// file is for the server's own user only.
pub(crate) fn read_signing_keys(data_dir: &Path, random: &Random) -> Result<OwnKeys, StartError> {
    let path = data_dir.join(KEY_FILE);
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            parse_keys(&text).ok_or_else(|| StartError::Part(format!("{} does not hold signing keys", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make_key(random)?;
            write_file(&path, render_key(&key).as_bytes()).map_err(failed)?;
            Ok(OwnKeys { current: Arc::new(key), old: Vec::new() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Puts a new key before those in the file, and says from when on it is used. For a server that does not run: it reads
/// the file when it starts.
pub(crate) fn rotate_signing_key(data_dir: &Path, random: &Random, now_ms: u64) -> Result<String, StartError> {
    let path = data_dir.join(KEY_FILE);
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    let text = fs::read_to_string(&path).map_err(failed)?;
    if parse_keys(&text).is_none() {
        return Err(StartError::Part(format!("{} does not hold signing keys", path.display())));
    }
    let key = make_key(random)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let ended = lines.next().map(|line| format!("{} {now_ms}\n", line.trim_end())).unwrap_or_default();
    let older: String = lines.map(|line| format!("{line}\n")).collect();
    write_file(&path, format!("{}{ended}{older}", render_key(&key)).as_bytes()).map_err(failed)?;
    Ok(key.key_id().to_owned())
}

fn make_key(random: &Random) -> Result<SigningKey, StartError> {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    SigningKey::from_seed(seed, &random.token(6)).map_err(|error| StartError::Part(error.to_string()))
}

fn parse_keys(text: &str) -> Option<OwnKeys> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (current, _) = parse_line(lines.next()?)?;
    let mut old = Vec::new();
    for line in lines {
        let (key, ended) = parse_line(line)?;
        old.push(OldKey { key_id: key.key_id().to_owned(), key: key.verify_key(), expired_ts: ended? });
    }
    Some(OwnKeys { current: Arc::new(current), old })
}

fn parse_line(line: &str) -> Option<(SigningKey, Option<u64>)> {
    let mut words = line.split_whitespace();
    let ("ed25519", version, seed) = (words.next()?, words.next()?, words.next()?) else { return None };
    let ended = words.next().map(str::parse).transpose().ok()?;
    let seed = base64::Engine::decode(&spec::hash::BASE64, seed).ok()?;
    Some((SigningKey::from_seed(seed.try_into().ok()?, version).ok()?, ended))
}

fn render_key(key: &SigningKey) -> String {
    format!("ed25519 {} {}\n", key.version(), base64::Engine::encode(&spec::hash::BASE64, key.seed()))
}

/// Written whole and made durable before it is used: a key that got lost cannot be made again.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[test]
    fn a_rotated_key_is_kept_as_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let random = Random::seeded(1);
        let first = read_signing_keys(folder.path(), &random).unwrap();
        assert!(first.old.is_empty());
        let new = rotate_signing_key(folder.path(), &random, 17).unwrap();
        rotate_signing_key(folder.path(), &random, 18).unwrap();
        let keys = read_signing_keys(folder.path(), &random).unwrap();
        assert_eq!(keys.old[0].key_id, new);
        let oldest = &keys.old[1];
        assert_eq!((&*oldest.key_id, oldest.expired_ts), (first.current.key_id(), 17));
        fs::write(folder.path().join(KEY_FILE), "ed25519 a b").unwrap();
        assert!(read_signing_keys(folder.path(), &random).is_err());
    }
}

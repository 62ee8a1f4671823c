//! The secret that signs the tokens for the media server. It outlives the program, so that participants can come back
//! after a restart; if it is lost, they only have to ask for new tokens.

use std::fs;
use std::io;
use std::path::Path;

use runtime::Random;

use crate::server::StartError;
use crate::signing::write_file;

/// The secret in `data_dir`.
const SECRET_FILE: &str = "calls.key";
/// Its length in bytes: that of the hash behind the signatures.
const LENGTH: usize = 32;

/// Reads the secret, or makes it on the first start. Whoever has it can join every call, so the file is for the server's
/// own user only.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub(super) fn read_secret(data_dir: &Path, random: &Random) -> Result<[u8; LENGTH], StartError> {
    let path = data_dir.join(SECRET_FILE);
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => <[u8; LENGTH]>::try_from(bytes)
            .map_err(|_| StartError::Part(format!("{} does not hold the secret of calls", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; LENGTH];
            random.fill(&mut secret);
            write_file(&path, &secret).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let random = Random::seeded(1);
        let secret = read_secret(folder.path(), &random).unwrap();
        assert_ne!(secret, [0; LENGTH]);
        assert_eq!(read_secret(folder.path(), &random).unwrap(), secret);
        let file = folder.path().join(SECRET_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert!(read_secret(folder.path(), &random).is_err());
    }
}

//! Password hashing: Argon2id on a bounded set of threads, so that a flood of logins cannot take the machine.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::{UserError, UsersConfig};

/// OWASP's second recommended setting for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Longest password that is hashed, in bytes: bounds the work a request can cause.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1_024;

/// A password as it is stored: the parameters stay with the hash so that they can be raised later.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
    hash: [u8; 32],
}

impl PasswordHash {
    fn compute(password: &str, salt: [u8; 16]) -> Option<Self> {
        let hash = derive(password, &salt, MEMORY_KIB, PASSES, LANES)?;
        Some(Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, hash })
    }

    fn matches(&self, password: &str) -> bool {
        derive(password, &self.salt, self.memory_kib, self.passes, self.lanes)
            .is_some_and(|hash| hash.ct_eq(&self.hash).into())
    }
}

fn derive(password: &str, salt: &[u8; 16], memory_kib: u32, passes: u32, lanes: u32) -> Option<[u8; 32]> {
    let params = Params::new(memory_kib, passes, lanes, Some(32)).ok()?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .ok()?;
    Some(out)
}

/// The threads that hash. Requests beyond the queue's bound are refused instead of piling up.
pub(crate) struct PasswordPool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

impl PasswordPool {
    pub(crate) fn new(config: &UsersConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match config.settings.password_hashing_threads {
            0 => (cores / 2).max(1),
            n => n,
        };
        Self {
            permits: Arc::new(Semaphore::new(threads)),
            waiting: AtomicUsize::new(0),
            max_waiting: config.settings.password_hashing_queue,
        }
    }

    /// Hashes `password` with `salt`. Cancel-safe: a hash already running is finished and thrown away.
    pub(crate) async fn hash(&self, password: &str, salt: [u8; 16]) -> Result<PasswordHash, UserError> {
        let password = password.to_owned();
        self.run(move || PasswordHash::compute(&password, salt))
            .await?
            .ok_or(UserError::Inconsistent("argon2 refused its parameters"))
    }

    /// Compares in constant time. `stored: None` (no such account) costs the same and is never equal, so that
    /// response times do not tell which accounts exist. Cancel-safe.
    pub(crate) async fn verify(&self, password: &str, stored: Option<PasswordHash>) -> Result<bool, UserError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let password = password.to_owned();
        self.run(move || match stored {
            Some(stored) => stored.matches(&password),
            None => PasswordHash::compute(&password, [0; 16]).is_none(),
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, UserError> {
        let _waiting = Waiting::enter(&self.waiting, self.max_waiting)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_closed| UserError::ShuttingDown)?;
        // The permit moves into the closure: dropping this future must not let a further hash start beside it.
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_join| UserError::ShuttingDown)
    }
}

/// Counts a request as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, UserError> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(UserError::Busy { retry_after_ms: 2_000 });
        }
        Ok(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

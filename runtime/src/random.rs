//! The only source of randomness.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A source of random bytes; cloning is cheap. [`Random::system`] is fit for keys and tokens.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// State of a SplitMix64 generator, shared by the clones.
    Seeded(Arc<AtomicU64>),
}

impl Random {
    /// The operating system's generator.
    pub fn system() -> Random {
        Random(Source::System)
    }

    /// A reproducible sequence, not secret. For tests.
    pub fn seeded(seed: u64) -> Random {
        Random(Source::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        match &self.0 {
            Source::System => getrandom::fill(bytes)
                .expect("getrandom(2) fails only on kernels older than 3.17, on which this program cannot start"),
            Source::Seeded(state) => {
                for chunk in bytes.chunks_mut(8) {
                    let word = next_split_mix(state).to_le_bytes();
                    for (byte, random) in chunk.iter_mut().zip(word) {
                        *byte = random;
                    }
                }
            }
        }
    }

    /// A uniformly distributed number.
    pub fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number in `0..bound`, or 0 when `bound` is 0. The bias is below `bound` / 2^64.
    pub fn below(&self, bound: u64) -> u64 {
        // The high half of a 64 x 64 bit product always fits 64 bits.
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `len` random letters and digits (5.95 bits each, unbiased).
    pub fn token(&self, len: usize) -> String {
        let mut token = String::with_capacity(len);
        let mut bytes = [0; 64];
        while token.len() < len {
            self.fill(&mut bytes);
            // 248 = 4 x 62: bytes above are dropped, so that every character is equally likely.
            let usable = bytes.iter().filter(|byte| **byte < 248);
            let letters = usable.filter_map(|byte| ALPHANUMERIC.get(usize::from(byte % 62)));
            token.extend(letters.map(|letter| char::from(*letter)).take(len - token.len()));
        }
        token
    }
}

fn next_split_mix(state: &AtomicU64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

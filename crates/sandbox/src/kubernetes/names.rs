//! UIDs and generated names: unlike any other cluster's, and without a
//! dependency on a random number generator.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// What Kubernetes generates names from: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a generated suffix.
const SUFFIX: usize = 5;

/// A source of names, seeded by the process.
#[derive(Debug)]
pub(crate) struct Names {
    seed: u64,
    next: AtomicU64,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            next: AtomicU64::new(0),
        }
    }
}

impl Names {
    /// Bytes that nobody else has.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(count.to_be_bytes());
        hash.finalize().into()
    }

    /// A version 4 UUID.
    pub(crate) fn uid(&self) -> String {
        let mut half = [0; 16];
        half.copy_from_slice(&self.bytes()[..16]);
        let bits = u128::from_be_bytes(half);
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        parts.join("-")
    }

    /// `prefix` with five letters.
    pub(crate) fn suffixed(&self, prefix: &str) -> String {
        format!("{prefix}{}", letters(&self.bytes(), SUFFIX))
    }
}

/// The first `count` bytes as letters of the safe alphabet.
pub(crate) fn letters(bytes: &[u8], count: usize) -> String {
    bytes
        .iter()
        .take(count)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

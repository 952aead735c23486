//! Bodies, checksums and hexadecimal, as all the clients compute them.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The body that a client sends as message `index` when only its size is asked for.
pub fn body(index: usize, size: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..BLOCK)
        .map(|i| ((i * 31 + index) % BLOCK) as u8)
        .collect();
    block.iter().copied().cycle().take(size).collect()
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that `text` spells; `None` unless it is pairs of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok())
        .collect()
}

/// A JSON object from pairs.
pub fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A prime, so that a piece that is lost or swapped shows in the checksum.
const BLOCK: usize = 251;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_by_index_and_repeat_after_a_block() {
        assert_eq!(body(0, 3), [0, 31, 62]);
        assert_ne!(body(0, 100), body(1, 100));
        assert_eq!(body(4, 300)[..49], body(4, 300)[251..]);
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0g"), None);
    }
}

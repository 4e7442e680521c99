//! Unit keys: the canonical bytes of a unit of randomisation and their hash.
//!
//! Buckets and resampling weights are functions of the hash alone, so it is a published number: it never changes.
//!
//! The canonical bytes are a type tag and the value: integers as 128-bit little-endian whatever their width, strings as
//! UTF-8 whatever their encoding in memory, binary as it is. The hash is XXH3-128 with a fixed seed of ours, so that
//! buckets are independent of the hash that assigned the arms.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The fixed key of the hash: "gosset" and version 1.
const SEED: u64 = 0x676f_7373_6574_0001;

const TAG_BUCKET: u8 = 0;
const TAG_INTEGER: u8 = 1;
const TAG_STRING: u8 = 2;
const TAG_BINARY: u8 = 3;

/// The hash of a unit that is an integer, of any width.
pub fn integer(value: i128) -> u128 {
    let mut bytes = [0; 17];
    bytes[0] = TAG_INTEGER;
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    xxh3_128_with_seed(&bytes, SEED)
}

/// The hash of a unit that is a string.
pub fn string(value: &str) -> u128 {
    tagged(TAG_STRING, value.as_bytes())
}

/// The hash of a unit that is binary.
pub fn binary(value: &[u8]) -> u128 {
    tagged(TAG_BINARY, value)
}

/// A pair of two crossed factors, such as a user and a title: the halves of their hashes that weights depend on.
pub fn pair(first: u128, second: u128) -> u128 {
    (first >> 64 << 64) | (second >> 64)
}

/// The key of a bucket where a bucket itself is resampled.
pub fn bucket(index: u32) -> u128 {
    tagged(TAG_BUCKET, &index.to_le_bytes())
}

/// The bucket of a unit among `buckets`, a power of two.
pub fn bucket_of(hash: u128, buckets: u32) -> u32 {
    (hash as u32) & (buckets - 1)
}

fn tagged(tag: u8, value: &[u8]) -> u128 {
    const INLINE: usize = 64;
    if value.len() < INLINE {
        let mut bytes = [0; INLINE];
        bytes[0] = tag;
        bytes[1..=value.len()].copy_from_slice(value);
        xxh3_128_with_seed(&bytes[..=value.len()], SEED)
    } else {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.push(tag);
        bytes.extend_from_slice(value);
        xxh3_128_with_seed(&bytes, SEED)
    }
}

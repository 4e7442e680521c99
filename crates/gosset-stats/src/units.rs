//! Unit keys: the canonical bytes of a unit of randomisation and their hash.
//!
//! Buckets and resampling weights are functions of the hash alone, so it is a published number: it never changes.
//!
//! The canonical bytes are a type tag and the value: integers as 128-bit little-endian whatever their width, strings as
//! UTF-8 whatever their encoding in memory, binary as it is. The hash is XXH3-128 with a fixed seed of ours, so that
//! buckets are independent of the hash that assigned the arms.

use crate::weights;

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The fixed key of the hash: "gosset" and version 1.
const SEED: u64 = 0x676f_7373_6574_0001;

const TAG_BUCKET: u8 = 0;
const TAG_INTEGER: u8 = 1;
const TAG_STRING: u8 = 2;
const TAG_BINARY: u8 = 3;

/// The hash of a unit that is an integer, of any width.
///
/// XXH3-128 of 17 bytes, written out: where rows are many and units are integers, hashing them is most of the work that
/// is not reading, and the library's form for any length takes three times as long.
#[inline]
pub fn integer(value: i128) -> u128 {
    const LENGTH: u64 = 17;
    const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
    const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
    /// The first words of the algorithm's secret.
    const SECRET: [u64; 4] = [
        0xbe4b_a423_396c_feb8,
        0x1cad_21f7_2c81_017c,
        0xdb97_9083_e96d_d4de,
        0x1f67_b3b7_a4a4_4072,
    ];
    let mix = |low: u64, high: u64, secret: [u64; 2]| {
        let low = low ^ secret[0].wrapping_add(SEED);
        let high = high ^ secret[1].wrapping_sub(SEED);
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    };
    let avalanche = |mut hash: u64| {
        hash ^= hash >> 37;
        hash = hash.wrapping_mul(0x1656_6791_9e37_79f9);
        hash ^ hash >> 32
    };
    // The first 16 bytes, tag and all, and the last 16, the value.
    let first = (value as u128) << 8 | u128::from(TAG_INTEGER);
    let (first, last) =
        ([first as u64, (first >> 64) as u64], [value as u64, (value >> 64) as u64]);
    let low =
        LENGTH.wrapping_mul(PRIME_1).wrapping_add(mix(first[0], first[1], [SECRET[0], SECRET[1]]))
            ^ last[0].wrapping_add(last[1]);
    let high = mix(last[0], last[1], [SECRET[2], SECRET[3]]) ^ first[0].wrapping_add(first[1]);
    let sum = low.wrapping_add(high);
    let product = low
        .wrapping_mul(PRIME_1)
        .wrapping_add(high.wrapping_mul(PRIME_4))
        .wrapping_add(LENGTH.wrapping_sub(SEED).wrapping_mul(PRIME_2));
    u128::from(avalanche(product).wrapping_neg()) << 64 | u128::from(avalanche(sum))
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

/// The fold of a unit, from 0 to `folds − 1`: a pure function of seed and unit, independent of buckets and of weights.
///
/// The first eight bytes of the unit's random block at the counter [`FOLD`], as a fraction of the folds.
pub fn fold_of(hash: u128, folds: u32, seed: u64) -> u32 {
    let block = weights::block(seed, (hash >> 64) as u64, FOLD);
    let draw = block.iter().take(8).rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    ((u128::from(draw) * u128::from(folds)) >> 64) as u32
}

/// Beyond all replicates.
pub const FOLD: u64 = 0x666f_6c64 << 32;

/// Two hashes as one, which depends on their order: the finaliser of splitmix64.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folds_are_those_of_an_independent_implementation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/weights/expected.json");
        let text = std::fs::read_to_string(path).expect("golden numbers");
        let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let cases = golden["folds"].as_array().expect("a list");
        assert!(!cases.is_empty());
        for case in cases {
            let hash = u128::from_str_radix(case["hash"].as_str().expect("text"), 16);
            let seed = case["seed"].as_str().expect("text").parse().expect("a number");
            for (k, fold) in case["folds"].as_object().expect("an object") {
                let k = k.parse().expect("a number");
                let found = fold_of(hash.clone().expect("a hash"), k, seed);
                assert_eq!(Some(u64::from(found)), fold.as_u64(), "{case}");
            }
        }
    }

    #[test]
    fn folds_are_equally_frequent_and_independent_of_buckets() {
        let mut counts = [[0i32; 2]; 5];
        for i in 0..20_000 {
            let hash = integer(i);
            counts[fold_of(hash, 5, 0) as usize][bucket_of(hash, 2) as usize] += 1;
        }
        // 2000 each, with a standard deviation of 42.
        assert!(counts.iter().flatten().all(|count| (count - 2000).abs() < 5 * 42), "{counts:?}");
    }

    proptest! {
        #[test]
        fn integers_are_hashed_as_the_library_does(value in any::<i128>(), shift in 0u32..128) {
            for value in [value, value >> shift] {
                prop_assert_eq!(integer(value), tagged(TAG_INTEGER, &value.to_le_bytes()));
            }
        }
    }
}

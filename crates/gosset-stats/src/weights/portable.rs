//! The weights in plain code.

use aes::Block;
use aes::hazmat::cipher_round;

use super::{HIGH, LOW, ROUND_KEYS, Row, TABLE, TILE_ORDER, TILE_REPLICATES, WEIGHTS};

/// The constant and the seed's key, which every block starts with; the mark tells laws and factors apart.
pub(super) fn whitening(seed: u64, mark: u64) -> [u8; 16] {
    let key = rounds(xor(block(seed, mark), ROUND_KEYS[0]));
    xor(ROUND_KEYS[0], key)
}

/// The weights of replicates `0..out.len()`.
pub(super) fn fill(whitening: [u8; 16], key: u64, out: &mut [u8]) {
    fill_from::<WEIGHTS>(whitening, key, 0, out);
}

/// The weights of replicates from `16·pair` on, or the bytes of their draws.
fn fill_from<const OF: u8>(whitening: [u8; 16], key: u64, pair: u64, out: &mut [u8]) {
    for (pair, weights) in (pair..).zip(out.chunks_mut(16)) {
        let high = random(whitening, key, 2 * pair);
        let low = random(whitening, key, 2 * pair + 1);
        for (out, (&high, &low)) in weights.iter_mut().zip(high.iter().zip(&low)) {
            *out = match OF {
                HIGH => high,
                LOW => low,
                _ => weight(high, low),
            };
        }
    }
}

/// A random block.
pub(super) fn random(whitening: [u8; 16], key: u64, counter: u64) -> [u8; 16] {
    rounds(xor(block(key, counter), whitening))
}

/// Two rows of a tile for every four units.
pub(super) fn tile<const OF: u8>(
    whitening: [u8; 16],
    quads: &[[u64; 4]],
    t: u64,
    rows: &mut [[Row; 2]],
) {
    for (keys, rows) in quads.iter().zip(rows) {
        for (u, &key) in keys.iter().enumerate() {
            let mut weights = [0; TILE_REPLICATES];
            fill_from::<OF>(whitening, key, 2 * t, &mut weights);
            for (place, &replicate) in TILE_ORDER.iter().enumerate() {
                rows[u / 2][2 * place + u % 2] = weights[usize::from(replicate)];
            }
        }
    }
}

/// The weight of a draw of 16 bits.
pub(super) fn weight(high: u8, low: u8) -> u8 {
    let column = TABLE[usize::from(high >> 4)];
    let draw = u16::from(high & 15) << 8 | u16::from(low);
    if draw < column.threshold { column.base } else { column.alias }
}

/// The bytes of the draws of replicates `0..high.len()`.
pub(super) fn draws(whitening: [u8; 16], key: u64, high: &mut [u8], low: &mut [u8]) {
    fill_from::<HIGH>(whitening, key, 0, high);
    fill_from::<LOW>(whitening, key, 0, low);
}

fn block(low: u64, high: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn xor(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
    (u128::from_le_bytes(a) ^ u128::from_le_bytes(b)).to_le_bytes()
}

fn rounds(block: [u8; 16]) -> [u8; 16] {
    let mut state = Block::from(block);
    for key in &ROUND_KEYS[1..] {
        cipher_round(&mut state, &Block::from(*key));
    }
    state.into()
}

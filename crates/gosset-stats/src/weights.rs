//! Resampling weights that are a pure function of seed, unit and replicate.
//!
//! The weights of the Poisson bootstrap: draws of a law that is Poisson(1) up to 16 bits (mean 1 and variance 1
//! exactly, total variation 3.7e-5), keyed by unit, so that every machine, thread and day draws the same. They are
//! published numbers: a change of any of them is value-breaking.
//!
//! A block of 16 bytes is `(upper half of the unit's hash ‖ counter)`, whitened with a constant and with the seed's
//! key, then five rounds of AES. Blocks `2p` and `2p + 1` hold the high and the low bytes of the 16-bit draws of
//! replicates `16p` to `16p + 15`; a draw picks one of 16 columns of an alias table by its top 4 bits and decides between
//! the two values of the column by the other 12.

use aes::Block;
use aes::hazmat::cipher_round;

/// Counts out of 65536 of the weights 0 to 8.
const LAW: [u32; 9] = [24109, 24110, 12055, 4017, 1005, 201, 34, 4, 1];

/// Constants of the rounds: SHAKE-128 of "gosset bootstrap weights v1".
const ROUND_KEYS: [[u8; 16]; 6] = include!("weights_keys.in");

/// What marks the block that a seed's key is made of.
const SEED_MARK: u64 = 0x7365_6564;

/// One column of the alias table: draws below the threshold give `base`, the others `alias`.
#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: u16,
    base: u8,
    alias: u8,
}

const TABLE: [Column; 16] = alias_table();

const fn alias_table() -> [Column; 16] {
    let mut left = LAW;
    let mut table = [Column { threshold: 0, base: 0, alias: 0 }; 16];
    let mut c = 0;
    while c < 16 {
        let (mut low, mut high) = (LAW.len(), 0);
        let mut i = 0;
        while i < LAW.len() {
            if left[i] > 0 && (low == LAW.len() || left[i] < left[low]) {
                low = i;
            }
            if left[i] > left[high] {
                high = i;
            }
            i += 1;
        }
        if left[low] >= 4096 {
            low = high;
        }
        let taken = if left[low] < 4096 { left[low] } else { 4096 };
        left[low] -= taken;
        left[high] -= 4096 - taken;
        table[c] = Column { threshold: (4096 - taken) as u16, base: high as u8, alias: low as u8 };
        c += 1;
    }
    table
}

/// The Poisson weights of one seed.
#[derive(Debug, Clone, Copy)]
pub struct PoissonWeights {
    whitening: [u8; 16],
}

impl PoissonWeights {
    /// The weights of a seed.
    pub fn new(seed: u64) -> Self {
        let key = rounds(xor(block(seed, SEED_MARK), ROUND_KEYS[0]));
        Self { whitening: xor(ROUND_KEYS[0], key) }
    }

    /// Writes the weights of replicates `0..out.len()` of the unit with this hash.
    pub fn fill(&self, unit: u128, out: &mut [u8]) {
        let unit = (unit >> 64) as u64;
        for (pair, weights) in out.chunks_mut(16).enumerate() {
            let counter = 2 * pair as u64;
            let high = rounds(xor(block(unit, counter), self.whitening));
            let low = rounds(xor(block(unit, counter + 1), self.whitening));
            for (weight, (&high, &low)) in weights.iter_mut().zip(high.iter().zip(&low)) {
                let column = TABLE[usize::from(high >> 4)];
                let draw = u16::from(high & 15) << 8 | u16::from(low);
                *weight = if draw < column.threshold { column.base } else { column.alias };
            }
        }
    }
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

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn alias_table_holds_the_law() {
        let mut counts = [0u32; 9];
        for column in TABLE {
            counts[usize::from(column.base)] += u32::from(column.threshold);
            counts[usize::from(column.alias)] += 4096 - u32::from(column.threshold);
        }
        assert_eq!(counts, LAW);
        let moment = |k: i32| -> f64 {
            LAW.iter().enumerate().map(|(w, &c)| f64::from(c) * (w as f64).powi(k)).sum::<f64>()
                / 65536.0
        };
        assert_eq!(moment(1), 1.0);
        assert_eq!(moment(2), 2.0);
    }

    #[test]
    fn weights_have_mean_and_variance_one_over_units_and_replicates() {
        let weights = PoissonWeights::new(1);
        let (units, replicates) = (2000, 500);
        let mut draws = vec![0u8; replicates];
        let (mut sum, mut squares) = (0u64, 0u64);
        for unit in 0..units {
            weights.fill(crate::units::integer(unit), &mut draws);
            sum += draws.iter().map(|&w| u64::from(w)).sum::<u64>();
            squares += draws.iter().map(|&w| u64::from(w).pow(2)).sum::<u64>();
        }
        let n = (units as usize * replicates) as f64;
        // Standard errors: sd(w) = 1 and sd(w²) = √(E w⁴ − 4) = √11.
        assert!((sum as f64 / n - 1.0).abs() < 5.0 / n.sqrt());
        assert!((squares as f64 / n - 2.0).abs() < 5.0 * (11.0 / n).sqrt());
    }

    #[test]
    fn fewer_replicates_are_a_prefix() {
        let weights = PoissonWeights::new(7);
        let (mut few, mut many) = ([0; 21], [0; 64]);
        weights.fill(42, &mut few);
        weights.fill(42, &mut many);
        assert_eq!(few, many[..21]);
    }
}

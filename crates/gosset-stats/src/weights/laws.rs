//! The laws of the weights, and the weights of any of them.
//!
//! Draws of laws other than Poisson come from blocks of the same construction under keys of their own. They are made by
//! one code for all machines, whose rounds use the instructions of the processor where it has them.

use std::sync::LazyLock;

use aes::Block;
use aes::hazmat::{Block8, cipher_round_par};

use crate::summary::{Reader, Writer};
use crate::{Error, Result};

use super::{
    PoissonWeights, ROUND_KEYS, SEED_MARK, TILE_REPLICATES, TILE_UNITS, Tile, key_of, portable,
};

/// The law of the weights of a unit: those of bootstraps all have mean 1 and variance 1 exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Law {
    /// Poisson with mean 1, to 16 bits: 0 to 8 with total variation 3.7e-5. Its third central moment is 1, so that
    /// replicates are as skewed as the estimate.
    #[default]
    Poisson,
    /// 0 or 2 with probability ½ each (Owen and Eckles 2012). The weights are symmetric: good for standard errors,
    /// while percentile intervals do not follow the skewness of the data.
    DoubleOrNothing,
    /// Exponential with mean 1, the weights of the Bayesian bootstrap (Rubin 1981): multiples of 1/16 from 0 to
    /// 189/16. The share of `k/16` is the count of `k` in `exponential.in` out of 65536: of the quantiles
    /// `−ln((u + ½)/65536)` rounded to sixteenths, 272 are moved by one step so that mean and variance are 1. Third
    /// central moment 2 (exponential: 2).
    Bayesian,
    /// Not weights but a new assignment of every unit: 1 with this probability out of 65536, else 0. For tests by
    /// randomisation.
    Assignment(u16),
}

impl Law {
    /// Every law of bootstrap weights.
    pub const ALL: [Self; 3] = [Self::Poisson, Self::DoubleOrNothing, Self::Bayesian];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::DoubleOrNothing => "double_or_nothing",
            Self::Bayesian => "bayesian",
            Self::Assignment(_) => "assignment",
        }
    }

    /// Its number, which is part of the stored form.
    fn number(self) -> u8 {
        match self {
            Self::Poisson => 1,
            Self::DoubleOrNothing => 2,
            Self::Bayesian => 3,
            Self::Assignment(_) => 4,
        }
    }

    pub(crate) fn write(self, out: &mut Writer) {
        out.u8(self.number());
        if let Self::Assignment(share) = self {
            out.varint(share.into());
        }
    }

    /// Reads what follows the number.
    pub(crate) fn read(number: u8, bytes: &mut Reader<'_>) -> Result<Self> {
        match number {
            1 => Ok(Self::Poisson),
            2 => Ok(Self::DoubleOrNothing),
            3 => Ok(Self::Bayesian),
            4 => match u16::try_from(bytes.varint()?) {
                Ok(share) if share > 0 => Ok(Self::Assignment(share)),
                _ => Err(Error::Damaged("the share of an assignment is out of range".into())),
            },
            other => {
                Err(Error::Mismatch(format!("law {other} of weights is not known to this version")))
            }
        }
    }

    /// Weights are drawn in units of `2^-scale`.
    pub fn scale(self) -> u32 {
        match self {
            Self::Poisson | Self::DoubleOrNothing | Self::Assignment(_) => 0,
            Self::Bayesian => 4,
        }
    }

    /// The largest weight, in its units.
    pub(crate) fn largest(self) -> u16 {
        match self {
            Self::Poisson => 8,
            Self::DoubleOrNothing => 2,
            Self::Assignment(_) => 1,
            Self::Bayesian => EXPONENTIAL.len() as u16 - 1,
        }
    }
}

/// Counts out of 65536 of the sixteenths of exponential weights.
const EXPONENTIAL: [u16; 190] = include!("exponential.in");

/// The sixteenths of every draw of 16 bits.
static SIXTEENTHS: LazyLock<Box<[u8; 1 << 16]>> = LazyLock::new(|| {
    let mut table = Box::new([0; 1 << 16]);
    let weights = (0u8..).zip(EXPONENTIAL);
    let draws = weights.flat_map(|(weight, count)| std::iter::repeat_n(weight, count.into()));
    table.iter_mut().zip(draws).for_each(|(entry, weight)| *entry = weight);
    table
});

/// The bits of a byte as the even bytes of a word, 0 or 2 each.
const SPREAD: [u128; 256] = {
    let mut spread = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            spread[byte] |= ((byte as u128 >> bit) & 1) << (16 * bit + 1);
            bit += 1;
        }
        byte += 1;
    }
    spread
};

/// The weights of one law and seed, for one of the factors that units are made of.
#[derive(Debug, Clone, Copy)]
pub struct Weights(Inner);

#[derive(Debug, Clone, Copy)]
enum Inner {
    Poisson(PoissonWeights),
    DoubleOrNothing(Blocks),
    /// Draws of 16 bits, whose weights are in a table.
    Draws(Blocks, &'static [u8; 1 << 16]),
    Assignment(Blocks, u16),
}

impl Weights {
    /// The weights of a seed.
    pub fn new(law: Law, seed: u64) -> Self {
        Self::of_factor(law, seed, 0)
    }

    /// The weights of a seed for the `factor`-th of crossed factors, independent of those of the others.
    pub fn of_factor(law: Law, seed: u64, factor: u8) -> Self {
        let mark = SEED_MARK | u64::from(law.number() - 1) << 32 | u64::from(factor) << 40;
        let blocks = Blocks { whitening: portable::whitening(seed, mark) };
        Self(match law {
            Law::Poisson => Inner::Poisson(PoissonWeights::marked(seed, mark)),
            Law::DoubleOrNothing => Inner::DoubleOrNothing(blocks),
            Law::Bayesian => Inner::Draws(blocks, &SIXTEENTHS),
            Law::Assignment(share) => Inner::Assignment(blocks, share),
        })
    }

    /// Writes the weights of replicates `0..out.len()` of the unit with this hash, in units of `2^-scale` of the law.
    pub fn fill(&self, unit: u128, out: &mut [u8]) {
        match self.0 {
            Inner::Poisson(weights) => weights.fill(unit, out),
            Inner::DoubleOrNothing(blocks) => {
                for (counter, out) in (0..).zip(out.chunks_mut(128)) {
                    let bits = u128::from_le_bytes(blocks.one(key_of(unit), counter));
                    (0..).zip(out).for_each(|(b, out)| *out = 2 * (bits >> b & 1) as u8);
                }
            }
            Inner::Draws(blocks, table) => {
                blocks.draws(key_of(unit), out, |draw| table[usize::from(draw)]);
            }
            Inner::Assignment(blocks, share) => {
                blocks.draws(key_of(unit), out, |draw| u8::from(draw < share));
            }
        }
    }

    /// As [`PoissonWeights::tile`], in units of `2^-scale` of the law.
    pub(crate) fn tile(&self, keys: &[u64], t: u64, tile: &mut Tile) {
        match self.0 {
            Inner::Poisson(weights) => weights.tile(keys, t, tile),
            Inner::DoubleOrNothing(blocks) => blocks.coins(keys, t, tile),
            Inner::Draws(blocks, table) => {
                blocks.tile_of_draws(keys, t, tile, |draw| table[usize::from(draw)]);
            }
            Inner::Assignment(blocks, share) => {
                blocks.tile_of_draws(keys, t, tile, |draw| u8::from(draw < share));
            }
        }
    }
}

/// Random blocks of units.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    whitening: [u8; 16],
}

impl Blocks {
    fn one(self, key: u64, counter: u64) -> [u8; 16] {
        self.eight([(key, counter); 8])[0]
    }

    /// The blocks of eight keys and counters.
    fn eight(self, places: [(u64, u64); 8]) -> [[u8; 16]; 8] {
        let whitening = u128::from_le_bytes(self.whitening);
        let mut blocks = Block8::from_fn(|i| {
            let (key, counter) = places[i];
            let block = u128::from(counter) << 64 | u128::from(key);
            Block::from((block ^ whitening).to_le_bytes())
        });
        for key in &ROUND_KEYS[1..] {
            cipher_round_par(&mut blocks, &Block8::from_fn(|_| Block::from(*key)));
        }
        std::array::from_fn(|i| blocks[i].into())
    }

    /// A bit for every replicate: a block has those of four tiles.
    fn coins(self, keys: &[u64], t: u64, tile: &mut Tile) {
        assert!(keys.len() <= TILE_UNITS, "a tile has {TILE_UNITS} units, not {}", keys.len());
        let start = 4 * (t % 4) as usize;
        for (keys, rows) in keys.chunks(8).zip(tile.0.chunks_mut(4)) {
            let blocks =
                self.eight(std::array::from_fn(|u| (keys.get(u).map_or(0, |k| *k), t / 4)));
            for (pair, row) in blocks.chunks(2).zip(rows).take(keys.len() / 2) {
                // The eights of a row, see `TILE_ORDER`.
                for (eight, out) in [0, 2, 1, 3].into_iter().zip(row.as_chunks_mut::<16>().0) {
                    let [even, odd] = [0, 1].map(|u| SPREAD[usize::from(pair[u][start + eight])]);
                    *out = (even | odd << 8).to_le_bytes();
                }
            }
        }
    }

    /// The weights of draws of 16 bits, a unit's: the high bytes of sixteen in a block, and the low ones in the next.
    fn draws(self, key: u64, out: &mut [u8], weight: impl Fn(u16) -> u8) {
        for (pair, out) in (0..).zip(out.chunks_mut(16)) {
            let [high, low] = [0, 1].map(|half| self.one(key, 2 * pair + half));
            for (out, (&high, &low)) in out.iter_mut().zip(high.iter().zip(&low)) {
                *out = weight(u16::from_le_bytes([low, high]));
            }
        }
    }

    /// As [`draws`](Self::draws), for a tile.
    #[inline]
    fn tile_of_draws(self, keys: &[u64], t: u64, tile: &mut Tile, weight: impl Fn(u16) -> u8) {
        assert!(keys.len() <= TILE_UNITS, "a tile has {TILE_UNITS} units, not {}", keys.len());
        for (keys, row) in keys.chunks(2).zip(&mut tile.0) {
            let blocks = self.eight(std::array::from_fn(|i| {
                (keys.get(i / 4).map_or(0, |k| *k), 4 * t + (i % 4) as u64)
            }));
            for (u, blocks) in blocks.chunks(4).enumerate() {
                let mut weights = [0; TILE_REPLICATES];
                for (i, drawn) in weights.iter_mut().enumerate() {
                    let pair = 2 * (i / 16);
                    let draw = [blocks[pair + 1][i % 16], blocks[pair][i % 16]];
                    *drawn = weight(u16::from_le_bytes(draw));
                }
                for (place, &replicate) in super::TILE_ORDER.iter().enumerate() {
                    row[2 * place + u] = weights[usize::from(replicate)];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;
    use crate::weights::TILE_ORDER;

    #[test]
    fn the_exponential_law_has_mean_and_variance_one() {
        assert_eq!(EXPONENTIAL.iter().map(|&c| u32::from(c)).sum::<u32>(), 1 << 16);
        let moment = |k: i32| -> f64 {
            let terms = EXPONENTIAL.iter().enumerate();
            terms.map(|(w, &c)| f64::from(c) * (w as f64 / 16.0).powi(k)).sum::<f64>() / 65536.0
        };
        assert_eq!((moment(1), moment(2)), (1.0, 2.0));
        assert!((moment(3) - 6.0).abs() < 0.01, "{}", moment(3));
        // Nowhere further from exp(−x) than half a step.
        let mut above = 65536.0;
        for (w, &count) in EXPONENTIAL.iter().enumerate() {
            above -= f64::from(count);
            let exact = (-(w as f64 + 0.5) / 16.0).exp();
            assert!((above / 65536.0 - exact).abs() < 3e-4, "{w}: {above} {exact}");
        }
    }

    #[test]
    fn tiles_hold_the_weights_of_their_units() {
        let hashes: Vec<u128> = (0..64).map(units::integer).collect();
        let keys: Vec<u64> = hashes.iter().map(|&hash| key_of(hash)).collect();
        for law in Law::ALL.into_iter().chain([Law::Assignment(6554)]) {
            let weights = Weights::of_factor(law, 3, 1);
            for (count, t) in [(64, 0), (64, 31), (12, 1), (4, 3124), (0, 2)] {
                let mut tile = Tile::new();
                weights.tile(&keys[..count], t, &mut tile);
                let mut row = vec![0; (t as usize + 1) * TILE_REPLICATES];
                for (u, &hash) in hashes.iter().enumerate() {
                    if u < count {
                        weights.fill(hash, &mut row);
                    } else {
                        row.fill(0);
                    }
                    for (place, &replicate) in TILE_ORDER.iter().enumerate() {
                        let expected = row[t as usize * TILE_REPLICATES + usize::from(replicate)];
                        assert_eq!(tile.0[u / 2][2 * place + u % 2], expected, "{law:?}");
                    }
                }
            }
        }
    }

    /// The published numbers, made by another implementation.
    #[test]
    fn every_law_draws_the_golden_weights() {
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/weights/laws.json"
        ));
        let golden: serde_json::Value = serde_json::from_str(golden).expect("a golden file");
        for case in golden["cases"].as_array().expect("cases") {
            let text = |name: &str| case[name].as_str().expect(name);
            let all = Law::ALL.into_iter().chain([Law::Assignment(6554)]);
            let law = all.into_iter().find(|law| law.name() == text("law")).expect("a law");
            let hash = u128::from_str_radix(text("hash"), 16).expect("a hash");
            let factor = case["factor"].as_u64().expect("a factor") as u8;
            let seed = text("seed").parse().expect("a seed");
            let expected: Vec<u64> = case["weights"]
                .as_array()
                .expect("weights")
                .iter()
                .flat_map(|w| w.as_u64())
                .collect();
            let mut row = vec![0; expected.len()];
            Weights::of_factor(law, seed, factor).fill(hash, &mut row);
            let found: Vec<u64> = row.into_iter().map(u64::from).collect();
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn factors_and_laws_draw_independently() {
        let n = 20_000;
        let draw = |law, factor| {
            let weights = Weights::of_factor(law, 5, factor);
            let mut out = vec![0; n];
            weights.fill(units::integer(1), &mut out);
            let scale = f64::from(1u32 << law.scale());
            out.into_iter().map(|w| f64::from(w) / scale - 1.0).collect::<Vec<f64>>()
        };
        let all: Vec<Vec<f64>> =
            Law::ALL.into_iter().flat_map(|law| [0, 1].map(|factor| draw(law, factor))).collect();
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                let covariance = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                // The product of two independent weights has variance 1.
                assert!(covariance.abs() < 5.0 / (n as f64).sqrt(), "{covariance}");
            }
        }
    }
}

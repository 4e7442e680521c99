//! The laws of the weights, and the weights of any of them.
//!
//! Draws of laws other than Poisson come from blocks of the same construction under keys of their own, by the same engines:
//! these give the bytes of the draws, and what a draw weighs is the same code for all machines.

use std::ops::Range;
use std::sync::LazyLock;

use crate::summary::{Reader, Writer};
use crate::{Error, Result};

use super::{
    Engine, HIGH, LOW, PoissonWeights, Row, SEED_MARK, TILE_UNITS, Tile, Units, key_of, portable,
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

/// Rows whose low bytes are drawn at a time: few, as bins often have few units, and all are cleared first.
const LOW_ROWS: usize = 16;

/// The weights of one law and seed, for one of the factors that units are made of.
#[derive(Debug, Clone, Copy)]
pub struct Weights(pub(super) Inner);

#[derive(Debug, Clone, Copy)]
pub(super) enum Inner {
    Poisson(PoissonWeights),
    /// Draws of 16 bits and what they weigh.
    Draws(Draws, Weigh),
}

/// What a draw weighs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Weigh {
    /// Twice a bit.
    Coin,
    /// By a table.
    Table(&'static [u8; 1 << 16]),
    /// Whether it is below.
    Below(u16),
}

impl Weights {
    /// The weights of a seed.
    pub fn new(law: Law, seed: u64) -> Self {
        Self::of_factor(law, seed, 0)
    }

    /// The weights of a seed for the `factor`-th of crossed factors, independent of those of the others.
    pub fn of_factor(law: Law, seed: u64, factor: u8) -> Self {
        let mark = SEED_MARK | u64::from(law.number() - 1) << 32 | u64::from(factor) << 40;
        let draws = Draws { whitening: portable::whitening(seed, mark), engine: Engine::best() };
        Self(match law {
            Law::Poisson => Inner::Poisson(PoissonWeights::marked(seed, mark)),
            Law::DoubleOrNothing => Inner::Draws(draws, Weigh::Coin),
            Law::Bayesian => Inner::Draws(draws, Weigh::Table(&SIXTEENTHS)),
            Law::Assignment(share) => Inner::Draws(draws, Weigh::Below(share)),
        })
    }

    /// Writes the weights of replicates `0..out.len()` of the unit with this hash, in units of `2^-scale` of the law.
    pub fn fill(&self, unit: u128, out: &mut [u8]) {
        match self.0 {
            Inner::Poisson(weights) => weights.fill(unit, out),
            Inner::Draws(draws, weigh) => {
                let mut low = vec![0; out.len()];
                portable::draws(draws.whitening, key_of(unit), out, &mut low);
                weigh.all(out, &low);
            }
        }
    }

    /// As [`PoissonWeights::tile`], in units of `2^-scale` of the law.
    pub(crate) fn tile(&self, units: &Units, range: Range<usize>, t: u64, tile: &mut Tile) {
        match self.0 {
            Inner::Poisson(weights) => weights.tile(units, range, t, tile),
            Inner::Draws(Draws { whitening, engine }, weigh) => {
                assert!(range.len() <= TILE_UNITS, "{} units in a tile", range.len());
                let mut low = [[0; size_of::<Row>()]; LOW_ROWS];
                let starts = range.clone().step_by(2 * LOW_ROWS);
                for (start, rows) in starts.zip(tile.0.chunks_mut(LOW_ROWS)) {
                    let range = start..range.end.min(start + 2 * LOW_ROWS);
                    engine.rows::<HIGH>(whitening, units, range.clone(), t, rows);
                    if !matches!(weigh, Weigh::Coin) {
                        engine.rows::<LOW>(whitening, units, range.clone(), t, &mut low);
                    }
                    for (row, low) in rows.iter_mut().zip(&low).take(range.len() / 2) {
                        weigh.all(row, low);
                    }
                }
            }
        }
    }

    /// What its draws are made of, and by what.
    pub(super) fn source(&self) -> ([u8; 16], Engine) {
        match self.0 {
            Inner::Poisson(weights) => (weights.whitening, weights.engine),
            Inner::Draws(draws, _) => (draws.whitening, draws.engine),
        }
    }
}

/// Random draws of units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    whitening: [u8; 16],
    engine: Engine,
}

impl Weigh {
    /// The weights in place of the high bytes of their draws.
    #[inline]
    fn all(self, high: &mut [u8], low: &[u8]) {
        let draws = high.iter_mut().zip(low);
        match self {
            Self::Coin => high.iter_mut().for_each(|high| *high = (*high & 1) << 1),
            Self::Table(table) => draws.for_each(|(high, &low)| {
                *high = table[usize::from(u16::from_le_bytes([low, *high]))];
            }),
            Self::Below(share) => draws.for_each(|(high, &low)| {
                *high = u8::from(u16::from_le_bytes([low, *high]) < share);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;
    use crate::weights::{TILE_ORDER, TILE_REPLICATES};

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
        let hashes: Vec<u128> = (0..TILE_UNITS as i128).map(units::integer).collect();
        let keys = hashes.iter().map(|&hash| key_of(hash));
        for law in Law::ALL.into_iter().chain([Law::Assignment(6554)]) {
            let weights = Weights::of_factor(law, 3, 1);
            let mut all = Units::default();
            all.set(&weights, keys.clone());
            for (count, t) in [(TILE_UNITS, 0), (64, 31), (36, 3), (12, 1), (4, 3124), (0, 2)] {
                let mut tile = Tile::new();
                weights.tile(&all, 0..count, t, &mut tile);
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

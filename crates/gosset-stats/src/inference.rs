//! What is asked of every inference, and intervals and p-values under a Student law: comparisons of arms and linear models
//! make theirs of this.

use crate::dist::{t_isf, t_sf, t_two_sided};
use crate::{Error, Result};

/// Which deviations from no effect count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alternative {
    /// Either direction; the interval is two-sided.
    #[default]
    TwoSided,
    /// Treatment above control; the interval is `[lower, +∞)`.
    Greater,
    /// Treatment below control; the interval is `(−∞, upper]`.
    Less,
}

/// How the interval of the relative effect is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relative {
    /// Fieller's theorem: the ratios that the data do not reject. NULL where that set is not an interval.
    #[default]
    Fieller,
    /// Symmetric on the scale of the logarithm of the ratio.
    Log,
    /// First-order (delta) standard error, symmetric.
    Delta,
}

/// What is asked of every inference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inference {
    /// Confidence level of the intervals, in (0, 1).
    pub confidence: f64,
    /// The alternative hypothesis.
    pub alternative: Alternative,
    /// How the relative interval is made.
    pub relative: Relative,
}

impl Default for Inference {
    fn default() -> Self {
        Self { confidence: 0.95, alternative: Alternative::TwoSided, relative: Relative::Fieller }
    }
}

impl Inference {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `confidence` is not in (0, 1).
    pub fn check(&self) -> Result<()> {
        if self.confidence > 0.0 && self.confidence < 1.0 {
            Ok(())
        } else {
            Err(Error::Invalid(format!(
                "confidence must be between 0 and 1, exclusive; found {}",
                self.confidence
            )))
        }
    }
}

/// How many standard errors an interval reaches down and up; `None` where that side is open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reach {
    pub(crate) down: Option<f64>,
    pub(crate) up: Option<f64>,
}

impl Reach {
    /// The reach of an interval under a Student law.
    pub(crate) fn new(inference: &Inference, df: f64) -> Self {
        let alpha = 1.0 - inference.confidence;
        match inference.alternative {
            Alternative::TwoSided => {
                let q = t_isf(alpha / 2.0, df);
                Self { down: Some(q), up: Some(q) }
            }
            Alternative::Greater => Self { down: Some(t_isf(alpha, df)), up: None },
            Alternative::Less => Self { down: None, up: Some(t_isf(alpha, df)) },
        }
    }

    /// The interval around a centre; open sides are infinite.
    pub(crate) fn around(self, center: f64, std_error: f64) -> (f64, f64) {
        (
            self.down.map_or(f64::NEG_INFINITY, |q| center - q * std_error),
            self.up.map_or(f64::INFINITY, |q| center + q * std_error),
        )
    }
}

/// The p-value of a statistic under a Student law.
pub(crate) fn p_value(alternative: Alternative, statistic: f64, df: f64) -> f64 {
    match alternative {
        Alternative::TwoSided => t_two_sided(statistic, df),
        Alternative::Greater => t_sf(statistic, df),
        Alternative::Less => t_sf(-statistic, df),
    }
}

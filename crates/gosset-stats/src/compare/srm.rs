//! Sample-ratio mismatch: are the arms as large as the assignment says?

use std::collections::BTreeMap;

use crate::dist::chi_squared_sf;
use crate::summary::Counts;
use crate::{Error, Result};

/// The counts of an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmCount {
    /// The arm.
    pub arm: String,
    /// How many rows it has.
    pub observed: u64,
    /// How many it should have.
    pub expected: f64,
}

/// The test of a sample ratio. A field that is not defined is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRatio {
    /// Pearson's chi-squared.
    pub statistic: Option<f64>,
    /// Degrees of freedom: arms − 1.
    pub df: Option<u64>,
    /// The p-value of the statistic.
    pub p_value: Option<f64>,
    /// All rows.
    pub n: u64,
    /// The arms in the order of their names.
    pub arms: Vec<ArmCount>,
    /// Rows without an arm.
    pub n_dropped: u64,
}

/// Pearson's chi-squared test of the sizes of the arms.
///
/// Formula: `Σ (O − E)²/E` with `E` the rows times the arm's share of the `expected` weights, on arms − 1 degrees of
/// freedom. Without `expected` all arms that were found should be equal. An arm that `expected` names and nobody has
/// counts as zero.
///
/// Assumptions: rows are units that were assigned independently; some five expected in each arm.
///
/// Small samples: with fewer than two arms or no rows the test is not defined.
///
/// # Errors
/// [`Error::Invalid`] for an arm that `expected` does not name, and for weights that are not positive and finite.
///
/// # References
/// Pearson (1900), On the criterion that a given system of deviations..., Philosophical Magazine 50(302), 157–175,
/// doi:10.1080/14786440009463897. Fabijan et al. (2019), Diagnosing sample ratio mismatch in online controlled
/// experiments, KDD '19, 2156–2164, doi:10.1145/3292500.3330722.
pub fn srm(counts: &Counts, expected: Option<&BTreeMap<String, f64>>) -> Result<SampleRatio> {
    let equal: BTreeMap<String, f64>;
    let weights = match expected {
        Some(weights) => weights,
        None => {
            equal = counts.arms().keys().map(|arm| (arm.clone(), 1.0)).collect();
            &equal
        }
    };
    check(counts, weights)?;
    let n: u64 = counts.arms().values().sum();
    let total: f64 = weights.values().sum();
    let arms: Vec<ArmCount> = weights
        .iter()
        .map(|(arm, weight)| ArmCount {
            arm: arm.clone(),
            observed: counts.arms().get(arm).copied().unwrap_or(0),
            expected: n as f64 * (weight / total),
        })
        .collect();
    let defined = arms.len() >= 2 && n > 0;
    let deviation = |a: &ArmCount| a.observed as f64 - a.expected;
    let statistic: f64 = arms.iter().map(|a| deviation(a) * deviation(a) / a.expected).sum();
    let df = arms.len() as u64 - u64::from(!arms.is_empty());
    Ok(SampleRatio {
        statistic: defined.then_some(statistic),
        df: defined.then_some(df),
        p_value: defined.then(|| chi_squared_sf(statistic, df)),
        n,
        arms,
        n_dropped: counts.dropped(),
    })
}

fn check(counts: &Counts, weights: &BTreeMap<String, f64>) -> Result<()> {
    if let Some((arm, weight)) = weights.iter().find(|(_, w)| !(w.is_finite() && **w > 0.0)) {
        return Err(Error::Invalid(format!(
            "the expected weight of arm '{arm}' must be positive and finite; found {weight}"
        )));
    }
    if let Some(arm) = counts.arms().keys().find(|arm| !weights.contains_key(*arm)) {
        let named: Vec<String> = weights.keys().map(|arm| format!("'{arm}'")).collect();
        return Err(Error::Invalid(format!(
            "expected only the arms {}, found '{arm}'",
            named.join(", ")
        )));
    }
    if weights.values().sum::<f64>().is_infinite() {
        return Err(Error::Invalid("the expected weights sum to more than any number".into()));
    }
    Ok(())
}

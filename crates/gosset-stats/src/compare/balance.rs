//! Whether two arms were alike before the experiment: a covariate compared as if it were an outcome.

use super::clustered::Clustered;
use super::dyadic::{self, mean_difference};
use super::effect::Effect;
use super::infer::{Difference, Variance};
use super::metric::Metric;
use crate::Result;
use crate::inference::Inference;
use crate::summary::{Buckets, Moments};

/// Compares the means of a column of two summaries by Welch's test, a covariate among them: where units were assigned by
/// chance, its p-value is uniform.
///
/// A covariate that is missing for some units counts as 0 there. Fewer than two units in an arm, or no variance in both,
/// give no p-value.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns.
pub fn balance(t: &Moments, c: &Moments, column: usize, inference: &Inference) -> Result<Effect> {
    let mut effect = Effect::of_moments((t, c), t.columns().outcomes(), inference, "welch")?;
    if t.n() < 2 || c.n() < 2 {
        return Ok(effect);
    }
    let estimate = mean_difference(t, c, &[(column, 1.0)]);
    let [v_t, v_c] = [t, c].map(|arm| Variance {
        value: dyadic::variance(arm, &[(column, 1.0)]) / arm.n() as f64,
        df: (arm.n() - 1) as f64,
    });
    effect.infer(inference, &Difference::welch(estimate, c.mean(column), v_t, v_c));
    Ok(effect)
}

/// As [`balance`], from bucket totals.
///
/// # Errors
/// As [`balance`].
pub fn clustered_balance(
    t: &Buckets,
    c: &Buckets,
    column: usize,
    inference: &Inference,
) -> Result<Effect> {
    let mut effect = Effect::of_buckets((t, c), inference, "clustered")?;
    let clustered: Option<Clustered> = effect.cluster((t, c), Metric::mean(column), 2);
    if let Some(clustered) = clustered {
        effect.infer(inference, &clustered.difference());
    }
    Ok(effect)
}

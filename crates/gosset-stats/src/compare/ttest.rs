//! The t-test of two means.

use super::dyadic::{self, mean_difference};
use super::effect::Effect;
use super::infer::{Difference, Variance as ArmVariance};
use crate::Result;
use crate::inference::Inference;
use crate::summary::Moments;

/// What is assumed of the variances of the two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variance {
    /// Nothing: Welch's test.
    #[default]
    Unequal,
    /// That they are equal: Student's test with the pooled variance.
    Equal,
}

/// The difference of the means of two arms; every row is a unit.
///
/// Formula: `ȳ_t − ȳ_c` with variance `s²_t/n_t + s²_c/n_c` and Welch and Satterthwaite's degrees of freedom (from
/// `n_a − 1`), or with [`Variance::Equal`] `s²(1/n_t + 1/n_c)`, `s² = ((n_t−1)s²_t + (n_c−1)s²_c)/(n_t+n_c−2)`, and
/// `n_t + n_c − 2` degrees of freedom. The estimate and the variances are exact and rounded once.
///
/// Assumptions: rows are independent units of randomisation; the means are about normal. Covariates in the summaries
/// are not used.
///
/// Small samples: without rows in an arm there is no estimate; with one unit in an arm, or no variance in both, there
/// is an estimate but no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns, [`Error::Invalid`](crate::Error::Invalid)
/// for more than one outcome or a confidence outside of (0, 1).
///
/// # References
/// Student (1908), The probable error of a mean, Biometrika 6(1), 1–25, doi:10.1093/biomet/6.1.1. Welch (1947), The
/// generalization of 'Student's' problem when several different population variances are involved, Biometrika
/// 34(1–2), 28–35, doi:10.1093/biomet/34.1-2.28. Fieller (1954), Some problems in interval estimation, JRSS B 16(2),
/// 175–185, doi:10.1111/j.2517-6161.1954.tb00159.x (the relative interval).
pub fn ttest(
    t: &Moments,
    c: &Moments,
    inference: &Inference,
    variance: Variance,
) -> Result<Effect> {
    let method = match variance {
        Variance::Unequal => "welch",
        Variance::Equal => "student",
    };
    let mut effect = Effect::of_moments((t, c), 1, inference, method)?;
    if effect.set_means(t, c) {
        effect.infer_means(t, c, inference, variance);
    }
    Ok(effect)
}

impl Effect {
    /// Sets the plain means of the first outcome, as far as there are rows; `true` if there are in both arms.
    pub(super) fn set_means(&mut self, t: &Moments, c: &Moments) -> bool {
        self.mean_treatment = (t.n() > 0).then(|| t.mean(0));
        self.mean_control = (c.n() > 0).then(|| c.mean(0));
        !self.lacks_rows()
    }

    fn infer_means(&mut self, t: &Moments, c: &Moments, inference: &Inference, variance: Variance) {
        let estimate = mean_difference(t, c, &[(0, 1.0)]);
        if self.lacks_units((t.n(), c.n()), 2) {
            return self.set_estimate(estimate, c.mean(0));
        }
        let difference = match variance {
            Variance::Unequal => welch(t, c, estimate),
            Variance::Equal => pooled(t, c, estimate),
        };
        self.infer(inference, &difference);
    }
}

/// The plain difference of means with unequal variances.
pub(super) fn welch(t: &Moments, c: &Moments, estimate: f64) -> Difference {
    let [v_t, v_c] = [t, c].map(|arm| ArmVariance {
        value: dyadic::variance(arm, &[(0, 1.0)]) / arm.n() as f64,
        df: (arm.n() - 1) as f64,
    });
    Difference::welch(estimate, c.mean(0), v_t, v_c)
}

fn pooled(t: &Moments, c: &Moments, estimate: f64) -> Difference {
    let [df_t, df_c] = [t, c].map(|arm| (arm.n() - 1) as f64);
    let df = df_t + df_c;
    let [s_t, s_c] = [t, c].map(|arm| dyadic::variance(arm, &[(0, 1.0)]));
    let variance = s_t * (df_t / df) + s_c * (df_c / df);
    let [v_t, v_c] = [t, c].map(|arm| variance / arm.n() as f64);
    Difference::independent(estimate, c.mean(0), v_t, v_c, df)
}

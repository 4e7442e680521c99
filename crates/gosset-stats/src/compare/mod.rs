//! Comparisons: pure functions of two summaries, treatment and control, to an [`Effect`].
//!
//! Every difference is treatment − control. Where something is not defined the field is `None` and `note` says why;
//! values that are not finite give NaN. Estimates, variances and covariances are formed exactly from the sums in the
//! summaries and rounded once.

mod balance;
mod bootstrap;
mod bridge;
mod cluster_adjusted;
mod clustered;
mod covariates;
mod cuped;
mod cuped_ratio;
mod draws;
mod dyadic;
pub mod effect;
pub(crate) mod infer;
mod kept;
mod keyed;
mod lin;
mod lin_passes;
mod lin_robust;
mod metric;
mod permutation;
mod post_stratify;
mod proportion;
mod quantile;
mod rank;
mod ratio;
mod relative;
mod resample;
mod simultaneous;
mod srm;
mod ttest;
mod winsorized;

pub use balance::{balance, clustered_balance};
pub use bootstrap::{BootstrapOptions, Interval, MAX_REPLICATES, bootstrap, bootstrap_cuped};
pub use clustered::{ClusteredStdError, clustered_cuped, clustered_ttest};
pub use cuped::cuped;
pub use cuped_ratio::cuped_ratio;
pub use effect::Effect;
pub use keyed::{bootstrap_cuped_replicates, bootstrap_replicates};
pub use lin::{LinOptions, LinVcov, lin, lin_among, mlrate};
pub use lin_passes::{Influence, Squares, lin_influences, lin_of_passes};
pub use lin_robust::lin_robust;
pub use permutation::permutation_test;
pub use post_stratify::{EmptyCells, PostStratifyOptions, post_stratify};
pub use proportion::{ProportionMethod, proportion_test};
pub use quantile::{
    QuantileInterval, QuantileOptions, bootstrap_quantile, histogram_quantile, quantile_effects,
};
pub use rank::{ks_test, mann_whitney};
pub use ratio::ratio_test;
pub use simultaneous::{Banded, bootstrap_effects, bootstrap_replicates_effects};
pub use srm::{ArmCount, SampleRatio, srm};
pub use ttest::{Variance, ttest};
pub use winsorized::{Caps, winsorized};

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests;

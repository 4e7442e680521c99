//! The registry: one file per function, one line here.

mod binned_moments;
mod bootstrap;
mod bootstrap_cuped;
mod bootstrap_effects;
mod buckets;
mod clustered_ttest;
mod cuped;
mod cuped_ratio;
mod describe_summary;
mod exact_sum;
mod fold;
mod gram;
mod histogram;
mod lin;
mod mann_whitney;
mod merge_summaries;
mod mlrate;
mod moments;
mod ols;
mod ols_fit;
mod permutation_test;
mod post_stratify;
mod proportion_test;
mod quantile;
mod quantile_effects;
mod ratio_test;
mod replicates;
mod row_hash;
mod srm;
mod stratified_moments;
mod ttest;
mod winsorized;

use crate::function::Function;

/// Every function.
pub static FUNCTIONS: &[&Function] = &[
    &ttest::TTEST,
    &proportion_test::PROPORTION_TEST,
    &ratio_test::RATIO_TEST,
    &clustered_ttest::CLUSTERED_TTEST,
    &cuped::CUPED,
    &cuped_ratio::CUPED_RATIO,
    &lin::LIN,
    &post_stratify::POST_STRATIFY,
    &winsorized::WINSORIZED,
    &mlrate::MLRATE,
    &bootstrap::BOOTSTRAP_MEAN,
    &bootstrap::BOOTSTRAP_RATIO,
    &bootstrap_cuped::BOOTSTRAP_CUPED,
    &bootstrap_effects::BOOTSTRAP_EFFECTS,
    &quantile::BOOTSTRAP_QUANTILE,
    &quantile_effects::QUANTILE_EFFECTS,
    &mann_whitney::MANN_WHITNEY,
    &mann_whitney::KS_TEST,
    &permutation_test::PERMUTATION_TEST,
    &ols::OLS,
    &ols::OLS_CLUSTERED,
    &ols_fit::OLS_FIT,
    &ols_fit::OLS_CONTRAST,
    &ols_fit::CONDITIONAL_EFFECTS,
    &srm::SRM,
    &moments::MOMENTS,
    &stratified_moments::STRATIFIED_MOMENTS,
    &buckets::BUCKETS,
    &replicates::REPLICATES,
    &histogram::HISTOGRAM,
    &binned_moments::BINNED_MOMENTS,
    &gram::GRAM,
    &gram::GRAM_CLUSTERED,
    &histogram::HISTOGRAM_QUANTILE,
    &merge_summaries::MERGE_SUMMARIES,
    &describe_summary::DESCRIBE_SUMMARY,
    &ttest::TTEST_EFFECT,
    &proportion_test::PROPORTION_EFFECT,
    &ratio_test::RATIO_EFFECT,
    &clustered_ttest::CLUSTERED_TTEST_EFFECT,
    &cuped::CUPED_EFFECT,
    &cuped_ratio::CUPED_RATIO_EFFECT,
    &lin::LIN_EFFECT,
    &post_stratify::POST_STRATIFY_EFFECT,
    &winsorized::WINSORIZED_EFFECT,
    &mlrate::MLRATE_EFFECT,
    &bootstrap::BOOTSTRAP_EFFECT,
    &bootstrap_cuped::BOOTSTRAP_CUPED_EFFECT,
    &bootstrap_effects::BOOTSTRAP_EFFECTS_OF,
    &quantile::QUANTILE_EFFECT,
    &quantile_effects::QUANTILE_EFFECTS_OF,
    &mann_whitney::MANN_WHITNEY_EFFECT,
    &mann_whitney::KS_EFFECT,
    &exact_sum::EXACT_SUM,
    &exact_sum::EXACT_AVG,
    &fold::FOLD,
    &row_hash::ROW_HASH,
];

/// The arguments that many functions have.
mod arguments {
    use crate::function::{Argument, ArgumentKind};

    pub(super) const Y: Argument = Argument {
        name: "y",
        kind: ArgumentKind::Outcome,
        doc: "the outcome; rows where it is NULL are left out and counted",
    };
    pub(super) const VALUES: Argument = Argument {
        name: "y",
        kind: ArgumentKind::Values,
        doc: "the outcome, or an array of outcomes, each of which is a row; rows where it is NULL are left out and counted",
    };
    pub(super) const NUM: Argument = Argument {
        name: "num",
        kind: ArgumentKind::Outcome,
        doc: "the numerator; rows where it is NULL are left out and counted",
    };
    pub(super) const DEN: Argument = Argument {
        name: "den",
        kind: ArgumentKind::Outcome,
        doc: "the denominator; rows where it is NULL are left out and counted",
    };
    pub(super) const X: Argument = Argument {
        name: "x",
        kind: ArgumentKind::Covariates,
        doc: "one covariate, several as a struct `{age: age, income: income}`, or an array; measured before the assignment",
    };
    pub(super) const ARM: Argument = Argument {
        name: "arm",
        kind: ArgumentKind::Arm,
        doc: "true for treatment and false for control, or the arm column itself with the options `treatment` and `control`; rows where it is NULL are left out and counted",
    };
    pub(super) const STRATUM: Argument = Argument {
        name: "stratum",
        kind: ArgumentKind::Stratum,
        doc: "the stratum: a string, an integer or a boolean, or a struct of them, `{country: country, device: device}`, for their combinations; known before the assignment",
    };
    pub(super) const UNIT: Argument = Argument {
        name: "unit",
        kind: ArgumentKind::Unit,
        doc: "the unit of randomisation: an integer, a string or binary; rows where it is NULL are left out and counted",
    };
    pub(super) const CROSSED_UNIT: Argument = Argument {
        name: "unit",
        kind: ArgumentKind::CrossedUnit,
        doc: "the unit of randomisation: an integer, a string or binary; or, by the methods that weight units, a struct of two crossed factors, `{user: user, title: title}`; rows where it is NULL are left out and counted",
    };
    pub(super) const OPTIONAL_UNIT: Argument = Argument {
        name: "unit",
        kind: ArgumentKind::OptionalUnit,
        doc: "the unit of randomisation, where it has many rows: an integer, a string or binary; rows where it is NULL are left out and counted. Without it every row is a unit",
    };
    pub(super) const Q: Argument = Argument {
        name: "q",
        kind: ArgumentKind::Share,
        doc: "which quantile: a literal from 0, the smallest value, to 1, the largest",
    };
    pub(super) const TREATMENT: Argument = Argument {
        name: "treatment",
        kind: ArgumentKind::Summary,
        doc: "the summary of the treatment arm",
    };
    pub(super) const CONTROL: Argument = Argument {
        name: "control",
        kind: ArgumentKind::Summary,
        doc: "the summary of the control arm",
    };
}

//! The one result of every two-arm comparison.

/// The estimated effect of a treatment: treatment − control. A field that the method does not define is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effect {
    /// Treatment − control, adjusted where the method adjusts.
    pub estimate: Option<f64>,
    /// Standard error of the estimate.
    pub std_error: Option<f64>,
    /// The test statistic, `estimate / std_error` unless the method says otherwise.
    pub statistic: Option<f64>,
    /// Degrees of freedom; infinite where the reference law is normal.
    pub df: Option<f64>,
    /// The smallest α whose interval excludes no effect.
    pub p_value: Option<f64>,
    /// Lower end of the interval; −∞ for the alternative `less`.
    pub ci_lower: Option<f64>,
    /// Upper end of the interval; +∞ for the alternative `greater`.
    pub ci_upper: Option<f64>,
    /// Confidence level of the intervals.
    pub confidence: f64,
    /// `estimate / |mean of control|`, adjusted for adjusted methods.
    pub relative: Option<f64>,
    /// Delta-method standard error of `relative`.
    pub relative_std_error: Option<f64>,
    /// Lower end of the interval of `relative`.
    pub relative_ci_lower: Option<f64>,
    /// Upper end of the interval of `relative`.
    pub relative_ci_upper: Option<f64>,
    /// Unadjusted mean (or ratio) of control.
    pub mean_control: Option<f64>,
    /// Unadjusted mean (or ratio) of treatment.
    pub mean_treatment: Option<f64>,
    /// Units of inference in control; `None` where they are not known.
    pub n_control: Option<u64>,
    /// Units of inference in treatment; `None` where they are not known.
    pub n_treatment: Option<u64>,
    /// Rows in control.
    pub rows_control: u64,
    /// Rows in treatment.
    pub rows_treatment: u64,
    /// Rows left out: NULL arm, unit or outcome, and NULL covariates under `missing: 'drop'`.
    pub n_dropped: u64,
    /// `1 − SE²/(unadjusted SE)²` for adjusted methods.
    pub variance_reduction: Option<f64>,
    /// What was done, for example `welch` or `cuped`.
    pub method: String,
    /// Why a field is missing, what was adjusted, what fell back.
    pub note: Option<String>,
}

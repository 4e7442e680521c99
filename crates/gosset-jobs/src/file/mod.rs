//! The job file: what people write.
//!
//! Keys that are not known are refused with their place and the nearest known key, and so are keys that the job file
//! has elsewhere or will have one day: nothing is ignored.

pub(crate) mod explain;
mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use gosset_engine::EngineError;
use jiff::civil::Date;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::{JobError, Result};

/// A job file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// Files of shared definitions, as patterns relative to this file's folder.
    #[serde(default)]
    pub include: Vec<String>,
    /// What the job is called and where its results go.
    pub job: JobSection,
    /// Limits of the process that runs it.
    #[serde(default)]
    pub engine: EngineSection,
    /// Tables of rows, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceSection>,
    /// Which unit is in which arm.
    pub assignments: AssignmentsSection,
    /// Attributes of a unit at its assignment, by name.
    #[serde(default)]
    pub segments: BTreeMap<String, SegmentSection>,
    /// What is measured, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, MetricSection>,
    /// Options of estimators.
    #[serde(default)]
    pub estimators: EstimatorsSection,
    /// Thresholds of the checks, and whether they block.
    #[serde(default)]
    pub audits: AuditsSection,
    /// The experiments, by name.
    #[serde(default)]
    pub experiments: BTreeMap<String, ExperimentSection>,
}

/// A file of definitions that job files include.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncludedFile {
    #[serde(default)]
    sources: BTreeMap<String, SourceSection>,
    #[serde(default)]
    segments: BTreeMap<String, SegmentSection>,
    #[serde(default)]
    metrics: BTreeMap<String, MetricSection>,
    #[serde(default)]
    experiments: BTreeMap<String, ExperimentSection>,
}

/// `[job]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSection {
    /// The name of the job in results.
    pub name: String,
    /// A folder or URL where the result tables are.
    pub store: String,
    /// An IANA time zone; days are civil days of it.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Seed of everything random; each experiment has a seed of its own made of it.
    #[serde(default)]
    pub seed: u32,
    /// Confidence level of intervals, 0.95 unless given.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// The alternative hypothesis, two-sided unless given.
    #[serde(default)]
    pub alternative: Option<Alternative>,
    /// How the interval of the relative effect is made, by Fieller's theorem unless given.
    #[serde(default)]
    pub relative: Option<Relative>,
    /// What happens with units that are seen in more than one arm.
    #[serde(default)]
    pub multiple_arms: Option<MultipleArms>,
    /// What happens with NaN and infinite values.
    #[serde(default)]
    pub non_finite: Option<NonFinite>,
    /// How long a run may take, such as 2h or 1h 30m; without end unless given.
    #[serde(default)]
    pub timeout: Option<String>,
}

fn utc() -> String {
    "UTC".into()
}

/// `alternative`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Alternative {
    TwoSided,
    Greater,
    Less,
}

/// `relative`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Relative {
    Fieller,
    Log,
    Delta,
}

/// `multiple_arms`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MultipleArms {
    /// They are left out of the analysis and counted.
    #[default]
    Exclude,
    /// They belong to the arm of their first assignment.
    First,
    /// They stop the experiment.
    Error,
}

/// `non_finite`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinite {
    /// They stop the experiment.
    #[default]
    Error,
    /// They are left out and counted.
    Drop,
    /// They are zero.
    Zero,
}

/// `[engine]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    /// Memory that queries may hold before they spill, such as 8GB.
    #[serde(default)]
    pub memory_limit: Option<String>,
    /// The cluster that runs the queries, such as df://host:50050; this process if not given.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// `[sources.<name>]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// A file, a folder, a pattern or a Delta table, as a path or URL.
    pub url: String,
    /// What one row is.
    #[serde(default)]
    pub grain: Grain,
    /// The column of the unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// The column of the time of a row.
    #[serde(default)]
    pub time: Option<String>,
    /// The folders that rows arrive in, one for each day: `ds` for `ds=2026-03-02`. Without it each file is a part.
    #[serde(default)]
    pub partition: Option<String>,
    /// How many days before the day of its folder a row may be of: older ones are counted and wait for a backfill.
    #[serde(default)]
    pub max_lateness_days: Option<u16>,
}

/// `grain`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grain {
    /// Something that a unit did; a unit has any number of them.
    #[default]
    Row,
    /// A unit.
    Unit,
}

/// `[assignments]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentsSection {
    /// A table of its own, as a path or URL; or give `source`.
    #[serde(default)]
    pub url: Option<String>,
    /// The source whose rows say the arm; or give `url`.
    #[serde(default)]
    pub source: Option<String>,
    /// The column of the experiment's name; without it all rows are of every experiment.
    #[serde(default)]
    pub experiment: Option<String>,
    /// The column of the unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// The column of the arm.
    pub arm: String,
    /// The column of the time of the assignment.
    #[serde(default)]
    pub time: Option<String>,
}

/// `[segments.<name>]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentSection {
    /// A column of the assignments.
    pub column: String,
}

/// `[metrics.<name>]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricSection {
    /// The source it is measured on.
    pub source: String,
    /// A value for each unit; or give `numerator` and `denominator`, or `quantile`.
    #[serde(default)]
    pub value: Option<String>,
    /// The numerator of a ratio of two sums.
    #[serde(default)]
    pub numerator: Option<String>,
    /// The denominator of a ratio of two sums.
    #[serde(default)]
    pub denominator: Option<String>,
    /// Quantiles of a value of each row, over the rows of all units.
    #[serde(default)]
    pub quantile: Option<QuantileMetricSection>,
    /// What is known of a unit before its assignment.
    #[serde(default)]
    pub covariate: Option<CovariateSection>,
    /// Where the values of units are capped: estimators of means take the capped values.
    #[serde(default)]
    pub cap: Option<CapSection>,
    /// Confidence level of intervals.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// The alternative hypothesis.
    #[serde(default)]
    pub alternative: Option<Alternative>,
    /// How the interval of the relative effect is made.
    #[serde(default)]
    pub relative: Option<Relative>,
    /// What happens with NaN and infinite values.
    #[serde(default)]
    pub non_finite: Option<NonFinite>,
}

/// `quantile = { of = "play_delay_ms", at = [0.5, 0.9, 0.99] }`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantileMetricSection {
    /// The value of a row, without aggregates.
    pub of: String,
    /// Which quantiles, from 0 to 1.
    pub at: Vec<f64>,
}

/// `covariate = { column = ... }`, or `{ numerator = ..., denominator = ... }`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CovariateSection {
    /// A column, or a list of columns: of the metric's source where its rows are units, else of the assignments.
    #[serde(default)]
    pub column: Option<OneOrMany>,
    /// The metric itself, over so many days before the day of the unit's assignment.
    #[serde(default)]
    pub lookback_days: Option<u16>,
    /// The column of the numerator of a ratio before the experiment, for a metric that is a ratio.
    #[serde(default)]
    pub numerator: Option<String>,
    /// The column of its denominator.
    #[serde(default)]
    pub denominator: Option<String>,
}

/// `cap = 0.99`, or `cap = { upper = 0.99, lower = 0.01 }`: quantiles of the values of the units of all arms.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CapSection {
    /// Values above this quantile count as it: from 0.5 to 1.
    Upper(f64),
    /// One for each side.
    Sides(CapSides),
}

/// Both sides of `cap`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapSides {
    /// Values above this quantile count as it: from 0.5 to 1.
    #[serde(default)]
    pub upper: Option<f64>,
    /// Values below this quantile count as it: from 0 to 0.5.
    #[serde(default)]
    pub lower: Option<f64>,
}

impl<'de> Deserialize<'de> for CapSection {
    /// By hand: what the reader says of a wrong table would be lost in trying one form after the other.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = CapSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantile such as 0.99, or a table of 'upper' and 'lower'")
            }

            fn visit_f64<E>(self, upper: f64) -> Result<CapSection, E> {
                Ok(CapSection::Upper(upper))
            }

            fn visit_i64<E>(self, upper: i64) -> Result<CapSection, E> {
                Ok(CapSection::Upper(upper as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CapSection, A::Error> {
                CapSides::deserialize(MapAccessDeserializer::new(map)).map(CapSection::Sides)
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

/// A name or a list of names.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names say it")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// The names.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::Many(names) => names.clone(),
        }
    }
}

/// `[estimators]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EstimatorsSection {
    /// Options of `bootstrap`.
    #[serde(default)]
    pub bootstrap: BootstrapSection,
    /// Options of `quantile`.
    #[serde(default)]
    pub quantile: QuantileSection,
    /// Options of `cuped`.
    #[serde(default)]
    pub cuped: CupedSection,
    /// Options of `lin`.
    #[serde(default)]
    pub lin: LinSection,
    /// Options of `mlrate`.
    #[serde(default)]
    pub mlrate: MlrateSection,
    /// Options of `post_stratify`.
    #[serde(default)]
    pub post_stratify: PostStratifySection,
}

/// `[estimators.bootstrap]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSection {
    /// What is resampled, `buckets` unless given.
    #[serde(default)]
    pub method: Option<Method>,
    /// Number of replicates, 1000 unless given.
    #[serde(default)]
    pub replicates: Option<u32>,
    /// How the interval is made of the replicates, `percentile` unless given; `studentized` takes buckets.
    #[serde(default)]
    pub interval: Option<Interval>,
    /// Seed of the weights, in place of the job's.
    #[serde(default)]
    pub seed: Option<u32>,
    /// Number of buckets that units are hashed into, 4096 unless given.
    #[serde(default)]
    pub buckets: Option<u32>,
}

/// `method` of `[estimators.bootstrap]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Units while there are few, then buckets of hashed units.
    #[default]
    Buckets,
    /// Every unit, with Poisson weights.
    Poisson,
    /// Every unit, with a weight of 0 or 2.
    DoubleOrNothing,
    /// Every unit, with exponential weights.
    Bayesian,
}

/// `[estimators.quantile]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantileSection {
    /// Which quantiles, from 0 to 1; the median unless given.
    #[serde(default)]
    pub quantiles: Option<Vec<f64>>,
    /// How replicates are made, `binomial` unless given.
    #[serde(default)]
    pub method: Option<QuantileMethod>,
    /// Number of replicates, 1000 unless given.
    #[serde(default)]
    pub replicates: Option<u32>,
    /// How the interval is made, `percentile` unless given.
    #[serde(default)]
    pub interval: Option<QuantileInterval>,
    /// Seed of the replicates, in place of the job's.
    #[serde(default)]
    pub seed: Option<u32>,
}

/// `interval` of `[estimators.quantile]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuantileInterval {
    /// Order statistics of the replicates.
    Percentile,
    /// The same, mirrored at the estimate.
    Basic,
    /// The estimate and normal quantiles of the replicates' standard deviation.
    Normal,
    /// The delta method, from the share of units below the quantile.
    Delta,
}

/// `method` of `[estimators.quantile]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuantileMethod {
    /// Order statistics of a binomial index: nothing is resampled.
    #[default]
    Binomial,
    /// Every unit, with Poisson weights.
    Poisson,
    /// Every unit, with a weight of 0 or 2.
    DoubleOrNothing,
    /// Every unit, with exponential weights.
    Bayesian,
}

/// `interval`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Interval {
    Percentile,
    Basic,
    Normal,
    Studentized,
    Bca,
}

impl From<Interval> for gosset_stats::compare::Interval {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Percentile => Self::Percentile,
            Interval::Basic => Self::Basic,
            Interval::Normal => Self::Normal,
            Interval::Studentized => Self::Studentized,
            Interval::Bca => Self::Bca,
        }
    }
}

/// `[estimators.cuped]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CupedSection {
    /// What becomes of units without a covariate, `indicator` unless given.
    #[serde(default)]
    pub missing: Missing,
}

/// `missing` of the estimators that take covariates
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// They are kept: the covariate is 0 there, and an indicator joins the covariates.
    #[default]
    Indicator,
    /// They are left out and counted.
    Drop,
    /// They stop the metric.
    Error,
}

/// `[estimators.mlrate]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlrateSection {
    /// What becomes of units without a prediction, `indicator` unless given.
    #[serde(default)]
    pub missing: Missing,
}

/// `[estimators.lin]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinSection {
    /// The variance, `by_arm` unless given; `HC0` to `HC3` take a second pass over the units.
    #[serde(default)]
    pub vcov: Option<LinVcov>,
    /// Whether the units are a sample of those that the effect is of, so that the mean of the covariates varies as well.
    #[serde(default)]
    pub superpopulation: bool,
    /// What becomes of units without a covariate, `indicator` unless given.
    #[serde(default)]
    pub missing: Missing,
    /// Over which units the covariates are averaged, `pair` unless given.
    #[serde(default)]
    pub centre: Centre,
}

/// `centre`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// Those of the two arms that are compared.
    #[default]
    Pair,
    /// Those of all arms: one model of the experiment.
    AllArms,
}

/// `vcov`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LinVcov {
    ByArm,
    Classical,
    #[serde(rename = "HC0")]
    Hc0,
    #[serde(rename = "HC1")]
    Hc1,
    #[serde(rename = "HC2")]
    Hc2,
    #[serde(rename = "HC3")]
    Hc3,
}

/// `[estimators.post_stratify]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostStratifySection {
    /// The column of the assignments that units are stratified by.
    #[serde(default)]
    pub strata: Option<String>,
    /// What is done with strata that have fewer than two units in an arm, `collapse` unless given.
    #[serde(default)]
    pub empty: Option<EmptyCells>,
    /// What becomes of units without a covariate, `indicator` unless given.
    #[serde(default)]
    pub missing: Missing,
    /// Whether the units are a sample of those that the effect is of, so that the shares of the strata vary as well.
    #[serde(default)]
    pub superpopulation: bool,
}

/// `empty`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmptyCells {
    /// They are taken together as one stratum.
    Collapse,
    /// They are left out.
    Drop,
    /// They stop the run.
    Error,
}

/// `[audits]`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditsSection {
    /// The arms are as large as they should be: the p-value is at least the threshold (0.001).
    #[serde(default)]
    pub sample_ratio: AuditSection,
    /// The share of units that are in more than one arm is at most the threshold (0.01).
    #[serde(default)]
    pub multiple_arms: AuditSection,
    /// The share of units whose value is missing is at most the threshold (1), and not all of them.
    #[serde(default)]
    pub missing: AuditSection,
    /// The share of units without a row in a source is at most the threshold (1), and not all of them.
    #[serde(default)]
    pub units_without_rows: AuditSection,
    /// The number of NaN and infinite values that the policy `error` finds is at most the threshold (0).
    #[serde(default)]
    pub non_finite: AuditSection,
    /// The number of units that have several rows in a source whose rows are units is at most the threshold (0).
    #[serde(default)]
    pub duplicate_units: AuditSection,
    /// The number of arms that are expected and that nobody is in, or the other way round, is at most the threshold (0).
    #[serde(default)]
    pub arms: AuditSection,
    /// The number of days before the date, and it, that a source has no row of is at most the threshold (0): where it is
    /// not and this blocks, the date waits, and the run ends with 66.
    #[serde(default)]
    pub freshness: AuditSection,
    /// The number of rows that came later than their source allows is at most the threshold (0); it does not block unless
    /// asked to.
    #[serde(default)]
    pub late_rows: AuditSection,
    /// The rows of the date are at most so many times (3) as many, or as few, as the median of the 7 days before; it does
    /// not block unless asked to.
    #[serde(default)]
    pub row_count: AuditSection,
    /// The same for what a metric is made of, per unit with rows; it does not block unless asked to.
    #[serde(default)]
    pub distribution: AuditSection,
    /// The number of columns that vanished or changed their type since the part before is at most the threshold (0); it
    /// does not block unless asked to.
    #[serde(default)]
    pub schema: AuditSection,
    /// The arms were alike before the experiment: the p-value of a metric's covariate is at least the threshold (0.001); it
    /// does not block unless asked to.
    #[serde(default)]
    pub balance: AuditSection,
}

/// `[audits.<name>]`
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditSection {
    /// Beyond it the check fails.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Whether a failure keeps the experiment's effects from being published; true unless given or said above.
    #[serde(default)]
    pub blocking: Option<bool>,
}

/// `[experiments.<name>]`
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSection {
    /// The arm that the others are compared with.
    pub control: String,
    /// The first day.
    #[serde(default)]
    pub start: Option<Day>,
    /// The last day.
    #[serde(default)]
    pub end: Option<Day>,
    /// Names of metrics.
    pub metrics: Vec<String>,
    /// Names of segments.
    #[serde(default)]
    pub segments: Vec<String>,
    /// What the effects are of: `day`, `cumulative`, `overall`, `days(7)`.
    #[serde(default = "overall")]
    pub periods: Vec<String>,
    /// `ttest`, `cuped`, `lin`, `mlrate`, `post_stratify`, `bootstrap`, `quantile`, `mann_whitney`, `ks_test`.
    #[serde(default = "ttest")]
    pub estimators: Vec<String>,
    /// The weights of the arms in the assignment, or a list of them from days on; equal for the arms that are found
    /// unless given.
    #[serde(default)]
    pub expected: Option<ExpectedSection>,
    /// What happens with units that are seen in more than one arm.
    #[serde(default)]
    pub multiple_arms: Option<MultipleArms>,
    /// What a unit must have met to be in a second analysis, beside that of all units.
    #[serde(default)]
    pub exposure: Option<ExposureSection>,
    /// Confidence level of intervals.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// The alternative hypothesis.
    #[serde(default)]
    pub alternative: Option<Alternative>,
    /// How the interval of the relative effect is made.
    #[serde(default)]
    pub relative: Option<Relative>,
    /// How long its dates may take in a run, such as 20m: those that are not computed by then fail.
    #[serde(default)]
    pub timeout: Option<String>,
}

/// `[experiments.<name>.exposure]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExposureSection {
    /// The source whose rows say it.
    pub source: String,
    /// Which of its rows; all of them unless given.
    #[serde(default, rename = "where")]
    pub condition: Option<String>,
}

/// `expected`
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ExpectedSection {
    /// The same for all units.
    Always(BTreeMap<String, f64>),
    /// Of units that are assigned from a day on: a ramp.
    From(Vec<ExpectedFrom>),
}

impl<'de> Deserialize<'de> for ExpectedSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = toml::Value::deserialize(deserializer)?;
        let read = match value {
            toml::Value::Array(_) => value.try_into().map(Self::From),
            _ => value.try_into().map(Self::Always),
        };
        read.map_err(|error: toml::de::Error| D::Error::custom(error.message()))
    }
}

/// `{ from = 2026-03-02, ... }`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ExpectedFrom {
    /// The first day.
    pub from: Day,
    /// The weights of the arms.
    #[serde(flatten)]
    pub weights: BTreeMap<String, f64>,
}

fn overall() -> Vec<String> {
    vec!["overall".into()]
}

fn ttest() -> Vec<String> {
    vec!["ttest".into()]
}

/// A civil day, written as a TOML date: `2026-03-02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub Date);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = toml::value::Datetime::deserialize(deserializer)?;
        match value {
            toml::value::Datetime { date: Some(date), time: None, offset: None } => {
                Date::new(date.year as i16, date.month as i8, date.day as i8)
                    .map(Self)
                    .map_err(D::Error::custom)
            }
            other => {
                Err(D::Error::custom(format!("expected a day such as 2026-03-02, found {other}")))
            }
        }
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Day {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Day".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date" })
    }
}

fn text_of(path: &Path) -> Result<String> {
    let about =
        |error| JobError::Engine(EngineError::of(&error).about(&path.display().to_string()));
    std::fs::read_to_string(path).map_err(about)
}

/// Adds definitions; the name of one that is there already is an error.
fn add<T>(to: &mut BTreeMap<String, T>, from: BTreeMap<String, T>) -> Result<(), String> {
    for (name, section) in from {
        if to.contains_key(&name) {
            return Err(name);
        }
        to.insert(name, section);
    }
    Ok(())
}

impl JobFile {
    /// Reads a job file.
    ///
    /// # Errors
    /// [`JobError::File`] with the place and the reason; an engine error if the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut file = Self::parse(&text_of(path)?, &shown)?;
        for pattern in std::mem::take(&mut file.include) {
            let about = |error: JobError| error.about(&format!("{shown}: include '{pattern}'"));
            file.include(path, &pattern).map_err(about)?;
        }
        Ok(file)
    }

    /// Takes the definitions of the files of a pattern.
    fn include(&mut self, path: &Path, pattern: &str) -> Result<()> {
        let wrong = |text: String| JobError::File(text);
        let folder = path.parent().unwrap_or(Path::new(""));
        let below = folder.join(pattern);
        let files =
            glob::glob(&below.to_string_lossy()).map_err(|error| wrong(error.to_string()))?;
        let mut found = false;
        for file in files {
            let file = file.map_err(|error| wrong(error.to_string()))?;
            found = true;
            let (text, name) = (text_of(&file)?, file.display().to_string());
            let IncludedFile { sources, segments, metrics, experiments } = toml::from_str(&text)
                .map_err(|error| wrong(explain::explain(&error, &text, &name)))?;
            shape::check(&text).map_err(|what| wrong(format!("{name}: {what}")))?;
            let twice = |what: &str, of: String| {
                wrong(format!("{name}: the {what} '{of}' is defined twice"))
            };
            add(&mut self.sources, sources).map_err(|of| twice("source", of))?;
            add(&mut self.segments, segments).map_err(|of| twice("segment", of))?;
            add(&mut self.metrics, metrics).map_err(|of| twice("metric", of))?;
            add(&mut self.experiments, experiments).map_err(|of| twice("experiment", of))?;
        }
        if found { Ok(()) } else { Err(wrong("no file is there".into())) }
    }

    /// Reads the text of a job file; `name` is what messages call it.
    ///
    /// # Errors
    /// [`JobError::File`] with the place and the reason.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let file = toml::from_str(text)
            .map_err(|error| JobError::File(explain::explain(&error, text, name)))?;
        shape::check(text).map_err(|what| JobError::File(format!("{name}: {what}")))?;
        Ok(file)
    }

    /// The JSON Schema of job files, for editors.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

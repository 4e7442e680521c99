//! A/A calibration: the units of an experiment in arms drawn anew, a thousand times. Nothing differs between such arms, so
//! that p-values must be uniform, intervals must cover zero, and standard errors must be the spread of the estimates.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ident, lit, when};
use datafusion::prelude::DataFrame;
use jiff::civil::Date;

use crate::days::{Days, Late};
use crate::effects::{Effects, Known};
use crate::job::{Experiment, Job};
use crate::period::Period;
use crate::run::{Event, Runner};
use crate::summaries::{Counted, MetricCounts, Query, Slice};
use crate::units::{self, Base, OfDays, Outcomes, Units, View, state};
use crate::{JobError, Result, caps, waves};

/// Which experiment is calibrated, and how often its arms are drawn.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// The experiment.
    pub experiment: String,
    /// The day at whose end its units are taken.
    pub date: Date,
    /// How often arms are drawn.
    pub replicates: u32,
    /// Seed of the draws.
    pub seed: u32,
}

/// What an estimator of a metric did over all draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// The metric.
    pub metric: String,
    /// The estimator, as in `effects`, with the quantile that it is of.
    pub estimator: String,
    /// Draws that gave a p-value.
    pub draws: u32,
    /// The share of them whose p-value is at most one minus the confidence level.
    pub false_positives: f64,
    /// The share of intervals that cover zero.
    pub coverage: f64,
    /// The confidence level.
    pub confidence: f64,
    /// The largest distance of the distribution of p-values from the uniform one (Kolmogorov).
    pub distance: f64,
    /// The mean standard error over the standard deviation of the estimates.
    pub std_error_ratio: f64,
}

/// The quantile of a normal for bands that hold 99 of 100 times.
const Z_99: f64 = 2.575_829_303_548_900_4;
/// The same quantile of Kolmogorov's distribution, for many draws.
const KOLMOGOROV_99: f64 = 1.627_623_611_518_954_3;

impl Calibrated {
    /// How far the share of false positives, or the coverage, may be from its level by chance, 99 of 100 times.
    pub fn band(&self) -> f64 {
        let level = 1.0 - self.confidence;
        Z_99 * (level * (1.0 - level) / f64::from(self.draws.max(1))).sqrt()
    }

    /// How far the distribution of p-values may be from the uniform one by chance, 99 of 100 times.
    pub fn distance_band(&self) -> f64 {
        KOLMOGOROV_99 / f64::from(self.draws.max(1)).sqrt()
    }

    /// What is further from where it should be than chance explains.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.draws == 0 {
            findings.push("no p-value".to_owned());
            return findings;
        }
        let level = 1.0 - self.confidence;
        if (self.false_positives - level).abs() > self.band() {
            let word = if self.false_positives > level { "many" } else { "few" };
            findings.push(format!("too {word} false positives"));
        }
        if self.coverage < self.confidence - self.band() {
            findings.push("intervals are too short".into());
        }
        if self.distance > self.distance_band() {
            findings.push("p-values are not uniform".into());
        }
        findings
    }
}

/// What is collected of an estimator of a metric.
#[derive(Debug, Default)]
struct Draws {
    confidence: f64,
    p_values: Vec<f64>,
    covered: u32,
    intervals: u32,
    estimates: Vec<f64>,
    std_errors: Vec<f64>,
}

impl Runner {
    /// Draws the arms of an experiment's units anew and again, and tells what its estimators make of nothing.
    ///
    /// The units are those that are analysed at the end of a day, with their outcomes from their assignment on; arms are
    /// drawn by a hash of the unit and the draw, in the shares that are expected or in halves.
    ///
    /// # Errors
    /// If the experiment is not known, its units cannot be read, or they have no column that tells them apart and their
    /// rows no order.
    pub async fn calibrate(
        &self,
        of: &Calibration,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<Calibrated>> {
        let experiment = self.experiment(&of.experiment)?;
        let (experiment, units) = self.units_of_calibration(experiment, of.date).await?;
        let share = share_of_treatment(&experiment);
        let counted = Counted {
            analysed: [(CONTROL.to_owned(), 1), (TREATMENT.to_owned(), 1)].into(),
            metrics: self.binary_metrics(&experiment, &units).await?,
            ..Counted::default()
        };
        let caps = caps::find(self.engine(), &experiment, &Units::of(units.clone())).await?;
        let units = caps::with_values(Units::of(units), &experiment, &caps)?.frame;
        let wave = waves::whole(experiment.parts());
        let known = Arc::new(Known { experiment, counted, caps });
        let experiment = &known.experiment;
        let mut draws: BTreeMap<(usize, String, String), Draws> = BTreeMap::new();
        for draw in 0..of.replicates {
            tell(Event::Drawing { draw: draw + 1, of: of.replicates });
            let drawn = self.drawn(&units, share, (of.seed, draw))?;
            let query = Query::further(self.engine(), experiment, &drawn, &wave)?;
            let cells = query.collect().await?;
            if cells.get(&Slice::All).is_none_or(|arms| arms.len() < 2) {
                continue;
            }
            let none = Effects::default();
            let effects = self.with_those_of(none, &known, &drawn, (&wave, cells)).await?;
            for row in effects.rows(&[], (Base::Assignment, &[Period::Overall])) {
                let at = experiment.metrics.iter().position(|metric| metric.name == row.metric);
                let estimator = match row.quantile {
                    Some(q) => format!("{} {q}", row.estimator),
                    None => row.estimator.to_owned(),
                };
                let key = (at.unwrap_or_default(), row.metric, estimator);
                draws.entry(key).or_default().add(&row.effect);
            }
        }
        Ok(draws.into_iter().map(|((_, metric, estimator), d)| d.told(metric, estimator)).collect())
    }

    /// The analysed units at the end of a day, held in memory, of the experiment without segments.
    async fn units_of_calibration(
        &self,
        experiment: &Experiment,
        date: Date,
    ) -> Result<(Experiment, DataFrame)> {
        let mut looked = self.look(date).await;
        let unread = looked.due(self.job(), date)?;
        if let Some(part) = unread.first().filter(|_| experiment.is_of_days()) {
            return Err(JobError::Data(format!(
                "the unit-days of source '{}' are not published up to {date}: run the job first",
                part.source
            )));
        }
        let day = Days { from: date, to: date };
        looked.hold(self, &[(experiment.clone(), day)], |_, _| false).await?;
        let experiment = Experiment {
            segments: Vec::new(),
            control: CONTROL.to_owned(),
            expected: Vec::new(),
            ..looked.measurable(experiment)
        };
        let job = Job { experiments: vec![experiment.clone()], ..self.job().clone() };
        let of_days = looked.assignments().filter(|_| experiment.is_of_days());
        let of_days = of_days.map(|assignments| OfDays {
            assignments,
            days: &looked.days,
            late: Late::Counted,
            base: Base::Assignment,
            period: Period::Cumulative,
            values: vec![true; experiment.metrics.len()],
            before: true,
        });
        let view = match &of_days {
            Some(of_days) => {
                View { date: Some(date), outcomes: Outcomes::Days(of_days), only: None }
            }
            None => View::of_rows(&experiment),
        };
        let Units { frame, .. } = units::units(&job, self.engine(), &experiment, &view).await?;
        let analysed = frame.filter(ident(units::STATE).eq(lit(state::ANALYSED)))?;
        let mut analysed = analysed.cache().await?;
        if !analysed.schema().has_column_with_unqualified_name(units::UNIT) {
            // Where no column tells units apart, the position of each among those that are held does.
            let numbered = analysed.window(vec![row_number().alias(units::UNIT)])?;
            analysed = numbered.cache().await?;
        }
        Ok((experiment, analysed))
    }

    /// Whether all values of a metric are 0 and 1, as far as estimators want to know.
    async fn binary_metrics(
        &self,
        experiment: &Experiment,
        units: &DataFrame,
    ) -> Result<Vec<MetricCounts>> {
        let mut counts = Vec::new();
        for metric in 0..experiment.metrics.len() {
            // Nobody asks of quantiles of rows.
            if experiment.metrics[metric].measure.quantiles().is_some() {
                counts.push(MetricCounts { not_binary: 1, ..MetricCounts::default() });
                continue;
            }
            let value = || ident(units::value(metric));
            let other = value().in_list(vec![lit(0.0_f64), lit(1.0_f64)], true);
            let not_binary = units.clone().filter(other)?.count().await? as u64;
            counts.push(MetricCounts { not_binary, ..MetricCounts::default() });
        }
        Ok(counts)
    }

    /// The units with arms of a draw.
    fn drawn(&self, units: &DataFrame, share: f64, (seed, draw): (u32, u32)) -> Result<Units> {
        // A fold of its own for each draw, and none that an estimator's folds could be.
        let fold = self.engine().context().udf("fold")?;
        let seed = i64::from(seed) << 32 | i64::from(draw);
        let folded = fold.call(vec![ident(units::UNIT), lit(FOLDS), lit(seed)]);
        let treated = folded.lt(lit((share * FOLDS as f64).round() as i64));
        let arm = when(treated, lit(TREATMENT)).otherwise(lit(CONTROL))?;
        let columns = units.schema().fields().iter().map(|field| match field.name().as_str() {
            units::ARM | units::LAST_ARM => arm.clone().alias(field.name()),
            name => ident(name),
        });
        let frame = units.clone().select(columns.collect::<Vec<Expr>>())?;
        Ok(Units::of(frame))
    }
}

const TREATMENT: &str = "treatment";
const CONTROL: &str = "control";
const FOLDS: i64 = 10_000;

/// The share of the units that is treated: of the first treatment beside the control, or half.
fn share_of_treatment(experiment: &Experiment) -> f64 {
    let weights = experiment.section.expected.as_ref().and_then(|expected| match expected {
        crate::file::ExpectedSection::Always(weights) => Some(weights),
        crate::file::ExpectedSection::From(_) => None,
    });
    let share = weights.and_then(|weights| {
        let control = weights.get(&experiment.section.control)?;
        let (_, treatment) = weights.iter().find(|(arm, _)| **arm != experiment.section.control)?;
        Some(treatment / (treatment + control))
    });
    share.unwrap_or(0.5)
}

impl Draws {
    fn add(&mut self, effect: &gosset_stats::Effect) {
        self.confidence = effect.confidence;
        if let Some(p) = effect.p_value {
            self.p_values.push(p);
        }
        if let (Some(lower), Some(upper)) = (effect.ci_lower, effect.ci_upper) {
            self.intervals += 1;
            self.covered += u32::from(lower <= 0.0 && 0.0 <= upper);
        }
        if let (Some(estimate), Some(std_error)) = (effect.estimate, effect.std_error) {
            self.estimates.push(estimate);
            self.std_errors.push(std_error);
        }
    }

    fn told(mut self, metric: String, estimator: String) -> Calibrated {
        let n = self.p_values.len() as f64;
        let level = 1.0 - self.confidence;
        let positive = self.p_values.iter().filter(|p| **p <= level).count() as f64;
        self.p_values.sort_by(f64::total_cmp);
        let steps = self.p_values.iter().enumerate();
        let distance =
            steps.map(|(i, p)| (p - i as f64 / n).max((i + 1) as f64 / n - p)).fold(0.0, f64::max);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let center = mean(&self.estimates);
        let squares: f64 = self.estimates.iter().map(|e| (e - center) * (e - center)).sum();
        let spread = (squares / (self.estimates.len() as f64 - 1.0)).sqrt();
        Calibrated {
            metric,
            estimator,
            draws: self.p_values.len() as u32,
            false_positives: positive / n,
            coverage: f64::from(self.covered) / f64::from(self.intervals),
            confidence: self.confidence,
            distance,
            std_error_ratio: mean(&self.std_errors) / spread,
        }
    }
}

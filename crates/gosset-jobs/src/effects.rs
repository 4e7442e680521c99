//! From summaries to effects: every metric, segment, arm and estimator of an experiment.

use std::collections::BTreeMap;

use gosset_stats::compare::{
    ProportionMethod, Variance, bootstrap, cuped, lin, proportion_test, ratio_test, ttest,
};
use gosset_stats::summary::{Buckets, Moments};
use gosset_stats::{Effect, Result as StatsResult};

use crate::audit::Audit;
use crate::job::{Estimator, Experiment, Measure, Metric};
use crate::summaries::{Cell, MetricCell, Slice, Summaries};
use crate::{JobError, Result};

/// An effect with what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectRow {
    /// The metric.
    pub metric: String,
    /// The segment, or none for all units.
    pub segment: Option<String>,
    /// The value of the segment; none where units have none.
    pub segment_value: Option<String>,
    /// The treatment.
    pub arm: String,
    /// The function that gives the same effect in SQL.
    pub estimator: &'static str,
    /// The effect.
    pub effect: Effect,
}

/// The functions behind an estimator, for `value_version`s.
pub(crate) fn functions(estimator: Estimator) -> &'static [&'static str] {
    match estimator {
        Estimator::Ttest => &["ttest", "proportion_test", "ratio_test"],
        Estimator::Cuped => &["cuped"],
        Estimator::Lin => &["lin"],
        Estimator::Bootstrap => &["bootstrap_mean", "bootstrap_ratio"],
    }
}

/// All effects of an experiment, in the order of metrics, segments, arms and estimators.
///
/// Audits that failed and do not block are told in each effect's note.
pub(crate) fn effects(
    experiment: &Experiment,
    summaries: &Summaries,
    audits: &[Audit],
) -> Result<Vec<EffectRow>> {
    let warning: Vec<String> = audits
        .iter()
        .filter(|audit| audit.failed)
        .map(|a| format!("failed audit: {}", a.shown()))
        .collect();
    let warning = (!warning.is_empty()).then(|| warning.join("; "));
    let mut rows = Vec::new();
    for (i, metric) in experiment.metrics.iter().enumerate() {
        for (slice, arms) in &summaries.cells {
            let (segment, segment_value) = match slice {
                Slice::All => (None, None),
                Slice::Segment(s, value) => {
                    (Some(experiment.segments[*s].0.clone()), value.clone())
                }
            };
            for arm in summaries.analysed.keys().filter(|arm| **arm != experiment.control) {
                let sides = Sides::new(arms, i, arm, &experiment.control, summaries)?;
                for (estimator, effect) in estimate(experiment, metric, i, summaries, &sides)? {
                    rows.push(EffectRow {
                        metric: metric.name.clone(),
                        segment: segment.clone(),
                        segment_value: segment_value.clone(),
                        arm: arm.clone(),
                        estimator,
                        effect: noted(effect, warning.as_deref()),
                    });
                }
            }
        }
    }
    Ok(rows)
}

fn noted(mut effect: Effect, warning: Option<&str>) -> Effect {
    if let Some(warning) = warning {
        effect.note = Some(match effect.note {
            Some(note) => format!("{warning}; {note}"),
            None => warning.to_owned(),
        });
    }
    effect
}

/// The summaries of treatment and control; empty ones where an arm has no unit in a slice.
struct Sides {
    moments: (Moments, Moments),
    buckets: Option<(Buckets, Buckets)>,
}

impl Sides {
    fn new(
        arms: &BTreeMap<String, Cell>,
        metric: usize,
        treatment: &str,
        control: &str,
        summaries: &Summaries,
    ) -> Result<Self> {
        let any = summaries.cells.values().flat_map(BTreeMap::values).next();
        let any = any
            .map(|cell| &cell.metrics[metric])
            .ok_or_else(|| JobError::Data("no unit is analysed".into()))?;
        let empty = MetricCell {
            moments: Moments::new(any.moments.columns().clone()),
            buckets: any
                .buckets
                .as_ref()
                .map(|b| Buckets::new(b.columns().clone(), b.buckets()))
                .transpose()
                .map_err(failed)?,
        };
        let side = |arm: &str| arms.get(arm).map_or(&empty, |cell| &cell.metrics[metric]).clone();
        let (t, c) = (side(treatment), side(control));
        Ok(Self { moments: (t.moments, c.moments), buckets: t.buckets.zip(c.buckets) })
    }
}

fn estimate(
    experiment: &Experiment,
    metric: &Metric,
    position: usize,
    summaries: &Summaries,
    sides: &Sides,
) -> Result<Vec<(&'static str, Effect)>> {
    let (t, c) = &sides.moments;
    let inference = &metric.inference;
    let ratio = matches!(metric.measure, Measure::Ratio(..));
    let binary = !ratio && summaries.metrics[position].not_binary == 0;
    let mut made = Vec::new();
    let mut push = |name: &'static str, effect: StatsResult<Effect>| -> Result<()> {
        made.push((
            name,
            effect.map_err(|e| failed(e).about(&format!("{name} of metric '{}'", metric.name)))?,
        ));
        Ok(())
    };
    for estimator in &experiment.estimators {
        match (estimator, ratio) {
            (Estimator::Ttest, true) => push("ratio_test", ratio_test(t, c, inference))?,
            (Estimator::Ttest, false) => {
                push("ttest", ttest(t, c, inference, Variance::Unequal))?;
                if binary {
                    push(
                        "proportion_test",
                        proportion_test(t, c, inference, ProportionMethod::Wald),
                    )?;
                }
            }
            (Estimator::Cuped, false) if !metric.covariates.is_empty() => {
                push("cuped", cuped(t, c, inference))?;
            }
            (Estimator::Lin, false) if !metric.covariates.is_empty() => {
                push("lin", lin(t, c, inference, experiment.vcov))?;
            }
            (Estimator::Cuped, _) => push("cuped", Ok(not_taken(metric, ratio, "cuped")))?,
            (Estimator::Lin, _) => push("lin", Ok(not_taken(metric, ratio, "lin")))?,
            (Estimator::Bootstrap, _) => {
                let name = if ratio { "bootstrap_ratio" } else { "bootstrap_mean" };
                let Some((t, c)) = &sides.buckets else { continue };
                push(name, bootstrap(t, c, inference, &experiment.bootstrap))?;
            }
        }
    }
    Ok(made)
}

/// The effect of an estimator that a metric cannot take.
fn not_taken(metric: &Metric, ratio: bool, estimator: &str) -> Effect {
    let note = if ratio {
        format!("{estimator} takes a metric with a value, this one is a ratio")
    } else {
        format!("{estimator} needs a covariate, the metric has none")
    };
    Effect {
        confidence: metric.inference.confidence,
        method: estimator.to_owned(),
        note: Some(note),
        ..Effect::default()
    }
}

fn failed(error: gosset_stats::Error) -> JobError {
    JobError::Data(error.to_string())
}

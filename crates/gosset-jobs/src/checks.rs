//! The audits of an experiment, from its counted.

use std::collections::{BTreeMap, BTreeSet};

use gosset_stats::compare::{self, srm};
use gosset_stats::summary::{AnySummary, Counts};

use jiff::civil::Date;

use crate::analyse::DaysOfSources;
use crate::audit::{Audit, AuditKind, Rule};
use crate::days::{Days, Late};
use crate::file::{MultipleArms, NonFinite};
use crate::job::{Experiment, Job, Metric, list};
use crate::summaries::{Cells, Counted, Slice};
use crate::units::Base;
use crate::waves::Wave;
use crate::{JobError, Result, internal};

/// Checks what must hold for there to be anything to compare, and makes the audits.
pub(crate) fn audits(job: &Job, experiment: &Experiment, counted: &Counted) -> Result<Vec<Audit>> {
    let rule = |kind: AuditKind| experiment.audits.get(&kind);
    let new = |kind: AuditKind, value: f64| Audit::new(kind, rule(kind), Some(value));
    let units: u64 = counted.analysed.values().sum::<u64>() + counted.left_out;
    if units == 0 {
        return Err(JobError::Data(match counted.unassigned {
            0 => "no unit is assigned: the assignments have no row for it".into(),
            rows => format!(
                "no unit is assigned: {rows} rows of the assignments have no unit or no arm"
            ),
        }));
    }
    if !counted.assigned.contains_key(&experiment.control) {
        return Err(JobError::Data(format!(
            "no unit has the control '{}'; arms found: {}",
            experiment.control,
            list(counted.assigned.keys())
        )));
    }
    let mut audits = Vec::new();

    let strays = strays(experiment, counted);
    let arms = new(AuditKind::Arms, strays.len() as f64);
    audits.push(if strays.is_empty() {
        arms.noted(format!("arms found: {}", list(counted.assigned.keys())))
    } else {
        arms.noted(strays.join("; "))
    });

    let both = |assigned, analysed| {
        [(AuditKind::SampleRatio, assigned), (AuditKind::SampleRatioAnalysed, analysed)]
    };
    if experiment.is_ramp() {
        for ((from, weights), of) in experiment.expected.iter().zip(&counted.ramp) {
            for (kind, sizes) in both(&of.assigned, &of.analysed) {
                if sizes.len() > 1 {
                    let audit = sample_ratio(kind, rule(kind), sizes, Some(weights))?;
                    let from =
                        from.map(|from| format!("assigned from {from} on: ")).unwrap_or_default();
                    let note = audit.note.clone().unwrap_or_default();
                    audits.push(audit.noted(format!("{from}{note}")));
                }
            }
        }
    } else {
        for (kind, sizes) in both(&counted.assigned, &counted.analysed) {
            audits.push(sample_ratio(kind, rule(kind), sizes, experiment.weights())?);
        }
    }

    let share = counted.multiple as f64 / units as f64;
    let multiple = new(AuditKind::MultipleArms, share)
        .noted(format!("{} of {units} units are in more than one arm", counted.multiple));
    let refused = experiment.multiple_arms == MultipleArms::Error && counted.multiple > 0;
    audits.push(Audit {
        failed: multiple.failed || refused,
        blocking: multiple.blocking || refused,
        ..multiple
    });

    if counted.unassigned > 0 {
        audits.push(new(AuditKind::Unassigned, counted.unassigned as f64).noted(format!(
            "{} without a unit or an arm",
            plural(counted.unassigned, "row of the assignments is", "rows of the assignments are")
        )));
    }
    let analysed: u64 = counted.analysed.values().sum();
    for (source, counts) in &counted.sources {
        let own = job.assignments.source.as_deref() == Some(source.as_str());
        if job.sources[source].is_units() {
            let text = plural(counts.several_rows, "unit has", "units have");
            audits.push(
                new(AuditKind::DuplicateUnits, counts.several_rows as f64)
                    .of_source(source)
                    .noted(format!("{text} several rows")),
            );
        }
        if !own {
            let text = plural(counts.without_rows, "unit has", "units have");
            let share =
                if analysed == 0 { 0.0 } else { counts.without_rows as f64 / analysed as f64 };
            audits.push(
                new(AuditKind::UnitsWithoutRows, share)
                    .of_source(source)
                    .noted(format!("{text} no row")),
            );
        }
    }
    for (metric, counts) in experiment.metrics.iter().zip(&counted.metrics) {
        let share = if analysed == 0 { 0.0 } else { counts.missing as f64 / analysed as f64 };
        let text = plural(counts.missing, "unit has", "units have");
        audits.push(
            new(AuditKind::Missing, share)
                .of_metric(&metric.name)
                .noted(format!("{text} no value")),
        );
        let values = plural(counts.non_finite, "value is", "values are");
        let (rule, done) = match metric.non_finite {
            NonFinite::Error => (rule(AuditKind::NonFinite), ""),
            NonFinite::Drop => (None, ", left out"),
            NonFinite::Zero => (None, ", taken as 0"),
        };
        audits.push(
            Audit::new(AuditKind::NonFinite, rule, Some(counts.non_finite as f64))
                .of_metric(&metric.name)
                .noted(format!("{values} NaN or infinite{done}")),
        );
    }
    Ok(audits)
}

/// The checks of units that met something: as many of each arm as the assignment says.
pub(crate) fn of_exposed(experiment: &Experiment, counted: &Counted) -> Result<Vec<Audit>> {
    let kind = AuditKind::SampleRatioAnalysed;
    if counted.analysed.len() < 2 || experiment.is_ramp() {
        return Ok(Vec::new());
    }
    let rule = experiment.audits.get(&kind);
    let audit = sample_ratio(kind, rule, &counted.analysed, experiment.weights())?;
    Ok(vec![Audit { base: Base::Exposure, ..audit }])
}

/// The checks of the sources of an experiment whose units are made of days.
pub(crate) fn of_days(
    experiment: &Experiment,
    date: Date,
    sources: &DaysOfSources<'_>,
    late: Late,
) -> Result<Vec<Audit>> {
    let new =
        |kind: AuditKind, value: Option<f64>| Audit::new(kind, experiment.audits.get(&kind), value);
    let mut audits = Vec::new();
    let used: BTreeSet<&String> = experiment.metrics.iter().map(|metric| &metric.source).collect();
    let of_source = |name: &String| {
        sources.get(name).ok_or_else(|| internal(format!("the source '{name}' has no unit-days")))
    };
    for name in used {
        let days = of_source(name)?;
        let stale = days.stale_days(date);
        let text = match stale {
            0 => "it has rows of the date or after it".to_owned(),
            u64::MAX => "it has no row".to_owned(),
            n => format!("{} without a row up to the date", plural(n, "day", "days")),
        };
        audits.push(new(AuditKind::Freshness, Some(stale as f64)).of_source(name).noted(text));
        let range = Days { from: experiment.start.unwrap_or(Date::MIN), to: date };
        if days.source().section.max_lateness_days.is_some() {
            let rows = days.late_rows(range);
            let text = plural(rows, "row came", "rows came");
            let (waiting, then) = match late {
                Late::LeftOut => (rows, "a backfill counts them"),
                Late::Counted => (0, "they are counted"),
            };
            let text = format!("{text} later than 'max_lateness_days' allows: {then}");
            audits.push(new(AuditKind::LateRows, Some(waiting as f64)).of_source(name).noted(text));
        }
        if let Some(drift) = days.row_count(date) {
            let text =
                format!("{} rows, the median of the days before is {}", drift.value, drift.median);
            audits.push(new(AuditKind::RowCount, Some(drift.times())).of_source(name).noted(text));
        }
        let changes = days.schema_changes(date);
        let audit = new(AuditKind::Schema, Some(changes.len() as f64)).of_source(name);
        audits.push(if changes.is_empty() { audit } else { audit.noted(changes.join("; ")) });
    }
    for metric in &experiment.metrics {
        if let Some(drift) = of_source(&metric.source)?.distribution(date, metric)? {
            let text = format!(
                "{:.4} per unit with rows, the median of the days before is {:.4}",
                drift.value, drift.median
            );
            let audit = new(AuditKind::Distribution, Some(drift.times())).of_metric(&metric.name);
            audits.push(audit.noted(text));
        }
    }
    Ok(audits)
}

/// Whether the arms were alike before the experiment, by metric: the least p-value of its covariates and arms, times their
/// number.
pub(crate) fn balance(experiment: &Experiment, waves: &[(&Wave, &Cells)]) -> Result<Vec<Audit>> {
    let kind = AuditKind::Balance;
    let mut audits = Vec::new();
    let mut seen = BTreeSet::new();
    for (wave, cells) in waves {
        let Some(everybody) = cells.get(&Slice::All) else { continue };
        let Some(control) = everybody.get(&experiment.control) else { continue };
        for (i, part) in wave.parts.iter().enumerate() {
            let metric = &experiment.metrics[part.metric];
            if metric.covariates.is_empty() || part.capped || !seen.insert(part.metric) {
                continue;
            }
            let mut compared = Vec::new();
            for (arm, cell) in everybody.iter().filter(|(arm, _)| **arm != experiment.control) {
                let both = [&cell.summaries[i], &control.summaries[i]];
                for (name, p) in p_values(both, metric)? {
                    compared.push((p, format!("'{name}' of arm '{arm}'")));
                }
            }
            let least = compared.iter().min_by(|(a, _), (b, _)| a.total_cmp(b));
            if let Some((p, of)) = least {
                let corrected = (p * compared.len() as f64).min(1.0);
                let text = match compared.len() {
                    1 => format!("{of}: p = {p:.3e}"),
                    n => format!("{of}: p = {p:.3e}, the least of {n}"),
                };
                let audit = Audit::new(kind, experiment.audits.get(&kind), Some(corrected));
                audits.push(audit.of_metric(&metric.name).noted(text));
            }
        }
    }
    Ok(audits)
}

/// The p-values of the covariates of a metric, from the summaries of two arms.
fn p_values(summaries: [&Vec<u8>; 2], metric: &Metric) -> Result<Vec<(String, f64)>> {
    let [t, c] = summaries
        .map(|bytes| AnySummary::decode(bytes).map_err(|error| internal(error.to_string())));
    let (t, c) = (t?, c?);
    let columns = match &t {
        AnySummary::Moments(t) => t.columns(),
        AnySummary::Buckets(t) => t.columns(),
        _ => return Ok(Vec::new()),
    };
    let covariates = (columns.outcomes()..columns.len()).filter(|i| {
        metric.covariates.iter().any(|covariate| covariate.label == columns.names()[*i])
    });
    let mut found = Vec::new();
    for column in covariates {
        let name = columns.names()[column].clone();
        let effect = match (&t, &c) {
            (AnySummary::Moments(t), AnySummary::Moments(c)) => {
                compare::balance(t, c, column, &metric.inference)?
            }
            (AnySummary::Buckets(t), AnySummary::Buckets(c)) => {
                compare::clustered_balance(t, c, column, &metric.inference)?
            }
            _ => continue,
        };
        found.extend(effect.p_value.map(|p| (name, p)));
    }
    Ok(found)
}

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Arms that should not be there, and arms that should and are not.
fn strays(experiment: &Experiment, counted: &Counted) -> Vec<String> {
    let found: BTreeSet<&String> = counted.assigned.keys().collect();
    match experiment.expected.is_empty() {
        false => {
            let weights = experiment.expected.iter().flat_map(|(_, weights)| weights.keys());
            let expected: BTreeSet<&String> = weights.collect();
            let stray =
                found.difference(&expected).map(|arm| format!("the arm '{arm}' is not expected"));
            stray
                .chain(
                    expected.difference(&found).map(|arm| format!("nobody is in the arm '{arm}'")),
                )
                .collect()
        }
        true if found.len() < 2 => {
            vec![format!("nobody is in an arm other than the control '{}'", experiment.control)]
        }
        true => Vec::new(),
    }
}

/// Are the arms as large as the assignment says? Arms that are not expected have an audit of their own.
fn sample_ratio(
    kind: AuditKind,
    rule: Option<&Rule>,
    sizes: &BTreeMap<String, u64>,
    weights: Option<&BTreeMap<String, f64>>,
) -> Result<Audit> {
    let mut counts = Counts::default();
    for (arm, &n) in sizes {
        if weights.is_none_or(|expected| expected.contains_key(arm)) {
            counts.add(arm, n).map_err(|error| JobError::Data(error.to_string()))?;
        }
    }
    let ratio = srm(&counts, weights);
    let ratio = ratio.map_err(|error| JobError::Data(error.to_string()))?;
    let arms: Vec<String> = ratio
        .arms
        .iter()
        .map(|a| format!("'{}' {} of {:.1} expected", a.arm, a.observed, a.expected))
        .collect();
    let p = ratio.p_value.map(|p| format!(" (p = {p:.3e})")).unwrap_or_default();
    Ok(Audit::new(kind, rule, ratio.p_value).noted(format!("{}{p}", arms.join(", "))))
}

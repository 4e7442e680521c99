//! The audits of an experiment, from its counted.

use std::collections::{BTreeMap, BTreeSet};

use gosset_stats::compare::srm;
use gosset_stats::summary::Counts;

use crate::audit::{Audit, AuditKind, Rule};
use crate::file::{MultipleArms, NonFinite};
use crate::job::{Experiment, Job, list};
use crate::summaries::Counted;
use crate::{JobError, Result};

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

    for (kind, sizes) in [
        (AuditKind::SampleRatio, &counted.assigned),
        (AuditKind::SampleRatioAnalysed, &counted.analysed),
    ] {
        audits.push(sample_ratio(experiment, kind, rule(kind), sizes)?);
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

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Arms that should not be there, and arms that should and are not.
fn strays(experiment: &Experiment, counted: &Counted) -> Vec<String> {
    let found: BTreeSet<&String> = counted.assigned.keys().collect();
    match &experiment.expected {
        Some(expected) => {
            let expected: BTreeSet<&String> = expected.keys().collect();
            let stray =
                found.difference(&expected).map(|arm| format!("the arm '{arm}' is not expected"));
            stray
                .chain(
                    expected.difference(&found).map(|arm| format!("nobody is in the arm '{arm}'")),
                )
                .collect()
        }
        None if found.len() < 2 => {
            vec![format!("nobody is in an arm other than the control '{}'", experiment.control)]
        }
        None => Vec::new(),
    }
}

/// Are the arms as large as the assignment says? Arms that are not expected have an audit of their own.
fn sample_ratio(
    experiment: &Experiment,
    kind: AuditKind,
    rule: Option<&Rule>,
    sizes: &BTreeMap<String, u64>,
) -> Result<Audit> {
    let mut counts = Counts::default();
    for (arm, &n) in sizes {
        if experiment.expected.as_ref().is_none_or(|expected| expected.contains_key(arm)) {
            counts.add(arm, n).map_err(|error| JobError::Data(error.to_string()))?;
        }
    }
    let ratio = srm(&counts, experiment.expected.as_ref());
    let ratio = ratio.map_err(|error| JobError::Data(error.to_string()))?;
    let arms: Vec<String> = ratio
        .arms
        .iter()
        .map(|a| format!("'{}' {} of {:.1} expected", a.arm, a.observed, a.expected))
        .collect();
    let p = ratio.p_value.map(|p| format!(" (p = {p:.3e})")).unwrap_or_default();
    Ok(Audit::new(kind, rule, ratio.p_value).noted(format!("{}{p}", arms.join(", "))))
}

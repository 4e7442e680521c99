//! What a result is made of: the configuration, the inputs, the value versions. Two results with the same descriptor
//! are the same bits.

use std::collections::{BTreeMap, BTreeSet};

use gosset_engine::{Engine, EngineError, location, shown};
use gosset_stats::units;
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use jiff::civil::Date;

use crate::audit::AuditKind;
use crate::days::{Days, Late, UnitDays};
use crate::job::{Experiment, Job, Metric};
use crate::looked::Looked;
use crate::period::days_before;
use crate::{JobError, Result, internal};

/// What the results of an experiment are made of. Values are canonical JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The experiment, the assignments and everything else that all metrics share.
    pub config: BTreeMap<String, String>,
    /// Each metric with its source.
    pub metrics: BTreeMap<String, String>,
    /// The files behind each source.
    pub inputs: BTreeMap<String, Input>,
    /// The value version of each function.
    pub functions: BTreeMap<String, u32>,
}

/// The files behind a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// How many.
    pub files: u64,
    /// How large.
    pub bytes: u64,
    /// A hash of their names, sizes, and etags or times.
    pub fingerprint: String,
}

/// What the assignments are called among the inputs.
pub(crate) const ASSIGNMENTS: &str = "assignments";

/// Fingerprints, each location listed once.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints(BTreeMap<String, Input>);

impl Fingerprints {
    async fn of(&mut self, engine: &Engine, url: &str) -> Result<Input> {
        if let Some(known) = self.0.get(url) {
            return Ok(known.clone());
        }
        let input = Input::of(engine.list(url).await?.files());
        self.0.insert(url.to_owned(), input.clone());
        Ok(input)
    }
}

impl Input {
    /// Of some files.
    pub(crate) fn of(files: &[ObjectMeta]) -> Self {
        let mut text = String::new();
        let mut input = Self { files: files.len() as u64, ..Self::default() };
        for file in files {
            input.bytes += file.size;
            let version = file.e_tag.clone().unwrap_or_else(|| file.last_modified.to_rfc3339());
            text += &format!("{}\n{}\n{version}\n", file.location, file.size);
        }
        input.fingerprint = format!("{:032x}", units::binary(text.as_bytes()));
        input
    }
}

impl Descriptor {
    /// What the results of a date of an experiment would be made of now.
    pub(crate) async fn desired(
        job: &Job,
        experiment: &Experiment,
        engine: &Engine,
        fingerprints: &mut Fingerprints,
        of_days: Option<(&Looked<'_>, Date, Late)>,
    ) -> Result<Self> {
        let inputs = match of_days {
            None => Self::read_inputs(job, experiment, engine, fingerprints).await?,
            Some((looked, date, late)) => inputs_of_days(experiment, looked, date, late)?,
        };
        let zone = job.timezone.iana_name().unwrap_or_default();
        let days = match of_days.filter(|_| experiment.is_daily()) {
            None => json!([experiment.section.start, experiment.section.end, zone]),
            // Whether an experiment goes on is nothing to the dates before.
            Some(_) => json!([experiment.section.start, zone]),
        };
        let periods = of_days.map(|(_, date, _)| {
            let periods = experiment.periods_on(Some(date)).into_iter();
            json!(periods.map(|period| period.to_string()).collect::<Vec<_>>())
        });
        let audits: BTreeMap<&str, Value> = experiment
            .audits
            .iter()
            .filter(|(kind, _)| experiment.is_of_days() || !kind.is_of_days())
            .map(|(kind, rule)| (kind.name(), json!([rule.threshold, rule.blocking])))
            .collect();
        let assignments = &job.assignments;
        let config = [
            ("control", json!(experiment.control)),
            ("days", days),
            ("periods", periods.unwrap_or_default()),
            ("exposure", json!(experiment.section.exposure)),
            ("segments", json!(experiment.segments)),
            ("estimators", json!(experiment.section.estimators)),
            ("expected", json!(experiment.section.expected)),
            ("multiple_arms", json!(experiment.multiple_arms)),
            ("audits", json!(audits)),
            (
                "assignments",
                json!([
                    shown(&location(&assignments.url)?),
                    assignments.section.experiment,
                    assignments.section.arm,
                    assignments.unit,
                    assignments.time
                ]),
            ),
        ];
        let estimators = &experiment.estimators;
        let options =
            estimators.iter().map(|e| (e.name(), e.options())).filter(|(_, v)| !v.is_null());
        let config = config.into_iter().chain(options).filter(|(_, v)| !v.is_null());
        let config = config.map(|(k, v)| (k.to_owned(), canonical(&v))).collect();
        let mut metrics = BTreeMap::new();
        for metric in &experiment.metrics {
            metrics.insert(metric.name.clone(), definition(job, metric)?);
        }
        for (metric, error) in &experiment.failed {
            metrics.insert(metric.name.clone(), canonical(&json!(["failed", error.to_string()])));
        }
        let names = estimators.iter().flat_map(|estimator| estimator.functions());
        let functions = names
            .filter_map(|name| {
                Some(((*name).to_owned(), gosset_sql::function(name)?.value_version))
            })
            .collect();
        Ok(Self { config, metrics, inputs, functions })
    }

    /// The files behind an experiment, as they are now.
    pub(crate) async fn read_inputs(
        job: &Job,
        experiment: &Experiment,
        engine: &Engine,
        fingerprints: &mut Fingerprints,
    ) -> Result<BTreeMap<String, Input>> {
        let mut inputs = BTreeMap::new();
        let assignments = match &job.assignments.source {
            Some(source) => source.as_str(),
            None => ASSIGNMENTS,
        };
        let input = fingerprints.of(engine, &job.assignments.url).await?;
        inputs.insert(assignments.to_owned(), input);
        let used: BTreeSet<&String> = experiment.metrics.iter().map(|m| &m.source).collect();
        for source in used {
            let input = fingerprints.of(engine, &job.sources[source].section.url).await;
            let input = input.map_err(|e| e.about(&format!("source '{source}'")))?;
            inputs.insert(source.clone(), input);
        }
        Ok(inputs)
    }

    /// What the totals of a date are made of.
    pub(crate) fn of_totals(&self, experiment: &Experiment) -> Self {
        let of = |kept: &[&str]| {
            let known = |key: &&str| Some(((*key).to_owned(), self.config.get(*key)?.clone()));
            kept.iter().filter_map(known).collect()
        };
        let value = |metric: &Metric| {
            let (section, known) = (&metric.section, &metric.covariates);
            let value = json!([
                metric.source,
                section.value,
                section.numerator,
                section.denominator,
                known,
                metric.lookback,
                metric.non_finite
            ]);
            (metric.name.clone(), canonical(&value))
        };
        let version = gosset_sql::function("buckets").map_or(0, |function| function.value_version);
        Self {
            config: of(&["days", "segments", "multiple_arms", "assignments"]),
            metrics: experiment.metrics.iter().map(value).collect(),
            inputs: self.inputs.clone(),
            functions: [("buckets".to_owned(), version)].into(),
        }
    }

    /// Whether totals with this descriptor are those of a metric that are desired.
    pub(crate) fn holds(&self, desired: &Self, metric: &Metric) -> bool {
        let input = input_of(metric);
        self.config == desired.config
            && self.functions == desired.functions
            && self.metrics.get(&metric.name) == desired.metrics.get(&metric.name)
            && self.inputs.get(ASSIGNMENTS) == desired.inputs.get(ASSIGNMENTS)
            && self.inputs.get(&input) == desired.inputs.get(&input)
    }

    /// The metrics of which results with this descriptor are those that are desired, where all that metrics share is the same.
    pub(crate) fn unaffected(&self, desired: &Self, experiment: &Experiment) -> Vec<String> {
        let failed = experiment.failed.iter().map(|(metric, _)| metric);
        let metrics = || experiment.metrics.iter().chain(failed.clone());
        let inputs: BTreeSet<String> = metrics().map(input_of).collect();
        let same = |name: &String, input: &Input| self.inputs.get(name) == Some(input);
        let shared = desired.inputs.iter().filter(|(name, _)| !inputs.contains(*name));
        if self.config != desired.config
            || self.functions != desired.functions
            || !shared.into_iter().all(|(name, input)| same(name, input))
        {
            return Vec::new();
        }
        let holds = |metric: &&Metric| self.holds(desired, metric);
        metrics().filter(holds).map(|metric| metric.name.clone()).collect()
    }

    /// Takes what was published of metrics that cannot be measured any more, although they are defined as they were: a file
    /// that cannot be read does not take back what was true of the days before it.
    pub(crate) fn stand_by(
        &mut self,
        published: &Self,
        job: &Job,
        experiment: &Experiment,
    ) -> Result<()> {
        for (metric, _) in &experiment.failed {
            let (defined, input) = (definition(job, metric)?, input_of(metric));
            let known = (published.metrics.get(&metric.name), published.inputs.get(&input));
            if let (Some(known), Some(of)) = known
                && *known == defined
            {
                self.metrics.insert(metric.name.clone(), defined);
                self.inputs.insert(input, of.clone());
            }
        }
        Ok(())
    }

    /// Why results with this descriptor are not those that are desired; nothing where they are.
    pub(crate) fn differences(&self, desired: &Self) -> Vec<String> {
        let mut reasons = Vec::new();
        compare(&self.metrics, &desired.metrics, |change, name| {
            reasons.push(format!("{change} metric '{name}'"));
        });
        compare(&self.config, &desired.config, |_, key| reasons.push(format!("changed '{key}'")));
        compare(&self.inputs, &desired.inputs, |change, name| {
            reasons.push(format!("{change} input '{name}'"));
        });
        compare(&self.functions, &desired.functions, |change, name| {
            reasons.push(match (self.functions.get(name), desired.functions.get(name)) {
                (Some(old), Some(new)) => {
                    format!("{name} has value version {new}, published was {old}")
                }
                _ => format!("{change} function {name}"),
            });
        });
        reasons
    }
}

/// A metric with its source.
fn definition(job: &Job, metric: &Metric) -> Result<String> {
    let source = &job.sources[&metric.source].section;
    let inference = &metric.inference;
    let inference = json!([
        inference.confidence,
        format!("{:?}", inference.alternative),
        format!("{:?}", inference.relative)
    ]);
    Ok(canonical(&json!({
        "source": [shown(&location(&source.url)?), json!(source.grain), json!(source.unit), json!(source.time)],
        "value": metric.section.value,
        "numerator": metric.section.numerator,
        "denominator": metric.section.denominator,
        "quantile": metric.section.quantile,
        "covariates": metric.covariates,
        "capped_at": metric.cap.map(|cap| json!([cap.lower, cap.upper])),
        "lookback_days": metric.lookback,
        "non_finite": metric.non_finite,
        "inference": inference,
    })))
}

/// What units did on the days that results of a date are of, by metric, and who was assigned.
fn inputs_of_days(
    experiment: &Experiment,
    looked: &Looked<'_>,
    date: Date,
    late: Late,
) -> Result<BTreeMap<String, Input>> {
    let input = |hash: u64| Input { fingerprint: format!("{hash:016x}"), ..Input::default() };
    let assigned = looked.assigned.as_ref().map_err(Clone::clone)?;
    let mut inputs = BTreeMap::new();
    inputs.insert(ASSIGNMENTS.to_owned(), input(assigned.until(&experiment.name, date)));
    for metric in experiment.metrics.iter().chain(&experiment.exposure) {
        if let Some(error) = looked.failed.get(&metric.source) {
            return Err(error.clone());
        }
        let days = looked.days.get(&metric.source);
        let days = days.ok_or_else(|| internal("a source has no unit-days"))?;
        let columns = days.columns_of(metric)?;
        if !looked.unread.contains(&metric.source) {
            check_freshness(experiment, metric, days, date)?;
        }
        let start = experiment.start.unwrap_or(Date::MIN);
        let range =
            Days { from: days_before(start, metric.lookback.unwrap_or_default()), to: date };
        let hash = days.digest(columns, range, late);
        inputs.insert(input_of(metric), input(hash));
    }
    Ok(inputs)
}

/// A source that is not of the date yet is missing, not empty.
fn check_freshness(
    experiment: &Experiment,
    metric: &Metric,
    days: &UnitDays<'_>,
    date: Date,
) -> Result<()> {
    let Some(rule) = experiment.audits.get(&AuditKind::Freshness).filter(|rule| rule.blocking)
    else {
        return Ok(());
    };
    let stale = days.stale_days(date);
    if stale as f64 <= rule.threshold {
        return Ok(());
    }
    let found = match stale {
        u64::MAX => "it has none".to_owned(),
        n => format!("the last are of {}", days_before(date, n.try_into().unwrap_or(u16::MAX))),
    };
    Err(JobError::Engine(EngineError::MissingInput(format!(
        "source '{}' is not fresh: expected rows of {date}, {found}",
        metric.source
    ))))
}

/// What the unit-days of a metric are called among the inputs.
fn input_of(metric: &Metric) -> String {
    format!("{} of {}", metric.name, metric.source)
}

/// Tells each key whose values differ, and how.
fn compare<T: PartialEq>(
    published: &BTreeMap<String, T>,
    desired: &BTreeMap<String, T>,
    mut tell: impl FnMut(&str, &str),
) {
    let keys: BTreeSet<&String> = published.keys().chain(desired.keys()).collect();
    for key in keys {
        match (published.get(key), desired.get(key)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(_), Some(_)) => tell("changed", key),
            (None, _) => tell("new", key),
            (_, None) => tell("removed", key),
        }
    }
}

/// JSON with sorted keys and without nulls: a key that a later version knows and nobody uses changes nothing.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> =
                map.iter().filter(|(_, v)| !v.is_null()).collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_has_one_form() {
        let value = json!({"b": [1, null, {"z": "a\"b", "y": null}], "a": 0.1});
        assert_eq!(canonical(&value), r#"{"a":0.1,"b":[1,null,{"z":"a\"b"}]}"#);
    }

    #[test]
    fn differences_name_what_changed() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let published = Descriptor {
            config: map(&[("control", "a")]),
            metrics: map(&[("spend", "1"), ("visits", "1")]),
            functions: [("ttest".to_owned(), 1)].into(),
            ..Descriptor::default()
        };
        let desired = Descriptor {
            config: map(&[("control", "b")]),
            metrics: map(&[("spend", "2"), ("orders", "1")]),
            functions: [("ttest".to_owned(), 2)].into(),
            ..Descriptor::default()
        };
        assert_eq!(
            published.differences(&desired),
            [
                "new metric 'orders'",
                "changed metric 'spend'",
                "removed metric 'visits'",
                "changed 'control'",
                "ttest has value version 2, published was 1"
            ]
        );
        assert!(published.differences(&published).is_empty());
    }
}

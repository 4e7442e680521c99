//! What a result is made of: the configuration, the inputs, the value versions. Two results with the same descriptor
//! are the same bits.

use std::collections::{BTreeMap, BTreeSet};

use gosset_engine::{Engine, location, shown};
use gosset_stats::units;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Result;
use crate::job::{Experiment, Job};

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
        let mut text = String::new();
        let mut input = Input::default();
        for file in engine.list(url).await? {
            input.files += 1;
            input.bytes += file.size;
            let version = file.e_tag.unwrap_or_else(|| file.last_modified.to_rfc3339());
            text += &format!("{}\n{}\n{version}\n", file.location, file.size);
        }
        input.fingerprint = format!("{:032x}", units::binary(text.as_bytes()));
        self.0.insert(url.to_owned(), input.clone());
        Ok(input)
    }
}

impl Descriptor {
    /// What the results of an experiment would be made of now.
    pub(crate) async fn desired(
        job: &Job,
        experiment: &Experiment,
        engine: &Engine,
        fingerprints: &mut Fingerprints,
    ) -> Result<Self> {
        let inputs = Self::read_inputs(job, experiment, engine, fingerprints).await?;
        let zone = job.timezone.iana_name().unwrap_or_default();
        let audits: BTreeMap<&str, Value> = experiment
            .audits
            .iter()
            .map(|(kind, rule)| (kind.name(), json!([rule.threshold, rule.blocking])))
            .collect();
        let assignments = &job.assignments;
        let config = [
            ("control", json!(experiment.control)),
            ("days", json!([experiment.section.start, experiment.section.end, zone])),
            ("segments", json!(experiment.segments)),
            ("estimators", json!(experiment.section.estimators)),
            ("expected", json!(experiment.expected)),
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
        let config =
            config.into_iter().chain(options).map(|(k, v)| (k.to_owned(), canonical(&v))).collect();
        let mut metrics = BTreeMap::new();
        for metric in &experiment.metrics {
            let source = &job.sources[&metric.source].section;
            let inference = &metric.inference;
            let inference = json!([
                inference.confidence,
                format!("{:?}", inference.alternative),
                format!("{:?}", inference.relative)
            ]);
            let value = json!({
                "source": [shown(&location(&source.url)?), json!(source.grain), json!(source.unit), json!(source.time)],
                "value": metric.section.value,
                "numerator": metric.section.numerator,
                "denominator": metric.section.denominator,
                "covariates": metric.covariates,
                "capped_at": metric.cap.map(|cap| json!([cap.lower, cap.upper])),
                "non_finite": metric.non_finite,
                "inference": inference,
            });
            metrics.insert(metric.name.clone(), canonical(&value));
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
fn canonical(value: &Value) -> String {
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

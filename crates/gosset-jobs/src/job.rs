//! A job: a job file whose names are resolved and whose values are checked, before any input is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use gosset_engine::parse_bytes;
use gosset_stats::compare::Caps;
use gosset_stats::summary::moments::{DENOMINATOR, NUMERATOR};
use gosset_stats::{Alternative, Inference, Relative, units};
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::audit::{AuditKind, Rule};
use crate::estimators::{self, Estimator};
use crate::expression::is_linear;
use crate::file::explain::nearest;
use crate::file::{
    self, AssignmentsSection, ExpectedSection, ExperimentSection, ExposureSection, Grain, JobFile,
    MetricSection, MultipleArms, NonFinite, SourceSection,
};
use crate::kept::Kept;
use crate::period::{Period, days};
use crate::{JobError, Result};

/// The most characters of a name.
const LONGEST_NAME: usize = 128;

/// A checked job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name in results.
    pub name: String,
    /// Where its result tables are.
    pub store: String,
    /// Days are civil days of it.
    pub timezone: TimeZone,
    /// Memory that queries may hold, in bytes.
    pub memory_limit: Option<usize>,
    /// The cluster that runs the queries, as a URL; this process if there is none.
    pub cluster: Option<String>,
    /// How long a run may take.
    pub timeout: Option<SignedDuration>,
    /// Tables of rows, by name.
    pub sources: BTreeMap<String, Source>,
    /// Which unit is in which arm.
    pub assignments: Assignments,
    /// In the order of their names.
    pub experiments: Vec<Experiment>,
}

/// A table of rows.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What the file says.
    pub section: SourceSection,
}

/// Where the arms of units come from.
#[derive(Debug, Clone)]
pub struct Assignments {
    /// The source whose rows say the arm, unless it is a table of its own.
    pub source: Option<String>,
    /// Path or URL of the rows.
    pub url: String,
    /// The column of the unit; without it each row is a unit.
    pub unit: Option<String>,
    /// The column of the time of the assignment.
    pub time: Option<String>,
    /// What the file says.
    pub section: AssignmentsSection,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// The arm that the others are compared with.
    pub control: String,
    /// The first day.
    pub start: Option<Date>,
    /// The last day.
    pub end: Option<Date>,
    /// In the order of the file.
    pub metrics: Vec<Metric>,
    /// Metrics that cannot be measured, and why: they fail alone.
    pub(crate) failed: Vec<(Metric, JobError)>,
    /// How often a unit met what it must have met to be in a second analysis, as if it were a metric.
    pub(crate) exposure: Option<Metric>,
    /// Names and columns, in the order of the file.
    pub segments: Vec<(String, String)>,
    /// In the order of the file.
    pub(crate) estimators: Vec<Arc<dyn Estimator>>,
    /// What effects are of, in the order of the file.
    pub periods: Vec<Period>,
    /// Weights of the arms, by the day from which they hold.
    pub(crate) expected: Expected,
    /// What happens with units in more than one arm.
    pub multiple_arms: MultipleArms,
    /// The checks.
    pub audits: BTreeMap<AuditKind, Rule>,
    /// How long its dates may take in a run.
    pub timeout: Option<SignedDuration>,
    /// What the file says.
    pub section: ExperimentSection,
}

/// Weights of the arms with the day of assignment from which they hold, in the order of days; none where arms are equal.
pub(crate) type Expected = Vec<(Option<Date>, BTreeMap<String, f64>)>;

/// What is known of a unit before its assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Covariate {
    /// The column; none where it is the metric itself, over the days before.
    pub column: Option<String>,
    /// What it is called, which says whether it is part of a ratio.
    pub label: String,
}

/// A metric as an experiment uses it.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The source it is measured on.
    pub source: String,
    /// What is measured.
    pub measure: Measure,
    /// What is known of a unit before its assignment.
    pub covariates: Vec<Covariate>,
    /// How many days before the assignment covariates are of that are the metric itself.
    pub lookback: Option<u16>,
    /// Whether it is inferred from totals of buckets of units, to which days are added: results are of days, and the value
    /// of a unit is the sum of its values of each day.
    pub totals: bool,
    /// Where the values of units are capped.
    pub cap: Option<Caps>,
    /// What happens with NaN and infinite values.
    pub non_finite: NonFinite,
    /// How effects are inferred.
    pub inference: Inference,
    /// What the file says.
    pub section: MetricSection,
}

/// A summary that estimators take of the metric at a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) metric: usize,
    pub(crate) kept: Kept,
    /// Whether it is of the capped values.
    pub(crate) capped: bool,
}

impl Part {
    /// What the estimate without the cap is made of, where the part is of capped values.
    pub(crate) fn uncapped(&self, estimator: &dyn Estimator, metric: &Metric) -> Option<Self> {
        let kept = estimators::for_estimates(estimator).takes(metric).ok()?;
        self.capped.then_some(Self { kept, capped: false, ..*self })
    }
}

/// What a metric measures, as SQL expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// The mean over units of a value for each.
    Mean(String),
    /// The ratio of two sums over units.
    Ratio(String, String),
    /// Quantiles of a value of each row, over the rows of all units.
    Quantiles {
        /// The value of a row.
        of: String,
        /// Which quantiles.
        at: Vec<f64>,
    },
}

impl Measure {
    /// Its expressions.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Mean(value) | Self::Quantiles { of: value, .. } => (value, None),
            Self::Ratio(above, below) => (above, Some(below)),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }

    /// Which quantiles of rows it is, if it is.
    pub(crate) fn quantiles(&self) -> Option<&[f64]> {
        match self {
            Self::Quantiles { at, .. } => Some(at),
            Self::Mean(_) | Self::Ratio(..) => None,
        }
    }

    /// Whether its values over days are the sums of those of each day.
    fn is_additive(&self) -> bool {
        !matches!(self, Self::Quantiles { .. }) && self.expressions().all(is_linear)
    }
}

impl Job {
    /// Reads and checks a job file.
    ///
    /// # Errors
    /// [`JobError::File`] with what is wrong; an engine error if the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        Self::new(JobFile::read(path)?).map_err(|error| error.about(&shown))
    }

    /// Checks a job file.
    ///
    /// # Errors
    /// [`JobError::File`] with what is wrong.
    pub fn new(file: JobFile) -> Result<Self> {
        if let Some(pattern) = file.include.first() {
            return wrong(format!(
                "include '{pattern}': it is relative to the job file, which is not known"
            ));
        }
        check_names("the job", [&file.job.name])?;
        check_names("a source", file.sources.keys())?;
        check_names("a segment", file.segments.keys())?;
        check_names("a metric", file.metrics.keys())?;
        check_names("an experiment", file.experiments.keys())?;
        if file.experiments.is_empty() {
            return wrong("the job has no experiment");
        }
        let timezone = TimeZone::get(&file.job.timezone).map_err(|_| {
            JobError::File(format!("'{}' is not an IANA time zone", file.job.timezone))
        })?;
        let memory_limit = file.engine.memory_limit.as_deref().map(parse_bytes).transpose()?;
        let sources: BTreeMap<String, Source> = file
            .sources
            .iter()
            .map(|(name, section)| {
                Ok((name.clone(), Source { name: name.clone(), section: section.clone() }))
            })
            .collect::<Result<_>>()?;
        sources.values().try_for_each(check_source)?;
        let assignments = assignments(&file.assignments, &sources)?;
        estimators::check(&file.estimators)?;
        let experiments = file
            .experiments
            .iter()
            .map(|(name, section)| {
                experiment(&file, &assignments, name, section)
                    .map_err(|error| error.about(&format!("experiment '{name}'")))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            name: file.job.name,
            store: file.job.store,
            timezone,
            memory_limit,
            cluster: cluster(file.engine.cluster.as_deref())?,
            timeout: timeout(file.job.timeout.as_deref())?,
            sources,
            assignments,
            experiments,
        })
    }

    /// Whether a unit of some experiment is known by the position of its row alone. The rows are then read in order,
    /// in one stream.
    pub fn needs_order(&self) -> bool {
        self.assignments.unit.is_none()
            && self.experiments.iter().any(|e| e.parts().iter().any(|p| p.kept.needs_units()))
    }
}

impl Source {
    /// Whether its rows are units.
    pub fn is_units(&self) -> bool {
        self.section.grain == Grain::Unit
    }
}

impl Experiment {
    /// The days that there are results of, up to one; none of them where nothing has a time. A day that is not over yet
    /// is told as an error.
    pub fn dates(&self, until: Date) -> Result<Vec<Option<Date>>, Date> {
        match (self.start, self.end) {
            (Some(start), Some(end)) if self.is_daily() => {
                let of = |date: &Date| self.periods.iter().any(|p| p.is_of(*date, start, end));
                let dates: Vec<_> = days(start, end.min(until)).filter(of).map(Some).collect();
                if dates.is_empty() { Err(start) } else { Ok(dates) }
            }
            (_, Some(end)) if end > until => Err(end),
            (_, end) => Ok(vec![end]),
        }
    }

    /// The sources of its metrics and of its exposure.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.metrics.iter().chain(&self.exposure).map(|metric| metric.source.as_str())
    }

    /// The experiment with some of its metrics.
    pub(crate) fn with(&self, wanted: impl Fn(&Metric) -> bool) -> Self {
        let mut some = self.clone();
        some.metrics.retain(&wanted);
        some.failed.retain(|(metric, _)| wanted(metric));
        some
    }

    /// Whether there are results of every day.
    pub fn is_daily(&self) -> bool {
        self.periods.iter().any(|period| period.is_daily())
    }

    /// Whether units are made of the days of units that are kept, not of rows.
    pub fn is_of_days(&self) -> bool {
        self.is_daily()
            || self.exposure.is_some()
            || self.metrics.iter().any(|metric| metric.lookback.is_some())
    }

    /// Whether units of different shares of the arms are in it, which cannot be taken together.
    pub fn is_ramp(&self) -> bool {
        self.expected.len() > 1
    }

    /// Whether units have strata.
    pub(crate) fn is_stratified(&self) -> bool {
        self.estimators.iter().any(|estimator| estimator.is_stratified())
    }

    /// The column of the assignments that units are stratified by, where an estimator takes strata.
    pub(crate) fn strata(&self) -> Option<&str> {
        self.estimators.iter().find_map(|estimator| estimator.strata())
    }

    /// Whether its units are looked at more than once.
    pub(crate) fn passes_twice(&self) -> bool {
        self.metrics.iter().any(|metric| metric.cap.is_some())
            || self.estimators.iter().any(|estimator| estimator.passes_twice())
    }

    /// The weights of the arms, where they are the same for all units.
    pub(crate) fn weights(&self) -> Option<&BTreeMap<String, f64>> {
        match self.expected.as_slice() {
            [(_, weights)] => Some(weights),
            _ => None,
        }
    }

    /// The experiment without metrics that cannot be measured.
    pub(crate) fn without(&self, failed: &BTreeMap<String, JobError>) -> Self {
        let mut rest = self.clone();
        let (bad, good): (Vec<Metric>, Vec<Metric>) =
            rest.metrics.drain(..).partition(|metric| failed.contains_key(&metric.name));
        rest.metrics = good;
        rest.failed.extend(bad.into_iter().map(|metric| {
            let error = failed[&metric.name].clone();
            (metric, error)
        }));
        rest
    }

    /// What an estimator compares of a metric, or why it cannot.
    pub(crate) fn takes(&self, estimator: &dyn Estimator, metric: &Metric) -> Result<Kept, String> {
        match self.expected.get(1) {
            Some((Some(from), _)) if !estimator.is_stratified() => Err(format!(
                "units of different shares of the arms are not taken together (from {from} on others are expected): \
                 post_stratify compares within them"
            )),
            _ => match metric.measure {
                Measure::Quantiles { .. } => estimator.takes_rows(),
                Measure::Mean(_) | Measure::Ratio(..) => estimator.takes(metric),
            },
        }
    }

    /// The summary that an estimator takes of the metric at a position, or why it cannot.
    pub(crate) fn part(&self, estimator: &dyn Estimator, metric: usize) -> Result<Part, String> {
        let of = &self.metrics[metric];
        let kept = self.takes(estimator, of)?;
        Ok(Part { metric, kept, capped: of.cap.is_some() && kept.is_of_means() })
    }

    /// The summaries that its estimators take, metric by metric, each once.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (metric, of) in self.metrics.iter().enumerate() {
            for estimator in &self.estimators {
                let Ok(part) = self.part(estimator.as_ref(), metric) else { continue };
                let uncapped = part.uncapped(estimator.as_ref(), of);
                for part in std::iter::once(part).chain(uncapped) {
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
            }
        }
        parts
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(JobError::File(text.into()))
}

/// Names stand in results, partitions and messages: they are plain.
fn check_names<'a>(what: &str, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    for name in names {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= LONGEST_NAME;
        if !plain {
            return wrong(format!(
                "the name of {what} must be letters, digits, '_', '-' and '.', begin with a letter or digit and have \
                 at most {LONGEST_NAME} of them; found {name:?}"
            ));
        }
    }
    Ok(())
}

/// An entry by its name.
fn lookup<'a, T>(what: &str, name: &str, known: &'a BTreeMap<String, T>) -> Result<&'a T> {
    known.get(name).ok_or_else(|| {
        let hint = nearest(name, known.keys().map(String::as_str)).map_or_else(
            || format!("the job has {}", list(known.keys())),
            |near| format!("did you mean '{near}'?"),
        );
        JobError::File(format!("the {what} '{name}' is not defined; {hint}"))
    })
}

/// Names for a message.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn check_source(source: &Source) -> Result<()> {
    if source.section.grain == Grain::Row && source.section.unit.is_none() {
        return wrong(format!(
            "source '{}': the key 'unit' is missing (or grain = \"unit\" where each row is a unit)",
            source.name
        ));
    }
    if source.section.max_lateness_days.is_some() && source.section.partition.is_none() {
        return wrong(format!(
            "source '{}': 'max_lateness_days' needs 'partition', the folders that say when rows arrive",
            source.name
        ));
    }
    Ok(())
}

fn assignments(
    section: &AssignmentsSection,
    sources: &BTreeMap<String, Source>,
) -> Result<Assignments> {
    match (&section.source, &section.url) {
        (Some(name), None) => {
            let source = lookup("source", name, sources).map_err(|e| e.about("[assignments]"))?;
            Ok(Assignments {
                source: Some(name.clone()),
                url: source.section.url.clone(),
                unit: section.unit.clone().or_else(|| source.section.unit.clone()),
                time: section.time.clone().or_else(|| source.section.time.clone()),
                section: section.clone(),
            })
        }
        (None, Some(url)) => {
            if section.unit.is_none() {
                return wrong("[assignments]: the key 'unit' is missing");
            }
            Ok(Assignments {
                source: None,
                url: url.clone(),
                unit: section.unit.clone(),
                time: section.time.clone(),
                section: section.clone(),
            })
        }
        _ => wrong("[assignments]: expected either 'url' or 'source'"),
    }
}

fn experiment(
    file: &JobFile,
    assignments: &Assignments,
    name: &str,
    section: &ExperimentSection,
) -> Result<Experiment> {
    let periods: Vec<Period> =
        section.periods.iter().map(|text| Period::parse(text)).collect::<Result<_>>()?;
    if section.periods.is_empty() || section.metrics.is_empty() || section.estimators.is_empty() {
        return wrong("expected at least one of each of 'metrics', 'periods' and 'estimators'");
    }
    unique("metric", &section.metrics)?;
    unique("segment", &section.segments)?;
    unique("estimator", &section.estimators)?;
    let metrics = section
        .metrics
        .iter()
        .map(|name| {
            let metric = lookup("metric", name, &file.metrics)?;
            resolve_metric(file, section, assignments, name, metric)
                .map_err(|error| error.about(&format!("metric '{name}'")))
        })
        .collect::<Result<Vec<_>>>()?;
    let segments = section
        .segments
        .iter()
        .map(|name| Ok((name.clone(), lookup("segment", name, &file.segments)?.column.clone())))
        .collect::<Result<Vec<_>>>()?;
    let (start, end) = (section.start.map(|day| day.0), section.end.map(|day| day.0));
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        return wrong(format!("it starts on {start}, after its end on {end}"));
    }
    let timed = assignments.time.is_some()
        || metrics.iter().any(|m| file.sources[&m.source].time.is_some());
    if !timed && (start.is_some() || end.is_some()) {
        return wrong("it has a 'start' or 'end', but no source of it has a 'time'");
    }
    let expected = expected(section)?;
    let seed = |own: Option<u32>| seed_of(own.unwrap_or(file.job.seed), name);
    let estimators = section.estimators.iter();
    let estimators = estimators.map(|name| estimators::estimator(name, &file.estimators, &seed));
    let experiment = Experiment {
        name: name.to_owned(),
        control: section.control.clone(),
        start,
        end,
        metrics,
        failed: Vec::new(),
        exposure: section.exposure.as_ref().map(|of| exposure(file, name, of)).transpose()?,
        segments,
        estimators: estimators.collect::<Result<_>>()?,
        periods,
        expected,
        multiple_arms: section.multiple_arms.or(file.job.multiple_arms).unwrap_or_default(),
        audits: AuditKind::rules(&file.audits)?,
        timeout: timeout(section.timeout.as_deref())?,
        section: section.clone(),
    };
    let ramp = experiment.is_ramp();
    experiment.estimators.iter().try_for_each(|estimator| estimator.check(ramp))?;
    if ramp && assignments.time.is_none() {
        return wrong("a list of 'expected' needs the 'time' of the assignments");
    }
    check_days(file, assignments, &experiment)?;
    Ok(experiment)
}

fn cluster(url: Option<&str>) -> Result<Option<String>> {
    match url {
        Some(url) if !url.starts_with("df://") => Err(JobError::File(format!(
            "[engine] cluster: expected a URL such as df://host:50050, found '{url}'"
        ))),
        url => Ok(url.map(ToOwned::to_owned)),
    }
}

/// A time-out as people write it: `2h`, `1h 30m`.
fn timeout(text: Option<&str>) -> Result<Option<SignedDuration>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<SignedDuration>().ok().filter(|timeout| timeout.is_positive()) {
        Some(timeout) => Ok(Some(timeout)),
        None => wrong(format!(
            "'timeout' must be a time such as \"2h\" or \"1h 30m\"; found \"{text}\""
        )),
    }
}

/// What an experiment needs whose units are made of days.
fn check_days(file: &JobFile, assignments: &Assignments, experiment: &Experiment) -> Result<()> {
    if !experiment.is_of_days() {
        return Ok(());
    }
    let daily = experiment.periods.iter().find(|period| period.is_daily());
    let why = match daily {
        Some(period) => format!("the period '{period}'"),
        None if experiment.exposure.is_some() => "'exposure'".to_owned(),
        None => "'lookback_days'".to_owned(),
    };
    if daily.is_some() && (experiment.start.is_none() || experiment.end.is_none()) {
        return wrong(format!("{why} needs the 'start' and the 'end' of the experiment"));
    }
    for metric in experiment.metrics.iter().chain(&experiment.exposure) {
        let source = &file.sources[&metric.source];
        if assignments.source.as_deref() == Some(metric.source.as_str()) {
            return wrong(format!(
                "{why} needs [assignments] of their own: they are of source '{}', whose rows are measured",
                metric.source
            ));
        }
        if source.grain == Grain::Unit || source.time.is_none() {
            return wrong(format!(
                "{why} needs rows with a 'time'; those of source '{}' have none",
                metric.source
            ));
        }
        if metric.lookback.is_some() && assignments.time.is_none() {
            return wrong("'lookback_days' needs the 'time' of the assignments");
        }
    }
    Ok(())
}

/// The rows that say whether a unit met something, counted as a metric is.
fn exposure(file: &JobFile, experiment: &str, section: &ExposureSection) -> Result<Metric> {
    let source =
        lookup("source", &section.source, &file.sources).map_err(|e| e.about("exposure"))?;
    if source.unit.is_none() {
        return wrong(format!("exposure: source '{}' has no 'unit'", section.source));
    }
    let condition = section.condition.as_deref().map(|of| format!(" FILTER (WHERE {of})"));
    Ok(Metric {
        name: format!("exposure of {experiment}"),
        source: section.source.clone(),
        measure: Measure::Mean(format!("count(*){}", condition.unwrap_or_default())),
        covariates: Vec::new(),
        lookback: None,
        totals: false,
        cap: None,
        non_finite: NonFinite::default(),
        inference: Inference::default(),
        section: MetricSection::default(),
    })
}

fn expected(section: &ExperimentSection) -> Result<Expected> {
    let expected: Expected = match &section.expected {
        None => Vec::new(),
        Some(ExpectedSection::Always(weights)) => vec![(None, weights.clone())],
        Some(ExpectedSection::From(all)) => {
            all.iter().map(|range| (Some(range.from.0), range.weights.clone())).collect()
        }
    };
    expected.iter().try_for_each(|(_, weights)| check_expected(weights, &section.control))?;
    if !expected.is_sorted_by_key(|(from, _)| *from) {
        return wrong("the days of 'expected' must be in order");
    }
    if let Some((Some(from), _)) = expected.first()
        && section.start.is_none_or(|start| start.0 < *from)
    {
        return wrong(format!("'expected' begins on {from}, after the start of the experiment"));
    }
    Ok(expected)
}

fn unique(what: &str, names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => wrong(format!("the {what} '{twice}' is named twice")),
        None => Ok(()),
    }
}

fn check_expected(expected: &BTreeMap<String, f64>, control: &str) -> Result<()> {
    if let Some((arm, weight)) = expected.iter().find(|(_, w)| !(w.is_finite() && **w > 0.0)) {
        return wrong(format!(
            "the expected weight of arm '{arm}' must be positive; found {weight}"
        ));
    }
    if !expected.contains_key(control) {
        return wrong(format!("'expected' does not name the control '{control}'"));
    }
    if expected.len() < 2 {
        return wrong("'expected' must name at least two arms");
    }
    Ok(())
}

fn resolve_metric(
    file: &JobFile,
    experiment: &ExperimentSection,
    assignments: &Assignments,
    name: &str,
    section: &MetricSection,
) -> Result<Metric> {
    let source = file
        .sources
        .get(&section.source)
        .map_or_else(|| lookup("source", &section.source, &file.sources), Ok)?;
    let own = assignments.source.as_deref() == Some(section.source.as_str());
    if !own && source.unit.is_none() {
        return wrong(format!(
            "source '{}' is not the source of the assignments, so it needs the key 'unit' to be joined with them",
            section.source
        ));
    }
    if !own && assignments.unit.is_none() {
        return wrong(format!(
            "[assignments] need the key 'unit' to be joined with source '{}'",
            section.source
        ));
    }
    let measure = measure(section)?;
    if matches!(measure, Measure::Quantiles { .. }) {
        check_quantiles(section, source)?;
    }
    let covariates = covariates(name, section, matches!(measure, Measure::Ratio(..)))?;
    let daily = experiment.periods.iter().any(|period| period != "overall");
    let totals = daily && section.cap.is_none() && measure.is_additive();
    let job = &file.job;
    let inference = Inference {
        confidence: section.confidence.or(experiment.confidence).or(job.confidence).unwrap_or(0.95),
        alternative: match section.alternative.or(experiment.alternative).or(job.alternative) {
            Some(file::Alternative::Greater) => Alternative::Greater,
            Some(file::Alternative::Less) => Alternative::Less,
            Some(file::Alternative::TwoSided) | None => Alternative::TwoSided,
        },
        relative: match section.relative.or(experiment.relative).or(job.relative) {
            Some(file::Relative::Log) => Relative::Log,
            Some(file::Relative::Delta) => Relative::Delta,
            Some(file::Relative::Fieller) | None => Relative::Fieller,
        },
    };
    inference.check().map_err(|error| JobError::File(error.to_string()))?;
    let cap = section.cap.map(|cap| caps(&cap)).transpose()?;
    if cap.is_some() && matches!(measure, Measure::Ratio(..)) {
        return wrong("cap: is of metrics with a value, this one is a ratio");
    }
    Ok(Metric {
        name: name.to_owned(),
        source: section.source.clone(),
        measure,
        covariates,
        lookback: section.covariate.as_ref().and_then(|covariate| covariate.lookback_days),
        totals,
        cap,
        non_finite: section.non_finite.or(job.non_finite).unwrap_or_default(),
        inference,
        section: section.clone(),
    })
}

fn measure(section: &MetricSection) -> Result<Measure> {
    let MetricSection { value, numerator, denominator, quantile, .. } = section;
    match (value, numerator, denominator, quantile) {
        (Some(value), None, None, None) => Ok(Measure::Mean(value.clone())),
        (None, Some(numerator), Some(denominator), None) => {
            Ok(Measure::Ratio(numerator.clone(), denominator.clone()))
        }
        (None, None, None, Some(quantile)) => {
            estimators::check_quantiles(&quantile.at).map_err(|error| error.about("quantile"))?;
            Ok(Measure::Quantiles { of: quantile.of.clone(), at: quantile.at.clone() })
        }
        _ => wrong("expected one of 'value', 'numerator' and 'denominator', and 'quantile'"),
    }
}

/// What quantiles of rows cannot have.
fn check_quantiles(section: &MetricSection, source: &SourceSection) -> Result<()> {
    if source.grain == Grain::Unit {
        return wrong(
            "quantile: the rows of its source are units, whose values are a metric with 'value'; the estimator \
             'quantile' compares their quantiles",
        );
    }
    if section.covariate.is_some() {
        return wrong("quantile: quantiles of rows are not adjusted by a 'covariate'");
    }
    if section.cap.is_some() {
        return wrong("quantile: quantiles of rows need no 'cap'");
    }
    Ok(())
}

/// The caps of a metric; none where a side says none.
fn caps(section: &file::CapSection) -> Result<Caps> {
    let told = |text: String| JobError::File(format!("cap: {text}"));
    let (lower, upper) = match *section {
        file::CapSection::Upper(upper) => (None, Some(upper)),
        file::CapSection::Sides(file::CapSides { lower, upper }) => (lower, upper),
    };
    if upper.is_none() && lower.is_none() {
        return Err(told("expected 'upper' or 'lower', a quantile".into()));
    }
    let caps = Caps { lower: lower.unwrap_or(0.0), upper: upper.unwrap_or(1.0) };
    caps.check().map_err(|error| told(error.to_string()))?;
    Ok(caps)
}

/// The columns of a metric's covariate: numbers, then those of a ratio.
fn covariates(name: &str, metric: &MetricSection, of_ratio: bool) -> Result<Vec<Covariate>> {
    let Some(section) = &metric.covariate else { return Ok(Vec::new()) };
    let wrong = |text: &str| Err(JobError::File(format!("covariate: {text}")));
    let numbers = section.column.as_ref().map(file::OneOrMany::names).unwrap_or_default();
    unique("covariate", &numbers)?;
    let number = |column: String| Covariate { label: column.clone(), column: Some(column) };
    let mut covariates: Vec<Covariate> = numbers.into_iter().map(number).collect();
    if let Some(days) = section.lookback_days {
        if days == 0 {
            return wrong("'lookback_days' must be at least 1; found 0");
        }
        let parts: &[&str] = if of_ratio { &[NUMERATOR, DENOMINATOR] } else { &[""] };
        let of = |part| Covariate { column: None, label: format!("{name} before{part}") };
        covariates.extend(parts.iter().map(of));
    }
    match (&section.numerator, &section.denominator) {
        (None, None) => {}
        (Some(_), Some(_)) if !of_ratio => {
            return wrong(
                "a ratio is a covariate of a metric that is a ratio, with 'numerator' and 'denominator' of its own",
            );
        }
        (Some(numerator), Some(denominator)) => {
            for (column, part) in [(numerator, NUMERATOR), (denominator, DENOMINATOR)] {
                let label = format!("{numerator}/{denominator}{part}");
                covariates.push(Covariate { column: Some(column.clone()), label });
            }
        }
        _ => return wrong("expected both 'numerator' and 'denominator'"),
    }
    if covariates.is_empty() { wrong("it has no column") } else { Ok(covariates) }
}

/// An experiment's own seed: the job's seed and its name, hashed. It fits a BIGINT.
fn seed_of(seed: u32, experiment: &str) -> u64 {
    (units::string(&format!("{seed}/{experiment}")) as u64) >> 1
}

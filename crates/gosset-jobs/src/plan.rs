//! Desired − published = work.

use std::collections::BTreeMap;
use std::fmt;

use gosset_engine::delta::{Commit, DeltaTableHandle, Metadata};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::days::{DuePart, Late};
use crate::descriptor::{Descriptor, Fingerprints, Input};
use crate::job::Experiment;
use crate::looked::Looked;
use crate::run::{Place, Runner};
use crate::tables::{AUDITS, EFFECTS, SUMMARIES};
use crate::{JobError, Result, internal};

/// The key of the results of a commit in its metadata.
const RESULTS: &str = "results";
/// The key of the job of which a commit's results, or parts, are all that there are: what was published before it does not
/// count any more.
pub(crate) const WHOLE: &str = "whole";

/// The results of one experiment, as they are kept with the commit that published them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The job.
    pub job: String,
    /// The experiment.
    pub experiment: String,
    /// The day they are of.
    pub analysis_date: Option<String>,
    /// What they are made of.
    pub descriptor: Descriptor,
    /// How many rows they have.
    pub rows: u64,
    /// The audits that kept the effects from being published.
    pub blocked: Vec<String>,
    /// Metrics that could not be measured, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
}

impl Results {
    /// Which date of which experiment.
    pub(crate) fn place(&self) -> Place {
        let date = self.analysis_date.as_deref().and_then(|date| date.parse().ok());
        Place { experiment: self.experiment.clone(), date, daily: date.is_some() }
    }
}

/// Results with the commit that published them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedResults {
    /// The results.
    pub results: Results,
    /// The version of `effects` since which they are visible.
    pub version: u64,
    /// When, in milliseconds since 1970, by the writer's clock.
    pub timestamp: Option<i64>,
    /// The run that published them.
    pub run_id: Option<String>,
}

/// What is to be done for an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has never been published.
    Missing,
    /// What is published is of another configuration or other inputs.
    Stale(Vec<String>),
    /// What is published is what would be computed.
    UpToDate(Box<PublishedResults>),
    /// It ends after the day up to which results are asked for.
    NotDue(Date),
    /// What would be computed cannot be told.
    Failed(JobError),
}

/// One experiment of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The experiment.
    pub experiment: String,
    /// The day that its results are of.
    pub analysis_date: Option<Date>,
    /// Whether the experiment has results of other days.
    pub daily: bool,
    /// What is to be done.
    pub state: State,
    /// The files that are read.
    pub inputs: BTreeMap<String, Input>,
    /// What the results would be made of.
    pub(crate) desired: Descriptor,
    /// Whether rows that came late are among it.
    pub(crate) late: Late,
    /// Metrics that are published as they would be computed: they stay.
    pub kept: Vec<String>,
    /// What the other metrics are made of; told in detail alone.
    pub ways: BTreeMap<Way, Vec<String>>,
}

/// What the results of a metric are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The totals of the date, which are stored.
    Stored,
    /// The totals of the day before, the days of units that are of the date, and those of units that changed.
    Continued,
    /// All days of units.
    Days,
    /// The rows of its source.
    Rows,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored totals",
            Self::Continued => "the totals of the day before and what the date adds",
            Self::Days => "all days of units",
            Self::Rows => "rows",
        })
    }
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The parts of sources that are read first.
    pub parts: Vec<DuePart>,
    /// The dates of experiments, in the order of their names and of days.
    pub work: Vec<Work>,
}

impl Work {
    fn new(experiment: &Experiment, analysis_date: Option<Date>) -> Self {
        Self {
            experiment: experiment.name.clone(),
            analysis_date,
            daily: experiment.is_daily(),
            state: State::Missing,
            inputs: BTreeMap::new(),
            desired: Descriptor::default(),
            late: Late::LeftOut,
            kept: Vec::new(),
            ways: BTreeMap::new(),
        }
    }

    /// Tells the parts that may change it, where it is published.
    fn touched_by(&mut self, experiment: &Experiment, parts: &[DuePart]) {
        if !experiment.is_of_days() || !matches!(self.state, State::UpToDate(_)) {
            return;
        }
        let may_change = |part: &&DuePart| {
            let of_source = experiment.metrics.iter().any(|m| m.source == part.source);
            of_source && part.may_change(self.analysis_date)
        };
        let reasons: Vec<String> = parts
            .iter()
            .filter(may_change)
            .map(|part| format!("{} of {}", part.part, part.source))
            .collect();
        if !reasons.is_empty() {
            self.kept.clear();
            self.state =
                State::Stale(vec![format!("perhaps, after reading {}", reasons.join(", "))]);
        }
    }

    /// What the metrics of an experiment are made of on its date, given whether it follows another and the totals that are stored.
    fn ways_of(
        &self,
        experiment: &Experiment,
        follows: bool,
        totals: &Published,
    ) -> BTreeMap<Way, Vec<String>> {
        let mut ways: BTreeMap<Way, Vec<String>> = BTreeMap::new();
        let stored = totals.get(&key(&experiment.name, self.analysis_date));
        let desired = self.desired.of_totals(experiment);
        // The first date of its own days: they are all that there are.
        let goes_on = follows || self.analysis_date > experiment.start;
        for (position, metric) in experiment.metrics.iter().enumerate() {
            if self.kept.contains(&metric.name) {
                continue;
            }
            let holds = |found: &PublishedResults| found.results.descriptor.holds(&desired, metric);
            let way = match experiment.is_made_of_totals(position) {
                _ if !experiment.is_of_days() => Way::Rows,
                true if stored.is_some_and(holds) => Way::Stored,
                true if goes_on => Way::Continued,
                _ => Way::Days,
            };
            ways.entry(way).or_default().push(metric.name.clone());
        }
        ways
    }

    /// Whether there is something to compute.
    pub fn is_due(&self) -> bool {
        matches!(self.state, State::Missing | State::Stale(_))
    }
}

impl Plan {
    /// The experiments that are to be computed.
    pub fn due(&self) -> impl Iterator<Item = &Work> {
        self.work.iter().filter(|work| work.is_due())
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.experiment)?;
        if let Some(date) = self.analysis_date {
            write!(f, " {date}")?;
        }
        write!(f, ": {}", self.told())
    }
}

impl Work {
    /// What is to be done and why.
    pub fn told(&self) -> String {
        let mut told = match &self.state {
            State::Missing => "compute, new".to_owned(),
            State::Stale(reasons) => format!("compute, {}", reasons.join(", ")),
            State::UpToDate(published) if published.results.blocked.is_empty() => {
                format!("published, version {} of {EFFECTS}", published.version)
            }
            State::UpToDate(published) => {
                format!("blocked by {}", published.results.blocked.join("; "))
            }
            State::NotDue(end) => format!("not due before the end of {end}"),
            State::Failed(error) => format!("failed: {error}"),
        };
        if self.is_due() {
            if !self.kept.is_empty() {
                told += &format!("; kept: {}", self.kept.join(", "));
            }
            for (way, metrics) in &self.ways {
                told += &format!("\n  from {way}: {}", metrics.join(", "));
            }
            for (name, input) in self.inputs.iter().filter(|(_, input)| input.files > 0) {
                let files = if input.files == 1 { "file" } else { "files" };
                told +=
                    &format!("\n  reads {name}: {} {files}, {} bytes", input.files, input.bytes);
            }
        }
        told
    }

    /// Whether it is of the day after another's, and the same is to be told of it.
    pub fn goes_on(&self, before: &Self) -> bool {
        let next = before.analysis_date.and_then(|date| date.tomorrow().ok());
        self.experiment == before.experiment
            && next.is_some()
            && self.analysis_date == next
            && self.told() == before.told()
    }
}

/// Which dates of which experiments are asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The last day.
    pub until: Date,
    /// The first day; from the start of each experiment unless given.
    pub from: Option<Date>,
    /// Which experiment; all of them unless given.
    pub experiment: Option<String>,
    /// Whether rows that came later than their source allows are counted.
    pub backfill: bool,
    /// How many experiments are computed, and parts of a source read, at once; one unless given, on a cluster as many as it
    /// has slots, eight at most.
    pub jobs: Option<usize>,
    /// Whether dates are computed of all their days, not of the date before and their own.
    pub afresh: bool,
}

impl Asked {
    /// Everything up to a day.
    pub fn until(until: Date) -> Self {
        Self { until, ..Self::default() }
    }

    fn is_of(&self, experiment: &Experiment) -> bool {
        self.experiment.as_ref().is_none_or(|name| *name == experiment.name)
    }

    fn late(&self) -> Late {
        if self.backfill { Late::Counted } else { Late::LeftOut }
    }
}

impl Runner {
    /// What a run would do.
    ///
    /// # Errors
    /// If the store cannot be read. What is wrong with one experiment is told in its [`State`].
    pub async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let mut looked = self.look(asked.until).await;
        self.planned_unread(&mut looked, asked).await
    }

    /// What a run would do, for people: with the numbers of rows that it would read, as far as files tell them, and what
    /// each metric would be made of.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn plan_in_detail(&self, asked: &Asked) -> Result<Plan> {
        let mut looked = self.look(asked.until).await;
        let mut plan = self.planned_unread(&mut looked, asked).await?;
        for days in looked.days.values() {
            // What is wrong with a file is told by the run that reads it.
            days.count(&mut plan.parts).await.unwrap_or_default();
        }
        let totals = self.newest(SUMMARIES, asked.until).await?;
        let mut before: Option<String> = None;
        for work in &mut plan.work {
            let follows = before.as_ref() == Some(&work.experiment);
            if work.is_due() {
                let experiment = looked.measurable(self.experiment(&work.experiment)?);
                work.ways = work.ways_of(&experiment, follows, &totals);
            }
            before = Some(work.experiment.clone());
        }
        Ok(plan)
    }

    /// What is to be done before the parts that are due are read.
    async fn planned_unread(&self, looked: &mut Looked<'_>, asked: &Asked) -> Result<Plan> {
        let parts = looked.due(self.job(), asked.until)?;
        looked.unread.extend(parts.iter().map(|part| part.source.clone()));
        self.planned(looked, parts, asked).await
    }

    /// What is to be done after some parts are read.
    pub(crate) async fn planned(
        &self,
        looked: &Looked<'_>,
        parts: Vec<DuePart>,
        asked: &Asked,
    ) -> Result<Plan> {
        let until = asked.until;
        let published = Both {
            effects: self.newest(EFFECTS, until).await?,
            audits: self.newest(AUDITS, until).await?,
        };
        let mut fingerprints = Fingerprints::default();
        let mut work = Vec::new();
        for experiment in self.job().experiments.iter().filter(|e| asked.is_of(e)) {
            let experiment = &looked.measurable(experiment);
            let dates = match experiment.dates(until) {
                Ok(dates) => dates,
                Err(day) => {
                    work.push(Work {
                        state: State::NotDue(day),
                        ..Work::new(experiment, Some(day))
                    });
                    continue;
                }
            };
            let first =
                |date: &Option<Date>| asked.from.is_none_or(|from| date.is_none_or(|d| d >= from));
            for date in dates.into_iter().filter(first) {
                let mut dated = Work::new(experiment, date);
                let late = asked.late();
                let published = &published;
                if let (true, Some((_, error))) =
                    (experiment.metrics.is_empty(), experiment.failed.first())
                {
                    work.push(Work { state: State::Failed(error.clone()), ..dated });
                    continue;
                }
                match self.desired(experiment, date, looked, late, &mut fingerprints).await {
                    Err(error) => dated.state = State::Failed(error),
                    Ok(desired) => {
                        dated.inputs = desired.inputs.clone();
                        dated.desired = desired;
                        dated.late = late;
                        self.compared(&mut dated, experiment, looked, published, &mut fingerprints)
                            .await?;
                        dated.touched_by(experiment, &parts);
                    }
                }
                work.push(dated);
            }
        }
        Ok(Plan { parts, work })
    }

    /// What a date of an experiment would be made of.
    pub(crate) async fn desired(
        &self,
        experiment: &Experiment,
        date: Option<Date>,
        looked: &Looked<'_>,
        late: Late,
        fingerprints: &mut Fingerprints,
    ) -> Result<Descriptor> {
        let of_days = match (experiment.is_of_days(), date.or(experiment.end)) {
            (true, Some(date)) => Some((looked, date, late)),
            (true, None) => return Err(internal("days of an experiment without an end")),
            (false, _) => None,
        };
        Descriptor::desired(self.job(), experiment, self.engine(), fingerprints, of_days).await
    }

    /// Compares what is desired of a date with what is published.
    async fn compared(
        &self,
        work: &mut Work,
        experiment: &Experiment,
        looked: &Looked<'_>,
        published: &Both,
        fingerprints: &mut Fingerprints,
    ) -> Result<()> {
        let key = key(&experiment.name, work.analysis_date);
        let Some(found) = published.effects.get(&key) else { return Ok(()) };
        work.desired.stand_by(&found.results.descriptor, self.job(), experiment)?;
        let mut reasons = found.results.descriptor.differences(&work.desired);
        if !reasons.is_empty() && work.late == Late::LeftOut {
            // A backfill counted rows that came late: they stay.
            let all =
                self.desired(experiment, work.analysis_date, looked, Late::Counted, fingerprints);
            let mut all = all.await?;
            all.stand_by(&found.results.descriptor, self.job(), experiment)?;
            if found.results.descriptor == all {
                (work.desired, work.late) = (all, Late::Counted);
                reasons.clear();
            }
        }
        let audited = published.audits.get(&key).map(|a| &a.results.descriptor);
        if reasons.is_empty() && audited != Some(&work.desired) {
            reasons.push("its audits are of another run".into());
        }
        // What is published of a date is whole where both tables have it.
        if experiment.is_of_days() && audited == Some(&found.results.descriptor) {
            let results = &found.results;
            work.kept = results.descriptor.unaffected(&work.desired, experiment);
            work.kept.retain(|name| !results.failed.contains_key(name));
            if !results.blocked.is_empty() {
                work.kept.clear();
            }
        }
        work.state = match reasons.is_empty() {
            true => State::UpToDate(Box::new(found.clone())),
            false => State::Stale(reasons),
        };
        Ok(())
    }

    /// The newest results of the job's experiments in a table.
    pub(crate) async fn newest(&self, table: &str, until: Date) -> Result<Published> {
        let Some(table) = self.store().existing(table).await? else { return Ok(Published::new()) };
        let dates = |e: &Experiment| {
            let dates = e.dates(until).unwrap_or_default();
            dates.into_iter().map(|date| key(&e.name, date)).collect::<Vec<_>>()
        };
        let wanted: Vec<Key> = self.job().experiments.iter().flat_map(dates).collect();
        self.published(&table, |found| wanted.iter().all(|k| found.contains_key(k))).await
    }

    /// All that is published of the job: the newest results of every experiment and day.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn status(&self) -> Result<Vec<PublishedResults>> {
        match self.store().existing(EFFECTS).await? {
            Some(effects) => Ok(self.published(&effects, |_| false).await?.into_values().collect()),
            None => Ok(Vec::new()),
        }
    }

    /// Whether these results are the newest in a table.
    pub(crate) async fn holds(
        &self,
        table: &DeltaTableHandle,
        results: &[Results],
    ) -> Result<bool> {
        let key = |r: &Results| (r.experiment.clone(), r.analysis_date.clone());
        let all = |found: &Published| results.iter().all(|r| found.contains_key(&key(r)));
        let newest = self.published(table, all).await?;
        Ok(results.iter().all(|r| newest.get(&key(r)).is_some_and(|found| found.results == *r)))
    }

    /// The newest results of experiments of the job, from the commits of a table, until there are enough.
    pub(crate) async fn published(
        &self,
        table: &DeltaTableHandle,
        enough: impl Fn(&Published) -> bool,
    ) -> Result<Published> {
        let mut found = Published::new();
        let mut unreadable = None;
        table
            .latest_commit(|commit| {
                match results_of(commit) {
                    Ok(all) => {
                        for results in all.into_iter().filter(|r| r.job == self.job().name) {
                            let key = (results.experiment.clone(), results.analysis_date.clone());
                            found.entry(key).or_insert_with(|| PublishedResults {
                                results,
                                version: commit.version,
                                timestamp: commit.timestamp,
                                run_id: commit.run_id.clone(),
                            });
                        }
                    }
                    Err(error) => unreadable = Some(error),
                }
                unreadable.is_some() || is_whole(commit, &self.job().name) || enough(&found)
            })
            .await?;
        match unreadable {
            Some(error) => Err(error.about(&table.location())),
            None => Ok(found),
        }
    }
}

/// An experiment and its day.
type Key = (String, Option<String>);
pub(crate) type Published = BTreeMap<Key, PublishedResults>;

/// What is published in each of the tables. They are two commits, and between them a run may die or lose a race.
struct Both {
    effects: Published,
    audits: Published,
}

pub(crate) fn key(experiment: &str, date: Option<Date>) -> Key {
    (experiment.to_owned(), date.map(|date| date.to_string()))
}

/// Whether nothing of a job that was published before a commit counts.
pub(crate) fn is_whole(commit: &Commit, job: &str) -> bool {
    commit.metadata.get(WHOLE).is_some_and(|whole| whole == job)
}

/// The results that a commit of ours published.
pub(crate) fn results_of(commit: &Commit) -> Result<Vec<Results>> {
    match commit.metadata.get(RESULTS) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            JobError::Data(format!(
                "the metadata of version {} cannot be read: {error}",
                commit.version
            ))
        }),
    }
}

/// The metadata of a commit that publishes results.
pub(crate) fn metadata(results: &[Results]) -> Result<Metadata> {
    let text = serde_json::to_string(results)
        .map_err(|e| JobError::Engine(gosset_engine::EngineError::Internal(e.to_string())))?;
    Ok([(RESULTS, text), ("gosset_version", env!("CARGO_PKG_VERSION").to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

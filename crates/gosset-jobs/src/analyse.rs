//! Analysing a date of one experiment: units, waves of summaries, audits and effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::DataFrame;
use gosset_engine::EngineError;
use jiff::civil::Date;

use crate::audit::Audit;
use crate::days::{Late, UnitDays};
use crate::effects::{self, EffectRow, Effects, Known};
use crate::job::{Experiment, Part};
use crate::kept::Kept;
use crate::period::Period;
use crate::run::{Event, Place, Runner};
use crate::stored::{Stored, SummaryRow, rows_of_wave};
use crate::summaries::{Cells, Counted, Query, Slice};
use crate::totals::{Maker, OfDate};
use crate::units::{self, Base, OfDays, Outcomes, Units, View};
use crate::waves::{self, Limits, Wave, Waves};
use crate::{JobError, Result, caps, checks, internal, second_pass};

/// The unit-days of the sources of a job, by name.
pub(crate) type DaysOfSources<'a> = BTreeMap<String, UnitDays<'a>>;

/// A date of an experiment, and what is known already.
#[derive(Clone)]
pub(crate) struct Dated<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) date: Option<Date>,
    pub(crate) days: &'a DaysOfSources<'a>,
    /// The rows of the assignments, where units are of days.
    pub(crate) assignments: Option<&'a DataFrame>,
    /// How its work is divided.
    pub(crate) waves: &'a Divided,
    pub(crate) late: Late,
    /// The totals of the date, if they are stored as they would be made.
    pub(crate) stored: Option<Stored>,
    /// The totals of the day before.
    pub(crate) before: Option<Stored>,
}

/// The waves of summaries of units, of which there is one at least, and those of totals.
#[derive(Debug)]
pub(crate) struct Divided {
    units: Vec<Wave>,
    totals: Vec<Wave>,
}

/// What a date of an experiment comes to.
#[derive(Debug, Default)]
pub(crate) struct Analysed {
    pub(crate) audits: Vec<Audit>,
    pub(crate) effects: Vec<EffectRow>,
    pub(crate) summaries: Vec<SummaryRow>,
    /// Metrics that could not be measured, and why.
    pub(crate) failed: Vec<(String, JobError)>,
}

/// Outcomes of some days of some units, and the periods that they are of on a date.
#[derive(Clone)]
struct Window {
    base: Base,
    of: Period,
    periods: Vec<Period>,
}

impl Experiment {
    /// The windows of a date: the widest first, whose audits are those of the date.
    fn windows(&self, date: Option<Date>) -> Vec<Window> {
        let all = [Period::Cumulative, Period::Overall, Period::Day].into_iter();
        let first_days = self.periods.iter().copied().filter(|p| matches!(p, Period::Days(_)));
        let mut windows: Vec<Window> = Vec::new();
        for period in all.chain(first_days).filter(|period| self.periods.contains(period)) {
            let due = match (date, self.start, self.end) {
                (Some(date), Some(start), Some(end)) => period.is_of(date, start, end),
                _ => period == Period::Overall,
            };
            let of = if period == Period::Overall { Period::Cumulative } else { period };
            match windows.iter_mut().find(|window| window.of == of) {
                _ if !due => {}
                Some(window) => window.periods.push(period),
                None => windows.push(Window { base: Base::Assignment, of, periods: vec![period] }),
            }
        }
        if self.exposure.is_some() {
            let exposed = |window: &Window| Window { base: Base::Exposure, ..window.clone() };
            let again: Vec<Window> = windows.iter().map(exposed).collect();
            windows.extend(again);
        }
        windows
    }

    /// The periods that there are results of on a date.
    pub(crate) fn periods_on(&self, date: Option<Date>) -> Vec<Period> {
        let windows = self.windows(date).into_iter();
        windows.filter(|w| w.base == Base::Assignment).flat_map(|window| window.periods).collect()
    }

    /// Whether all that it takes is totals, which go on from those of the day before.
    pub(crate) fn is_of_totals(&self) -> bool {
        let first_days = self.periods.iter().any(|period| matches!(period, Period::Days(_)));
        self.exposure.is_none() && !first_days && self.divided_parts().0.is_empty()
    }

    /// Whether all that is taken of the metric at a position is totals.
    pub(crate) fn is_made_of_totals(&self, metric: usize) -> bool {
        let (of_units, _) = self.divided_parts();
        let first_days = self.periods.iter().any(|period| matches!(period, Period::Days(_)));
        self.exposure.is_none() && !first_days && of_units.iter().all(|part| part.metric != metric)
    }

    /// The summaries of units, and those to which days are added.
    fn divided_parts(&self) -> (Vec<Part>, Vec<Part>) {
        self.parts().into_iter().partition(|part| !matches!(part.kept, Kept::Totals(_)))
    }
}

impl Runner {
    /// Plans every query of the job without running one: the columns are there and the SQL of the metrics is right.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn validate(&self) -> Result<()> {
        for experiment in &self.job().experiments {
            let checked = async {
                match experiment.is_of_days() {
                    true => self.checked_days(experiment).await,
                    false => {
                        let view = View::of_rows(experiment);
                        self.checked(experiment, &self.units(experiment, &view).await?).await?;
                        Ok(())
                    }
                }
            };
            let told = |error: JobError| error.about(&format!("experiment '{}'", experiment.name));
            checked.await.map_err(told)?;
        }
        Ok(())
    }

    /// The SQL that a run of an experiment is equal to.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); for an experiment of days, whose units are made in more than one query.
    pub async fn sql(&self, experiment: &str) -> Result<String> {
        let experiment = self.experiment(experiment)?;
        if experiment.is_of_days() {
            return Err(JobError::File(format!(
                "experiment '{}' is made of unit-days, day by day: there is no one query that it is equal to",
                experiment.name
            )));
        }
        let view = View::of_rows(experiment);
        let plan = self.checked(experiment, &self.units(experiment, &view).await?).await?;
        let statement = datafusion::sql::unparser::plan_to_sql(&plan)?;
        Ok(format!("{statement:#}"))
    }

    /// The sources of an experiment of days, and its assignments, without a look at what is published.
    async fn checked_days(&self, experiment: &Experiment) -> Result<()> {
        let sources: BTreeSet<&String> =
            experiment.metrics.iter().chain(&experiment.exposure).map(|m| &m.source).collect();
        for name in sources {
            let source = &self.job().sources[name];
            let looked = UnitDays::look(self.job(), self.engine(), self.store(), source).await;
            let looked = looked.map_err(|e| e.about(&format!("source '{}'", source.name)))?;
            for metric in experiment.metrics.iter().chain(&experiment.exposure) {
                // A run leaves it out, and says so.
                if let Some(error) = looked.failed().get(&metric.name) {
                    return Err(error.clone().about(&format!("metric '{}'", metric.name)));
                }
            }
            looked.check().await.map_err(|e| e.about(&format!("source '{}'", source.name)))?;
        }
        let date = experiment.end;
        let rows = units::rows_of_assignments(self.job(), self.engine(), experiment, date, None);
        rows.await?.frame.create_physical_plan().await?;
        Ok(())
    }

    /// The plan of an experiment in one wave. Types are checked when it is made physical; metrics of other types would
    /// fail in the middle of a run.
    async fn checked(&self, experiment: &Experiment, units: &Units) -> Result<LogicalPlan> {
        let wave = waves::whole(experiment.divided_parts().0);
        let units = caps::with_parameters(units.clone(), experiment)?;
        let query = Query::first(self.engine(), experiment, &units, &wave)?;
        let checked = caps::with_any_values(query.frame().clone(), experiment)?;
        checked.create_physical_plan().await?;
        Ok(query.frame().logical_plan().clone())
    }

    async fn units(&self, experiment: &Experiment, view: &View<'_>) -> Result<Units> {
        units::units(self.job(), self.engine(), experiment, view).await
    }

    /// In how many waves a run would compute a date of an experiment. Where there is more to keep than moments, the groups
    /// are counted in a pass over the assignments.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn waves(&self, experiment: &str, date: Option<Date>) -> Result<Waves> {
        let experiment = self.experiment(experiment)?;
        let Divided { units: mut waves, totals } = self.divided(experiment, date, None).await?;
        waves.extend(totals);
        waves.retain(|wave| !wave.parts.is_empty());
        Ok(Waves::of(&waves))
    }

    /// Divides the work of an experiment up to a date.
    pub(crate) async fn divided(
        &self,
        experiment: &Experiment,
        date: Option<Date>,
        rows: Option<&DataFrame>,
    ) -> Result<Divided> {
        let (of_units, of_days) = experiment.divided_parts();
        if of_days.is_empty() && of_units.iter().all(|part| matches!(part.kept, Kept::Moments(_))) {
            return Ok(Divided { units: vec![waves::whole(of_units)], totals: Vec::new() });
        }
        let rows =
            units::rows_of_assignments(self.job(), self.engine(), experiment, date, rows).await?;
        let nothing = Wave::default();
        let groups = Query::groups(experiment, &rows, &nothing)?.collect_groups().await;
        let groups = groups.map_err(|error| self.while_reading(experiment, error))?;
        let divided = |parts| waves::waves(experiment, parts, &groups, self.limits());
        let mut totals = divided(of_days);
        totals.retain(|wave| !wave.parts.is_empty());
        Ok(Divided { units: divided(of_units), totals })
    }

    pub(crate) fn limits(&self) -> Limits {
        let context = self.engine().context();
        let memory = match context.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes),
            MemoryLimit::Infinite | MemoryLimit::Unknown => None,
        };
        let partitions = context.state().config().target_partitions();
        Limits { memory, partitions }
    }

    /// As [`analysed_whole`](Self::analysed_whole), without metrics that fail over the data, if others do not.
    pub(crate) async fn analysed(
        &self,
        of: Dated<'_>,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Analysed> {
        let known = |experiment: &Experiment| {
            let failed = experiment.failed.iter();
            failed.map(|(metric, error)| (metric.name.clone(), error.clone())).collect::<Vec<_>>()
        };
        let error = match self.analysed_whole(&of, tell).await {
            Err(error @ (JobError::Data(_) | JobError::File(_))) => error,
            done => return done.map(|all| Analysed { failed: known(of.experiment), ..all }),
        };
        let names = || of.experiment.metrics.iter().map(|metric| metric.name.clone());
        let mut failed = BTreeMap::new();
        for name in names() {
            let others = names().filter(|other| *other != name).map(|other| (other, error.clone()));
            let alone =
                Experiment { failed: Vec::new(), ..of.experiment.without(&others.collect()) };
            let waves = self.divided(&alone, of.date, of.assignments).await?;
            let dated = Dated { experiment: &alone, waves: &waves, ..of.clone() };
            if let Err(error) = self.analysed_whole(&dated, tell).await {
                failed.insert(name, error);
            }
        }
        if failed.is_empty() || failed.len() == of.experiment.metrics.len() {
            return Err(error);
        }
        let rest = of.experiment.without(&failed);
        let waves = self.divided(&rest, of.date, of.assignments).await?;
        let dated = Dated { experiment: &rest, waves: &waves, ..of };
        let all = self.analysed_whole(&dated, tell).await?;
        Ok(Analysed { failed: known(&rest), ..all })
    }

    /// The audits of a date of an experiment, and its effects unless an audit blocks them. No more than the summaries of one
    /// wave are held at once.
    async fn analysed_whole(
        &self,
        of: &Dated<'_>,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<Analysed> {
        let experiment = of.experiment;
        let Divided { units: waves, totals } = of.waves;
        let mut analysed = Analysed::default();
        let windows = experiment.windows(of.date);
        let mut of_date = Vec::new();
        if windows.iter().any(|window| !matches!(window.of, Period::Days(_))) {
            for (wave, number) in totals.iter().zip(waves.len() + 1..) {
                self.computing(of, number, waves.len() + totals.len(), tell);
                let made = self.totals_of_date(of, wave).await;
                of_date.push(made.map_err(|error| self.told(experiment, wave, error))?);
            }
        }
        for (wave, made) in totals.iter().zip(&of_date) {
            for (period, cells) in
                [(Period::Cumulative, &made.cumulative), (Period::Day, &made.day)]
            {
                if period == Period::Cumulative || experiment.periods.contains(&period) {
                    analysed.summaries.extend(rows_of_wave(experiment, period, wave, cells));
                }
            }
        }
        for (number, window) in windows.iter().enumerate() {
            let made = match window.of {
                _ if window.base == Base::Exposure => {
                    self.totals_of_period(of, window, totals).await?
                }
                Period::Days(_) => self.totals_of_period(of, window, totals).await?,
                Period::Day => of_date.iter().map(|made| made.day.clone()).collect(),
                _ => of_date.iter().map(|made| made.cumulative.clone()).collect(),
            };
            let totals = totals.iter().zip(made).collect();
            let place = (number == 0, waves.as_slice());
            if !self.analysed_window(of, window, place, totals, &mut analysed, tell).await? {
                analysed.effects.clear();
                break;
            }
        }
        Ok(analysed)
    }

    fn computing(&self, of: &Dated<'_>, wave: usize, waves: usize, tell: &(dyn Fn(Event) + Sync)) {
        let place = Place {
            experiment: of.experiment.name.clone(),
            date: of.date,
            daily: of.experiment.is_daily(),
        };
        tell(Event::Computing { place, wave, waves });
    }

    /// Adds what a window comes to; gives `false` where an audit keeps effects from being published.
    async fn analysed_window(
        &self,
        of: &Dated<'_>,
        window: &Window,
        (audited, waves): (bool, &[Wave]),
        totals: Vec<(&Wave, Cells)>,
        to: &mut Analysed,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<bool> {
        let experiment = of.experiment;
        let needs = |metric| waves.iter().any(|w| w.parts.iter().any(|p| p.metric == metric));
        let of_days = of.assignments.map(|assignments| OfDays {
            assignments,
            days: of.days,
            late: of.late,
            base: window.base,
            period: window.of,
            values: (0..experiment.metrics.len()).map(needs).collect(),
            before: waves.iter().any(|wave| !wave.parts.is_empty()),
        });
        let view = match &of_days {
            Some(of_days) => View { date: of.date, outcomes: Outcomes::Days(of_days), only: None },
            None => View::of_rows(experiment),
        };
        let mut units = self.units(experiment, &view).await?;
        if of_days.is_none() {
            self.checked(experiment, &units).await?;
        }
        let all = waves.len() + totals.len();
        let computing = |wave| self.computing(of, wave, all, tell);
        let [first, further @ ..] = waves else {
            return Err(internal("an experiment has no wave"));
        };
        computing(1);
        if !further.is_empty() || experiment.passes_twice() {
            let stored = units.stored(self.engine()).await;
            units = stored.map_err(|error| self.while_reading(experiment, error))?;
        }
        let caps = caps::find(self.engine(), experiment, &units).await?;
        let units = caps::with_values(units, experiment, &caps)?;
        let query = Query::first(self.engine(), experiment, &units, first)?;
        let told = |wave: &Wave, error| self.told(experiment, wave, error);
        let (mut counted, cells) = query.collect_first().await.map_err(|e| told(first, e))?;
        if experiment.is_ramp() {
            counted.ramp = Query::ramp(experiment, &units).await?;
        }
        let on_date = !matches!(window.of, Period::Days(_));
        count_totals(&mut counted, experiment, &totals, on_date);
        let mut audits = Vec::new();
        if window.base == Base::Exposure && !to.audits.iter().any(|audit| audit.base == window.base)
        {
            audits = checks::of_exposed(experiment, &counted)?;
        }
        if audited {
            audits = checks::audits(self.job(), experiment, &counted)?;
            if let Some(date) = of.date.filter(|_| experiment.is_of_days()) {
                audits.extend(checks::of_days(experiment, date, of.days, of.late)?);
                let waves = totals.iter().map(|(wave, cells)| (*wave, cells));
                let waves: Vec<_> = waves.chain([(first, &cells)]).collect();
                audits.extend(checks::balance(experiment, &waves)?);
            }
        }
        let blocked = audits.iter().any(Audit::blocks);
        to.audits.extend(audits);
        if blocked {
            return Ok(false);
        }
        let known = Arc::new(Known { experiment: experiment.clone(), counted, caps });
        let mut effects = Effects::not_taken(&known, &cells);
        effects.add_failed(&known);
        let mut effects = self.with_those_of(effects, &known, &units, (first, cells)).await?;
        for (wave, cells) in totals {
            effects = self.with_those_of(effects, &known, &units, (wave, cells)).await?;
        }
        for (wave, number) in further.iter().zip(2..) {
            computing(number);
            let query = Query::further(self.engine(), experiment, &units, wave)?;
            let cells = query.collect().await.map_err(|e| told(wave, e))?;
            effects = self.with_those_of(effects, &known, &units, (wave, cells)).await?;
        }
        let of_base = |audit: &&Audit| audit.base == window.base || audit.base == Base::Assignment;
        let audits_of_base: Vec<Audit> = to.audits.iter().filter(of_base).cloned().collect();
        to.effects.extend(effects.rows(&audits_of_base, (window.base, &window.periods)));
        Ok(true)
    }

    /// The totals of a date: those that are stored, or made of the date's days and those of the day before.
    async fn totals_of_date(&self, of: &Dated<'_>, wave: &Wave) -> Result<OfDate> {
        let of_wave = |stored: &Option<Stored>, period| {
            stored.as_ref().and_then(|stored| stored.of_wave(of.experiment, period, wave))
        };
        let day = match of.experiment.periods.contains(&Period::Day) {
            true => of_wave(&of.stored, Period::Day),
            false => Some(Cells::new()),
        };
        if let (Some(cumulative), Some(day)) = (of_wave(&of.stored, Period::Cumulative), day) {
            return Ok(OfDate { cumulative, day });
        }
        let before = of_wave(&of.before, Period::Cumulative);
        let of_days = of_totals(of, Period::Cumulative)?;
        self.maker(of, &of_days, wave)?.of_date(before).await
    }

    /// The totals of the first days of units, by wave.
    async fn totals_of_period(
        &self,
        of: &Dated<'_>,
        window: &Window,
        totals: &[Wave],
    ) -> Result<Vec<Cells>> {
        let mut made = Vec::new();
        let of_days = OfDays { base: window.base, ..of_totals(of, window.of)? };
        for wave in totals {
            let of_wave = self.maker(of, &of_days, wave)?.of_period().await;
            made.push(of_wave.map_err(|error| self.told(of.experiment, wave, error))?);
        }
        Ok(made)
    }

    fn maker<'a>(
        &'a self,
        of: &Dated<'a>,
        days: &'a OfDays<'a>,
        wave: &'a Wave,
    ) -> Result<Maker<'a>> {
        let date = of.date.ok_or_else(|| internal("totals have no date"))?;
        let (job, engine, experiment) = (self.job(), self.engine(), of.experiment);
        Ok(Maker { job, engine, experiment, of: days, date, wave })
    }

    /// Adds the effects of a wave.
    pub(crate) async fn with_those_of(
        &self,
        mut effects: Effects,
        known: &Arc<Known>,
        units: &Units,
        (wave, cells): (&Wave, Cells),
    ) -> Result<Effects> {
        let experiment = &known.experiment;
        let asked = effects::asked(known, wave, &cells)?;
        let squares = second_pass::squares(experiment, units, asked).await;
        let squares = squares.map_err(|error| self.while_reading(experiment, error))?;
        let (known, wave) = (Arc::clone(known), wave.clone());
        away(move || {
            effects.add(&known, &wave, &cells, &squares)?;
            Ok(effects)
        })
        .await
    }

    /// Where memory is too small for a wave, what can be lowered is told; where rows cannot be read, of which inputs.
    fn told(&self, experiment: &Experiment, wave: &Wave, error: JobError) -> JobError {
        match error {
            JobError::Engine(EngineError::MemoryLimit(_)) if wave.bytes > 0 => {
                wave.too_large(experiment, self.limits())
            }
            other => self.while_reading(experiment, other),
        }
    }
}

/// The days that totals are made of.
fn of_totals<'a>(of: &Dated<'a>, period: Period) -> Result<OfDays<'a>> {
    let assignments = of.assignments.ok_or_else(|| internal("totals have no assignments"))?;
    let values = vec![false; of.experiment.metrics.len()];
    let base = Base::Assignment;
    Ok(OfDays { assignments, days: of.days, late: of.late, base, period, values, before: true })
}

/// Adds what is known of totals to what is counted of units.
fn count_totals(
    counted: &mut Counted,
    experiment: &Experiment,
    totals: &[(&Wave, Cells)],
    on_date: bool,
) {
    let analysed: u64 = counted.analysed.values().sum();
    for (wave, cells) in totals {
        let Some(everybody) = cells.get(&Slice::All) else { continue };
        for (i, part) in wave.parts.iter().enumerate() {
            let of_part = || everybody.values().filter_map(|cell| cell.counts.get(i));
            let of_metric = &mut counted.metrics[part.metric];
            of_metric.non_finite = of_part().map(|of| of.non_finite).sum();
            if !on_date {
                continue;
            }
            let source = experiment.metrics[part.metric].source.clone();
            let active: u64 = of_part().map(|of| of.active).sum();
            counted.sources.entry(source).or_default().without_rows =
                analysed.saturating_sub(active);
        }
    }
}

/// Resampling computes for seconds on end: on a thread of its own, so that the run can be stopped meanwhile.
async fn away<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(EngineError::Internal(error.to_string()).into()),
        },
    }
}

//! Totals of buckets of units: what a day adds to them, and what they are without units that are taken out again.
//!
//! The cumulative totals of a date are those of the day before, the outcomes of the date of everybody, and all of the
//! units that changed meanwhile: new ones are added, and those that are not analysed any more, in a second arm perhaps,
//! are subtracted. Sums are exact: whatever the way, the totals are the same bits.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Int64Type};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use gosset_engine::{Engine, Kept};
use gosset_stats::summary::{AnySummary, Buckets, Summary};
use jiff::civil::Date;

use crate::days::{Days, date};
use crate::job::{Experiment, Job, Part};
use crate::summaries::{Cell, Cells, PartCounts, Query, Slice};
use crate::units::{self, OfDays, Only, Outcomes, SINCE, View, state};
use crate::waves::Wave;
use crate::{Result, internal};

/// The totals of a slice and an arm, by part of a wave; none for parts that are not added to.
type Sum = Vec<Option<Total>>;

#[derive(Debug, Clone)]
struct Total {
    counts: PartCounts,
    buckets: Buckets,
}

/// Slice and arm to totals.
type Totals = BTreeMap<Slice, BTreeMap<String, Sum>>;

/// The totals of a date.
#[derive(Debug)]
pub(crate) struct OfDate {
    /// From the assignment of each unit to the end of the date.
    pub(crate) cumulative: Cells,
    /// Of the date alone.
    pub(crate) day: Cells,
}

/// How the totals of an experiment are made.
pub(crate) struct Maker<'a> {
    pub(crate) job: &'a Job,
    pub(crate) engine: &'a Engine,
    pub(crate) experiment: &'a Experiment,
    pub(crate) of: &'a OfDays<'a>,
    pub(crate) date: Date,
    pub(crate) wave: &'a Wave,
}

impl Maker<'_> {
    /// The totals of the date, from those of the day before where they are known.
    pub(crate) async fn of_date(&self, before: Option<Cells>) -> Result<OfDate> {
        let view = self.view(self.date, None);
        let on_date = Days { from: self.date, to: self.date };
        let mut day = Totals::new();
        for source in self.sources() {
            merge(&mut day, self.increments(&view, &source, on_date).await?)?;
        }
        let known = match before {
            Some(before) => self.continued(totals_of(&before, self.wave)?, day.clone()).await?,
            None => None,
        };
        let mut cumulative = match known {
            Some(totals) => totals,
            None => self.of_all_days(&view).await?,
        };
        active_on(&mut cumulative, &day);
        let cells = cells_of(&cumulative)?;
        let mut of_day = without_outcomes(cumulative);
        merge(&mut of_day, day)?;
        Ok(OfDate { cumulative: cells, day: cells_of(&of_day)? })
    }

    /// The totals of a period from all days that it is of.
    pub(crate) async fn of_period(&self) -> Result<Cells> {
        cells_of(&self.of_all_days(&self.view(self.date, None)).await?)
    }

    fn view(&self, date: Date, only: Option<DataFrame>) -> View<'_> {
        let only = only.map(|units| Only { units, since: self.date });
        View { date: Some(date), outcomes: Outcomes::Days(self.of), only }
    }

    fn sources(&self) -> Vec<String> {
        let mut sources: Vec<String> = Vec::new();
        for part in &self.wave.parts {
            let source = &self.experiment.metrics[part.metric].source;
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
        sources
    }

    /// The totals of units from all their days.
    async fn of_all_days(&self, view: &View<'_>) -> Result<Totals> {
        let mut totals = self.counted(view).await?;
        let to = view.date.ok_or_else(|| internal("totals have no date"))?;
        let range = Days { from: self.experiment.start.unwrap_or(to), to };
        for source in self.sources() {
            merge(&mut totals, self.increments(view, &source, range).await?)?;
        }
        Ok(totals)
    }

    /// The units with their covariates, before any outcome.
    async fn counted(&self, view: &View<'_>) -> Result<Totals> {
        let units = units::units(self.job, self.engine, self.experiment, view).await?;
        let query = Query::further(self.engine, self.experiment, &units, self.wave)?;
        totals_of(&query.collect().await?, self.wave)
    }

    /// What some days add.
    async fn increments(&self, view: &View<'_>, source: &str, range: Days) -> Result<Totals> {
        let of_source = |part: &Part| self.experiment.metrics[part.metric].source == source;
        let wave = Wave {
            slices: self.wave.slices.clone(),
            parts: self.wave.parts.iter().copied().filter(of_source).collect(),
            bytes: self.wave.bytes,
        };
        let place = (source, range);
        let units = units::increments(self.job, self.engine, self.experiment, view, place).await?;
        let cells = Query::further(self.engine, self.experiment, &units, &wave)?.collect().await?;
        let mut totals = totals_of(&cells, &wave)?;
        for sum in totals.values_mut().flat_map(BTreeMap::values_mut) {
            let mut made = std::mem::take(sum).into_iter().flatten();
            let mut added = |part: &Part| {
                let total = if of_source(part) { made.next() } else { None };
                total.map(|mut total: Total| {
                    total.buckets.clear_units();
                    total
                })
            };
            *sum = self.wave.parts.iter().map(&mut added).collect();
        }
        Ok(totals)
    }

    /// The totals of the date from those of the day before and what the date adds; none where they cannot be told without
    /// the days before.
    async fn continued(&self, before: Totals, day: Totals) -> Result<Option<Totals>> {
        let Ok(yesterday) = self.date.yesterday() else { return Ok(None) };
        let mut totals = before;
        let Some(changed) = self.changed(yesterday).await? else {
            merge(&mut totals, day)?;
            return Ok(Some(totals));
        };
        let Changed { units, gone, new, first } = changed;
        if gone > 0 {
            let only = units.rows().clone().filter(ident(TAG).eq(lit(BEFORE)))?;
            let gone = self.of_all_days(&self.view(yesterday, Some(only))).await?;
            if !subtract(&mut totals, &gone)? {
                return Ok(None);
            }
        }
        if new > 0 {
            let only = units.rows().clone().filter(ident(TAG).eq(lit(NOW)))?;
            let view = self.view(self.date, Some(only));
            merge(&mut totals, self.counted(&view).await?)?;
            // Outcomes of the date are among what it adds for everybody.
            if first <= yesterday {
                for source in self.sources() {
                    let range = Days { from: first, to: yesterday };
                    merge(&mut totals, self.increments(&view, &source, range).await?)?;
                }
            }
        }
        merge(&mut totals, day)?;
        Ok(Some(totals))
    }

    /// The units that are not what they were at the end of the day before.
    async fn changed(&self, yesterday: Date) -> Result<Option<Changed>> {
        let of = OfDays { values: vec![false; self.of.values.len()], before: false, ..*self.of };
        let days = (yesterday, self.date);
        let candidates = units::assigned_since(
            self.job,
            self.engine,
            self.experiment,
            self.of.assignments,
            days,
        )
        .await?;
        let Some(candidates) = candidates else { return Ok(None) };
        let candidates = match self.engine.is_cluster() {
            // To make them twice is less than one more query.
            true => Kept::as_is(candidates),
            false => self.engine.held(candidates).await?,
        };
        let mut sides = Vec::new();
        for (date, tag) in [(yesterday, BEFORE), (self.date, NOW)] {
            let only = Only { units: candidates.rows().clone(), since: self.date };
            let view = View { date: Some(date), outcomes: Outcomes::Days(&of), only: Some(only) };
            let units = units::units(self.job, self.engine, self.experiment, &view).await?;
            let analysed = units.frame.filter(ident(units::STATE).eq(lit(state::ANALYSED)))?;
            let skipped = [units::STATE, units::LAST_ARM, units::SEVERAL_ARMS];
            let names: Vec<String> =
                analysed.schema().fields().iter().map(|f| f.name().clone()).collect();
            let kept = names.iter().filter(|name| {
                let rows = name.starts_with("rows of");
                !skipped.contains(&name.as_str()) && !rows
            });
            let columns: Vec<Expr> = kept.map(ident).chain([lit(tag).alias(TAG)]).collect();
            sides.push(analysed.select(columns)?);
        }
        let [before, now] = <[DataFrame; 2]>::try_from(sides).map_err(|_| internal("two sides"))?;
        let both = before.union(now)?;
        let keys = both.schema().fields().iter().filter(|f| f.name() != TAG);
        let keys: Vec<Expr> = keys.map(|f| ident(f.name())).collect();
        let tags = vec![min(ident(TAG)).alias(TAG), max(ident(TAG)).alias("last tag")];
        let differ = both.aggregate(keys, tags)?.filter(ident(TAG).eq(ident("last tag")))?;
        let columns = vec![ident(units::UNIT), ident(SINCE), ident(TAG)];
        let units = self.engine.held(differ.select(columns)?).await?;
        let side = cast(ident(TAG), arrow::datatypes::DataType::Int64).alias(TAG);
        let counts = vec![count(lit(1_i64)).alias("units"), min(ident(SINCE)).alias(SINCE)];
        let counts = units.rows().clone().aggregate(vec![side], counts)?.collect().await?;
        let mut changed = Changed { units, gone: 0, new: 0, first: self.date };
        for batch in counts {
            for row in 0..batch.num_rows() {
                let n = batch.column(1).as_primitive::<Int64Type>().value(row) as u64;
                if batch.column(0).as_primitive::<Int64Type>().value(row) == BEFORE {
                    changed.gone = n;
                } else {
                    changed.new = n;
                    let since = batch.column(2).as_primitive::<Date32Type>();
                    if since.is_valid(row) {
                        changed.first = date(since.value(row))?;
                    }
                }
            }
        }
        Ok((changed.gone + changed.new > 0).then_some(changed))
    }
}

/// On which side of the date's beginning a unit is as it is.
const TAG: &str = "tag";
const BEFORE: i64 = 0;
const NOW: i64 = 1;

/// Units that a date changed.
struct Changed {
    units: Kept,
    /// How many are not analysed any more, or not as they were.
    gone: u64,
    /// How many are analysed as they were not.
    new: u64,
    /// The first day that outcomes of the new ones count from.
    first: Date,
}

/// Totals from their bytes.
fn totals_of(cells: &Cells, wave: &Wave) -> Result<Totals> {
    let mut totals = Totals::new();
    for (slice, arms) in cells {
        for (arm, cell) in arms {
            let part = |i: usize| {
                let counts = cell.counts.get(i).copied().unwrap_or_default();
                Ok(Some(Total { counts, buckets: decoded(&cell.summaries[i])? }))
            };
            let sum = (0..wave.parts.len()).map(part).collect::<Result<_>>()?;
            totals.entry(slice.clone()).or_default().insert(arm.clone(), sum);
        }
    }
    Ok(totals)
}

fn decoded(bytes: &[u8]) -> Result<Buckets> {
    match AnySummary::decode(bytes).map_err(|error| internal(error.to_string()))? {
        AnySummary::Buckets(buckets) => Ok(buckets),
        other => Err(internal(format!("found a summary of {:?}", other.kind()))),
    }
}

/// Totals as bytes.
fn cells_of(totals: &Totals) -> Result<Cells> {
    let mut cells = Cells::new();
    for (slice, arms) in totals {
        for (arm, sum) in arms {
            let all: Option<Vec<&Total>> = sum.iter().map(Option::as_ref).collect();
            let all = all.ok_or_else(|| internal("a part has no totals"))?;
            let cell = Cell {
                units: all.first().map_or(0, |total| total.buckets.rows()),
                counts: all.iter().map(|total| total.counts).collect(),
                summaries: all.iter().map(|total| total.buckets.encode()).collect(),
                ..Cell::default()
            };
            cells.entry(slice.clone()).or_default().insert(arm.clone(), cell);
        }
    }
    Ok(cells)
}

fn merge(to: &mut Totals, from: Totals) -> Result<()> {
    for (slice, arms) in from {
        let of_slice = to.entry(slice).or_default();
        for (arm, sum) in arms {
            let Some(mine) = of_slice.get_mut(&arm) else {
                of_slice.insert(arm, sum);
                continue;
            };
            for (mine, theirs) in mine.iter_mut().zip(sum) {
                match (mine, theirs) {
                    (_, None) => {}
                    (mine @ None, theirs) => *mine = theirs,
                    (Some(mine), Some(theirs)) => {
                        mine.buckets.merge(&theirs.buckets)?;
                        mine.counts.non_finite += theirs.counts.non_finite;
                        mine.counts.active += theirs.counts.active;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Takes totals out again; gives `false` where what is left cannot be told.
fn subtract(from: &mut Totals, gone: &Totals) -> Result<bool> {
    for (slice, arms) in gone {
        let Some(of_slice) = from.get_mut(slice) else { return Ok(false) };
        for (arm, sum) in arms {
            let Some(mine) = of_slice.get_mut(arm) else { return Ok(false) };
            for pair in mine.iter_mut().zip(sum) {
                let (Some(mine), Some(theirs)) = pair else { return Ok(false) };
                if !mine.buckets.subtract(&theirs.buckets)? {
                    return Ok(false);
                }
                let bad = &mut mine.counts.non_finite;
                *bad = bad.saturating_sub(theirs.counts.non_finite);
            }
            if mine.iter().flatten().all(|total| total.buckets.is_empty()) {
                of_slice.remove(arm);
            }
        }
        if of_slice.is_empty() {
            from.remove(slice);
        }
    }
    Ok(true)
}

/// Sets the units with rows on the date to those that its own totals have.
fn active_on(totals: &mut Totals, day: &Totals) {
    for (slice, arms) in totals {
        for (arm, sum) in arms {
            let of_day = day.get(slice).and_then(|arms| arms.get(arm));
            for (i, total) in sum.iter_mut().enumerate() {
                let active = of_day.and_then(|sum| Some(sum[i].as_ref()?.counts.active));
                if let Some(total) = total {
                    total.counts.active = active.unwrap_or_default();
                }
            }
        }
    }
}

fn without_outcomes(mut totals: Totals) -> Totals {
    for total in totals.values_mut().flat_map(BTreeMap::values_mut).flatten().flatten() {
        total.counts = PartCounts::default();
        total.buckets.clear_outcomes();
    }
    totals
}

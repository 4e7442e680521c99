//! Unit-days: what each unit of a source did on each day, a row for each, whatever the experiments. Raw rows are read once
//! to make them; periods, look-backs and backfills are made of them.

mod digest;
mod part;
mod record;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast as cast_array, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use gosset_engine::delta::{Commit, DeltaStore, DeltaTableHandle, Metadata, any_of, partition};
use gosset_engine::{Engine, Kept, Listing, location, shown};
use gosset_stats::units::mix;
use jiff::civil::Date;
use object_store::ObjectMeta;
use serde_json::json;

pub(crate) use digest::date;
use part::{Part, parts};
use record::PartRecord;
use shared::Shared;
pub(crate) use shared::{Needed, Of};

use crate::descriptor::{Input, canonical};
use crate::expression::{Aggregates, Over, list_of, row_values, unit_value};
use crate::job::{Job, Measure, Metric, Source};
use crate::period::{days_before, days_between};
use crate::tables::days as day_number;
use crate::time::civil_day;
use crate::units::{check_wall_clock, day, timed, type_of, unit_column};
use crate::{JobError, Result, internal};

/// What the tables of unit-days are called, before the name of their source.
pub const UNIT_DAYS: &str = "unit_days";

pub(crate) const UNIT: &str = "unit";
pub(crate) const DAY: &str = "day";
pub(crate) const ROWS: &str = "rows";
const JOB: &str = "job";
pub(crate) const PART: &str = "part";
const PARTITION: [&str; 3] = [JOB, PART, DAY];

/// Bytes of a value in memory, about.
const BYTES_OF_A_VALUE: usize = 16;

/// Bytes of unit-days that are held before they are published.
pub(crate) const BYTES_AT_ONCE: usize = 256 << 20;

/// The metadata of all parts of a job in a table.
pub(crate) async fn metadata_of_parts(table: &DeltaTableHandle, job: &str) -> Result<Metadata> {
    let all = record::records(table, job).await?;
    record::metadata(&all.into_values().collect::<Vec<_>>())
}

/// The jobs and parts that a commit published.
pub(crate) fn parts_of(commit: &Commit) -> Result<Vec<(String, String)>> {
    let all = record::of_commit(commit)?;
    Ok(all.into_iter().map(|record| (record.job, record.part)).collect())
}

/// The unit-days of a source, as they are published, beside the parts that there are now.
pub(crate) struct UnitDays<'a> {
    job: &'a Job,
    engine: &'a Engine,
    store: &'a DeltaStore,
    source: &'a Source,
    metrics: Vec<&'a Metric>,
    listing: Listing,
    parts: Vec<Part>,
    table: Option<DeltaTableHandle>,
    records: BTreeMap<String, PartRecord>,
    /// The columns of its rows, as in the newest part.
    schema: DFSchemaRef,
    /// The stored columns of the metrics.
    columns: Vec<String>,
    /// Those of each metric.
    of_metrics: BTreeMap<String, Vec<String>>,
    /// Metrics that cannot be measured, and why.
    failed: BTreeMap<String, JobError>,
    /// The unit-days of some days with the parts that they are of, where they are few enough to be held.
    held: Option<(Days, Kept)>,
    /// Those that experiments need which are due, where they were read in one pass.
    shared: Option<Shared>,
}

/// A part that is to be read, or whose unit-days are to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePart {
    /// The source.
    pub source: String,
    /// The day of its folder, or the path of its file.
    pub part: String,
    /// Why.
    pub reason: String,
    /// How many files.
    pub files: u64,
    /// How large they are.
    pub bytes: u64,
    /// How many rows they have, where the files say and a plan asked them.
    pub rows: Option<u64>,
    /// The first day that its rows can be of, where that is known before they are read.
    from: Option<Date>,
}

impl DuePart {
    /// Whether results of a date can depend on it.
    pub(crate) fn may_change(&self, date: Option<Date>) -> bool {
        match (self.from, date) {
            (Some(from), Some(date)) => date >= from,
            _ => true,
        }
    }
}

impl DuePart {
    /// Parts that follow each other and are read for the same reason, as one.
    pub fn together(parts: &[Self]) -> Vec<Self> {
        let alike = |a: &Self, b: &Self| {
            (&a.source, &a.reason, a.files > 0) == (&b.source, &b.reason, b.files > 0)
        };
        let one = |parts: &[Self]| {
            let (first, last) = (parts.first()?, parts.last()?);
            let part = match parts {
                [one] => one.part.clone(),
                _ => format!("{} to {}", first.part, last.part),
            };
            Some(Self {
                part,
                files: parts.iter().map(|part| part.files).sum(),
                bytes: parts.iter().map(|part| part.bytes).sum(),
                rows: parts.iter().map(|part| part.rows).sum(),
                ..first.clone()
            })
        };
        parts.chunk_by(alike).filter_map(one).collect()
    }
}

impl fmt::Display for DuePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, part, reason, files, bytes, rows, .. } = self;
        if *files == 0 {
            return write!(f, "{source} {part}: take away, {reason}");
        }
        let plural = if *files == 1 { "file" } else { "files" };
        write!(f, "{source} {part}: read, {reason}: {files} {plural}, {bytes} bytes")?;
        rows.map_or(Ok(()), |rows| write!(f, ", {rows} rows"))
    }
}

/// Days of unit-days, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    pub(crate) from: Date,
    pub(crate) to: Date,
}

/// Which rows of unit-days count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Late {
    /// Those that came in time.
    LeftOut,
    /// All of them.
    Counted,
}

impl<'a> UnitDays<'a> {
    /// Looks at the parts of a source and at what is published of them.
    pub(crate) async fn look(
        job: &'a Job,
        engine: &'a Engine,
        store: &'a DeltaStore,
        source: &'a Source,
    ) -> Result<Self> {
        let listing = engine.list(&source.section.url).await?;
        let parts = parts(&source.section, &listing)?;
        let table = store.existing(&table_name(source)).await?;
        let records = match &table {
            Some(table) => record::records(table, &job.name).await?,
            None => BTreeMap::new(),
        };
        let mut metrics: Vec<&Metric> = Vec::new();
        let of_days = job.experiments.iter().filter(|experiment| experiment.is_of_days());
        for metric in
            of_days.flat_map(|experiment| experiment.metrics.iter().chain(&experiment.exposure))
        {
            if metric.source == source.name && !metrics.iter().any(|m| m.name == metric.name) {
                metrics.push(metric);
            }
        }
        let mut newest = None;
        // A text file without a row has no types.
        for part in parts.iter().rev() {
            let rows = part.read(engine, &listing).await?;
            let tells = has_types(&rows);
            newest = newest.filter(|_| !tells).or(Some(rows));
            if tells {
                break;
            }
        }
        let Some(newest) = newest else {
            return Err(JobError::Data(format!("no part is at '{}'", source.section.url)));
        };
        let newest = rows_of(newest, listing.files(), job, source)?;
        let schema = Arc::new(newest.schema().clone());
        let mut days = Self {
            job,
            engine,
            store,
            source,
            metrics,
            listing,
            parts,
            table,
            records,
            schema,
            columns: Vec::new(),
            of_metrics: BTreeMap::new(),
            failed: BTreeMap::new(),
            held: None,
            shared: None,
        };
        if days.aggregates(&days.schema).is_err() {
            for metric in days.metrics.clone() {
                if let Err(error) = days.columns_now(metric) {
                    days.failed.insert(metric.name.clone(), error);
                }
            }
        }
        days.measurable()?;
        Ok(days)
    }

    /// Leaves the metrics that can be measured.
    fn measurable(&mut self) -> Result<()> {
        let failed = &self.failed;
        self.metrics.retain(|metric| !failed.contains_key(&metric.name));
        let kept = self.aggregates(&self.schema)?;
        self.columns = kept.stored_names();
        let each = self.metrics.iter();
        let each = each.map(|metric| Ok((metric.name.clone(), self.columns_now(metric)?)));
        self.of_metrics = each.collect::<Result<_>>()?;
        Ok(())
    }

    /// Metrics that cannot be measured, and why.
    pub(crate) fn failed(&self) -> &BTreeMap<String, JobError> {
        &self.failed
    }

    /// What its unit-days are made of besides the files.
    fn made_of(&self) -> Result<String> {
        let section = &self.source.section;
        let zone = self.job.timezone.iana_name().unwrap_or_default();
        let url = shown(&location(&section.url)?);
        Ok(canonical(&json!([url, section.unit, section.time, section.partition, zone])))
    }

    /// The aggregates of a unit's rows that are kept for its metrics.
    fn aggregates(&self, schema: &DFSchemaRef) -> Result<Aggregates> {
        let mut aggregates = Aggregates::to_keep();
        for metric in &self.metrics {
            self.keep(metric, schema, &mut aggregates)
                .map_err(|error| error.about(&format!("metric '{}'", metric.name)))?;
        }
        Ok(aggregates)
    }

    /// Adds what is kept for a metric.
    fn keep(&self, metric: &Metric, schema: &DFSchemaRef, to: &mut Aggregates) -> Result<()> {
        let policy = metric.non_finite;
        if let Measure::Quantiles { of, .. } = &metric.measure {
            return row_values(self.engine, of, schema, policy, to).map(|_| ());
        }
        metric.measure.expressions().try_for_each(|sql| {
            unit_value(self.engine, sql, schema, Over::Rows, policy, to).map(|_| ())
        })
    }

    /// The source.
    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    /// The columns of a source's rows.
    pub(crate) fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The stored columns that a metric is made of.
    pub(crate) fn columns_of(&self, metric: &Metric) -> Result<&[String]> {
        match (self.of_metrics.get(&metric.name), self.failed.get(&metric.name)) {
            (Some(columns), _) => Ok(columns),
            (None, Some(error)) => Err(error.clone().about(&format!("metric '{}'", metric.name))),
            (None, None) => Err(internal(format!("nothing is kept of metric '{}'", metric.name))),
        }
    }

    fn columns_now(&self, metric: &Metric) -> Result<Vec<String>> {
        let mut aggregates = Aggregates::to_keep();
        self.keep(metric, &self.schema, &mut aggregates)?;
        Ok(aggregates.stored_names())
    }

    /// The parts whose unit-days are not published as they are now, of those that can have rows of some days.
    pub(crate) fn due(&self, days: Days) -> Result<Vec<DuePart>> {
        let made_of = self.made_of()?;
        let mut due = Vec::new();
        let lateness = self.source.section.max_lateness_days;
        let told = |part: &str, files, bytes, reason: String, day: Option<Date>| DuePart {
            source: self.source.name.clone(),
            part: part.to_owned(),
            reason,
            files,
            bytes,
            rows: None,
            from: day.zip(lateness).map(|(day, lateness)| days_before(day, lateness)),
        };
        for part in self.parts.iter().filter(|part| self.may_have(part, days)) {
            let reason = match self.records.get(&part.name).filter(|record| !record.is_gone()) {
                None => Some("new".to_owned()),
                Some(record) if record.input != part.input => Some("changed files".into()),
                Some(record) if record.made_of != made_of => Some("changed source".into()),
                Some(record) => {
                    let missing = self.columns.iter().find(|c| !record.columns.contains(c));
                    missing.map(|column| format!("new column {column}"))
                }
            };
            let Input { files, bytes, .. } = part.input;
            due.extend(reason.map(|reason| told(&part.name, files, bytes, reason, part.day)));
        }
        // Folders of days are cleaned away after a while, their unit-days stay. A file that is gone was taken away or became
        // part of another.
        if self.source.section.partition.is_none() {
            let known: BTreeSet<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
            let gone = self.records.values().filter(|r| !r.is_gone() && !known.contains(&*r.part));
            due.extend(
                gone.map(|record| told(&record.part, 0, 0, "its file is gone".into(), None)),
            );
        }
        Ok(due)
    }

    /// Asks the files of parts how many rows they have; those of text do not know.
    pub(crate) async fn count(&self, due: &mut [DuePart]) -> Result<()> {
        for asked in due.iter_mut().filter(|asked| asked.source == self.source.name) {
            let Some(part) = self.parts.iter().find(|part| part.name == asked.part) else {
                continue;
            };
            asked.rows = part.rows(self.engine, &self.listing).await?;
        }
        Ok(())
    }

    /// Whether a part can have rows of some days: the folder of a day has rows of the days before it, as late as they may
    /// be, and where clocks differ of the day after it.
    fn may_have(&self, part: &Part, days: Days) -> bool {
        let Some(day) = part.day else { return true };
        let lateness = self.source.section.max_lateness_days.map_or(i64::MAX - 1, i64::from);
        days_between(days.from, day) >= -1
            && days_between(days.to, day) <= lateness.saturating_add(1)
    }

    /// Reads the parts that are due, some at once, and publishes their unit-days, in one commit unless they are many.
    pub(crate) async fn read(
        &mut self,
        due: &[DuePart],
        at_once: usize,
        run_id: &str,
    ) -> Result<()> {
        let mut made = Vec::new();
        for due in due.chunks(at_once.max(1)) {
            made.extend(self.made(due).await?);
            let bytes = made.iter().flat_map(|(batches, _)| batches);
            if bytes.map(RecordBatch::get_array_memory_size).sum::<usize>() > BYTES_AT_ONCE {
                self.publish(std::mem::take(&mut made), run_id).await?;
            }
        }
        match made.is_empty() {
            true => Ok(()),
            false => self.publish(made, run_id).await,
        }
    }

    /// The unit-days of parts at once; none of those that are gone. Where metrics fail over the rows of one, each is made
    /// by itself without them.
    async fn made(&mut self, due: &[DuePart]) -> Result<Vec<(Vec<RecordBatch>, PartRecord)>> {
        let part = |due: &DuePart| self.parts.iter().find(|part| part.name == due.part).cloned();
        let parts: Vec<Option<Part>> = due.iter().map(part).collect();
        let made = due.iter().zip(&parts).map(async |(due, part)| match part {
            Some(part) => self.unit_days(part).await,
            None => Ok((Vec::new(), self.gone(&due.part)?)),
        });
        let error = match futures::future::try_join_all(made).await {
            Err(error @ (JobError::Data(_) | JobError::File(_))) => error,
            done => return done.map_err(|error| self.about(due, error)),
        };
        if let [due] = due {
            let Some(part) = &parts[0] else { return Err(error) };
            let made = self.unit_days_of_most(part, error).await;
            return Ok(vec![made.map_err(|error| self.about(std::slice::from_ref(due), error))?]);
        }
        let mut all = Vec::new();
        for due in due {
            all.extend(Box::pin(self.made(std::slice::from_ref(due))).await?);
        }
        Ok(all)
    }

    /// An error with the source and the parts that it is of.
    fn about(&self, due: &[DuePart], error: JobError) -> JobError {
        let parts: Vec<&str> = due.iter().map(|due| due.part.as_str()).collect();
        error.about(&format!("source '{}', {}", self.source.name, parts.join(" or ")))
    }

    fn gone(&self, part: &str) -> Result<PartRecord> {
        Ok(PartRecord {
            job: self.job.name.clone(),
            part: part.to_owned(),
            made_of: self.made_of()?,
            input: Input::default(),
            columns: Vec::new(),
            days: BTreeMap::new(),
            without_unit: 0,
            without_time: 0,
            schema: BTreeMap::new(),
        })
    }

    /// The query that makes the unit-days of a part, and their stored columns.
    async fn query(&self, part: &Part) -> Result<Made> {
        let section = &self.source.section;
        let mut frame = part.read(self.engine, &self.listing).await?;
        if !has_types(&frame) {
            let none = RecordBatch::new_empty(Arc::new(self.schema.as_arrow().clone()));
            frame = self.engine.context().read_batch(none)?;
        }
        let frame = rows_of(frame, &part.files, self.job, self.source)?;
        let schema = Arc::new(frame.schema().clone());
        let (Some(unit), Some(time)) = (&section.unit, &section.time) else {
            return Err(JobError::File("the keys 'unit' and 'time' are missing".into()));
        };
        let unit = unit_column(&schema, unit)?;
        let time_type = type_of(&schema, time)?;
        check_wall_clock(self.engine, &section.url, time, &time_type, &self.job.timezone).await?;
        let day = civil_day(ident(time), &time_type, &self.job.timezone)
            .map_err(|error| error.about(&format!("column '{time}'")))?;
        let aggregates = self.aggregates(&schema)?;
        let mut exprs = vec![count(lit(1_i64)).alias(ROWS)];
        exprs.extend(aggregates.all().iter().map(|aggregate| aggregate.of_rows()));
        let grouped = frame.aggregate(vec![unit.alias(UNIT), day.alias(DAY)], exprs)?;
        let mut columns =
            vec![ident(DAY), ident(UNIT), cast(ident(ROWS), DataType::Int64).alias(ROWS)];
        for aggregate in aggregates.all() {
            let name = aggregate.stored_name();
            columns.push(match aggregate.stored_type() {
                // It is a list already.
                DataType::List(_) => ident(&name),
                plain => cast(ident(&name), plain).alias(&name),
            });
        }
        let typed =
            |field: &Arc<Field>| (field.name().clone(), plain(field.data_type()).to_string());
        Ok(Made {
            frame: grouped.select(columns)?,
            columns: aggregates.stored_names(),
            schema: schema.fields().iter().map(typed).collect(),
        })
    }

    /// Makes the unit-days of a part that failed as a whole, without the metrics that fail, if others do not.
    async fn unit_days_of_most(
        &mut self,
        part: &Part,
        error: JobError,
    ) -> Result<(Vec<RecordBatch>, PartRecord)> {
        let metrics = self.metrics.clone();
        let mut failed = BTreeMap::new();
        for metric in &metrics {
            self.metrics = vec![*metric];
            if let Err(error) = self.unit_days(part).await {
                failed.insert(metric.name.clone(), error);
            }
        }
        self.metrics.clone_from(&metrics);
        if failed.is_empty() || failed.len() == metrics.len() {
            return Err(error);
        }
        self.failed.extend(failed);
        self.measurable()?;
        self.unit_days(part).await
    }

    /// Makes the unit-days of a part.
    async fn unit_days(&self, part: &Part) -> Result<(Vec<RecordBatch>, PartRecord)> {
        let Made { frame, columns: names, schema } = self.query(part).await?;
        let mut record = PartRecord {
            made_of: self.made_of()?,
            input: part.input.clone(),
            columns: names.clone(),
            schema,
            ..self.gone(&part.name)?
        };
        let mut days = BTreeMap::new();
        let mut batches = Vec::new();
        let mut stream = frame.execute_stream().await?;
        while let Some(batch) = stream.try_next().await? {
            let batch = plain_strings(&batch)?;
            let batch = known(&batch, &mut record)?;
            digest::add(&mut days, &batch, &names)?;
            batches.push(self.to_store(&part.name, &batch)?);
        }
        record.days = days.into_iter().map(|(day, of)| (day, of.into())).collect();
        Ok((batches, record))
    }

    /// A batch of unit-days with the job and the part.
    fn to_store(&self, part: &str, batch: &RecordBatch) -> Result<RecordBatch> {
        let n = batch.num_rows();
        let constant = |value: &str| -> ArrayRef {
            Arc::new(std::iter::repeat_n(Some(value), n).collect::<StringArray>())
        };
        let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
        let mut fields = vec![text(JOB), text(PART)];
        let mut columns = vec![constant(&self.job.name), constant(part)];
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            fields.push(Arc::new(Field::new(field.name(), column.data_type().clone(), true)));
            columns.push(Arc::clone(column));
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Publishes unit-days: all rows of these parts are replaced, in one commit.
    async fn publish(
        &mut self,
        made: Vec<(Vec<RecordBatch>, PartRecord)>,
        run_id: &str,
    ) -> Result<()> {
        let (batches, records): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
        let mut table = match (self.table.take(), batches.first()) {
            (Some(table), _) => table,
            (None, Some(batch)) => {
                self.store.table(&table_name(self.source), batch.schema(), &PARTITION).await?
            }
            // Nothing is published of files without a row that can be used.
            (None, None) => return Ok(()),
        };
        let batches =
            batches.iter().map(|b| widened(b, &table.schema()?)).collect::<Result<Vec<_>>>();
        let batches =
            batches.map_err(|error| error.about(&format!("source '{}'", self.source.name)))?;
        let of_part = |record: &PartRecord| {
            let value = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
            partition(&[(JOB, value(&self.job.name)), (PART, value(&record.part))])
        };
        let rows = any_of(records.iter().map(of_part));
        let done = table.replace(batches, rows, &record::metadata(&records)?, run_id).await?;
        let (version, rows) = (done.version, done.rows);
        tracing::info!(table = table_name(self.source), version, rows, run_id, "published");
        self.table = Some(table);
        self.records.extend(records.into_iter().map(|record| (record.part.clone(), record)));
        Ok(())
    }

    /// Rows of a part, as it was read.
    pub(crate) fn rows_of(&self, part: &str) -> u64 {
        self.records.get(part).map_or(0, |record| {
            let rows: u64 = record.days.values().map(|of| of.rows).sum();
            rows + record.without_unit + record.without_time
        })
    }

    /// Plans the query that makes unit-days of the newest part: the columns are there and the SQL of the metrics is right.
    pub(crate) async fn check(&self) -> Result<()> {
        if let Some(part) = self.parts.last() {
            self.query(part).await?.frame.create_physical_plan().await?;
        }
        Ok(())
    }

    /// The unit-days of some days, of the units of an experiment and perhaps of others: unit, day, rows, and the stored
    /// columns; more than one row of a unit-day where more than one part has rows of the day.
    pub(crate) fn rows(&self, of: Of<'_>, days: Days, late: Late) -> Result<DataFrame> {
        let Some(table) = &self.table else {
            return Err(JobError::Data(format!(
                "source '{}' has no row with a unit and a time",
                self.source.name
            )));
        };
        let mut rows = ident(DAY).between(day(days.from), day(days.to));
        if late == Late::LeftOut {
            for (part, of) in self.late_days(days) {
                let these = ident(PART).eq(lit(part.to_owned())).and(ident(DAY).eq(day(of)));
                rows = rows.and(Expr::Not(Box::new(these)));
            }
        }
        let held = self
            .held
            .as_ref()
            .filter(|(held, _)| held.contains(days.from) && held.contains(days.to));
        let shared = match &self.shared {
            Some(shared) => shared.rows(of, days)?,
            None => None,
        };
        let frame = match (held, shared) {
            (Some((_, held)), _) => held.rows().clone(),
            (None, Some(shared)) => shared,
            (None, None) => self.published(table)?,
        };
        let frame = frame.filter(rows)?;
        let columns = [UNIT, DAY, ROWS].into_iter().chain(self.columns.iter().map(String::as_str));
        Ok(frame.select(columns.map(ident).collect::<Vec<_>>())?)
    }

    fn published(&self, table: &DeltaTableHandle) -> Result<DataFrame> {
        let all = self.engine.context().read_table(table.provider()?)?;
        Ok(all.filter(ident(JOB).eq(lit(self.job.name.clone())))?)
    }

    /// Holds what experiments need that are due: in memory where it takes no more than some bytes, or else in files, where
    /// reading it once for all of them is less work: where not each is about all of the units. `assigned` is how many units
    /// they have together.
    pub(crate) async fn hold(
        &mut self,
        (assignments, assigned): (&DataFrame, u64),
        needed: BTreeMap<String, Needed>,
        bytes: usize,
    ) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        let Some(days) = Days::around(needed.values().map(|needed| needed.all)) else {
            return Ok(());
        };
        let records = self.records.values().flat_map(|record| &record.days);
        let units = records.filter(|(day, _)| days.contains(**day)).map(|(_, of)| of.units);
        let units: Vec<u64> = units.collect();
        let most = units.iter().copied().max().unwrap_or_default();
        let width = BYTES_OF_A_VALUE * (self.columns.len() + 4);
        let size =
            usize::try_from(units.iter().sum::<u64>()).unwrap_or(usize::MAX).saturating_mul(width);
        if size <= bytes && !self.engine.is_cluster() {
            let rows = ident(DAY).between(day(days.from), day(days.to));
            let held = self.engine.held(self.published(table)?.filter(rows)?).await?;
            self.held = Some((days, held));
        } else if needed.len() > 1 && assigned <= most.saturating_mul(needed.len() as u64) {
            let all = self.published(table)?;
            self.shared = Shared::read(self.engine, self.job, assignments, needed, all).await?;
        }
        Ok(())
    }

    /// Whether each unit has one row for a day.
    pub(crate) fn is_whole(&self, days: Days) -> bool {
        let mut seen = BTreeSet::new();
        let records = self.records.values();
        let mut all = records.flat_map(|r| r.days.keys()).filter(|day| days.contains(**day));
        all.all(|day| seen.insert(*day))
    }

    /// Days of parts whose rows came too late to be counted without a backfill.
    fn late_days(&self, days: Days) -> impl Iterator<Item = (&str, Date)> {
        let most = self.source.section.max_lateness_days.map(i64::from);
        let key = self.source.section.partition.as_deref().unwrap_or_default();
        let late = most.into_iter().flat_map(move |most| {
            self.records.values().flat_map(move |record| {
                let text = record.part.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
                let arrived: Option<Date> = text.and_then(|text| text.parse().ok());
                let days = record.days.keys().copied();
                days.filter(move |day| arrived.is_some_and(|at| days_between(*day, at) > most))
                    .map(|day| (record.part.as_str(), day))
            })
        });
        late.filter(move |(_, day)| days.contains(*day))
    }

    /// Rows that came too late, of some days.
    pub(crate) fn late_rows(&self, days: Days) -> u64 {
        self.late_days(days).map(|(part, day)| self.records[part].days[&day].rows).sum()
    }

    /// A hash of what units did on some days, in some columns.
    pub(crate) fn digest(&self, columns: &[String], days: Days, late: Late) -> u64 {
        let left_out: BTreeSet<(&str, Date)> = match late {
            Late::LeftOut => self.late_days(days).collect(),
            Late::Counted => BTreeSet::new(),
        };
        let mut all = 0_u64;
        for record in self.records.values() {
            for day in record.days.keys().filter(|day| days.contains(**day)) {
                if left_out.contains(&(record.part.as_str(), *day)) {
                    continue;
                }
                let of = record.digest(*day, columns).unwrap_or_default();
                all = all.wrapping_add(mix(u64::from(day_number(*day).cast_unsigned()), of));
            }
        }
        all
    }

    /// Rows, units and the sums of some columns of a day.
    fn of_day(&self, day: Date, columns: &[String]) -> (u64, u64, Vec<f64>) {
        let (mut rows, mut units, mut sums) = (0, 0, vec![0.0; columns.len()]);
        for record in self.records.values() {
            let Some(of) = record.days.get(&day) else { continue };
            rows += of.rows;
            units += of.units;
            for (sum, column) in sums.iter_mut().zip(columns) {
                let at = record.columns.iter().position(|known| known == column);
                *sum += at.map_or(0.0, |at| of.sums[at]);
            }
        }
        (rows, units, sums)
    }

    /// Days without rows up to a date, it among them.
    pub(crate) fn stale_days(&self, date: Date) -> u64 {
        let last = self.records.values().filter_map(|record| record.days.keys().next_back()).max();
        last.map_or(u64::MAX, |last| days_between(*last, date).max(0) as u64)
    }

    /// The stored column that counts the rows of an exposure.
    pub(crate) fn count_of(&self, exposure: &Metric) -> Result<String> {
        let columns = self.columns_of(exposure)?;
        let first = columns.first().cloned();
        first.ok_or_else(|| internal("an exposure has no column"))
    }

    /// How many times as many rows as the median of the 7 days before a date has, or as few.
    pub(crate) fn row_count(&self, date: Date) -> Option<Drift> {
        Drift::of(date, |day| Some(self.of_day(day, &[]).0 as f64))
    }

    /// The same for what a metric is made of, per unit with rows.
    pub(crate) fn distribution(&self, date: Date, metric: &Metric) -> Result<Option<Drift>> {
        let column = self.columns_of(metric)?;
        let Some(column) = column.iter().find(|name| !name.starts_with("not_finite_in")) else {
            return Ok(None);
        };
        let column = std::slice::from_ref(column);
        Ok(Drift::of(date, |day| match self.of_day(day, column) {
            (_, 0, _) => None,
            (_, units, sums) => Some(sums[0] / units as f64),
        }))
    }

    /// The columns that vanished or changed their type in the parts of a date since the parts before.
    pub(crate) fn schema_changes(&self, date: Date) -> Vec<String> {
        let of_date = |record: &&PartRecord| record.days.keys().next_back() == Some(&date);
        let last = |record: &&PartRecord| record.days.keys().next_back().copied();
        let before = self.records.values().filter(|r| last(r).is_some_and(|day| day < date));
        let Some(before) = before.max_by_key(last) else { return Vec::new() };
        let mut changes = BTreeSet::new();
        for record in self.records.values().filter(of_date) {
            for (name, was) in &before.schema {
                match record.schema.get(name) {
                    None => changes.insert(format!("the column '{name}' is gone")),
                    Some(is) if is != was => {
                        changes.insert(format!("the column '{name}' is {is}, it was {was}"))
                    }
                    Some(_) => false,
                };
            }
        }
        changes.into_iter().collect()
    }
}

/// A number of a date against those of the days before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drift {
    pub(crate) value: f64,
    pub(crate) median: f64,
}

impl Drift {
    /// Of the 7 days before, if there are 3 of them at least.
    fn of(date: Date, value: impl Fn(Date) -> Option<f64>) -> Option<Self> {
        let mut before: Vec<f64> = (1..=7)
            .filter_map(|ago| value(days_before(date, ago)))
            .filter(|value| value.is_finite() && *value != 0.0)
            .collect();
        if before.len() < 3 {
            return None;
        }
        before.sort_by(f64::total_cmp);
        let middle = before.len() / 2;
        let median = match before.len() % 2 {
            0 => f64::midpoint(before[middle - 1], before[middle]),
            _ => before[middle],
        };
        Some(Self { value: value(date).unwrap_or_default(), median })
    }

    /// How many times as large one is as the other.
    pub(crate) fn times(self) -> f64 {
        let ratio = self.value / self.median;
        if ratio >= 1.0 { ratio } else { 1.0 / ratio }
    }
}

/// Rows of files of a source, with its times.
fn rows_of(rows: DataFrame, of: &[ObjectMeta], job: &Job, source: &Source) -> Result<DataFrame> {
    match &source.section.time {
        Some(time) => timed(rows, of, time, &job.timezone),
        None => Ok(rows),
    }
}

/// Whether some column has a type: the file has a row.
fn has_types(rows: &DataFrame) -> bool {
    rows.schema().fields().iter().any(|field| !field.data_type().is_null())
}

/// The query that makes unit-days.
struct Made {
    frame: DataFrame,
    /// The stored columns.
    columns: Vec<String>,
    /// The columns of the rows, with their types.
    schema: BTreeMap<String, String>,
}

impl Days {
    /// The days from the first of some to the last.
    fn around(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.reduce(|a, b| Self { from: a.from.min(b.from), to: a.to.max(b.to) })
    }

    fn contains(self, day: Date) -> bool {
        (self.from..=self.to).contains(&day)
    }
}

fn table_name(source: &Source) -> String {
    format!("{UNIT_DAYS}_{}", source.name)
}

fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(items) => list_of(plain(items.data_type())),
        other => other.clone(),
    }
}

/// Strings and bytes as the table has them.
fn plain_strings(batch: &RecordBatch) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let plain = plain(column.data_type());
        fields.push(Arc::new(Field::new(field.name(), plain.clone(), true)));
        columns.push(cast_array(column, &plain)?);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The unit-days that have a unit and a day; the others are counted.
fn known(batch: &RecordBatch, record: &mut PartRecord) -> Result<RecordBatch> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| internal(format!("the column {name} is missing")))
    };
    let (unit, day) = (column(UNIT)?, column(DAY)?);
    if unit.null_count() == 0 && day.null_count() == 0 {
        return Ok(batch.clone());
    }
    let rows = column(ROWS)?.as_primitive::<Int64Type>();
    for i in 0..batch.num_rows() {
        let counted = rows.value(i) as u64;
        if unit.is_null(i) {
            record.without_unit += counted;
        } else if day.is_null(i) {
            record.without_time += counted;
        }
    }
    let with_both = arrow::compute::and(&is_not_null(unit)?, &is_not_null(day)?)?;
    Ok(filter_record_batch(batch, &with_both)?)
}

/// A batch with all columns of a table, and those that the table does not have yet after them.
fn widened(batch: &RecordBatch, table: &SchemaRef) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in table.fields() {
        match batch.column_by_name(field.name()) {
            None => columns.push(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => {
                columns.push(Arc::clone(column));
            }
            Some(column) if field.name() == UNIT => {
                return Err(JobError::Data(format!(
                    "its units are {}, those of earlier parts are {}",
                    column.data_type(),
                    field.data_type()
                )));
            }
            Some(column) => columns.push(cast_array(column, field.data_type())?),
        }
        fields.push(Arc::clone(field));
    }
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if table.field_with_name(field.name()).is_err() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

//! What of a stale date is not affected: metrics whose definition and whose rows are what they were keep what is published
//! of them.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use jiff::civil::Date;

use crate::audit::Audit;
use crate::job::Experiment;
use crate::run::Runner;
use crate::tables::{AUDITS, EFFECTS, audits_schema, effects_schema, rows_of};
use crate::{Result, internal};

/// The published rows of a date, those of metrics that are computed again among them.
#[derive(Debug)]
pub(crate) struct Unaffected {
    metrics: BTreeSet<String>,
    effects: Vec<RecordBatch>,
    audits: Vec<RecordBatch>,
}

impl Runner {
    /// What is published of metrics that are not affected; nothing where an audit failed, which is told in the notes of all
    /// effects.
    pub(crate) async fn unaffected(
        &self,
        experiment: &Experiment,
        date: Option<Date>,
        metrics: &[String],
    ) -> Result<Option<Unaffected>> {
        if metrics.is_empty() {
            return Ok(None);
        }
        let rows = || rows_of(&self.job.name, &experiment.name, date);
        let (Some(effects), Some(audits)) =
            (self.store.existing(EFFECTS).await?, self.store.existing(AUDITS).await?)
        else {
            return Ok(None);
        };
        let audits = as_now(audits.read(Some(rows())).await?, &audits_schema())?;
        for batch in &audits {
            if texts(batch, "verdict")?.contains(&Some("failed")) {
                return Ok(None);
            }
        }
        let effects = as_now(effects.read(Some(rows())).await?, &effects_schema())?;
        let metrics = metrics.iter().cloned().collect();
        Ok(Some(Unaffected { metrics, effects, audits }))
    }
}

impl Unaffected {
    /// Whether a metric is.
    pub(crate) fn has(&self, metric: &str) -> bool {
        self.metrics.contains(metric)
    }

    /// Their names.
    pub(crate) fn metrics(&self) -> Vec<&str> {
        self.metrics.iter().map(String::as_str).collect()
    }

    /// Their effects.
    pub(crate) fn effects(&self) -> Result<Vec<RecordBatch>> {
        let of = |batch: &RecordBatch| {
            let metrics = texts(batch, "metric")?;
            let kept = metrics.iter().map(|metric| metric.is_some_and(|m| self.has(m)));
            Ok(filter_record_batch(batch, &kept.collect::<Vec<bool>>().into())?)
        };
        self.effects.iter().map(of).collect()
    }

    /// Their audits, and those of the sources and of the experiment which are not made again.
    pub(crate) fn audits(
        &self,
        experiment: &Experiment,
        again: &[Audit],
    ) -> Result<Vec<RecordBatch>> {
        let key = |audit: &Audit| {
            let text = |of: &Option<String>| of.clone().unwrap_or_default();
            let base = audit.base.name().to_owned();
            [audit.kind.name().to_owned(), text(&audit.metric), text(&audit.source), base]
        };
        let again: BTreeSet<[String; 4]> = again.iter().map(key).collect();
        let sources: BTreeSet<&str> = experiment.sources().collect();
        let of = |batch: &RecordBatch| {
            let names = ["audit", "metric", "source", "analysis_base"];
            let [kind, metric, source, base] = names.map(|name| texts(batch, name));
            let (kind, metric, source, base) = (kind?, metric?, source?, base?);
            let kept = (0..batch.num_rows()).map(|row| {
                let key = [kind[row], metric[row], source[row], base[row]];
                let key = key.map(|text| text.unwrap_or_default().to_owned());
                metric[row].is_none_or(|metric| self.has(metric))
                    && source[row].is_none_or(|source| sources.contains(source))
                    && !again.contains(&key)
            });
            Ok(filter_record_batch(batch, &kept.collect::<BooleanArray>())?)
        };
        self.audits.iter().map(of).collect()
    }
}

/// The texts of a column, which is plain strings.
fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<Vec<Option<&'a str>>> {
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| internal(format!("the column {name} is missing")))?;
    Ok(column.as_string::<i32>().iter().collect())
}

/// Rows of a table with the columns that it has now: those that came later are NULL.
fn as_now(batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let column = |batch: &RecordBatch, name: &str, data_type: &DataType| -> Result<ArrayRef> {
        Ok(match batch.column_by_name(name) {
            Some(column) => cast(column, data_type)?,
            None => new_null_array(data_type, batch.num_rows()),
        })
    };
    let of = |batch: &RecordBatch| {
        let fields = schema.fields().iter();
        let columns = fields.map(|field| column(batch, field.name(), field.data_type()));
        Ok(RecordBatch::try_new(SchemaRef::clone(schema), columns.collect::<Result<_>>()?)?)
    };
    batches.iter().map(of).collect()
}

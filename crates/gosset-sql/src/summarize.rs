//! Aggregates of one summary per group.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, LargeBinaryBuilder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use gosset_stats::exact::{Products, SumTable};
use gosset_stats::summary::{AnySummary, Columns, Counts, Reader, Summary, Table, Totals, Writer};

use crate::aggregate::States;
use crate::call::Call;
use crate::function::{AggregateParts, Function, Implementation};
use crate::input::{LEFT_OUT, Prepared, Values, binary_values, each_value, failed, slots_of};
use crate::labels::Labels;
use crate::two_arm::SqlSummary;

fn large_binary() -> DataType {
    DataType::LargeBinary
}

fn double() -> DataType {
    DataType::Float64
}

fn bytes_array(values: impl Iterator<Item = Option<Vec<u8>>>) -> ArrayRef {
    let mut builder = LargeBinaryBuilder::new();
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}

/// An aggregate that returns the summary itself.
pub(crate) const fn summary_of_columns<S: SqlSummary>() -> Implementation {
    Implementation::Aggregate(AggregateParts { states: one_of::<S>, returns: large_binary })
}

fn one_of<S: SqlSummary>(call: &Call) -> Result<Box<dyn States>> {
    let mut states = One::<S> { call: call.clone(), columns: None, table: None, groups: 0 };
    if let Some(columns) = Values::columns_of_types(call)? {
        states.make_table(columns)?;
    }
    Ok(Box::new(states))
}

/// One summary of columns per group.
#[derive(Debug)]
struct One<S: SqlSummary> {
    call: Call,
    /// `None` while the length of an array of covariates is not known, as is the table.
    columns: Option<Columns>,
    table: Option<S::Table>,
    groups: usize,
}

impl<S: SqlSummary> One<S> {
    fn make_table(&mut self, columns: Columns) -> Result<()> {
        let table = S::table(columns.clone(), &self.call);
        let mut table = table.map_err(|e| failed(self.call.function, e))?;
        table.resize(self.groups);
        (self.columns, self.table) = (Some(columns), Some(table));
        Ok(())
    }
}

impl<S: SqlSummary> States for One<S> {
    fn resize(&mut self, groups: usize) {
        self.groups = groups;
        if let Some(table) = &mut self.table {
            table.resize(groups);
        }
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let slots = slots_of(groups, filter);
        if slots.iter().all(|&slot| slot == LEFT_OUT) {
            return Ok(());
        }
        let mut without = Vec::new();
        let (args, slots) =
            each_value(&self.call, args.to_vec(), slots, |slot| without.push(slot))?;
        let values = Values::new(&self.call, &args, &slots)?;
        match &self.columns {
            Some(columns) => values.check_same(&self.call, columns)?,
            None => self.make_table(values.columns(&self.call)?)?,
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        without.into_iter().for_each(|slot| S::add_dropped(table, slot as usize, 1));
        let prepared = Prepared::new(&self.call, &args, values, slots, |slot| {
            S::add_dropped(table, slot as usize, 1);
        })?;
        prepared.with_rows(|rows| table.update(rows));
        Ok(())
    }

    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        let function = self.call.function;
        let summary = S::decode(state).map_err(|e| failed(function, e))?;
        if self.table.is_none() {
            self.make_table(SqlSummary::columns(&summary))?;
        }
        match &mut self.table {
            Some(table) => table.merge(group, &summary).map_err(|e| failed(function, e)),
            None => Ok(()),
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        if let Some(table) = &self.table {
            out.extend_from_slice(&table.get(group).encode());
        }
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        let table = self.table.as_ref();
        Ok(bytes_array(groups.map(|g| table.map(|table| table.get(g).encode()))))
    }

    fn drop_first(&mut self, groups: usize) {
        self.groups -= groups;
        if let Some(table) = &mut self.table {
            table.drop_first(groups);
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.table.as_ref().map_or(0, Table::size)
    }
}

/// `exact_sum`.
pub(crate) const SUM: Implementation = Implementation::Aggregate(AggregateParts {
    states: |call| Ok(Box::new(TotalsStates::new(call, |_, sum| sum))),
    returns: double,
});

/// `exact_avg`.
pub(crate) const AVG: Implementation = Implementation::Aggregate(AggregateParts {
    states: |call| Ok(Box::new(TotalsStates::new(call, |n, sum| sum / n as f64))),
    returns: double,
});

/// The exact sum of one column per group.
struct TotalsStates {
    function: &'static Function,
    table: SumTable,
    /// The result of some values and their sum.
    finish: fn(u64, f64) -> f64,
}

impl Debug for TotalsStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotalsStates").field("groups", &self.table.slots()).finish()
    }
}

impl TotalsStates {
    fn new(call: &Call, finish: fn(u64, f64) -> f64) -> Self {
        Self { function: call.function, table: SumTable::new(1, Products::None), finish }
    }
}

impl States for TotalsStates {
    fn resize(&mut self, groups: usize) {
        self.table.resize(groups);
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let values = args[0].as_primitive::<Float64Type>();
        let mut slots = slots_of(groups, filter);
        if values.null_count() == 0 && filter.is_none() {
            if self.table.slots() == 1 {
                self.table.add_all(0, &[values.values()]);
            } else {
                self.table.add(&slots, &[values.values()]);
            }
            return Ok(());
        }
        let kept: Vec<usize> =
            (0..slots.len()).filter(|&r| slots[r] != LEFT_OUT && values.is_valid(r)).collect();
        slots = kept.iter().map(|&r| slots[r]).collect();
        let column: Vec<f64> = kept.iter().map(|&r| values.value(r)).collect();
        self.table.add(&slots, &[&column]);
        Ok(())
    }

    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        self.merge_all(&[group], &[state])
    }

    /// States of one value, of which an aggregation by unit has millions, are added as rows.
    fn merge_all(&mut self, groups: &[usize], states: &[&[u8]]) -> Result<()> {
        let (mut slots, mut column) = (Vec::new(), Vec::new());
        for (&group, &state) in groups.iter().zip(states) {
            if let Some(value) = Totals::single(state) {
                slots.push(group as u32);
                column.push(value);
            } else {
                let mut reader = Reader::new(state);
                let read = Totals::read(&mut reader).and_then(|t| reader.finish().map(|()| t));
                let Totals { n, sum } = read.map_err(|e| failed(self.function, e))?;
                self.table.merge_parts(group as u32, n, &[sum]);
            }
        }
        self.table.add(&slots, &[&column]);
        Ok(())
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        let mut writer = Writer::after(std::mem::take(out));
        let slot = group as u32;
        Totals { n: self.table.count(slot), sum: self.table.sum(slot, 0) }.write(&mut writer);
        *out = writer.into_bytes();
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        let values = groups.map(|group| {
            let n = self.table.count(group as u32);
            (n > 0).then(|| (self.finish)(n, self.table.sum_f64(group as u32, 0)))
        });
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn drop_first(&mut self, groups: usize) {
        self.table.drop_first(groups);
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.table.size()
    }
}

/// An aggregate of the rows of each arm, finished by `finish`.
pub(crate) const fn counts(
    finish: fn(&Call) -> Result<Box<dyn States>>,
    returns: fn() -> DataType,
) -> Implementation {
    Implementation::Aggregate(AggregateParts { states: finish, returns })
}

/// The rows of each arm per group.
pub(crate) struct CountsStates {
    call: Call,
    groups: Vec<Counts>,
    finish: fn(&Call, &[Counts]) -> Result<ArrayRef>,
}

impl Debug for CountsStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountsStates").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl CountsStates {
    pub(crate) fn new(call: &Call, finish: fn(&Call, &[Counts]) -> Result<ArrayRef>) -> Self {
        Self { call: call.clone(), groups: Vec::new(), finish }
    }
}

impl States for CountsStates {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Counts::default);
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let labels = Labels::new(&args[0])?;
        for (r, slot) in slots_of(groups, filter).into_iter().enumerate() {
            if slot == LEFT_OUT {
                continue;
            }
            let counts = &mut self.groups[groups[r]];
            let added = labels.with(r, |label| match label {
                Some(label) => counts.add(label, 1),
                None => {
                    counts.add_dropped(1);
                    Ok(())
                }
            });
            added.map_err(|e| failed(self.call.function, e))?;
        }
        Ok(())
    }

    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        Counts::decode(state)
            .and_then(|counts| self.groups[group].merge(&counts))
            .map_err(|e| failed(self.call.function, e))
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.groups[group].encode());
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        (self.finish)(&self.call, &self.groups[groups])
    }

    fn drop_first(&mut self, groups: usize) {
        self.groups.drain(..groups);
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.groups.capacity() * size_of::<Counts>()
            + self.groups.iter().map(Counts::heap_size).sum::<usize>()
    }
}

/// `merge_summaries`.
pub(crate) const MERGE: Implementation = Implementation::Aggregate(AggregateParts {
    states: |call| Ok(Box::new(Merged { call: call.clone(), groups: Vec::new() })),
    returns: large_binary,
});

/// The merge of stored summaries per group; `None` before the first.
#[derive(Debug)]
struct Merged {
    call: Call,
    groups: Vec<Option<AnySummary>>,
}

impl Merged {
    fn add(&mut self, group: usize, bytes: &[u8]) -> Result<()> {
        let merged = AnySummary::decode(bytes).and_then(|summary| match &mut self.groups[group] {
            Some(merged) => merged.merge(&summary),
            none => {
                *none = Some(summary);
                Ok(())
            }
        });
        merged.map_err(|e| failed(self.call.function, e))
    }
}

impl States for Merged {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, None);
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let Some(values) = binary_values(&args[0]) else {
            return internal_err!("summaries were not coerced: found {}", args[0].data_type());
        };
        for (slot, value) in slots_of(groups, filter).into_iter().zip(values) {
            if let Some(value) = value.filter(|_| slot != LEFT_OUT) {
                self.add(slot as usize, value)?;
            }
        }
        Ok(())
    }

    /// A state has no bytes before the first summary; a summary always has some.
    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        if state.is_empty() { Ok(()) } else { self.add(group, state) }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        if let Some(summary) = &self.groups[group] {
            out.extend_from_slice(&summary.encode());
        }
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        Ok(bytes_array(self.groups[groups].iter().map(|s| s.as_ref().map(AnySummary::encode))))
    }

    fn drop_first(&mut self, groups: usize) {
        self.groups.drain(..groups);
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.groups.capacity() * size_of::<Option<AnySummary>>()
            + self.groups.iter().flatten().map(AnySummary::heap_size).sum::<usize>()
    }
}

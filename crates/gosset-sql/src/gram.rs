//! Aggregates that keep the products of a regression's columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use gosset_stats::Summary;
use gosset_stats::summary::{Gram, GramColumns, GramRows, GramTable, Regressor, RegressorKind};

use crate::aggregate::States;
use crate::call::{Bound, Call};
use crate::function::{AggregateParts, ArgumentKind, Implementation};
use crate::input::{
    Column, Keyed, LEFT_OUT, coerce_regressor, factors_of, failed, gather, hash_units, leave_out,
    slots_of, with_parent_nulls,
};

/// What is made of the grams of groups.
pub(crate) type Finish = fn(&Call, &mut dyn Iterator<Item = Gram>) -> Result<ArrayRef>;

/// An aggregate that returns the summary itself.
pub(crate) const SUMMARY: Implementation = Implementation::Aggregate(AggregateParts {
    states: |call| states(call, |_, grams| Ok(Arc::new(bytes(grams)))),
    returns: || DataType::LargeBinary,
});

fn bytes(grams: &mut dyn Iterator<Item = Gram>) -> LargeBinaryArray {
    grams.map(|gram| Some(gram.encode())).collect()
}

/// The states of a call, whose results `finish` makes.
pub(crate) fn states(call: &Call, finish: Finish) -> Result<Box<dyn States>> {
    let max_rows = call.options.max_rows();
    let columns = columns(call)?;
    let caches = vec![Cache::default(); columns.factors()];
    let table = GramTable::new(columns, max_rows).map_err(|e| failed(call.function, e))?;
    Ok(Box::new(GramStates { call: call.clone(), table, caches, finish }))
}

/// The regressors of an argument, each with its array.
fn regressors(
    bound: &Bound,
    array: Option<&ArrayRef>,
) -> Vec<(String, DataType, Option<ArrayRef>)> {
    match &bound.data_type {
        DataType::Struct(fields) => {
            let parts = array.map(|array| array.as_struct());
            let part = |i: usize| parts.map(|parts| with_parent_nulls(parts, parts.column(i)));
            let fields = fields.iter().enumerate();
            fields.map(|(i, f)| (f.name().clone(), f.data_type().clone(), part(i))).collect()
        }
        one => vec![("x1".to_owned(), one.clone(), array.cloned())],
    }
}

/// The columns that the types of a call ask for.
fn columns(call: &Call) -> Result<GramColumns> {
    let (mut outcomes, mut columns) = (Vec::new(), Vec::new());
    let (mut weighted, mut clusters) = (false, 0);
    for bound in &call.arguments {
        match bound.argument.kind {
            ArgumentKind::Regressors => {
                for (name, data_type, _) in regressors(bound, None) {
                    let kind = match coerce_regressor(&data_type) {
                        Some(DataType::Float64) => RegressorKind::Number,
                        _ => RegressorKind::Factor,
                    };
                    columns.push(Regressor { name, kind });
                }
            }
            ArgumentKind::OptionalWeight => weighted = true,
            kind if kind.is_unit() => {
                let two = matches!(bound.data_type, DataType::Struct(_));
                clusters = if two { 2 } else { 1 };
            }
            _ => match &bound.data_type {
                DataType::Struct(fields) => {
                    outcomes.extend(fields.iter().map(|f| f.name().clone()))
                }
                _ => outcomes.push("y".to_owned()),
            },
        }
    }
    GramColumns::new(outcomes, columns, weighted, clusters).map_err(|e| failed(call.function, e))
}

/// The arrays of a batch.
#[derive(Default)]
struct Batch {
    outcomes: Vec<ArrayRef>,
    numbers: Vec<ArrayRef>,
    factors: Vec<ArrayRef>,
    weights: Option<ArrayRef>,
    clusters: Vec<ArrayRef>,
}

impl Batch {
    fn new(call: &Call, args: &[ArrayRef]) -> Result<Self> {
        let mut batch = Self::default();
        for (bound, array) in call.arguments.iter().zip(args) {
            match bound.argument.kind {
                ArgumentKind::Regressors => {
                    for (_, data_type, part) in regressors(bound, Some(array)) {
                        let (Some(part), Some(coerced)) = (part, coerce_regressor(&data_type))
                        else {
                            return internal_err!("regressors were not coerced: found {data_type}");
                        };
                        let part = cast(&part, &coerced)?;
                        match coerced {
                            DataType::Float64 => batch.numbers.push(part),
                            _ => batch.factors.push(part),
                        }
                    }
                }
                ArgumentKind::OptionalWeight => batch.weights = Some(Arc::clone(array)),
                kind if kind.is_unit() => batch.clusters = factors_of(array)?,
                _ => match array.as_struct_opt() {
                    Some(parts) => {
                        for column in parts.columns() {
                            let column = with_parent_nulls(parts, column);
                            batch.outcomes.push(cast(&column, &DataType::Float64)?);
                        }
                    }
                    None => batch.outcomes.push(Arc::clone(array)),
                },
            }
        }
        Ok(batch)
    }

    fn arrays(&self) -> impl Iterator<Item = &ArrayRef> {
        let columns = self.outcomes.iter().chain(&self.numbers).chain(&self.factors);
        columns.chain(&self.weights).chain(&self.clusters)
    }
}

/// One gram per group.
#[derive(Debug)]
struct GramStates {
    call: Call,
    table: GramTable,
    caches: Vec<Cache>,
    finish: Finish,
}

impl GramStates {
    /// Leaves out rows without weight.
    fn leave_out_weightless(&mut self, weights: &ArrayRef, slots: &mut [u32]) -> Result<()> {
        let weights = weights.as_primitive::<Float64Type>();
        for (r, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| **slot != LEFT_OUT) {
            let weight = weights.value(r);
            if weight == 0.0 {
                self.table.add_dropped(*slot as usize, 1);
                *slot = LEFT_OUT;
            } else if weight.is_nan() || weight < 0.0 {
                return exec_err!(
                    "{}: weights must not be negative; found {weight}",
                    self.call.function.name
                );
            }
        }
        Ok(())
    }
}

impl States for GramStates {
    fn resize(&mut self, groups: usize) {
        self.table.resize(groups);
    }

    fn update(
        &mut self,
        args: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let mut slots = slots_of(groups, filter);
        let batch = Batch::new(&self.call, args)?;
        for array in batch.arrays() {
            let nulls = array.logical_nulls();
            leave_out(&mut slots, nulls.as_ref(), &mut |slot| {
                self.table.add_dropped(slot as usize, 1);
            });
        }
        if let Some(weights) = &batch.weights {
            self.leave_out_weightless(weights, &mut slots)?;
        }
        let mut clusters = batch
            .clusters
            .iter()
            .map(|array| hash_units(array, &slots))
            .collect::<Result<Vec<_>>>()?;
        let keep: Option<Vec<usize>> = slots
            .contains(&LEFT_OUT)
            .then(|| (0..slots.len()).filter(|&r| slots[r] != LEFT_OUT).collect());
        if let Some(keep) = &keep {
            slots = keep.iter().map(|&r| slots[r]).collect();
            for hashes in &mut clusters {
                *hashes = keep.iter().map(|&r| hashes[r]).collect();
            }
        }
        let column = |array: &ArrayRef| {
            gather(array.as_primitive::<Float64Type>().clone(), keep.as_deref()).0
        };
        let outcomes: Vec<Column> = batch.outcomes.iter().map(column).collect();
        let numbers: Vec<Column> = batch.numbers.iter().map(column).collect();
        let weights = batch.weights.as_ref().map(column);
        let mut factors = Vec::with_capacity(batch.factors.len());
        for (factor, (array, cache)) in batch.factors.iter().zip(&mut self.caches).enumerate() {
            let mut label = |label: &str| self.table.label(factor, label);
            factors.push(levels(array, keep.as_deref(), cache, &mut label)?);
        }
        let added = self.table.update(GramRows {
            slots: &slots,
            outcomes: &outcomes.iter().map(Column::values).collect::<Vec<_>>(),
            numbers: &numbers.iter().map(Column::values).collect::<Vec<_>>(),
            factors: &factors.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            weights: weights.as_ref().map(Column::values),
            clusters: &clusters.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        });
        added.map_err(|e| failed(self.call.function, e))
    }

    fn merge(&mut self, group: usize, state: &[u8]) -> Result<()> {
        Gram::decode(state)
            .and_then(|gram| self.table.merge(group, &gram))
            .map_err(|e| failed(self.call.function, e))
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.get(group).encode());
    }

    fn evaluate(&self, groups: Range<usize>) -> Result<ArrayRef> {
        (self.finish)(&self.call, &mut groups.map(|group| self.table.get(group)))
    }

    fn drop_first(&mut self, groups: usize) {
        self.table.drop_first(groups);
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.table.size() + self.caches.len() * size_of::<Cache>()
    }
}

/// The number of the label of each row.
fn levels(
    array: &ArrayRef,
    keep: Option<&[usize]>,
    cache: &mut Cache,
    label: &mut dyn FnMut(&str) -> u32,
) -> Result<Vec<u32>> {
    let rows = |level: &mut dyn FnMut(usize) -> u32| -> Vec<u32> {
        match keep {
            Some(keep) => keep.iter().map(|&r| level(r)).collect(),
            None => (0..array.len()).map(level).collect(),
        }
    };
    if let Some(keyed) = Keyed::new(array)? {
        // Only labels of rows are looked at: a dictionary may have others.
        let mut numbers: Vec<Option<u32>> = vec![None; keyed.labels.len()];
        return Ok(rows(&mut |r| {
            let Some(key) = keyed.key(r) else { return 0 };
            let number = &mut numbers[key];
            *number.get_or_insert_with(|| label(keyed.labels[key].as_deref().unwrap_or_default()))
        }));
    }
    match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            let mut numbers = [None; 2];
            Ok(rows(&mut |r| {
                let value = array.value(r);
                *numbers[usize::from(value)]
                    .get_or_insert_with(|| label(if value { "true" } else { "false" }))
            }))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Ok(rows(&mut |r| cache.level(array, r, label)))
        }
        other => internal_err!("labels were not coerced: found {other}"),
    }
}

/// The numbers of short labels, by what stands for them in an array.
#[derive(Debug, Clone)]
struct Cache(Box<[(u128, u32); Self::SIZE]>);

impl Default for Cache {
    fn default() -> Self {
        // No label is that long.
        Self(Box::new([(u128::MAX, 0); Self::SIZE]))
    }
}

impl Cache {
    const SIZE: usize = 256;

    fn level(
        &mut self,
        array: &StringViewArray,
        r: usize,
        label: &mut dyn FnMut(&str) -> u32,
    ) -> u32 {
        /// Up to so many bytes a view holds the label itself.
        const INLINE: u32 = 12;
        let view = array.views()[r];
        if view as u32 > INLINE {
            return label(array.value(r));
        }
        let mixed = (view ^ (view >> 64)) as u64;
        let at = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let entry = &mut self.0[at as usize];
        if entry.0 != view {
            *entry = (view, label(array.value(r)));
        }
        entry.1
    }
}

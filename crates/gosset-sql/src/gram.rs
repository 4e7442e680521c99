//! Aggregates that keep the products of a regression's columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use gosset_stats::Summary;
use gosset_stats::summary::moments::INDICATOR;
use gosset_stats::summary::{Gram, GramColumns, GramRows, GramTable, Regressor, RegressorKind};

use crate::aggregate::States;
use crate::call::{Bound, Call};
use crate::function::{AggregateParts, ArgumentKind, Implementation};
use crate::input::{
    Column, LEFT_OUT, coerce_regressor, factors_of, failed, gather, hash_units, leave_out,
    slots_of, with_parent_nulls,
};
use crate::labels::LabelsOfRows;
use crate::options::Missing;

/// The level of a factor where it is NULL and rows are not left out for it.
const MISSING_LEVEL: &str = "missing";

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
    let table = GramTable::new(columns, max_rows).map_err(|e| failed(call.function, e))?;
    Ok(Box::new(GramStates { call: call.clone(), table, finish }))
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
    if missing(call) == Missing::Indicator {
        let numbers = columns.iter().filter(|regressor| regressor.kind == RegressorKind::Number);
        let indicators: Vec<Regressor> = numbers
            .map(|regressor| Regressor {
                name: format!("{}{INDICATOR}", regressor.name),
                kind: RegressorKind::Number,
            })
            .collect();
        columns.extend(indicators);
    }
    GramColumns::new(outcomes, columns, weighted, clusters).map_err(|e| failed(call.function, e))
}

/// What is done with rows where a regressor is NULL.
fn missing(call: &Call) -> Missing {
    call.options.word("missing").map_or(Missing::Drop, |_| call.options.missing())
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

    /// What rows are left out for where it is NULL, whatever is done with regressors that are.
    fn needed(&self) -> impl Iterator<Item = &ArrayRef> {
        self.outcomes.iter().chain(&self.weights).chain(&self.clusters)
    }

    fn regressors(&self) -> impl Iterator<Item = &ArrayRef> {
        self.numbers.iter().chain(&self.factors)
    }
}

/// One gram per group.
#[derive(Debug)]
struct GramStates {
    call: Call,
    table: GramTable,
    finish: Finish,
}

impl GramStates {
    /// Checks that no regressor is NULL in the rows that are not left out.
    fn check_present(&self, batch: &Batch, slots: &[u32]) -> Result<()> {
        let of_kind = |kind| {
            let regressors = self.table.columns().regressors().iter();
            regressors.filter(move |regressor: &&Regressor| regressor.kind == kind)
        };
        let (numbers, factors) = (of_kind(RegressorKind::Number), of_kind(RegressorKind::Factor));
        for (array, regressor) in batch.regressors().zip(numbers.chain(factors)) {
            let Some(nulls) = array.logical_nulls() else { continue };
            if slots.iter().enumerate().any(|(r, &slot)| slot != LEFT_OUT && nulls.is_null(r)) {
                return exec_err!(
                    "{}: regressor '{}' is NULL in some rows; expected none under missing: 'error'",
                    self.call.function.name,
                    regressor.name
                );
            }
        }
        Ok(())
    }

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
        let missing = missing(&self.call);
        let regressors = batch.regressors().filter(|_| missing == Missing::Drop);
        for array in batch.needed().chain(regressors) {
            let nulls = array.logical_nulls();
            leave_out(&mut slots, nulls.as_ref(), &mut |slot| {
                self.table.add_dropped(slot as usize, 1);
            });
        }
        if let Some(weights) = &batch.weights {
            self.leave_out_weightless(weights, &mut slots)?;
        }
        if missing == Missing::Error {
            self.check_present(&batch, &slots)?;
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
        let mut numbers: Vec<Column> = batch.numbers.iter().map(column).collect();
        if missing == Missing::Indicator {
            let indicator = |array: &ArrayRef| {
                let row = |&r: &usize| f64::from(u8::from(array.is_null(r)));
                Column::Owned(match &keep {
                    Some(keep) => keep.iter().map(row).collect(),
                    None => (0..array.len()).map(|r| row(&r)).collect(),
                })
            };
            numbers.extend(batch.numbers.iter().map(indicator));
        }
        let weights = batch.weights.as_ref().map(column);
        let mut factors = Vec::with_capacity(batch.factors.len());
        for (factor, array) in batch.factors.iter().enumerate() {
            let labels = LabelsOfRows::new(array, keep.as_deref())?;
            factors.push(labels.numbered(|l| self.table.label(factor, l.unwrap_or(MISSING_LEVEL))));
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
        size_of::<Self>() + self.table.size()
    }
}

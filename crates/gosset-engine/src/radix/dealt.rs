//! Rows by the hash of their keys.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, UInt32Array,
    downcast_primitive, make_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::utils::evaluate_expressions_to_arrays;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use datafusion::physical_plan::spill::get_record_batch_memory_size;

/// Rows with the hashes of their keys.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) rows: Vec<RecordBatch>,
    hashes: Vec<u64>,
    pub(super) bytes: usize,
}

impl Gathered {
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn add(&mut self, rows: RecordBatch, keys: &[Arc<dyn PhysicalExpr>]) -> Result<()> {
        let keys = evaluate_expressions_to_arrays(keys, &rows)?;
        let start = self.hashes.len();
        self.hashes.resize(start + rows.num_rows(), 0);
        if let Some(hashes) = self.hashes.get_mut(start..) {
            // The hash of the exchange that was planned: other operators may rely on its partitions.
            create_hashes(&keys, REPARTITION_RANDOM_STATE.random_state(), hashes)?;
        }
        self.bytes += get_record_batch_memory_size(&rows);
        self.rows.push(rows);
        Ok(())
    }

    /// Groups of these rows.
    pub(super) fn groups(&self) -> usize {
        let mut groups = self.hashes.clone();
        groups.sort_unstable();
        groups.dedup();
        groups.len()
    }

    /// The rows in the order of the parts, of which each partition of the output has as many: a power of two.
    pub(super) fn dealt(
        self,
        schema: &SchemaRef,
        partitions: usize,
        parts_of_each: usize,
    ) -> Result<Dealt> {
        // Divisions would take as long as all the rest.
        let mask = (partitions as u64).wrapping_sub(1);
        let partition = |hash: u64| match partitions.is_power_of_two() {
            true => hash & mask,
            false => hash % partitions as u64,
        };
        // Bits that say little about the partition.
        let part = |hash: u64| (hash >> 40) & (parts_of_each as u64 - 1);
        let number = |hash: &u64| partition(*hash) * parts_of_each as u64 + part(*hash);
        let mut places: Vec<u32> = self.hashes.iter().map(|hash| number(hash) as u32).collect();
        let mut starts = vec![0; partitions * parts_of_each + 1];
        for part in &places {
            starts[*part as usize + 1] += 1;
        }
        for part in 1..starts.len() {
            starts[part] += starts[part - 1];
        }
        let mut next: Vec<u32> = starts.iter().map(|start| *start as u32).collect();
        for place in &mut places {
            let at = &mut next[*place as usize];
            *place = *at;
            *at += 1;
        }
        let column = |c: usize| {
            let arrays: Vec<&dyn Array> =
                self.rows.iter().map(|rows| rows.column(c).as_ref()).collect();
            match scattered(&arrays, &places)? {
                Some(dealt) => Ok(dealt),
                None => taken(&arrays, &places),
            }
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<_>>()?;
        Ok(Dealt { rows: RecordBatch::try_new(Arc::clone(schema), columns)?, starts })
    }
}

/// Values at their places: they are read in order, and written in order within each part. None for arrays of other forms
/// than of a fixed width and without NULL, or dictionaries of the same values with such keys.
fn scattered(arrays: &[&dyn Array], places: &[u32]) -> Result<Option<ArrayRef>> {
    let Some(first) = arrays.first() else { return Ok(None) };
    if arrays.iter().any(|array| array.null_count() > 0) {
        return Ok(None);
    }
    if let Some(of_first) = first.as_any_dictionary_opt() {
        let values = of_first.values();
        let dictionaries: Vec<_> = arrays.iter().map(|array| array.as_any_dictionary()).collect();
        if !dictionaries.iter().all(|of| of.values().to_data().ptr_eq(&values.to_data())) {
            return Ok(None);
        }
        let keys: Vec<&dyn Array> = dictionaries.iter().map(|of| of.keys()).collect();
        let Some(keys) = scattered(&keys, places)? else { return Ok(None) };
        let dealt = keys.to_data().into_builder().data_type(first.data_type().clone());
        return Ok(Some(make_array(dealt.child_data(vec![values.to_data()]).build()?)));
    }
    fn scatter<T: ArrowPrimitiveType>(arrays: &[&dyn Array], places: &[u32]) -> Vec<T::Native> {
        let mut dealt = vec![T::Native::default(); places.len()];
        let mut left = places;
        for array in arrays {
            let (places, rest) = left.split_at(array.len());
            for (value, place) in array.as_primitive::<T>().values().iter().zip(places) {
                dealt[*place as usize] = *value;
            }
            left = rest;
        }
        dealt
    }
    macro_rules! of_width {
        ($t:ty) => {{
            let dealt = PrimitiveArray::<$t>::new(scatter::<$t>(arrays, places).into(), None);
            Some(Arc::new(dealt.with_data_type(first.data_type().clone())))
        }};
    }
    Ok(downcast_primitive! { first.data_type() => (of_width), _ => None })
}

/// As [`scattered`], of any arrays.
fn taken(arrays: &[&dyn Array], places: &[u32]) -> Result<ArrayRef> {
    let mut order = vec![0; places.len()];
    for (row, place) in (0..).zip(places) {
        order[*place as usize] = row;
    }
    Ok(take(&concat(arrays)?, &UInt32Array::from(order), None)?)
}

/// Rows in the order of the parts.
pub(super) struct Dealt {
    rows: RecordBatch,
    /// Where each part starts, and the end of the last.
    starts: Vec<usize>,
}

impl Dealt {
    pub(super) fn part(&self, part: usize) -> Option<RecordBatch> {
        let (start, end) = (*self.starts.get(part)?, *self.starts.get(part + 1)?);
        (start < end).then(|| self.rows.slice(start, end - start))
    }

    pub(super) fn bytes(&self) -> usize {
        get_record_batch_memory_size(&self.rows)
    }
}

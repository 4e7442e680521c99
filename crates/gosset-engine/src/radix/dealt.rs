//! Rows by the hash of their keys.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    Scalar, UInt32Array, UInt64Array, downcast_primitive, make_array,
};
use arrow::compute::kernels::numeric::add_wrapping;
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::utils::evaluate_expressions_to_arrays;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use datafusion::physical_plan::spill::get_record_batch_memory_size;

/// Rows of a partition in which it is seen whether there are many groups.
pub(super) const SAMPLE: usize = 1 << 16;

/// The parts that rows are dealt out to, by the hashes of their keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// Partitions of the output.
    pub(super) partitions: usize,
    /// Parts of each of them: a power of two.
    pub(super) of_each: usize,
}

impl Parts {
    pub(super) fn count(self) -> usize {
        self.partitions * self.of_each
    }

    /// Appends the parts of rows with these hashes.
    fn number(self, hashes: &[u64], numbers: &mut Vec<u32>) {
        // Bits that say little about the partition.
        let part = |hash: u64| (hash >> 40) as u32 & (self.of_each as u32 - 1);
        let (partitions, of_each) = (self.partitions as u64, self.of_each as u32);
        // Divisions would take as long as all the rest.
        let partition = |hash: u64| match partitions.is_power_of_two() {
            true => (hash & (partitions - 1)) as u32,
            false => (hash % partitions) as u32,
        };
        numbers.extend(hashes.iter().map(|&hash| partition(hash) * of_each + part(hash)));
    }
}

/// Appends the hashes of rows.
pub(super) fn hash(
    rows: &RecordBatch,
    keys: &[Arc<dyn PhysicalExpr>],
    hashes: &mut Vec<u64>,
) -> Result<()> {
    let keys = evaluate_expressions_to_arrays(keys, rows)?;
    let start = hashes.len();
    hashes.resize(start + rows.num_rows(), 0);
    // The hash of the exchange that was planned: other operators may rely on its partitions.
    create_hashes(&keys, REPARTITION_RANDOM_STATE.random_state(), &mut hashes[start..])?;
    Ok(())
}

/// How many hashes there are.
pub(super) fn distinct(mut hashes: Vec<u64>) -> usize {
    hashes.sort_unstable();
    hashes.dedup();
    hashes.len()
}

/// Rows with the parts that they are dealt out to.
pub(super) struct Gathered {
    parts: Parts,
    pub(super) rows: Vec<RecordBatch>,
    /// Of all rows while they are no more than a sample, else of those that were added last.
    hashes: Vec<u64>,
    /// By row its part.
    numbers: Vec<u32>,
    /// By part its rows.
    counts: Vec<u32>,
    pub(super) bytes: usize,
}

impl Gathered {
    /// Without rows, and with room for so many.
    pub(super) fn new(parts: Parts, rows: usize) -> Self {
        Self {
            parts,
            rows: Vec::new(),
            hashes: Vec::new(),
            numbers: Vec::with_capacity(rows),
            counts: vec![0; parts.count()],
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn add(&mut self, rows: RecordBatch, keys: &[Arc<dyn PhysicalExpr>]) -> Result<()> {
        if self.len() >= SAMPLE {
            self.hashes.clear();
        }
        let start = self.hashes.len();
        hash(&rows, keys, &mut self.hashes)?;
        let hashes = &self.hashes[start..];
        let start = self.numbers.len();
        self.parts.number(hashes, &mut self.numbers);
        self.numbers[start..].iter().for_each(|&part| self.counts[part as usize] += 1);
        self.bytes += get_record_batch_memory_size(&rows);
        self.rows.push(rows);
        Ok(())
    }

    /// Groups of these rows, which are a sample.
    pub(super) fn groups(&self) -> usize {
        distinct(self.hashes.clone())
    }

    /// The rows in the order of their parts.
    pub(super) fn dealt(self, schema: &SchemaRef) -> Result<Dealt> {
        let mut starts = vec![0; self.counts.len() + 1];
        for (part, &count) in self.counts.iter().enumerate() {
            starts[part + 1] = starts[part] + count as usize;
        }
        let mut next: Vec<u32> = starts.iter().map(|start| *start as u32).collect();
        let mut places = self.numbers;
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
        let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
        Ok(Dealt { rows, first_part: 0, starts })
    }
}

/// Values at their places: they are read in order, and written in order within each part. None for arrays of other forms
/// than of a fixed width and without NULL, or dictionaries with such keys.
fn scattered(arrays: &[&dyn Array], places: &[u32]) -> Result<Option<ArrayRef>> {
    let Some(first) = arrays.first() else { return Ok(None) };
    if arrays.iter().any(|array| array.null_count() > 0) {
        return Ok(None);
    }
    if first.as_any_dictionary_opt().is_some() {
        let Some((keys, values)) = with_one_dictionary(arrays)? else { return Ok(None) };
        let keys: Vec<&dyn Array> = keys.iter().map(AsRef::as_ref).collect();
        let Some(keys) = scattered(&keys, places)? else { return Ok(None) };
        return dictionary(first.data_type(), &keys, &values).map(Some);
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

/// Values of dictionaries that may be put after each other: of more it is better to look for those that are the same.
const MAX_VALUES: usize = 256;

/// The keys of dictionaries and what they are keys of: the values of those that differ, one after the other. None if these are
/// many, or more than the keys can count.
fn with_one_dictionary(arrays: &[&dyn Array]) -> Result<Option<(Vec<ArrayRef>, ArrayRef)>> {
    let mut keys = Vec::new();
    // With where each starts.
    let mut all: Vec<(&ArrayRef, usize)> = Vec::new();
    let mut end = 0;
    for dictionary in arrays.iter().map(|array| array.as_any_dictionary()) {
        let values = dictionary.values();
        let is_same = |known: &ArrayRef| {
            known.to_data().ptr_eq(&values.to_data())
                || values.len() <= MAX_VALUES && known == values
        };
        let known = all.iter().rev().find(|(known, _)| is_same(known));
        let start = known.map_or(end, |(_, start)| *start);
        if known.is_none() {
            all.push((values, start));
            end += values.len();
        }
        let of_type = dictionary.keys().data_type();
        let last = end.saturating_sub(1);
        let starts = cast(&UInt64Array::from(vec![start as u64, last as u64]), of_type)?;
        if starts.null_count() > 0 || all.len() > 1 && end > MAX_VALUES {
            return Ok(None);
        }
        keys.push(add_wrapping(&dictionary.keys(), &Scalar::new(starts.slice(0, 1)))?);
    }
    let all: Vec<&dyn Array> = all.into_iter().map(|(values, _)| values.as_ref()).collect();
    Ok(Some((keys, concat(&all)?)))
}

fn dictionary(of_type: &DataType, keys: &ArrayRef, values: &ArrayRef) -> Result<ArrayRef> {
    let data = keys.to_data().into_builder().data_type(of_type.clone());
    Ok(make_array(data.child_data(vec![values.to_data()]).build()?))
}

/// Batches as one.
pub(super) fn together(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let column = |c: usize| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|rows| rows.column(c).as_ref()).collect();
        let of_type = schema.field(c).data_type();
        if let DataType::Dictionary(..) = of_type
            && let Some((keys, values)) = with_one_dictionary(&arrays)?
        {
            let keys: Vec<&dyn Array> = keys.iter().map(AsRef::as_ref).collect();
            return dictionary(of_type, &concat(&keys)?, &values);
        }
        Ok(concat(&arrays)?)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<_>>()?;
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
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
    pub(super) rows: RecordBatch,
    /// The part of which rows are that start first; those before it have none.
    pub(super) first_part: usize,
    /// Where each part from that on starts, and the end of the last.
    pub(super) starts: Vec<usize>,
}

impl Dealt {
    pub(super) fn part(&self, part: usize) -> Option<RecordBatch> {
        self.parts(part..part + 1).map(|(rows, _)| rows)
    }

    /// The rows of some parts, with where each starts and the end of the last; none if there are no rows.
    pub(super) fn parts(&self, parts: Range<usize>) -> Option<(RecordBatch, Vec<usize>)> {
        let first = parts.start.checked_sub(self.first_part)?;
        let starts = self.starts.get(first..=first + parts.len())?;
        let (start, end) = (*starts.first()?, *starts.last()?);
        let within = || starts.iter().map(|at| at - start).collect();
        (start < end).then(|| (self.rows.slice(start, end - start), within()))
    }

    /// Those from a part on; none if there are no rows.
    pub(super) fn starting_at(&self, part: usize) -> Option<Self> {
        let end = self.first_part + self.starts.len().saturating_sub(1);
        let (rows, starts) = self.parts(part..end)?;
        Some(Self { rows, first_part: part, starts })
    }

    pub(super) fn bytes(&self) -> usize {
        get_record_batch_memory_size(&self.rows)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::DictionaryArray;
    use arrow::datatypes::{Field, Int8Type, Schema};

    use super::*;

    fn texts(array: &ArrayRef) -> Vec<&str> {
        let dictionary = array.as_any_dictionary();
        let values = dictionary.values().as_string::<i32>();
        dictionary.normalized_keys().into_iter().map(|key| values.value(key)).collect()
    }

    #[test]
    fn dictionaries_become_one_or_are_merged() {
        let few: [Vec<&str>; 3] = [vec!["a", "b", "a"], vec!["b", "c"], vec!["c", "c", "a"]];
        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let backwards = many.iter().rev().copied().collect();
        let many = [many, vec!["a"; 20], backwards];
        for labels in [few, many] {
            let arrays: Vec<DictionaryArray<Int8Type>> =
                labels.iter().map(|labels| labels.iter().copied().collect()).collect();
            let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array as &dyn Array).collect();
            let labels: Vec<&str> = labels.concat();
            let places: Vec<u32> = (0..labels.len() as u32).rev().collect();
            let field = Field::new("label", arrays[0].data_type().clone(), false);
            let schema = Arc::new(Schema::new(vec![field]));
            let batch = |array: &&dyn Array| {
                RecordBatch::try_new(Arc::clone(&schema), vec![make_array(array.to_data())])
                    .expect("a batch")
            };
            let batches: Vec<RecordBatch> = arrays.iter().map(batch).collect();
            let rows = together(&schema, &batches).expect("batches");
            assert_eq!(texts(rows.column(0)), labels);
            let dealt = scattered(&arrays, &places).expect("dictionaries");
            assert_eq!(dealt.is_some(), labels.len() < 10, "keys of a byte count to 127");
            let dealt = dealt.unwrap_or_else(|| taken(&arrays, &places).expect("dictionaries"));
            assert_eq!(dealt.data_type(), arrays[0].data_type());
            assert_eq!(texts(&dealt), labels.into_iter().rev().collect::<Vec<_>>());
        }
    }
}

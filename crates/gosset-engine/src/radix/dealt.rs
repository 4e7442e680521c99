//! Rows by the hash of their keys.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
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
        let parts: Vec<u32> = self.hashes.iter().map(|hash| number(hash) as u32).collect();
        let mut starts = vec![0; partitions * parts_of_each + 1];
        for part in &parts {
            starts[*part as usize + 1] += 1;
        }
        for part in 1..starts.len() {
            starts[part] += starts[part - 1];
        }
        let mut next = starts.clone();
        let mut order = vec![0_u32; parts.len()];
        for (row, part) in parts.iter().enumerate() {
            let at = &mut next[*part as usize];
            order[*at] = row as u32;
            *at += 1;
        }
        let rows = concat_batches(schema, &self.rows)?;
        let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        Ok(Dealt { rows, starts })
    }
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

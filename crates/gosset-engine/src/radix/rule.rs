//! Which aggregations of a plan are done by parts, or get their rows so.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::exec::RadixAggregateExec;
use super::units::UnitExchangeExec;

/// Puts a [`UnitExchangeExec`] below aggregations with replicates of units, and replaces hash aggregations by
/// [`RadixAggregateExec`]; the last rule, as it goes by how partitions were planned.
#[derive(Debug)]
pub(crate) struct RadixAggregation;

impl PhysicalOptimizerRule for RadixAggregation {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let dealt = UnitExchangeExec::below(&node)?;
            let is_dealt = dealt.is_some();
            let node = dealt.unwrap_or(node);
            Ok(match RadixAggregateExec::of(&node)? {
                Some(by_parts) => Transformed::yes(Arc::new(by_parts) as _),
                None if is_dealt => Transformed::yes(node),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "radix_aggregation"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

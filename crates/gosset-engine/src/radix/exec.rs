//! The operator.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, replace_children_if_necessary,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode,
    Partitioning, PlanProperties,
};

use super::dealt::SAMPLE;
use super::leaf::{Feed, Leaf};
use super::parts;

/// A hash aggregation that is done by parts of the groups where there are many.
#[derive(Debug)]
pub(crate) struct RadixAggregateExec {
    /// The aggregation as it was planned, from its last operator to its first: of all rows at once, or of those of a
    /// partition, the exchange, and together.
    planned: Vec<Arc<dyn ExecutionPlan>>,
    /// The keys whose hash says the partition of a row.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    rows: Arc<dyn ExecutionPlan>,
    outputs: Mutex<Option<Leaf>>,
    /// What aggregates, once that is known.
    used: Arc<OnceLock<Arc<dyn ExecutionPlan>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl RadixAggregateExec {
    /// That of a planned aggregation, if it is one of groups, of rows in no order, and of more than a few rows.
    pub(super) fn of(last: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        let Some(together) = last.downcast_ref::<AggregateExec>() else { return Ok(None) };
        let (planned, keys) = match together.mode() {
            AggregateMode::Single => (vec![Arc::clone(last)], together.group_expr().input_exprs()),
            AggregateMode::FinalPartitioned => {
                let exchange = together.input();
                let Some(exchanged) = exchange.downcast_ref::<RepartitionExec>() else {
                    return Ok(None);
                };
                let first = exchanged.input();
                let Some(keys) = first
                    .downcast_ref::<AggregateExec>()
                    .filter(|first| *first.mode() == AggregateMode::Partial)
                    .and_then(|first| keys(exchanged, first))
                else {
                    return Ok(None);
                };
                (vec![Arc::clone(last), Arc::clone(exchange), Arc::clone(first)], keys)
            }
            _ => return Ok(None),
        };
        let Some(first) = planned.last().and_then(|first| first.downcast_ref::<AggregateExec>())
        else {
            return Ok(None);
        };
        let rows = Arc::clone(first.input());
        let is_one_table = |of: &AggregateExec| {
            of.group_expr().is_single()
                && !of.group_expr().is_true_no_grouping()
                // A key is evaluated twice: for its part and in it.
                && !of.group_expr().input_exprs().iter().any(is_volatile)
                && of.limit_options().is_none()
                && *of.input_order_mode() == InputOrderMode::Linear
                && of.aggr_expr().iter().all(|aggregate| aggregate.order_bys().is_empty())
        };
        if are_few(&rows)?
            || !is_one_table(together)
            || !is_one_table(first)
            || rows.schema().fields().is_empty()
            || rows.boundedness() != Boundedness::Bounded
        {
            return Ok(None);
        }
        let of = Self {
            planned,
            keys,
            rows,
            outputs: Mutex::default(),
            used: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        let one_by_one = of.by_parts(&[])?;
        Ok((one_by_one.schema() == last.schema()).then_some(of))
    }

    pub(super) fn rows(&self) -> &Arc<dyn ExecutionPlan> {
        &self.rows
    }

    pub(super) fn keys(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.keys
    }

    pub(super) fn metrics_set(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    pub(super) fn used(&self) -> Arc<OnceLock<Arc<dyn ExecutionPlan>>> {
        Arc::clone(&self.used)
    }

    /// The aggregation as it was planned, of other rows.
    pub(super) fn as_planned(
        &self,
        rows: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.planned.iter().rev().try_fold(rows, |below, operator| {
            replace_children_if_necessary(Arc::clone(operator), vec![below])
        })
    }

    /// The aggregation of each part for itself.
    pub(super) fn by_parts(&self, parts: &[Arc<Feed>]) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(first) = self.planned.last().and_then(|node| node.downcast_ref::<AggregateExec>())
        else {
            return internal_err!("expected an aggregation, found none");
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(self.rows.schema()),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let leaf = Leaf::new(parts.iter().map(Feed::stream), Arc::new(properties));
        let aggregate = AggregateExec::try_new(
            AggregateMode::SinglePartitioned,
            first.group_expr().clone(),
            first.aggr_expr().to_vec(),
            first.filter_expr().to_vec(),
            Arc::new(leaf),
            first.input_schema(),
        )?;
        Ok(Arc::new(aggregate))
    }
}

/// Whether there are known to be no more rows than a sample has.
pub(super) fn are_few(rows: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let known = StatisticsContext::new().compute(rows.as_ref(), &StatisticsArgs::new())?;
    Ok(known.num_rows.get_value().is_some_and(|rows| *rows <= SAMPLE))
}

/// The keys by which states are exchanged, as expressions of rows.
fn keys(exchange: &RepartitionExec, first: &AggregateExec) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
    let Partitioning::Hash(of_states, _) = exchange.partitioning() else { return None };
    let of_rows = first.group_expr().input_exprs();
    let key = |of_state: &Arc<dyn PhysicalExpr>| {
        of_rows.get(of_state.downcast_ref::<Column>()?.index()).cloned()
    };
    if exchange.preserve_order() { None } else { of_states.iter().map(key).collect() }
}

impl DisplayAs for RadixAggregateExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Planned<'a>(&'a dyn ExecutionPlan, DisplayFormatType);
        impl fmt::Display for Planned<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_as(self.1, f)
            }
        }
        let Some(first) = self.planned.last() else { return Ok(()) };
        let planned = Planned(first.as_ref(), kind).to_string();
        match kind {
            DisplayFormatType::TreeRender => f.write_str(&planned),
            _ => {
                let what = planned.find("gby=").and_then(|start| planned.get(start..));
                write!(f, "RadixAggregateExec: {}", what.unwrap_or_default())
            }
        }
    }
}

impl ExecutionPlan for RadixAggregateExec {
    fn name(&self) -> &str {
        "RadixAggregateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.planned.first().map_or(self.rows.properties(), |last| last.properties())
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match self.planned.last() {
            Some(first) => first.apply_expressions(f),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rows) = children.into_iter().next() else {
            return internal_err!("expected rows to aggregate, found none");
        };
        let planned = self.as_planned(rows)?;
        Ok(match Self::of(&planned)? {
            Some(by_parts) => Arc::new(by_parts),
            None => planned,
        })
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = match &mut *outputs {
            Some(outputs) => outputs,
            none => {
                let groups = parts::start(self, &context)?;
                none.insert(Leaf::new(groups, Arc::clone(self.properties())))
            }
        };
        outputs.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut all = self.metrics.clone_inner();
        let used = self.used.get().and_then(|used| used.metrics()).into_iter();
        used.flat_map(|metrics| metrics.iter().cloned().collect::<Vec<_>>())
            .for_each(|metric| all.push(metric));
        Some(all)
    }
}

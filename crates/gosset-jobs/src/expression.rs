//! The SQL expressions of metrics: checked, and rewritten so that their values do not depend on the order of rows.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::core::expr_fn::{coalesce, nullif};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, ExprSchemable, Operator, Volatility, cast, ident, lit,
    when,
};
use gosset_engine::Engine;

use crate::file::NonFinite;
use crate::{JobError, Result};

/// What an expression is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The one row of a unit: no aggregate.
    Unit,
    /// The rows of a unit: columns only inside of `sum` and `count`.
    Rows,
}

/// The aggregates that are computed for each unit, each once, whatever uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aggregates {
    prefix: String,
    exprs: Vec<Expr>,
}

impl Aggregates {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), exprs: Vec::new() }
    }

    /// The column that an aggregate has in the aggregation's result.
    pub(crate) fn column(&mut self, aggregate: Expr) -> Expr {
        let at = self.exprs.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
            self.exprs.push(aggregate);
            self.exprs.len() - 1
        });
        ident(format!("{}{at}", self.prefix))
    }

    /// All of them, with their names.
    pub(crate) fn exprs(&self) -> Vec<Expr> {
        let named = self.exprs.iter().enumerate();
        named.map(|(i, expr)| expr.clone().alias(format!("{}{i}", self.prefix))).collect()
    }
}

/// A value for each unit.
#[derive(Debug, Clone)]
pub(crate) struct UnitValue {
    /// The value: a double, NULL where it is undefined.
    pub(crate) value: Expr,
    /// The number of NaN and infinite inputs of the unit, and of the value itself.
    pub(crate) non_finite: Expr,
}

/// Reads, checks and rewrites the expression of a metric.
///
/// `sum` becomes the exact sum, so that a unit's value is the same bits in any order; sums and counts of no rows are 0;
/// a division by zero is NULL; NaN and infinite inputs follow the policy.
pub(crate) fn unit_value(
    engine: &Engine,
    sql: &str,
    schema: &DFSchema,
    over: Over,
    policy: NonFinite,
    aggregates: &mut Aggregates,
) -> Result<UnitValue> {
    let told = |error: JobError| error.about(&format!("'{sql}'"));
    // Columns by the names that people gave them, in messages too.
    let schema = &schema.clone().strip_qualifiers();
    let parsed = engine.context().parse_sql_expr(sql, schema).map_err(|e| told(e.into()))?;
    check(&parsed, over).map_err(told)?;
    let exact_sum = engine.context().udaf("exact_sum")?;
    let mut bad = Vec::new();
    let rewritten = undefined_by_zero(parsed)
        .map_err(|error| told(error.into()))?
        .transform_down(|expr| match expr {
            Expr::AggregateFunction(call) => {
                let column = per_unit(call, &exact_sum, schema, policy, aggregates, &mut bad)?;
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })
        .map_err(|error| told(error.into()))?
        .data;
    if over == Over::Rows && rewritten.column_refs().is_empty() {
        return Err(told(JobError::File(
            "expected an aggregate such as sum(x) or count(*)".into(),
        )));
    }
    if over == Over::Unit {
        let found = rewritten.get_type(schema).map_err(|error| told(error.into()))?;
        if !is_number(&found) {
            return Err(told(JobError::File(format!(
                "expected a number for each unit, found {found}"
            ))));
        }
    }
    let value = cast(rewritten, DataType::Float64);
    let bad_rows = bad.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| lit(0_i64));
    let bad_value = when(bad_rows.clone().gt(lit(0_i64)), bad_rows.clone())
        .when(is_finite(value.clone()).is_false(), lit(1_i64))
        .otherwise(lit(0_i64))?;
    Ok(UnitValue { value: with_policy(value, policy)?, non_finite: bad_value })
}

/// A division by zero is NULL, wherever it stands.
fn undefined_by_zero(expr: Expr) -> datafusion::error::Result<Expr> {
    let rewritten = expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) => {
            Ok(Transformed::yes(*left / nullif(*right, lit(0))))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

/// A value under the policy for NaN and infinite ones.
pub(crate) fn with_policy(value: Expr, policy: NonFinite) -> Result<Expr> {
    let substitute = match policy {
        NonFinite::Error => return Ok(value),
        NonFinite::Drop => lit(ScalarValue::Float64(None)),
        NonFinite::Zero => lit(0.0_f64),
    };
    Ok(when(is_finite(value.clone()).is_not_false(), value).otherwise(substitute)?)
}

/// Whether a double is neither NaN nor infinite; NULL for NULL. Comparisons here are of a total order, in which NaN is
/// beyond the infinities.
pub(crate) fn is_finite(value: Expr) -> Expr {
    value.between(lit(f64::MIN), lit(f64::MAX))
}

pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)
}

fn per_unit(
    call: AggregateFunction,
    exact_sum: &Arc<AggregateUDF>,
    schema: &DFSchema,
    policy: NonFinite,
    aggregates: &mut Aggregates,
    bad: &mut Vec<Expr>,
) -> datafusion::error::Result<Expr> {
    let filter = call.params.filter.map(|filter| *filter);
    let filtered = |aggregate: Expr, filter: Option<Expr>| match filter {
        Some(filter) => aggregate.filter(filter).build(),
        None => Ok(aggregate),
    };
    let args = call.params.args;
    let aggregate = if let ("sum", [arg]) = (call.func.name(), args.as_slice()) {
        let arg = arg.clone();
        let found = arg.get_type(schema)?;
        if !is_number(&found) {
            return plan_err!("expected a number inside of 'sum', found {found}");
        }
        let mut arg = if found.is_floating() {
            let double = cast(arg, DataType::Float64);
            let is_bad = is_finite(double.clone()).is_false();
            let is_bad = filter.clone().map_or(is_bad.clone(), |f| f.and(is_bad));
            bad.push(aggregates.column(count(lit(1_i64)).filter(is_bad).build()?));
            with_policy(double, policy)
                .map_err(|e| datafusion::common::DataFusionError::External(Box::new(e)))?
        } else {
            arg
        };
        arg = cast(arg, DataType::Float64);
        filtered(exact_sum.call(vec![arg]), filter)?
    } else {
        filtered(call.func.call(args), filter)?
    };
    // No row at all, or none with a value: nothing was summed.
    let column = cast(aggregates.column(aggregate), DataType::Float64);
    Ok(coalesce(vec![column, lit(0.0_f64)]))
}

/// What the arguments are, where they are not one value.
#[expect(deprecated, reason = "it is what the parser makes of a star")]
fn not_one_value(args: &[Expr]) -> Option<String> {
    match args {
        [Expr::Wildcard { .. }] => Some("'*'".into()),
        [_] => None,
        more => Some(more.len().to_string()),
    }
}

/// What an expression may hold.
fn check(expr: &Expr, over: Over) -> Result<()> {
    match visit(expr, over, false) {
        ControlFlow::Break(text) => Err(JobError::File(text)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn visit(expr: &Expr, over: Over, inside: bool) -> ControlFlow<String> {
    let mut inside = inside;
    match expr {
        Expr::AggregateFunction(call) => {
            let name = call.func.name();
            if over == Over::Unit {
                return ControlFlow::Break(format!(
                    "the source's rows are units, so '{name}' has nothing to aggregate"
                ));
            }
            if !["sum", "count"].contains(&name) {
                return ControlFlow::Break(format!(
                    "expected the aggregates sum and count, found '{name}'"
                ));
            }
            if call.params.distinct {
                return ControlFlow::Break(format!("'{name}(DISTINCT ...)' is not supported"));
            }
            if !call.params.order_by.is_empty() {
                return ControlFlow::Break(format!("ORDER BY has no meaning inside '{name}'"));
            }
            if inside {
                return ControlFlow::Break(format!("'{name}' stands inside of another aggregate"));
            }
            if let ("sum", Some(found)) = (name, not_one_value(&call.params.args)) {
                return ControlFlow::Break(format!(
                    "expected one value inside of 'sum', found {found}"
                ));
            }
            inside = true;
        }
        Expr::Column(column) if over == Over::Rows && !inside => {
            return ControlFlow::Break(format!(
                "the column '{}' stands outside of an aggregate; a unit has many rows",
                column.name
            ));
        }
        Expr::WindowFunction(_) => {
            return ControlFlow::Break("window functions are not supported".into());
        }
        Expr::ScalarSubquery(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_)
        | Expr::SetComparison(_) => {
            return ControlFlow::Break("sub-queries are not supported".into());
        }
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            return ControlFlow::Break(format!(
                "'{}' does not give the same value every time",
                call.func.name()
            ));
        }
        Expr::Placeholder(_) | Expr::ScalarVariable(..) | Expr::Unnest(_) => {
            return ControlFlow::Break(format!("'{expr}' is not supported"));
        }
        _ => {}
    }
    let mut flow = ControlFlow::Continue(());
    let walked = expr.apply_children(|child| {
        flow = visit(child, over, inside);
        Ok(if flow.is_break() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match walked {
        Ok(_) => flow,
        Err(error) => ControlFlow::Break(error.to_string()),
    }
}

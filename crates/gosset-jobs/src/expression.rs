//! The SQL expressions of metrics: checked, and rewritten so that their values do not depend on the order of rows.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::core::expr_fn::{coalesce, nullif};
use datafusion::functions_aggregate::expr_fn::{array_agg, count, max, min, sum};
use datafusion::functions_nested::expr_fn::{array_distinct, array_length, flatten};
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, ExprSchemable, Operator, Volatility, cast, ident, lit,
    not, when,
};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use gosset_engine::Engine;
use gosset_stats::units;

use crate::file::NonFinite;
use crate::{JobError, Result};

/// What an expression is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The one row of a unit: no aggregate.
    Unit,
    /// One of the rows of a unit: no aggregate.
    Row,
    /// The rows of a unit: columns only inside of `sum` and `count`.
    Rows,
}

/// How aggregates of the parts of a unit's rows become that of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    /// Exact sums of doubles.
    Sum,
    /// Sums of counts.
    Count,
    Max,
    Min,
    /// Lists of distinct values, as text.
    Union,
    /// Lists of numbers.
    Concat,
}

/// An aggregate of the rows of a unit.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    /// What tells it from others, whatever the types of columns.
    pub(crate) text: String,
    over_rows: Expr,
    pub(crate) combine: Combine,
}

impl Aggregate {
    /// The column that it has in the table of unit-days: what it is, for people, and a hash of it.
    pub(crate) fn stored_name(&self) -> String {
        let mut plain = String::new();
        for c in self.text.chars() {
            match c {
                c if c.is_ascii_alphanumeric() => plain.push(c.to_ascii_lowercase()),
                _ if plain.ends_with('_') || plain.is_empty() => {}
                _ => plain.push('_'),
            }
        }
        plain.truncate(LONGEST_STORED_NAME);
        let hash = units::string(&self.text) as u32;
        format!("{}_{hash:08x}", plain.trim_end_matches('_'))
    }

    /// The aggregate over the rows of a unit on a day, by its name in the table of unit-days.
    pub(crate) fn of_rows(&self) -> Expr {
        self.over_rows.clone().alias(self.stored_name())
    }

    /// The type of its column in the table of unit-days.
    pub(crate) fn stored_type(&self) -> DataType {
        match self.combine {
            Combine::Sum | Combine::Max | Combine::Min => DataType::Float64,
            Combine::Count => DataType::Int64,
            Combine::Union => list_of(DataType::Utf8),
            Combine::Concat => list_of(DataType::Float64),
        }
    }

    /// The aggregate over unit-days.
    fn of_days(&self, engine: &Engine) -> Result<Expr> {
        let stored = ident(self.stored_name());
        Ok(match self.combine {
            Combine::Sum => engine.context().udaf("exact_sum")?.call(vec![stored]),
            Combine::Count => sum(stored),
            Combine::Max => max(stored),
            Combine::Min => min(stored),
            Combine::Union | Combine::Concat => array_agg(stored),
        })
    }
}

/// Lists as tables of unit-days have them.
pub(crate) fn list_of(items: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", items, true)))
}

/// The most characters of a stored column's name before its hash.
const LONGEST_STORED_NAME: usize = 48;

/// What aggregates are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The rows of a unit.
    Rows,
    /// The rows of a unit on a day: they are kept, so that what they are does not depend on the types of columns.
    RowsOfDay,
    /// What was kept of days.
    Days,
}

/// The aggregates that are computed for each unit, each once, whatever uses it.
#[derive(Debug, Clone)]
pub(crate) struct Aggregates {
    prefix: String,
    of: Of,
    aggregates: Vec<Aggregate>,
}

impl Aggregates {
    /// Of the rows of units.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), of: Of::Rows, aggregates: Vec::new() }
    }

    /// Of the rows of units on a day.
    pub(crate) fn to_keep() -> Self {
        Self { of: Of::RowsOfDay, ..Self::new("") }
    }

    /// Of unit-days.
    pub(crate) fn of_days(prefix: &str) -> Self {
        Self { of: Of::Days, ..Self::new(prefix) }
    }

    /// The column that an aggregate has in the aggregation's result.
    fn column(&mut self, text: String, over_rows: Expr, combine: Combine) -> Expr {
        let at = self.aggregates.iter().position(|known| known.text == text).unwrap_or_else(|| {
            self.aggregates.push(Aggregate { text, over_rows, combine });
            self.aggregates.len() - 1
        });
        ident(format!("{}{at}", self.prefix))
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Aggregate] {
        &self.aggregates
    }

    /// The columns that they have in the table of unit-days.
    pub(crate) fn stored_names(&self) -> Vec<String> {
        self.aggregates.iter().map(Aggregate::stored_name).collect()
    }

    /// All of them as aggregates, with their names.
    pub(crate) fn exprs(&self, engine: &Engine) -> Result<Vec<Expr>> {
        let each = self.aggregates.iter().enumerate().map(|(i, aggregate)| {
            let expr = match self.of {
                Of::Days => aggregate.of_days(engine)?,
                Of::Rows | Of::RowsOfDay => aggregate.over_rows.clone(),
            };
            Ok(expr.alias(format!("{}{i}", self.prefix)))
        });
        each.collect()
    }

    /// All of them for one unit-day, of which no others are.
    pub(crate) fn stored(&self) -> Vec<Expr> {
        let each = self.aggregates.iter().enumerate();
        each.map(|(i, aggregate)| {
            ident(aggregate.stored_name()).alias(format!("{}{i}", self.prefix))
        })
        .collect()
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

/// Whether an expression of aggregates is a sum of sums and counts, with constant factors: then its value over days is
/// the sum of its values of each day. What cannot be read is told elsewhere.
pub(crate) fn is_linear(sql: &str) -> bool {
    let parsed = Parser::new(&GenericDialect {}).try_with_sql(sql);
    parsed.and_then(|mut parser| parser.parse_expr()).is_ok_and(|expr| linear(&expr))
}

fn linear(expr: &ast::Expr) -> bool {
    use ast::BinaryOperator::{Divide, Minus, Multiply, Plus};
    match expr {
        ast::Expr::Nested(inner)
        | ast::Expr::UnaryOp { expr: inner, op: ast::UnaryOperator::Minus } => linear(inner),
        ast::Expr::Function(call) => {
            let name = call.name.to_string().to_lowercase();
            let distinct = match &call.args {
                ast::FunctionArguments::List(list) => list.duplicate_treatment.is_some(),
                _ => true,
            };
            ["sum", "count"].contains(&name.as_str()) && !distinct
        }
        ast::Expr::BinaryOp { left, op: Plus | Minus, right } => linear(left) && linear(right),
        ast::Expr::BinaryOp { left, op: Multiply, right } => {
            (linear(left) && is_number_literal(right)) || (is_number_literal(left) && linear(right))
        }
        ast::Expr::BinaryOp { left, op: Divide, right } => linear(left) && is_number_literal(right),
        _ => false,
    }
}

fn is_number_literal(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Value(value) if matches!(value.value, ast::Value::Number(..)))
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
    let (parsed, schema) = parsed(engine, sql, schema, over).map_err(told)?;
    let schema = &schema;
    let exact_sum = engine.context().udaf("exact_sum")?;
    let mut bad = Vec::new();
    let rewritten = parsed
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
        .when(not(is_finite(value.clone())), lit(1_i64))
        .otherwise(lit(0_i64))?;
    Ok(UnitValue { value: with_policy(value, policy)?, non_finite: bad_value })
}

/// Reads, checks and rewrites the expression of a value of each row: the list of a unit's values, in any order; NULL or
/// empty where it has none.
pub(crate) fn row_values(
    engine: &Engine,
    sql: &str,
    schema: &DFSchema,
    policy: NonFinite,
    aggregates: &mut Aggregates,
) -> Result<UnitValue> {
    let told = |error: JobError| error.about(&format!("'{sql}'"));
    let (value, schema) = parsed(engine, sql, schema, Over::Row).map_err(told)?;
    let found = value.get_type(&schema).map_err(|error| told(error.into()))?;
    if !is_number(&found) {
        return Err(told(JobError::File(format!("expected a number for each row, found {found}"))));
    }
    let mut text = format!("values({value})");
    let mut value = cast(value, DataType::Float64);
    let mut bad = None;
    if found.is_floating() || aggregates.of != Of::Rows {
        let row = Row { value: &mut value, text: &mut text, filter: None };
        bad = Some(row.under(policy, aggregates)?);
    }
    let values = array_agg(value.clone()).filter(value.is_not_null()).build()?;
    let mut column = aggregates.column(text, values, Combine::Concat);
    if aggregates.of == Of::Days {
        column = flatten(column);
    }
    Ok(UnitValue { value: column, non_finite: bad.unwrap_or_else(|| lit(0_i64)) })
}

/// Reads and checks an expression; a division by zero in it is NULL. Gives the schema that it is of as well: columns by the
/// names that people gave them, in messages too.
fn parsed(engine: &Engine, sql: &str, schema: &DFSchema, over: Over) -> Result<(Expr, DFSchema)> {
    let schema = schema.clone().strip_qualifiers();
    let parsed = engine.context().parse_sql_expr(sql, &schema)?;
    check(&parsed, over)?;
    Ok((undefined_by_zero(parsed)?, schema))
}

/// The list of values of a unit without any.
pub(crate) fn no_values() -> Expr {
    cast(lit(ScalarValue::Null), list_of(DataType::Float64))
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

/// A value of a row, what tells it from others, and which rows it is of.
struct Row<'a> {
    value: &'a mut Expr,
    text: &'a mut String,
    filter: Option<&'a Expr>,
}

impl Row<'_> {
    /// Puts it under the policy for NaN and infinite values, and counts these: gives the column of their number.
    fn under(
        self,
        policy: NonFinite,
        aggregates: &mut Aggregates,
    ) -> datafusion::error::Result<Expr> {
        // Not IS FALSE, which the engine plans as something that can be NULL and fails over where it stands twice.
        let is_bad = not(is_finite(self.value.clone()));
        let is_bad = self.filter.map_or(is_bad.clone(), |f| f.clone().and(is_bad));
        let counted = count(lit(1_i64)).filter(is_bad).build()?;
        let bad =
            aggregates.column(format!("not finite in {}", self.text), counted, Combine::Count);
        *self.value = with_policy(self.value.clone(), policy)?;
        if policy != NonFinite::Error {
            *self.text += &format!(" {policy:?}").to_lowercase();
        }
        Ok(bad)
    }
}

/// A value under the policy for NaN and infinite ones.
pub(crate) fn with_policy(value: Expr, policy: NonFinite) -> datafusion::error::Result<Expr> {
    let substitute = match policy {
        NonFinite::Error => return Ok(value),
        NonFinite::Drop => lit(ScalarValue::Float64(None)),
        NonFinite::Zero => lit(0.0_f64),
    };
    when(not(is_finite(value.clone())), substitute).otherwise(value)
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
    let mut text = Expr::AggregateFunction(call.clone()).to_string();
    let filter = call.params.filter.map(|filter| *filter);
    let filtered = |aggregate: Expr, filter: Option<Expr>| match filter {
        Some(filter) => aggregate.filter(filter).build(),
        None => Ok(aggregate),
    };
    let name = call.func.name();
    let zero = |column: Expr| coalesce(vec![cast(column, DataType::Float64), lit(0.0_f64)]);
    match (name, call.params.args.as_slice()) {
        ("sum" | "max" | "min", [arg]) => {
            let arg = arg.clone();
            let found = arg.get_type(schema)?;
            if !is_number(&found) {
                return plan_err!("expected a number inside of '{name}', found {found}");
            }
            let mut arg = cast(arg, DataType::Float64);
            if found.is_floating() || aggregates.of != Of::Rows {
                let filter = filter.as_ref();
                let row = Row { value: &mut arg, text: &mut text, filter };
                bad.push(row.under(policy, aggregates)?);
            }
            let (aggregate, combine) = match name {
                "sum" => (exact_sum.call(vec![arg]), Combine::Sum),
                "max" => (max(arg), Combine::Max),
                _ => (min(arg), Combine::Min),
            };
            let column = aggregates.column(text, filtered(aggregate, filter)?, combine);
            // No row at all, or none with a value: nothing was summed, and there is no largest.
            Ok(if name == "sum" { zero(column) } else { cast(column, DataType::Float64) })
        }
        ("bool_or", [condition]) => {
            let one = when(condition.clone(), lit(1.0_f64)).otherwise(lit(0.0_f64))?;
            let column = aggregates.column(text, filtered(max(one), filter)?, Combine::Max);
            Ok(zero(column))
        }
        ("count", [arg]) if call.params.distinct => {
            let filter =
                filter.map_or(arg.clone().is_not_null(), |f| f.and(arg.clone().is_not_null()));
            let values = array_agg(cast(arg.clone(), DataType::Utf8));
            let values = values.distinct().filter(filter).build()?;
            let mut column = aggregates.column(text, values, Combine::Union);
            if aggregates.of == Of::Days {
                column = array_distinct(flatten(column));
            }
            Ok(zero(array_length(column)))
        }
        (_, args) => {
            let aggregate = filtered(call.func.call(args.to_vec()), filter)?;
            Ok(zero(aggregates.column(text, aggregate, Combine::Count)))
        }
    }
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

/// The aggregates of a unit's rows whose values over days follow from those of each day.
const AGGREGATES: [&str; 5] = ["sum", "count", "max", "min", "bool_or"];

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
            let why = match over {
                Over::Unit => Some("the source's rows are units"),
                Over::Row => Some("a value of each row is expected"),
                Over::Rows => None,
            };
            if let Some(why) = why {
                return ControlFlow::Break(format!("{why}, so '{name}' has nothing to aggregate"));
            }
            if !AGGREGATES.contains(&name) {
                return ControlFlow::Break(format!(
                    "expected the aggregates {}; found '{name}'",
                    AGGREGATES.join(", ")
                ));
            }
            if call.params.distinct && name != "count" {
                return ControlFlow::Break(format!("'{name}(DISTINCT ...)' is not supported"));
            }
            if !call.params.order_by.is_empty() {
                return ControlFlow::Break(format!("ORDER BY has no meaning inside '{name}'"));
            }
            if inside {
                return ControlFlow::Break(format!("'{name}' stands inside of another aggregate"));
            }
            let one = name != "count" || call.params.distinct;
            if let (true, Some(found)) = (one, not_one_value(&call.params.args)) {
                return ControlFlow::Break(format!(
                    "expected one value inside of '{name}', found {found}"
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

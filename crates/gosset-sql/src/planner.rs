//! Checks of calls while SQL is planned: literals, DISTINCT and ORDER BY are visible here and nowhere later.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr,
};
use datafusion::logical_expr::{Expr, WindowFunctionDefinition};

use crate::function::Function;
use crate::options::Options;

/// Checks the calls of our aggregates; changes nothing.
#[derive(Debug)]
pub(crate) struct OptionsPlanner;

impl ExprPlanner for OptionsPlanner {
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if let Some(function) = crate::function(expr.func.name()) {
            check_distinct(function, expr.distinct)?;
            if !expr.order_by.is_empty() {
                return plan_err!(
                    "{}: ORDER BY inside the call is not accepted: the result does not depend on the order",
                    function.name
                );
            }
            check_options(function, &expr.args)?;
        }
        Ok(PlannerResult::Original(expr))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if let WindowFunctionDefinition::AggregateUDF(udf) = &expr.func_def
            && let Some(function) = crate::function(udf.name())
        {
            check_distinct(function, expr.distinct)?;
            check_options(function, &expr.args)?;
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Refuses DISTINCT, which no function of ours means anything with.
pub(crate) fn check_distinct(function: &Function, distinct: bool) -> Result<()> {
    if distinct {
        return plan_err!(
            "{}: DISTINCT is not accepted: it would drop equal units, which are different units",
            function.name
        );
    }
    Ok(())
}

/// Parses the options of a call if its last argument is a struct literal.
pub(crate) fn check_options(function: &'static Function, args: &[Expr]) -> Result<()> {
    let declared = function.arguments.len();
    let Some(fields) = args.last().and_then(struct_literal) else { return Ok(()) };
    let beyond = !function.is_variadic()
        && (args.len() == declared + 1 || (function.is_last_optional() && args.len() == declared));
    let literals: Option<Vec<_>> =
        fields.iter().map(|(name, value)| Some((name.clone(), literal(value)?))).collect();
    match literals {
        Some(literals) if beyond || (function.is_variadic() && args.len() >= declared) => {
            Options::parse(function, literals).map(|_| ())
        }
        // The value of a parameter is known, and checked, when states are made.
        None if args.last().is_some_and(has_placeholder) => Ok(()),
        None if beyond => plan_err!("{}: the options must be literals", function.name),
        _ => Ok(()),
    }
}

/// Whether the last argument is a struct of literals.
pub(crate) fn has_options(args: &[Expr]) -> bool {
    match args.last() {
        Some(Expr::Literal(scalar, _)) => scalar.data_type().is_nested(),
        Some(other) => struct_literal(other).is_some(),
        None => false,
    }
}

/// The options of a call whose last argument is a literal of them; none where it is not.
pub(crate) fn options_of(function: &'static Function, args: &[Expr]) -> Option<Options> {
    let literals = match args.last()? {
        Expr::Literal(scalar, _) => return Options::from_scalar(function, scalar).ok(),
        other => struct_literal(other)?
            .into_iter()
            .map(|(name, value)| Some((name, literal(value)?)))
            .collect::<Option<Vec<_>>>()?,
    };
    Options::parse(function, literals).ok()
}

/// The fields of `{name: value, ...}` as the SQL planner writes it: `named_struct('name', value, ...)`.
fn struct_literal(expr: &Expr) -> Option<Vec<(String, &Expr)>> {
    let Expr::ScalarFunction(call) = expr else { return None };
    if call.name() != "named_struct" {
        return None;
    }
    call.args
        .chunks(2)
        .map(|pair| match pair {
            [Expr::Literal(name, _), value] => {
                Some((name.try_as_str().flatten()?.to_owned(), value))
            }
            _ => None,
        })
        .collect()
}

/// How many columns an argument is: of a struct or an array that is written out, its fields or items.
pub(crate) fn columns_of(expr: &Expr) -> usize {
    match (struct_literal(expr), expr) {
        (Some(fields), _) => fields.iter().map(|(_, field)| columns_of(field)).sum(),
        (None, Expr::ScalarFunction(call)) if call.name() == "make_array" => call.args.len(),
        (None, Expr::Cast(cast)) => columns_of(&cast.expr),
        (None, _) => 1,
    }
}

fn has_placeholder(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).unwrap_or(false)
}

/// The value of a literal, of a negated one and of a struct of literals.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Negative(inner) => literal(inner)?.arithmetic_negate().ok(),
        Expr::Alias(alias) => literal(&alias.expr),
        Expr::ScalarFunction(call) if call.name() == "make_array" => {
            let mut items = call.args.iter().map(literal).collect::<Option<Vec<_>>>()?;
            let mut item = items.first().map_or(DataType::Null, ScalarValue::data_type);
            if items.iter().any(|other| other.data_type() != item) {
                // Whole numbers among others are numbers.
                if !items.iter().all(|item| item.data_type().is_numeric()) {
                    return None;
                }
                item = DataType::Float64;
                let numbers = items.iter().map(|number| number.cast_to(&item).ok());
                items = numbers.collect::<Option<_>>()?;
            }
            Some(ScalarValue::List(ScalarValue::new_list_nullable(&items, &item)))
        }
        _ => {
            let fields = struct_literal(expr)?;
            let values: Vec<(String, ScalarValue)> = fields
                .into_iter()
                .map(|(name, value)| Some((name, literal(value)?)))
                .collect::<Option<_>>()?;
            struct_scalar(&values)
        }
    }
}

fn struct_scalar(values: &[(String, ScalarValue)]) -> Option<ScalarValue> {
    let fields: Fields = values
        .iter()
        .map(|(name, value)| arrow::datatypes::Field::new(name, value.data_type(), true))
        .collect();
    let arrays = values.iter().map(|(_, v)| v.to_array().ok()).collect::<Option<Vec<_>>>()?;
    let array = arrow::array::StructArray::try_new(fields, arrays, None).ok()?;
    Some(ScalarValue::Struct(std::sync::Arc::new(array)))
}

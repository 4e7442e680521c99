//! One call of a function: which argument is where, of what type, and the options.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use gosset_stats::summary::{HistogramOptions, Resampling};

use crate::function::{Argument, ArgumentKind, Function};
use crate::input;
use crate::options::{Options, law_of};

/// An argument of a call.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) argument: &'static Argument,
    pub(crate) data_type: DataType,
}

/// A call with its options parsed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    /// The arguments in the order of the call, without the options.
    pub(crate) arguments: Vec<Bound>,
    pub(crate) options: Options,
}

impl Call {
    /// A call from the expressions of a physical plan.
    pub(crate) fn from_exprs(
        function: &'static Function,
        exprs: &[Arc<dyn PhysicalExpr>],
        fields: &[FieldRef],
    ) -> Result<Self> {
        let types: Vec<DataType> = fields.iter().map(|f| f.data_type().clone()).collect();
        let share = |at: usize| match exprs.get(at) {
            Some(expr) if is_constant(expr) => constant(function, expr).map(Some),
            _ => Ok(None),
        };
        match exprs.split_last() {
            Some((last, before)) if has_options(function, &types, is_constant(last)) => {
                let options = Options::from_scalar(function, &constant(function, last)?)?;
                Self::new(function, &types[..before.len()], options, share)
            }
            _ => Self::new(function, &types, Options::default(), share),
        }
    }

    /// A call from values of a scalar function.
    pub(crate) fn from_values(
        function: &'static Function,
        values: &[ColumnarValue],
    ) -> Result<Self> {
        let types: Vec<DataType> = values.iter().map(ColumnarValue::data_type).collect();
        let options = match values.last() {
            Some(ColumnarValue::Scalar(scalar)) if has_options(function, &types, true) => {
                Some(Options::from_scalar(function, scalar)?)
            }
            Some(_) if has_options(function, &types, true) => {
                return plan_err!("{}: the options must be literals", function.name);
            }
            _ => None,
        };
        let n = types.len() - usize::from(options.is_some());
        Self::new(function, &types[..n], options.unwrap_or_default(), |at| {
            Ok(match values.get(at) {
                Some(ColumnarValue::Scalar(scalar)) => Some(scalar.clone()),
                _ => None,
            })
        })
    }

    fn new(
        function: &'static Function,
        types: &[DataType],
        mut options: Options,
        constant: impl Fn(usize) -> Result<Option<ScalarValue>>,
    ) -> Result<Self> {
        let arguments = bind(function, types)?;
        for (at, bound) in arguments.iter().enumerate() {
            if bound.argument.kind == ArgumentKind::Share {
                options.set_share(function, bound.argument.name, constant(at)?)?;
            }
        }
        arguments.iter().try_for_each(|bound| input::check_columns(function, bound))?;
        check_arms(function, &arguments, &options)?;
        check_units(function, &arguments, &options)?;
        Ok(Self { function, arguments, options })
    }

    /// What a histogram keeps: weights of units where the call has a unit.
    pub(crate) fn histogram(&self) -> HistogramOptions {
        let has_unit = self.arguments.iter().any(|b| b.argument.kind.is_unit());
        let default = HistogramOptions::default();
        HistogramOptions {
            relative_error: self.options.number("relative_error").unwrap_or(default.relative_error),
            resampling: has_unit.then(|| self.resampling()),
        }
    }

    /// Whether each unit gets a weight in every replicate, by which all of its rows are multiplied.
    pub(crate) fn weights_units(&self) -> bool {
        let has = |name: &str| self.function.options().any(|option| option.name == name);
        // A histogram weights the rows of a bin, whichever units they are of.
        let adds_rows = has("replicates") && !has("relative_error");
        let method = self.options.method(self.function);
        adds_rows && method.is_none_or(|method| law_of(method).is_some())
    }

    /// The place of the unit, if there is one.
    pub(crate) fn unit(&self) -> Option<usize> {
        use ArgumentKind::{CrossedUnit, OptionalUnit, Unit};
        let is_unit =
            |bound: &Bound| matches!(bound.argument.kind, Unit | CrossedUnit | OptionalUnit);
        self.arguments.iter().position(is_unit)
    }

    /// How the options and the unit ask for units to be resampled.
    pub(crate) fn resampling(&self) -> Resampling {
        let default = Resampling::default();
        Resampling {
            law: self.options.law().unwrap_or(default.law),
            replicates: self.options.replicates(),
            seed: self.options.seed(),
            crossed: crossed(&self.arguments),
            buckets: self.options.keeps_buckets(self.function).then(|| self.options.buckets()),
        }
    }
}

/// Which declared argument each position is.
pub(crate) fn bind(function: &'static Function, types: &[DataType]) -> Result<Vec<Bound>> {
    let declared = function.arguments;
    let fixed = declared.len() - usize::from(function.is_variadic());
    let fits = types.len() == fixed
        || (function.is_variadic() && types.len() >= fixed)
        || (function.is_last_optional() && types.len() + 1 == fixed);
    if !fits {
        return plan_err!(
            "{}: expected {}, found {}: {}",
            function.name,
            match (function.is_variadic(), fixed) {
                _ if function.is_last_optional() => format!("{} or {fixed} arguments", fixed - 1),
                (true, _) => format!("{fixed} or more arguments"),
                (false, 1) => "1 argument".to_owned(),
                (false, _) => format!("{fixed} arguments"),
            },
            types.len(),
            function.syntax()
        );
    }
    let last = declared.len().saturating_sub(1);
    Ok(types
        .iter()
        .enumerate()
        .map(|(i, t)| Bound { argument: &declared[i.min(last)], data_type: t.clone() })
        .collect())
}

/// Whether the last of these arguments is the options: a struct beyond the declared arguments, or, where the last
/// argument may be repeated, a struct of constants with the names of options. (A struct of columns may be one of
/// constants as well, once the optimizer has put their values in place.)
pub(crate) fn has_options(function: &Function, types: &[DataType], constant: bool) -> bool {
    let fields = match types.last() {
        Some(DataType::Struct(fields)) => fields,
        Some(packed) => return is_packed(packed),
        None => return false,
    };
    if function.is_variadic() {
        constant && types.len() >= function.arguments.len() && are_options(function, fields)
    } else {
        let declared = function.arguments.len();
        types.len() == declared + 1 || (function.is_last_optional() && types.len() == declared)
    }
}

/// Whether all fields of a struct have the names of options.
pub(crate) fn are_options(function: &Function, fields: &Fields) -> bool {
    fields.iter().all(|field| function.options().any(|option| option.name == field.name()))
}

/// Options as a literal that the engine repeats for every row of a batch at next to no cost.
pub(crate) fn packed(options: ScalarValue) -> ScalarValue {
    ScalarValue::Dictionary(Box::new(DataType::Int8), Box::new(options))
}

/// Whether it is the type of [`packed`] options.
fn is_packed(t: &DataType) -> bool {
    matches!(t, DataType::Dictionary(_, values) if values.is_nested())
}

/// An arm that is not a boolean needs the names of both arms.
fn check_arms(function: &Function, arguments: &[Bound], options: &Options) -> Result<()> {
    let Some(arm) = arguments.iter().find(|b| b.argument.kind == ArgumentKind::Arm) else {
        return Ok(());
    };
    let named = options.text("treatment").is_some();
    match (&arm.data_type, named) {
        (DataType::Boolean, false) => Ok(()),
        (DataType::Boolean, true) => plan_err!(
            "{}: '{}' is a boolean (true is treatment), so the options 'treatment' and 'control' have no meaning; pass the arm column itself",
            function.name,
            arm.argument.name
        ),
        (_, true) => Ok(()),
        (other, false) => plan_err!(
            "{}: '{}' is not a boolean but {other}; name the arms: {{treatment: '...', control: '...'}}",
            function.name,
            arm.argument.name
        ),
    }
}

/// Whether the unit is a struct of two factors.
fn crossed(arguments: &[Bound]) -> bool {
    let is_struct = |b: &Bound| matches!(b.data_type, DataType::Struct(_));
    arguments.iter().any(|b| b.argument.kind.is_unit() && is_struct(b))
}

/// Pairs of two crossed factors are resampled one by one: buckets of pairs are no sample of either factor.
fn check_units(function: &Function, arguments: &[Bound], options: &Options) -> Result<()> {
    let (crossed, of_buckets) = (crossed(arguments), options.law().is_none());
    let has_buckets = function.options().any(|o| o.name == "method" && o.default == "'buckets'");
    if crossed && has_buckets && of_buckets {
        return plan_err!(
            "{}: a unit of two crossed factors needs method: 'poisson', 'double_or_nothing' or 'bayesian'; found 'buckets'",
            function.name
        );
    }
    let interval = options.word("interval");
    if crossed && (interval == Some("bca") || options.integer("buckets").is_some()) {
        return plan_err!(
            "{}: a unit of two crossed factors has no buckets, which interval: 'bca' and the option 'buckets' need",
            function.name
        );
    }
    if has_buckets && !of_buckets && interval == Some("studentized") {
        return plan_err!(
            "{}: interval: 'studentized' needs method: 'buckets', since the standard error of a replicate takes the totals of its units",
            function.name
        );
    }
    Ok(())
}

fn is_constant(expr: &Arc<dyn PhysicalExpr>) -> bool {
    collect_columns(expr).is_empty()
}

/// The value of an expression without columns.
fn constant(function: &Function, expr: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    if !is_constant(expr) {
        return plan_err!("{}: the options must be literals", function.name);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    match expr.evaluate(&row)? {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(array) if array.len() == 1 => ScalarValue::try_from_array(&array, 0),
        ColumnarValue::Array(_) => exec_err!("{}: the options are not one value", function.name),
    }
}

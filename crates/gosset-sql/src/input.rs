//! From Arrow arrays to rows of summaries.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, StructArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{exec_err, internal_err, plan_err};
use datafusion::error::Result;
use gosset_stats::summary::moments::{DENOMINATOR, INDICATOR, NUMERATOR};
use gosset_stats::summary::{Columns, Rows, Strata};
use gosset_stats::units;

use crate::call::{Bound, Call, are_options, bind, has_options};
use crate::function::{ArgumentKind, Function};
use crate::labels::LabelsOfRows;
use crate::options::Missing;

/// The slot of a row that is left out.
pub(crate) const LEFT_OUT: u32 = u32::MAX;

/// The types that the arguments of a call are cast to.
pub(crate) fn coerce(function: &'static Function, types: &[DataType]) -> Result<Vec<DataType>> {
    // Types cannot tell a struct of constants from one of columns; neither is cast.
    let options = has_options(function, types, true) && !function.is_variadic();
    let n = types.len() - usize::from(options);
    let mut coerced = bind(function, &types[..n])?
        .iter()
        .map(|bound| coerce_one(function, bound))
        .collect::<Result<Vec<_>>>()?;
    coerced.extend_from_slice(&types[n..]);
    Ok(coerced)
}

/// As [`coerce`], but wrong arguments stay as they are: the return type of the call, which is asked for next, is the
/// error then. DataFusion wraps one from here in a text about candidate functions, of which there is only one.
pub(crate) fn coerce_or_leave(
    function: &'static Function,
    types: &[DataType],
) -> Result<Vec<DataType>> {
    Ok(coerce(function, types).unwrap_or_else(|_| types.to_vec()))
}

fn coerce_one(function: &Function, bound: &Bound) -> Result<DataType> {
    let found = unpacked(&bound.data_type);
    if let DataType::Struct(fields) = found
        && bound.argument.kind.is_unit()
        && are_options(function, fields)
    {
        return plan_err!(
            "{}: argument '{}' is missing, the options are in its place: {}",
            function.name,
            bound.argument.name,
            function.syntax()
        );
    }
    let coerced = match (bound.argument.kind, found) {
        (ArgumentKind::Outcome | ArgumentKind::Values | ArgumentKind::OptionalWeight, t)
            if is_number(t) =>
        {
            Some(DataType::Float64)
        }
        (ArgumentKind::Values, t) => coerce_list(t),
        (ArgumentKind::Regressors, DataType::Struct(fields)) => {
            let known = |f: &Arc<Field>| coerce_regressor(f.data_type()).is_some();
            (!fields.is_empty() && fields.iter().all(known)).then(|| found.clone())
        }
        (ArgumentKind::Regressors, _) => coerce_regressor(&bound.data_type),
        (
            ArgumentKind::Outcomes
            | ArgumentKind::Metrics
            | ArgumentKind::Covariates
            | ArgumentKind::RatioCovariates
            | ArgumentKind::Columns,
            t,
        ) => coerce_columns(t, bound.argument.kind),
        (ArgumentKind::Arm, DataType::Boolean | DataType::Null) => Some(DataType::Boolean),
        (ArgumentKind::Stratum, DataType::Struct(fields)) => {
            let known = |f: &Arc<Field>| coerce_stratum(f.data_type()).is_some();
            (!fields.is_empty() && fields.iter().all(known)).then(|| found.clone())
        }
        (ArgumentKind::Stratum, _) => coerce_stratum(&bound.data_type),
        // The labels of a dictionary are looked at once, not row by row.
        (ArgumentKind::Arm, t) if is_label_dictionary(&bound.data_type) && t.is_string() => {
            Some(bound.data_type.clone())
        }
        (ArgumentKind::Arm | ArgumentKind::Label, t) => coerce_label(t, bound.argument.kind),
        (ArgumentKind::CrossedUnit, DataType::Struct(fields)) => {
            let whole = fields.len() == 2
                && fields.iter().all(|f| coerce_unit(unpacked(f.data_type())).is_some());
            whole.then(|| found.clone())
        }
        (ArgumentKind::Unit | ArgumentKind::CrossedUnit | ArgumentKind::OptionalUnit, t) => {
            coerce_unit(t)
        }
        (ArgumentKind::Integer | ArgumentKind::OptionalInteger, t)
            if t.is_integer() || t.is_null() =>
        {
            Some(DataType::Int64)
        }
        (ArgumentKind::Key | ArgumentKind::Keys, t) => coerce_key(t),
        // A literal must stay one.
        (ArgumentKind::Share, t) if t.is_numeric() => Some(t.clone()),
        (ArgumentKind::Summary, t) if is_binary(t) || t.is_null() => Some(DataType::LargeBinary),
        _ => None,
    };
    coerced.map_or_else(|| wrong_type(function, bound), Ok)
}

/// The type of a regressor: numbers are numbers, booleans and strings are labels.
pub(crate) fn coerce_regressor(found: &DataType) -> Option<DataType> {
    match unpacked(found) {
        DataType::Boolean => Some(DataType::Boolean),
        t if t.is_string() && is_label_dictionary(found) => Some(found.clone()),
        t if t.is_string() => Some(DataType::Utf8View),
        t if is_number(t) => Some(DataType::Float64),
        _ => None,
    }
}

/// The type of a stratum, or of one of the columns that strata are made of.
pub(crate) fn coerce_stratum(found: &DataType) -> Option<DataType> {
    match unpacked(found) {
        t if t.is_string() && is_label_dictionary(found) => Some(found.clone()),
        t => coerce_label(t, ArgumentKind::Stratum),
    }
}

/// Whether it is a dictionary of plain strings.
fn is_label_dictionary(t: &DataType) -> bool {
    matches!(t, DataType::Dictionary(_, values) if matches!(**values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
}

/// The type of the values of a dictionary.
fn unpacked(t: &DataType) -> &DataType {
    match t {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn wrong_type<T>(function: &Function, bound: &Bound) -> Result<T> {
    plan_err!(
        "{}: argument '{}' must be {}; found {}",
        function.name,
        bound.argument.name,
        expected(bound.argument.kind),
        bound.data_type
    )
}

/// What types alone could not tell: a struct that turned out not to be the options has columns of numbers.
pub(crate) fn check_columns(function: &Function, bound: &Bound) -> Result<()> {
    match &bound.data_type {
        DataType::Struct(fields)
            if bound.argument.kind == ArgumentKind::Columns && !fields.iter().all(is_metric) =>
        {
            wrong_type(function, bound)
        }
        _ => Ok(()),
    }
}

fn coerce_columns(found: &DataType, kind: ArgumentKind) -> Option<DataType> {
    let ratios = matches!(kind, ArgumentKind::Metrics | ArgumentKind::RatioCovariates);
    match found {
        t if is_number(t) => Some(DataType::Float64),
        DataType::Struct(fields)
            if fields.iter().all(|f| is_number(f.data_type()) || (ratios && is_metric(f))) =>
        {
            Some(found.clone())
        }
        // Options of a function with any number of columns: words are allowed in them.
        DataType::Struct(_) if kind == ArgumentKind::Columns => Some(found.clone()),
        _ if matches!(kind, ArgumentKind::Outcomes | ArgumentKind::Metrics) => None,
        t => coerce_list(t),
    }
}

fn coerce_list(found: &DataType) -> Option<DataType> {
    match found {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if is_number(item.data_type()) =>
        {
            Some(DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true))))
        }
        _ => None,
    }
}

fn coerce_label(found: &DataType, kind: ArgumentKind) -> Option<DataType> {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8View),
        t if t.is_integer() => Some(DataType::Int64),
        DataType::Boolean | DataType::Null if kind != ArgumentKind::Arm => Some(DataType::Utf8View),
        _ => None,
    }
}

fn coerce_key(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Boolean => Some(DataType::Int64),
        t if t.is_floating() => Some(DataType::Float64),
        t if t.is_decimal() || t.is_temporal() => Some(DataType::Utf8View),
        t => coerce_unit(t),
    }
}

fn coerce_unit(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8View),
        DataType::UInt64 => Some(DataType::UInt64),
        t if t.is_integer() || t.is_null() => Some(DataType::Int64),
        t if is_binary(t) => Some(DataType::BinaryView),
        DataType::FixedSizeBinary(_) => Some(DataType::BinaryView),
        _ => None,
    }
}

fn is_number(t: &DataType) -> bool {
    match t {
        DataType::Dictionary(_, values) => is_number(values),
        other => other.is_numeric() || matches!(other, DataType::Boolean | DataType::Null),
    }
}

/// Whether it is a number, or a ratio of two.
fn is_metric(field: &FieldRef) -> bool {
    match field.data_type() {
        DataType::Struct(parts) => {
            parts.len() == 2 && parts.iter().all(|part| is_number(part.data_type()))
        }
        other => is_number(other),
    }
}

fn is_binary(t: &DataType) -> bool {
    matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn expected(kind: ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::Outcome => "a number or a boolean",
        ArgumentKind::Values => "a number, a boolean, or an array of numbers",
        ArgumentKind::Outcomes => "a number or a struct of numbers, {name: value, ...}",
        ArgumentKind::Metrics => {
            "a number or a struct of numbers and of ratios, {name: value, name: {num: value, den: value}, ...}"
        }
        ArgumentKind::Covariates | ArgumentKind::Columns => {
            "a number, a struct of numbers, {name: value, ...}, or an array of numbers"
        }
        ArgumentKind::Arm => "a boolean (true is treatment), a string or an integer",
        ArgumentKind::Label => "a string, an integer or a boolean",
        ArgumentKind::Stratum => {
            "a string, an integer or a boolean, or a struct of them, {name: value, ...}"
        }
        ArgumentKind::Unit | ArgumentKind::OptionalUnit => "an integer, a string or binary",
        ArgumentKind::RatioCovariates => {
            "a number, a struct of numbers and of ratios, {name: value, name: {num: value, den: value}, ...}, or an array of numbers"
        }
        ArgumentKind::Integer | ArgumentKind::OptionalInteger => "an integer",
        ArgumentKind::Share => "a number from 0 to 1",
        ArgumentKind::CrossedUnit => {
            "an integer, a string or binary, or a struct of two of them, {user: u, title: t}"
        }
        ArgumentKind::Summary => "a summary (binary)",
        ArgumentKind::Regressors => {
            "a number, a boolean, a string, or a struct of them, {name: value, ...}"
        }
        ArgumentKind::OptionalWeight => "a number",
        ArgumentKind::Key | ArgumentKind::Keys => {
            "a number, a boolean, a string, binary, a date or a time"
        }
    }
}

/// The values of any binary array.
pub(crate) fn binary_values(array: &ArrayRef) -> Option<Vec<Option<&[u8]>>> {
    Some(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().collect(),
        DataType::BinaryView => array.as_binary_view().iter().collect(),
        DataType::Null => vec![None; array.len()],
        _ => return None,
    })
}

/// The columns of a batch: outcomes first, then covariates.
pub(crate) struct Values {
    names: Vec<String>,
    outcomes: usize,
    arrays: Vec<Float64Array>,
}

impl Values {
    /// Takes the arguments apart. Arrays must be there, and of one length, in the rows that `slots` does not leave out:
    /// their length is the number of columns.
    pub(crate) fn new(call: &Call, args: &[ArrayRef], slots: &[u32]) -> Result<Self> {
        let mut values = Self { names: Vec::new(), outcomes: 0, arrays: Vec::new() };
        for (bound, array) in call.arguments.iter().zip(args) {
            let outcome = match bound.argument.kind {
                ArgumentKind::Outcome
                | ArgumentKind::Values
                | ArgumentKind::Outcomes
                | ArgumentKind::Metrics => true,
                ArgumentKind::Covariates
                | ArgumentKind::RatioCovariates
                | ArgumentKind::Columns => false,
                _ => continue,
            };
            values.push(call, bound, array, outcome, slots)?;
        }
        if indicators_are_columns(call) {
            values.push_indicators();
        }
        Ok(values)
    }

    /// Adds for every covariate a column of where it is missing.
    fn push_indicators(&mut self) {
        for i in self.outcomes..self.names.len() {
            let array = &self.arrays[i];
            let missing = (0..array.len()).map(|r| f64::from(u8::from(array.is_null(r))));
            let column = Float64Array::from_iter_values(missing);
            self.names.push(format!("{}{INDICATOR}", self.names[i]));
            self.arrays.push(column);
        }
    }

    /// The names that the columns have by type alone; `None` while the length of an array is not known.
    pub(crate) fn columns_of_types(call: &Call) -> Result<Option<Columns>> {
        let lists = |t: &DataType| matches!(t, DataType::List(_));
        let of_rows = |bound: &Bound| bound.argument.kind == ArgumentKind::Values;
        if call.arguments.iter().any(|b| lists(&b.data_type) && !of_rows(b)) {
            return Ok(None);
        }
        let empty = call.arguments.iter().map(|b| new_null_array(&b.data_type, 0)).collect();
        let (empty, _) = each_value(call, empty, Vec::new(), |_| {})?;
        Self::new(call, &empty, &[])?.columns(call).map(Some)
    }

    /// Columns for a call without rows, whose arrays have no length: as if it were one.
    pub(crate) fn columns_without_rows(call: &Call) -> Result<Columns> {
        let outcomes = call.arguments.iter().filter(|b| b.argument.kind.is_outcome());
        let outcomes: Vec<String> = outcomes.map(|b| b.argument.name.to_owned()).collect();
        let count = outcomes.len();
        Columns::new(outcomes.into_iter().chain(["x1".to_owned()]), count)
            .map_err(|e| failed(call.function, e))
    }

    /// Checks that these are the columns of the batches before: arrays of another length are others.
    pub(crate) fn check_same(&self, call: &Call, columns: &Columns) -> Result<()> {
        if self.names == columns.names() && self.outcomes == columns.outcomes() {
            return Ok(());
        }
        exec_err!(
            "{}: the arrays of an argument must have one length; found the columns {columns} and {}",
            call.function.name,
            self.columns(call)?
        )
    }

    /// The columns by name.
    pub(crate) fn columns(&self, call: &Call) -> Result<Columns> {
        Columns::new(self.names.iter().cloned(), self.outcomes)
            .map_err(|e| failed(call.function, e))
    }

    fn push(
        &mut self,
        call: &Call,
        bound: &Bound,
        array: &ArrayRef,
        outcome: bool,
        slots: &[u32],
    ) -> Result<()> {
        match array.data_type() {
            DataType::Struct(fields) => {
                let parts = array.as_struct();
                for at in in_order(fields) {
                    let column = with_parent_nulls(parts, parts.column(at));
                    self.push_metric(fields[at].name(), &column, outcome)?;
                }
                Ok(())
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                let size = list_size(call, bound, lists, slots)?;
                let items = lists.values().as_primitive::<Float64Type>();
                for k in 0..size {
                    let column: Float64Array = (0..lists.len())
                        .map(|r| {
                            let at = (lists.value_offsets()[r] + k) as usize;
                            (slots[r] != LEFT_OUT && items.is_valid(at)).then(|| items.value(at))
                        })
                        .collect();
                    let name = self.next_name(outcome);
                    self.push_column(name, &(Arc::new(column) as ArrayRef), outcome)?;
                }
                Ok(())
            }
            _ => {
                let name = match bound.argument.kind {
                    kind if kind.is_outcome() => bound.argument.name.to_owned(),
                    _ => self.next_name(outcome),
                };
                self.push_column(name, array, outcome)
            }
        }
    }

    fn next_name(&self, outcome: bool) -> String {
        if outcome { "y".to_owned() } else { format!("x{}", self.names.len() - self.outcomes + 1) }
    }

    /// A column, or the two of a ratio.
    fn push_metric(&mut self, name: &str, array: &ArrayRef, outcome: bool) -> Result<()> {
        let DataType::Struct(fields) = array.data_type() else {
            return self.push_column(name.to_owned(), array, outcome);
        };
        let ratio = array.as_struct();
        for (part, at) in [NUMERATOR, DENOMINATOR].iter().zip(in_order(fields)) {
            let column = with_parent_nulls(ratio, ratio.column(at));
            self.push_column(format!("{name}{part}"), &column, outcome)?;
        }
        Ok(())
    }

    fn push_column(&mut self, name: String, array: &ArrayRef, outcome: bool) -> Result<()> {
        let array = match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().clone(),
            _ => cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone(),
        };
        self.names.push(name);
        self.arrays.push(array);
        self.outcomes += usize::from(outcome);
        Ok(())
    }
}

/// The fields of a struct as they stand, but a numerator and a denominator by name.
fn in_order(fields: &Fields) -> Vec<usize> {
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    if names == ["den", "num"] { vec![1, 0] } else { (0..names.len()).collect() }
}

/// Whether the indicators of missing covariates are columns like others: where summaries of units, or of distinct rows, are adjusted.
fn indicators_are_columns(call: &Call) -> bool {
    let has = call.function.options().any(|option| option.name == "missing");
    let units = call.arguments.iter().any(|bound| bound.argument.kind.is_unit());
    // Distinct rows have no place for what is missing.
    let distinct = call.options.word("vcov").is_some_and(|vcov| vcov.starts_with("HC"));
    has && (units || distinct) && call.options.missing() == Missing::Indicator
}

/// The length of the arrays of an argument in the rows that are not left out.
fn list_size(call: &Call, bound: &Bound, lists: &ListArray, slots: &[u32]) -> Result<i32> {
    let (function, argument) = (call.function.name, bound.argument.name);
    let mut size = None;
    for r in (0..lists.len()).filter(|&r| slots[r] != LEFT_OUT) {
        if lists.is_null(r) {
            return exec_err!(
                "{function}: the array '{argument}' is NULL in some rows; expected an array in every row, whose items may be NULL: coalesce({argument}, [NULL, ...])"
            );
        }
        let found = lists.value_length(r);
        let size = *size.get_or_insert(found);
        if found != size {
            return exec_err!(
                "{function}: the arrays of '{argument}' must have one length; found {size} and {found}"
            );
        }
    }
    Ok(size.unwrap_or(0))
}

/// The arguments and slots of a call with a row for each value of its array, where it has one of these; `dropped` is
/// called for the slot of an array that is NULL, which has none.
pub(crate) fn each_value(
    call: &Call,
    args: Vec<ArrayRef>,
    slots: Vec<u32>,
    mut dropped: impl FnMut(u32),
) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let is_array = |b: &Bound| {
        b.argument.kind == ArgumentKind::Values && matches!(b.data_type, DataType::List(_))
    };
    let Some(at) = call.arguments.iter().position(is_array) else { return Ok((args, slots)) };
    let lists = args[at].as_list::<i32>();
    let mut rows = Vec::with_capacity(lists.values().len());
    let mut items = Vec::with_capacity(lists.values().len());
    for (row, window) in lists.value_offsets().windows(2).enumerate() {
        if slots[row] == LEFT_OUT {
            continue;
        }
        if lists.is_null(row) {
            dropped(slots[row]);
            continue;
        }
        rows.extend(std::iter::repeat_n(row as u32, (window[1] - window[0]) as usize));
        items.extend(window[0] as u32..window[1] as u32);
    }
    let slots = rows.iter().map(|&row| slots[row as usize]).collect();
    let (rows, items) = (UInt32Array::from(rows), UInt32Array::from(items));
    let taken = args.iter().enumerate().map(|(i, array)| match i == at {
        true => Ok(take(lists.values(), &items, None)?),
        false => Ok(take(array, &rows, None)?),
    });
    Ok((taken.collect::<Result<_>>()?, slots))
}

/// The rows of a batch that are used, ready for a table of summaries.
pub(crate) struct Prepared {
    slots: Vec<u32>,
    columns: Vec<Column>,
    missing: Vec<Option<Vec<bool>>>,
    units: Vec<u128>,
    strata: LabelsOfRows,
}

pub(crate) enum Column {
    /// The values of an array without NULL, as they are.
    Shared(Float64Array),
    Owned(Vec<f64>),
}

impl Column {
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Self::Shared(array) => array.values(),
            Self::Owned(values) => values,
        }
    }
}

impl Prepared {
    /// Leaves out rows whose unit or outcome is NULL (and rows with a NULL covariate, if so asked), telling `dropped`
    /// the slot of each, and gathers the others.
    pub(crate) fn new(
        call: &Call,
        args: &[ArrayRef],
        values: Values,
        mut slots: Vec<u32>,
        mut dropped: impl FnMut(u32),
    ) -> Result<Self> {
        let unit = call.arguments.iter().position(|b| b.argument.kind.is_unit());
        // Buckets take missing covariates with columns of their own, or not at all.
        let indicator = match unit {
            Some(_) => indicators_are_columns(call),
            None => call.options.missing() == Missing::Indicator,
        };
        for (i, array) in values.arrays.iter().enumerate() {
            let covariate = i >= values.outcomes;
            if array.null_count() == 0 || (covariate && indicator) {
                continue;
            }
            if covariate && call.options.missing() == Missing::Error {
                let counted = (0..array.len()).find(|&r| slots[r] != LEFT_OUT && array.is_null(r));
                if counted.is_some() {
                    return exec_err!(
                        "{}: covariate '{}' is NULL in some rows; expected none under missing: 'error'",
                        call.function.name,
                        values.names[i]
                    );
                }
                continue;
            }
            leave_out(&mut slots, array.nulls(), &mut dropped);
        }
        let mut hashes = Vec::new();
        if let Some(unit) = unit {
            let factors = factors_of(&args[unit])?;
            for factor in &factors {
                leave_out(&mut slots, factor.logical_nulls().as_ref(), &mut dropped);
            }
            hashes = hash_units(&factors[0], &slots)?;
            if let Some(second) = factors.get(1) {
                let second = hash_units(second, &slots)?;
                hashes.iter_mut().zip(second).for_each(|(unit, b)| *unit = units::pair(*unit, b));
            }
        }
        let keep: Option<Vec<usize>> = slots
            .contains(&LEFT_OUT)
            .then(|| (0..slots.len()).filter(|&r| slots[r] != LEFT_OUT).collect());
        let mut columns = Vec::with_capacity(values.arrays.len());
        let mut missing = Vec::with_capacity(values.arrays.len());
        for array in values.arrays {
            let (column, mask) = gather(array, keep.as_deref());
            columns.push(column);
            missing.push(mask);
        }
        if let Some(keep) = &keep {
            slots = keep.iter().map(|&r| slots[r]).collect();
            if !hashes.is_empty() {
                hashes = keep.iter().map(|&r| hashes[r]).collect();
            }
        }
        let by = call.arguments.iter().position(|b| b.argument.kind == ArgumentKind::Stratum);
        let strata = match by {
            Some(at) => LabelsOfRows::new(&args[at], keep.as_deref())?,
            None => LabelsOfRows::default(),
        };
        Ok(Self { slots, columns, missing, units: hashes, strata })
    }

    /// Calls `f` with the rows.
    pub(crate) fn with_rows<T>(&self, f: impl FnOnce(Rows<'_>) -> T) -> T {
        let columns: Vec<&[f64]> = self.columns.iter().map(Column::values).collect();
        let missing: Vec<Option<&[bool]>> = self.missing.iter().map(Option::as_deref).collect();
        f(Rows {
            slots: &self.slots,
            columns: &columns,
            missing: &missing,
            units: &self.units,
            strata: Strata { labels: &self.strata.labels, of: &self.strata.of },
        })
    }
}

/// The rows that a filter leaves, as slots.
pub(crate) fn slots_of(groups: &[usize], filter: Option<&BooleanArray>) -> Vec<u32> {
    match filter {
        None => groups.iter().map(|&g| g as u32).collect(),
        Some(filter) => groups
            .iter()
            .enumerate()
            .map(|(r, &g)| if filter.is_valid(r) && filter.value(r) { g as u32 } else { LEFT_OUT })
            .collect(),
    }
}

pub(crate) fn leave_out(
    slots: &mut [u32],
    nulls: Option<&NullBuffer>,
    dropped: &mut impl FnMut(u32),
) {
    let Some(nulls) = nulls.filter(|n| n.null_count() > 0) else { return };
    for (r, slot) in slots.iter_mut().enumerate() {
        if nulls.is_null(r) && *slot != LEFT_OUT {
            dropped(*slot);
            *slot = LEFT_OUT;
        }
    }
}

/// The values of the kept rows with 0 where they are NULL, and where that is.
pub(crate) fn gather(array: Float64Array, keep: Option<&[usize]>) -> (Column, Option<Vec<bool>>) {
    let nulls = array.nulls().filter(|n| n.null_count() > 0);
    match (keep, nulls) {
        (None, None) => (Column::Shared(array), None),
        (Some(keep), None) => {
            let values = array.values();
            (Column::Owned(keep.iter().map(|&r| values[r]).collect()), None)
        }
        (keep, Some(nulls)) => {
            let all: Vec<usize>;
            let keep = match keep {
                Some(keep) => keep,
                None => {
                    all = (0..array.len()).collect();
                    &all
                }
            };
            let mask: Vec<bool> = keep.iter().map(|&r| nulls.is_null(r)).collect();
            let values = keep
                .iter()
                .zip(&mask)
                .map(|(&r, &null)| if null { 0.0 } else { array.value(r) })
                .collect();
            let mask = mask.contains(&true).then_some(mask);
            (Column::Owned(values), mask)
        }
    }
}

/// The factors that units are made of, of types that have a hash.
pub(crate) fn factors_of(array: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let DataType::Struct(_) = array.data_type() else { return Ok(vec![Arc::clone(array)]) };
    let parts = array.as_struct();
    parts
        .columns()
        .iter()
        .map(|column| {
            let column = with_parent_nulls(parts, column);
            match coerce_unit(unpacked(column.data_type())) {
                Some(t) => Ok(cast(&column, &t)?),
                None => internal_err!("units were not coerced: found {}", column.data_type()),
            }
        })
        .collect()
}

/// The hash of the unit of each row; 0 where the row is left out.
pub(crate) fn hash_units(array: &ArrayRef, slots: &[u32]) -> Result<Vec<u128>> {
    fn hash<T>(
        slots: &[u32],
        values: impl IntoIterator<Item = T>,
        f: impl Fn(T) -> u128,
    ) -> Vec<u128> {
        let rows = slots.iter().zip(values);
        rows.map(|(&slot, value)| if slot == LEFT_OUT { 0 } else { f(value) }).collect()
    }
    if array.len() != slots.len() {
        return internal_err!("expected units of {} rows, found {}", slots.len(), array.len());
    }
    let rows = 0..array.len();
    Ok(match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            hash(slots, values, |&value| units::integer(value.into()))
        }
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            hash(slots, values, |&value| units::integer(value.into()))
        }
        DataType::Utf8View => {
            let a = array.as_string_view();
            hash(slots, rows, |r| units::string(a.value(r)))
        }
        DataType::BinaryView => {
            let a = array.as_binary_view();
            hash(slots, rows, |r| units::binary(a.value(r)))
        }
        other => return internal_err!("units were not coerced: found {other}"),
    })
}

pub(crate) fn with_parent_nulls(parent: &StructArray, column: &ArrayRef) -> ArrayRef {
    match parent.nulls() {
        None => Arc::clone(column),
        Some(nulls) => {
            let union = NullBuffer::union(Some(nulls), column.logical_nulls().as_ref());
            let data = column.to_data().into_builder().nulls(union);
            match data.build() {
                Ok(data) => arrow::array::make_array(data),
                Err(_) => Arc::clone(column),
            }
        }
    }
}

/// An error of the mathematics as one of the query.
pub(crate) fn failed(
    function: &Function,
    error: gosset_stats::Error,
) -> datafusion::error::DataFusionError {
    datafusion::common::exec_datafusion_err!("{}: {error}", function.name)
}

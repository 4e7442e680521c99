//! Options: one trailing struct literal, parsed by one function while SQL is planned and again where states are made.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use gosset_stats::summary::gram::DEFAULT_MAX_ROWS;
use gosset_stats::summary::{Law, Resampling};
use gosset_stats::{Alternative, Inference, Relative};

use crate::function::{ArgumentKind, Function, Section};

/// An option of a function.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub values: OptionValues,
    /// Its default, as written; empty where it has none.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// What an option takes.
#[derive(Debug, Clone, Copy)]
pub enum OptionValues {
    /// A number strictly between two bounds.
    Between(f64, f64),
    /// A number between two bounds, inclusive.
    Within(f64, f64),
    /// Zero, or a number between two bounds, inclusive.
    ZeroOrBetween(f64, f64),
    /// An integer between two bounds, inclusive.
    Integer(i128, i128),
    /// A power of two between two bounds, inclusive.
    PowerOfTwo(u32, u32),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The name of an arm: a string, or an integer or boolean written as in the column.
    Arm,
    /// A struct of positive numbers, `{a: 1, b: 1}`.
    Weights,
    /// True or false.
    Flag,
    /// A name: a string.
    Name,
    /// A list of names.
    Names,
    /// A struct of strings, `{arm: 'control'}`.
    Labels,
    /// A struct of numbers, `{a: 1, b: -1}`.
    Coefficients,
    /// So many evenly spaced quantiles, or a list of them.
    Grid(u16),
}

impl OptionValues {
    /// What is allowed, for messages and the documentation.
    pub fn allowed(&self) -> String {
        match self {
            Self::Between(low, high) => format!("a number between {low} and {high}, exclusive"),
            Self::Within(low, high) => format!("a number from {low} to {high}"),
            Self::ZeroOrBetween(low, high) => format!("0, or a number from {low} to {high}"),
            Self::Integer(low, high) if *high > i128::from(u32::MAX) => {
                format!("an integer of at least {low}")
            }
            Self::Integer(low, high) => format!("an integer from {low} to {high}"),
            Self::PowerOfTwo(low, high) => format!("a power of two from {low} to {high}"),
            Self::OneOf(words) => {
                words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" | ")
            }
            Self::Arm => "the name of an arm".into(),
            Self::Weights => "a struct of positive numbers, one for each arm".into(),
            Self::Flag => "true or false".into(),
            Self::Name => "a name, a string".into(),
            Self::Names => "a list of strings".into(),
            Self::Labels => "a struct of strings".into(),
            Self::Coefficients => "a struct of finite numbers".into(),
            Self::Grid(most) => format!(
                "an integer from 1 to {most}, or a list of as many different numbers from 0 to 1"
            ),
        }
    }
}

/// The options of every inference.
pub(crate) const INFERENCE: &[OptionSpec] = &[
    OptionSpec {
        name: "confidence",
        values: OptionValues::Between(0.0, 1.0),
        default: "0.95",
        doc: "confidence level of the intervals",
    },
    OptionSpec {
        name: "alternative",
        values: OptionValues::OneOf(&["two-sided", "greater", "less"]),
        default: "'two-sided'",
        doc: "the alternative hypothesis; one-sided intervals are open at the other end",
    },
    OptionSpec {
        name: "relative",
        values: OptionValues::OneOf(&["fieller", "log", "delta"]),
        default: "'fieller'",
        doc: "how the interval of the relative effect is made",
    },
];

/// The confidence level alone.
pub(crate) const CONFIDENCE: &[OptionSpec] = &[INFERENCE[0]];

/// The options that name the arms of an arm column.
pub(crate) const ARMS: &[OptionSpec] = &[
    OptionSpec {
        name: "treatment",
        values: OptionValues::Arm,
        default: "",
        doc: "the treatment arm, where `arm` is the arm column itself",
    },
    OptionSpec {
        name: "control",
        values: OptionValues::Arm,
        default: "",
        doc: "the control arm, where `arm` is the arm column itself",
    },
];

/// What happens to rows with a missing covariate.
pub(crate) const MISSING: &[OptionSpec] = &[OptionSpec {
    name: "missing",
    values: OptionValues::OneOf(&["indicator", "drop", "error"]),
    default: "'indicator'",
    doc: "a NULL covariate: an indicator is added as a further covariate and nobody is left out, the row is left out and counted, or the query fails",
}];

/// How many buckets units are hashed into.
pub(crate) const BUCKETS: &[OptionSpec] = &[OptionSpec {
    name: "buckets",
    values: OptionValues::PowerOfTwo(64, 65536),
    default: "4096",
    doc: "number of buckets that units are hashed into; up to a quarter as many units are kept one by one",
}];

/// What to do with a NULL covariate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Indicator,
    Drop,
    Error,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Integer(i128),
    Word(&'static str),
    Text(String),
    Weights(BTreeMap<String, f64>),
    Flag(bool),
    Names(Vec<String>),
    Labels(BTreeMap<String, String>),
    Numbers(Vec<f64>),
}

/// The parsed options of one call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Options(BTreeMap<&'static str, Value>);

/// The law of weights that a method draws, if it draws them for units.
pub(crate) fn law_of(method: &str) -> Option<Law> {
    Law::ALL.into_iter().find(|law| law.name() == method)
}

impl Options {
    /// Parses the fields of the options literal.
    pub(crate) fn parse(
        function: &Function,
        fields: impl IntoIterator<Item = (String, ScalarValue)>,
    ) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in fields {
            let Some(spec) = function.options().find(|spec| spec.name == name) else {
                let known: Vec<_> = function.options().map(|spec| spec.name).collect();
                return plan_err!(
                    "{}: unknown option '{name}'; expected {}",
                    function.name,
                    if known.is_empty() { "no options".to_owned() } else { known.join(", ") }
                );
            };
            let Some(parsed) = parse_value(&spec.values, &value) else {
                return plan_err!(
                    "{}: option '{name}' must be {}; found {}",
                    function.name,
                    spec.values.allowed(),
                    shown(&value)
                );
            };
            if options.0.insert(spec.name, parsed).is_some() {
                return plan_err!("{}: option '{name}' is given twice", function.name);
            }
        }
        let arms = function.options().any(|option| option.name == "control");
        match (options.text("treatment"), options.text("control")) {
            (Some(t), Some(c)) if t == c => {
                plan_err!("{}: treatment and control are both '{t}'", function.name)
            }
            (Some(_), None) | (None, Some(_)) if arms => plan_err!(
                "{}: the arms are named by both: {{treatment: '...', control: '...'}}",
                function.name
            ),
            _ => Ok(options),
        }
    }

    /// Takes the value of an argument that is a constant between 0 and 1.
    pub(crate) fn set_share(
        &mut self,
        function: &Function,
        name: &'static str,
        value: Option<ScalarValue>,
    ) -> Result<()> {
        let Some(value) = value else {
            return plan_err!("{}: argument '{name}' must be a literal number", function.name);
        };
        match number(&value).filter(|x| (0.0..=1.0).contains(x)) {
            Some(x) => {
                self.0.insert(name, Value::Number(x));
                Ok(())
            }
            None => plan_err!(
                "{}: argument '{name}' must be a number from 0 to 1; found {}",
                function.name,
                shown(&value)
            ),
        }
    }

    /// Parses a struct scalar, the options as they reach the physical plan.
    pub(crate) fn from_scalar(function: &Function, scalar: &ScalarValue) -> Result<Self> {
        Self::parse(function, struct_fields(scalar).unwrap_or_default())
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Value::Number(x)) => Some(*x),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i128> {
        match self.0.get(name) {
            Some(Value::Integer(x)) => Some(*x),
            _ => None,
        }
    }

    pub(crate) fn word(&self, name: &str) -> Option<&'static str> {
        match self.0.get(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn weights(&self, name: &str) -> Option<&BTreeMap<String, f64>> {
        match self.0.get(name) {
            Some(Value::Weights(weights)) => Some(weights),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn names(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Value::Names(names)) => names,
            _ => &[],
        }
    }

    pub(crate) fn numbers(&self, name: &str) -> Option<&[f64]> {
        match self.0.get(name) {
            Some(Value::Numbers(numbers)) => Some(numbers),
            _ => None,
        }
    }

    pub(crate) fn labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        match self.0.get(name) {
            Some(Value::Labels(labels)) => Some(labels),
            _ => None,
        }
    }

    pub(crate) fn max_rows(&self) -> u32 {
        self.integer("max_rows").map_or(DEFAULT_MAX_ROWS, |n| n as u32)
    }

    pub(crate) fn inference(&self) -> Inference {
        let default = Inference::default();
        Inference {
            confidence: self.number("confidence").unwrap_or(default.confidence),
            alternative: match self.word("alternative") {
                Some("greater") => Alternative::Greater,
                Some("less") => Alternative::Less,
                _ => Alternative::TwoSided,
            },
            relative: match self.word("relative") {
                Some("log") => Relative::Log,
                Some("delta") => Relative::Delta,
                _ => Relative::Fieller,
            },
        }
    }

    pub(crate) fn missing(&self) -> Missing {
        match self.word("missing") {
            Some("drop") => Missing::Drop,
            Some("error") => Missing::Error,
            _ => Missing::Indicator,
        }
    }

    /// The law of weights that the option `method` names, if it does.
    pub(crate) fn law(&self) -> Option<Law> {
        self.word("method").and_then(law_of)
    }

    /// The method that is asked for, or the function's default; none of a function that has only one.
    pub(crate) fn method(&self, function: &'static Function) -> Option<&str> {
        let option = function.options().find(|option| option.name == "method")?;
        Some(self.word("method").unwrap_or(option.default.trim_matches('\'')))
    }

    pub(crate) fn replicates(&self) -> u32 {
        self.integer("replicates").map_or(Resampling::default().replicates, |b| b as u32)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.integer("seed").map_or(Resampling::default().seed, |seed| seed as u64)
    }

    /// Whether buckets of units are kept beside their weights: for an adjustment, for the jackknife of bca, and in a stored
    /// summary that is asked to.
    pub(crate) fn keeps_buckets(&self, function: &Function) -> bool {
        let adjusts = function.arguments.iter().any(|a| a.kind == ArgumentKind::Covariates);
        let is_asked = function.section == Section::Summaries && self.integer("buckets").is_some();
        adjusts || self.word("interval") == Some("bca") || is_asked
    }

    pub(crate) fn buckets(&self) -> u32 {
        self.integer("buckets")
            .map_or(gosset_stats::summary::buckets::DEFAULT_BUCKETS, |k| k as u32)
    }
}

fn parse_value(values: &OptionValues, scalar: &ScalarValue) -> Option<Value> {
    match values {
        OptionValues::Between(low, high) => {
            let x = number(scalar)?;
            (x > *low && x < *high).then_some(Value::Number(x))
        }
        OptionValues::Within(low, high) => {
            let x = number(scalar)?;
            (x >= *low && x <= *high).then_some(Value::Number(x))
        }
        OptionValues::ZeroOrBetween(low, high) => {
            let x = number(scalar)?;
            (x == 0.0 || (x >= *low && x <= *high)).then_some(Value::Number(x))
        }
        OptionValues::Integer(low, high) => {
            let x = integer(scalar)?;
            (x >= *low && x <= *high).then_some(Value::Integer(x))
        }
        OptionValues::PowerOfTwo(low, high) => {
            let x = u32::try_from(integer(scalar)?).ok()?;
            let fits = x.is_power_of_two() && (*low..=*high).contains(&x);
            fits.then_some(Value::Integer(x.into()))
        }
        OptionValues::OneOf(words) => {
            let text = text(scalar)?;
            words.iter().find(|word| **word == text).map(|word| Value::Word(word))
        }
        OptionValues::Arm => {
            let name =
                text(scalar).or_else(|| integer(scalar).map(|i| i.to_string())).or_else(|| {
                    match scalar {
                        ScalarValue::Boolean(Some(b)) => Some(b.to_string()),
                        _ => None,
                    }
                })?;
            Some(Value::Text(name))
        }
        OptionValues::Weights => {
            let mut weights = BTreeMap::new();
            for (arm, value) in struct_fields(scalar)? {
                let weight = number(&value).filter(|w| *w > 0.0 && w.is_finite())?;
                weights.insert(arm, weight);
            }
            Some(Value::Weights(weights))
        }
        OptionValues::Flag => match scalar {
            ScalarValue::Boolean(Some(flag)) => Some(Value::Flag(*flag)),
            _ => None,
        },
        OptionValues::Name => text(scalar).map(Value::Text),
        OptionValues::Names => {
            let ScalarValue::List(lists) = scalar else { return None };
            let items = lists.value(0);
            if !items.is_empty() && !items.data_type().is_string() {
                return None;
            }
            let items = cast(&items, &DataType::Utf8View).ok()?;
            let items = items.as_string_view();
            let whole = items.null_count() == 0 && (0..lists.len()).all(|i| lists.is_valid(i));
            whole.then(|| Value::Names(items.iter().flatten().map(str::to_owned).collect()))
        }
        OptionValues::Labels => {
            let fields = struct_fields(scalar)?;
            let labels = fields.into_iter().map(|(name, value)| Some((name, text(&value)?)));
            Some(Value::Labels(labels.collect::<Option<_>>()?))
        }
        OptionValues::Coefficients => {
            let fields = struct_fields(scalar)?;
            let weight = |value: &ScalarValue| number(value).filter(|w| w.is_finite());
            let weights = fields.into_iter().map(|(name, value)| Some((name, weight(&value)?)));
            Some(Value::Weights(weights.collect::<Option<_>>()?))
        }
        OptionValues::Grid(most) => {
            let mut quantiles = match scalar {
                ScalarValue::List(_) => list_of_numbers(scalar)?,
                _ => evenly_spaced(u16::try_from(integer(scalar)?).ok()?),
            };
            quantiles.sort_by(f64::total_cmp);
            let are_different = quantiles.windows(2).all(|pair| pair[0] < pair[1]);
            let are_quantiles = quantiles.iter().all(|q| (0.0..=1.0).contains(q));
            let fits = (1..=usize::from(*most)).contains(&quantiles.len());
            (fits && are_different && are_quantiles).then_some(Value::Numbers(quantiles))
        }
    }
}

/// The quantiles that divide a distribution into equal shares.
pub(crate) fn evenly_spaced(quantiles: u16) -> Vec<f64> {
    (1..=quantiles).map(|k| f64::from(k) / (f64::from(quantiles) + 1.0)).collect()
}

fn list_of_numbers(scalar: &ScalarValue) -> Option<Vec<f64>> {
    let ScalarValue::List(lists) = scalar else { return None };
    let items = lists.is_valid(0).then(|| lists.value(0))?;
    let items = items.data_type().is_numeric().then(|| cast(&items, &DataType::Float64).ok())??;
    let items: &Float64Array = items.as_primitive();
    (items.null_count() == 0).then(|| items.values().to_vec())
}

fn number(scalar: &ScalarValue) -> Option<f64> {
    match scalar.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(x))) if scalar.data_type().is_numeric() => Some(x),
        _ => None,
    }
}

fn integer(scalar: &ScalarValue) -> Option<i128> {
    match scalar {
        ScalarValue::UInt64(Some(x)) => Some(i128::from(*x)),
        other if other.data_type().is_integer() => match other.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(x))) => Some(i128::from(x)),
            _ => None,
        },
        _ => None,
    }
}

fn text(scalar: &ScalarValue) -> Option<String> {
    scalar.try_as_str().flatten().map(str::to_owned)
}

/// The fields of a struct scalar.
fn struct_fields(scalar: &ScalarValue) -> Option<Vec<(String, ScalarValue)>> {
    let array = match scalar {
        ScalarValue::Struct(array) => array,
        ScalarValue::Dictionary(_, packed) => return struct_fields(packed),
        _ => return None,
    };
    if array.is_empty() {
        return None;
    }
    array
        .fields()
        .iter()
        .zip(array.columns())
        .map(|(field, column)| {
            Some((field.name().clone(), ScalarValue::try_from_array(column, 0).ok()?))
        })
        .collect()
}

fn shown(scalar: &ScalarValue) -> String {
    match (text(scalar), scalar) {
        (Some(text), _) => format!("'{text}'"),
        // With its point, which makes 64.0 no integer.
        (None, ScalarValue::Float64(Some(x))) => format!("{x:?}"),
        (None, other) => other.to_string(),
    }
}

//! What a function is: one entry of the registry.

use std::hash::{Hash, Hasher};

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::aggregate::States;
use crate::call::Call;
use crate::options::OptionSpec;

/// A function of the registry.
#[derive(Debug)]
pub struct Function {
    /// Its name in SQL.
    pub name: &'static str,
    /// Where it stands in the reference.
    pub section: Section,
    /// One sentence: what it gives.
    pub summary: &'static str,
    /// What it estimates, formula, assumptions, NULL and NaN, small samples, in Markdown.
    pub description: &'static str,
    /// What it returns.
    pub returns: &'static str,
    /// Its arguments, without the options.
    pub arguments: &'static [Argument],
    /// Its options: fields of one trailing struct literal.
    pub options: &'static [&'static [OptionSpec]],
    /// A query that runs.
    pub example: Example,
    /// Publications.
    pub references: &'static [&'static str],
    /// Raised when the numbers of the function change: that is what makes published results stale.
    pub value_version: u32,
    pub(crate) implementation: Implementation,
}

/// A query with what it prints.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The query.
    pub sql: &'static str,
}

/// The sections of the reference, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Two arms in one call.
    TwoArms,
    /// Linear models.
    LinearModels,
    /// Checks of an experiment.
    Checks,
    /// Summaries and what is done with them.
    Summaries,
    /// Comparisons of two stored summaries.
    Comparisons,
    /// Rows to units.
    Units,
}

impl Section {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::TwoArms => "Two arms in one call",
            Self::LinearModels => "Linear models",
            Self::Checks => "Checks",
            Self::Summaries => "Summaries",
            Self::Comparisons => "Comparisons of summaries",
            Self::Units => "Rows to units",
        }
    }
}

/// One argument.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name in the documentation and in messages.
    pub name: &'static str,
    /// What it takes.
    pub kind: ArgumentKind,
    /// What it means.
    pub doc: &'static str,
}

/// What an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    /// An outcome: a number or a boolean.
    Outcome,
    /// An outcome, or an array of outcomes, each of which is a row.
    Values,
    /// One number, a struct of numbers whose names are kept, or an array of numbers.
    Covariates,
    /// As [`Covariates`](Self::Covariates), of which some may be ratios: structs of numerator and denominator.
    RatioCovariates,
    /// Outcome or outcomes of a summary: a number, or a struct of numbers whose names are kept.
    Outcomes,
    /// As [`Outcomes`](Self::Outcomes), of which some may be ratios: structs of numerator and denominator.
    Metrics,
    /// Any number of further columns: numbers, structs or arrays. Only as the last argument.
    Columns,
    /// A boolean (true is treatment), or the arm itself: a string or an integer.
    Arm,
    /// The arm itself, of any number of arms.
    Label,
    /// What rows are stratified by: a string, an integer or a boolean, or a struct of them.
    Stratum,
    /// The unit: an integer, a string or binary.
    Unit,
    /// The unit, or a struct of two of them: crossed factors.
    CrossedUnit,
    /// The unit, which may be left out: only as the last argument.
    OptionalUnit,
    /// A number between 0 and 1 that the query says: a constant.
    Share,
    /// A whole number.
    Integer,
    /// A whole number, which may be left out: only as the last argument.
    OptionalInteger,
    /// A stored summary: binary.
    Summary,
    /// A number, a boolean, a string, binary, a date or a time.
    Key,
    /// Any number of further values as [`Key`](Self::Key). Only as the last argument.
    Keys,
    /// What an outcome is regressed on: a number, a boolean or a string, or a struct of them whose names are kept.
    Regressors,
    /// The weight of each row, which may be left out: only as the last argument.
    OptionalWeight,
}

impl ArgumentKind {
    /// Whether it is one column of outcomes.
    pub(crate) fn is_outcome(self) -> bool {
        matches!(self, Self::Outcome | Self::Values)
    }

    /// Whether it is columns of values, of which sums are kept.
    pub(crate) fn is_summed(self) -> bool {
        self.is_outcome()
            || matches!(
                self,
                Self::Outcomes | Self::Metrics | Self::Covariates | Self::RatioCovariates
            )
    }

    /// Whether it is the unit of each row.
    pub(crate) fn is_unit(self) -> bool {
        matches!(self, Self::Unit | Self::CrossedUnit | Self::OptionalUnit)
    }

    /// Whether it may be left out or repeated.
    fn is_repeated(self) -> bool {
        matches!(self, Self::Columns | Self::Keys)
    }

    /// Whether it may be left out.
    fn is_optional(self) -> bool {
        matches!(self, Self::OptionalUnit | Self::OptionalInteger | Self::OptionalWeight)
    }
}

/// How a function is computed.
#[derive(Debug)]
pub(crate) enum Implementation {
    Aggregate(AggregateParts),
    Scalar(ScalarParts),
}

/// An aggregate: what it keeps and what it returns.
#[derive(Debug)]
pub(crate) struct AggregateParts {
    pub(crate) states: fn(&Call) -> Result<Box<dyn States>>,
    pub(crate) returns: fn() -> DataType,
}

/// A scalar function of summaries.
#[derive(Debug)]
pub(crate) struct ScalarParts {
    pub(crate) invoke: fn(&Call, &[ColumnarValue], usize) -> Result<ColumnarValue>,
    pub(crate) returns: fn() -> DataType,
}

impl Function {
    /// All options, common ones first.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.options.iter().copied().flatten()
    }

    /// How the function is written, for the documentation and for messages.
    pub fn syntax(&self) -> String {
        let mut text = format!("{}(", self.name);
        for (i, argument) in self.arguments.iter().enumerate() {
            let columns = argument.kind.is_repeated();
            let optional = columns || argument.kind.is_optional();
            text += if optional { "[" } else { "" };
            text += if i > 0 { ", " } else { "" };
            text += argument.name;
            text += if columns { ", ...]" } else { "" };
            text += if optional && !columns { "]" } else { "" };
        }
        if self.options().next().is_some() {
            text += "[, {option: value, ...}]";
        }
        text + ")"
    }

    /// Whether the last argument may be left out.
    pub(crate) fn is_last_optional(&self) -> bool {
        self.arguments.last().is_some_and(|a| a.kind.is_optional())
    }

    /// Whether the last argument may be repeated or left out.
    pub(crate) fn is_variadic(&self) -> bool {
        self.arguments.last().is_some_and(|a| a.kind.is_repeated())
    }
}

/// Functions are told apart by their names, which are unique.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

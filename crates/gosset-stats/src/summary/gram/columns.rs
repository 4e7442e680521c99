//! The columns of a regression.

use std::fmt;
use std::sync::Arc;

use crate::summary::{Reader, Writer};
use crate::{Error, Result};

/// What a regressor takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegressorKind {
    /// Numbers.
    Number,
    /// Labels: a categorical regressor.
    Factor,
}

/// A column that outcomes are regressed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regressor {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: RegressorKind,
}

/// Outcomes and regressors by name, whether rows have weights, and by how many factors they are clustered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GramColumns {
    outcomes: Arc<[String]>,
    regressors: Arc<[Regressor]>,
    weighted: bool,
    clusters: u8,
}

/// Of names, and of factors of clusters.
const MAX_NAMES: usize = 255;

impl GramColumns {
    /// Columns in the order in which they are to stand.
    ///
    /// # Errors
    /// [`Error::Invalid`] without an outcome, with a name twice, with more than 255 columns or more than two factors of
    /// clusters.
    pub fn new(
        outcomes: impl IntoIterator<Item = String>,
        regressors: impl IntoIterator<Item = Regressor>,
        weighted: bool,
        clusters: u8,
    ) -> Result<Self> {
        let outcomes: Arc<[String]> = outcomes.into_iter().collect();
        let regressors: Arc<[Regressor]> = regressors.into_iter().collect();
        let invalid = |what: String| Err(Error::Invalid(what));
        if outcomes.is_empty() {
            return invalid("expected at least one outcome column".into());
        }
        let names: Vec<&String> =
            outcomes.iter().chain(regressors.iter().map(|regressor| &regressor.name)).collect();
        if names.len() > MAX_NAMES {
            return invalid(format!("expected at most {MAX_NAMES} columns, found {}", names.len()));
        }
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                return invalid(format!(
                    "the column name '{name}' is given twice; outcomes and regressors have names of their own"
                ));
            }
        }
        if clusters > 2 {
            return invalid(format!("expected at most two factors of clusters, found {clusters}"));
        }
        Ok(Self { outcomes, regressors, weighted, clusters })
    }

    /// The names of the outcomes.
    pub fn outcomes(&self) -> &[String] {
        &self.outcomes
    }

    /// The regressors.
    pub fn regressors(&self) -> &[Regressor] {
        &self.regressors
    }

    /// Whether rows have weights.
    pub fn weighted(&self) -> bool {
        self.weighted
    }

    /// By how many factors rows are clustered.
    pub fn clusters(&self) -> usize {
        self.clusters.into()
    }

    /// Number of regressors that are factors.
    pub fn factors(&self) -> usize {
        self.of_kind(RegressorKind::Factor).count()
    }

    /// The regressors of a kind.
    pub(crate) fn of_kind(&self, kind: RegressorKind) -> impl Iterator<Item = &Regressor> {
        self.regressors.iter().filter(move |regressor| regressor.kind == kind)
    }

    /// Number of columns that tell distinct rows apart beside the factors: the root of the weight, and numbers.
    pub(super) fn values(&self) -> usize {
        usize::from(self.weighted) + self.of_kind(RegressorKind::Number).count()
    }

    /// Number of columns whose moments are kept: those of [`values`](Self::values), then outcomes.
    pub(crate) fn width(&self) -> usize {
        self.values() + self.outcomes.len()
    }

    pub(super) fn check_same(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "summaries of different columns do not merge: expected {self}, found {other}"
        )))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.outcomes.len() as u8);
        self.outcomes.iter().for_each(|name| out.text(name));
        out.u8(self.regressors.len() as u8);
        for regressor in self.regressors.iter() {
            out.text(&regressor.name);
            out.u8((regressor.kind == RegressorKind::Factor).into());
        }
        out.u8(self.weighted.into());
        out.u8(self.clusters);
    }

    pub(super) fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let outcomes = (0..bytes.u8()?).map(|_| bytes.text()).collect::<Result<Vec<_>>>()?;
        let regressors = (0..bytes.u8()?)
            .map(|_| {
                let name = bytes.text()?;
                let factor = bytes.flag()?;
                let kind = if factor { RegressorKind::Factor } else { RegressorKind::Number };
                Ok(Regressor { name, kind })
            })
            .collect::<Result<Vec<_>>>()?;
        let (weighted, clusters) = (bytes.flag()?, bytes.u8()?);
        Self::new(outcomes, regressors, weighted, clusters)
            .map_err(|e| Error::Damaged(e.to_string()))
    }
}

impl fmt::Display for GramColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.outcomes.join(", "))?;
        for (i, Regressor { name, kind }) in self.regressors.iter().enumerate() {
            let before = if i == 0 { "; " } else { ", " };
            let kind = if *kind == RegressorKind::Factor { " as labels" } else { "" };
            write!(f, "{before}{name}{kind}")?;
        }
        f.write_str(if self.weighted { "; weighted" } else { "" })?;
        match self.clusters {
            0 => f.write_str(")"),
            1 => f.write_str("; clustered)"),
            _ => f.write_str("; clustered by two factors)"),
        }
    }
}

//! Combinations of coefficients.

use std::collections::BTreeMap;

use super::design::{Active, Place, find, listed, references};
use super::fit::{Fit, Moments, Outcome};
use super::{Estimate, LinearOptions, Model};
use crate::double_double::Dd;
use crate::summary::Gram;
use crate::{Error, Result};

/// A combination of coefficients.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// Its estimate.
    pub estimate: Estimate,
    /// Rows.
    pub n: u64,
    /// The confidence level of the interval.
    pub confidence: f64,
    /// What was done.
    pub method: String,
    /// Why a field is missing, and what was left out or fell back.
    pub note: Option<String>,
}

/// Estimates `Σ w_j β_j`, with the names of the coefficients and their weights.
///
/// It is nothing where no coefficient has a name that is given (no row may have the level that it is of), or where the
/// column of one depends on others and was left out.
///
/// # Errors
/// As [`ols`](super::ols), and [`Error::Invalid`] for no names.
pub fn contrast(
    gram: &Gram,
    options: &LinearOptions,
    weights: &BTreeMap<String, f64>,
) -> Result<Contrast> {
    let mut model = Model::new(gram, options)?;
    let names = match &model.outcome {
        Outcome::Fitted(fit) => &fit.design.names,
        Outcome::Undefined(names, _) | Outcome::NotFinite(names) => names,
    };
    if weights.is_empty() {
        return Err(Error::Invalid("expected a contrast of at least one coefficient".into()));
    }
    let column = |(name, &weight): (&String, &f64)| {
        let column = names.iter().position(|column| column == name);
        let column = column.map(|column| (column, Dd::from(weight)));
        column.ok_or_else(|| {
            format!("no coefficient has the name '{name}'; coefficients: {}", listed(names))
        })
    };
    let columns = weights.iter().map(column).collect::<std::result::Result<Vec<_>, _>>();
    let estimate = match model.outcome {
        // Nothing is known of coefficients there.
        Outcome::Undefined(..) => Ok(Estimate::default()),
        _ => columns.and_then(|columns| model.combination(&columns)),
    };
    let remark = estimate.as_ref().err().cloned();
    model.remarks.extend(remark);
    let estimate = estimate.unwrap_or_default();
    Ok(Contrast {
        estimate,
        n: gram.n(),
        confidence: options.confidence,
        method: model.method(),
        note: model.note([&estimate].into_iter()),
    })
}

/// The effect of a treatment in a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct ConditionalEffect {
    /// The segment; `None` for all rows.
    pub segment: Option<String>,
    /// The level of the treatment that is compared with its reference; `None` where it is a number.
    pub level: Option<String>,
    /// Rows of the segment.
    pub n: u64,
    /// The effect.
    pub estimate: Estimate,
    /// The confidence level of the interval.
    pub confidence: f64,
    /// What was done.
    pub method: String,
    /// Why a field is missing, and what was left out or fell back.
    pub note: Option<String>,
}

/// The average effect of a treatment over the rows of each segment: what the model says of the rows with each level of
/// the treatment, minus what it says of the same rows with its reference level, or per unit of a treatment that is a number.
///
/// With `δ` the mean difference of the rows of the design, the effect is `δ'β` and its variance `δ'Vδ`, for given `δ`.
/// The interaction of treatment and segment is added to those of the options.
///
/// Reference: Wong, J. (2024). Delta vectors, arXiv:2412.08788.
///
/// # Errors
/// As [`ols`](super::ols), and [`Error::Invalid`] for a segment that is no factor, or is the treatment.
pub fn conditional_effects(
    gram: &Gram,
    options: &LinearOptions,
    treatment: &str,
    segment: Option<&str>,
) -> Result<Vec<ConditionalEffect>> {
    let place = find(gram.columns(), treatment)?;
    let mut options = options.clone();
    let segment = match segment {
        None => None,
        Some(name) if name == treatment => {
            return Err(Error::Invalid(format!(
                "expected a segment that is not the treatment, found '{name}' for both"
            )));
        }
        Some(name) => match find(gram.columns(), name)? {
            Place::Number(_) => {
                return Err(Error::Invalid(format!(
                    "expected a segment of labels, found '{name}', which is a number"
                )));
            }
            Place::Factor(factor) => {
                let [one, other] = [format!("{treatment}:{name}"), format!("{name}:{treatment}")];
                if !options.interactions.contains(&one) && !options.interactions.contains(&other) {
                    options.interactions.push(one);
                }
                Some(factor)
            }
        },
    };
    let model = Model::new(gram, &options)?;
    let (levels, reference) = match place {
        Place::Number(_) => (vec![None], 0),
        Place::Factor(factor) => {
            let reference = references(gram, &options)?[factor];
            let levels = 0..gram.labels()[factor].len();
            (levels.filter(|&level| level != reference).map(Some).collect(), reference)
        }
    };
    let segments: Vec<Option<usize>> = match segment {
        None => vec![None],
        Some(factor) => (0..gram.labels()[factor].len()).map(Some).collect(),
    };
    let mut effects = Vec::new();
    for &in_segment in &segments {
        for &level in &levels {
            let within = segment.zip(in_segment);
            let (n, found) = match &model.outcome {
                Outcome::Fitted(fit) => {
                    let change = Change { place, level, reference };
                    let (n, delta) = fit.delta(within, change);
                    (n, model.combination(&delta))
                }
                _ => (0, model.combination(&[])),
            };
            let estimate = *found.as_ref().unwrap_or(&Estimate::default());
            let note = model.note([&estimate].into_iter());
            let label = |factor: usize, level: usize| gram.labels()[factor][level].clone();
            effects.push(ConditionalEffect {
                segment: within.map(|(factor, level)| label(factor, level)),
                level: match (place, level) {
                    (Place::Factor(factor), Some(level)) => Some(label(factor, level)),
                    _ => None,
                },
                n,
                estimate,
                confidence: options.confidence,
                method: model.method(),
                note: note.into_iter().chain(found.err()).reduce(|all, more| all + "; " + &more),
            });
        }
    }
    Ok(effects)
}

/// How a row is changed: its treatment to a level and to the reference.
#[derive(Debug, Clone, Copy)]
struct Change {
    place: Place,
    level: Option<usize>,
    reference: usize,
}

impl Fit<'_> {
    /// The number of rows where a factor has a level, and the mean difference of the columns there when rows are changed,
    /// weighted by the weights of rows.
    fn delta(&self, within: Option<(usize, usize)>, change: Change) -> (u64, Vec<(usize, Dd)>) {
        let moments = Moments::new(self.gram);
        let mut delta = vec![Dd::ZERO; self.design.names.len()];
        let (mut n, mut total) = (0, Dd::ZERO);
        for (levels, block) in &self.blocks {
            if within.is_some_and(|(factor, level)| levels[factor] != level as u64) {
                continue;
            }
            // The sum over the rows of the block of a number, or of ones, each times the weight.
            let sum = |number: Option<usize>| {
                Dd::from(&moments.get(&block.sums, None, moments.number(number)))
            };
            n += block.sums.n;
            total += sum(None);
            match change.place {
                Place::Number(treatment) => {
                    for active in block.active.iter().filter(|a| a.number == Some(treatment)) {
                        delta[active.column] += sum(None);
                    }
                }
                Place::Factor(factor) => {
                    let active = |level: usize| {
                        let mut changed = levels.clone();
                        changed[factor] = level as u64;
                        self.design.active(&changed)
                    };
                    let to = active(change.level.unwrap_or(change.reference));
                    let from = active(change.reference);
                    // Columns of both do not change, and leave no rounding error.
                    let differ = |column: usize, others: &[Active]| {
                        others.iter().all(|other| other.column != column)
                    };
                    for a in to.iter().filter(|a| differ(a.column, &from)) {
                        delta[a.column] += sum(a.number);
                    }
                    for a in from.iter().filter(|a| differ(a.column, &to)) {
                        delta[a.column] -= sum(a.number);
                    }
                }
            }
        }
        let delta = delta.into_iter().enumerate().filter(|(_, x)| !x.is_zero());
        (n, delta.map(|(column, x)| (column, x / total)).collect())
    }
}

impl Model<'_> {
    /// The estimate of a combination of columns, or why there is none.
    fn combination(&self, columns: &[(usize, Dd)]) -> std::result::Result<Estimate, String> {
        match &self.outcome {
            Outcome::Undefined(..) => Ok(Estimate::default()),
            Outcome::NotFinite(_) => Ok(Estimate::NOT_FINITE),
            Outcome::Fitted(fit) => {
                let mut kept = Vec::with_capacity(columns.len());
                for &(column, weight) in columns {
                    let Some(place) = fit.kept[column] else {
                        return Err(format!(
                            "not estimable: the column '{}' was left out",
                            fit.design.names[column]
                        ));
                    };
                    kept.push((place, weight));
                }
                Ok(self.estimate(fit, &kept))
            }
        }
    }
}

//! The columns of a design: intercept, numbers, levels of factors, and interactions.

use super::{INTERCEPT, LinearOptions, MAX_COLUMNS};
use crate::summary::{Gram, GramColumns, RegressorKind};
use crate::{Error, Result};

/// The columns of a design, in the order of their terms.
#[derive(Debug)]
pub(super) struct Design {
    /// The names of the columns.
    pub(super) names: Vec<String>,
    terms: Vec<Term>,
    /// Whether there is a column of ones.
    pub(super) intercept: bool,
}

/// Columns that differ in the levels of the factors of a term.
#[derive(Debug, Default)]
struct Term {
    factors: Vec<Levels>,
    /// The number that the columns are times, among the numbers.
    number: Option<usize>,
    /// Its first column.
    first: usize,
}

/// The levels of a factor that have columns: all but the reference, where there is one.
#[derive(Debug, Clone, Copy)]
struct Levels {
    factor: usize,
    count: usize,
    reference: Option<usize>,
}

impl Levels {
    /// The place of a level among those that have columns.
    fn place(self, level: usize) -> Option<usize> {
        match self.reference {
            Some(reference) if level == reference => None,
            Some(reference) if level > reference => Some(level - 1),
            _ => Some(level),
        }
    }

    /// The level at a place.
    fn level(self, place: usize) -> usize {
        place + usize::from(self.reference.is_some_and(|reference| place >= reference))
    }

    /// How many columns there are.
    fn columns(self) -> usize {
        self.count - usize::from(self.reference.is_some() && self.count > 0)
    }
}

/// A column that is not 0 in the rows of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) column: usize,
    /// The number that it is there, among the numbers; `None` for 1.
    pub(super) number: Option<usize>,
}

/// A regressor of the summary: its place among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Number(usize),
    Factor(usize),
}

/// The regressor of a name.
pub(super) fn find(columns: &GramColumns, name: &str) -> Result<Place> {
    let (mut numbers, mut factors) = (0, 0);
    for regressor in columns.regressors() {
        let (place, count) = match regressor.kind {
            RegressorKind::Number => (Place::Number(numbers), &mut numbers),
            RegressorKind::Factor => (Place::Factor(factors), &mut factors),
        };
        if regressor.name == name {
            return Ok(place);
        }
        *count += 1;
    }
    let names: Vec<String> =
        columns.regressors().iter().map(|regressor| format!("'{}'", regressor.name)).collect();
    Err(Error::Invalid(format!(
        "no regressor has the name '{name}'; expected one of {}",
        names.join(", ")
    )))
}

impl Design {
    /// The design that the options ask for.
    ///
    /// Terms stand in the order of the regressors, then the interactions. A factor has a column for each level but its
    /// reference, which is its first label unless the options say another; without an intercept the first factor has
    /// one for every level. Regressors that are idle have none.
    pub(super) fn new(gram: &Gram, options: &LinearOptions, idle: &[&str]) -> Result<Self> {
        let columns = gram.columns();
        let references = references(gram, options)?;
        let mut design =
            Self { names: Vec::new(), terms: Vec::new(), intercept: options.intercept };
        if options.intercept {
            design.push(INTERCEPT.to_owned(), Term::default());
        }
        let mut all_levels = !options.intercept;
        let used =
            |name: &String| !options.exclude.contains(name) && !idle.contains(&name.as_str());
        for regressor in columns.regressors().iter().filter(|regressor| used(&regressor.name)) {
            let mut term = Term::default();
            match find(columns, &regressor.name)? {
                Place::Number(number) => {
                    term.number = Some(number);
                    design.push(regressor.name.clone(), term);
                }
                Place::Factor(factor) => {
                    let reference = (!all_levels).then_some(references[factor]);
                    all_levels = false;
                    let count = gram.labels()[factor].len();
                    term.factors.push(Levels { factor, count, reference });
                    design.push_levels(&[regressor.name.as_str()], term, gram)?;
                }
            }
        }
        for interaction in &options.interactions {
            let names: Vec<&str> = interaction.split(':').map(str::trim).collect();
            let mut term = Term::default();
            for (i, name) in names.iter().enumerate() {
                if names.len() < 2 || names[..i].contains(name) {
                    return Err(Error::Invalid(format!(
                        "expected an interaction of different regressors, 'a:b', found '{interaction}'"
                    )));
                }
                match find(columns, name)? {
                    Place::Number(number) if term.number.is_none() => term.number = Some(number),
                    Place::Number(_) => {
                        return Err(Error::Invalid(format!(
                            "expected an interaction of factors and at most one number, found '{interaction}'; \
                             the product of two numbers may be a regressor of its own"
                        )));
                    }
                    Place::Factor(factor) => {
                        let (count, reference) =
                            (gram.labels()[factor].len(), Some(references[factor]));
                        term.factors.push(Levels { factor, count, reference });
                    }
                }
            }
            design.push_levels(&names, term, gram)?;
        }
        for (i, name) in design.names.iter().enumerate().filter(|_| options.intercept) {
            if i > 0 && name == INTERCEPT {
                return Err(Error::Invalid(format!(
                    "a regressor has the name '{INTERCEPT}' of the intercept"
                )));
            }
        }
        Ok(design)
    }

    fn push(&mut self, name: String, mut term: Term) {
        term.first = self.names.len();
        self.names.push(name);
        self.terms.push(term);
    }

    /// Adds the columns of a term, the levels of its first factor changing fastest; `names` are those of its regressors.
    fn push_levels(&mut self, names: &[&str], mut term: Term, gram: &Gram) -> Result<()> {
        let counts = || term.factors.iter().map(|levels| levels.columns());
        let columns = counts().try_fold(1usize, |all, count| all.checked_mul(count));
        let total = columns.and_then(|columns| columns.checked_add(self.names.len()));
        let Some(columns) = columns.filter(|_| total.is_some_and(|all| all <= MAX_COLUMNS)) else {
            return Err(Error::Invalid(format!(
                "expected a design of at most {MAX_COLUMNS} columns, found more: '{}' has too many levels",
                names.join(":")
            )));
        };
        term.first = self.names.len();
        for column in 0..columns {
            let (mut rest, mut factors) = (column, term.factors.iter());
            let parts: Vec<String> = names
                .iter()
                .map(|name| match find(gram.columns(), name) {
                    Ok(Place::Factor(_)) => {
                        let levels = factors.next().expect("a factor of the term");
                        let level = levels.level(rest % levels.columns());
                        rest /= levels.columns();
                        format!("{name}[{}]", gram.labels()[levels.factor][level])
                    }
                    _ => (*name).to_owned(),
                })
                .collect();
            self.names.push(parts.join(":"));
        }
        self.terms.push(term);
        Ok(())
    }

    /// The columns that are not 0 where the factors have these levels.
    pub(super) fn active(&self, levels: &[u64]) -> Vec<Active> {
        let active = |term: &Term| {
            let (mut column, mut step) = (term.first, 1);
            for factor in &term.factors {
                column += step * factor.place(levels[factor.factor] as usize)?;
                step *= factor.columns();
            }
            Some(Active { column, number: term.number })
        };
        self.terms.iter().filter_map(active).collect()
    }
}

/// The place of the reference level of each factor; its first level where the one that is asked for has no rows, which
/// [`missing_reference`] tells.
pub(super) fn references(gram: &Gram, options: &LinearOptions) -> Result<Vec<usize>> {
    let mut references = vec![0; gram.columns().factors()];
    for (name, label) in &options.reference {
        let Place::Factor(factor) = find(gram.columns(), name)? else {
            return Err(Error::Invalid(format!(
                "expected a reference level of a factor, found one of '{name}', which is a number"
            )));
        };
        references[factor] = gram.labels()[factor].binary_search(label).unwrap_or_default();
    }
    Ok(references)
}

/// Why a reference level is none, where that is so.
pub(super) fn missing_reference(gram: &Gram, options: &LinearOptions) -> Option<String> {
    options.reference.iter().find_map(|(name, label)| {
        let Ok(Place::Factor(factor)) = find(gram.columns(), name) else { return None };
        let labels = &gram.labels()[factor];
        labels.binary_search(label).is_err().then(|| {
            format!(
                "no row has the reference level '{label}' of '{name}'; levels found: {}",
                listed(labels)
            )
        })
    })
}

/// Some of the names, for messages.
pub(super) fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    let mut shown: Vec<String> = names.iter().take(MOST).map(|name| format!("'{name}'")).collect();
    if names.len() > MOST {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

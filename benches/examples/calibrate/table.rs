//! The tables: a row for each experiment of a grid.

use gosset_stats::Effect;

use crate::simulate::{Coverage, experiments_of};
use crate::world::World;

/// How many experiments there are, and what is no noise.
pub(crate) fn precision(experiments: usize) -> String {
    let se = |n: usize| 100.0 * (0.95f64 * 0.05 / n as f64).sqrt();
    let [large, largest, least] =
        [40_000, 2_000_000, usize::MAX].map(|units| experiments_of(experiments, units));
    format!(
        "{experiments} experiments ({large} of 40,000 units, {largest} of two million, at least {least}): one standard error is {:.1} ({:.1}, {:.1}, {:.1}), \
         and what is beyond three of them is **bold**",
        se(experiments),
        se(large),
        se(largest),
        se(least)
    )
}

/// The head of a table of estimators.
pub(crate) fn head(estimators: &[&str], others: &[&str]) {
    let columns = [&["outcome", "correlation", "units", ""], estimators, others].concat();
    head_of(&columns);
}

/// The head of any table.
pub(crate) fn head_of<S: AsRef<str>>(columns: &[S]) {
    let names: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    println!("| {} |\n|{}", names.join(" | "), " --- |".repeat(names.len()));
}

/// What came out of the experiments of a row.
pub(crate) struct Found<const N: usize> {
    pub(crate) experiments: usize,
    pub(crate) coverage: [Coverage; N],
}

impl<const N: usize> Found<N> {
    /// What some of the estimators have.
    pub(crate) fn of(&self, estimators: &[usize], shown: fn(Coverage, usize) -> String) -> String {
        let shown = estimators.iter().map(|&i| shown(self.coverage[i], self.experiments));
        shown.collect::<Vec<_>>().join(" / ")
    }

    /// Prints the row, and what else is said of it.
    pub(crate) fn print(&self, world: World, (n_t, n_c): (usize, usize), others: &[String]) {
        let cells = self.coverage.iter().map(|c| c.marked(self.experiments));
        let cells: Vec<String> = cells.chain(others.iter().cloned()).collect();
        let row = format!(
            "| {} | {} | {n_t} / {n_c} | {} | {} |",
            world.shape.name(),
            world.correlation,
            world.twist.name(),
            cells.join(" | "),
        );
        println!("{row}");
        eprintln!("{row}");
    }
}

/// An effect as its distance from another than 0.
pub(crate) fn about(effect: Effect, truth: f64) -> Effect {
    let less = |x: Option<f64>| x.map(|x| x - truth);
    let (estimate, ci_lower, ci_upper) =
        (less(effect.estimate), less(effect.ci_lower), less(effect.ci_upper));
    Effect { estimate, ci_lower, ci_upper, ..effect }
}

/// The relative effect as its distance from another than 0.
pub(crate) fn relative_about(effect: Effect, truth: f64) -> Effect {
    let (estimate, std_error) = (effect.relative, effect.relative_std_error);
    let (ci_lower, ci_upper) = (effect.relative_ci_lower, effect.relative_ci_upper);
    about(Effect { estimate, std_error, ci_lower, ci_upper, ..effect }, truth)
}

//! What EXPLAIN says of a call that resamples: how much, of what, and what it takes.

use datafusion::logical_expr::Expr;
use gosset_stats::summary::Law;
use gosset_stats::weights;

use crate::function::{ArgumentKind, Function};
use crate::planner;

/// The cost of a call, if it resamples.
pub(crate) fn cost(function: &'static Function, args: &[Expr]) -> Option<String> {
    function.options().find(|option| option.name == "replicates")?;
    let options = planner::options_of(function, args).unwrap_or_default();
    let replicates = options.replicates();
    let method = function.options().find(|option| option.name == "method");
    let Some(default) = method.map(|option| option.default.trim_matches('\'')) else {
        let bytes = 2 * 8 * replicates as usize * 5;
        return Some(format!(
            "{replicates} new assignments of units, about {} per group",
            size(bytes)
        ));
    };
    let law = options.word("method").unwrap_or(default);
    let outcomes = function.arguments.iter().filter(|a| a.kind == ArgumentKind::Outcome).count();
    let arms = if function.arguments.iter().any(|a| a.kind == ArgumentKind::Arm) { 2 } else { 1 };
    if function.options().any(|option| option.name == "relative_error") {
        let given = args.len() - usize::from(planner::has_options(args));
        let weighted = function.is_last_optional() && given == function.arguments.len();
        return Some(if weighted {
            format!(
                "{replicates} replicates, {law} weights of units by {}, {} per bin and arm",
                weights::kernel(),
                size(6 * replicates as usize)
            )
        } else {
            format!("{replicates} binomial replicates of order statistics")
        });
    }
    Some(if Law::ALL.iter().any(|known| known.name() == law) {
        // Four words of a sum of doubles, one of a number of rows; a summary may have any number of columns.
        let bytes = arms * 8 * replicates as usize * (4 * outcomes.max(1) + 1);
        format!(
            "{replicates} replicates, {law} weights of units by {}, about {} per group",
            weights::kernel(),
            size(bytes)
        )
    } else {
        let buckets = options.buckets() as usize;
        let bytes = arms * buckets * 24 * outcomes.max(1);
        format!(
            "{replicates} replicates of {buckets} buckets, up to about {} per group",
            size(bytes)
        )
    })
}

fn size(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

//! What EXPLAIN says of a call that resamples: how much, of what, and what it takes.

use datafusion::logical_expr::Expr;
use gosset_stats::summary::Resampling;
use gosset_stats::weights;

use crate::function::{ArgumentKind, Function};
use crate::options::law_of;
use crate::planner;
use crate::size::{self, Bytes};

/// The cost of a call, if it resamples.
pub(crate) fn cost(function: &'static Function, args: &[Expr]) -> Option<String> {
    function.options().find(|option| option.name == "replicates")?;
    let options = planner::options_of(function, args).unwrap_or_default();
    let replicates = options.replicates();
    let Some(law) = options.method(function) else {
        let bytes = 2 * 8 * replicates as usize * 5;
        return Some(format!(
            "{replicates} new assignments of units, about {} per group",
            Bytes(bytes)
        ));
    };
    let summed = function.arguments.iter().zip(args).filter(|(a, _)| a.kind.is_summed());
    let columns: usize = summed.map(|(_, argument)| planner::columns_of(argument)).sum();
    let arms = if function.arguments.iter().any(|a| a.kind == ArgumentKind::Arm) { 2 } else { 1 };
    if function.options().any(|option| option.name == "relative_error") {
        let given = args.len() - usize::from(planner::has_options(args));
        let weighted = function.is_last_optional() && given == function.arguments.len();
        return Some(if weighted {
            format!(
                "{replicates} replicates, {law} weights of units by {}, {} per bin and arm",
                weights::kernel(),
                Bytes(size::weighted_bin(replicates))
            )
        } else {
            format!("{replicates} binomial replicates of order statistics")
        });
    }
    Some(if law_of(law).is_some() {
        let buckets = options.keeps_buckets(function).then(|| options.buckets());
        let resampling = Resampling { replicates, buckets, ..Resampling::default() };
        let bytes = arms * size::replicates(&resampling, columns, usize::MAX);
        format!(
            "{replicates} replicates, {law} weights of units by {}, about {} per group",
            weights::kernel(),
            Bytes(bytes)
        )
    } else {
        let buckets = options.buckets();
        let bytes = arms * size::buckets(buckets, columns, usize::MAX);
        format!(
            "{replicates} replicates of {buckets} buckets, up to about {} per group",
            Bytes(bytes)
        )
    })
}

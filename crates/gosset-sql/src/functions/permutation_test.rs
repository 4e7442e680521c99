//! `permutation_test`.

use gosset_stats::compare::permutation_test;
use gosset_stats::summary::{Columns, Law, Replicates, ReplicatesTable, Resampling};
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, UNIT, Y};
use super::bootstrap::REPLICATES;
use crate::call::Call;
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, two_arm};

const SHARE: &[OptionSpec] = &[OptionSpec {
    name: "share",
    values: OptionValues::Between(0.0, 1.0),
    default: "0.5",
    doc: "the share of units that were assigned to treatment, of those of both arms: 0.1 where a tenth was",
}];

pub(super) static PERMUTATION_TEST: Function = Function {
    name: "permutation_test",
    section: Section::TwoArms,
    summary: "The randomisation (permutation) test of a difference of means per row, with units as clusters.",
    description: "\
Tests that no unit's rows depend on its arm, by what the randomisation alone would have given. In every replicate each unit of both arms is assigned anew, to treatment with the probability `share`; the assignment is a pure \
function of seed, unit and replicate.

```text
T         = ȳ_t − ȳ_c                                  the difference of the means per row
p_value   = (1 + #{|T_b| ≥ |T|})/(B + 1)               one-sided: (1 + #{T_b ≥ T})/(B + 1) or its mirror; never 0
std_error = standard deviation of T_b, under no effect;  statistic = T/std_error
```

There is no interval. Give the `share` by which units were assigned: with another one the replicates are those of another experiment. The sums are exact, so that equal differences count as equal, and the result is the same bits under any partitioning.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows, or with fewer than five units | no test, with a `note` |
| a replicate in which an arm is empty | left out and counted in the `note` |",
    returns: "an effect",
    arguments: &[Y, ARM, UNIT],
    options: &[INFERENCE, ARMS, SHARE, REPLICATES],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['p_value'] AS p_value
FROM (
  SELECT permutation_test(i % 11 + (i % 50) % 2, (i % 50) % 2 = 0, i % 50, {replicates: 4999}) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: &[
        "Imbens, G. W., Rubin, D. B. (2015). Causal Inference for Statistics, Social, and Biomedical Sciences, chapter 5. Cambridge University Press. doi:10.1017/CBO9781139025751",
    ],
    value_version: 2,
    implementation: two_arm::<Permutation>(),
};

#[derive(Debug)]
struct Permutation {
    inference: Inference,
}

impl Comparison for Permutation {
    type Summary = Replicates;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference() }
    }

    fn compare(&self, treatment: &Replicates, control: &Replicates) -> Result<Effect> {
        permutation_test(treatment, control, &self.inference)
    }

    fn table(columns: Columns, call: &Call) -> Result<ReplicatesTable> {
        let share = call.options.number("share").unwrap_or(0.5);
        // At least one draw of 65536 to either arm.
        let share = (share * 65536.0).round().clamp(1.0, 65535.0) as u16;
        let resampling = Resampling { law: Law::Assignment(share), ..call.resampling() };
        ReplicatesTable::new(columns, resampling)
    }
}

//! `proportion_test` and `proportion_effect`.

use gosset_stats::compare::{ProportionMethod, proportion_test};
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT};
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const METHOD: &[OptionSpec] = &[OptionSpec {
    name: "method",
    values: OptionValues::OneOf(&["wald", "score", "agresti-caffo", "newcombe"]),
    default: "'wald'",
    doc: "how the interval is made; the p-value belongs to the same interval",
}];

const SUCCESS: Argument = Argument {
    name: "success",
    kind: ArgumentKind::Outcome,
    doc: "a boolean, or 0 and 1; rows where it is NULL are left out and counted",
};

pub(super) static PROPORTION_TEST: Function = Function {
    name: "proportion_test",
    section: Section::TwoArms,
    summary: "Difference of the proportions of two arms.",
    description: "\
Estimates the proportion of successes under treatment minus that under control. The rows are units of randomisation.

```text
estimate  = p_t − p_c
std_error = √(p_t(1 − p_t)/n_t + p_c(1 − p_c)/n_c)
```

* `wald`: estimate ± z·std_error.
* `score`: the differences that the score test of Miettinen and Nurminen does not reject; good for rare events.
* `agresti-caffo`: Wald after one success and one failure are added to each arm; good for small arms.
* `newcombe`: from Wilson's intervals of both arms (Newcombe's hybrid score method).

The p-value of each method is the smallest α whose interval excludes 0.

| input | result |
| --- | --- |
| `success` or `arm` NULL | the row is left out and counted in `n_dropped` |
| a value other than 0 and 1 | an error |
| an arm without rows | all NULL, with a `note` |
| no success, or nothing but successes, in both arms | `wald` has no p-value and interval, with a `note` |",
    returns: "an effect",
    arguments: &[SUCCESS, ARM],
    options: &[INFERENCE, ARMS, METHOD],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['ci_lower'] AS ci_lower, e['ci_upper'] AS ci_upper
FROM (
  SELECT proportion_test(i % 5 = 0 OR (i % 7 = 0 AND i % 2 = 0), i % 2 = 0, {method: 'newcombe'}) AS e
  FROM generate_series(1, 500) AS t (i)
)",
    },
    references: &[
        "Agresti, A., Caffo, B. (2000). Simple and effective confidence intervals for proportions and differences of proportions. The American Statistician 54, 280–288. doi:10.1080/00031305.2000.10474560",
        "Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions. Statistics in Medicine 17, 873–890, method 10.",
        "Miettinen, O., Nurminen, M. (1985). Comparative analysis of two rates. Statistics in Medicine 4, 213–226. doi:10.1002/sim.4780040211",
    ],
    value_version: 1,
    implementation: two_arm::<Proportion>(),
};

pub(super) static PROPORTION_EFFECT: Function = Function {
    name: "proportion_effect",
    section: Section::Comparisons,
    summary: "`proportion_test` of two stored summaries.",
    description: "\
The effect that `proportion_test` gives for the same rows, to the bit, from two summaries of `moments` of a column of 0 and 1.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, METHOD],
    example: Example {
        sql: "\
WITH arms AS (SELECT i % 2 AS arm, moments(i % 5 = 0) AS s FROM generate_series(1, 500) AS t (i) GROUP BY i % 2)
SELECT e['estimate'] AS estimate
FROM (SELECT proportion_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 0 AND c.arm = 1)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Proportion>(),
};

#[derive(Debug)]
struct Proportion {
    inference: Inference,
    method: ProportionMethod,
}

impl Comparison for Proportion {
    type Summary = Moments;

    fn new(options: &Options) -> Self {
        let method = match options.word("method") {
            Some("score") => ProportionMethod::Score,
            Some("agresti-caffo") => ProportionMethod::AgrestiCaffo,
            Some("newcombe") => ProportionMethod::Newcombe,
            _ => ProportionMethod::Wald,
        };
        Self { inference: options.inference(), method }
    }

    fn compare(&self, treatment: &Moments, control: &Moments) -> Result<Effect> {
        proportion_test(treatment, control, &self.inference, self.method)
    }
}

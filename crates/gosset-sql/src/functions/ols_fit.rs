//! `ols_fit`, `ols_contrast` and `conditional_effects`: linear models of stored summaries.

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::linear::{conditional_effects, contrast, ols};
use gosset_stats::summary::Gram;

use super::ols::{DESIGN, FIT};
use crate::call::Call;
use crate::function::{
    Argument, ArgumentKind, Example, Function, Implementation, ScalarParts, Section,
};
use crate::input::failed;
use crate::linear::{
    conditional_type, conditionals, contrast_type, contrasts, fit_type, fits, of_stored, options_of,
};
use crate::options::{CONFIDENCE, OptionSpec, OptionValues};

const SUMMARY: Argument = Argument {
    name: "gram",
    kind: ArgumentKind::Summary,
    doc: "a summary of `gram` or `gram_clustered`",
};

const OUTCOME: &[OptionSpec] = &[
    OptionSpec {
        name: "outcome",
        values: OptionValues::Name,
        default: "",
        doc: "which outcome, where the summary has several",
    },
    OptionSpec {
        name: "vcov",
        values: OptionValues::OneOf(&["HC1", "CR1", "classical", "HC0", "HC2", "HC3", "CR0"]),
        default: "",
        doc: "how the covariance of the coefficients is estimated; HC1 where it is not given, CR1 for a summary with clusters",
    },
];

pub(super) static OLS_FIT: Function = Function {
    name: "ols_fit",
    section: Section::LinearModels,
    summary: "The linear regression of a stored summary.",
    description: "\
What `ols` or `ols_clustered` gives for the same rows, to the bit, from a summary of `gram` or `gram_clustered`: with any design, outcome and covariance, without the rows.

| input | result |
| --- | --- |
| NULL | NULL |
| a summary of another kind | an error |
| a covariance of clusters of a summary without them, or HC0 to HC3 of one with them | an error |",
    returns: FIT,
    arguments: &[SUMMARY],
    options: &[OUTCOME, CONFIDENCE, DESIGN],
    example: Example {
        sql: "\
WITH days AS (
  SELECT i % 7 AS day, gram({spend: i % 13, visits: i % 5}, {arm: CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, age: i % 29}) AS s
  FROM generate_series(1, 300) AS t (i) GROUP BY i % 7
)
SELECT fit['coefficients'] AS coefficients
FROM (SELECT ols_fit(merge_summaries(s), {outcome: 'visits', interactions: ['arm:age'], vcov: 'HC2'}) AS fit FROM days)",
    },
    references: &[],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts {
        invoke: |call, values, rows| {
            let options = options_of(call);
            of_stored(call, values, rows, |grams| Ok(fits(&each(call, &grams, |g| ols(g, &options))?)))
        },
        returns: fit_type,
    }),
};

pub(super) static OLS_CONTRAST: Function = Function {
    name: "ols_contrast",
    section: Section::LinearModels,
    summary: "A combination of the coefficients of the linear regression of a stored summary.",
    description: "\
Estimates `Σ w_j β_j` for the weights of the option `contrast`, with variance `w'Vw`: the difference of two arms that are both compared with a third, an effect at a covariate's value, a sum of effects. \
Coefficients have the names that `ols` gives them; `{'arm[b]': 1, 'arm[c]': -1}`.

| input | result |
| --- | --- |
| NULL | NULL |
| a coefficient that was left out, or a name that no coefficient has | NULL, with a `note` |
| no `contrast` | an error |",
    returns: "a struct: estimate, std_error, statistic, df, p_value, ci_lower, ci_upper DOUBLE; n BIGINT; confidence DOUBLE; method, note VARCHAR",
    arguments: &[SUMMARY],
    options: &[
        &[OptionSpec {
            name: "contrast",
            values: OptionValues::Coefficients,
            default: "",
            doc: "the weights of coefficients by name; those that are not named have weight 0",
        }],
        OUTCOME,
        CONFIDENCE,
        DESIGN,
    ],
    example: Example {
        sql: "\
SELECT c['estimate'] AS estimate, c['std_error'] AS std_error
FROM (
  SELECT ols_contrast(gram(i % 13, {arm: chr(97 + i % 3), age: i % 29}), {contrast: {'arm[b]': 1, 'arm[c]': -1}}) AS c
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts {
        invoke: |call, values, rows| {
            let Some(weights) = call.options.weights("contrast") else {
                return missing(call, "contrast", "{contrast: {'arm[b]': 1, 'arm[c]': -1}}");
            };
            let options = options_of(call);
            of_stored(call, values, rows, |grams| {
                Ok(contrasts(&each(call, &grams, |gram| contrast(gram, &options, weights))?))
            })
        },
        returns: contrast_type,
    }),
};

pub(super) static CONDITIONAL_EFFECTS: Function = Function {
    name: "conditional_effects",
    section: Section::LinearModels,
    summary: "The effect of a treatment in every segment, by the linear regression of a stored summary.",
    description: "\
Fits one regression with the interaction of treatment and segment, and gives for each segment the average effect over its rows: what the model says of them under each level of the treatment, minus what it says under \
the reference level (per unit, where the treatment is a number).

```text
δ = mean over the rows of the segment of x(level) − x(reference)
effect = δ'β,   variance = δ'Vδ, for given δ
```

Other interactions count with what the segment's rows have: with `interactions: ['arm:age']` the effect is at their mean age. Without `segment` it is the average effect over all rows.

| input | result |
| --- | --- |
| NULL, or no rows | the empty list |
| a level of the treatment that no row of the segment has | NULL, with a `note` |
| a treatment or segment that is no regressor, a segment that is a number, or no `treatment` | an error |",
    returns: "a list of structs: segment, level VARCHAR; n BIGINT; estimate, std_error, statistic, df, p_value, ci_lower, ci_upper, confidence DOUBLE; method, note VARCHAR",
    arguments: &[SUMMARY],
    options: &[
        &[
            OptionSpec {
                name: "treatment",
                values: OptionValues::Name,
                default: "",
                doc: "the regressor that is the treatment",
            },
            OptionSpec {
                name: "segment",
                values: OptionValues::Name,
                default: "",
                doc: "the factor whose levels are the segments",
            },
        ],
        OUTCOME,
        CONFIDENCE,
        DESIGN,
    ],
    example: Example {
        sql: "\
SELECT conditional_effects(s, {treatment: 'treated', segment: 'country'}) AS effects
FROM (
  SELECT gram(i % 13 + i % 2, {treated: i % 2 = 1, country: chr(65 + i % 3), age: i % 29}) AS s FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &["Wong, J. (2024). Delta vectors. arXiv:2412.08788"],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts {
        invoke: |call, values, rows| {
            let Some(treatment) = call.options.text("treatment") else {
                return missing(call, "treatment", "{treatment: 'arm', segment: 'country'}");
            };
            let (options, segment) = (options_of(call), call.options.text("segment"));
            of_stored(call, values, rows, |grams| {
                let effects =
                    each(call, &grams, |g| conditional_effects(g, &options, treatment, segment))?;
                Ok(conditionals(&effects))
            })
        },
        returns: conditional_type,
    }),
};

/// What `f` makes of each summary.
fn each<T>(
    call: &Call,
    grams: &[Option<Gram>],
    f: impl Fn(&Gram) -> gosset_stats::Result<T>,
) -> Result<Vec<Option<T>>> {
    let one = |gram: &Option<Gram>| gram.as_ref().map(&f).transpose();
    grams.iter().map(|gram| one(gram).map_err(|e| failed(call.function, e))).collect()
}

fn missing(call: &Call, option: &str, example: &str) -> Result<ColumnarValue> {
    plan_err!("{}: the option '{option}' is not given: {example}", call.function.name)
}

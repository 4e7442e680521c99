//! `ols` and `ols_clustered`.

use gosset_stats::linear::ols;
use gosset_stats::summary::Gram;

use super::arguments::Y;
use super::gram::YOCO;
use crate::call::Call;
use crate::function::{
    AggregateParts, Argument, ArgumentKind, Example, Function, Implementation, Section,
};
use crate::gram::states;
use crate::input::failed;
use crate::linear::{fit_type, fits, options_of};
use crate::options::{CONFIDENCE, OptionSpec, OptionValues};

pub(super) const REGRESSORS: Argument = Argument {
    name: "x",
    kind: ArgumentKind::Regressors,
    doc: "the regressors: a struct `{arm: arm, age: age}` whose names are kept, or one alone. Numbers stand for themselves, strings and booleans are categorical; rows where one is NULL follow `missing`",
};

pub(super) const CLUSTER: Argument = Argument {
    name: "cluster",
    kind: ArgumentKind::CrossedUnit,
    doc: "the cluster: an integer, a string or binary; or a struct of two factors, `{firm: firm, year: year}`, for clustering both ways; rows where it is NULL are left out and counted",
};

pub(super) const WEIGHT: Argument = Argument {
    name: "weight",
    kind: ArgumentKind::OptionalWeight,
    doc: "how precise a row is: its variance is σ²/weight; rows where it is NULL or 0 are left out and counted",
};

pub(super) const MAX_ROWS: &[OptionSpec] = &[OptionSpec {
    name: "max_rows",
    values: OptionValues::Integer(1, gosset_stats::summary::gram::MAX_ROWS as i128),
    default: "65536",
    doc: "up to how many distinct rows of regressors (combinations of factors within clusters, where there are clusters) are kept one by one",
}];

pub(super) const MISSING: &[OptionSpec] = &[OptionSpec {
    name: "missing",
    values: OptionValues::OneOf(&["drop", "indicator", "error"]),
    default: "'drop'",
    doc: "a NULL regressor: the row is left out and counted, as in `lm` of R and in statsmodels; a number is 0 with an indicator as a further regressor, `age is missing`, and a label is the level `missing`; or the query fails",
}];

/// The design and the covariance of a fit.
pub(super) const DESIGN: &[OptionSpec] = &[
    OptionSpec {
        name: "interactions",
        values: OptionValues::Names,
        default: "",
        doc: "interactions beside the regressors, `['arm:country', 'arm:age']`: of factors, and of factors with a number",
    },
    OptionSpec {
        name: "reference",
        values: OptionValues::Labels,
        default: "",
        doc: "the reference level of factors, `{arm: 'control'}`; the first label in order where it is not given",
    },
    OptionSpec {
        name: "intercept",
        values: OptionValues::Flag,
        default: "true",
        doc: "whether there is a column of ones; without it the first factor has a column for every level",
    },
];

const VCOV: &[OptionSpec] = &[OptionSpec {
    name: "vcov",
    values: OptionValues::OneOf(&["HC1", "classical", "HC0", "HC2", "HC3"]),
    default: "'HC1'",
    doc: "how the covariance of the coefficients is estimated",
}];

const VCOV_CLUSTERED: &[OptionSpec] = &[OptionSpec {
    name: "vcov",
    values: OptionValues::OneOf(&["CR1", "CR0", "classical"]),
    default: "'CR1'",
    doc: "how the covariance of the coefficients is estimated",
}];

pub(super) const FIT: &str = "a struct: coefficients, a list of structs (term VARCHAR; estimate, std_error, statistic, df, p_value, ci_lower, ci_upper DOUBLE); vcov, their covariance matrix as a list of lists; n, n_dropped, clusters, df_residual BIGINT; r_squared, adjusted_r_squared, residual_std_error, confidence DOUBLE; method, note VARCHAR";

const WHITE: &str = "MacKinnon, J. G., White, H. (1985). Some heteroskedasticity-consistent covariance matrix estimators with improved finite sample properties. Journal of Econometrics 29, 305–325. doi:10.1016/0304-4076(85)90158-7";

pub(super) static OLS: Function = Function {
    name: "ols",
    section: Section::LinearModels,
    summary: "Linear regression by least squares, with named coefficients and robust standard errors.",
    description: "\
Fits `y` to an intercept and the regressors, in one pass. A string or boolean `arm` becomes the columns `arm[b]`, `arm[c]`, ... of its labels but the first; interactions are called `arm[b]:country[DE]`, `arm[b]:age`. \
With `weight` it is weighted least squares: the regression of the rows times √weight.

```text
β = (X'X)⁻¹ X'y,   e = y − Xβ,   h = diag(X (X'X)⁻¹ X'),   p columns, n rows
classical  s² (X'X)⁻¹,   s² = Σe²/(n − p)
HC0        (X'X)⁻¹ (Σ x x' e²) (X'X)⁻¹          HC2   with e²/(1 − h)
HC1        HC0 · n/(n − p)                       HC3   with e²/(1 − h)²
df = n − p in Student's law, two-sided;  R² = 1 − Σe²/Σ(y − ȳ)², without an intercept 1 − Σe²/Σy²
```

The products of the columns are formed exactly and the equations are solved with 106 bits: coefficients have all digits of a double unless columns are nearly dependent (thirteen for the hardest of NIST's certified sets, a polynomial of degree 10). \
Columns that depend on those before them are left out and named in the `note`; their coefficients are NULL. The robust standard errors take the rows as independent: where units have several rows, use `ols_clustered`. \
HC0 to HC3 need the distinct rows of regressors, of which up to `max_rows` are kept: with numbers that hardly ever come twice on more rows than that, ask for `vcov: 'classical'` or raise it.

| input | result |
| --- | --- |
| `y` or the weight NULL, or the weight 0 | the row is left out and counted in `n_dropped`, and the `note` says so |
| a regressor NULL | follows `missing` |
| NaN or ±∞ | NaN |
| a weight that is negative or NaN | an error |
| more columns than rows, or a `reference` level that no row has | NULL |
| as many coefficients as rows | estimates without standard errors |
| more than `max_rows` distinct rows | HC0 to HC3 NULL, with a `note` |
| HC2 or HC3 where a row has leverage 1 | standard errors NULL |
| residuals of 0 | `std_error` 0, no test and no interval |
| more than 1000 columns | an error |",
    returns: FIT,
    arguments: &[Y, REGRESSORS, WEIGHT],
    options: &[CONFIDENCE, VCOV, DESIGN, MISSING, MAX_ROWS],
    example: Example {
        sql: "\
SELECT fit['coefficients'][2]['term'] AS term, fit['coefficients'][2]['estimate'] AS estimate, fit['r_squared'] AS r_squared
FROM (
  SELECT ols(i % 13 + i % 2, {arm: CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, age: i % 29}, {vcov: 'HC3'}) AS fit
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[YOCO, WHITE],
    value_version: 1,
    implementation: FITTED,
};

pub(super) static OLS_CLUSTERED: Function = Function {
    name: "ols_clustered",
    section: Section::LinearModels,
    summary: "Linear regression with cluster-robust standard errors.",
    description: "\
The coefficients of `ols`, with standard errors for rows that are dependent within clusters, such as the rows of a unit.

```text
s_g = Σ x e over the rows of cluster g of G
CR0  (X'X)⁻¹ (Σ_g s_g s_g') (X'X)⁻¹
CR1  CR0 · G/(G − 1) · (n − 1)/(n − p)
df = G − 1 in Student's law
two factors A and B:  V_A + V_B − V_AB, each with its own G;  df of the smaller G
```

CR1 is what Stata, statsmodels and R's sandwich (`vcovCL(type = \"HC1\")`) give. With few clusters (below 30 or so) it is too small. \
Up to `max_rows` combinations of clusters and factors are kept one by one; beyond, clusters fall into 4096 buckets by their hash, and `method`, `clusters` and `note` say so.

| input | result |
| --- | --- |
| `y`, the cluster or the weight NULL, or the weight 0 | the row is left out and counted in `n_dropped`, and the `note` says so |
| a regressor NULL | follows `missing` |
| NaN or ±∞ | NaN |
| a weight that is negative or NaN | an error |
| more columns than rows, or a `reference` level that no row has | NULL |
| as many coefficients as rows, or one cluster | estimates without standard errors |
| clusters of two factors beyond `max_rows` | standard errors NULL, with a `note` |
| a negative variance of clusters of two factors | that standard error NULL |",
    returns: FIT,
    arguments: &[Y, REGRESSORS, CLUSTER, WEIGHT],
    options: &[CONFIDENCE, VCOV_CLUSTERED, DESIGN, MISSING, MAX_ROWS],
    example: Example {
        sql: "\
SELECT fit['coefficients'][2]['std_error'] AS std_error, fit['clusters'] AS clusters
FROM (
  SELECT ols_clustered(i % 13 + i % 2, {treated: i % 2 = 1, age: i % 29}, i % 50) AS fit
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        YOCO,
        "Cameron, A. C., Gelbach, J. B., Miller, D. L. (2011). Robust inference with multiway clustering. Journal of Business & Economic Statistics 29, 238–249. doi:10.1198/jbes.2010.07136",
        "Petersen, M. A. (2009). Estimating standard errors in finance panel data sets. Review of Financial Studies 22, 435–480. doi:10.1093/rfs/hhn053",
    ],
    value_version: 1,
    implementation: FITTED,
};

const FITTED: Implementation = Implementation::Aggregate(AggregateParts {
    states: |call| states(call, finish),
    returns: fit_type,
});

fn finish(
    call: &Call,
    grams: &mut dyn Iterator<Item = Gram>,
) -> datafusion::error::Result<arrow::array::ArrayRef> {
    let options = options_of(call);
    let fitted = grams
        .map(|gram| ols(&gram, &options).map(Some).map_err(|e| failed(call.function, e)))
        .collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(fits(&fitted))
}

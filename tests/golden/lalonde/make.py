"""The National Supported Work experiment: t-tests, relative lifts, CUPED and Lin's adjustment."""

import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from mpmath import mp
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import (  # noqa: E402
    Arm,
    agree,
    agree_ttest,
    cuped,
    cuped_theta,
    floats,
    lin,
    read_csv,
    take,
    ttest,
    write_json,
    write_metadata,
)

COVARIATES = ["age", "educ", "black", "hisp", "married", "nodegr", "re74", "re75"]
OPTIONS = [
    {},
    {"confidence": 0.99},
    {"confidence": 0.9},
    {"alternative": "greater"},
    {"alternative": "less"},
    {"alternative": "greater", "confidence": 0.99},
    {"relative": "log"},
    {"relative": "delta"},
    {"relative": "log", "confidence": 0.99},
    {"relative": "delta", "confidence": 0.99},
    {"relative": "log", "alternative": "less"},
    {"relative": "delta", "alternative": "greater"},
]

table = {name: floats(texts) for name, texts in read_csv(FOLDER / "lalonde.csv").items()}
treated = [t == 1 for t in table["treat"]]
control = [not t for t in treated]


def arms(*columns):
    """Treatment and control."""
    return [Arm(*(take(c, keep) for c in columns)) for keep in (treated, control)]


def sql(call, options):
    """The call as it is typed."""
    text = ", ".join(f"{k}: {v!r}" for k, v in options.items())
    return call + (f", {{{text}}})" if options else ")")


def struct(names):
    """Several covariates."""
    return "{" + ", ".join(f"{n}: {n}" for n in names) + "}"


cases = []


def add(call, make, fixed=(), options=OPTIONS):
    """One case per set of options."""
    for chosen in options:
        chosen = dict(fixed) | chosen
        cases.append({"sql": sql(call, chosen), "effect": make(**chosen)})


re78, re75 = table["re78"], table["re75"]
xs = [table[name] for name in COVARIATES]
outcome, with_re75, with_all = arms(re78), arms(re78, re75), arms(re78, *xs)
with_two = arms(re78, re75, table["age"])

add("ttest(re78, treat = 1", lambda **o: ttest(*outcome, **o))
add("ttest(re78, treat = 1", lambda **o: ttest(*outcome, **o), {"variance": "equal"})
# The sign of the control mean must not turn the sign of the relative effect; losses as an outcome show it.
losses = arms([-y for y in re78])
add("ttest(-re78, treat = 1", lambda **o: ttest(*losses, **o), options=[o for o in OPTIONS if o.get("relative") != "log"])
# A control mean that is not clearly away from zero has no Fieller interval: 3 standard errors at 95 %, not at 99.9 %.
near_zero = arms([y - 3500 for y in re78])
for confidence in [0.95, 0.999]:
    add("ttest(re78 - 3500, treat = 1", lambda **o: ttest(*near_zero, **o), options=[{"confidence": confidence}])
add("cuped(re78, re75, treat = 1", lambda **o: cuped(*with_re75, **o))
add(f"cuped(re78, {struct(['re75', 'age'])}, treat = 1", lambda **o: cuped(*with_two, **o), options=OPTIONS[:2])
add(f"cuped(re78, {struct(COVARIATES)}, treat = 1", lambda **o: cuped(*with_all, **o))
add("lin(re78, re75, treat = 1", lambda **o: lin(*with_re75, **o), options=OPTIONS[:2])
add("lin(re78, re75, treat = 1", lambda **o: lin(*with_re75, **o), {"vcov": "classical"}, OPTIONS[:2])
add(f"lin(re78, {struct(COVARIATES)}, treat = 1", lambda **o: lin(*with_all, **o))
add(f"lin(re78, {struct(COVARIATES)}, treat = 1", lambda **o: lin(*with_all, **o), {"vcov": "classical"})

# ------------------------------------------------------------------------------------------------ the same by others

Y, T, X = np.array(re78), np.array(table["treat"]), np.array(xs).T
WELCH, STUDENT = ttest(*outcome), ttest(*outcome, variance="equal")
for alternative in ["two-sided", "greater", "less"]:
    for equal, variance in [(False, "unequal"), (True, "equal")]:
        ours = ttest(*outcome, variance=variance, alternative=alternative)
        agree_ttest("ttest", ours, stats.ttest_ind(Y[T == 1], Y[T == 0], equal_var=equal, alternative=alternative))


def regression(covariates, interacted):
    """Ordinary least squares of the outcome on the arm and centred covariates."""
    centred = covariates - covariates.mean(axis=0)
    # Columns of one size, for the condition number; the coefficient of the arm does not change.
    centred = centred / centred.std(axis=0)
    columns = [np.ones_like(T), T, centred] + ([T[:, None] * centred] if interacted else [])
    return sm.OLS(Y, np.column_stack(columns))


for covariates, both in [(X[:, -1:], with_re75), (X, with_all)]:
    # θ pooled within arms is the coefficient of x beside the arm; adjusted outcomes go through scipy's own Welch test.
    theta = sm.OLS(Y, np.column_stack([np.ones_like(T), T, covariates])).fit().params[2:]
    for ours, theirs in zip(cuped_theta(*both), theta, strict=True):
        agree("theta", ours, theirs, 1e-9)
    values = Y - (covariates - covariates.mean(axis=0)) @ theta
    ours = cuped(*both)
    agree_ttest("cuped", ours, stats.ttest_ind(values[T == 1], values[T == 0], equal_var=False), 1e-9)
    agree("cuped", ours["estimate"], regression(covariates, False).fit().params[1], 1e-10)

    fit = regression(covariates, True).fit()
    ours = lin(*both, vcov="classical")
    agree("lin", ours["estimate"], fit.params[1], 1e-10)
    agree("lin classical", ours["std_error"], fit.bse[1], 1e-10)
    agree("lin df", ours["df"], fit.df_resid)
    agree("lin p", ours["p_value"], fit.pvalues[1], 1e-9)
    for level in [0.95, 0.99]:
        lower, upper = fit.conf_int(1 - level)[1]
        agree("lin lower", lin(*both, vcov="classical", confidence=level)["ci_lower"], lower, 1e-9)
        agree("lin upper", lin(*both, vcov="classical", confidence=level)["ci_upper"], upper, 1e-9)
    ours, variances = lin(*both), []
    for arm in [1, 0]:
        z = (covariates - covariates.mean(axis=0))[arm == T]
        one = sm.OLS(Y[arm == T], sm.add_constant(z / covariates.std(axis=0))).fit()
        variances.append((one.bse[0] ** 2, one.df_resid))
    (v1, d1), (v0, d0) = variances
    agree("lin by arm", ours["std_error"], np.sqrt(v1 + v0), 1e-10)
    agree("lin by arm df", ours["df"], (v1 + v0) ** 2 / (v1**2 / d1 + v0**2 / d0), 1e-9)

# Dehejia and Wahba (1999) published 1,794 (633); the heteroskedastic variants of Lin's regression are known figures too.
fit = regression(X, True)
robust = {kind: float(fit.fit(cov_type=kind).bse[1]) for kind in ["HC0", "HC1", "HC2", "HC3"]}


def published(what, value, figure):
    """A figure of the literature, to the digits that were printed."""
    digits = len(figure.partition(".")[2])
    assert f"{float(value):.{digits}f}" == figure, (what, mp.nstr(value, 12), figure)


published("difference", WELCH["estimate"], "1794.343")
published("OLS standard error", STUDENT["std_error"], "632.854")
published("Welch standard error", WELCH["std_error"], "670.997")
published("theta of re75", cuped_theta(*with_re75)[0], "0.166668")
published("CUPED", cuped(*with_re75)["estimate"], "1750.15")
published("CUPED standard error", cuped(*with_re75)["std_error"], "668.96")
published("Lin", lin(*with_all)["estimate"], "1621.5836")
published("Lin by arm", lin(*with_all)["std_error"], "684.214")
for kind, figure in {"HC0": "675.282", "HC1": "689.368", "HC2": "694.722", "HC3": "716.873"}.items():
    published(kind, robust[kind], figure)

write_json(FOLDER / "expected.json", {"table": "lalonde.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy", "statsmodels"],
    "1e-10 relative, or 1e-14 absolute for variance_reduction, which is a difference from 1",
    "lalonde.csv: the National Supported Work experiment as selected by Dehejia and Wahba (1999), 185 treated and 260"
    " controls, public at https://users.nber.org/~rdehejia/nswdata2.html and as lalonde in the R package Matching",
)

"""CUPED of a ratio with a ratio covariate, a number and units that were not there before; lin over a superpopulation."""

import csv
import random
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from mpmath import mp, mpf
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import (  # noqa: E402
    agree,
    dot,
    effect,
    floats,
    read_csv,
    welch,
    write_json,
    write_metadata,
)

SEED = 20260503


def generate(path):
    """Units with clicks and views, those of before, an age; some were not there before."""
    rng = random.Random(SEED)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["unit", "arm", "clicks", "views", "clicks_before", "views_before", "age"])
        for unit in range(320):
            arm = "new" if rng.random() < 0.45 else "old"
            taste, age = rng.random(), rng.randint(18, 70)
            views, before = 1 + int(12 * rng.random() ** 2), int(10 * rng.random() ** 1.5)
            rate = 0.3 + 0.5 * taste + 0.002 * age + (0.1 if arm == "new" else 0.0)
            clicks = round(views * (rate + 0.2 * (rng.random() - 0.5)), 3)
            clicks_before = round(before * (0.3 + 0.5 * taste + 0.1 * (rng.random() - 0.5)), 3)
            writer.writerow([unit, arm, clicks, views, clicks_before, before, age])


generate(FOLDER / "cuped_ratio.csv")
table = read_csv(FOLDER / "cuped_ratio.csv")
new = [a == "new" for a in table["arm"]]
old = [not n for n in new]
values = {name: [mpf(v) for v in floats(column)] for name, column in table.items() if name not in ("unit", "arm")}


def mean(v):
    return sum(v) / len(v)


def moved(arm, metric):
    """The values of an arm whose mean is the mean of a column or the ratio of two, and moves as it does."""
    pick = lambda name: [v for v, keep in zip(values[name], arm, strict=True) if keep]  # noqa: E731
    if isinstance(metric, str):
        return pick(metric)
    y, d = map(pick, metric)
    ratio = sum(y) / sum(d)
    return [ratio + (a - ratio * b) / mean(d) for a, b in zip(y, d, strict=True)]


def products(a, b):
    """The sum of products around the means."""
    m, n = mean(a), mean(b)
    return sum((x - m) * (y - n) for x, y in zip(a, b, strict=True))


def cuped_ratio(outcome, covariates, **options):
    columns = [[moved(arm, metric) for metric in [outcome, *covariates]] for arm in (new, old)]
    k = len(covariates)
    s = [mp.matrix([[products(a, b) for b in arm] for a in arm]) for arm in columns]
    xx = mp.matrix(k)
    xy = mp.matrix(k, 1)
    for i in range(k):
        xy[i] = s[0][i + 1, 0] + s[1][i + 1, 0]
        for j in range(k):
            xx[i, j] = s[0][i + 1, j + 1] + s[1][i + 1, j + 1]
    theta = mp.lu_solve(xx, xy)
    n = [len(arm[0]) for arm in columns]
    means = [[mean(column) for column in arm] for arm in columns]
    centre = [(n[0] * means[0][i] + n[1] * means[1][i]) / sum(n) for i in range(1, k + 1)]

    def adjusted(a):
        m = means[a][0] - dot(theta, [x - c for x, c in zip(means[a][1:], centre, strict=True)])
        weights = [mpf(1), *[-t for t in theta]]
        square = sum(weights[i] * weights[j] * s[a][i, j] for i in range(k + 1) for j in range(k + 1))
        return m, square / (n[a] - 1) / n[a], s[a][0, 0] / (n[a] - 1) / n[a]

    (m_t, v_t, plain_t), (m_c, v_c, plain_c) = adjusted(0), adjusted(1)
    result = effect(m_t, v_t, m_c, v_c, welch(v_t, n[0] - 1, v_c, n[1] - 1), **options)
    return result | {
        "mean_treatment": means[0][0],
        "mean_control": means[1][0],
        "variance_reduction": 1 - (v_t + v_c) / (plain_t + plain_c),
        "n_treatment": n[0],
        "n_control": n[1],
    }, theta, columns


CLICKS, BEFORE = ("clicks", "views"), ("clicks_before", "views_before")
WRITTEN = {BEFORE: "before: {num: clicks_before, den: views_before}", "age": "age: age", "views_before": "v: views_before"}
cases = []
for covariates in [[BEFORE], [BEFORE, "age"], ["age", "views_before", BEFORE]]:
    for options in [{}, {"confidence": 0.9, "alternative": "greater"}, {"relative": "log"}]:
        text = "".join(f", {{{', '.join(f'{k}: {v!r}' for k, v in options.items())}}}" if options else "")
        struct = "{" + ", ".join(WRITTEN[x] for x in covariates) + "}"
        found, theta, columns = cuped_ratio(CLICKS, covariates, **options)
        cases.append({"sql": f"cuped_ratio(clicks, views, {struct}, arm = 'new'{text})", "effect": found})
        # θ by statsmodels from the values centred in their arm, and scipy's Welch test of what it leaves.
        centred = [np.concatenate([np.array(c, dtype=float) - float(mean(c)) for c in both]) for both in zip(*columns, strict=True)]
        fit = sm.OLS(centred[0], np.column_stack(centred[1:])).fit()
        for ours, theirs in zip(theta, fit.params, strict=True):
            agree("theta", ours, theirs, 1e-9)
        left = [np.array(arm[0], dtype=float) - np.column_stack(arm[1:]).astype(float) @ fit.params for arm in columns]
        test = stats.ttest_ind(*left, equal_var=False, alternative=options.get("alternative", "two-sided"))
        agree("statistic", found["statistic"], test.statistic, 1e-9)
        agree("p", found["p_value"], test.pvalue, 1e-9)

# Lin's estimate over a superpopulation: the variance of the interacted regression and that of the mean of the covariates.
y, x = [np.array(floats(table[name])) for name in ("clicks", "clicks_before")]
age, treated = np.array(floats(table["age"])), np.array(new)


def lin(covariates):
    design = np.column_stack(covariates)
    centred = design - design.mean(axis=0)
    variances, means, betas, dfs = [], [], [], []
    for arm in (treated, ~treated):
        fit = sm.OLS(y[arm], sm.add_constant(centred[arm])).fit()
        means.append(fit.params[0])
        betas.append(fit.params[1:])
        variances.append(fit.bse[0] ** 2)
        dfs.append(fit.df_resid)
    spread = np.atleast_2d(np.cov(design.T)) / len(y)
    apart = betas[0] - betas[1]
    se = np.sqrt(sum(variances) + apart @ spread @ apart)
    plain = y[treated].var(ddof=1) / treated.sum() + y[~treated].var(ddof=1) / (~treated).sum()
    df = sum(variances) ** 2 / (variances[0] ** 2 / dfs[0] + variances[1] ** 2 / dfs[1])
    estimate = means[0] - means[1]
    return {
        "estimate": estimate,
        "std_error": se,
        "df": df,
        "p_value": 2 * stats.t.sf(abs(estimate / se), df),
        "variance_reduction": 1 - se**2 / plain,
    }


cases += [
    {"sql": "lin(clicks, {x: clicks_before, age: age}, arm = 'new', {superpopulation: true})", "effect": lin([x, age])},
    {"sql": "mlrate(clicks, clicks_before, arm = 'new')", "effect": lin([x])},
]
write_json(FOLDER / "expected.json", {"table": "cuped_ratio.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy", "statsmodels"],
    "1e-10 relative; the last two cases are of doubles: 1e-9",
    "cuped_ratio.csv is generated here by Python's random.Random.random, whose stream does not change between versions",
    SEED,
)

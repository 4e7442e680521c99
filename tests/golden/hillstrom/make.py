"""The MineThatData e-mail experiment: every metric, arm, segment and estimator of jobs/hillstrom.toml."""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from mpmath import mpf
from scipy import stats
from scipy.stats.mstats import winsorize
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import (  # noqa: E402
    NORMAL,
    Arm,
    agree,
    agree_ttest,
    cuped,
    effect,
    floats,
    lin,
    plain,
    post_stratify,
    ratio_test,
    read_csv,
    take,
    ttest,
    write_metadata,
)

CONTROL, TREATMENTS = "No E-Mail", ["Mens E-Mail", "Womens E-Mail"]
METRICS = ["spend", "spend_capped", "visit", "conversion", "spend_per_visit"]
CAP = 0.999
STRATA = "recency"
FIELDS = [
    *["estimate", "std_error", "statistic", "df", "p_value", "ci_lower", "ci_upper", "confidence"],
    *["relative", "relative_std_error", "relative_ci_lower", "relative_ci_upper"],
    *["mean_control", "mean_treatment", "n_control", "n_treatment", "variance_reduction"],
    *["cap", "capped_share", "estimate_uncapped"],
]

table = read_csv(FOLDER.parents[2] / "jobs" / "hillstrom.csv")
values = {name: floats(table[name]) for name in ["spend", "visit", "conversion", "history"]}
# A quantile of all customers, whatever their arm and segment.
cap = float(np.quantile(values["spend"], CAP, method="inverted_cdf"))
values["spend_capped"] = [min(v, cap) for v in values["spend"]]
assert winsorize(np.array(values["spend"]), limits=(None, 1 - CAP)).tolist() == values["spend_capped"]


def arm_of(keep, *names):
    """Exact moments of some columns over some units."""
    return Arm(*(take(values[name], keep) for name in names))


def arrays(keep, *names):
    """The same as arrays, for the checks."""
    keep = np.array(keep)
    return [np.array(values[name])[keep] for name in names]


def proportion_test(t, c):
    """Wald's: unpooled variances with divisor n, normal quantile."""
    v_t, v_c = (a.mean[0] * (1 - a.mean[0]) / a.n for a in (t, c))
    counts = {"n_control": c.n, "n_treatment": t.n}
    return effect(t.mean[0], v_t, c.mean[0], v_c, NORMAL, **counts)


def check_ttest(made, y_t, y_c):
    agree_ttest("ttest", made, stats.ttest_ind(y_t, y_c, equal_var=False), 1e-10)


def check_ratio(made, a_t, b_t, a_c, b_c):
    """Welch's test of the linearised values."""

    def linearised(a, b):
        ratio = a.sum() / b.sum()
        return ratio + (a - ratio * b) / b.mean()

    agree_ttest("ratio", made, stats.ttest_ind(linearised(a_t, b_t), linearised(a_c, b_c), equal_var=False), 1e-9)


def check_proportion(made, y_t, y_c):
    counts = [int(y_t.sum()), len(y_t), int(y_c.sum()), len(y_c)]
    test = test_proportions_2indep(*counts, method="wald", compare="diff")
    agree("proportion statistic", made["statistic"], test.statistic, 1e-10)
    agree("proportion p", made["p_value"], test.pvalue, 1e-9)
    ends = confint_proportions_2indep(*counts, method="wald", compare="diff")
    # Next to zero an end has only the absolute accuracy of the difference.
    for ours, end in zip((made["ci_lower"], made["ci_upper"]), ends, strict=True):
        assert math.isclose(float(ours), end, rel_tol=1e-10, abs_tol=1e-15)


def check_cuped(made, y_t, x_t, y_c, x_c):
    """θ by least squares on the arm and the covariate, then Welch's test of adjusted outcomes."""
    y, x = np.concatenate([y_t, y_c]), np.concatenate([x_t, x_c])
    treated = np.repeat([1.0, 0.0], [len(y_t), len(y_c)])
    x = (x - x.mean()) / x.std()
    theta = sm.OLS(y, np.column_stack([np.ones_like(y), treated, x])).fit().params[2]
    adjusted = y - theta * x
    result = stats.ttest_ind(adjusted[treated == 1], adjusted[treated == 0], equal_var=False)
    agree_ttest("cuped", made, result, 1e-9)


def check_lin(made, y_t, x_t, y_c, x_c):
    """A regression per arm; the intercept is the mean at the overall mean of the covariate."""
    centre, spread = np.concatenate([x_t, x_c]).mean(), np.concatenate([x_t, x_c]).std()
    fits = [sm.OLS(y, sm.add_constant((x - centre) / spread)).fit() for y, x in [(y_t, x_t), (y_c, x_c)]]
    agree("lin", made["estimate"], fits[0].params[0] - fits[1].params[0], 1e-9)
    agree("lin se", made["std_error"], math.hypot(fits[0].bse[0], fits[1].bse[0]), 1e-10)
    (v_t, v_c), (d_t, d_c) = [fit.bse[0] ** 2 for fit in fits], [fit.df_resid for fit in fits]
    agree("lin df", made["df"], (v_t + v_c) ** 2 / (v_t**2 / d_t + v_c**2 / d_c), 1e-10)


def strata_of(keep, *names):
    """The arms of each stratum."""
    for stratum in sorted(set(table[STRATA])):
        inside = [s == stratum for s in table[STRATA]]
        yield [arm_of([k and i for k, i in zip(side, inside, strict=True)], *names) for side in keep]


def make_post_stratify(keep_t, keep_c, *names):
    strata = list(strata_of((keep_t, keep_c), *names))
    return post_stratify(strata, arm_of(keep_t, *names), arm_of(keep_c, *names))


def check_post_stratify(made, keep_t, keep_c, name, covariate):
    """The saturated regression with the outcome less θ times the covariate, of a regression on every cell."""
    kept = np.array(keep_t) | np.array(keep_c)
    treated, stratum = np.array(keep_t)[kept], np.array(table[STRATA])[kept]
    y, x = (np.array(values[n])[kept] for n in (name, covariate))
    x = (x - x.mean()) / x.std()
    design, weights = [], []
    for s in sorted(set(stratum)):
        for sign in (1, -1):
            design.append((stratum == s) & (treated == (sign > 0)))
            weights.append(sign * (stratum == s).mean())
    design = np.column_stack(design).astype(float)
    theta = sm.OLS(y, np.column_stack([design, x])).fit().params[-1]
    # The covariate is centred in each stratum.
    for s in set(stratum):
        x[stratum == s] -= x[stratum == s].mean()
    found = sm.OLS(y - theta * x, design).fit(cov_type="HC2").t_test(np.array(weights))
    agree("post_stratify", made["estimate"], found.effect[0], 1e-8)
    agree("post_stratify se", made["std_error"], found.sd[0, 0], 1e-8)


def analyses(metric):
    """Columns, estimator and check of a metric."""
    if metric == "spend_per_visit":
        return [(("spend", "visit"), "ratio_test", ratio_test, check_ratio)]
    found = [((metric,), "ttest", ttest, check_ttest)]
    if metric in ("visit", "conversion"):
        found.append(((metric,), "proportion_test", proportion_test, check_proportion))
    found.append(((metric, "history"), "cuped", cuped, check_cuped))
    found.append(((metric, "history"), "lin", lin, check_lin))
    return found


def row(keep_t, keep_c, columns, make, check):
    """An estimator's numbers."""
    made = make(arm_of(keep_t, *columns), arm_of(keep_c, *columns))
    check(made, *arrays(keep_t, *columns), *arrays(keep_c, *columns))
    return made


def rows(metric, keep_t, keep_c):
    """The estimators of a metric with their numbers."""
    for columns, estimator, make, check in analyses(metric):
        yield estimator, row(keep_t, keep_c, columns, make, check)
    if metric != "spend_per_visit":
        made = make_post_stratify(keep_t, keep_c, metric, "history")
        check_post_stratify(made, keep_t, keep_c, metric, "history")
        yield "post_stratify", made


segments = [("", "")]
segments += [(name, value) for name in ["channel", "zip_code"] for value in sorted(set(table[name]))]

with open(FOLDER / "expected.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["metric", "segment", "segment_value", "arm", "estimator", *FIELDS])
    for segment, value in segments:
        inside = [v == value for v in table[segment]] if segment else [True] * len(table["segment"])
        keep = {
            arm: [i and a == arm for i, a in zip(inside, table["segment"], strict=True)]
            for arm in [CONTROL, *TREATMENTS]
        }
        for arm in TREATMENTS:
            made = {metric: dict(rows(metric, keep[arm], keep[CONTROL])) for metric in METRICS}
            both = [t or c for t, c in zip(keep[arm], keep[CONTROL], strict=True)]
            share = mpf(sum(v > cap for v in take(values["spend"], both))) / sum(both)
            for estimator, fields in made["spend_capped"].items():
                plain_one = made["spend"][estimator]
                fields |= {"cap": cap, "capped_share": share, "estimate_uncapped": plain_one["estimate"]}
            for metric, estimators in made.items():
                for estimator, fields in estimators.items():
                    shown = plain({field: fields.get(field) for field in FIELDS})
                    cells = ["" if v is None else v if isinstance(v, str) else repr(v) for v in shown.values()]
                    writer.writerow([metric, segment, value, arm, estimator, *cells])
            if not segment:
                # Published with the data: visits and mean spend of each arm.
                figures = {"visit": (0.106167, 0.182757, 0.151400), "spend": (0.652789, 1.422617, 1.077202)}
                for metric, (of_control, *of_arms) in figures.items():
                    found = made[metric]["ttest"]
                    assert abs(found["mean_control"] - mpf(of_control)) < 1e-6
                    assert abs(found["mean_treatment"] - mpf(of_arms[TREATMENTS.index(arm)])) < 1e-6

write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy", "statsmodels"],
    "1e-10 relative, or 1e-14 absolute for variance_reduction, which is a difference from 1",
    "jobs/hillstrom.csv: Kevin Hillstrom's MineThatData e-mail analytics challenge (2008), 64,000 customers, public at"
    " https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html",
)

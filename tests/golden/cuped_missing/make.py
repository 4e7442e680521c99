"""CUPED and Lin's adjustment with missing covariates, on small generated data."""

import csv
import random
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import Arm, agree, agree_ttest, cuped, floats, lin, read_csv, take, write_json, write_metadata  # noqa: E402

SEED = 20260103


def generate(path):
    """Units with covariates: never missing, missing at random twice, and missing in the treatment arm alone."""
    rng = random.Random(SEED)

    def bell():
        return sum(rng.random() for _ in range(12)) - 6

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["unit", "arm", "y", "whole", "x", "z", "w"])
        for unit in range(180):
            arm = "new" if rng.random() < 0.45 else "old"
            whole, x, z, w = 20 + 5 * bell(), 100 + 15 * bell(), bell(), 3 * rng.random()
            no_x, no_z, no_w = rng.random() < 0.2, rng.random() < 0.15, rng.random() < 0.1 and arm == "new"
            # Those without a history are different: dropping them changes the estimand, the indicator does not.
            y = 50 + 0.6 * whole + 0.3 * (x - 100) + z + 8 * bell() - 6 * no_x + 3 * (arm == "new")
            cells = [whole, None if no_x else x, None if no_z else z, None if no_w else w]
            writer.writerow([unit, arm, round(y, 3), *("" if c is None else round(c, 3) for c in cells)])


generate(FOLDER / "cuped_missing.csv")
table = read_csv(FOLDER / "cuped_missing.csv")
y = floats(table["y"])
new = [a == "new" for a in table["arm"]]


def prepared(names, missing):
    """Rows that stay and covariates of all rows: as they are, or 0 beside an indicator where any is missing."""
    keep = [missing != "drop" or all(table[name][i] for name in names) for i in range(len(y))]
    covariates = []
    for name in names:
        covariates.append([float(text or 0) for text in table[name]])
        if missing == "indicator" and not all(table[name]):
            covariates.append([float(not text) for text in table[name]])
    return keep, covariates


def arms(keep, covariates):
    """Treatment and control of the rows that stay."""
    for side in (True, False):
        inside = [k and n == side for k, n in zip(keep, new, strict=True)]
        yield Arm(take(y, inside), *(take(c, inside) for c in covariates))


def arrays(keep, covariates):
    """Outcome, treatment and covariates centred over both arms, for statsmodels."""
    x = np.array([take(c, keep) for c in covariates]).T
    return np.array(take(y, keep)), np.array(take(new, keep), dtype=float), (x - x.mean(axis=0)) / x.std(axis=0)


def check_cuped(made, outcome, treated, x):
    design = np.column_stack([np.ones_like(treated), treated, x])
    fit = sm.OLS(outcome, design).fit()
    agree("cuped", made["estimate"], fit.params[1], 1e-10)
    adjusted = outcome - x @ fit.params[2:]
    agree_ttest("cuped", made, stats.ttest_ind(adjusted[treated == 1], adjusted[treated == 0], equal_var=False), 1e-9)


def check_classical(made, outcome, treated, x):
    fit = sm.OLS(outcome, np.column_stack([np.ones_like(treated), treated, x, treated[:, None] * x])).fit()
    agree("lin", made["estimate"], fit.params[1], 1e-10)
    agree("lin se", made["std_error"], fit.bse[1], 1e-10)
    agree("lin df", made["df"], fit.df_resid)
    agree("lin p", made["p_value"], fit.pvalues[1], 1e-9)
    lower, upper = fit.conf_int(0.05)[1]
    agree("lin lower", made["ci_lower"], lower, 1e-9)
    agree("lin upper", made["ci_upper"], upper, 1e-9)


def check_by_arm(made, outcome, treated, x):
    fits = [sm.OLS(outcome[treated == a], sm.add_constant(x[treated == a])).fit() for a in (1, 0)]
    (v_t, v_c), (d_t, d_c) = [fit.bse[0] ** 2 for fit in fits], [fit.df_resid for fit in fits]
    agree("by arm", made["estimate"], fits[0].params[0] - fits[1].params[0], 1e-10)
    agree("by arm se", made["std_error"], np.sqrt(v_t + v_c), 1e-10)
    agree("by arm df", made["df"], (v_t + v_c) ** 2 / (v_t**2 / d_t + v_c**2 / d_c), 1e-10)


METHODS = [
    ("cuped", {}, cuped, check_cuped),
    ("lin", {}, lin, check_by_arm),
    ("lin", {"vcov": "classical"}, lin, check_classical),
]
cases = []
for names in [["x"], ["whole"], ["x", "z"], ["whole", "x"], ["whole", "x", "z"], ["w"]]:
    for missing in ["indicator", "drop", *(["error"] if names == ["whole"] else [])]:
        keep, covariates = prepared(names, missing)
        for function, options, make, check in METHODS:
            if function == "lin" and names == ["w"] and missing == "indicator":
                continue  # The indicator is constant in the control arm: its own regression is not defined.
            made = make(*arms(keep, covariates), **options) | {"n_dropped": keep.count(False)}
            check(made, *arrays(keep, covariates))
            x = names[0] if len(names) == 1 else "{" + ", ".join(f"{n}: {n}" for n in names) + "}"
            text = ", ".join(f"{k}: '{v}'" for k, v in ({"missing": missing} | options).items())
            cases.append({"sql": f"{function}(y, {x}, arm = 'new', {{{text}}})", "effect": made})

write_json(FOLDER / "expected.json", {"table": "cuped_missing.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy", "statsmodels"],
    "1e-10 relative, or 1e-14 absolute for variance_reduction, which is a difference from 1",
    "cuped_missing.csv is generated here by Python's random.Random.random, whose stream does not change between versions",
    SEED,
)

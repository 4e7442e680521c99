"""Lin's estimate with HC0 to HC3 on the National Supported Work experiment, by the interacted regression of statsmodels."""

import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import floats, read_csv, write_json, write_metadata  # noqa: E402

COVARIATES = ["age", "educ", "black", "hisp", "married", "nodegr", "re74", "re75"]
PUBLISHED = {"HC0": 675.282, "HC1": 689.368, "HC2": 694.722, "HC3": 716.873}
table = {name: np.array(floats(texts)) for name, texts in read_csv(FOLDER.parent / "lalonde" / "lalonde.csv").items()}
y, treated = table["re78"], table["treat"] == 1


def lin(names, vcov, superpopulation=False):
    x = np.column_stack([table[name] for name in names])
    # Columns of one size, for the condition number; the coefficient of the arm does not change.
    centred = (x - x.mean(axis=0)) / x.std(axis=0)
    design = np.column_stack([np.ones_like(y), treated, centred, treated[:, None] * centred])
    fit = sm.OLS(y, design).fit(cov_type=vcov)
    estimate, variance = fit.params[1], fit.bse[1] ** 2
    if superpopulation:
        apart = fit.params[2 + len(names) :]
        variance += apart @ np.atleast_2d(np.cov(centred.T)) @ apart / len(y)
    plain = y[treated].var(ddof=1) / treated.sum() + y[~treated].var(ddof=1) / (~treated).sum()
    df, se = fit.df_resid, np.sqrt(variance)
    return {
        "estimate": estimate,
        "std_error": se,
        "df": df,
        "p_value": 2 * stats.t.sf(abs(estimate / se), df),
        "ci_lower": estimate - stats.t.isf(0.025, df) * se,
        "ci_upper": estimate + stats.t.isf(0.025, df) * se,
        "relative": estimate / fit.params[0],
        "variance_reduction": 1 - variance / plain,
        "n_treatment": int(treated.sum()),
        "n_control": int((~treated).sum()),
    }


cases = []
for names in [COVARIATES, ["re75"]]:
    for vcov, published in PUBLISHED.items():
        found = lin(names, vcov)
        if names is COVARIATES:
            assert abs(found["estimate"] - 1621.5836) < 5e-5 and abs(found["std_error"] - published) < 5e-4
        struct = "{" + ", ".join(f"{n}: {n}" for n in names) + "}"
        cases.append({"sql": f"lin(re78, {struct}, treat = 1, {{vcov: '{vcov}'}})", "effect": found})
        cases.append(
            {
                "sql": f"lin(re78, {struct}, treat = 1, {{vcov: '{vcov}', superpopulation: true}})",
                "effect": lin(names, vcov, True),
            }
        )
write_json(FOLDER / "expected.json", {"table": "../lalonde/lalonde.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["numpy", "scipy", "statsmodels"],
    "1e-9 relative",
    "the data of tests/golden/lalonde; the standard errors with all covariates are the published ones",
)

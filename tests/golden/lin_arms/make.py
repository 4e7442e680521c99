"""Lin's interacted regression over three arms: one model, the covariates centred at their mean over all of them."""

import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import agree, floats, read_csv, write_json, write_metadata  # noqa: E402

CONTROL, TREATMENTS = "No E-Mail", ["Mens E-Mail", "Womens E-Mail"]
COVARIATES = ["history", "recency"]

table = read_csv(FOLDER.parents[2] / "jobs" / "hillstrom.csv")
arms = np.array(table["segment"])
x = np.column_stack([floats(table[name]) for name in COVARIATES])
centred = x - x.mean(axis=0)
covariance = np.cov(centred, rowvar=False)


def by_arm(y, arm):
    """The regression of one arm: its intercept is the mean at the common centre."""
    inside = arms == arm
    return sm.OLS(y[inside], sm.add_constant(centred[inside])).fit()


def interacted(y):
    """One regression of everything, with a column of ones for each arm."""
    names = [CONTROL, *TREATMENTS]
    ones = [(arms == name).astype(float) for name in names]
    design = np.column_stack([*ones, *(o * centred[:, k] for k in range(len(COVARIATES)) for o in ones)])
    return sm.OLS(y, design)


def shown(estimate, std_error, df):
    t = estimate / std_error
    reach = stats.t.isf(0.025, df) * std_error
    return {
        "estimate": estimate,
        "std_error": std_error,
        "df": df,
        "p_value": 2 * stats.t.sf(abs(t), df),
        "ci_lower": estimate - reach,
        "ci_upper": estimate + reach,
    }


cases = []
for metric in ["visit", "spend"]:
    y = np.array(floats(table[metric]))
    whole = interacted(y)
    control = by_arm(y, CONTROL)
    for place, arm in enumerate(TREATMENTS, start=1):
        fit = by_arm(y, arm)
        contrast = np.zeros(whole.exog.shape[1])
        contrast[[place, 0]] = 1, -1
        estimate = fit.params[0] - control.params[0]
        v_t, v_c = fit.bse[0] ** 2, control.bse[0] ** 2
        df = (v_t + v_c) ** 2 / (v_t**2 / fit.df_resid + v_c**2 / control.df_resid)
        slopes = fit.params[1:] - control.params[1:]
        varies = slopes @ covariance @ slopes / len(y)
        for superpopulation in (False, True):
            std_error = np.sqrt(v_t + v_c + superpopulation * varies)
            effect = shown(estimate, std_error, df)
            cases.append({"metric": metric, "arm": arm, "vcov": "by_arm", "superpopulation": superpopulation, "effect": effect})
        # The two arms' own rows are all that their coefficients depend on.
        pair = np.isin(arms, [arm, CONTROL])
        k = 2 * (len(COVARIATES) + 1)
        for vcov in ["HC0", "HC1", "HC2", "HC3"]:
            found = whole.fit(cov_type=vcov).t_test(contrast)
            agree("estimate", estimate, found.effect[0], 1e-9)
            std_error = found.sd[0, 0]
            if vcov == "HC1":
                # With the rows and the coefficients of the two arms, in place of all.
                n, all_ = pair.sum(), len(y)
                std_error *= np.sqrt(n / (n - k) / (all_ / (all_ - whole.exog.shape[1])))
            effect = shown(estimate, std_error, float(pair.sum() - k))
            model = {"vcov": vcov, "superpopulation": False, "effect": effect}
            cases.append({"metric": metric, "arm": arm, **model, "std_error_of_model": found.sd[0, 0]})

write_json(FOLDER / "expected.json", {"cases": cases})
write_metadata(
    FOLDER,
    ["numpy", "scipy", "statsmodels"],
    "1e-9 relative",
    "jobs/hillstrom.csv, as in hillstrom",
)

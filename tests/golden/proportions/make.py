"""Differences of two proportions: Wald, score (Miettinen and Nurminen), Agresti and Caffo, Newcombe.

Every p-value is dual to the interval of the same method: it is the smallest α whose interval excludes 0.
"""

import sys
import warnings
from pathlib import Path

from mpmath import mp, mpf
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import NORMAL, agree, effect, normal_isf, normal_sf, write_json, write_metadata  # noqa: E402

# statsmodels also forms the ratio and the odds ratio, which divide by 0 here.
warnings.simplefilter("ignore", RuntimeWarning)

# Successes and trials of treatment, then of control.
COUNTS = [
    (0, 10, 0, 10),
    (0, 10, 0, 20),
    (0, 10, 3, 10),
    (3, 10, 0, 10),
    (10, 10, 10, 10),
    (10, 10, 0, 10),
    (10, 10, 0, 20),
    (0, 5, 8, 20),
    (5, 5, 12, 20),
    (1, 2, 0, 3),
    (2, 7, 2, 7),
    (56, 70, 48, 80),
    (9, 10, 3, 10),
    (6, 7, 2, 7),
    (5, 56, 0, 29),
    (7, 34, 1, 34),
    (1, 1000, 3, 900),
    (997, 1000, 880, 900),
    (300, 5000, 250, 5000),
    (250, 5000, 3000, 50000),
    (3894, 21307, 2262, 21306),
    (12345, 100000, 12000, 100000),
    (1, 10**7, 5, 10**7),
    (4000000, 10**7, 3990000, 10**7),
]
OPTIONS = [{}, {"confidence": 0.99}, {"alternative": "greater"}, {"alternative": "less"}]


def quantile(confidence, alternative):
    """The normal quantile of an interval."""
    alpha = 1 - mpf(confidence)
    return normal_isf(alpha / 2 if alternative == "two-sided" else alpha)


def tail(z, alternative):
    """The p-value of a normal statistic."""
    return {"two-sided": 2 * normal_sf(abs(z)), "greater": normal_sf(z), "less": normal_sf(-z)}[alternative]


def bisect(function, low, high):
    """The root of a monotone function, to every digit."""
    rising = function(high) > 0
    for _ in range(180):
        middle = (low + high) / 2
        if (function(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return (low + high) / 2


# ------------------------------------------------------------------------------------------------ the methods


def wald(x_t, n_t, x_c, n_c, confidence=0.95, alternative="two-sided"):
    """Unpooled variances with divisor n, normal quantile; the relative effect by Fieller with the same quantile."""
    p_t, p_c = mpf(x_t) / n_t, mpf(x_c) / n_c
    v_t, v_c = p_t * (1 - p_t) / n_t, p_c * (1 - p_c) / n_c
    if v_t + v_c == 0:
        # Without variance there is no inference.
        undefined = ["statistic", "p_value", "ci_lower", "ci_upper", "relative_ci_lower", "relative_ci_upper"]
        return {"estimate": p_t - p_c, "confidence": confidence} | dict.fromkeys(undefined)
    return effect(p_t, v_t, p_c, v_c, NORMAL, confidence, alternative)


def result(x_t, n_t, x_c, n_c, statistic, interval, confidence, alternative, **fields):
    """What every method other than Wald's gives; the estimate is the plain difference."""
    lower, upper = interval
    return {
        "estimate": mpf(x_t) / n_t - mpf(x_c) / n_c,
        "statistic": statistic,
        "df": NORMAL,
        "p_value": tail(statistic, alternative),
        "ci_lower": -mp.inf if alternative == "less" else lower,
        "ci_upper": mp.inf if alternative == "greater" else upper,
        "confidence": confidence,
    } | fields


def agresti_caffo(x_t, n_t, x_c, n_c, confidence=0.95, alternative="two-sided"):
    """Wald's with one success and one failure more in each arm: its centre is the difference of those proportions."""
    p_t, p_c = mpf(x_t + 1) / (n_t + 2), mpf(x_c + 1) / (n_c + 2)
    se = mp.sqrt(p_t * (1 - p_t) / (n_t + 2) + p_c * (1 - p_c) / (n_c + 2))
    q = quantile(confidence, alternative)
    interval = p_t - p_c - q * se, p_t - p_c + q * se
    statistic = (p_t - p_c) / se
    return result(x_t, n_t, x_c, n_c, statistic, interval, confidence, alternative, std_error=se)


def wilson(x, n, q):
    """Wilson's interval of one proportion."""
    p = mpf(x) / n
    centre = p + q * q / (2 * n)
    width = q * mp.sqrt(p * (1 - p) / n + q * q / (4 * mpf(n) ** 2))
    return (centre - width) / (1 + q * q / n), (centre + width) / (1 + q * q / n)


def newcombe_interval(x_t, n_t, x_c, n_c, q):
    """Newcombe's hybrid of two Wilson intervals, without a continuity correction (method 10 of his paper)."""
    p_t, p_c = mpf(x_t) / n_t, mpf(x_c) / n_c
    (l_t, u_t), (l_c, u_c) = wilson(x_t, n_t, q), wilson(x_c, n_c, q)
    difference = p_t - p_c
    lower = difference - mp.sqrt((p_t - l_t) ** 2 + (u_c - p_c) ** 2)
    upper = difference + mp.sqrt((u_t - p_t) ** 2 + (p_c - l_c) ** 2)
    return lower, upper


def newcombe(x_t, n_t, x_c, n_c, confidence=0.95, alternative="two-sided"):
    """The statistic is the quantile at which an end of the interval is 0, with the sign of the difference."""
    counts = x_t, n_t, x_c, n_c
    sign = (x_t * n_c > x_c * n_t) - (x_t * n_c < x_c * n_t)
    end = {1: 0, -1: 1, 0: 0}[sign]
    statistic = sign * bisect(lambda z: newcombe_interval(*counts, z)[end], mpf(0), mpf(100)) if sign else mpf(0)
    interval = newcombe_interval(*counts, quantile(confidence, alternative))
    return result(*counts, statistic, interval, confidence, alternative)


def score_statistic(x_t, n_t, x_c, n_c, difference, corrected=True):
    """The score statistic of p_t − p_c = difference, with the factor N / (N − 1) of Miettinen and Nurminen."""
    d, n = mpf(difference), n_t + n_c
    if d == 0:
        p_c = p_t = mpf(x_t + x_c) / n
    else:
        # The constrained maximum of the likelihood, in the closed form of their appendix.
        l3, l2 = mpf(n), (n_t + 2 * n_c) * d - n - (x_t + x_c)
        l1, l0 = (n_c * d - n - 2 * x_c) * d + x_t + x_c, x_c * d * (1 - d)
        q = l2**3 / (3 * l3) ** 3 - l1 * l2 / (6 * l3**2) + l0 / (2 * l3)
        r = mp.sqrt(max(mpf(0), l2**2 / (3 * l3) ** 2 - l1 / (3 * l3)))
        p = r if q >= 0 else -r
        angle = (mp.pi + mp.acos(max(mpf(-1), min(mpf(1), q / p**3)))) / 3 if p else mpf(0)
        p_c = 2 * p * mp.cos(angle) - l2 / (3 * l3)
        p_t = p_c + d
    variance = p_t * (1 - p_t) / n_t + p_c * (1 - p_c) / n_c
    distance = mpf(x_t) / n_t - mpf(x_c) / n_c - d
    if distance == 0:
        return mpf(0)
    if variance <= mpf(10) ** -50:
        return mp.inf if distance > 0 else -mp.inf
    return distance / mp.sqrt(variance * (mpf(n) / (n - 1) if corrected else 1))


def score(x_t, n_t, x_c, n_c, confidence=0.95, alternative="two-sided", corrected=True):
    """All differences that the score test does not reject."""
    counts, q = (x_t, n_t, x_c, n_c), quantile(confidence, alternative)
    centre = mpf(x_t) / n_t - mpf(x_c) / n_c
    lower, upper = mpf(-1), mpf(1)
    if centre > -1:
        lower = bisect(lambda d: score_statistic(*counts, d, corrected) - q, mpf(-1), centre)
    if centre < 1:
        upper = bisect(lambda d: score_statistic(*counts, d, corrected) + q, centre, mpf(1))
    return result(*counts, score_statistic(*counts, 0, corrected), (lower, upper), confidence, alternative)


METHODS = {
    "wald": (wald, "wald", False),
    "agresti-caffo": (agresti_caffo, "agresti-caffo", False),
    "newcombe": (newcombe, "newcomb", False),
    "score": (score, "score", True),
    # Mee's: without the factor N / (N − 1). Not a method of Gosset; it shows which of the two "score" is.
    "score without N / (N - 1)": (lambda *a, **o: score(*a, **o, corrected=False), "score", False),
}

# ------------------------------------------------------------------------------------------------ the same by others


def constrained_maximum(x_t, n_t, x_c, n_c, d):
    """p_c that maximises the likelihood under p_t − p_c = d, by bisection of its derivative."""

    def slope(p):
        successes = (x_t / (p + d) if x_t else 0) + (x_c / p if x_c else 0)
        failures = ((n_t - x_t) / (1 - p - d) if x_t < n_t else 0) + ((n_c - x_c) / (1 - p) if x_c < n_c else 0)
        return failures - successes

    low, high = max(mpf(0), -d), min(mpf(1), 1 - d)
    margin = (high - low) * mpf(10) ** -55
    low, high = low + margin, high - margin
    # The likelihood is concave: without a sign change the maximum is an end.
    return low if slope(low) > 0 else high if slope(high) < 0 else bisect(slope, low, high)


def check_score_limit(counts, d, q, corrected):
    """A limit of the score interval, with the likelihood maximised by search instead of in closed form."""
    x_t, n_t, x_c, n_c = counts
    p = constrained_maximum(*counts, d)
    variance = (p + d) * (1 - p - d) / n_t + p * (1 - p) / n_c
    n = n_t + n_c
    distance = mpf(x_t) / n_t - mpf(x_c) / n_c - d
    agree(f"score {counts}", distance / mp.sqrt(variance * (mpf(n) / (n - 1) if corrected else 1)), q, 1e-13)


def check(counts, theirs, correction, made, confidence, alternative):
    """statsmodels' intervals and tests, where it has them.

    Not its score interval: it maximises a wrong likelihood away from 0 (statsmodels issue 10269, in 0.15.0 too).
    """
    alpha = (1 - confidence) * (1 if alternative == "two-sided" else 2)
    ends = [made["ci_lower"], made["ci_upper"]]
    if theirs == "score":
        q = quantile(confidence, alternative)
        for end, limit in zip(ends, [q, -q], strict=True):
            if alternative == "two-sided" and mp.isfinite(end) and abs(end) < 1:
                check_score_limit(counts, end, limit, correction)
    else:
        interval = confint_proportions_2indep(*counts, theirs, alpha=alpha, compare="diff", correction=correction)
        for ours, end in zip(ends, interval, strict=True):
            if mp.isfinite(ours):
                assert abs(float(ours) - end) <= 1e-15 + 1e-10 * abs(end), (counts, theirs, float(ours), end)
    if theirs != "newcomb" and made["statistic"] != 0:
        side = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}[alternative]
        test = test_proportions_2indep(
            *counts, method=theirs, compare="diff", alternative=side, correction=correction
        )
        agree(f"{theirs} {counts}", made["statistic"], test.statistic, 1e-10)
        agree(f"{theirs} {counts}", made["p_value"], test.pvalue, 1e-9)


def published():
    """Newcombe (1998), table II, as printed: hybrid score, Mee, Miettinen and Nurminen."""
    newcombes = {
        (56, 70, 48, 80): ("0.0524", "0.3339"),
        (9, 10, 3, 10): ("0.1705", "0.8090"),
        (6, 7, 2, 7): ("0.0582", "0.8062"),
        (5, 56, 0, 29): ("-0.0381", "0.1926"),
        (0, 10, 0, 20): ("-0.1611", "0.2775"),
        (0, 10, 0, 10): ("-0.2775", "0.2775"),
        (10, 10, 0, 20): ("0.6791", "1.0000"),
        (10, 10, 0, 10): ("0.6075", "1.0000"),
    }
    for counts, figures in newcombes.items():
        made = newcombe(*counts)
        assert (f"{float(made['ci_lower']):.4f}", f"{float(made['ci_upper']):.4f}") == figures, (counts, made)
    for corrected, figures in [(False, ("0.0533", "0.3377")), (True, ("0.0528", "0.3382"))]:
        made = score(56, 70, 48, 80, corrected=corrected)
        assert (f"{float(made['ci_lower']):.4f}", f"{float(made['ci_upper']):.4f}") == figures, made
    # The R package PropCIs: diffscoreci, wald2ci with adjust = "AC" and "Wald".
    for method, lower, upper in [
        (score, 0.0270416, 0.3452912),
        (agresti_caffo, 0.01161167, 0.32172166),
        (wald, 0.02916942, 0.32377176),
    ]:
        made = method(7, 34, 1, 34)
        assert abs(made["ci_lower"] - lower) < 1e-7 and abs(made["ci_upper"] - upper) < 1e-7, made


published()
cases = []
for counts in COUNTS:
    x_t, n_t, x_c, n_c = counts
    for method, (ours, theirs, correction) in METHODS.items():
        for options in OPTIONS:
            made = ours(*counts, **options)
            if made["p_value"] is not None:
                defaults = {"confidence": 0.95, "alternative": "two-sided"} | options
                check(counts, theirs, correction, made, **defaults)
            made |= {"mean_control": mpf(x_c) / n_c, "mean_treatment": mpf(x_t) / n_t}
            made |= {"n_control": n_c, "n_treatment": n_t}
            cases.append({
                "counts": {"x_treatment": x_t, "n_treatment": n_t, "x_control": x_c, "n_control": n_c},
                "method": method,
                "options": options,
                "effect": made,
            })

write_json(FOLDER / "expected.json", cases)
write_metadata(
    FOLDER,
    ["mpmath", "statsmodels"],
    "1e-10 relative, or 1e-14 absolute for an end of an interval next to 0",
    "mpmath, checked against statsmodels (test_proportions_2indep, correction=True for 'score'; confint_proportions_2indep"
    " except for 'score', statsmodels issue 10269), the table of Newcombe (1998), Statistics in Medicine 17: 873-890, and"
    " figures of the R package PropCIs",
)

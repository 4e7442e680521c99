"""The expected numbers of tests/slt: prints each line of results and fails if its file does not hold it.

Small tables, written out here and there. Moments are exact rationals, everything after them mpmath (reference.py), and
scipy and statsmodels are asked where they have the method. Nothing is written.
"""

import json
import math
import runpy
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import statsmodels.api as sm
import xxhash
from mpmath import mp, mpf
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import (  # noqa: E402
    NORMAL,
    Arm,
    agree,
    agree_ttest,
    chi2_sf,
    cuped,
    effect,
    lin,
    normal_isf,
    normal_sf,
    ratio_test,
    to_float,
    ttest,
    welch,
)

SLT = FOLDER.parent.parent / "slt"
FIELDS = """estimate std_error statistic df p_value ci_lower ci_upper confidence relative relative_std_error
relative_ci_lower relative_ci_upper mean_control mean_treatment n_control n_treatment rows_control rows_treatment
n_dropped variance_reduction method note""".split()


def shown(value):
    """A value as the runner of the files prints it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, str)):
        return str(value)
    value = float(value) if isinstance(value, Fraction) else to_float(value)
    return "NaN" if math.isnan(value) else repr(value)


def record(file, name, *values):
    """One row of results that a file holds."""
    line = " ".join(shown(value) for value in values)
    print(f"{file} {name}\n  {line}")
    if line not in (SLT / f"{file}.slt").read_text(encoding="utf-8").splitlines():
        print("  is not in the file")
        MISSING.append(f"{file} {name}")


MISSING = []


def record_effect(file, name, made, method, note=None, dropped=0):
    """All fields of an effect, as `unnest` spreads them."""
    fields = made | {"method": method, "note": note, "n_dropped": dropped}
    record(file, name, *(fields.get(field) for field in FIELDS))


def record_some(file, name, made, *fields):
    """Some fields of an effect."""
    record(file, name, *(made.get(field) for field in fields))


# --------------------------------------------------------------------------------------------------------- ttest

T, C = [12.0, 15.5, 11.0, 14.25], [9.0, 10.5, 8.0, 13.0, 7.5]
t, c = Arm(T), Arm(C)
agree_ttest("welch", ttest(t, c), stats.ttest_ind(T, C, equal_var=False))
agree_ttest("student", ttest(t, c, "equal"), stats.ttest_ind(T, C))
record_effect("ttest", "welch", ttest(t, c), "welch")
record_effect("ttest", "student", ttest(t, c, "equal"), "student")
for alternative in ["greater", "less"]:
    made = ttest(t, c, alternative=alternative, confidence=0.9)
    agree(alternative, made["p_value"], stats.ttest_ind(T, C, equal_var=False, alternative=alternative).pvalue)
    record_effect("ttest", alternative, made, "welch")
for relative in ["log", "delta"]:
    record_effect("ttest", relative, ttest(t, c, relative=relative), "welch")
two = ttest(Arm([3.0, 5.0]), Arm([1.0, 2.0]))
agree_ttest("two", two, stats.ttest_ind([3.0, 5.0], [1.0, 2.0], equal_var=False))
no_interval = "no relative interval: the mean of control does not differ from 0 (fieller)"
record_effect("ttest", "two units in each arm", two, "welch", no_interval)
one_flat = ttest(Arm([5.0, 5.0, 5.0]), Arm([1.0, 2.0, 4.0]))
agree_ttest("one flat", one_flat, stats.ttest_ind([5.0, 5.0, 5.0], [1.0, 2.0, 4.0], equal_var=False))
record_effect("ttest", "no variance in one arm", one_flat, "welch", no_interval)
far = ttest(Arm([1e9 + y for y in T]), Arm([1e9 + y for y in C]))
record_effect("ttest", "an offset of 1e9", far, "welch")
negative = ttest(Arm([-y for y in T]), Arm([-y for y in C]))
record_effect("ttest", "a negative mean of control", negative, "welch")
zero = ttest(Arm([1.0, 2.0, 4.0]), Arm([-1.0, 1.0, 0.0]))
record_effect("ttest", "a mean of control of 0", zero, "welch", "no relative effect: the mean of control is 0")
for segment, (a, b) in {"x": ([12.0, 15.5], [9.0, 10.5]), "y": ([11.0, 14.25], [8.0, 13.0, 7.5])}.items():
    record("ttest", f"segment {segment}", segment, *(ttest(Arm(a), Arm(b))[f] for f in ["estimate", "std_error", "df"]))
record_some(
    "ttest", "the first day", ttest(Arm([12.0, 15.5]), Arm([9.0, 10.5, 8.0])), "estimate", "std_error", "p_value"
)

# ----------------------------------------------------------------------------------------------- proportion_test


def proportions(x_t, n_t, x_c, n_c):
    """Counts and rates of two arms."""
    counts = {"n_control": n_c, "n_treatment": n_t, "rows_control": n_c, "rows_treatment": n_t}
    return mpf(x_t) / n_t, mpf(x_c) / n_c, counts


def wald(x_t, n_t, x_c, n_c, **options):
    """Unpooled variances with divisor n, and the normal law."""
    p_t, p_c, counts = proportions(x_t, n_t, x_c, n_c)
    return effect(p_t, p_t * (1 - p_t) / n_t, p_c, p_c * (1 - p_c) / n_c, NORMAL, **options) | counts


def agresti_caffo(x_t, n_t, x_c, n_c):
    """Wald's after one success and one failure more in each arm; estimate and relative effect are the plain ones."""
    p_t, p_c, counts = proportions(x_t, n_t, x_c, n_c)
    more = wald(x_t + 1, n_t + 2, x_c + 1, n_c + 2)
    plain = {"estimate": p_t - p_c, "relative": (p_t - p_c) / p_c, "mean_control": p_c, "mean_treatment": p_t}
    return more | plain | counts


def newcombe_interval(x_t, n_t, x_c, n_c, q):
    """From two Wilson intervals, which are the roots of (p − P)² = q² P (1 − P) / n."""

    def wilson(x, n):
        p, k = mpf(x) / n, q * q / n
        root = mp.sqrt((2 * p + k) ** 2 - 4 * (1 + k) * p * p)
        return p - (2 * p + k - root) / 2 / (1 + k), (2 * p + k + root) / 2 / (1 + k) - p

    (down_t, up_t), (down_c, up_c) = wilson(x_t, n_t), wilson(x_c, n_c)
    difference = mpf(x_t) / n_t - mpf(x_c) / n_c
    return difference - mp.hypot(down_t, up_c), difference + mp.hypot(up_t, down_c)


def newcombe(*counts):
    """The statistic is the quantile whose interval ends at 0."""
    lower, upper = newcombe_interval(*counts, normal_isf(mpf("0.025")))
    z = mp.findroot(lambda q: newcombe_interval(*counts, q)[0], 2)
    inference = {"statistic": z, "p_value": 2 * normal_sf(z), "ci_lower": lower, "ci_upper": upper}
    return wald(*counts) | inference


BIKES = 56, 70, 48, 80
for method, made in {
    "wald": wald(*BIKES),
    "agresti-caffo": agresti_caffo(*BIKES),
    "newcombe": newcombe(*BIKES),
}.items():
    theirs = confint_proportions_2indep(*BIKES, method={"newcombe": "newcomb"}.get(method, method), compare="diff")
    # confidence 1 − 0.05 and normal quantiles of 0.975 differ in the last digits.
    agree(f"{method} lower", made["ci_lower"], theirs[0], 1e-10)
    agree(f"{method} upper", made["ci_upper"], theirs[1], 1e-10)
    record_effect("proportion_test", method, made, method)
record_effect("proportion_test", "wald, greater", wald(*BIKES, alternative="greater", confidence=0.9), "wald")
# Newcombe (1998), table II, method 6: "(d) score, Miettinen and Nurminen", to four decimals.
record("proportion_test", "score", "0.0528", "0.3382")
record("proportion_test", "score of few", "0.17", "0.8406")
record("proportion_test", "score at the edge", "0.7156", "1.0")
for segment, counts in {"a": (2, 4, 1, 4), "b": (3, 5, 1, 3)}.items():
    record(
        "proportion_test",
        f"segment {segment}",
        segment,
        *(wald(*counts)[f] for f in ["estimate", "std_error", "p_value"]),
    )

# ---------------------------------------------------------------------------------------------------- ratio_test

NUM_T, DEN_T = [7.0, 3.5, 9.0, 4.0, 6.25], [3.0, 2.0, 4.0, 1.0, 2.0]
NUM_C, DEN_C = [5.0, 2.0, 4.5, 3.0], [2.0, 1.0, 3.0, 2.0]
made = ratio_test(Arm(NUM_T, DEN_T), Arm(NUM_C, DEN_C))


def linearised(num, den):
    """(num − R den) / mean(den), whose mean is 0."""
    num, den = np.array(num), np.array(den)
    return (num - num.sum() / den.sum() * den) / den.mean()


found = stats.ttest_ind(
    linearised(NUM_T, DEN_T) + sum(NUM_T) / sum(DEN_T),
    linearised(NUM_C, DEN_C) + sum(NUM_C) / sum(DEN_C),
    equal_var=False,
)
agree_ttest("ratio", made, found, 1e-10)
record_effect("ratio_test", "delta method", made, "delta")
less = ratio_test(Arm(NUM_T, DEN_T), Arm(NUM_C, DEN_C), alternative="less", confidence=0.8, relative="log")
record_effect("ratio_test", "less", less, "delta")
# Offsets that keep the doubles exact.
far = ratio_test(Arm([1e9 + y for y in NUM_T], DEN_T), Arm([1e9 + y for y in NUM_C], DEN_C))
record_effect("ratio_test", "an offset of 1e9", far, "delta")
ones = ttest(Arm(NUM_T), Arm(NUM_C))
record_effect("ratio_test", "a denominator of 1", ones, "delta")

# ----------------------------------------------------------------------------------------------- clustered_ttest

UNIT_SEED = 0x676F737365740001
CLUSTERS_T = [(1, [3.0, 5.0]), (2, [4.0]), (3, [6.0, 6.5, 7.0]), (4, [2.0]), (5, [5.5, 4.5])]
CLUSTERS_C = [(6, [2.0, 1.5]), (7, [3.0]), (8, [2.5, 4.0]), (9, [1.0])]


def cluster_mean(clusters, factor=None):
    """Mean per row and its variance; `clusters` are (sum, rows)."""
    total, n, g = sum(s for s, _ in clusters), sum(k for _, k in clusters), len(clusters)
    mean = total / n
    squares = sum((s - mean * k) ** 2 for s, k in clusters) / n**2
    return mean, squares * (factor(clusters) if factor else Fraction(g, g - 1)), g, n


def clustered(clusters_t, clusters_c, factor=None, units=True, **options):
    """Welch with the clusters less one as degrees of freedom."""
    sums = [[(sum(map(Fraction, y)), len(y)) for _, y in arm] for arm in (clusters_t, clusters_c)]
    (m_t, v_t, g_t, n_t), (m_c, v_c, g_c, n_c) = (cluster_mean(arm, factor) for arm in sums)
    as_mpf = [mpf(x.numerator) / x.denominator for x in (m_t, v_t, m_c, v_c)]
    df = welch(as_mpf[1], g_t - 1, as_mpf[3], g_c - 1)
    counts = {"rows_control": n_c, "rows_treatment": n_t} | ({"n_control": g_c, "n_treatment": g_t} if units else {})
    return effect(*as_mpf, df, **options) | counts


made = clustered(CLUSTERS_T, CLUSTERS_C)
variances = []
for arm in (CLUSTERS_T, CLUSTERS_C):
    y, groups = [y for _, ys in arm for y in ys], [unit for unit, ys in arm for _ in ys]
    fit = sm.OLS(y, np.ones(len(y))).fit(cov_type="cluster", cov_kwds={"groups": np.array(groups)})
    variances.append(fit.bse[0] ** 2)
agree("clustered", made["std_error"], math.sqrt(sum(variances)))
record_effect("clustered_ttest", "units", made, "clustered")
record_some("clustered_ttest", "units, an offset of 1e9", made, "estimate", "std_error", "df", "p_value")
less = clustered(CLUSTERS_T, CLUSTERS_C, alternative="less", confidence=0.9, relative="delta")
record_effect("clustered_ttest", "less", less, "clustered")
singles = [[(i, [y]) for i, y in enumerate(arm)] for arm in (T, C)]
agree("clusters of one row", clustered(*singles)["std_error"], ttest(t, c)["std_error"])
record_effect("clustered_ttest", "clusters of one row", ttest(t, c), "clustered")


def bucket_of(unit, buckets):
    """The bucket of an integer unit: XXH3-128 of a tag and 128 bits, modulo."""
    return xxhash.xxh3_128_intdigest(b"\x01" + unit.to_bytes(16, "little", signed=True), seed=UNIT_SEED) % buckets


def hashed(rows, buckets):
    """Rows (unit, y) as clusters by bucket."""
    inside = {}
    for unit, y in rows:
        inside.setdefault(bucket_of(unit, buckets), []).append(y)
    return sorted(inside.items())


# 200 units of 64 buckets, two rows each: i runs from 0 to 399, the unit is i modulo 200, the arm its parity.
MANY = [(i % 200, float(i * i % 37)) for i in range(400)]
ARMS = [hashed([row for row in MANY if row[0] % 2 == odd], 64) for odd in (1, 0)]


def without_own_squares(clusters):
    """N² / (N² − Σ n_k²)."""
    n = sum(k for _, k in clusters)
    return Fraction(n**2, n**2 - sum(k * k for _, k in clusters))


in_buckets = clustered(*ARMS, factor=without_own_squares, units=False)
record_effect("clustered_ttest", "buckets", in_buckets, "clustered", "units are in buckets and not counted")

# ------------------------------------------------------------------------------------------------- cuped and lin

Y_T, X_T, Z_T = [12.0, 15.5, 11.0, 14.25, 13.0, 17.0], [3.0, 5.0, 2.0, 4.5, 4.0, 6.0], [1.0, 0.0, 2.0, 1.0, 3.0, 0.5]
Y_C, X_C, Z_C = (
    [9.0, 10.5, 8.0, 13.0, 7.5, 10.0, 11.0],
    [3.0, 4.0, 2.5, 6.0, 2.0, 3.0, 5.0],
    [2.0, 1.0, 0.0, 1.5, 2.5, 1.0, 3.0],
)


def indicated(values):
    """A covariate with gaps: 0 there, and an indicator."""
    return [v or 0.0 for v in values], [float(v is None) for v in values]


def check_interacted(name, made, y_t, x_t, y_c, x_c):
    """Lin's estimate and its classical standard error are those of one interacted regression."""
    y, treated = np.array(y_t + y_c), np.array([1.0] * len(y_t) + [0.0] * len(y_c))
    x = np.column_stack([np.array(a + b) for a, b in zip(x_t, x_c, strict=True)])
    x = x - x.mean(axis=0)
    fit = sm.OLS(y, np.column_stack([np.ones(len(y)), treated, x, treated[:, None] * x])).fit()
    agree(f"{name} estimate", made["estimate"], fit.params[1])
    agree(f"{name} std_error", made["std_error"], fit.bse[1])
    agree(f"{name} p", made["p_value"], fit.pvalues[1], 1e-9)


def check_cuped(name, made, y_t, x_t, y_c, x_c):
    """Welch's test of y − θ x with θ from a regression with an intercept for each arm."""
    y, treated = np.array(y_t + y_c), np.array([1.0] * len(y_t) + [0.0] * len(y_c))
    x = np.column_stack([np.array(a + b) for a, b in zip(x_t, x_c, strict=True)])
    theta = sm.OLS(y, np.column_stack([1 - treated, treated, x])).fit().params[2:]
    left = y - x @ theta
    agree_ttest(name, made, stats.ttest_ind(left[treated == 1], left[treated == 0], equal_var=False), 1e-9)


one, both = (Arm(Y_T, X_T), Arm(Y_C, X_C)), (Arm(Y_T, X_T, Z_T), Arm(Y_C, X_C, Z_C))
check_cuped("one covariate", cuped(*one), Y_T, [X_T], Y_C, [X_C])
check_cuped("two covariates", cuped(*both), Y_T, [X_T, Z_T], Y_C, [X_C, Z_C])
check_interacted("one covariate", lin(*one, vcov="classical"), Y_T, [X_T], Y_C, [X_C])
check_interacted("two covariates", lin(*both, vcov="classical"), Y_T, [X_T, Z_T], Y_C, [X_C, Z_C])
record_effect("cuped", "one covariate", cuped(*one), "cuped")
record_effect("cuped", "two covariates", cuped(*both), "cuped")
record_effect("cuped", "greater", cuped(*one, alternative="greater", confidence=0.9, relative="log"), "cuped")
record_effect("lin", "one covariate", lin(*one), "lin by arm")
record_effect("lin", "two covariates", lin(*both), "lin by arm")
record_effect("lin", "classical", lin(*both, vcov="classical"), "lin classical")
record_effect("lin", "less", lin(*one, alternative="less", confidence=0.9, relative="delta"), "lin by arm")

GAPPY_T, GAPPY_C = [3.0, None, 2.0, 4.5, None, 6.0], [3.0, 4.0, None, 6.0, 2.0, None, 5.0]
gaps = Arm(Y_T, *indicated(GAPPY_T)), Arm(Y_C, *indicated(GAPPY_C))
check_cuped("gaps", cuped(*gaps), Y_T, indicated(GAPPY_T), Y_C, indicated(GAPPY_C))
check_interacted("gaps", lin(*gaps, vcov="classical"), Y_T, indicated(GAPPY_T), Y_C, indicated(GAPPY_C))
note = "missing covariates are 0 with an indicator: '{} is missing' in 4 rows"
record_effect("cuped", "gaps", cuped(*gaps), "cuped", note.format("x"))
record_effect("cuped", "gaps of a column without a name", cuped(*gaps), "cuped", note.format("x1"))
record_effect("lin", "gaps", lin(*gaps), "lin by arm", note.format("x"))


def kept(y, x):
    """The rows whose covariate is there."""
    pairs = [(a, b) for a, b in zip(y, x, strict=True) if b is not None]
    return Arm([a for a, _ in pairs], [b for _, b in pairs])


whole = kept(Y_T, GAPPY_T), kept(Y_C, GAPPY_C)
record_effect("cuped", "gaps left out", cuped(*whole), "cuped", dropped=4)
record_effect("lin", "gaps left out", lin(*whole), "lin by arm", dropped=4)
far = Arm([1e9 + y for y in Y_T], [x - 1e9 for x in X_T]), Arm([1e9 + y for y in Y_C], [x - 1e9 for x in X_C])
for name, method, estimator in [("cuped", "cuped", cuped), ("lin", "lin by arm", lin)]:
    record_effect(name, "an offset of 1e9", estimator(*far), method)
    nothing = "left out, constant or dependent on the covariates before: 'k'; not adjusted: no covariate is left"
    plain = ttest(Arm(Y_T), Arm(Y_C)) | {"variance_reduction": 0.0}
    record_effect(name, "nothing to adjust by", plain, method, nothing)
    for segment, (a, b) in {"first": (slice(0, 3), slice(0, 4)), "last": (slice(3, 6), slice(4, 7))}.items():
        made = estimator(Arm(Y_T[a], X_T[a]), Arm(Y_C[b], X_C[b]))
        record(
            name,
            f"segment {segment}",
            segment,
            *(made[f] for f in ["estimate", "std_error", "df", "variance_reduction"]),
        )

# ----------------------------------------------------------------------------------------------------- bootstrap

# The weights again, from FIPS 197; the script writes its files once more, the same bytes.
draw = runpy.run_path(str(FOLDER.parent / "weights" / "make.py"))["weight"]
UNITS_T = [(1, [3.0, 5.0]), (2, [4.0]), (3, [6.0, 6.5, 7.0]), (4, [2.0]), (5, [5.5, 4.5]), (11, [8.0])]
UNITS_C = [(6, [2.0, 1.5]), (7, [3.0]), (8, [2.5, 4.0]), (9, [1.0]), (10, [5.0, 2.0, 3.5])]
B = 199


def resampled(units_t, units_c, seed, denominator=len):
    """Estimate, replicates of the effect and of the mean of control, exactly."""

    def arm(units):
        totals = [(sum(map(Fraction, y)), Fraction(denominator(y))) for _, y in units]
        hashes = [xxhash.xxh3_128_intdigest(b"\x01" + u.to_bytes(16, "little"), seed=UNIT_SEED) for u, _ in units]
        means = []
        for b in range(B):
            weights = [draw(unit, b, seed) for unit in hashes]
            d = sum(w * d for w, (_, d) in zip(weights, totals, strict=True))
            y = sum(w * y for w, (y, _) in zip(weights, totals, strict=True))
            means.append(y / d if d else None)
        return sum(y for y, _ in totals) / sum(d for _, d in totals), means

    (m_t, means_t), (m_c, means_c) = arm(units_t), arm(units_c)
    pairs = [(a, b) for a, b in zip(means_t, means_c, strict=True) if a is not None and b is not None]
    return m_t, m_c, [a - b for a, b in pairs], [b for _, b in pairs]


def moments_of(x, y):
    """Covariance with divisor n − 1."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / (len(x) - 1)
    return mpf(covariance.numerator) / covariance.denominator


def bootstrap(units_t, units_c, interval, seed=0, confidence=0.9, denominator=len):
    """Percentile, basic and normal intervals of the replicates, two-sided."""
    m_t, m_c, effects, controls = resampled(units_t, units_c, seed, denominator)
    estimate = m_t - m_c
    as_mpf = [mpf(x.numerator) / x.denominator for x in (m_t, m_c, estimate)]
    v, v_c, k = moments_of(effects, effects), moments_of(controls, controls), moments_of(effects, controls)
    se, count = mp.sqrt(v), len(effects)
    r = as_mpf[2] / as_mpf[1]
    plain = {
        "estimate": as_mpf[2],
        "std_error": se,
        "statistic": as_mpf[2] / se,
        "confidence": confidence,
        "relative": r,
        "relative_std_error": mp.sqrt(v - 2 * r * k + r * r * v_c) / as_mpf[1],
        "mean_control": as_mpf[1],
        "mean_treatment": as_mpf[0],
        "n_control": len(units_c),
        "n_treatment": len(units_t),
        "rows_control": sum(len(y) for _, y in units_c),
        "rows_treatment": sum(len(y) for _, y in units_t),
    }
    if interval == "normal":
        q, z = normal_isf((1 - mpf(confidence)) / 2), as_mpf[2] / se
        # Fieller: the λ with (estimate − λ m_c)² = q² (v − 2 λ k + λ² v_c).
        a, b = as_mpf[1] ** 2 - q * q * v_c, as_mpf[2] * as_mpf[1] - q * q * k
        root = mp.sqrt(b * b - a * (as_mpf[2] ** 2 - q * q * v))
        ends = {"ci_lower": as_mpf[2] - q * se, "ci_upper": as_mpf[2] + q * se}
        relative = {"relative_ci_lower": (b - root) / a, "relative_ci_upper": (b + root) / a}
        return plain | {"df": NORMAL, "p_value": 2 * normal_sf(abs(z))} | ends | relative
    effects.sort()
    at = int((1 - Fraction(str(confidence))) / 2 * (count + 1))
    lower, upper = effects[at - 1], effects[count - at]
    null = 2 * estimate if interval == "basic" else 0
    below, above = 1 + sum(e <= null for e in effects), 1 + sum(e >= null for e in effects)
    if interval == "basic":
        lower, upper = 2 * estimate - upper, 2 * estimate - lower
    lifts = sorted(e / abs(c) for e, c in zip(*resampled(units_t, units_c, seed, denominator)[2:], strict=True))
    return plain | {
        "p_value": mpf(min(2 * min(below, above), count + 1)) / (count + 1),
        "ci_lower": mpf(lower.numerator) / lower.denominator,
        "ci_upper": mpf(upper.numerator) / upper.denominator,
        "relative_ci_lower": mpf(lifts[at - 1].numerator) / lifts[at - 1].denominator,
        "relative_ci_upper": mpf(lifts[count - at].numerator) / lifts[count - at].denominator,
    }


def empty(seed):
    """What is said of replicates without a unit in an arm."""
    return f"left out, empty in an arm: {B - len(resampled(UNITS_T, UNITS_C, seed)[2])} of {B} replicates"


for interval in ["percentile", "basic", "normal"]:
    record_effect("bootstrap", interval, bootstrap(UNITS_T, UNITS_C, interval), f"bootstrap {interval}", empty(0))
made = bootstrap(UNITS_T, UNITS_C, "percentile", seed=7)
record_effect("bootstrap", "another seed", made, "bootstrap percentile", empty(7))
# The two one-sided p-values count every replicate once, and 1 each, over the replicates and 1.
counted = len(resampled(UNITS_T, UNITS_C, 7)[2])
record("bootstrap", "one-sided", True, True, Fraction(counted + 2, counted + 1))
made = bootstrap(UNITS_T, UNITS_C, "percentile")
record(
    "bootstrap",
    "percentile, an offset of 1e9",
    round(float(made["estimate"]), 9),
    round(float(made["std_error"]), 9),
    True,
)
# The denominator of a unit is twice its rows and one more.
ratio = bootstrap(UNITS_T, UNITS_C, "percentile", seed=7, denominator=lambda y: 2 * len(y) + 1)
record_effect("bootstrap", "ratio", ratio, "bootstrap percentile", empty(7))

# ----------------------------------------------------------------------------------------------------------- srm


def srm(observed, expected):
    """Pearson's chi-squared."""
    n, weight = sum(observed.values()), sum(Fraction(str(w)) for w in expected.values())
    shares = {arm: Fraction(str(w)) * n / weight for arm, w in expected.items()}
    statistic = sum((observed.get(arm, 0) - e) ** 2 / e for arm, e in shares.items())
    statistic, df = mpf(statistic.numerator) / statistic.denominator, len(expected) - 1
    found = stats.chisquare([observed.get(arm, 0) for arm in shares], [float(e) for e in shares.values()])
    agree("srm", chi2_sf(statistic, df), found.pvalue, 1e-10)
    return statistic, float(df), chi2_sf(statistic, df), n


record("srm", "two arms", *srm({"a": 480, "b": 520}, {"a": 1, "b": 1}))
record("srm", "two to one", *srm({"a": 480, "b": 520}, {"a": 1, "b": 2}))
record("srm", "an arm that nobody has", *srm({"a": 480, "b": 520}, {"a": 49, "b": 49, "c": 2}))
record("srm", "three arms", *srm({"a": 334, "b": 333, "c": 333}, {"a": 1, "b": 1, "c": 1}))

# --------------------------------------------------------------------------------------------- moments, exact_sum


def column(name, values, role="covariate"):
    """A column as describe_summary tells it."""
    arm = Arm(values)
    return {
        "mean": to_float(arm.mean[0]),
        "name": name,
        "role": role,
        "variance": to_float(arm.comoment[0, 0] / (arm.n - 1)),
    }


def described(n, dropped, *columns):
    """The JSON of a summary of moments."""
    return json.dumps({"columns": columns, "kind": "moments", "n": n, "n_dropped": dropped}, separators=(",", ":"))


record("moments", "json", described(4, 0, column("y", T, "outcome")))
record("moments", "json, an offset of 1e9", described(4, 0, column("y", [1e9 + y for y in T], "outcome")))
several = [column("num", T, "outcome"), column("den", [2] * 4, "outcome"), column("day", [1, 2, 1, 2])]
several += [
    column("x2", [1, 0, 3, 4]),
    column("x3", [1, 2, 1, 2]),
    column("x4", [0] * 4),
    column("x2 is missing", [0, 1, 0, 0]),
]
record("moments", "json of several columns", described(4, 0, *several))
record(
    "moments", "json without gaps", described(3, 1, column("y", [12, 11, 14.25], "outcome"), column("x1", [1, 3, 4]))
)
missing = [float(i % 5 == 0) for i in range(1, 121)]
gaps = [column("y", range(1, 121), "outcome"), column("one", [1] * 120, "outcome")]
gaps += [column("x", [1 - m for m in missing]), column("x is missing", missing)]
record("describe_summary", "json of gaps", described(120, 0, *gaps))
EXACT = {
    "cancellation": [1e16, 1.0, -1e16, 0.25],
    "tenths": [0.1] * 10,
    "subnormals": [5e-324, 5e-324, 1e300, -1e300],
    "half way": [1.0, 2.0**-53, 2.0**-105],
}
for name, values in EXACT.items():
    total = sum(map(Fraction, values))
    assert float(total) == math.fsum(values)
    record("exact_sum", name, float(total), float(total) / len(values))

if MISSING:
    sys.exit(f"not in their files: {', '.join(MISSING)}")

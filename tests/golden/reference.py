"""What the scripts of the golden numbers share.

Estimators are computed from exact moments: doubles are rationals, so the sums of x and of x*y have no rounding at all.
Everything after the moments is mpmath at 60 digits, and each number is rounded to a double once, at the end. Each script
then checks what it computed against scipy and statsmodels, where they have the method, before it writes anything.
"""

import csv
import functools
import importlib.metadata
import json
import math
import platform
from fractions import Fraction

from mpmath import mp, mpf

mp.dps = 60
NORMAL = mp.inf


# ---------------------------------------------------------------------------------------------------- distributions


def t_sf(t, df):
    """P(T > t) of Student's t, to at least 50 digits in either tail."""
    t, df = mpf(t), mpf(df)
    if df == NORMAL:
        return normal_sf(t)
    if t < 0:
        return 1 - t_sf(-t, df)
    if t == 0:
        return mpf(1) / 2
    if t * t > df / 4:
        # The tail itself is the regularised incomplete beta function at x = df / (df + t²).
        return _beta_ratio(df / 2, mpf(1) / 2, df / (df + t * t)) / 2
    # Near the centre the other tail's series converges; the subtraction costs as many digits as the tail is small.
    with mp.workdps(mp.dps + 30 + int(t * t / 4)):
        return (1 - _beta_ratio(mpf(1) / 2, df / 2, t * t / (df + t * t))) / 2


def _beta_ratio(a, b, x):
    """I_x(a, b) by the series of DLMF 8.17.8, whose terms are all positive."""
    term = total = mpf(1)
    n = 0
    while term > total * mp.eps:
        term *= (a + b + n) / (a + 1 + n) * x
        total += term
        n += 1
    log_front = a * mp.log(x) + b * mp.log1p(-x) - mp.log(a)
    log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    # The remainder of the series is below its last term times 1 / (1 - x).
    return total * mp.exp(log_front - log_beta)


def normal_sf(z):
    """P(Z > z) of the standard normal."""
    return mp.erfc(mpf(z) / mp.sqrt(2)) / 2


def chi2_sf(x, df):
    """P(X > x) of chi-squared."""
    return mp.gammainc(mpf(df) / 2, mpf(x) / 2, mp.inf, regularized=True)


@functools.lru_cache(maxsize=None)
def t_isf(p, df):
    """The t with P(T > t) = p, by Newton's method on the logarithm of the tail."""
    p, df = mpf(p), mpf(df)
    if p == mpf(1) / 2:
        return mpf(0)
    if p > mpf(1) / 2:
        return -t_isf(1 - p, df)
    from scipy import stats

    start = stats.norm.isf(float(p)) if df == NORMAL else stats.t.isf(float(p), float(df))
    t = mpf(float(start))
    for _ in range(50):
        tail = t_sf(t, df)
        step = mp.log(tail / p) * tail / _t_pdf(t, df)
        t += step
        if abs(step) < abs(t) * mpf(10) ** -50:
            return t
    raise ArithmeticError(f"no convergence of t_isf({p}, {df})")


def normal_isf(p):
    """The z with P(Z > z) = p."""
    return t_isf(p, NORMAL)


def _t_pdf(t, df):
    if df == NORMAL:
        return mp.npdf(t)
    log_front = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return mp.exp(log_front - (df + 1) / 2 * mp.log1p(t * t / df))


# ---------------------------------------------------------------------------------------------------- exact moments


class Column:
    """A column of doubles as integers over one power of two, so that sums of values and products are integers."""

    def __init__(self, values):
        ratios = [float(v).as_integer_ratio() for v in values]
        self.denominator = max((d for _, d in ratios), default=1)
        self.integers = [n * (self.denominator // d) for n, d in ratios]


class Arm:
    """Exact moments of one arm: n, means and centred co-moments of its columns (the outcome first)."""

    def __init__(self, *columns):
        columns = [Column(c) for c in columns]
        self.n = n = len(columns[0].integers)
        sums = [Fraction(sum(c.integers), c.denominator) for c in columns]
        self.mean = [rational(s / n) for s in sums]

        def comoment(i, j):
            a, b = columns[i], columns[j]
            product = sum(x * y for x, y in zip(a.integers, b.integers, strict=True))
            return rational(Fraction(product, a.denominator * b.denominator) - sums[i] * sums[j] / n)

        width = range(len(columns))
        self.comoment = mp.matrix(len(columns))
        for i in width:
            for j in width:
                self.comoment[i, j] = comoment(i, j) if i <= j else self.comoment[j, i]

    def split(self):
        """Outcome's sum of squares, covariates' cross-products with it, covariates' matrix; all centred."""
        k = len(self.mean) - 1
        sxy = mp.matrix([self.comoment[0, i + 1] for i in range(k)])
        sxx = mp.matrix(k)
        for i in range(k):
            for j in range(k):
                sxx[i, j] = self.comoment[i + 1, j + 1]
        return self.comoment[0, 0], sxy, sxx


def rational(x):
    """A Fraction as an mpf."""
    return mpf(x.numerator) / mpf(x.denominator)


def dot(a, b):
    """Inner product of two column vectors."""
    return mp.fdot(zip(a, b, strict=True))


# ---------------------------------------------------------------------------------------------------- estimators


def welch(v_t, n_t, v_c, n_c):
    """Welch–Satterthwaite degrees of freedom of variances of means whose own degrees of freedom are n_t and n_c."""
    return (v_t + v_c) ** 2 / (v_t**2 / n_t + v_c**2 / n_c)


def effect(m_t, v_t, m_c, v_c, df, confidence=0.95, alternative="two-sided", relative="fieller", **fields):
    """The inference of m_t − m_c, whose two means are independent with variances v_t and v_c."""
    alpha = 1 - mpf(confidence)
    estimate, se = m_t - m_c, mp.sqrt(v_t + v_c)
    t = estimate / se
    p = {"two-sided": 2 * t_sf(abs(t), df), "greater": t_sf(t, df), "less": t_sf(-t, df)}[alternative]
    q = t_isf(alpha / 2 if alternative == "two-sided" else alpha, df)

    def ends(interval):
        if interval is None:
            return None, None
        lower, upper = interval
        return (-mp.inf if alternative == "less" else lower), (mp.inf if alternative == "greater" else upper)

    lower, upper = ends((estimate - q * se, estimate + q * se))
    intervals = {"fieller": fieller, "log": log_ratio, "delta": delta}
    relative_lower, relative_upper = ends(intervals[relative](m_t, v_t, m_c, v_c, q) if m_c else None)
    return {
        "estimate": estimate,
        "std_error": se,
        "statistic": t,
        "df": df,
        "p_value": p,
        "ci_lower": lower,
        "ci_upper": upper,
        "confidence": confidence,
        "relative": estimate / abs(m_c) if m_c else None,
        "relative_std_error": relative_se(m_t, v_t, m_c, v_c) if m_c else None,
        "relative_ci_lower": relative_lower,
        "relative_ci_upper": relative_upper,
        "mean_control": m_c,
        "mean_treatment": m_t,
    } | fields


def relative_se(m_t, v_t, m_c, v_c):
    """Delta-method standard error of m_t / m_c."""
    return mp.sqrt(v_t / m_c**2 + m_t**2 * v_c / m_c**4)


def fieller(m_t, v_t, m_c, v_c, q):
    """The relative effects between the two roots ρ of (m_t − ρ m_c)² = q² (v_t + ρ² v_c), or None without an interval."""
    a = m_c**2 - q**2 * v_c
    if a <= 0:
        return None
    # a ρ² − 2 m_t m_c ρ + (m_t² − q² v_t) = 0, whose discriminant is positive wherever a is.
    half_width = mp.sqrt((m_t * m_c) ** 2 - a * (m_t**2 - q**2 * v_t))
    return around_zero(m_c, (m_t * m_c - half_width) / a, (m_t * m_c + half_width) / a)


def log_ratio(m_t, v_t, m_c, v_c, q):
    """Symmetric for log(m_t / m_c)."""
    width = q * mp.sqrt(v_t / m_t**2 + v_c / m_c**2)
    centre = mp.log(m_t / m_c)
    return around_zero(m_c, mp.exp(centre - width), mp.exp(centre + width))


def delta(m_t, v_t, m_c, v_c, q):
    """Symmetric for the relative effect itself."""
    width = q * relative_se(m_t, v_t, m_c, v_c)
    return around_zero(m_c, m_t / m_c - width, m_t / m_c + width)


def around_zero(m_c, lower, upper):
    """From ratios m_t / m_c to relative effects (m_t − m_c) / |m_c|."""
    return (lower - 1, upper - 1) if m_c > 0 else (1 - upper, 1 - lower)


def counts(t, c):
    """The counts of two arms whose rows are units."""
    return {"n_control": c.n, "n_treatment": t.n, "rows_control": c.n, "rows_treatment": t.n}


def unadjusted(t, c):
    """Variance of the plain difference of means, Welch's."""
    return t.comoment[0, 0] / (t.n - 1) / t.n + c.comoment[0, 0] / (c.n - 1) / c.n


def adjusted(t, c, effect_of_means):
    """Unadjusted means and the variance reduction of an adjusted effect."""
    reduction = 1 - effect_of_means["std_error"] ** 2 / unadjusted(t, c)
    means = {"mean_control": c.mean[0], "mean_treatment": t.mean[0]}
    return effect_of_means | means | {"variance_reduction": reduction} | counts(t, c)


def ttest(t, c, variance="unequal", **options):
    """Welch's or Student's t-test of the first column."""
    s_t, s_c = t.comoment[0, 0], c.comoment[0, 0]
    if variance == "unequal":
        v_t, v_c = s_t / (t.n - 1) / t.n, s_c / (c.n - 1) / c.n
        df = welch(v_t, t.n - 1, v_c, c.n - 1)
    else:
        df = mpf(t.n + c.n - 2)
        pooled = (s_t + s_c) / df
        v_t, v_c = pooled / t.n, pooled / c.n
    return effect(t.mean[0], v_t, c.mean[0], v_c, df, **options, **counts(t, c))


def overall_means(t, c):
    """Means of the covariates over both arms."""
    return [(t.n * a + c.n * b) / (t.n + c.n) for a, b in zip(t.mean[1:], c.mean[1:], strict=True)]


def cuped_theta(t, c):
    """θ from the co-moments pooled within arms."""
    (_, xy_t, xx_t), (_, xy_c, xx_c) = t.split(), c.split()
    return mp.lu_solve(xx_t + xx_c, xy_t + xy_c)


def cuped(t, c, **options):
    """CUPED with one θ for both arms; each arm's variance with divisor n − 1; Welch with n − 1."""
    theta, centre = cuped_theta(t, c), overall_means(t, c)

    def arm(a):
        yy, xy, xx = a.split()
        mean = a.mean[0] - dot(theta, [x - m for x, m in zip(a.mean[1:], centre, strict=True)])
        return mean, (yy - 2 * dot(theta, xy) + dot(theta, xx * theta)) / (a.n - 1) / a.n

    (m_t, v_t), (m_c, v_c) = arm(t), arm(c)
    return adjusted(t, c, effect(m_t, v_t, m_c, v_c, welch(v_t, t.n - 1, v_c, c.n - 1), **options))


def lin(t, c, vcov="by_arm", **options):
    """Lin's interacted adjustment: a regression per arm on covariates centred at their overall means."""
    centre, k = overall_means(t, c), len(t.mean) - 1

    def arm(a):
        yy, xy, xx = a.split()
        beta = mp.lu_solve(xx, xy)
        shift = mp.matrix([x - m for x, m in zip(a.mean[1:], centre, strict=True)])
        mean = a.mean[0] - dot(beta, shift)
        leverage = 1 / mpf(a.n) + dot(shift, mp.lu_solve(xx, shift))
        return mean, yy - dot(beta, xy), leverage

    (m_t, rss_t, h_t), (m_c, rss_c, h_c) = arm(t), arm(c)
    df_t, df_c = t.n - k - 1, c.n - k - 1
    if vcov == "by_arm":
        v_t, v_c = rss_t / df_t * h_t, rss_c / df_c * h_c
        df = welch(v_t, df_t, v_c, df_c)
    else:
        df = mpf(df_t + df_c)
        v_t, v_c = (rss_t + rss_c) / df * h_t, (rss_t + rss_c) / df * h_c
    return adjusted(t, c, effect(m_t, v_t, m_c, v_c, df, **options))


def post_stratify(strata, t, c, superpopulation=False, **options):
    """Means of the arms by stratum with the shares of the strata, after CUPED where arms have covariates; `strata` has the two
    arms of each, `t` and `c` are those of all of them together."""
    total = sum(a.n + b.n for a, b in strata)
    k = len(strata[0][0].mean) - 1
    theta = mp.matrix(k, 1)
    if k:
        parts = [arm.split() for pair in strata for arm in pair]
        theta = mp.lu_solve(sum((p[2] for p in parts[1:]), parts[0][2]), sum((p[1] for p in parts[1:]), parts[0][1]))
    v_t = v_c = m_t = m_c = spent = mpf(0)
    effects = []
    for a, b in strata:
        w, centre = mpf(a.n + b.n) / total, overall_means(a, b)

        def arm(side):
            yy, xy, xx = side.split()
            mean = side.mean[0] - dot(theta, [v - m for v, m in zip(side.mean[1:], centre, strict=True)])
            return mean, w**2 * (yy - 2 * dot(theta, xy) + dot(theta, xx * theta)) / (side.n - 1) / side.n

        (mean_t, of_t), (mean_c, of_c) = arm(a), arm(b)
        m_t, m_c, v_t, v_c = m_t + w * mean_t, m_c + w * mean_c, v_t + of_t, v_c + of_c
        spent += of_t**2 / (a.n - 1) + of_c**2 / (b.n - 1)
        effects.append((w, mean_t - mean_c))
    result = effect(m_t, v_t, m_c, v_c, (v_t + v_c) ** 2 / spent, **options)
    if superpopulation:
        extra = sum(w * (d - result["estimate"]) ** 2 for w, d in effects) / (total - 1)
        se = mp.sqrt(v_t + v_c + extra)
        result = {"estimate": result["estimate"], "std_error": se, "statistic": result["estimate"] / se, "df": result["df"]}
    means = {"mean_treatment": t.mean[0], "mean_control": c.mean[0]}
    reduction = {"variance_reduction": 1 - result["std_error"] ** 2 / unadjusted(t, c)}
    return result | means | reduction | {"n_treatment": t.n, "n_control": c.n}


def ratio_test(t, c, **options):
    """Ratio of sums by the delta method; the columns are numerator and denominator, the rows are units."""

    def arm(a):
        ratio = a.mean[0] / a.mean[1]
        s = a.comoment
        linearised = (s[0, 0] - 2 * ratio * s[0, 1] + ratio**2 * s[1, 1]) / a.mean[1] ** 2
        return ratio, linearised / (a.n - 1) / a.n

    (r_t, v_t), (r_c, v_c) = arm(t), arm(c)
    df = welch(v_t, t.n - 1, v_c, c.n - 1)
    return effect(r_t, v_t, r_c, v_c, df, **options, **counts(t, c))


# ---------------------------------------------------------------------------------------------------- files


def read_csv(path):
    """Columns of a CSV file as lists of text, so that Python's own correctly rounded float() reads the numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def floats(texts):
    """Text as doubles."""
    return [float(text) for text in texts]


def take(values, keep):
    """The values whose flag is set."""
    return [v for v, k in zip(values, keep, strict=True) if k]


def to_float(x):
    """The nearest double, also where it is subnormal."""
    if isinstance(x, (int, float)) or not mp.isfinite(x):
        return float(x)
    sign, mantissa, exponent, _ = x._mpf_
    value = float(Fraction(int(mantissa)) * Fraction(2) ** exponent)
    return -value if sign else value


def plain(value):
    """What JSON can hold; infinities are text, undefined is null."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    value = to_float(value)
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    assert not math.isnan(value), "undefined must be null"
    return value


def write_json(path, value):
    """Writes JSON, the same bytes on every run; objects and arrays without inner structure take one line each."""

    def encode(v, indent):
        inner = list(v.values()) if isinstance(v, dict) else v if isinstance(v, list) else []
        if not any(isinstance(i, (dict, list)) for i in inner):
            return json.dumps(v)
        pad = " " * (indent + 1)
        if isinstance(v, dict):
            items = [f"{pad}{json.dumps(key)}: {encode(i, indent + 1)}" for key, i in v.items()]
            return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
        return "[\n" + ",\n".join(pad + encode(i, indent + 1) for i in v) + "\n" + " " * indent + "]"

    path.write_text(encode(plain(value), 0) + "\n", encoding="utf-8")


def write_metadata(folder, tools, tolerance, source, seed=None):
    """Writes where the numbers of a folder come from."""
    versions = {tool: importlib.metadata.version(tool) for tool in tools}
    python = ".".join(platform.python_version_tuple()[:2])
    write_json(
        folder / "metadata.json",
        {
            "command": f"python tests/golden/{folder.name}/make.py",
            "tools": {"python": python} | versions,
            "seed": seed,
            "tolerance": tolerance,
            "source": source,
        },
    )


def agree(what, ours, theirs, tolerance=1e-11):
    """Fails unless the reference and the named tool agree, relatively."""
    ours, theirs = to_float(ours), float(theirs)
    if not math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=5e-324):
        raise AssertionError(f"{what}: {ours!r} here, {theirs!r} there")


def agree_ttest(name, effect_, result, tolerance=1e-11):
    """Compares an effect with a result of scipy.stats.ttest_ind."""
    agree(f"{name} t", effect_["statistic"], result.statistic, tolerance)
    agree(f"{name} df", effect_["df"], result.df, tolerance)
    agree(f"{name} p", effect_["p_value"], result.pvalue, tolerance)
    if effect_["confidence"] == 0.95:
        interval = result.confidence_interval(0.95)
        agree(f"{name} lower", effect_["ci_lower"], interval.low, tolerance)
        agree(f"{name} upper", effect_["ci_upper"], interval.high, tolerance)

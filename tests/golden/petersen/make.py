"""Petersen's simulated panel: the difference of means per row with firms as clusters."""

import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
import xxhash
from mpmath import mp, mpf

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import Column, agree, effect, floats, read_csv, welch, write_json, write_metadata  # noqa: E402

UNIT_SEED = 0x676F737365740001

table = read_csv(FOLDER / "petersen.csv")
firms, years = [int(v) for v in table["firm"]], [int(v) for v in table["year"]]
y = floats(table["y"])
column = Column(y)


def bucket_of(firm, buckets):
    """The bucket of an integer unit: its published hash, modulo."""
    return xxhash.xxh3_128_intdigest(b"\x01" + firm.to_bytes(16, "little", signed=True), seed=UNIT_SEED) % buckets


def totals(rows, cluster):
    """Sum and count of the rows of each cluster, exactly."""
    sums = {}
    for i in rows:
        total, n = sums.get(cluster(i), (0, 0))
        sums[cluster(i)] = total + column.integers[i], n + 1
    return [(mpf(total) / column.denominator, n) for total, n in sums.values()]


def squared_residuals(clusters):
    """Mean per row, rows, and Σ e² / N², where a cluster's residual e is its total less the mean times its rows."""
    n = sum(k for _, k in clusters)
    mean = sum(s for s, _ in clusters) / n
    return mean, n, sum((s - mean * k) ** 2 for s, k in clusters) / mpf(n) ** 2


def by_firm(rows, **options):
    """Firms as units: Σ e² / N² · G / (G − 1)."""

    def arm(odd):
        clusters = totals([i for i in rows if firms[i] % 2 == odd], lambda i: firms[i])
        mean, n, squares = squared_residuals(clusters)
        g = len(clusters)
        return mean, squares * g / (g - 1), g, n

    (m_t, v_t, g_t, n_t), (m_c, v_c, g_c, n_c) = arm(1), arm(0)
    counts = {"n_control": g_c, "n_treatment": g_t, "rows_control": n_c, "rows_treatment": n_t}
    return effect(m_t, v_t, m_c, v_c, welch(v_t, g_t - 1, v_c, g_c - 1), **options, **counts)


def by_bucket(buckets, **options):
    """Buckets of firms: Σ e² / N² · N² / (N² − Σ n_k²) with n_k the rows of a bucket; G are the non-empty buckets."""

    def arm(odd):
        inside = [i for i, firm in enumerate(firms) if firm % 2 == odd]
        clusters = totals(inside, lambda i: bucket_of(firms[i], buckets))
        mean, n, squares = squared_residuals(clusters)
        return mean, squares * n**2 / (n**2 - sum(k * k for _, k in clusters)), len(clusters), n

    (m_t, v_t, g_t, n_t), (m_c, v_c, g_c, n_c) = arm(1), arm(0)
    counts = {"rows_control": n_c, "rows_treatment": n_t}
    return effect(m_t, v_t, m_c, v_c, welch(v_t, g_t - 1, v_c, g_c - 1), **options, **counts)


def by_jackknife(rows, cluster, **options):
    """The means without each cluster, one after the other: (G − 1) / G · Σ (mean without k − their mean)²."""

    def arm(odd):
        clusters = totals([i for i in rows if firms[i] % 2 == odd], cluster)
        total, n, g = sum(s for s, _ in clusters), sum(k for _, k in clusters), len(clusters)
        without = [(total - s) / (n - k) for s, k in clusters]
        middle = sum(without) / g
        return total / n, mpf(g - 1) / g * sum((r - middle) ** 2 for r in without), g, n

    (m_t, v_t, g_t, n_t), (m_c, v_c, g_c, n_c) = arm(1), arm(0)
    return effect(m_t, v_t, m_c, v_c, welch(v_t, g_t - 1, v_c, g_c - 1), rows_control=n_c, rows_treatment=n_t, **options)


def check(rows, ours):
    """An intercept alone in each arm, clustered: statsmodels' factor G / (G − 1) · (n − 1) / (n − 1) is ours."""
    values, clusters = np.array([y[i] for i in rows]), np.array([firms[i] for i in rows])
    means, variances, dfs = [], [], []
    for odd in [1, 0]:
        inside = clusters % 2 == odd
        design, groups = np.ones(inside.sum()), {"groups": clusters[inside]}
        fit = sm.OLS(values[inside], design).fit(cov_type="cluster", cov_kwds=groups)
        means.append(fit.params[0])
        variances.append(fit.bse[0] ** 2)
        dfs.append(len(set(clusters[inside])) - 1)
    agree("estimate", ours["estimate"], means[0] - means[1])
    agree("standard error", ours["std_error"], np.sqrt(sum(variances)))
    agree("df", ours["df"], sum(variances) ** 2 / (variances[0] ** 2 / dfs[0] + variances[1] ** 2 / dfs[1]))


everything = range(len(y))
# Unequal clusters: firms keep 4 to 10 years.
unequal = [i for i in everything if years[i] <= 4 + firms[i] % 7]
whole = by_firm(everything)
check(everything, whole)
check(unequal, by_firm(unequal))
assert mp.nstr(whole["estimate"], 7) == "0.2406369" and mp.nstr(whole["std_error"], 7) == "0.1515744"

CALL = "clustered_ttest(y, firm % 2 = 1, firm"
write_json(
    FOLDER / "expected.json",
    {
        "table": "petersen.csv",
        "cases": [
            {"sql": f"{CALL})", "effect": whole},
            {"sql": f"{CALL}, {{confidence: 0.99}})", "effect": by_firm(everything, confidence=0.99)},
            {"sql": f"{CALL}, {{alternative: 'greater'}})", "effect": by_firm(everything, alternative="greater")},
            {"sql": f"{CALL}, {{alternative: 'less'}})", "effect": by_firm(everything, alternative="less")},
            {"sql": f"{CALL}, {{relative: 'delta'}})", "effect": by_firm(everything, relative="delta")},
            {"sql": f"{CALL}) FILTER (WHERE year <= 4 + firm % 7)", "effect": by_firm(unequal)},
            {"sql": f"{CALL}, {{buckets: 64}})", "effect": by_bucket(64)},
            {"sql": f"{CALL}, {{buckets: 256}})", "effect": by_bucket(256)},
            {"sql": f"{CALL}, {{std_error: 'jackknife'}})", "effect": by_jackknife(everything, lambda i: firms[i])},
            {"sql": f"{CALL}, {{std_error: 'jackknife'}}) FILTER (WHERE year <= 4 + firm % 7)",
             "effect": by_jackknife(unequal, lambda i: firms[i])},
            {"sql": f"{CALL}, {{std_error: 'jackknife', buckets: 64}})",
             "effect": by_jackknife(everything, lambda i: bucket_of(firms[i], 64))},
        ],
    },
)
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "statsmodels", "xxhash"],
    "1e-10 relative",
    "petersen.csv: Mitchell Petersen's simulated panel of 500 firms and 10 years, public at"
    " https://www.kellogg.northwestern.edu/faculty/petersen/htm/papers/se/se_programming.htm and as PetersenCL in the R"
    " package sandwich; buckets are those of tests/golden/units",
)

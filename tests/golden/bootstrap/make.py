"""Intervals of R's boot package on the National Supported Work experiment, with the weights of our published law.

The weights come from the implementation in ../weights, so that R sees the very replicates and the comparison is exact:
statistics of every replicate in rational arithmetic, its own variance for studentized intervals, and the influence of
every unit by the jackknife for BCa. What scipy.stats.bootstrap makes of the same replicates, and of the data for its own
acceleration, must be the same: but for the studentized interval, which it does not have, and for the quantile of a finite
number of replicates, where R interpolates on the normal scale and scipy between ranks.
"""

import importlib.util
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import xxhash
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import floats, read_csv, write_json, write_metadata  # noqa: E402

spec = importlib.util.spec_from_file_location("weights", FOLDER.parent / "weights" / "make.py")
weights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(weights)

REPLICATES, SEED = 999, 7
table = {name: floats(texts) for name, texts in read_csv(FOLDER.parent / "lalonde" / "lalonde.csv").items()}
rows = len(table["treat"])


def row_of_weights(i):
    """All weights of a unit, two blocks for sixteen replicates."""
    canonical = b"\x01" + i.to_bytes(16, "little")
    unit = xxhash.xxh3_128_intdigest(canonical, seed=weights.UNIT_SEED)
    out = []
    for pair in range(-(-REPLICATES // 16)):
        high, low = (weights.draws(unit, 2 * pair + half, SEED) for half in (0, 1))
        for u, v in zip(high, low, strict=True):
            column, t = weights.TABLE[u >> 4], (u & 15) << 8 | v
            out.append(column["base"] if t < column["threshold"] else column["alias"])
    return out[:REPLICATES]


WEIGHTS = [row_of_weights(i) for i in range(rows)]
ARMS = [[i for i in range(rows) if table["treat"][i] == arm] for arm in (1, 0)]


def ratio_and_variance(y, d, w):
    """Σwy/Σwd and Σw(y − R·d)²/(Σwd)² · G/(G − 1) with G = Σw, in rational arithmetic."""
    total = sum(wi * di for wi, di in zip(w, d, strict=True))
    ratio = sum(wi * yi for wi, yi in zip(w, y, strict=True)) / total
    squares = sum(wi * (yi - ratio * di) ** 2 for wi, yi, di in zip(w, y, d, strict=True))
    units = sum(w)
    return ratio, squares / total**2 * Fraction(units, units - 1)


def influence(y, d):
    """(n − 1)·(mean of the R without a unit − R without the unit), over n."""
    n, total_y, total_d = len(y), sum(y), sum(d)
    without = [(total_y - a) / (total_d - b) for a, b in zip(y, d, strict=True)]
    mean = sum(without) / n
    return [(n - 1) * (mean - r) / n for r in without]


def quantile_of_boot(replicates, probability):
    """The quantile as R's boot interpolates it (Davison and Hinkley 1997, equation 5.8)."""
    position = (len(replicates) + 1) * probability
    k = int(position + 1e-9)
    if abs(position - k) < 1e-9:
        return replicates[k - 1]
    z = stats.norm.ppf([probability, k / (len(replicates) + 1), (k + 1) / (len(replicates) + 1)])
    return replicates[k - 1] + (z[0] - z[1]) / (z[2] - z[1]) * (replicates[k] - replicates[k - 1])


def check_with_scipy(intervals, std_error, replicates, arms):
    """Compares with scipy.stats.bootstrap of the same replicates: ends at the same probabilities, the same standard error."""
    ordered = np.sort(replicates)
    sums = [np.array([y, d], dtype=float) for _, y, d in arms]

    def statistic(*of_arms):
        (y_t, d_t), (y_c, d_c) = (values[:, units].sum(axis=1) for values, units in zip(sums, of_arms, strict=True))
        return y_t / d_t - y_c / d_c

    units = [np.arange(len(y)) for _, y, _ in arms]
    known = stats._resampling.BootstrapResult(None, np.array(replicates), None)
    for name, method in [("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")]:
        for level, ends in intervals[name].items():
            found = stats.bootstrap(
                units, statistic, n_resamples=0, bootstrap_result=known,
                vectorized=False, confidence_level=float(level), method=method,
            )
            mirrored = 2 * statistic(*units) if name == "basic" else None
            for end, of_scipy in zip(ends, found.confidence_interval, strict=True):
                at = of_scipy if mirrored is None else mirrored - of_scipy
                probability = np.interp(at, ordered, np.arange(len(ordered))) / (len(ordered) - 1)
                quantile = quantile_of_boot(ordered, probability)
                expected = quantile if mirrored is None else mirrored - quantile
                assert abs(end / expected - 1) < 1e-9, (name, level, end, expected)
            assert abs(found.standard_error / std_error - 1) < 1e-12


def case(num, den):
    """The statistic, its replicates and what R makes of them."""
    arms = []
    for members in ARMS:
        y = [Fraction(table[num][i]) for i in members]
        d = [Fraction(table[den][i]) if den else Fraction(1) for i in members]
        arms.append((members, y, d))
    plain = [ratio_and_variance(y, d, [1] * len(y)) for _, y, d in arms]
    replicates = []
    for b in range(REPLICATES):
        t, c = (ratio_and_variance(y, d, [WEIGHTS[i][b] for i in members]) for members, y, d in arms)
        replicates.append((float(t[0] - c[0]), float(t[1] + c[1])))
    of_units = influence(*arms[0][1:]) + [-u for u in influence(*arms[1][1:])]
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{t!r},{v!r}" for t, v in replicates]
        (Path(folder) / "replicates.csv").write_text("t,v\n" + "\n".join(lines) + "\n")
        (Path(folder) / "influence.csv").write_text("L\n" + "\n".join(repr(float(u)) for u in of_units) + "\n")
        estimate, variance = float(plain[0][0] - plain[1][0]), float(plain[0][1] + plain[1][1])
        command = ["Rscript", FOLDER / "intervals.R", folder, repr(estimate), repr(variance)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    intervals = {}
    for line in out.split("\n"):
        if not line:
            continue
        first, second, low, high = line.split()
        if first == "se":
            std_error = float(low)
        else:
            name = {"student": "studentized", "percent": "percentile"}.get(second, second)
            intervals.setdefault(name, {})[first] = [float(low), float(high)]
    check_with_scipy(intervals, std_error, [t for t, _ in replicates], arms)
    return {
        "num": num,
        "den": den,
        "estimate": estimate,
        "std_error": std_error,
        "intervals": intervals,
        "first": [t for t, _ in replicates[:5]],
    }


cases = [case("re78", None), case("re78", "educ")]
write_json(FOLDER / "expected.json", {"replicates": REPLICATES, "seed": str(SEED), "cases": cases})
r = subprocess.run(["Rscript", "-e", "cat(R.version.string, format(packageVersion('boot')))"], capture_output=True, text=True)
write_metadata(FOLDER, ["numpy", "scipy", "xxhash"], 1e-10, f"boot.ci of {r.stdout}; checked by scipy.stats.bootstrap")

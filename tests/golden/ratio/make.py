"""Ratio metrics by the delta method, on small generated data."""

import csv
import random
import sys
from pathlib import Path

import numpy as np
from mpmath import mpf
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import Arm, agree, floats, ratio_test, read_csv, take, write_json, write_metadata  # noqa: E402

SEED = 20260102


def generate(path):
    """Units with a numerator, a denominator that may be 0, and a numerator whose sum is near 0."""
    rng = random.Random(SEED)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["unit", "arm", "num", "den", "noise"])
        for unit in range(240):
            arm = "new" if rng.random() < 0.4 else "old"
            den = int(8 * rng.random() ** 2)
            rate = 0.8 + rng.random() + (0.15 if arm == "new" else 0.0)
            num = round(den * rate, 3)
            writer.writerow([unit, arm, num, den, round(rng.random() - 0.5, 3)])


generate(FOLDER / "ratio.csv")
table = read_csv(FOLDER / "ratio.csv")
new = [a == "new" for a in table["arm"]]
old = [not n for n in new]
num, den, noise = (floats(table[name]) for name in ["num", "den", "noise"])


def arms(a, b):
    """Treatment and control."""
    return [Arm(take(a, keep), take(b, keep)) for keep in (new, old)]


def check(a, b, ours):
    """scipy's Welch test of the linearised values, each arm with its own ratio."""
    a, b = np.array(a), np.array(b)
    values = []
    for keep in (new, old):
        y, d = a[keep], b[keep]
        ratio = y.sum() / d.sum()
        # Their mean is 0: the ratio is put back.
        values.append(ratio + (y - ratio * d) / d.mean())
    result = stats.ttest_ind(*values, equal_var=False)
    agree("statistic", ours["statistic"], result.statistic, 1e-10)
    agree("df", ours["df"], result.df, 1e-10)
    agree("p", ours["p_value"], result.pvalue, 1e-10)
    interval = result.confidence_interval(0.95)
    agree("lower", ours["ci_lower"], interval.low, 1e-10)
    agree("upper", ours["ci_upper"], interval.high, 1e-10)


cases = []
CALLS = {
    "num, den": arms(num, den),
    # A ratio that is far from 0 beside its spread.
    "num + 100 * den, den": arms([float(a + 100 * b) for a, b in zip(num, den, strict=True)], den),
    # A negative ratio.
    "-num, den": arms([-v for v in num], den),
    # A ratio of control that is not clearly away from 0: no Fieller interval.
    "noise, den": arms(noise, den),
    # Every denominator 1: the t-test.
    "num, 1": arms(num, [1.0] * len(num)),
}
for columns, both in CALLS.items():
    for options in [
        {},
        {"confidence": 0.99},
        {"alternative": "greater"},
        {"alternative": "less"},
        {"relative": "log"},
        {"relative": "delta"},
    ]:
        if options.get("relative") == "log" and columns in ("-num, den", "noise, den"):
            continue
        text = "".join(f", {{{k}: {v!r}}}" for k, v in options.items())
        call = f"ratio_test({columns}, arm = 'new'{text})"
        cases.append({"sql": call, "effect": ratio_test(*both, **options)})
for columns, a, b in [("num, den", num, den), ("noise, den", noise, den), ("num, 1", num, [1.0] * len(num))]:
    check(a, b, ratio_test(*CALLS[columns]))
assert cases[0]["effect"]["relative_ci_lower"] > mpf(-1)

write_json(FOLDER / "expected.json", {"table": "ratio.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy"],
    "1e-10 relative",
    "ratio.csv is generated here by Python's random.Random.random, whose stream does not change between versions",
    SEED,
)

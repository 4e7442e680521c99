"""Winsorized means: values capped at quantiles of both arms by scipy, then Welch's test by exact moments and by scipy."""

import csv
import math
import random
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.stats import mstats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import Arm, agree_ttest, floats, read_csv, take, ttest, write_json, write_metadata  # noqa: E402

SEED = 20260519


def generate(path):
    """A thousand units, half of them without spend, the others with a long tail."""
    rng = random.Random(SEED)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["unit", "arm", "spend"])
        for unit in range(1000):
            arm = "new" if rng.random() < 0.4 else "old"
            tail = math.exp(3 + 1.6 * (sum(rng.random() for _ in range(12)) - 6))
            writer.writerow([unit, arm, round(tail - 2, 2) if rng.random() < 0.5 else 0])


generate(FOLDER / "winsorized.csv")
table = read_csv(FOLDER / "winsorized.csv")
spend = floats(table["spend"])
new = [a == "new" for a in table["arm"]]
old = [not n for n in new]

cases = []
for lower, upper, options in [
    (0, 0.99, {}),
    (0, 0.95, {"confidence": 0.9, "alternative": "greater"}),
    (0.05, 0.95, {"relative": "log"}),
    (0.001, 1, {"relative": "delta"}),
]:
    capped = np.asarray(mstats.winsorize(np.array(spend), limits=(lower, round(1 - upper, 12)))).tolist()
    t, c = Arm(take(capped, new)), Arm(take(capped, old))
    plain_t, plain_c = Arm(take(spend, new)), Arm(take(spend, old))
    expected, plain = ttest(t, c, **options), ttest(plain_t, plain_c)
    theirs = stats.ttest_ind(take(capped, new), take(capped, old), equal_var=False, alternative=options.get("alternative", "two-sided"))
    agree_ttest(f"{lower} {upper}", expected, theirs)
    expected |= {
        "mean_treatment": plain_t.mean[0],
        "mean_control": plain_c.mean[0],
        "variance_reduction": 1 - expected["std_error"] ** 2 / plain["std_error"] ** 2,
    }
    written = {"lower": lower, "upper": upper} | options
    text = ", ".join(f"{k}: {v!r}" for k, v in written.items())
    cases.append({"sql": f"winsorized(spend, arm = 'new', {{{text}}})", "effect": expected})

write_json(FOLDER / "expected.json", {"table": "winsorized.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy"],
    "1e-10 relative",
    "winsorized.csv is generated here by Python's random.Random.random, whose stream does not change between versions",
    SEED,
)

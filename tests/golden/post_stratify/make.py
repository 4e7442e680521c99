"""Post-stratification, alone and with CUPED: the saturated interacted regression with HC2, and exact moments by cell."""

import csv
import random
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import reference  # noqa: E402
from reference import Arm, agree, floats, read_csv, take, write_json, write_metadata  # noqa: E402

SEED = 20260518


def generate(path):
    """Units of six countries of unlike sizes and means, some without one; "mt" and "va" have fewer than two units in an arm."""
    rng = random.Random(SEED)
    countries = ["de"] * 40 + ["fr"] * 25 + ["es"] * 12 + [""] * 8 + ["is"] * 2 + ["mt"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["unit", "arm", "country", "y", "x"])
        for unit in range(260):
            arm = "new" if rng.random() < 0.4 else "old"
            country = "va" if unit in (70, 140, 210) else countries[int(len(countries) * rng.random())]
            if country == "va":
                arm = "new"
            x = 10 * rng.random() + 3 * len(country) * (country < "es")
            base = {"de": 20, "fr": 35, "es": 5, "": 50, "is": 28, "mt": 0, "va": 90}[country]
            lift = {"de": 2, "fr": 4, "es": 0, "": 1, "is": 3, "mt": 2, "va": 0}[country]
            y = base + lift * (arm == "new") + 1.5 * x + 8 * (rng.random() - 0.5)
            writer.writerow([unit, arm, country, round(y, 3), round(x, 3)])


generate(FOLDER / "post_stratify.csv")
table = read_csv(FOLDER / "post_stratify.csv")
y, x = floats(table["y"]), floats(table["x"])
new = [a == "new" for a in table["arm"]]


def cells(strata, columns):
    """The two arms of each stratum, which is a set of countries."""
    for stratum in strata:
        inside = [country in stratum for country in table["country"]]
        yield [Arm(*(take(c, [i and n == side for i, n in zip(inside, new, strict=True)]) for c in columns)) for side in (True, False)]


def post_stratify(strata, covariates=(), superpopulation=False, **options):
    inside = [any(country in s for s in strata) for country in table["country"]]
    t, c = (Arm(take(y, [i and n == side for i, n in zip(inside, new, strict=True)])) for side in (True, False))
    return reference.post_stratify(list(cells(strata, [y, *covariates])), t, c, superpopulation, **options)


def check_saturated(name, strata, expected):
    """The regression of y on every cell, and the contrast of the cells with the shares of the strata, with HC2."""
    stratum = np.array([next((i for i, s in enumerate(strata) if country in s), -1) for country in table["country"]])
    treated, outcome = np.array(new), np.array(y)
    design, weights = [], []
    for i in range(len(strata)):
        for sign in (1, -1):
            design.append((stratum == i) & (treated == (sign > 0)))
            weights.append(sign * (stratum == i).sum() / (stratum >= 0).sum())
    kept = stratum >= 0
    fit = sm.OLS(outcome[kept], np.column_stack(design)[kept].astype(float)).fit(cov_type="HC2")
    found = fit.t_test(np.array(weights))
    agree(f"{name} estimate", expected["estimate"], found.effect[0], 1e-9)
    agree(f"{name} std_error", expected["std_error"], found.sd[0, 0], 1e-9)


seen = {
    country: [sum(c == country and n == side for c, n in zip(table["country"], new, strict=True)) for side in (True, False)]
    for country in set(table["country"])
}
thin = {country for country, sizes in seen.items() if min(sizes) < 2}
assert thin == {"mt", "va"} and sum(seen[c][1] for c in thin) == 1, seen
# Together they still have one unit in control: the smallest of the others joins them.
DROPPED = [{country} for country in sorted(set(seen) - thin)]
smallest = min(set(seen) - thin, key=lambda country: sum(seen[country]))
COLLAPSED = [*(stratum for stratum in DROPPED if smallest not in stratum), {*thin, smallest}]

cases = []
for options, strata, fields in [
    ("", COLLAPSED, {}),
    ("{confidence: 0.9, alternative: 'less', relative: 'log'}", COLLAPSED, {"confidence": 0.9, "alternative": "less", "relative": "log"}),
    ("{superpopulation: true}", COLLAPSED, {"superpopulation": True}),
    ("{empty: 'drop', relative: 'delta'}", DROPPED, {"relative": "delta"}),
]:
    for covariates, written in [((), ""), ((x,), "{before: x}")]:
        call = ", ".join(part for part in ["y, country, arm = 'new'", written, options] if part)
        expected = post_stratify(strata, covariates, **fields)
        if not covariates and "superpopulation" not in fields:
            check_saturated(call, strata, expected)
        cases.append({"sql": f"post_stratify({call})", "effect": expected})

write_json(FOLDER / "expected.json", {"table": "post_stratify.csv", "cases": cases})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "statsmodels"],
    "1e-10 relative",
    "post_stratify.csv is generated here by Python's random.Random.random, whose stream does not change between versions",
    SEED,
)

"""Sample-ratio mismatch: chi-squared tests of counts against expected shares."""

import sys
from fractions import Fraction
from pathlib import Path

from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import agree, chi2_sf, rational, write_json, write_metadata  # noqa: E402

# Counts by arm and the weights that were expected, of any scale.
CASES = [
    ("balanced", {"a": 500, "b": 500}, {"a": 1, "b": 1}),
    ("slightly off", {"a": 510, "b": 490}, {"a": 1, "b": 1}),
    ("clear mismatch", {"a": 50500, "b": 49500}, {"a": 1, "b": 1}),
    ("unequal shares", {"a": 9000, "b": 1040}, {"a": 0.9, "b": 0.1}),
    ("weights that are not shares", {"a": 9000, "b": 1040}, {"a": 9, "b": 1}),
    ("three arms", {"a": 3333, "b": 3400, "c": 3200}, {"a": 1, "b": 1, "c": 1}),
    ("three unequal arms", {"a": 5010, "b": 2950, "c": 2010}, {"a": 5, "b": 3, "c": 2}),
    ("an arm that nobody has", {"a": 40, "b": 0}, {"a": 1, "b": 1}),
    ("an arm that nobody has of three", {"a": 400, "b": 390, "c": 0}, {"a": 49, "b": 49, "c": 2}),
    ("few units", {"a": 1, "b": 2}, {"a": 1, "b": 1}),
    ("one unit", {"a": 1, "b": 0}, {"a": 1, "b": 1}),
    ("twelve arms", {f"arm{i:02}": 1000 + 7 * i for i in range(12)}, {f"arm{i:02}": 1 for i in range(12)}),
    ("huge and balanced", {"a": 10**12, "b": 10**12 + 10**6}, {"a": 1, "b": 1}),
    ("huge and broken", {"a": 10**12, "b": 10**12 + 30 * 10**6}, {"a": 1, "b": 1}),
    ("huge", {"a": 5 * 10**14, "b": 5 * 10**14 + 12345678}, {"a": 1, "b": 1}),
    ("shares that differ by a billion", {"a": 10**9, "b": 3}, {"a": 10**9, "b": 1}),
    ("the e-mail experiment", {"No": 21306, "Mens": 21307, "Womens": 21387}, {"No": 1, "Mens": 1, "Womens": 1}),
]

cases = []
for name, observed, expected in CASES:
    n = sum(observed.values())
    # A share is the decimal that was typed: 0.9 is 9/10.
    weights = {arm: Fraction(str(w)) for arm, w in expected.items()}
    shares = {arm: w * n / sum(weights.values()) for arm, w in weights.items()}
    statistic = rational(sum((observed[arm] - e) ** 2 / e for arm, e in shares.items()))
    df = len(expected) - 1
    p = chi2_sf(statistic, df)
    result = stats.chisquare(list(observed.values()), [float(shares[arm]) for arm in observed])
    # The counts of scipy are doubles: their difference loses digits where it is small beside them.
    agree(f"{name} statistic", statistic, result.statistic, 1e-9)
    if p > 1e-290:
        agree(f"{name} p", p, stats.chi2.sf(float(statistic), df), 1e-10)
    cases.append({
        "name": name,
        "counts": observed,
        "expected": expected,
        "chi_squared": statistic,
        "df": df,
        "p_value": p,
    })

write_json(FOLDER / "expected.json", cases)
write_metadata(FOLDER, ["mpmath", "scipy"], "1e-10 relative", "exact rational statistics, mpmath tails, checked against scipy")

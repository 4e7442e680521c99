"""Tail probabilities and quantiles of Student's t, the normal and chi-squared, by mpmath."""

import csv
import sys
from pathlib import Path

from mpmath import mp, mpf
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import agree, chi2_sf, normal_isf, normal_sf, t_isf, t_sf, to_float, write_metadata  # noqa: E402

DFS = [1, 2, 3.7, 5, 10, 29.5, 100, 1e3, 12345.6, 1e5, 2.5e6, 1e8, 1e10]
TS = [0, 1e-8, 0.1, 0.5, 1, 1.96, 2.5, 5, 8, 12, 30]
TAILS = [0.975, 0.6, 0.5, 0.4, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.0005, 1e-6, 1e-10, 1e-20, 1e-50, 1e-100]
ZS = [-38, -10, -1.96, -1, -1e-8, 0, 1e-8, 0.1, 0.5, 1, 1.5, 1.96, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 35, 37.5, 38]
CHI2 = [0, 1e-8, 0.001, 0.1, 0.5, 1, 2, 3.84, 6.63, 10, 15, 20, 30, 40, 50, 75, 100, 200, 500, 1000, 1300]


def t_sf_by_betainc(t, df):
    """The same probability by mpmath's own incomplete beta function, as a check of the series."""
    return mp.betainc(mpf(df) / 2, mpf(1) / 2, 0, df / (df + mpf(t) ** 2), regularized=True) / 2


rows = []
for df in DFS:
    for t in TS:
        for signed in [t, -t] if t in (1e-8, 1.96, 12) else [t]:
            value = t_sf(signed, df)
            rows.append(("t", "sf", df, signed, value))
            # scipy is wrong from the ninth digit on next to the centre: 0.4999999952568 for the Cauchy tail at 1e-8, whose
            # closed form is 1/2 − atan(1e-8)/π = 0.4999999968169.
            agree(f"t sf {signed} {df}", value, stats.t.sf(signed, df), 1e-8 if t == 1e-8 else 1e-9)
            if df == 1:
                agree(f"Cauchy {signed}", value, to_float(mpf(1) / 2 - mp.atan(mpf(signed)) / mp.pi), 1e-15)
        if 0 < t and df < 1e5:
            agree(f"t betainc {t} {df}", t_sf(t, df), to_float(t_sf_by_betainc(t, df)), 1e-15)
    for p in TAILS:
        # The tail that is asked for is the double, not the decimal it was typed as.
        value = t_isf(p, df)
        rows.append(("t", "isf", df, p, value))
        agree(f"t isf {p} {df}", value, stats.t.isf(p, df), 1e-9)
for z in ZS:
    rows.append(("normal", "sf", "", z, normal_sf(z)))
    if z <= 37.5:
        agree(f"normal sf {z}", normal_sf(z), stats.norm.sf(z), 1e-12)
for p in TAILS + [1e-200, 1e-300]:
    rows.append(("normal", "isf", "", p, normal_isf(p)))
    agree(f"normal isf {p}", normal_isf(p), stats.norm.isf(p), 1e-12)
for df in range(1, 31):
    for x in CHI2:
        rows.append(("chi2", "sf", df, x, chi2_sf(x, df)))
        agree(f"chi2 sf {x} {df}", chi2_sf(x, df), stats.chi2.sf(x, df), 1e-11)

with open(FOLDER / "expected.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["distribution", "function", "df", "argument", "value"])
    for distribution, function, df, argument, value in rows:
        df = repr(float(df)) if df != "" else ""
        writer.writerow([distribution, function, df, repr(float(argument)), repr(to_float(value))])

write_metadata(
    FOLDER,
    ["mpmath", "scipy"],
    "correctly rounded doubles; compare to 1e-13 relative for sf above 1e-290, to 1e-13 for isf; values below 2.3e-308"
    " are subnormal and have no relative accuracy",
    "mpmath at 60 digits (series of the incomplete beta function, erfc, upper incomplete gamma), checked against scipy"
    " and, for t, against mpmath's own incomplete beta function",
)

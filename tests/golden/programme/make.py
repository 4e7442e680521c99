"""A programme of twenty experiments over forty nights: what is published of every date, from all rows at once.

The rows are made by rows.py. Values of units come from sums by unit and civil day (pandas), means, ratios and their
standard errors from closed forms; scipy and statsmodels check each of them.
"""

import csv
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
import xxhash
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
import rows  # noqa: E402
from reference import agree, write_metadata  # noqa: E402
from rows import FIRST, HISTORY, LAST, ZONE, date, ordinal  # noqa: E402

# Arms of more units are compared by totals of so many buckets of hashed units.
MOST_UNITS, BUCKETS = 1024, 4096
# Metrics whose values of days add up; the others are compared over units, however many there are.
ADDITIVE = ["watch_minutes", "sessions", "rebuffers_per_hour", "revenue"]
KEYS = ["experiment", "analysis_date", "period", "metric", "segment", "segment_value", "arm", "estimator", "quantile"]
FIELDS = ["n_treatment", "n_control", "mean_treatment", "mean_control", "estimate", "std_error"]

JOB = tomllib.loads((FOLDER / "job.toml").read_text(encoding="utf-8"))
SESSIONS, ORDERS, ALLOCATIONS = rows.sessions(), rows.orders(), rows.allocations()
UNIT = np.sort(rows.unit(np.arange(rows.UNITS)))
DAY = np.arange(ordinal(HISTORY), ordinal(LAST) + 1)
SEED = 0x676F737365740001


# ---------------------------------------------------------------------------------------------------- unit-days


def civil_day(microseconds):
    """The civil day of an instant, by the time zone database."""
    local = pd.to_datetime(microseconds, unit="us", utc=True).dt.tz_convert(ZONE)
    return (local.dt.tz_localize(None).dt.normalize() - pd.Timestamp(0)).dt.days


def bucket(account):
    """The bucket of a unit, as in the golden numbers of units."""
    return xxhash.xxh3_128_intdigest(b"\1" + int(account).to_bytes(16, "little"), SEED) % BUCKETS


def by_unit_and_day(grouped, empty):
    """A matrix: units are rows, civil days are columns."""
    return grouped.unstack("day").reindex(index=UNIT, columns=DAY).fillna(empty).to_numpy(float)


def unit_days():
    """The primitives of the metrics."""
    seen = SESSIONS.assign(day=civil_day(SESSIONS.started_at))
    grouped = seen.groupby(["account_id", "day"])
    made = {name: by_unit_and_day(grouped[name].sum(), 0) for name in ["watch_min", "rebuffers"]}
    made["rows"] = by_unit_and_day(grouped.size(), 0)
    made["lengths"] = by_unit_and_day(grouped.watch_min.count(), 0)
    made["longest"] = by_unit_and_day(grouped.watch_min.max(), -np.inf)
    for device in seen.device.dropna().unique():
        on_it = seen[seen.device == device].groupby(["account_id", "day"])
        made[f"device {device}"] = by_unit_and_day(on_it.size(), 0)
    # The last version of each file.
    newest = ORDERS[ORDERS.version == ORDERS.groupby("path").version.transform("max")]
    made["amount"] = by_unit_and_day(newest.groupby(["account_id", "day"]).amount.sum(), 0)
    return made


DAYS = unit_days()
# Rows of the sessions: positions of unit and day, and the value.
LENGTHS = SESSIONS.assign(day=civil_day(SESSIONS.started_at) - DAY[0], unit=np.searchsorted(UNIT, SESSIONS.account_id))
LENGTHS = LENGTHS[(LENGTHS.day >= 0) & (LENGTHS.day < len(DAY))].dropna(subset=["account_id", "watch_min"])
HASH = np.array([bucket(account) for account in UNIT])


def values(metric, window):
    """The outcomes of units over the days that are theirs, and denominators; NaN where there is no outcome."""

    def total(name):
        return np.where(window, DAYS[name], 0).sum(axis=1)

    ones = np.ones(len(UNIT))
    match metric:
        case "rebuffers_per_hour":
            return total("rebuffers"), total("watch_min") / 60
        case "watch_minutes":
            return total("watch_min"), ones
        case "sessions":
            return total("rows"), ones
        case "revenue":
            return total("amount"), ones
        case "bought":
            amount = total("amount")
            # Amounts are cents: no sum is so close to 0 that its sign would depend on how it is rounded.
            assert ((amount == 0) | (abs(amount) > 0.005)).all()
            return (amount > 0).astype(float), ones
        case "longest":
            most = np.where(window, DAYS["longest"], -np.inf).max(axis=1)
            return np.where(np.isinf(most), np.nan, most), ones
        case "session_length":
            return np.where(total("lengths") > 0, 0, np.nan), ones
        case "active_devices":
            return sum((total(name) > 0).astype(float) for name in DAYS if name.startswith("device ")), ones
    raise ValueError(metric)


# ---------------------------------------------------------------------------------------------------- estimators


class Arm:
    """An arm whose mean, or ratio of two sums, is over its units, or where there are many over buckets of them."""

    def __init__(self, y, d, bucket=None):
        self.n, self.ratio, self.total = len(y), y.sum() / d.sum(), d.sum()
        self.y, self.d, self.bucket = y, d, bucket
        self.is_buckets = bucket is not None and self.n > MOST_UNITS
        group = bucket if self.is_buckets else np.arange(self.n)
        self.kept = np.unique(group)
        units = self.totals(group, np.ones(self.n))
        self.residuals = self.totals(group, y) - self.ratio * self.totals(group, d)
        # Over units, where all of these are 1, it is n / (n - 1).
        self.factor = self.n**2 / (self.n**2 - (units**2).sum())

    def totals(self, group, y):
        return np.bincount(group, y)[self.kept]

    def variance(self, residuals=None):
        residuals = self.residuals if residuals is None else residuals
        return (residuals**2).sum() / self.total**2 * self.factor

    def check(self):
        """The cluster-robust variance of the mean of linearised values, which has no factor for few clusters."""
        if not self.is_buckets:
            return
        linearised = self.ratio + (self.y - self.ratio * self.d) / self.d.mean()
        fit = sm.OLS(linearised, np.ones(self.n))
        fit = fit.fit(cov_type="cluster", cov_kwds={"groups": self.bucket, "use_correction": False})
        agree("mean of buckets", self.ratio, fit.params[0], 1e-11)
        agree("variance of buckets", self.variance(), fit.bse[0] ** 2 * self.factor, 1e-10)


def fields(t, c, estimate, std_error):
    """What is published; means are not adjusted."""
    return dict(zip(FIELDS, [t.n, c.n, t.ratio, c.ratio, estimate, std_error], strict=True))


def compare(t, c):
    """Welch's test, of ratios by the delta method; over buckets where an arm has many units."""
    std_error = np.sqrt(t.variance() + c.variance())
    made = fields(t, c, t.ratio - c.ratio, std_error)
    t.check()
    c.check()
    if not (t.is_buckets or c.is_buckets):
        linearised = [a.ratio + (a.y - a.ratio * a.d) / a.d.mean() for a in (t, c)]
        agree("t", made["estimate"] / std_error, stats.ttest_ind(*linearised, equal_var=False).statistic, 1e-9)
    return made


def cuped(t, c, x_t, x_c):
    """Adjusted for a covariate, with one coefficient for both arms from their residuals about the means."""
    theta = (t.residuals @ x_t.residuals + c.residuals @ x_c.residuals) / (
        x_t.residuals @ x_t.residuals + x_c.residuals @ x_c.residuals
    )
    variances = [a.variance(a.residuals - theta * x.residuals) for a, x in [(t, x_t), (c, x_c)]]
    estimate = (t.ratio - c.ratio) - theta * (x_t.ratio - x_c.ratio)
    made = fields(t, c, estimate, np.sqrt(sum(variances)))
    if t.is_buckets or c.is_buckets:
        y, x = (np.concatenate([a.residuals, b.residuals]) for a, b in [(t, c), (x_t, x_c)])
        agree("theta of buckets", theta, sm.OLS(y, x).fit().params[0], 1e-10)
    else:
        treated = np.repeat([1.0, 0.0], [t.n, c.n])
        y, x = np.concatenate([t.y, c.y]), np.concatenate([x_t.y, x_c.y])
        agree("theta", theta, sm.OLS(y, np.column_stack([np.ones_like(y), treated, x])).fit().params[2], 1e-9)
        adjusted = y - theta * x
        result = stats.ttest_ind(adjusted[treated == 1], adjusted[treated == 0], equal_var=False)
        agree("cuped", estimate / made["std_error"], result.statistic, 1e-8)
    return made


def proportion_test(t, c):
    """Wald's."""
    variances = [a.ratio * (1 - a.ratio) / a.n for a in (t, c)]
    return fields(t, c, t.ratio - c.ratio, np.sqrt(sum(variances)))


def quantiles(window, t, c):
    """Differences of quantiles of rows, of whatever units; the bootstrap's standard errors are its own."""
    counts = window[LENGTHS.unit, LENGTHS.day]
    arms = [np.floor(LENGTHS.watch_min[counts & a[LENGTHS.unit]]) for a in (t, c)]
    for q in JOB["metrics"]["session_length"]["quantile"]["at"]:
        of_t, of_c = (np.quantile(arm, q, method="averaged_inverted_cdf") for arm in arms)
        yield q, dict(zip(FIELDS, [t.sum(), c.sum(), of_t, of_c, of_t - of_c, None], strict=True))


def post_stratify(y, x, treated, stratum):
    """Differences of means by stratum, adjusted for a covariate if there is one, weighted by the strata's units."""
    strata = np.unique(stratum)
    cells = {(h, a): (stratum == h) & (treated == a) for h in strata for a in (True, False)}
    assert min(cell.sum() for cell in cells.values()) > 1
    means = [Arm(y[treated == a], np.ones((treated == a).sum())) for a in (True, False)]
    if x is not None:
        centred = [(y[cell] - y[cell].mean(), x[cell] - x[cell].mean()) for cell in cells.values()]
        y = y - sum(a @ b for a, b in centred) / sum(b @ b for _, b in centred) * x
    shares = {h: (stratum == h).mean() for h in strata}
    estimate = sum(shares[h] * (y[cells[h, True]].mean() - y[cells[h, False]].mean()) for h in strata)
    variance = sum(shares[h] ** 2 * y[cell].var(ddof=1) / cell.sum() for (h, _), cell in cells.items())
    # The regression on arm, strata about their shares, and the products, with HC2.
    dummies = np.column_stack([(stratum == h) - shares[h] for h in strata])[:, 1:]
    design = np.column_stack([treated, np.ones(len(y)), dummies, dummies * treated[:, None]]).astype(float)
    fit = sm.OLS(y, design).fit(cov_type="HC2")
    agree("post-stratified", estimate, fit.params[0], 1e-8)
    agree("post-stratified error", np.sqrt(variance), fit.bse[0], 1e-9)
    return fields(*means, estimate, np.sqrt(variance))


# ---------------------------------------------------------------------------------------------------- experiments


KNOWN = ALLOCATIONS.assign(day=civil_day(ALLOCATIONS.allocated_at)).sort_values("allocated_at")


class Assigned:
    """The units of an experiment as they are known at the end of a day."""

    def __init__(self, name, experiment, day):
        known = KNOWN[(KNOWN.test_id == name) & (KNOWN.day <= day)]
        first = known.drop_duplicates("account_id").set_index("account_id").reindex(UNIT)
        self.seen = first.cell.fillna("").to_numpy(str)
        several = known.groupby("account_id").cell.nunique().reindex(UNIT, fill_value=0).to_numpy() > 1
        self.several = int(several.sum())
        self.arm = np.where(several, "", self.seen)
        self.day = first.day.fillna(10**6).to_numpy(int)
        self.country = first.country.astype(object).where(first.country.notna(), None).to_numpy()
        self.arms = sorted(set(self.arm) - {"", experiment["control"]})

    def slices(self, segments):
        """Everybody, then the values of each segment."""
        yield "", None, np.ones(len(UNIT), bool)
        for segment in segments:
            yield segment, None, np.array([c is None for c in self.country])
            for value in ["BR", "DE", "US"]:
                yield segment, value, self.country == value


def windows(assigned, experiment, day):
    """The periods that end on a day: for each unit the days that count, and the units that are analysed."""
    since, here = assigned.day[:, None], assigned.arm != ""
    cumulative = (DAY >= since) & (DAY <= day)
    for period in experiment["periods"]:
        match period:
            case "day":
                yield period, cumulative & (DAY == day), here
            case "cumulative":
                yield period, cumulative, here
            case "overall":
                if day == ordinal(experiment["end"]):
                    yield period, cumulative, here
            case "days(7)":
                observed = here & (assigned.day + 6 <= day)
                if observed.any():
                    yield period, (DAY >= since) & (DAY < since + 7), observed


def effects(assigned, experiment, day):
    """Everything that is published of a date."""
    look_back = JOB["metrics"]["watch_minutes"]["covariate"]["lookback_days"]
    since = assigned.day[:, None]
    before = (DAY < since) & (DAY >= since - look_back)
    for period, window, here in windows(assigned, experiment, day):
        for metric in experiment["metrics"]:
            y, below = values(metric, window)
            x = values(metric, before)[0] if "covariate" in JOB["metrics"][metric] else None
            for segment, value, inside in assigned.slices(experiment.get("segments", [])):
                analysed = here & inside & ~np.isnan(y)
                for arm in assigned.arms:
                    t, c = (analysed & (assigned.arm == a) for a in (arm, experiment["control"]))
                    of = [period, metric, segment, value, arm]
                    if metric == "session_length":
                        for q, made in quantiles(window, t, c):
                            yield dict(zip(KEYS[2:], [*of, "bootstrap_quantile", q], strict=True)) | made
                        continue
                    for estimator, made in estimators(metric, assigned, experiment, (y, below, x), t, c):
                        yield dict(zip(KEYS[2:], [*of, estimator, None], strict=True)) | made


def estimators(metric, assigned, experiment, columns, t, c):
    """The estimators of an experiment that a metric can take."""
    y, below, x = columns
    if isinstance(experiment["expected"], list):
        # Where shares change, the arms are of different days: strata are the periods of the shares.
        yield "ttest", dict.fromkeys(FIELDS)
        starts = [ordinal(period["from"]) for period in experiment["expected"]]
        stratum, both = np.searchsorted(starts, assigned.day, side="right"), t | c
        yield "post_stratify", post_stratify(y[both], None if x is None else x[both], t[both], stratum[both])
        return

    def arms(y):
        return [Arm(y[a], below[a], HASH[a] if metric in ADDITIVE else None) for a in (t, c)]

    ratio = metric == "rebuffers_per_hour"
    yield "ratio_test" if ratio else "ttest", compare(*arms(y))
    if "bootstrap" in experiment["estimators"]:
        yield "bootstrap_ratio" if ratio else "bootstrap_mean", compare(*arms(y)) | {"std_error": None}
    if metric == "bought":
        yield "proportion_test", proportion_test(*arms(y))
    if x is not None:
        yield "cuped", cuped(*arms(y), *arms(x))


def sample_ratio(arms, weights):
    """The p-value of Pearson's test."""
    shares = np.array([weights[arm] for arm in sorted(weights)], float)
    counts = np.array([(arms == arm).sum() for arm in sorted(weights)])
    return stats.chisquare(counts, counts.sum() * shares / shares.sum()).pvalue


def blocked(name, assigned, experiment):
    """Whether the sample ratio is broken. What is not broken is not close to it, nor to what else would block."""
    phases = experiment["expected"]
    phases = phases if isinstance(phases, list) else [{"from": experiment["start"]} | phases]
    starts = [ordinal(phase["from"]) for phase in phases]
    found = []
    for i, phase in enumerate(phases):
        until = (starts + [10**5])[i + 1]
        inside = (assigned.day >= starts[i]) & (assigned.day < until)
        weights = {arm: weight for arm, weight in phase.items() if arm != "from"}
        for arms in (assigned.seen, assigned.arm):
            if inside.any():
                found.append(sample_ratio(arms[inside], weights))
    assert assigned.several < 0.008 * (assigned.seen != "").sum()
    broken = min(found) < 1e-6
    assert broken or min(found) > 0.005, (name, found)
    return broken


def expected():
    """The lines of the file."""
    for name, experiment in JOB["experiments"].items():
        for day in range(ordinal(experiment["start"]), min(ordinal(experiment["end"]), ordinal(LAST)) + 1):
            assigned = Assigned(name, experiment, day)
            if blocked(name, assigned, experiment):
                assert name == "test_03"
                continue
            assert name != "test_03"
            for line in effects(assigned, experiment, day):
                yield {"experiment": name, "analysis_date": date(day)} | line


def write(name, header, lines):
    """Writes a CSV file."""
    with open(FOLDER / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def shown(value):
    """A cell: doubles to 13 digits, which do not depend on the order in which a processor adds."""
    return "" if value is None else f"{value:.13g}" if isinstance(value, float) else value


for _, row, *_ in rows.design():
    assert row.start == str(JOB["experiments"][row.experiment]["start"])
    assert pd.Timestamp(row.start) >= FIRST
write("checksums.csv", ["night", "path", "rows", "digest"], rows.checksums(SESSIONS, ORDERS, ALLOCATIONS))
lines = list(expected())
for line in lines:
    assert line["estimate"] is None or line["estimator"].startswith("bootstrap") or line["std_error"] > 0, line
write("expected.csv", KEYS + FIELDS, ([shown(line[key]) for key in KEYS + FIELDS] for line in lines))
write_metadata(
    FOLDER,
    ["numpy", "pandas", "scipy", "statsmodels", "xxhash"],
    "1e-9 relative",
    "generated by rows.py, by the formulas of tests/src/programme",
)

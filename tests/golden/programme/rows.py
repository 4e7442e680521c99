"""The rows of the programme, by the formulas of tests/src/programme: every number is a pure function of integers."""

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
FIRST, LAST = pd.Timestamp("2026-03-10"), pd.Timestamp("2026-04-18")
HISTORY = FIRST - pd.Timedelta(days=14)
UNITS = 4000
ZONE = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000_000

# What is drawn; the position is the number of its stream.
DRAWS = """never visits level buys country device active sessions started watch_a watch_b missing rebuffers delay
device_of_session late file bought amount late_bought participates when allocated arm again crossed""".split()


def mix(state):
    """SplitMix64's step."""
    z = np.atleast_1d(np.asarray(state, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw(what, *keys):
    """A number of 64 bits for each combination of keys."""
    state = mix(DRAWS.index(what))
    for key in keys:
        state = mix(state ^ np.atleast_1d(np.asarray(key)).astype(np.uint64))
    return state


def below(n, what, *keys):
    """An integer from 0 to n − 1."""
    return (draw(what, *keys) % np.uint64(n)).astype(np.int64)


def ordinal(day):
    """Days since 1970-01-01."""
    return (pd.Timestamp(day) - pd.Timestamp(0)).days


def date(ordinal):
    """The text of a day."""
    return f"{pd.Timestamp(ordinal, unit='D'):%F}"


def midnights():
    """The beginning of each civil day, in microseconds since 1970, by days since 1970."""
    days = pd.date_range(HISTORY, LAST + pd.Timedelta(days=10))
    return {ordinal(d): int(d.tz_localize(ZONE).timestamp()) * 1_000_000 for d in days}


MIDNIGHT = midnights()


def moment(key, day):
    """An instant of a civil day, often close to midnight or to the hour that the change of the clock takes away."""
    begin = np.array([MIDNIGHT[d] for d in day])
    length = np.array([MIDNIGHT[d + 1] for d in day]) - begin
    place, r = key % np.uint64(20), mix(key)
    within = lambda n: (r % np.asarray(n, np.uint64)).astype(np.int64)  # noqa: E731
    cases = [within(HOUR), length - HOUR + within(HOUR), HOUR + within(2 * HOUR), within(2) * (length - 1)]
    return begin + np.select([place == i for i in range(4)], cases, within(length))


def unit(u):
    """The account of a unit."""
    return 10_000 + 7 * u


def country(u):
    """The country of a unit; empty where it has none."""
    r = below(100, "country", u)
    return np.select([r < 45, r < 75, r < 90], ["DE", "US", "BR"], "")


def design():
    """Each experiment, with day and arm of the allocation of every unit; -1 where a unit does not take part."""
    table = pd.read_csv(FOLDER / "design.csv", dtype={"shares": str, "first_shares": str})
    u = np.arange(UNITS)
    for e, row in table.iterrows():
        start = ordinal(row.start)
        day = start + below(row.days, "when", e, u)

        def arm(shares, e=e):
            ends = np.cumsum([int(s) for s in shares.split(":")])
            return np.searchsorted(ends, below(ends[-1], "arm", e, u), side="right")

        arms = arm(row.shares)
        if isinstance(row.first_shares, str):
            arms = np.where(day < start + 4, arm(row.first_shares), arms)
        takes_part = below(1000, "participates", e, u) < row.units_per_mille
        yield e, row, np.where(takes_part, day, -1), np.where(takes_part, arms, -1)


def allocations():
    """The rows of assignments, with the night on which they arrive."""
    parts = []

    def add(e, row, u, day, arms, which, country_of):
        at = moment(draw("allocated", e, u, which), day)
        cells = np.char.add("cell_", (arms + 1).astype(str))
        columns = {"night": day, "allocated_at": at, "test_id": row.experiment, "account_id": unit(u)}
        parts.append(pd.DataFrame(columns | {"cell": cells, "country": country(country_of)}))

    for e, row, day, arms in design():
        u = np.flatnonzero(day >= 0)
        add(e, row, u, day[u], arms[u], 0, u)
        # Some are allocated once more, to the same arm, after they moved to another country.
        again = u[below(40, "again", e, u) == 0]
        add(e, row, again, day[again] + 1 + again % 3, arms[again], 1, again + 1)
        if not np.isnan(row.crossed):
            crossed = u[below(250, "crossed", e, u) == 0]
            last = row.shares.count(":")
            since = np.full(len(crossed), ordinal(row.start) + int(row.crossed))
            add(e, row, crossed, since, last - arms[crossed], 2, crossed)
    table = pd.concat(parts, ignore_index=True)
    table["country"] = table.country.where(table.country != "", None)
    return table[table.night <= ordinal(LAST)].reset_index(drop=True)


def sessions():
    """The rows of sessions, with the night on which they arrive."""
    days = np.arange(ordinal(HISTORY), ordinal(LAST) + 1)
    u = np.arange(UNITS)
    visits = np.where(below(10, "never", u) == 0, 0, 200 + below(700, "visits", u))
    u, day = (grid.ravel() for grid in np.meshgrid(u, days, indexing="ij"))
    active = below(1000, "active", u, day) < visits[u]
    u, day = u[active], day[active]
    number = np.array([1, 1, 1, 1, 2, 3])[below(6, "sessions", u, day)]
    j = np.concatenate([np.arange(n) for n in number])
    u, day = np.repeat(u, number), np.repeat(day, number)
    key = (u, day, j)

    level = below(100, "level", u)
    level = 20 + level * level // 25
    hundredths = level * (1 + below(1000, "watch_a", *key)) * (1 + below(1000, "watch_b", *key)) // 15_000
    for _, row, since, arms in design():
        treated = (since[u] >= 0) & (since[u] <= day)
        hundredths = np.where(treated, hundredths + hundredths * row.lift * arms[u] // 100, hundredths)
    missing = below(100, "missing", *key) == 0
    r = below(50, "device_of_session", *key)
    device = np.where(r % 3 == 0, below(4, "device", u), r % 4)
    device = np.array(["tv", "phone", "web", "tablet"], object)[device]
    late = np.select([(r2 := below(100, "late", *key)) < 90, r2 < 95, r2 < 98], [0, 1, 2], 3)
    table = pd.DataFrame(
        {
            "night": day + late,
            "account_id": unit(u),
            "started_at": moment(draw("started", *key), day),
            "watch_min": np.where(missing, np.nan, hundredths / 100.0),
            "rebuffers": hundredths * below(4, "rebuffers", *key) // 5000,
            "play_delay_ms": (2000 + below(100_000, "delay", *key)) / 70.0,
            "device": pd.Series(device, dtype=object).where(r != 0, None),
        }
    )
    return table[table.night <= ordinal(LAST)].reset_index(drop=True)


LATE_ORDERS, LATE_NIGHT = ordinal("2026-03-31"), ordinal("2026-04-03")
RESTATED, RESTATED_NIGHT = ordinal("2026-03-21"), ordinal("2026-03-29")


def orders():
    """The rows of orders with the file that they are in and the night on which it is written; a file that is written
    again has all of its rows again, of another version."""
    days = np.arange(ordinal(FIRST), ordinal(LAST) + 1)
    u = np.arange(UNITS)
    often = 10 + below(100, "buys", u)

    def rows(day, night, version):
        if version == 2:
            bought, name = below(100, "late_bought", u, day) == 0, f"late-{date(day)}"
        else:
            bought, name = below(1000, "bought", u, day) < often, date(day)
        who = u[bought]
        r = draw("amount", who, day, version)
        cents = 199 + (r % np.uint64(9800)).astype(np.int64)
        kind = mix(r) % np.uint64(25)
        cents = np.select([kind == 0, kind == 1], [0, -cents], cents)
        columns = {"night": night, "path": f"orders/{name}.csv", "version": version}
        return pd.DataFrame(columns | {"account_id": unit(who), "day": day, "amount": cents / 100.0})

    parts = [rows(day, day, 0) for day in days]
    parts += [rows(RESTATED, RESTATED_NIGHT, 1), rows(LATE_ORDERS, LATE_NIGHT, 2)]
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------------------------------------------- checksums


def words(column):
    """The cells of a column as words of 64 bits; a text is folded over its bytes."""
    if column.dtype == np.float64:
        found = column.to_numpy().view(np.uint64)
    elif column.dtype == np.int64:
        found = column.to_numpy().astype(np.uint64)
    else:
        folded = {text: fold(text) for text in column.dropna().unique()}
        found = np.array([folded.get(text, 0) for text in column], np.uint64)
    return np.where(column.isna(), np.uint64(2**64 - 1), found)


def fold(text):
    state = np.uint64(len(text.encode()))
    for byte in text.encode():
        state = mix(state ^ np.uint64(byte))[0]
    return state


def digest(rows):
    """A number that differs where a cell of a row differs, whatever the order of the rows."""
    state = np.zeros(len(rows), np.uint64)
    for name in rows.columns:
        state = mix(state ^ words(rows[name]))
    return int(state.sum(dtype=np.uint64)) if len(rows) else 0


def checksums(sessions, orders, allocations):
    """The files of every night: their rows and digests."""
    for night, rows in sessions.groupby("night"):
        yield date(night), f"sessions/ds={date(night)}/", len(rows), digest(rows.drop(columns="night"))
    for (night, path), rows in orders.groupby(["night", "path"]):
        yield date(night), path, len(rows), digest(rows[["account_id", "day", "amount"]])
    for night in range(ordinal(FIRST), ordinal(LAST) + 1):
        rows = allocations[allocations.night == night].drop(columns="night")
        yield date(night), f"allocations/{date(night)}.parquet", len(rows), digest(rows)

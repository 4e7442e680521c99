"""What a night costs: 28 days of 2 million rows, 20 experiments of additive metrics, night by night.

    python nights.py GOSSET FOLDER [--days 28] [--rows 2000000] [--units 500000] [--experiments 20] [--metrics longest ...]

Writes the lake of each day into FOLDER (DuckDB makes it), runs the job on it as a night would, and prints CPU seconds, peak
memory and bytes of the store for each night, and the ratio of the last night to the first. Metrics whose values over days are not
the sums of their days (longest, played, session_length) read all unit-days of an experiment on every night.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb

JOB = """
[job]
name = "nights"
store = "results"
[sources.sessions]
url = "sessions/"
unit = "unit"
time = "at"
partition = "ds"
[assignments]
url = "assigned/"
experiment = "test"
unit = "unit"
arm = "arm"
time = "at"
[metrics.minutes]
source = "sessions"
value = "sum(minutes)"
[metrics.sessions]
source = "sessions"
value = "count(*)"
[metrics.stalls_per_hour]
source = "sessions"
numerator = "sum(stalls)"
denominator = "sum(minutes) / 60"
[metrics.longest]
source = "sessions"
value = "max(minutes)"
[metrics.played]
source = "sessions"
value = "bool_or(minutes > 60)"
"""

QUANTILES = """
[metrics.session_length]
source = "sessions"
quantile = { of = "minutes", at = [0.5, 0.9] }
[estimators.quantile]
replicates = 200
"""

ADDITIVE = ["minutes", "sessions", "stalls_per_hour"]

EXPERIMENT = """
[experiments.test_{i:02}]
control = "a"
start = {start}
end = {end}
metrics = {metrics}
periods = ["day", "cumulative", "overall"]
estimators = {estimators}
expected = {{ a = 1, b = 1 }}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gosset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--units", type=int, default=500_000)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--metrics", nargs="+", default=ADDITIVE)
    options = parser.parse_args()
    start = date(2026, 3, 2)
    end = start + timedelta(days=options.days - 1)
    folder = options.folder
    (folder / "assigned").mkdir(parents=True, exist_ok=True)
    of_rows = "session_length" in options.metrics
    estimators = ["ttest", "quantile"] if of_rows else ["ttest"]
    named = {"start": start, "end": end, "metrics": json.dumps(options.metrics), "estimators": json.dumps(estimators)}
    experiments = "".join(EXPERIMENT.format(i=i, **named) for i in range(options.experiments))
    (folder / "job.toml").write_text(JOB + (QUANTILES if of_rows else "") + experiments)
    db = duckdb.connect()
    # Each unit is in four of the experiments, from the first day on.
    db.execute(f"""
        COPY (SELECT format('test_{{:02}}', t) AS test, u AS unit, TIMESTAMPTZ '{start} 00:00:00+00' AS at,
                     CASE WHEN hash(u, t, 1) % 2 = 0 THEN 'a' ELSE 'b' END AS arm
              FROM range({options.units}) AS units(u), range({options.experiments}) AS tests(t) WHERE hash(u, t) % 5 = 0)
        TO '{folder}/assigned/all.parquet' (FORMAT parquet)""")
    costs = []
    for i in range(options.days):
        day = start + timedelta(days=i)
        ds = folder / f"sessions/ds={day}"
        ds.mkdir(parents=True, exist_ok=True)
        db.execute(f"""
            COPY (SELECT (hash(i, {i}) % {options.units})::BIGINT AS unit,
                         TIMESTAMPTZ '{day} 00:00:00+00' + to_seconds((hash(i, {i}, 2) % 86400)::BIGINT) AS at,
                         -ln((hash(i, {i}, 3) % 1000000 + 1) / 1000001.0) * 30 AS minutes,
                         (hash(i, {i}, 4) % 3)::BIGINT AS stalls
                  FROM range({options.rows}) AS rows(i)) TO '{ds}/rows.parquet' (FORMAT parquet)""")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.time()
        subprocess.run([options.gosset, "run", "job.toml", "--date", str(day)], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        costs.append(cpu)
        store = sum(f.stat().st_size for f in (folder / "results").rglob("*") if f.is_file())
        print(f"night {i + 1:2}: {cpu:6.2f} s CPU, {time.time() - began:6.2f} s, {after.ru_maxrss / 1024:6.0f} MiB at most, "
              f"store {store / 2**20:7.1f} MiB", flush=True)
    print(f"last night over the first: {costs[-1] / costs[0]:.2f}; over the second: {costs[-1] / costs[1]:.2f}")


if __name__ == "__main__":
    sys.exit(main())

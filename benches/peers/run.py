"""Gosset beside its peers on one file, one after the other: CPU seconds, wall seconds, peak memory and the ratio of CPU.

usage: run.py GOSSET FILE [REPEATS [TASK ...]]       GOSSET is a release build of the binary; the least of the repeats counts,
of which there are more, up to ten, until all of them have taken ten seconds of CPU: what is short is all the noisier

duckreg is run by the interpreter of the environment variable DUCKREG_PYTHON, and left out without it.
"""
import json, os, resource, subprocess, sys, time

import pyarrow.parquet as pq

gosset, path = sys.argv[1:3]
repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 2
only = sys.argv[4:]
here = os.path.dirname(os.path.abspath(__file__))
UNITS = f"""(SELECT unit_id, min(CAST(arm AS VARCHAR)) AS arm, min(CAST(country AS VARCHAR)) AS country, exact_avg(watch_min) AS y, exact_avg(pre_watch_min) AS x
            FROM '{path}' GROUP BY unit_id)"""
NAMED = "{treatment: 'treatment', control: 'control'}"
POISSON = "{method: 'poisson', treatment: 'treatment', control: 'control'}"
# Peers do so many of T4's 1000 replicates; their time is scaled.
SCALE = {("duckdb", "T4"): 50, ("numpy", "T4"): 50}
# The interpreters of peers that have one of their own.
PYTHONS = {"duckreg": os.environ.get("DUCKREG_PYTHON")}
# With a dense design of 201 columns it is not run beyond two million rows, where it takes tens of gigabytes.
DENSE = [("pyfixest", "T6")]
PEERS = {"T1": ["duckdb", "polars"], "T2": ["duckdb", "polars"], "T3": ["numpy", "numpy-poisson", "duckdb", "chdb"], "T3b": ["numpy"], "T4": ["numpy", "duckdb"], "T5": ["duckdb", "pyfixest", "statsmodels", "duckreg"], "T6": ["duckdb", "pyfixest"], "T7": ["duckdb"]}
# The table of T7, made of nothing: ten times as many rows as FILE has, 70,000 of them distinct but for the outcome.
groups = path.removesuffix(".parquet") + "-groups.parquet"
GROUPS = f"""COPY (SELECT CASE i % 2 WHEN 0 THEN 'control' ELSE 'treatment' END AS arm, concat('C', (i / 2) % 20) AS country, (i / 40) % 1750 AS x,
                          CAST((i * 7919) % 10007 AS DOUBLE) / 1000 + 0.3 * (i % 2) + CAST((i / 40) % 1750 AS DOUBLE) / 500 AS y
                   FROM generate_series(1, {10 * pq.ParquetFile(path).metadata.num_rows}) AS g (i)) TO '{groups}'"""
# What is shown is the ratio; both are computed. Of rows: the function adds them up by unit.
BOOTSTRAP = f"""SELECT e['estimate'] AS estimate, e['std_error'] AS std_error
                FROM (SELECT unnest(bootstrap_effects({{{{watch: watch_min, revenue: {{{{num: revenue, den: plays}}}}}}}}, arm, unit_id, {{}})) AS e FROM '{path}') WHERE e['metric'] = 'revenue'"""
QUERIES = {
    "T1": f"SELECT e['estimate'] AS estimate, e['std_error'] AS std_error FROM (SELECT ttest(y, arm, {NAMED}) AS e FROM {UNITS})",
    "T3": BOOTSTRAP.format(POISSON),
    "T3b": BOOTSTRAP.format(NAMED),
    "T5": f"""SELECT c['estimate'] AS estimate, c['std_error'] AS std_error
              FROM (SELECT unnest(ols_clustered(watch_min, {{arm: arm, country: country, before: pre_watch_min}}, unit_id)['coefficients']) AS c FROM '{path}') WHERE c['term'] = 'arm[treatment]'""",
    "T6": f"""SELECT e['estimate'] AS estimate, e['std_error'] AS std_error
              FROM (SELECT unnest(conditional_effects(gram(watch_min, {{arm: arm, segment: arrow_cast(unit_id % 100, 'Utf8'), before: pre_watch_min}}),
                                                      {{treatment: 'arm', segment: 'segment', vcov: 'classical'}})) AS e FROM '{path}') WHERE e['segment'] = '7'""",
    "T7": f"""SELECT c['estimate'] AS estimate, c['std_error'] AS std_error
              FROM (SELECT unnest(ols(y, {{arm: arm, country: country, x: x}}, {{max_rows: 131072}})['coefficients']) AS c FROM '{groups}') WHERE c['term'] = 'arm[treatment]'""",
    "T4": f"""SELECT e['estimate'] AS estimate, e['std_error'] AS std_error
              FROM (SELECT unnest(quantile_effects(play_delay_ms, arm, unit_id, {{treatment: 'treatment', control: 'control', grid: [0.5, 0.9, 0.99]}})) AS e FROM '{path}')
              WHERE e['q'] = 0.9""",
    "T2": f"""SELECT e['estimate'] AS estimate, e['std_error'] AS std_error
              FROM (SELECT country, cuped(y, x, arm, {NAMED}) AS e FROM {UNITS} GROUP BY country) WHERE country = 'C00'""",
}


def child(command, parse):
    """Runs a command; its own CPU and peak memory, children included."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / 1024, "result": parse(out)}


def least(command, parse):
    runs = []
    while len(runs) < repeats or len(runs) < 10 and sum(run["cpu"] for run in runs) < 10:
        runs.append(child(command, parse))
    return min(runs, key=lambda run: run["cpu"])


print(f"{'task':4} {'engine':11} {'CPU s':>8} {'wall s':>8} {'MiB':>6} {'CPU, of Gosset':>15}   estimate, std_error")
for task, query in sorted(QUERIES.items()):
    if only and task not in only:
        continue
    peers = [p for p in PEERS[task] if (p, task) not in DENSE or os.path.getsize(path) < 50e6]
    peers = [p for p in peers if PYTHONS.get(p, sys.executable)]
    if task == "T7" and not os.path.exists(groups):
        subprocess.run([gosset, "sql", "-c", GROUPS], check=True, stdout=subprocess.DEVNULL)
    ways = {"gosset": ([gosset, "sql", "--partitions", "2", "--format", "ndjson", "-c", query], json.loads)}
    for peer in peers:
        ways[peer] = ([PYTHONS.get(peer, sys.executable), os.path.join(here, "peers.py"), peer, task, groups if task == "T7" else path], lambda out: json.loads(out)["result"])
    best = {name: least(*way) for name, way in ways.items()}
    for name, r in best.items():
        r["cpu"] *= SCALE.get((name, task), 1)
        r["wall"] *= SCALE.get((name, task), 1)
        ratio = r["cpu"] / best["gosset"]["cpu"]
        print(f"{task:4} {name:11} {r['cpu']:8.2f} {r['wall']:8.2f} {r['rss']:6.0f} {ratio:15.2f}   {r['result']['estimate']:.12g}, {r['result']['std_error']:.12g}")

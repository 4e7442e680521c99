"""Gosset beside its peers on one file, one after the other: CPU seconds, wall seconds, peak memory and the ratio of CPU.

usage: run.py GOSSET FILE [REPEATS]       GOSSET is a release build of the binary; the least of the repeats counts
"""
import json, os, resource, subprocess, sys, time

gosset, path = sys.argv[1:3]
repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 2
here = os.path.dirname(os.path.abspath(__file__))
UNITS = f"""(SELECT unit_id, min(CAST(arm AS VARCHAR)) AS arm, min(CAST(country AS VARCHAR)) AS country, exact_avg(watch_min) AS y, exact_avg(pre_watch_min) AS x
            FROM '{path}' GROUP BY unit_id)"""
NAMED = "{treatment: 'treatment', control: 'control'}"
QUERIES = {
    "T1": f"SELECT e['estimate'] AS estimate, e['std_error'] AS std_error FROM (SELECT ttest(y, arm, {NAMED}) AS e FROM {UNITS})",
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


def least(runs):
    return min(runs, key=lambda r: r["cpu"])


print(f"{'task':4} {'engine':8} {'CPU s':>8} {'wall s':>8} {'MiB':>6} {'CPU, of Gosset':>15}   estimate, std_error")
for task, query in QUERIES.items():
    ways = {"gosset": ([gosset, "sql", "--partitions", "2", "--format", "ndjson", "-c", query], json.loads)}
    for peer in ("duckdb", "polars"):
        ways[peer] = ([sys.executable, os.path.join(here, "peers.py"), peer, task, path], lambda out: json.loads(out)["result"])
    best = {name: least([child(*way) for _ in range(repeats)]) for name, way in ways.items()}
    for name, r in best.items():
        ratio = r["cpu"] / best["gosset"]["cpu"]
        print(f"{task:4} {name:8} {r['cpu']:8.2f} {r['wall']:8.2f} {r['rss']:6.0f} {ratio:15.2f}   {r['result']['estimate']:.12g}, {r['result']['std_error']:.12g}")

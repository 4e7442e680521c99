"""A cluster beside one session: CPU seconds and wall seconds of the same query, and the bytes that executors shuffle.

    python cluster.py GOSSET FOLDER [--repeats 2] [--tasks T2 T3 T3g T3u]

FOLDER holds Parquet files of generate.py (--files 64). GOSSET starts a scheduler and executors on loopback: one with one slot, two
with one slot each, and one with two slots beside a session of two partitions. CPU is that of all processes together, planning and
the client's share included; what processes use while they idle is measured and taken off. The least of the repeats counts.

Where rows are shuffled, a task for each file beside a task for each slot tells what tasks cost, and a state that is shuffled and
merged; the bytes stand beside what EXPLAIN says of a group. From the times come the constants of the model of deploy/README.md:
seconds of a query, of a row, and of a mebibyte of states, and what the model says of every way that was measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
NAMED = "{treatment: 'treatment', control: 'control'}"
SHOWN = "e['metric'] AS metric, e['estimate'] AS estimate, e['std_error'] AS std_error"
METRICS = "{{watch: {{num: {}, den: {}}}, revenue: {{num: {}, den: {}}}}}"


def queries(folder):
    rows = f"'{folder}/'"
    units = f"""(SELECT unit_id, bool_or(arm = 'treatment') AS treated, exact_sum(watch_min) AS watch, count(*) AS n,
                        exact_sum(revenue) AS revenue, sum(plays) AS plays FROM {rows} GROUP BY unit_id)"""
    of_rows, of_units = METRICS.format("watch_min", "1", "revenue", "plays"), METRICS.format("watch", "n", "revenue", "plays")
    return {
        # Rows of units meet by hashes of the unit that summaries keep: no unit is shuffled.
        "T3": f"SELECT {SHOWN} FROM (SELECT unnest(bootstrap_effects({of_rows}, arm = 'treatment', unit_id, {{method: 'poisson'}})) AS e FROM {rows})",
        # The same for each of twenty countries.
        "T3g": f"""SELECT country AS metric, e['estimate'] AS estimate, e['std_error'] AS std_error FROM
                   (SELECT country, bootstrap_ratio(watch_min, 1, arm = 'treatment', unit_id, {{method: 'poisson'}}) AS e FROM {rows} GROUP BY country)""",
        # Units are made of rows first: rows are shuffled by their unit.
        "T3u": f"SELECT {SHOWN} FROM (SELECT unnest(bootstrap_effects({of_units}, treated, unit_id, {{method: 'poisson'}})) AS e FROM {units})",
        # Groups with small states.
        "T2": f"""SELECT country AS metric, e['estimate'] AS estimate, e['std_error'] AS std_error
                  FROM (SELECT country, cuped(watch_min, pre_watch_min, arm, {NAMED}) AS e FROM {rows} GROUP BY country) ORDER BY country""",
    }


class Process:
    """A scheduler or an executor."""

    def __init__(self, arguments, http):
        self.child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.http = http

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz").status == 200
        except OSError:
            return False

    def cpu(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Cluster:
    """A scheduler and executors, of some slots each."""

    def __init__(self, gosset, slots, work):
        port = 47050
        self.address = f"df://127.0.0.1:{port}"
        self.work = work
        scheduler = [gosset, "scheduler", "--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{port + 1}"]
        self.processes = [Process(scheduler, port + 1)]
        for i, n in enumerate(slots):
            at = port + 2 + 2 * i
            executor = [gosset, "executor", "--scheduler", f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{at}", "--http", f"127.0.0.1:{at + 1}"]
            self.processes.append(Process([*executor, "--slots", str(n), "--work-dir", f"{work}/{i}", "--drain", "1"], at + 1))

    def __enter__(self):
        for _ in range(600):
            if all(process.ready() for process in self.processes):
                time.sleep(2)
                return self
            time.sleep(0.1)
        raise SystemExit("the cluster did not start")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.child.terminate()
        for process in self.processes:
            process.child.wait()

    def cpu(self):
        return sum(process.cpu() for process in self.processes)

    def shuffled(self):
        """Bytes of shuffle files that are there: executors delete them when a query is over."""
        total = 0
        for folder, _, files in os.walk(self.work):
            for file in files if "shuffle" in folder.split(os.sep) else ():
                try:
                    total += os.stat(os.path.join(folder, file)).st_size
                except FileNotFoundError:
                    pass
        return total


class Watched(threading.Thread):
    """The most bytes of shuffle files while a query runs."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.most, self.over = cluster, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, self.cluster.shuffled())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def per_group(gosset, query):
    """KiB of a group's state, as EXPLAIN says."""
    told = subprocess.run([gosset, "sql", "-c", f"EXPLAIN {query}"], capture_output=True, text=True, check=True).stdout
    sizes = re.findall(r"about (\d+) (KiB|bytes) per group", told)
    size, unit = sizes[0] if sizes else ("0", "KiB")
    return int(size) if unit == "KiB" else int(size) / 1024


def client(arguments):
    """Runs a query: its own CPU, its time, and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{arguments} failed")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.perf_counter() - start, "out": sorted(sorted(json.loads(line).items()) for line in out.splitlines() if line)}


def measured(gosset, query, repeats, slots=None, partitions=None):
    """The least of the repeats on a cluster, or in one session."""
    command = [gosset, "sql", "--format", "ndjson", "-c", query]
    if partitions:
        command += ["--partitions", str(partitions)]
    runs = []
    if slots is None:
        runs = [client(command) | {"shuffled": 0} for _ in range(repeats)]
        return min(runs, key=lambda run: run["cpu"])
    with tempfile.TemporaryDirectory() as work, Cluster(gosset, slots, work) as cluster:
        before, began = cluster.cpu(), time.perf_counter()
        time.sleep(10)
        idle = (cluster.cpu() - before) / (time.perf_counter() - began)
        for _ in range(repeats):
            before = cluster.cpu()
            with Watched(cluster) as watched:
                run = client([*command, "--cluster", cluster.address])
            run["shuffled"] = watched.most
            run["cpu"] += cluster.cpu() - before - idle * run["wall"]
            runs.append(run)
    return min(runs, key=lambda run: run["cpu"])


def rows_of(gosset, folder):
    return int(dict(client([gosset, "sql", "--format", "ndjson", "-c", f"SELECT count(*) AS n FROM '{folder}/'"])["out"][0])["n"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gosset")
    parser.add_argument("folder")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=["T2", "T3", "T3g", "T3u"])
    options = parser.parse_args()
    folder = os.path.abspath(options.folder)
    files, rows = len(list(Path(folder).glob("*.parquet"))), rows_of(options.gosset, folder)
    ways = {
        "session, 1 partition": {"partitions": 1},
        "1 executor, 1 slot": {"slots": [1]},
        "2 executors, 1 slot": {"slots": [1, 1]},
        "session, 2 partitions": {"partitions": 2},
        "1 executor, 2 slots": {"slots": [2]},
    }
    # A query of next to nothing.
    nothing = measured(options.gosset, "SELECT count(*) AS n FROM generate_series(1, 3) WHERE value > random()", 3, slots=[1])["wall"]
    print(f"{rows} rows in {files} files; a query of nothing: {nothing:.2f} s")
    print(f"{'task':5} {'where':24} {'CPU s':>8} {'wall s':>8} {'MiB shuffled':>13}")
    for task, query in queries(folder).items():
        if task not in options.tasks:
            continue
        grouped = "GROUP BY country" in query
        shuffles = "GROUP BY" in query
        of = {name: measured(options.gosset, query, options.repeats, **way) for name, way in ways.items()}
        if shuffles:
            of["2 executors, many tasks"] = measured(options.gosset, query, options.repeats, slots=[1, 1], partitions=files)
        for name, run in of.items():
            print(f"{task:5} {name:24} {run['cpu']:8.2f} {run['wall']:8.2f} {run['shuffled'] / 2**20:13.2f}", flush=True)
        same = all(run["out"] == of["session, 1 partition"]["out"] for run in of.values())

        def ratio(what, a, b):
            return of[a][what] / of[b][what]

        print(f"{task:5} same digits: {same}; CPU of two executors over one: {ratio('cpu', '2 executors, 1 slot', '1 executor, 1 slot'):.2f}, "
              f"wall of one over two: {ratio('wall', '1 executor, 1 slot', '2 executors, 1 slot'):.2f}; CPU of a cluster over a session: "
              f"{ratio('cpu', '1 executor, 1 slot', 'session, 1 partition'):.2f} (1 slot), {ratio('cpu', '1 executor, 2 slots', 'session, 2 partitions'):.2f} (2)")
        of_row = (of["1 executor, 1 slot"]["wall"] - nothing) / rows
        print(f"{task:5} a row: {of_row * 1e6:.3f} us of a slot, {of['2 executors, 1 slot']['shuffled'] / rows:.2f} bytes shuffled; "
              f"two slots by the model: {nothing + rows * of_row / 2:.2f} s")
        if shuffles:
            many, few = of["2 executors, many tasks"], of["2 executors, 1 slot"]
            print(f"{task:5} {files} tasks instead of 2: {(many['wall'] - few['wall']) / files**2 * 2e3:.2f} ms of a slot for each pair of a task that writes and one that reads")
        if grouped:
            mebibytes, groups = (many["shuffled"] - few["shuffled"]) / 2**20, len(few["out"])
            told = per_group(options.gosset, query)
            print(f"{task:5} a group: {told:.1f} KiB of state as EXPLAIN says, {many['shuffled'] / files / groups / 1024:.1f} KiB shuffled for each of {files} tasks and {groups} groups; "
                  f"{(many['cpu'] - few['cpu']) / max(mebibytes, 1e-9) * 1e3:.1f} ms of CPU a MiB, the overhead of tasks among it")


if __name__ == "__main__":
    sys.exit(main())

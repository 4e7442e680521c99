"""DuckDB and Polars on the tasks of benches/peers, on the file that Gosset gets.

usage: peers.py {duckdb|polars} {T1|T2} FILE      prints one JSON line: peer, task, wall, cpu, rss_mib, result

T1  Welch's t-test of watch_min per unit, treatment against control, from rows of units.
T2  CUPED of watch_min per unit on pre_watch_min, by country, from rows of units.
"""
import json, math, resource, sys, time

peer, task, path = sys.argv[1:4]
UNITS = """select unit_id, any_value(arm) arm, any_value(country) country, avg(watch_min) y, avg(pre_watch_min) x
           from '{p}' group by unit_id"""


def welch(c, t):
    (nc, mc, vc), (nt, mt, vt) = c, t
    return {"estimate": mt - mc, "std_error": math.sqrt(vt / nt + vc / nc)}


def cuped(c, t):
    """c, t: (n, mean y, mean x, var y, var x, cov)"""
    theta = ((c[0] - 1) * c[5] + (t[0] - 1) * t[5]) / ((c[0] - 1) * c[4] + (t[0] - 1) * t[4])
    v = lambda a: (a[3] - 2 * theta * a[5] + theta * theta * a[4]) / a[0]
    return {"estimate": t[1] - c[1] - theta * (t[2] - c[2]), "std_error": math.sqrt(v(c) + v(t))}


def by_country(rows):
    groups = {}
    for country, arm, *rest in rows:
        groups.setdefault(country, {})[arm] = rest
    return cuped(groups["C00"]["control"], groups["C00"]["treatment"])


def run_duckdb():
    import duckdb
    c = duckdb.connect()
    c.execute("set threads=2")
    units = UNITS.format(p=path)
    if task == "T1":
        rows = c.execute(f"select arm, count(*), avg(y), var_samp(y) from ({units}) group by arm order by arm").fetchall()
        return welch(rows[0][1:], rows[1][1:])
    return by_country(c.execute(f"""select country, arm, count(*), avg(y), avg(x), var_samp(y), var_samp(x), covar_samp(y, x)
                                    from ({units}) group by country, arm""").fetchall())


def run_polars():
    import polars as pl
    units = (pl.scan_parquet(path).group_by("unit_id")
             .agg(pl.first("arm"), pl.first("country"), pl.mean("watch_min").alias("y"), pl.mean("pre_watch_min").alias("x"))
             .with_columns(pl.col("arm").cast(pl.String), pl.col("country").cast(pl.String)))
    if task == "T1":
        rows = units.group_by("arm").agg(pl.len(), pl.mean("y"), pl.var("y").alias("v")).sort("arm").collect(engine="streaming").rows()
        return welch(rows[0][1:], rows[1][1:])
    frame = units.group_by("country", "arm").agg(pl.len(), pl.mean("y").alias("my"), pl.mean("x").alias("mx"), pl.var("y").alias("vy"),
                                                 pl.var("x").alias("vx"), pl.cov("y", "x").alias("c"))
    return by_country(frame.collect(engine="streaming").rows())


start = time.perf_counter()
result = {"duckdb": run_duckdb, "polars": run_polars}[peer]()
wall = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"peer": peer, "task": task, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime,
                  "rss_mib": usage.ru_maxrss / 1024, "result": result}))

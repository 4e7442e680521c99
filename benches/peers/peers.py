"""DuckDB, Polars and numpy on the tasks of benches/peers, on the file that Gosset gets.

usage: peers.py {duckdb|polars|numpy|numpy-poisson|chdb|pyfixest|statsmodels|duckreg} {T1|T2|T3|T3b|T4|T5|T6|T7} FILE      prints one JSON line: peer, task, wall, cpu, rss_mib, result

T1  Welch's t-test of watch_min per unit, treatment against control, from rows of units.
T2  CUPED of watch_min per unit on pre_watch_min, by country, from rows of units.
T3  Poisson bootstrap of units, 1000 replicates: mean of watch_min per row, ratio of revenue and plays; what is shown is the ratio.
    numpy: 8-bit draws through a table and a product of matrices; numpy-poisson: its Poisson draws. DuckDB and chdb: weights by
    a hash of unit and replicate, all replicates of a unit as rows or as an array.
T3b The same from 4096 buckets of hashed units.
T4  Poisson bootstrap of units: p50, p90 and p99 of play_delay_ms; 1000 replicates, of which peers do 20 and are scaled by 50.
    What is shown is the p90.
T5  OLS of watch_min on treatment, 20 countries and pre_watch_min, standard errors clustered by unit: by Gosset in 4096 buckets of
    units, whose standard error has a noise of about 1 %; by the peers unit by unit. duckreg has standard errors of clusters by a
    bootstrap alone, and does 5 of the 100 replicates of its default: its time is what it takes at least.
T6  The effect of treatment in each of 100 segments of units, with classical variances, by the regression on treatment, segment,
    their products and pre_watch_min. What is shown is that in segment 7.
T7  OLS with HC1 on arm, 20 countries and a number, of a table of ten times as many rows, of which 70,000 are distinct in these.
"""
import json, math, os, resource, sys, time

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


REPLICATES, OF_PEERS = 1000, 20


def unit_sums():
    """Sums of every unit and its arm, in the order of units."""
    import numpy as np, pyarrow.parquet as pq
    t = pq.read_table(path, columns=["unit_id", "arm", "watch_min", "revenue", "plays"])
    unit, arm = t["unit_id"].to_numpy(), np.concatenate([c.indices.to_numpy() for c in t["arm"].chunks])
    g = t.group_by("unit_id").aggregate([("watch_min", "sum"), ("watch_min", "count"), ("revenue", "sum"), ("plays", "sum")])
    order = np.argsort(g["unit_id"].to_numpy())
    of_unit = np.empty(len(order), np.int8)
    of_unit[np.searchsorted(g["unit_id"].to_numpy()[order], unit)] = arm
    sums = np.column_stack([g[c].to_numpy()[order].astype(float) for c in ("watch_min_sum", "watch_min_count", "revenue_sum", "plays_sum")])
    return sums, of_unit, t["arm"].chunk(0).dictionary.to_pylist()


def ratios(sums, names, estimate):
    """The difference of ratios with its standard error from replicates, of shape arm x replicate x sum."""
    t, c = names.index("treatment"), names.index("control")
    ratio = sums[..., 2] / sums[..., 3]
    return {"estimate": estimate[t] - estimate[c], "std_error": float((ratio[t] - ratio[c]).std(ddof=1))}


def run_numpy():
    import numpy as np, pyarrow.parquet as pq
    if task == "T3":
        x, arm, names = unit_sums()
        random, table = np.random.Generator(np.random.SFC64(1)), np.repeat(np.arange(6), [94, 95, 46, 16, 4, 1]).astype(np.float32)
        sums, estimate = np.zeros((2, REPLICATES, 4)), []
        if peer == "numpy-poisson":
            draw = lambda n: random.poisson(1.0, (REPLICATES, n)).astype(np.float32)
        else:
            draw = lambda n: table[np.frombuffer(random.bytes(REPLICATES * n), np.uint8)].reshape(REPLICATES, -1)
        for a in (0, 1):
            y = x[arm == a].astype(np.float32)
            for i in range(0, len(y), 4096):
                block = y[i:i + 4096]
                sums[a] += draw(len(block)) @ block
            total = x[arm == a].sum(0)
            estimate.append(total[2] / total[3])
        return ratios(sums, names, estimate)
    if task == "T3b":
        t = pq.read_table(path, columns=["unit_id", "arm", "watch_min", "revenue", "plays"])
        arm, k = np.concatenate([c.indices.to_numpy() for c in t["arm"].chunks]), (t["unit_id"].to_numpy() >> 20) & 4095
        place = arm.astype(np.int64) * 4096 + k
        x = np.stack([np.bincount(place, w, 8192) for w in (t["watch_min"].to_numpy(), np.ones(len(place)), t["revenue"].to_numpy(), t["plays"].to_numpy())], 1)
        x = x.reshape(2, 4096, 4)
        weights = np.random.default_rng(1).poisson(1.0, (2, REPLICATES, 4096)).astype(float)
        total = x.sum(1)
        return ratios(weights @ x, t["arm"].chunk(0).dictionary.to_pylist(), (total[:, 2] / total[:, 3]).tolist())
    t = pq.read_table(path, columns=["unit_id", "arm", "play_delay_ms"])
    names = t["arm"].chunk(0).dictionary.to_pylist()
    unit = np.unique(t["unit_id"].to_numpy(), return_inverse=True)[1]
    value, arm = t["play_delay_ms"].to_numpy().astype(np.int64), np.concatenate([c.indices.to_numpy() for c in t["arm"].chunks])
    random, drawn = np.random.default_rng(1), []
    for b in range(OF_PEERS + 1):
        weights = random.poisson(1.0, unit.max() + 1)[unit] if b else None
        quantiles = []
        for a in (names.index("treatment"), names.index("control")):
            keep = arm == a
            passed = np.cumsum(np.bincount(value[keep], weights[keep] if b else None))
            quantiles.append(np.searchsorted(passed, np.array([0.5, 0.9, 0.99]) * passed[-1]))
        drawn.append(quantiles[0] - quantiles[1])
    drawn = np.array(drawn, float)
    return {"estimate": drawn[0, 1], "std_error": float(drawn[1:, 1].std(ddof=1))}


# Of a Poisson variable of mean 1: the probabilities of at most 0, 1, 2, ... DuckDB's hash of (unit, replicate), and that of
# (hash of the unit, replicate), gives dependent replicates: standard errors of .6 to .7 of the true ones. It is hashed again.
CUMULATIVE = [0.367879441, 0.735758882, 0.919698603, 0.981011843, 0.996340153, 0.999405815, 0.999916759]


def of_replicates(rows):
    """rows: (arm, sums of watch, n, revenue and plays in every replicate), the first of which is of the data."""
    import numpy as np
    names, sums = [row[0] for row in rows], np.array([np.array(row[1:], float).T for row in rows])
    return ratios(sums[:, 1:], names, (sums[:, 0, 2] / sums[:, 0, 3]).tolist())


def duckdb_replicates():
    import duckdb
    c = duckdb.connect()
    c.execute("set threads=2")
    cases = " ".join(f"when u < {t} then {w}" for w, t in enumerate(CUMULATIVE))
    c.execute(f"""create temp table units as select unit_id, any_value(arm)::varchar arm, sum(watch_min) watch, count(*) n, sum(revenue) revenue, sum(plays) plays
                  from '{path}' group by unit_id""")
    sums = ", ".join(f"sum(w * {x})" for x in ("watch", "n", "revenue", "plays"))
    rows = c.execute(f"""
        select arm, b, {sums}
        from (select *, case when b = 0 then 1 {cases} else 7 end w
              from (select *, hash(hash(unit_id, b))::double / 18446744073709551616.0 u from units, range({REPLICATES + 1}) r (b)))
        group by arm, b order by arm, b""").fetchall()
    arms = sorted({row[0] for row in rows})
    return of_replicates([(arm, *zip(*(row[2:] for row in rows if row[0] == arm))) for arm in arms])


def run_chdb():
    import chdb
    thresholds = [round(65536 * c) for c in CUMULATIVE]
    arrays = ", ".join(f"sumForEach(arrayMap(z -> z * {x}, w))" for x in ("watch", "n", "revenue", "plays"))
    sql = f"""
        with arrayMap(b -> if(b = 0, 1, arraySum(t -> toUInt16(cityHash64(assumeNotNull(unit_id), b) % 65536) >= t, {thresholds})), range({REPLICATES + 1})) as w
        select toString(arm), {arrays}
        from (select unit_id, any(arm) arm, sum(watch_min) watch, count() n, sum(revenue) revenue, sum(plays) plays from file('{path}', Parquet) group by unit_id)
        group by arm order by arm settings max_threads = 2, max_block_size = 2048"""
    return of_replicates(json.loads(str(chdb.query(sql, "JSONCompact")))["data"])


def duckdb_quantiles():
    import duckdb
    c = duckdb.connect()
    c.execute("set threads=2")
    cases = " ".join(f"when u < {t} then {w}" for w, t in enumerate(CUMULATIVE))
    rows = c.execute(f"""
        with weighted as (
          select arm, b, play_delay_ms v, sum(case {cases} else 7 end) w
          from (select arm, b, play_delay_ms, hash(hash(unit_id, b))::double / 18446744073709551616.0 u from '{path}', range({OF_PEERS}) r (b))
          group by all),
        passed as (select arm, b, v, sum(w) over (partition by arm, b order by v) s, sum(w) over (partition by arm, b) n from weighted)
        select arm, b, min(v) filter (s >= 0.5 * n), min(v) filter (s >= 0.9 * n), min(v) filter (s >= 0.99 * n) from passed group by arm, b""").fetchall()
    by = {(arm, b): q90 for arm, b, _, q90, _ in rows}
    effects = [by["treatment", b] - by["control", b] for b in range(OF_PEERS)]
    mean = sum(effects) / len(effects)
    return {"estimate": mean, "std_error": math.sqrt(sum((e - mean) ** 2 for e in effects) / (len(effects) - 1))}


def frame():
    import pandas as pd
    rows = pd.read_parquet(path, columns=["unit_id", "arm", "country", "watch_min", "pre_watch_min"])
    rows["treat"] = (rows.arm == "treatment").astype(float)
    return rows


def run_pyfixest():
    import pyfixest
    if task == "T6":
        rows = frame()
        rows["segment"] = rows.unit_id % 100
        fit = pyfixest.feols("watch_min ~ i(segment, treat) + pre_watch_min | segment", rows, vcov="iid", copy_data=False, store_data=False)
        name = next(n for n in fit.coef().index if "[T.7]" in n or "::7:" in n or "[7]" in n)
        return {"estimate": float(fit.coef()[name]), "std_error": float(fit.se()[name])}
    fit = pyfixest.feols("watch_min ~ treat + pre_watch_min | country", frame(), vcov={"CRV1": "unit_id"}, copy_data=False, store_data=False)
    return {"estimate": float(fit.coef()["treat"]), "std_error": float(fit.se()["treat"])}


def run_statsmodels():
    import numpy as np, pandas as pd, statsmodels.api as sm
    rows = frame()
    design = np.column_stack([rows.treat, rows.pre_watch_min, np.eye(20)[rows.country.astype("category").cat.codes]])
    fit = sm.OLS(rows.watch_min.to_numpy(), design).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(rows.unit_id)[0]})
    return {"estimate": float(fit.params[0]), "std_error": float(fit.bse[0])}


def run_duckreg():
    """A design of dummies, compressed by DuckDB to its distinct rows, which are nearly as many as units."""
    os.environ["TQDM_DISABLE"] = "1"
    import ibis
    from duckreg.estimators import DuckRegression
    backend = ibis.duckdb.connect(threads=2)
    dummies = [f"c{i:02}" for i in range(1, 20)]
    columns = ", ".join(f"(country = 'C{name[1:]}')::int as {name}" for name in dummies)
    backend.raw_sql(f"create view r as select unit_id, watch_min, (arm = 'treatment')::int as treat, pre_watch_min, {columns} from '{path}'")
    formula = "watch_min ~ " + " + ".join(["treat", "pre_watch_min", *dummies])
    fit = DuckRegression(None, "r", formula, "unit_id", seed=1, n_bootstraps=5, connection=backend)
    fit.fit()
    found = fit.summary()
    return {"estimate": float(found["point_estimate"][1]), "std_error": float(found["standard_error"][1])}


def duckdb_segments():
    """Sums by segment and arm, the normal equations of which are solved by numpy: by hand, in one pass."""
    import duckdb, numpy as np
    c = duckdb.connect()
    c.execute("set threads=2")
    rows = c.execute(f"""select unit_id % 100, (arm = 'treatment')::int, count(*), sum(pre_watch_min), sum(watch_min), sum(pre_watch_min * pre_watch_min),
                                sum(pre_watch_min * watch_min), sum(watch_min * watch_min) from '{path}' group by all""").fetchall()
    xx, xy, yy, total = np.zeros((201, 201)), np.zeros(201), 0.0, 0
    for segment, arm, n, x, y, x2, x_y, y2 in rows:
        active = [segment, 100 + segment][:1 + arm]
        for i in active:
            for j in active:
                xx[i, j] += n
            xx[i, 200] += x
            xx[200, i] += x
            xy[i] += y
        xx[200, 200] += x2
        xy[200] += x_y
        yy, total = yy + y2, total + n
    inverse = np.linalg.inv(xx)
    b = inverse @ xy
    v = inverse * (yy - b @ xy) / (total - 201)
    return {"estimate": float(b[107]), "std_error": float(np.sqrt(v[107, 107]))}


def duckdb_groups():
    """The distinct rows with the sums of their outcomes and of the squares of these, the regression of which is by numpy."""
    import duckdb, numpy as np
    c = duckdb.connect()
    c.execute("set threads=2")
    g = c.execute(f"""select (arm = 'treatment')::int t, country, x, count(*) n, sum(y) y, sum(y * y) yy from '{path}' group by arm, country, x""").fetchnumpy()
    dummies = np.eye(20)[np.unique(g["country"], return_inverse=True)[1]]
    x = np.column_stack([g["t"], g["x"], dummies]).astype(float)
    n = g["n"].astype(float)
    inverse = np.linalg.inv(x.T @ (x * n[:, None]))
    b = inverse @ (x.T @ g["y"])
    fitted = x @ b
    squares = g["yy"] - 2 * fitted * g["y"] + n * fitted**2
    v = inverse @ (x.T @ (x * squares[:, None])) @ inverse * (n.sum() / (n.sum() - 22))
    return {"estimate": float(b[0]), "std_error": float(np.sqrt(v[0, 0]))}


def duckdb_regression():
    """Countries by deviations from their means (Frisch, Waugh, Lovell), then the scores of units: by hand, in three passes."""
    import duckdb, numpy as np
    c = duckdb.connect()
    c.execute("set threads=2")
    c.execute(f"create temp table r as select unit_id, (arm = 'treatment')::int t, country::varchar c, watch_min y, pre_watch_min x from '{path}'")
    c.execute("create temp table m as select c, avg(t) mt, avg(x) mx, avg(y) my from r group by c")
    a = c.execute("""select sum((t - mt) * (t - mt)), sum((t - mt) * (x - mx)), sum((x - mx) * (x - mx)), sum((t - mt) * (y - my)),
                            sum((x - mx) * (y - my)), count(*), count(distinct unit_id) from r join m using (c)""").fetchone()
    xx = np.array([[a[0], a[1]], [a[1], a[2]]])
    b = np.linalg.solve(xx, a[3:5])
    s = c.execute(f"""select sum(s1 * s1), sum(s1 * s2), sum(s2 * s2) from (
                        select sum((t - mt) * e) s1, sum((x - mx) * e) s2
                        from (select *, (y - my) - {float(b[0])!r} * (t - mt) - {float(b[1])!r} * (x - mx) e from r join m using (c)) group by unit_id)""").fetchone()
    inverse = np.linalg.inv(xx)
    n, clusters = a[5], a[6]
    v = inverse @ np.array([[s[0], s[1]], [s[1], s[2]]]) @ inverse * (clusters / (clusters - 1)) * ((n - 1) / (n - 22))
    return {"estimate": float(b[0]), "std_error": float(np.sqrt(v[0, 0]))}


start = time.perf_counter()
of_duckdb = {"T3": duckdb_replicates, "T4": duckdb_quantiles, "T5": duckdb_regression, "T6": duckdb_segments, "T7": duckdb_groups}.get(task, run_duckdb)
result = {"duckdb": of_duckdb, "polars": run_polars, "numpy": run_numpy, "numpy-poisson": run_numpy, "chdb": run_chdb, "pyfixest": run_pyfixest, "statsmodels": run_statsmodels, "duckreg": run_duckreg}[peer]()
wall = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"peer": peer, "task": task, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime,
                  "rss_mib": usage.ru_maxrss / 1024, "result": result}))

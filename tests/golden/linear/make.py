"""Linear models row by row with 50 digits, checked by statsmodels and by R (sandwich, estimatr); NIST's certified sets.

A case is a query in SQL over one of the tables, with the fields of its result. Needs `Rscript`.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from mpmath import matrix, mp, mpf, sqrt
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import agree, floats, read_csv, t_isf, t_sf, take, to_float, write_json, write_metadata  # noqa: E402

mp.dps = 50
SEED, SEED_OF_HOLES = 20260101, 20260104

# --------------------------------------------------------------------------------------------------------- the tables


def generate():
    """An experiment of three arms in five countries: whole ages, scores far from 0, units with several rows."""
    rng = np.random.default_rng(SEED)
    n = 600
    arm, country = rng.integers(0, 3, n), rng.integers(0, 5, n)
    age = rng.integers(18, 60, n)
    score = np.round(1000 + rng.normal(size=n), 6)
    unit, day = rng.integers(0, 90, n), rng.integers(0, 14, n)
    noise = rng.normal(size=90)[unit] + rng.normal(size=14)[day] / 2
    y = 2 + arm / 2 + country * (arm == 1) / 4 + age / 50 + (score - 1000) * (1 + arm) / 3 + noise
    y = np.round(y + rng.normal(size=n) * (1 + age / 60), 6)
    clicks = rng.poisson(np.exp(arm / 4 + age / 80))
    weight = rng.integers(2, 31, n) / 10
    with open(FOLDER / "generated.csv", "w", encoding="utf-8") as file:
        file.write("y,clicks,arm,country,age,score,unit,day,weight\n")
        for i in range(n):
            labels = f"{'abc'[arm[i]]},{['AT', 'DE', 'FR', 'IT', 'UK'][country[i]]}"
            numbers = f"{age[i]},{score[i]:.6f},{unit[i]},{day[i]},{weight[i]:.1f}"
            file.write(f"{y[i]:.6f},{clicks[i]},{labels},{numbers}\n")


def generate_holes():
    """Some of these rows, without countries, ages and scores here and there; who gives no age is different."""
    rng = np.random.default_rng(SEED_OF_HOLES)
    rows = (FOLDER / "generated.csv").read_text(encoding="utf-8").splitlines()
    with open(FOLDER / "holes.csv", "w", encoding="utf-8") as file:
        file.write(rows[0] + "\n")
        for row in rows[1:241]:
            y, clicks, arm, country, age, score, *rest = row.split(",")
            no_country, no_age, no_score = rng.random(3) < [0.1, 0.2, 0.15]
            y = f"{float(y) - 2 * no_age:.6f}"
            cells = ["" if no_country else country, "" if no_age else age, "" if no_score else score]
            file.write(",".join([y, clicks, arm, *cells, *rest]) + "\n")


generate()
generate_holes()
TABLES = {
    "generated": read_csv(FOLDER / "generated.csv"),
    "holes": read_csv(FOLDER / "holes.csv"),
    "lalonde": read_csv(FOLDER.parent / "lalonde" / "lalonde.csv"),
    "petersen": read_csv(FOLDER.parent / "petersen" / "petersen.csv"),
}
FILES = {"generated": "linear/generated.csv", "holes": "linear/holes.csv", "lalonde": "lalonde/lalonde.csv", "petersen": "petersen/petersen.csv"}

# ---------------------------------------------------------------------------------------------------------- the model


class Design:
    """The columns of a design with their names, as functions of the regressors: that is what counterfactuals need."""

    def __init__(self, table, terms, intercept=True, reference=()):
        self.table, self.reference = table, dict(reference)
        self.n = len(next(iter(table.values())))
        self.columns = [("intercept", [])] if intercept else []
        every_level = not intercept
        for term in terms:
            parts = [[]]
            for name in term.split(":"):
                parts = [p + [choice] for choice in self.choices(name, every_level) for p in parts]
                every_level = every_level and self.is_number(name)
            for part in parts:
                named = ":".join(name if level is None else f"{name}[{level}]" for name, level in part)
                self.columns.append((named, part))
        self.names = [name for name, _ in self.columns]

    @staticmethod
    def is_number(name):
        return name not in ("arm", "country", "treated")

    def levels(self, name):
        return sorted(set(self.table[name]))

    def choices(self, name, every_level):
        if self.is_number(name):
            return [(name, None)]
        levels = self.levels(name)
        first = self.reference.get(name, levels[0])
        return [(name, level) for level in levels if every_level or level != first]

    def rows(self, **changed):
        """The rows of the design, with some regressors changed to one value."""

        def value(name, level, i):
            found = changed.get(name, self.table[name][i])
            return float(found) if level is None else float(found == level)

        return [[float(np.prod([value(*choice, i) for choice in part])) for _, part in self.columns] for i in range(self.n)]


class Model:
    """Least squares by the definition, row by row."""

    def __init__(self, design, y, weight=None, clusters=()):
        self.design, self.y, self.weight, self.clusters = design, y, weight, clusters
        self.X = design.rows()
        self.n, self.p = len(y), len(design.names)
        root = [sqrt(mpf(w)) for w in weight] if weight else [mpf(1)] * self.n
        self.x = [[mpf(v) * r for v in row] for row, r in zip(self.X, root, strict=True)]
        z = [mpf(v) * r for v, r in zip(y, root, strict=True)]
        xx, xy = matrix(self.p, self.p), matrix(self.p, 1)
        for row, v in zip(self.x, z, strict=True):
            for i, a in enumerate(row):
                if a:
                    xy[i] += a * v
                    for j, b in enumerate(row):
                        xx[i, j] += a * b
        self.inverse = xx**-1
        self.beta = self.inverse * xy
        self.e = [v - mp.fdot(row, list(self.beta)) for row, v in zip(self.x, z, strict=True)]
        self.rss = mp.fsum(e * e for e in self.e)
        mean = mp.fdot(root, z) / mp.fsum(r * r for r in root)
        intercept = "intercept" in design.names
        self.tss = mp.fsum((v - r * mean * intercept) ** 2 for v, r in zip(z, root, strict=True))
        self.df_total = self.n - intercept

    def vcov(self, kind):
        """Covariance matrix and degrees of freedom."""
        n, p = self.n, self.p
        if kind == "classical":
            return self.inverse * (self.rss / (n - p)), n - p
        if kind.startswith("HC"):
            power = {"HC2": 1, "HC3": 2}.get(kind, 0)
            scores = []
            for row, e in zip(self.x, self.e, strict=True):
                column = matrix(row)
                h = (column.T * self.inverse * column)[0] if power else 0
                scores.append([a * e / sqrt((1 - h) ** power) for a in row])
            factor = mpf(n) / (n - p) if kind == "HC1" else 1
            return self.sandwich(scores) * factor, n - p
        ways = [list(c) for c in self.clusters]
        if len(ways) == 2:
            ways.append(list(zip(*ways, strict=True)))
        total, groups = matrix(p, p), []
        for way, sign in zip(ways, [1, 1, -1], strict=False):
            sums = {}
            for key, row, e in zip(way, self.x, self.e, strict=True):
                old = sums.setdefault(key, [mpf(0)] * p)
                sums[key] = [s + a * e for s, a in zip(old, row, strict=True)]
            g = len(sums)
            groups.append(g)
            factor = mpf(g) / (g - 1) * mpf(n - 1) / (n - p) if kind == "CR1" else 1
            total += self.sandwich(list(sums.values())) * (sign * factor)
        return total, min(groups[:2]) - 1

    def sandwich(self, scores):
        meat = matrix(self.p, self.p)
        for s in scores:
            for i, a in enumerate(s):
                if a:
                    for j, b in enumerate(s):
                        meat[i, j] += a * b
        return self.inverse * meat * self.inverse

    def estimate(self, weights, kind, confidence=0.95):
        """The inference of a combination of coefficients."""
        v, df = self.vcov_of(kind)
        w = matrix(weights)
        value, se = (w.T * self.beta)[0], sqrt((w.T * v * w)[0])
        q = t_isf((1 - mpf(repr(confidence))) / 2, df)
        return {
            "estimate": value,
            "std_error": se,
            "statistic": value / se,
            "df": df,
            "p_value": 2 * t_sf(abs(value / se), df),
            "ci_lower": value - q * se,
            "ci_upper": value + q * se,
        }

    def vcov_of(self, kind):
        cache = self.__dict__.setdefault("cache", {})
        if kind not in cache:
            cache[kind] = self.vcov(kind)
        return cache[kind]

    def fit(self, kind, confidence=0.95):
        """All that a linear model returns."""
        unit = [[int(i == j) for j in range(self.p)] for i in range(self.p)]
        v, _ = self.vcov_of(kind)
        share = self.rss / self.tss
        coefficients = [
            {"term": name} | self.estimate(unit[i], kind, confidence) for i, name in enumerate(self.design.names)
        ]
        return {
            "coefficients": coefficients,
            "vcov": [[v[i, j] for j in range(self.p)] for i in range(self.p)],
            "n": self.n,
            "df_residual": self.n - self.p,
            "r_squared": 1 - share,
            "adjusted_r_squared": 1 - share * self.df_total / (self.n - self.p),
            "residual_std_error": sqrt(self.rss / (self.n - self.p)),
        }


# ---------------------------------------------------------------------------------------------------- the same by others


def statsmodels_agrees(model, kind):
    """Coefficients, standard errors, p-values and R² of statsmodels."""
    x, y = np.array(model.X), np.array(model.y)
    base = sm.WLS(y, x, weights=np.array(model.weight)) if model.weight else sm.OLS(y, x)
    options = {"use_t": True}
    if kind == "classical":
        options = {}
    elif kind.startswith("HC"):
        options["cov_type"] = kind
    else:
        groups = [np.unique(np.array(c), return_inverse=True)[1] for c in model.clusters]
        groups = groups[0] if len(groups) == 1 else np.column_stack(groups)
        keywords = {"groups": groups, "use_correction": kind == "CR1", "df_correction": True}
        options |= {"cov_type": "cluster", "cov_kwds": keywords}
    fit = base.fit(**options)
    ours = model.fit(kind)
    for i, c in enumerate(ours["coefficients"]):
        what = f"statsmodels {kind} {c['term']}"
        agree(what, c["estimate"], fit.params[i], 1e-8)
        agree(what, c["std_error"], fit.bse[i], 1e-8)
        if len(model.clusters) < 2:
            agree(what, c["p_value"], fit.pvalues[i], 1e-6)
    # Where dummies add up to a constant statsmodels takes squares about the mean all the same; R does not, nor do we.
    if "intercept" in model.design.names:
        agree("R²", ours["r_squared"], fit.rsquared, 1e-8)
        agree("adjusted R²", ours["adjusted_r_squared"], fit.rsquared_adj, 1e-8)
    agree("residual standard error", ours["residual_std_error"], sqrt(mpf(fit.mse_resid)), 1e-8)


R_CASES = []


def r_agrees(model, table, formula, kind):
    """Keeps a case for the one run of R, which takes columns by their place."""
    fit = model.fit(kind)
    standard_errors = [to_float(c["std_error"]) for c in fit["coefficients"]]
    estimates = [to_float(b) for b in model.beta]
    ways = {0: [], 1: ["unit"], 2: ["unit", "day"]}[len(model.clusters)]
    if table == "petersen":
        ways = {1: ["firm"], 2: ["firm", "year"]}.get(len(model.clusters), [])
        ways = ["year"] if len(ways) == 1 and len(set(model.clusters[0])) == 10 else ways
    R_CASES.append(
        {
            "table": str(FOLDER.parent / FILES[table]),
            "formula": formula,
            "kind": kind,
            "weighted": bool(model.weight),
            "clusters": ways,
            "estimates": estimates,
            "std_errors": standard_errors,
            "r_squared": [to_float(fit[key]) for key in ("r_squared", "adjusted_r_squared", "residual_std_error")],
        }
    )


CASES = []


def add(table, sql, result):
    CASES.append({"table": table, "sql": sql, "result": result})


def literal(options):
    """Options as they are typed."""
    def shown(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {shown(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(shown, value)) + "]"
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)

    return shown(options)


def struct(terms):
    return "{" + ", ".join(f"{t}: {t}" for t in terms if ":" not in t) + "}"


def prepared(table, terms, missing):
    """The rows and the terms that a model has where regressors are missing: rows without one are dropped, or numbers are 0
    beside an indicator, and labels are a level of their own."""
    data, names = dict(TABLES[table]), [t for t in terms if ":" not in t]
    assert missing != "error" or all(all(data[name]) for name in names)
    if missing == "drop":
        keep = [all(row) for row in zip(*(data[name] for name in names), strict=True)]
        data = {name: take(column, keep) for name, column in data.items()}
    if missing == "indicator":
        terms = list(terms)
        for name in names:
            column, number = data[name], Design.is_number(name)
            data[name] = [text or ("0" if number else "missing") for text in column]
            if number and not all(column):
                data[f"{name} is missing"] = [str(int(not text)) for text in column]
                terms.append(f"{name} is missing")
    return data, terms


def case(
    table, outcome, terms, kinds, formula, intercept=True, reference=(), weight=None, clusters=(), confidence=0.95, missing=None
):
    """One case for each kind of covariance."""
    data, columns = prepared(table, terms, missing)
    design = Design(data, columns, intercept, reference)
    model = Model(design, floats(data[outcome]), floats(data[weight]) if weight else None, [data[c] for c in clusters])
    arguments = [outcome, struct(terms)]
    if clusters:
        arguments.append(clusters[0] if len(clusters) == 1 else struct(clusters))
    if weight:
        arguments.append(weight)
    for kind in kinds:
        options = {"vcov": kind}
        interactions = [t for t in terms if ":" in t]
        if interactions:
            options["interactions"] = interactions
        if not intercept:
            options["intercept"] = False
        if reference:
            options["reference"] = dict(reference)
        if confidence != 0.95:
            options["confidence"] = confidence
        counted = {}
        if missing:
            options["missing"] = missing
            counted["n_dropped"] = len(TABLES[table][outcome]) - model.n
        name = "ols_clustered" if clusters else "ols"
        add(table, f"{name}({', '.join(arguments)}, {literal(options)})", model.fit(kind, confidence) | counted)
        statsmodels_agrees(model, kind)
        if formula:
            r_agrees(model, table, formula, kind)
    return model


HC = ["classical", "HC0", "HC1", "HC2", "HC3"]
CR = ["classical", "CR0", "CR1"]
MAIN = ["arm", "age", "score"]
CROSSED = ["arm", "country", "score", "arm:country", "arm:score"]

plain = case("generated", "y", MAIN, HC, "y ~ arm + age + score")
case("generated", "y", MAIN, ["HC3"], "y ~ arm + age + score", confidence=0.99)
crossed = case("generated", "y", CROSSED, HC, "y ~ arm + country + score + arm:country + arm:score")
case("generated", "clicks", ["arm", "age"], HC, "clicks ~ arm + age")
case("generated", "y", ["arm", "age"], ["HC1", "classical"], "y ~ 0 + arm + age", intercept=False)
case("generated", "y", ["score"], ["HC1", "classical"], "y ~ 0 + score", intercept=False)
case("generated", "y", MAIN, ["HC2"], "y ~ relevel(arm, 'b') + age + score", reference={"arm": "b"})
weighted = case("generated", "y", MAIN, HC, "y ~ arm + age + score", weight="weight")
case("generated", "y", CROSSED, ["HC1"], "y ~ arm + country + score + arm:country + arm:score", weight="weight")
clustered = case("generated", "y", MAIN, CR, "y ~ arm + age + score", clusters=["unit"])
case("generated", "y", CROSSED, CR, "y ~ arm + country + score + arm:country + arm:score", clusters=["unit"])
case("generated", "y", MAIN, CR, "y ~ arm + age + score", weight="weight", clusters=["unit"])
two_way = case("generated", "y", MAIN, ["CR1"], "y ~ arm + age + score", clusters=["unit", "day"])

petersen = {}
for clusters in [(), ("firm",), ("year",), ("firm", "year")]:
    petersen[clusters] = case("petersen", "y", ["x"], CR[1:] if clusters else HC, "y ~ x", clusters=clusters)

COVARIATES = ["age", "educ", "black", "hisp", "married", "nodegr", "re74", "re75"]
lalonde = case("lalonde", "re78", ["treat", *COVARIATES], HC, "re78 ~ " + " + ".join(["treat", *COVARIATES]))

# R leaves out rows as its `lm` does; its clusters and weights would have to be shortened by hand.
EVERYTHING = ["arm", "country", "age", "score"]
LABELLED = "factor(ifelse(is.na(country), 'missing', as.character(country)))"
ZEROED = f"y ~ arm + {LABELLED} + ifelse(is.na(age), 0, age) + ifelse(is.na(score), 0, score) + is.na(age) + is.na(score)"
case("generated", "y", MAIN, ["HC1"], "y ~ arm + age + score", missing="error")
case("holes", "y", EVERYTHING, HC, "y ~ arm + country + age + score", missing="drop")
case("holes", "y", EVERYTHING, HC, ZEROED, missing="indicator")
case("holes", "y", ["arm", "age"], ["HC1"], "y ~ arm + age", missing="drop")
case("holes", "y", ["arm", "country"], ["HC1", "HC2"], f"y ~ arm + {LABELLED}", missing="indicator")
without = {missing: case("holes", "y", MAIN, HC, None, weight="weight", missing=missing) for missing in ("drop", "indicator")}
by_unit = {missing: case("holes", "y", MAIN, CR, None, clusters=["unit"], missing=missing) for missing in ("drop", "indicator")}

# ------------------------------------------------------------------------------------------ contrasts and segments


def contrast(table, summary, model, weights, kind):
    names = model.design.names
    w = [weights.get(name, 0) for name in names]
    typed = ", ".join(f"'{name}': {weight}" for name, weight in weights.items())
    options = f"contrast: {{{typed}}}, vcov: '{kind}'"
    interactions = sorted({t for t in CROSSED if ":" in t}) if model is crossed else []
    if interactions:
        options += f", interactions: {interactions!r}"
    add(table, f"ols_contrast({summary}, {{{options}}})", model.estimate(w, kind))


GRAM = f"gram(y, {struct(MAIN)})"
for kind in HC:
    contrast("generated", GRAM, plain, {"arm[b]": 1, "arm[c]": -1}, kind)
contrast("generated", f"gram(y, {struct(CROSSED)})", crossed, {"arm[b]": 1, "arm[b]:country[DE]": 1, "arm[b]:score": 1000.5}, "HC3")
contrast("generated", f"gram(y, {struct(MAIN)}, weight)", weighted, {"intercept": 1, "age": 40, "score": 1000}, "HC2")
contrast("generated", f"gram_clustered(y, {struct(MAIN)}, unit)", clustered, {"arm[b]": 0.5, "arm[c]": 0.5}, "CR1")
contrast("generated", f"gram_clustered(y, {struct(MAIN)}, {{unit: unit, day: day}})", two_way, {"arm[c]": 1}, "CR1")
for missing in ("drop", "indicator"):
    difference, option = {"arm[b]": 1, "arm[c]": -1, "age": 2}, f"{{missing: '{missing}'}}"
    contrast("holes", f"gram(y, {struct(MAIN)}, weight, {option})", without[missing], difference, "HC3")
    contrast("holes", f"gram_clustered(y, {struct(MAIN)}, unit, {option})", by_unit[missing], difference, "CR1")


def effects(table, summary, terms, outcome, treatment, segment, kinds, weight=None, clusters=(), extra=(), missing=None):
    """Conditional effects by counterfactual rows of the design."""
    data, terms = prepared(table, terms, missing)
    interactions = [*extra, *([f"{treatment}:{segment}"] if segment else [])]
    design = Design(data, [*terms, *interactions])
    w = floats(data[weight]) if weight else None
    model = Model(design, floats(data[outcome]), w, [data[c] for c in clusters])
    number = design.is_number(treatment)
    levels = [None] if number else design.levels(treatment)[1:]
    for kind in kinds:
        found = []
        for place in design.levels(segment) if segment else [None]:
            for level in levels:
                to, at = (1, 0) if number else (level, design.levels(treatment)[0])
                high, low = (design.rows(**{treatment: value}) for value in (to, at))
                kept = [i for i in range(model.n) if segment is None or data[segment][i] == place]
                total = mp.fsum(mpf(w[i]) if w else 1 for i in kept)
                delta = [
                    mp.fsum((mpf(high[i][k]) - mpf(low[i][k])) * (mpf(w[i]) if w else 1) for i in kept) / total
                    for k in range(model.p)
                ]
                found.append({"segment": place, "level": level, "n": len(kept)} | model.estimate(delta, kind))
        options = {"treatment": treatment}
        if segment:
            options["segment"] = segment
        if extra:
            options["interactions"] = list(extra)
        options["vcov"] = kind
        add(table, f"conditional_effects({summary}, {literal(options)})", found)
    return found


REGRESSORS = struct(EVERYTHING)
effects("generated", f"gram(y, {REGRESSORS})", EVERYTHING, "y", "arm", "country", ["classical", "HC3"])
effects("generated", f"gram(y, {REGRESSORS})", EVERYTHING, "y", "arm", "country", ["HC1"], extra=["arm:score"])
effects("generated", f"gram(y, {REGRESSORS}, weight)", EVERYTHING, "y", "arm", "country", ["HC1"], weight="weight", extra=["arm:age"])
effects("generated", f"gram_clustered(y, {REGRESSORS}, unit)", EVERYTHING, "y", "age", "country", ["CR1"], clusters=["unit"])
for missing in ("drop", "indicator"):
    summary = f"gram(y, {REGRESSORS}, {{missing: '{missing}'}})"
    effects("holes", summary, EVERYTHING, "y", "arm", "country", ["HC1"], missing=missing)

# Lin's estimator is the average effect of the fully interacted model: figures of the literature, as printed.
TABLES["lalonde"]["treated"] = ["true" if t == "1" else "false" for t in TABLES["lalonde"]["treat"]]
named = "{treated: treat = 1, " + ", ".join(f"{c}: {c}" for c in COVARIATES) + "}"
crossings = [f"treated:{c}" for c in COVARIATES]


def printed(what, value, figure):
    digits = len(figure.partition(".")[2])
    assert f"{to_float(value):.{digits}f}" == figure, (what, to_float(value), figure)


for kind, figure in {"HC0": "675.282", "HC1": "689.368", "HC2": "694.722", "HC3": "716.873"}.items():
    (lin,) = effects("lalonde", f"gram(re78, {named})", ["treated", *COVARIATES], "re78", "treated", None, [kind], extra=crossings)
    printed("Lin", lin["estimate"], "1621.5836")
    printed(kind, lin["std_error"], figure)

slope = petersen[()].fit("classical")["coefficients"][1]
printed("Petersen", slope["estimate"], "1.034833")
for clusters, kind, figure in [
    ((), "classical", "0.028583"),
    ((), "HC1", "0.028395"),
    (("firm",), "CR1", "0.050596"),
    (("year",), "CR1", "0.033389"),
    (("firm", "year"), "CR1", "0.053558"),
]:
    printed(f"Petersen {clusters}", petersen[clusters].fit(kind)["coefficients"][1]["std_error"], figure)

# ------------------------------------------------------------------------------------------------------------------ R

request = FOLDER / "request.json"
request.write_text(json.dumps(R_CASES))
try:
    answer = subprocess.run(["Rscript", FOLDER / "linear.R", request], check=True, capture_output=True, text=True)
finally:
    request.unlink()
print(answer.stdout.strip())

# --------------------------------------------------------------------------------------------------------------- NIST

POLYNOMIALS = {"Pontius": 2, "Filip": 10} | {f"Wampler{i}": 5 for i in range(1, 6)}


def nist(name):
    """A certified set: its rows, the certified values, and the least squares of its doubles with 50 digits."""
    lines = (FOLDER / "nist" / f"{name}.dat").read_text().splitlines()
    rows = [[float(v) for v in line.split()] for line in lines[60:] if line.split()]
    certified = {"coefficients": {}}
    for line in lines[28:60]:
        words = line.split()
        if len(words) == 3 and words[0][0] == "B" and words[0][1:].isdigit():
            certified["coefficients"][words[0]] = [float(words[1]), float(words[2])]
        if words[:2] == ["Standard", "Deviation"] and len(words) == 3:
            certified["residual_std_error"] = float(words[2])
        if words[:1] == ["R-Squared"]:
            certified["r_squared"] = float(words[1])
    intercept = "B0" in certified["coefficients"]
    width = len(rows[0])
    columns = {f"x{k}": [row[k] for row in rows] for k in range(1, width)}
    terms = {f"x{k}": f"x{k}" for k in range(1, width)}
    for power in range(2, POLYNOMIALS.get(name, 1) + 1):
        terms[f"x{power}"] = " * ".join(["x1"] * power)
        columns[f"x{power}"] = [a * b for a, b in zip(columns[f"x{power - 1}"], columns["x1"], strict=True)]
    table = {term: [repr(v) for v in columns[term]] for term in terms}
    model = Model(Design(table, list(terms), intercept), [row[0] for row in rows])
    regressors = ", ".join(f"{term}: {expression}" for term, expression in terms.items())
    options = "{vcov: 'classical'" + ("}" if intercept else ", intercept: false}")
    result = {
        "coefficients": [
            [b, sqrt(v) if v > 1e-30 else 0]
            for b, v in zip(model.beta, [model.vcov("classical")[0][i, i] for i in range(model.p)], strict=True)
        ],
    }
    sql = f"ols(y, {{{regressors}}}, {options})"
    return {"name": name, "width": width, "sql": sql, "certified": certified, "doubles": result}


NAMES = ["Norris", "Pontius", "NoInt1", "NoInt2", "Filip", "Longley", *(f"Wampler{i}" for i in range(1, 6))]

write_json(FOLDER / "expected.json", {"tables": FILES, "cases": CASES, "nist": [nist(name) for name in NAMES]})
write_metadata(
    FOLDER,
    ["mpmath", "numpy", "scipy", "statsmodels"],
    "1e-10 relative; NIST's sets by digits, see the README",
    "generated.csv and holes.csv: made by the script; checked by R 4.2.2, sandwich 3.0.2, estimatr 1.0.0. nist/*.dat: NIST/ITL Statistical Reference Datasets, linear regression, public"
    " domain, https://www.itl.nist.gov/div898/strd/lls/lls.shtml, as copied in github.com/ab9sq/Rqualification",
    SEED,
)

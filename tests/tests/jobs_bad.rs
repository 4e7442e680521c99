//! Job files and inputs that are wrong: each is refused with its own code and a text that says what to change, and
//! nothing is published.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use gosset_tests::place::{Place, Run};

const DATA: i32 = 65;
const MISSING: i32 = 66;
const PERMISSION: i32 = 77;
const FILE: i32 = 78;

const JOB: &str = r#"[job]
name  = "j"
store = "results"

[sources.rows]
url  = "rows.csv"
unit = "unit"

[assignments]
source = "rows"
arm    = "arm"

[segments.group]
column = "name"

[metrics.m]
source = "rows"
value  = "sum(y)"

[experiments.e]
control = "a"
metrics = ["m"]
"#;

const ROWS: &str = "unit,arm,y,d,name,at
1,a,1.5,2,x,2026-03-01T00:00:00
2,b,2.5,2,y,2026-03-01T10:00:00
3,a,3.0,2,z,2026-03-02T00:00:00
4,b,4.5,1,w,2026-03-03T00:00:00
";

fn place() -> Place {
    let place = Place::new();
    place.write("rows.csv", ROWS);
    place
}

#[track_caller]
fn edited(from: &str, to: &str) -> String {
    assert!(JOB.contains(from), "{from}");
    JOB.replacen(from, to, 1)
}

/// Nothing of a run is to be seen.
#[track_caller]
fn nothing_published(place: &Place) {
    for table in ["effects", "audits"] {
        // A table may have been made; then it is as empty as on the first day.
        assert!(matches!(place.version(table), None | Some(0)), "{table}");
    }
    assert!(place.effects().rows().is_empty() && place.audits().rows().is_empty());
}

/// Runs a job that is refused.
#[track_caller]
fn refused(place: &Place, job: &str, status: i32, text: &str) -> Run {
    let run = place.run(job).ended(status).told(text);
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
    assert_eq!(run.stderr.trim_end().lines().count(), 1, "one line: {}", run.stderr);
    assert_eq!(run.stdout, "");
    nothing_published(place);
    run
}

#[test]
fn the_job_of_these_tests_is_good() {
    let place = place();
    place.run(JOB).ended(0).told("e: published 1 effects");
    assert_eq!(place.effects().rows().len(), 1);
}

#[test]
fn job_files_are_refused_before_anything_is_read() {
    let place = place();
    let long = "a".repeat(200);
    let named = |name: &str| format!("name  = {name:?}");
    let names = [
        "'; DROP TABLE x --",
        "../x",
        "a/b",
        "..",
        "",
        " ",
        "é",
        "名前",
        "a b",
        "a\nb",
        "C:\\x",
        "%2e%2e",
        "-rf",
        "file:",
        long.as_str(),
    ];
    let mut cases: Vec<(&str, String, String)> = names
        .iter()
        .map(|name| ("name  = \"j\"", named(name), format!("found {name:?}")))
        .collect();
    let plain: &[(&str, &str, &str)] = &[
        // Keys, with their line and column.
        ("value ", "vlaue ", "job.toml:18:1: unknown key 'vlaue'; did you mean 'value'?"),
        ("control", "contrl", "job.toml:21:1: unknown key 'contrl'; did you mean 'control'?"),
        (
            "[segments.group]",
            "[segmnets.group]",
            "unknown key 'segmnets'; did you mean 'segments'?",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\nzzz = 1",
            "unknown key 'zzz'; expected source, value, numerator",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { colunm = \"y\" }",
            "job.toml:17:15: unknown key 'colunm'; did you mean 'column'?",
        ),
        (
            "[metrics.m]",
            "[audits.sampel_ratio]\nblocking = true\n[metrics.m]",
            "unknown key 'sampel_ratio'; did you mean 'sample_ratio'?",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nreplicate = 10\n[metrics.m]",
            "unknown key 'replicate'; did you mean 'replicates'?",
        ),
        // Keys of a later version.
        ("[job]", "include = [\"x.toml\"]\n[job]", "job.toml: include 'x.toml': no file is there"),
        (
            "[metrics.m]",
            "[metrics.m]\nquantile = { of = \"y\", at = [0.5] }",
            "metric 'm': expected one of 'value', 'numerator' and 'denominator', and 'quantile'",
        ),
        (
            "value  = \"",
            "quantile = { of = \"y\", at = [0.5, 1.5] }\n#",
            "metric 'm': quantile: quantiles must be from 0 to 1, found 1.5",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { lookback_days = 28 }",
            "experiment 'e': 'lookback_days' needs [assignments] of their own: they are of source 'rows'",
        ),
        (
            "control",
            "exposure = { source = \"rows\" }\ncontrol",
            "experiment 'e': 'exposure' needs [assignments] of their own",
        ),
        (
            "unit = \"unit\"",
            "unit = \"unit\"\nmax_lateness_days = 3",
            "source 'rows': 'max_lateness_days' needs 'partition', the folders that say when rows arrive",
        ),
        (
            "[metrics.m]",
            "[engine]\ncluster = \"host:50050\"\n[metrics.m]",
            "[engine] cluster: expected a URL such as df://host:50050, found 'host:50050'",
        ),
        (
            "control",
            "periods = [\"day\"]\ncontrol",
            "experiment 'e': the period 'day' needs the 'start' and the 'end' of the experiment",
        ),
        // Types.
        (
            "unit = \"unit\"",
            "unit = 3",
            "job.toml:7:8: invalid type: integer '3', expected a string",
        ),
        ("[\"m\"]", "\"m\"", "job.toml:22:11: invalid type: string \"m\", expected a list"),
        ("control", "start = \"2026-03-05\"\ncontrol", "expected a TOML datetime"),
        ("control", "start = 2026-03-05T00:00:00\ncontrol", "expected a day such as 2026-03-02"),
        ("control", "start = 2026-02-30\ncontrol", "invalid date"),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nseed = -1\n[metrics.m]",
            "expected an integer from 0 to 4294967295",
        ),
        (
            "control",
            "multiple_arms = \"last\"\ncontrol",
            "expected 'exclude' | 'first' | 'error'; found 'last'",
        ),
        (
            "unit = \"unit\"",
            "unit = \"unit\"\ngrain = \"units\"",
            "expected 'row' | 'unit'; found 'units'",
        ),
        // What is missing.
        ("control = \"a\"", "", "job.toml:20:1: the key 'control' is missing"),
        ("name  = \"j\"", "", "job.toml:1:1: the key 'name' is missing"),
        ("store = \"results\"", "", "the key 'store' is missing"),
        ("arm    = \"arm\"", "", "the key 'arm' is missing"),
        ("unit = \"unit\"", "", "source 'rows': the key 'unit' is missing"),
        (
            "value  = \"sum(y)\"",
            "",
            "expected one of 'value', 'numerator' and 'denominator', and 'quantile'",
        ),
        (
            "value  = \"sum(y)\"",
            "numerator = \"sum(y)\"",
            "metric 'm': expected one of 'value', 'numerator' and 'denominator', and 'quantile'",
        ),
        (
            "value  = \"sum(y)\"",
            "value = \"sum(y)\"\nnumerator = \"sum(y)\"\ndenominator = \"sum(d)\"",
            "expected one of 'value', 'numerator' and 'denominator', and 'quantile'",
        ),
        ("source = \"rows\"\narm", "arm", "[assignments]: expected either 'url' or 'source'"),
        (
            "source = \"rows\"\narm",
            "url = \"rows.csv\"\narm",
            "[assignments]: the key 'unit' is missing",
        ),
        // Not TOML.
        ("[experiments.e]", "[experiments.e", "job.toml:20:15: unclosed table"),
        ("control = \"a\"", "control = \"a", "job.toml:21:13: invalid basic string"),
        ("control", "control = \"b\"\ncontrol", "job.toml:22:1: duplicate key"),
        // Names of things.
        ("[experiments.e]", "[experiments.\"../e\"]", "the name of an experiment must be letters"),
        (
            "[experiments.e]",
            "[experiments.\"' OR 1=1 --\"]",
            "the name of an experiment must be letters",
        ),
        ("[metrics.m]", "[metrics.\"m; --\"]", "the name of a metric must be letters"),
        ("[sources.rows]", "[sources.\"a/b\"]", "the name of a source must be letters"),
        ("[segments.group]", "[segments.\"\"]", "the name of a segment must be letters"),
        ("[\"m\"]", "[\"mm\"]", "the metric 'mm' is not defined; did you mean 'm'?"),
        ("[\"m\"]", "[\"other\"]", "the metric 'other' is not defined; the job has 'm'"),
        ("[\"m\"]", "[\"m\", \"m\"]", "the metric 'm' is named twice"),
        ("[\"m\"]", "[]", "expected at least one of each of 'metrics', 'periods' and 'estimators'"),
        ("control", "estimators = []\ncontrol", "expected at least one of each"),
        ("control", "periods = []\ncontrol", "expected at least one of each"),
        (
            "control",
            "estimators = [\"ttests\"]\ncontrol",
            "expected the estimators ttest, cuped, lin, mlrate, post_stratify, bootstrap, quantile, mann_whitney, ks_test; found 'ttests'; did you mean 'ttest'?",
        ),
        (
            "control",
            "segments = [\"gruop\"]\ncontrol",
            "the segment 'gruop' is not defined; did you mean 'group'?",
        ),
        (
            "source = \"rows\"\narm",
            "source = \"rwos\"\narm",
            "the source 'rwos' is not defined; did you mean 'rows'?",
        ),
        (
            "source = \"rows\"\nvalue",
            "source = \"rwos\"\nvalue",
            "the source 'rwos' is not defined; did you mean 'rows'?",
        ),
        // Values.
        (
            "name  = \"j\"",
            "name = \"j\"\ntimezone = \"Europe/Berlni\"",
            "'Europe/Berlni' is not an IANA time zone",
        ),
        (
            "control",
            "start = 2026-03-05\nend = 2026-03-01\ncontrol",
            "it starts on 2026-03-05, after its end on 2026-03-01",
        ),
        (
            "control",
            "end = 2026-03-05\ncontrol",
            "it has a 'start' or 'end', but no source of it has a 'time'",
        ),
        (
            "control",
            "expected = { b = 1, c = 1 }\ncontrol",
            "'expected' does not name the control 'a'",
        ),
        ("control", "expected = { a = 1 }\ncontrol", "'expected' must name at least two arms"),
        (
            "control",
            "expected = { a = 0, b = 1 }\ncontrol",
            "the expected weight of arm 'a' must be positive; found 0",
        ),
        ("control", "expected = { a = nan, b = 1 }\ncontrol", "must be positive; found NaN"),
        ("control", "expected = { a = inf, b = 1 }\ncontrol", "must be positive; found inf"),
        (
            "control",
            "confidence = 1.5\ncontrol",
            "confidence must be between 0 and 1, exclusive; found 1.5",
        ),
        (
            "control",
            "confidence = 0\ncontrol",
            "confidence must be between 0 and 1, exclusive; found 0",
        ),
        (
            "[metrics.m]",
            "[audits.sample_ratio]\nthreshold = 2\n[metrics.m]",
            "[audits.sample_ratio]: the threshold must be from 0 to 1; found 2",
        ),
        (
            "[metrics.m]",
            "[audits.multiple_arms]\nthreshold = -0.1\n[metrics.m]",
            "[audits.multiple_arms]: the threshold must be from 0 to 1; found -0.1",
        ),
        (
            "[metrics.m]",
            "[audits.non_finite]\nthreshold = nan\n[metrics.m]",
            "[audits.non_finite]: the threshold must be at least 0; found NaN",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nreplicates = 1\n[metrics.m]",
            "[estimators.bootstrap]: replicates must be from 2 to 100000; found 1",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nbuckets = 100\n[metrics.m]",
            "[estimators.bootstrap]: buckets must be a power of two from 64 to 65536; found 100",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nmethod = \"bayes\"\n[metrics.m]",
            "expected 'buckets' | 'poisson' | 'double_or_nothing' | 'bayesian'; found 'bayes'",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nmethod = \"poisson\"\ninterval = \"studentized\"\n[metrics.m]",
            "[estimators.bootstrap]: with method = \"poisson\" expected the interval 'percentile' | 'normal' | 'basic' | 'bca'; \
             found 'studentized'; the nearest is 'normal'",
        ),
        (
            "[metrics.m]",
            "[estimators.bootstrap]\nmethod = \"bayesian\"\nbuckets = 64\n[metrics.m]",
            "[estimators.bootstrap]: 'buckets' are of method = \"buckets\" and of interval = \"bca\"; \
             found method = \"bayesian\" and interval = \"percentile\"",
        ),
        (
            "[metrics.m]",
            "[estimators.quantile]\ninterval = \"bca\"\n[metrics.m]",
            "expected 'percentile' | 'basic' | 'normal' | 'delta'; found 'bca'",
        ),
        (
            "[metrics.m]",
            "[estimators.quantile]\nquantiles = [0.5, -0.5]\n[metrics.m]",
            "[estimators.quantile]: quantiles must be from 0 to 1, found -0.5",
        ),
        (
            "[metrics.m]",
            "[estimators.quantile]\nquantiles = [0.9, 0.9]\n[metrics.m]",
            "[estimators.quantile]: the quantile 0.9 is named twice",
        ),
        (
            "[metrics.m]",
            "[estimators.quantile]\nquantiles = []\n[metrics.m]",
            "[estimators.quantile]: expected at least one quantile",
        ),
        (
            "[metrics.m]",
            "[estimators.quantile]\nquantile = [0.5]\n[metrics.m]",
            "unknown key 'quantile'; did you mean 'quantiles'?",
        ),
        (
            "control",
            "estimators = [\"post_stratify\"]\ncontrol",
            "the estimator 'post_stratify' needs [estimators.post_stratify] with 'strata', a column of the assignments",
        ),
        (
            "[metrics.m]",
            "[estimators.post_stratify]\nempty = \"merge\"\n[metrics.m]",
            "expected 'collapse' | 'drop' | 'error'; found 'merge'",
        ),
        (
            "[metrics.m]",
            "[estimators.cuped]\nmissing = \"impute\"\n[metrics.m]",
            "expected 'indicator' | 'drop' | 'error'; found 'impute'",
        ),
        (
            "[metrics.m]",
            "[estimators.lin]\nmising = \"drop\"\n[metrics.m]",
            "unknown key 'mising'; did you mean 'missing'?",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncap = { upper = 0.4 }",
            "cap: expected a lower cap from 0 to 0.5 and an upper one from 0.5 to 1, found 0 and 0.4",
        ),
        (
            "value  = \"sum(y)\"",
            "numerator = \"sum(y)\"\ndenominator = \"sum(d)\"\ncap = 0.99",
            "cap: is of metrics with a value, this one is a ratio",
        ),
        ("[metrics.m]", "[metrics.m]\ncap = {}", "cap: expected 'upper' or 'lower', a quantile"),
        (
            "[metrics.m]",
            "[metrics.m]\ncap = 99",
            "cap: expected a lower cap from 0 to 0.5 and an upper one from 0.5 to 1, found 0 and 99",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncap = \"p99\"",
            "expected a quantile such as 0.99, or a table of 'upper' and 'lower'",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncap = { uper = 0.99 }",
            "unknown key 'uper'; did you mean 'upper'?",
        ),
        (
            "[metrics.m]",
            "[engine]\nmemory_limit = \"much\"\n[metrics.m]",
            "expected a size such as 8GB or 512MB, found 'much'",
        ),
        ("[metrics.m]", "[metrics.m]\ncovariate = { column = [] }", "covariate: it has no column"),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { numerator = \"d\" }",
            "covariate: expected both 'numerator' and 'denominator'",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { numerator = \"d\", denominator = \"e\" }",
            "covariate: a ratio is a covariate of a metric that is a ratio",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { column = [\"d\", \"d\"] }",
            "the covariate 'd' is named twice",
        ),
        ("store = \"results\"", "store = \"ftp://host/x\"", "no object store for ftp://"),
        ("store = \"results\"", "store = \"\"", "'' is not a location: it is empty"),
    ];
    cases.extend(plain.iter().map(|(from, to, text)| (*from, (*to).into(), (*text).into())));
    for (from, to, text) in &cases {
        let job = edited(from, to);
        refused(&place, &job, FILE, text);
        assert!(!place.path("results").exists(), "{to}");
        let validated = place.gosset(&["validate", "job.toml"]).ended(FILE).told(text);
        assert!(validated.stderr.starts_with("error: "), "{}", validated.stderr);
    }
    let files = fs::read_dir(place.path("")).unwrap().count();
    assert_eq!(files, 2, "the rows and the job: nothing else was written");
}

#[test]
fn an_experiment_is_needed() {
    let place = place();
    let job = &JOB[..JOB.find("[experiments.e]").unwrap()];
    refused(&place, job, FILE, "the job has no experiment");
    refused(&place, &format!("{job}[experiments]\n"), FILE, "the job has no experiment");
    refused(&place, "", FILE, "the key 'job' is missing");
}

#[test]
fn sql_of_metrics_is_an_expression_and_nothing_else() {
    let place = place();
    place.write("secret.csv", "y\n1\n");
    let syntax = "syntax error: ";
    for (sql, text) in [
        ("y); DROP TABLE x; --", syntax),
        ("sum(y)); DROP TABLE x; --", syntax),
        ("sum(y); DROP TABLE x", syntax),
        ("sum(y) FROM 'secret.csv'", syntax),
        ("sum(y) UNION SELECT 1", syntax),
        ("sum(y), sum(d)", syntax),
        ("SELECT 1", syntax),
        ("CREATE TABLE t (a INT)", syntax),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'secret.csv'", syntax),
        ("DROP TABLE rows", syntax),
        ("DELETE FROM t", syntax),
        ("INSERT INTO t VALUES (1)", syntax),
        ("UPDATE t SET a = 1", syntax),
        ("COPY t TO 'stolen.csv'", syntax),
        ("SET x = 1", syntax),
        ("", "'': syntax error: "),
        ("(SELECT 1)", "sub-queries are not supported"),
        ("sum(y) + (SELECT 1)", "sub-queries are not supported"),
        ("sum(y) IN (SELECT 1)", "sub-queries are not supported"),
        ("EXISTS (SELECT 1)", "sub-queries are not supported"),
        ("sum(y) + (SELECT sum(y) FROM 'secret.csv')", "table 'secret.csv' not found"),
        ("random()", "'random' does not give the same value every time"),
        ("sum(random())", "'random' does not give the same value every time"),
        (
            "sum(y) FILTER (WHERE random() < 0.5)",
            "'random' does not give the same value every time",
        ),
        ("sum(y) + random()", "'random' does not give the same value every time"),
        (
            "count(*) FILTER (WHERE now() > '2026-01-01')",
            "'now' does not give the same value every time",
        ),
        ("uuid()", "'uuid' does not give the same value every time"),
        ("sum(y) OVER ()", "window functions are not supported"),
        ("row_number() OVER ()", "window functions are not supported"),
        ("no_such(y)", "'no_such(y)': Invalid function 'no_such'."),
        ("sum(no_such(y))", "Invalid function 'no_such'."),
        ("avg(y)", "expected the aggregates sum, count, max, min, bool_or; found 'avg'"),
        (
            "sum(y) / median(d)",
            "expected the aggregates sum, count, max, min, bool_or; found 'median'",
        ),
        (
            "exact_sum(y)",
            "expected the aggregates sum, count, max, min, bool_or; found 'exact_sum'",
        ),
        ("ttest(y, arm)", "expected the aggregates sum, count, max, min, bool_or; found 'ttest'"),
        ("count(DISTINCT name, d)", "expected one value inside of 'count', found 2"),
        ("sum(DISTINCT y)", "'sum(DISTINCT ...)' is not supported"),
        ("sum(y ORDER BY d)", "ORDER BY has no meaning inside 'sum'"),
        ("sum(sum(y))", "'sum' stands inside of another aggregate"),
        ("sum(y) FILTER (WHERE count(*) > 1)", "'count' stands inside of another aggregate"),
        ("sum()", "expected one value inside of 'sum', found 0"),
        ("sum(y, d)", "expected one value inside of 'sum', found 2"),
        ("sum(*)", "expected one value inside of 'sum', found '*'"),
        ("sum(name)", "'sum(name)': expected a number inside of 'sum', found "),
        ("sum(at)", "expected a number inside of 'sum', found Timestamp"),
        ("y", "the column 'y' stands outside of an aggregate; a unit has many rows"),
        ("sum(y) + d", "the column 'd' stands outside of an aggregate; a unit has many rows"),
        ("1", "expected an aggregate such as sum(x) or count(*)"),
        (
            "sum(yy)",
            "No field named yy. Did you mean 'y'? Valid fields are unit, arm, y, d, name, at.",
        ),
        ("sum(nothing)", "No field named nothing. Valid fields are unit, arm, y, d, name, at."),
        ("sum(rows.y)", "No field named rows.y."),
        ("$1", "'$1' is not supported"),
        ("sum($1)", "'$1' is not supported"),
    ] {
        let job = edited("sum(y)", sql);
        place.write("job.toml", &job);
        let text = text.to_owned();
        place.gosset(&["validate", "job.toml"]).ended(FILE).told(&text);
        refused(&place, &job, FILE, &text);
        assert!(!place.path("stolen.csv").exists());
    }
}

#[test]
fn sql_over_units_takes_no_aggregate_and_gives_a_number() {
    let place = place();
    let units = edited("unit = \"unit\"", "grain = \"unit\"");
    place.run(&units.replace("sum(y)", "y")).ended(0);
    fs::remove_dir_all(place.path("results")).unwrap();
    for (sql, text) in [
        ("sum(y)", "the source's rows are units, so 'sum' has nothing to aggregate"),
        ("name", "'name': expected a number for each unit, found "),
        ("at", "'at': expected a number for each unit, found Timestamp"),
        ("'1'", "expected a number for each unit, found "),
        ("y; DROP TABLE x", "syntax error: "),
        ("random()", "'random' does not give the same value every time"),
    ] {
        refused(&place, &units.replace("sum(y)", sql), FILE, text);
    }
}

#[test]
fn columns_that_are_missing_are_told_with_those_that_are_near() {
    let place = place();
    for (from, to, text) in [
        ("\"arm\"", "\"amr\"", "[assignments]: the column 'amr' is missing; did you mean 'arm'?"),
        ("\"unit\"", "\"unti\"", "the column 'unti' is missing; did you mean 'unit'?"),
        (
            "\"unit\"",
            "\"account\"",
            "the column 'account' is missing; the columns are 'unit', 'arm', 'y', 'd', 'name', 'at'",
        ),
        ("\"arm\"", "\"arm\"\ntime = \"att\"", "the column 'att' is missing; did you mean 'at'?"),
        (
            "\"arm\"",
            "\"arm\"\nexperiment = \"tset\"",
            "[assignments]: the column 'tset' is missing",
        ),
        (
            "[metrics.m]",
            "[metrics.m]\ncovariate = { column = \"dd\" }",
            "metric 'm': covariate: the column 'dd' is missing",
        ),
    ] {
        refused(&place, &edited(from, to), DATA, text);
    }
    let of_segment =
        edited("\"name\"", "\"nmae\"").replace("control", "segments = [\"group\"]\ncontrol");
    refused(
        &place,
        &of_segment,
        DATA,
        "segment 'group': the column 'nmae' is missing; did you mean 'name'?",
    );
    let text = edited("[metrics.m]", "[metrics.m]\ncovariate = { column = \"name\" }");
    refused(&place, &text, FILE, "the column 'name' is ");
}

#[test]
fn time_must_be_a_time() {
    let place = place();
    let text = edited("\"arm\"", "\"arm\"\ntime = \"name\"");
    refused(&place, &text, DATA, "column 'name': expected a timestamp or a date, found Utf8");
    let number = edited("\"arm\"", "\"arm\"\ntime = \"d\"");
    refused(&place, &number, DATA, "column 'd': expected a timestamp or a date, found Int64");
}

#[test]
fn arms_that_are_not_there() {
    let place = place();
    refused(
        &place,
        &edited("control = \"a\"", "control = \"A\""),
        DATA,
        "e: no unit has the control 'A'; arms found: 'a', 'b'",
    );
    let of_other = edited("\"arm\"", "\"arm\"\nexperiment = \"name\"");
    refused(&place, &of_other, DATA, "no unit is assigned: the assignments have no row for it");
}

#[test]
fn inputs_without_rows() {
    let place = Place::new();
    place.write("rows.csv", ROWS.lines().next().unwrap());
    // Nobody says what is wrong with a column of no rows: its type is not known.
    let run = place.run(JOB).ended(DATA);
    assert!(run.stderr.contains("no unit is assigned"), "{}", run.stderr);
    nothing_published(&place);

    place.write("rows.csv", "");
    let run = place.run(JOB);
    assert!([DATA, MISSING].contains(&run.status), "{}: {}", run.status, run.stderr);
    assert!(
        run.stderr.contains("rows.csv") || run.stderr.contains("the columns are"),
        "{}",
        run.stderr
    );
    nothing_published(&place);

    let columns: Vec<(&str, ArrayRef)> = vec![
        ("unit", Arc::new(Int64Array::from(Vec::<i64>::new()))),
        ("arm", Arc::new(StringArray::from(Vec::<String>::new()))),
        ("y", Arc::new(Float64Array::from(Vec::<f64>::new()))),
    ];
    place.parquet("rows.parquet", columns);
    let job = edited("rows.csv", "rows.parquet");
    refused(&place, &job, DATA, "e: no unit is assigned: the assignments have no row for it");
}

#[test]
fn files_that_are_missing() {
    let place = Place::new();
    refused(&place, JOB, MISSING, "e: no file found at 'rows.csv'");
    place.write("jobs/there.toml", JOB);
    place.write("jobs/rows.csv", ROWS);
    let hint = "(relative paths are relative to the working directory, not to jobs)";
    place.gosset(&["run", "jobs/there.toml"]).ended(MISSING).told(hint);
    place.gosset(&["validate", "jobs/there.toml"]).ended(MISSING).told(hint);
    place.gosset(&["plan", "jobs/there.toml"]).ended(MISSING).told(hint);
    nothing_published(&place);

    for command in ["run", "validate", "plan", "status"] {
        place.gosset(&[command, "none.toml"]).ended(MISSING).told("error: none.toml: No such file");
        place.gosset(&[command, "jobs"]).ended(MISSING).told("error: jobs: Is a directory");
    }
    place.write("bytes.toml", "");
    fs::write(place.path("bytes.toml"), [0xff, 0xfe, 0x00]).unwrap();
    place.gosset(&["run", "bytes.toml"]).ended(DATA).told("bytes.toml: ");
}

fn good_columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("unit", Arc::new(Int64Array::from_iter_values(0..1000))),
        ("arm", Arc::new((0..1000).map(|i| Some(["a", "b"][i % 2])).collect::<StringArray>())),
        ("y", Arc::new(Float64Array::from_iter_values((0..1000).map(f64::from)))),
    ]
}

#[test]
fn files_that_are_not_what_their_names_say() {
    let place = Place::new();
    place.parquet("good.parquet", good_columns());
    let good = fs::read(place.path("good.parquet")).unwrap();
    let job = edited("rows.csv", "rows.parquet");
    let zeros = vec![0; good.len()];
    let mut flipped = good.clone();
    // The length of the metadata, beyond the file.
    flipped[good.len() - 6] ^= 0x80;
    for (what, bytes) in [
        ("text", b"unit,arm,y\n1,a,2\n".as_slice()),
        ("empty", b""),
        ("without its footer", &good[..good.len() - 8]),
        ("half", &good[..good.len() / 2]),
        ("a footer alone", &good[good.len() - 8..]),
        ("zeros", &zeros),
        ("a flipped bit", &flipped),
    ] {
        fs::write(place.path("rows.parquet"), bytes).unwrap();
        let run = refused(&place, &job, DATA, "rows.parquet");
        assert!(!run.stderr.contains("good.parquet"), "{what}: {}", run.stderr);
        place.gosset(&["validate", "job.toml"]).ended(DATA).told("rows.parquet");
    }
    // One of several: it is named.
    fs::create_dir(place.path("rows")).unwrap();
    for name in ["a", "c"] {
        fs::copy(place.path("good.parquet"), place.path(&format!("rows/{name}.parquet"))).unwrap();
    }
    fs::write(place.path("rows/b.parquet"), &good[..good.len() - 8]).unwrap();
    refused(&place, &edited("rows.csv", "rows/"), DATA, "rows/b.parquet");

    // Rows that change their mind.
    place.write("rows.csv", &format!("{ROWS}5,a\n"));
    refused(&place, JOB, DATA, "rows.csv");
    let many: String = (0..5000).map(|i| format!("{i},a,1,1,x,2026-03-01T00:00:00\n")).collect();
    let header = ROWS.lines().next().unwrap();
    place.write("rows.csv", &format!("{header}\n{many}5001,b,text,1,x,2026-03-01T00:00:00\n"));
    refused(&place, JOB, DATA, "rows.csv");
}

#[test]
fn units_of_another_type_are_not_joined() {
    let place = Place::new();
    place.parquet("rows.parquet", good_columns());
    let text: StringArray = (0..1000).map(|i| Some(i.to_string())).collect();
    let arms = good_columns().remove(1).1;
    place.parquet("assigned.parquet", vec![("unit", Arc::new(text)), ("arm", Arc::clone(&arms))]);
    let job = edited("source = \"rows\"\narm", "url = \"assigned.parquet\"\nunit = \"unit\"\narm")
        .replace("rows.csv", "rows.parquet");
    refused(
        &place,
        &job,
        DATA,
        "source 'rows': its unit 'unit' is Int64, that of the assignments is Utf8View: they are not joined",
    );

    // A time zone on one side alone.
    let times: Vec<i64> = (0..1000).collect();
    let mut rows = good_columns();
    rows.push((
        "at",
        Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
    ));
    place.parquet("rows.parquet", rows);
    let units = Arc::new(Int64Array::from_iter_values(0..1000));
    place.parquet(
        "assigned.parquet",
        vec![
            ("unit", units),
            ("arm", arms),
            ("at", Arc::new(TimestampMicrosecondArray::from(times))),
        ],
    );
    let job = job
        .replace("unit = \"unit\"\narm", "unit = \"unit\"\ntime = \"at\"\narm")
        .replace("unit = \"unit\"\n\n", "unit = \"unit\"\ntime = \"at\"\n\n");
    refused(&place, &job, DATA, "both or none must have a time zone");
}

#[test]
fn a_source_that_cannot_be_joined() {
    let place = place();
    let job = edited("unit = \"unit\"", "grain = \"unit\"")
        .replace("source = \"rows\"\narm", "url = \"rows.csv\"\nunit = \"unit\"\narm")
        .replace("sum(y)", "y");
    refused(&place, &job, FILE, "so it needs the key 'unit' to be joined with them");
    let first = edited("control", "multiple_arms = \"first\"\ncontrol");
    refused(&place, &first, FILE, "multiple_arms = \"first\" needs the 'time' of the assignments");
}

#[test]
fn a_store_that_is_not_writable() {
    let place = place();
    let closed = place.path("closed");
    fs::create_dir(&closed).unwrap();
    let mut permissions = fs::metadata(&closed).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&closed, permissions).unwrap();
    let mut store = "closed/results".to_owned();
    if fs::write(closed.join("x"), "").is_ok() {
        // The super-user may write where nobody may; but not into the kernel.
        store = "/sys/gosset-test/results".into();
    }
    place
        .run(&edited("\"results\"", &format!("{store:?}")))
        .ended(PERMISSION)
        .told("error: ")
        .told(&store);
    place.write("file", "");
    let run = place.run(&edited("\"results\"", "\"file\""));
    assert!(run.status != 0 && run.stderr.contains("file"), "{}: {}", run.status, run.stderr);
}

#[test]
fn dates_on_the_command_line() {
    let place = place();
    place.write("job.toml", JOB);
    for command in ["run", "plan"] {
        place.gosset(&[command, "job.toml", "--date", "yesterday"]).ended(2).told("yesterday");
        place.gosset(&[command, "job.toml", "--date", "2026-02-30"]).ended(2).told("2026-02-30");
    }
    nothing_published(&place);
}

#[test]
fn the_schema_knows_the_keys() {
    let schema = Place::new().gosset(&["schema"]).ended(0);
    assert_eq!(schema.stderr, "");
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    let keys = schema["properties"].as_object().unwrap();
    for key in [
        "job",
        "sources",
        "assignments",
        "segments",
        "metrics",
        "experiments",
        "audits",
        "estimators",
    ] {
        assert!(keys.contains_key(key), "{key}");
    }
    assert_eq!(schema["additionalProperties"], serde_json::Value::Bool(false));
}

//! What a run survives: blocked experiments, kills and stops at any moment, other runs, little memory; and that no
//! secret is ever told.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gosset_tests::place::{Place, Run};

const DATA: i32 = 65;
const MEMORY: i32 = 71;
const TRY_AGAIN: i32 = 75;
const TERMINATED: i32 = 143;
const INTERRUPTED: i32 = 130;

const JOB: &str = r#"[job]
name  = "faults"
store = "results"
seed  = 3

[sources.rows]
url  = "rows.csv"
unit = "unit"

[assignments]
url        = "assigned.csv"
experiment = "test"
unit       = "unit"
arm        = "arm"

[segments.group]
column = "group"

[metrics.y]
source = "rows"
value  = "sum(y)"
[metrics.rate]
source      = "rows"
numerator   = "sum(y)"
denominator = "count(*)"

[estimators.bootstrap]
replicates = 200

[experiments.first]
control    = "a"
metrics    = ["y", "rate"]
segments   = ["group"]
estimators = ["ttest", "bootstrap"]

[experiments.second]
control    = "a"
metrics    = ["y"]
estimators = ["ttest"]
"#;

/// A job of two experiments on the same 300 units.
fn place() -> Place {
    let place = Place::new();
    let mut assigned = String::from("test,unit,arm,group\n");
    for test in ["first", "second"] {
        for unit in 0..300 {
            let (arm, group) = (["a", "b"][unit % 2], ["x", "y", "z"][unit / 2 % 3]);
            writeln!(assigned, "{test},{unit},{arm},{group}").unwrap();
        }
    }
    place.write("assigned.csv", &assigned);
    let rows: String =
        (0..900).map(|i| format!("{},{}\n", i * 7 % 300, (i * i % 53) as f64 * 0.25)).collect();
    place.write("rows.csv", &format!("unit,y\n{rows}"));
    place.write("job.toml", JOB);
    place
}

fn run(place: &Place) -> Run {
    place.gosset(&["run", "job.toml"])
}

#[test]
fn a_sample_ratio_mismatch_blocks_its_experiment_until_it_is_mended() {
    let place = place();
    let good = fs::read_to_string(place.path("assigned.csv")).unwrap();
    // Two thirds of arm b of one experiment got lost.
    let kept = |line: &&str| {
        let cells: Vec<&str> = line.split(',').collect();
        cells[0] != "first" || cells[2] != "b" || cells[1].parse::<u32>().unwrap() % 3 == 0
    };
    let lossy: String = good.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    place.write("assigned.csv", &lossy);

    let blocked = run(&place).ended(DATA);
    for text in [
        "error: first: no effects are published, failed audit: sample_ratio: 'a' 150 of 100.0 expected, 'b' 50 of 100.0",
        "second: published 1 effects",
    ] {
        assert!(blocked.stderr.contains(text), "expected '{text}', found {}", blocked.stderr);
    }
    let (effects, audits) = (place.effects(), place.audits());
    assert!(effects.of(&[("experiment", "first")]).is_empty());
    assert_eq!(effects.of(&[("experiment", "second")]).len(), 1);
    let audit = audits.only(&[("experiment", "first"), ("audit", "sample_ratio")]);
    assert_eq!(audit.text("verdict"), Some("failed"));
    assert!(audit.number("value").unwrap() < 1e-10);

    // The same data are refused again, without being read again.
    let versions = (place.version("effects"), place.version("audits"));
    assert_eq!(versions, (Some(1), Some(1)));
    let again = run(&place).ended(DATA);
    assert!(again.stderr.contains("second: nothing to do"), "{}", again.stderr);
    assert!(again.stderr.contains("error: first: no effects are published"), "{}", again.stderr);
    assert!(!again.stderr.contains("version"), "{}", again.stderr);
    assert_eq!((place.version("effects"), place.version("audits")), versions);
    place
        .gosset(&["plan", "job.toml", "--detailed-exitcode"])
        .ended(0)
        .printed("first: blocked by sample_ratio");
    place.gosset(&["status", "job.toml"]).ended(0).printed("blocked by sample_ratio");

    // Who is told and does not want to be stopped is not; the effects say it themselves.
    let warned = JOB.replace(
        "[experiments.first]",
        "[audits.sample_ratio]\nblocking = false\n[experiments.first]",
    );
    place.write("job.toml", &warned);
    let run_of = run(&place).ended(0);
    assert!(
        run_of.stderr.contains("warning: first: failed audit: sample_ratio"),
        "{}",
        run_of.stderr
    );
    let effects = place.effects();
    for row in effects.of(&[("experiment", "first")]) {
        assert!(row.text("note").unwrap().contains("failed audit: sample_ratio"), "{row:?}");
    }
    assert!(effects.only(&[("experiment", "second")]).text("note").is_none());

    place.write("job.toml", JOB);
    run(&place).ended(DATA);
    place.write("assigned.csv", &good);
    let mended = run(&place).ended(0);
    assert!(mended.stderr.contains("first: published 16 effects"), "{}", mended.stderr);
    run(&place).ended(0).told("first: nothing to do");
    let clean = self::place();
    run(&clean).ended(0);
    assert_eq!(place.effects().bits(), clean.effects().bits());
    assert_eq!(place.audits().bits(), clean.audits().bits());
}

/// A number from 0 to 1 that looks random.
fn fraction(seed: u64) -> f64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[test]
fn a_kill_at_any_moment_leaves_what_was_readable_and_the_next_run_completes() {
    const SEEDS: u64 = 25;
    let changed = JOB.replace("sum(y)", "sum(y * 2)");
    let clean = |job: &str| {
        let place = place();
        place.write("job.toml", job);
        let start = Instant::now();
        run(&place).ended(0);
        (place.effects().bits(), place.audits().bits(), start.elapsed())
    };
    let (old_effects, old_audits, _) = clean(JOB);
    let (new_effects, new_audits, duration) = clean(&changed);
    assert_ne!(old_effects, new_effects);
    let (mut killed, mut visible) = (0, 0);
    for seed in 0..SEEDS {
        let place = place();
        // Every other seed kills the very first run.
        let first = seed % 2 == 0;
        if !first {
            run(&place).ended(0);
        }
        let (effects, audits) = if first {
            (Vec::new(), Vec::new())
        } else {
            (old_effects.clone(), old_audits.clone())
        };
        place.write("job.toml", &changed);
        let mut child = place.program(&["run", "job.toml"]).spawn().unwrap();
        sleep(duration.mul_f64(1.1 * fraction(seed)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());

        let (seen, seen_audits) = (place.effects().bits(), place.audits().bits());
        assert!(seen == effects || seen == new_effects, "seed {seed}: a mixture is visible");
        assert!(seen_audits == audits || seen_audits == new_audits, "seed {seed}");
        if seen == new_effects {
            assert_eq!(seen_audits, new_audits, "seed {seed}: audits are there before effects");
            visible += 1;
        }
        let before = place.version("effects");
        run(&place).ended(0);
        if seen == new_effects {
            assert_eq!(place.version("effects"), before, "seed {seed}: published twice");
        }
        assert_eq!(place.effects().bits(), new_effects, "seed {seed}");
        assert_eq!(place.audits().bits(), new_audits, "seed {seed}");
        let done = place.version("effects");
        run(&place).ended(0).told("first: nothing to do");
        assert_eq!(place.version("effects"), done, "seed {seed}");
    }
    assert!(
        killed > 5,
        "only {killed} of {SEEDS} runs were killed before they ended ({visible} had published)"
    );
}

#[test]
fn runs_at_once_publish_once() {
    let clean = place();
    run(&clean).ended(0);
    let (effects, audits) = (clean.effects().bits(), clean.audits().bits());
    for runners in [2, 8] {
        let place = place();
        let started: Vec<Child> =
            (0..runners).map(|_| place.program(&["run", "job.toml"]).spawn().unwrap()).collect();
        let mut published = 0;
        for child in started {
            let ended = Run::from(child.wait_with_output().unwrap());
            assert!([0, TRY_AGAIN].contains(&ended.status), "{runners}: {ended:?}");
            published += u32::from(ended.stderr.contains("version 1 of results/effects"));
        }
        assert_eq!(published, 1, "one of {runners} publishes");
        for table in ["effects", "audits"] {
            assert_eq!(place.version(table), Some(1), "{runners}: {table}");
            assert_eq!(place.files(table).len(), 2, "{runners}: a file for each experiment");
        }
        assert_eq!(place.effects().bits(), effects, "{runners}");
        assert_eq!(place.audits().bits(), audits, "{runners}");
        run(&place).ended(0).told("second: nothing to do");
    }
}

#[test]
fn runs_of_other_configurations_at_once_do_not_mix() {
    let changed = JOB.replace("sum(y)", "sum(y * 2)");
    let clean = place();
    run(&clean).ended(0);
    let (ours, our_audits) = (clean.effects().bits(), clean.audits().bits());
    clean.write("job.toml", &changed);
    run(&clean).ended(0);
    let theirs = clean.effects().bits();
    let place = place();
    place.write("other.toml", &changed);
    let started: Vec<Child> = (0..6)
        .map(|i| {
            let job = ["job.toml", "other.toml"][i % 2];
            place.program(&["run", job]).spawn().unwrap()
        })
        .collect();
    for child in started {
        let ended = Run::from(child.wait_with_output().unwrap());
        assert!([0, TRY_AGAIN].contains(&ended.status), "{ended:?}");
    }
    let seen = place.effects().bits();
    assert!(seen == ours || seen == theirs, "the results are of one of them");
    assert_eq!(place.files("effects").len(), 2);
    run(&place).ended(0);
    assert_eq!((place.effects().bits(), place.audits().bits()), (ours, our_audits));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            fs::copy(&path, &copy).unwrap();
        }
    }
}

/// A run publishes its audits and then its effects. One that ends between them leaves audits that are not of the
/// effects beside them, also for who goes back to the old configuration.
#[test]
fn audits_of_a_run_that_did_not_publish_its_effects_are_replaced() {
    let place = place();
    run(&place).ended(0);
    let (effects, audits) = (place.effects().bits(), place.audits().bits());
    copy_folder(&place.path("results/effects"), &place.path("kept"));
    place.write(
        "job.toml",
        &JOB.replace("sum(y)", "sum(nullif(y, 1))")
            .replace("\"rate\"]", "\"rate\", \"z\"]")
            .replace(
                "[metrics.rate]",
                "[metrics.z]\nsource = \"rows\"\nvalue = \"count(y)\"\n[metrics.rate]",
            ),
    );
    run(&place).ended(0);
    assert_ne!(place.audits().bits(), audits);
    fs::remove_dir_all(place.path("results/effects")).unwrap();
    copy_folder(&place.path("kept"), &place.path("results/effects"));

    place.write("job.toml", JOB);
    let plan = place.gosset(&["plan", "job.toml", "--detailed-exitcode"]).ended(20);
    assert!(
        plan.stdout.contains("first: compute, its audits are of another run"),
        "{}",
        plan.stdout
    );
    run(&place).ended(0);
    assert_eq!(place.effects().bits(), effects);
    assert_eq!(place.audits().bits(), audits);
    place.gosset(&["plan", "job.toml", "--detailed-exitcode"]).ended(0);
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The e-mail job with so many replicates that it runs for minutes.
fn long_job() -> Place {
    let place = Place::new();
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("jobs");
    fs::copy(jobs.join("hillstrom.csv"), place.path("hillstrom.csv")).unwrap();
    let job = fs::read_to_string(jobs.join("hillstrom.toml")).unwrap();
    let many = "[estimators.bootstrap]\nreplicates = 100000\n[metrics.spend]";
    place.write("job.toml", &job.replace("[metrics.spend]", many));
    place
}

#[test]
fn a_signal_stops_a_run_within_seconds_and_nothing_is_published() {
    // Soon, and while replicates are drawn.
    for (after, name, status) in
        [(150, "-TERM", TERMINATED), (2500, "-TERM", TERMINATED), (2500, "-INT", INTERRUPTED)]
    {
        let place = long_job();
        let child = place.program(&["run", "job.toml"]).spawn().unwrap();
        sleep(Duration::from_millis(after));
        let asked = Instant::now();
        signal(&child, name);
        let ended = Run::from(child.wait_with_output().unwrap()).ended(status);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert!(ended.stderr.contains("error: stopped by "), "{}", ended.stderr);
        assert!(place.effects().rows().is_empty() && place.audits().rows().is_empty());
        assert!(matches!(place.version("effects"), None | Some(0)));
    }
}

#[test]
fn little_memory_is_told_or_is_enough() {
    let clean = place();
    run(&clean).ended(0);
    let effects = clean.effects().bits();
    let mut statuses = Vec::new();
    for limit in ["1KB", "100KB", "1MB", "4MB", "16MB", "64MB"] {
        let place = place();
        let ended = place.gosset(&["run", "job.toml", "--memory-limit", limit]);
        match ended.status {
            0 => assert_eq!(place.effects().bits(), effects, "{limit}"),
            MEMORY => {
                let told = ended.told("error: ");
                assert!(told.stderr.to_lowercase().contains("memory"), "{limit}: {}", told.stderr);
                assert!(place.effects().rows().is_empty(), "{limit}");
            }
            _ => panic!("{limit}: {ended:?}"),
        }
        statuses.push(place.gosset(&["run", "job.toml", "--memory-limit", limit]).status);
    }
    assert_eq!((statuses[0], statuses[5]), (MEMORY, 0), "{statuses:?}");
    // The same from the job file, where the command line says nothing.
    let place = place();
    place.write(
        "job.toml",
        &JOB.replace("[metrics.y]", "[engine]\nmemory_limit = \"1KB\"\n[metrics.y]"),
    );
    run(&place).ended(MEMORY);
    place.gosset(&["run", "job.toml", "--memory-limit", "1GB"]).ended(0);
}

/// A job of 1200 units in 24 groups whose replicates are megabytes each.
fn heavy() -> Place {
    let place = Place::new();
    let mut rows = String::from("unit,arm,group,y\n");
    for unit in 0..1200 {
        let (arm, group) = (["a", "b"][unit % 2], unit / 2 % 24);
        let group = if group == 0 { String::new() } else { format!("g{group}") };
        writeln!(rows, "{unit},{arm},{group},{}", (unit * unit % 53) as f64 * 0.25).unwrap();
    }
    // A value of a segment that only a row without an arm says.
    rows.push_str("0,,alone,\n");
    place.write("rows.csv", &rows);
    place.write(
        "job.toml",
        r#"[job]
name  = "heavy"
store = "results"

[sources.rows]
url   = "rows.csv"
grain = "unit"
unit  = "unit"

[assignments]
source = "rows"
arm    = "arm"

[segments.group]
column = "group"

[metrics.y]
source = "rows"
value  = "y"
[metrics.rate]
source      = "rows"
numerator   = "y"
denominator = "y + 1"

[audits.duplicate_units]
blocking = false

[estimators.bootstrap]
method     = "poisson"
interval   = "bca"
replicates = 20000
[estimators.quantile]
quantiles = [0.5, 0.75]

[experiments.e]
control    = "a"
metrics    = ["y", "rate"]
segments   = ["group"]
estimators = ["ttest", "bootstrap", "quantile", "mann_whitney"]
"#,
    );
    place
}

#[test]
fn waves_fit_into_memory_and_give_the_same_bits() {
    let whole = heavy();
    let plan = whole.gosset(&["plan", "job.toml", "--memory-limit", "8GB"]).ended(0);
    assert!(plan.stdout.contains("\n  in 1 wave, about "), "{}", plan.stdout);
    run(&whole).ended(0);
    let alone = [("segment_value", "alone"), ("metric", "y"), ("estimator", "bootstrap_mean")];
    assert_eq!(whole.effects().of(&alone).len(), 1);
    let (effects, audits) = (whole.effects().bits(), whole.audits().bits());
    let mut waves = vec![1];
    for limit in ["256MB", "64MB", "16MB"] {
        let place = heavy();
        let limited = ["--memory-limit", limit, "--partitions", "2"];
        let plan = place.gosset(&[&["plan", "job.toml"][..], &limited].concat()).ended(0).stdout;
        let (_, told) = plan.split_once("\n  in ").unwrap();
        let (number, _) = told.split_once(" waves, about ").unwrap();
        waves.push(number.parse().unwrap());
        place.gosset(&[&["run", "job.toml"][..], &limited].concat()).ended(0);
        assert_eq!(place.effects().bits(), effects, "{limit}");
        assert_eq!(place.audits().bits(), audits, "{limit}");
    }
    assert!(waves.is_sorted_by(|a, b| a < b), "{waves:?}");

    let place = heavy();
    let told = place.gosset(&["run", "job.toml", "--memory-limit", "1MB"]).ended(MEMORY);
    let told = told.told("e: the memory limit of 1.0 MiB is too small for ");
    told.told("lower 'replicates' of [estimators.bootstrap] or take its method = \"buckets\"");
    assert!(place.effects().rows().is_empty());
}

/// Every file below a folder that holds a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn no_secret_is_told() {
    const CANARY: &str = "canary-7c1e9f";
    let place = place();
    let told = |arguments: &[&str]| {
        let mut program = place.program(arguments);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            program.env(name, CANARY);
        }
        let run = Run::from(program.env("GOSSET_LOG", "trace").output().unwrap());
        assert!(!run.stdout.contains(CANARY) && !run.stderr.contains(CANARY), "{run:?}");
        run.status
    };
    for command in ["validate", "plan", "run", "run", "status"] {
        assert_eq!(told(&[command, "job.toml"]), 0, "{command}");
    }
    assert_eq!(told(&["plan", "job.toml", "--sql"]), 0);
    let published = place.path("results");
    assert_eq!(holding(&published, CANARY), Vec::<String>::new());

    // Passwords in locations that are wrong in every way that ends at once.
    for location in [
        "ftp://user:PASSWORD@host/rows.csv",
        "s3://user:PASSWORD@",
        "s3://user:PASSWORD@host:port/rows.csv",
        "file://user:PASSWORD@localhost/rows.csv",
        "file://user:PASSWORD@localhost/*.csv",
        "nothing://user:PASSWORD@[x",
    ] {
        let location = location.replace("PASSWORD", CANARY);
        for (from, to) in [
            ("\"rows.csv\"", &location),
            ("\"assigned.csv\"", &location),
            ("\"results\"", &location),
        ] {
            place.write("bad.toml", &JOB.replace(from, &format!("{to:?}")));
            for command in ["validate", "plan", "run", "status"] {
                let status = told(&[command, "bad.toml"]);
                assert!(
                    status != 0 || command == "status" || from == "\"results\"",
                    "{command} {location} for {from}"
                );
            }
        }
    }
    assert_eq!(holding(&published, CANARY), Vec::<String>::new());
}

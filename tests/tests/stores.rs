//! Tables, sources and results on object stores, from one process and from executors. Needs `GOSSET_TEST_STORES`, the URLs
//! of buckets, and the variables of their servers (`AWS_ENDPOINT_URL`, `GOOGLE_BASE_URL`, ...): `.ci/run` starts some.
#![expect(clippy::unwrap_used, reason = "tests")]

use gosset_tests::cluster::Processes;
use gosset_tests::place::{Place, Run};

const ROWS: &str = "(VALUES (1,'a',1.0),(2,'a',2.0),(3,'b',2.5),(4,'b',4.5),(5,'b',3.0),(6,'a',1.5)) t(id, arm, y)";

/// (2.5 + 4.5 + 3)/3 − (1 + 2 + 1.5)/3
const EFFECT: &str = "estimate\n1.8333333333333333\n";

fn roots() -> Vec<String> {
    let Ok(roots) = std::env::var("GOSSET_TEST_STORES") else {
        eprintln!("not tested: GOSSET_TEST_STORES is not set (.ci/run sets it)");
        return vec![];
    };
    let process = std::process::id();
    roots.split_whitespace().map(|root| format!("{root}/gosset-tests-{process}")).collect()
}

/// A job over `units` whose results go to `results`.
fn job(place: &Place, units: &str, results: &str) {
    let job = format!(
        "[job]\nname = \"stores\"\nstore = \"{results}\"\n\
         [sources.units]\nurl = \"{units}\"\ngrain = \"unit\"\nunit = \"id\"\n\
         [assignments]\nsource = \"units\"\narm = \"arm\"\n\
         [metrics.y]\nsource = \"units\"\nvalue = \"y\"\n\
         [experiments.e]\ncontrol = \"a\"\nmetrics = [\"y\"]\n"
    );
    place.write("job.toml", &job);
}

#[test]
fn queries_and_jobs_read_and_write_object_stores() {
    let place = Place::new();
    for root in roots() {
        let units = format!("{root}/units/day 2.csv");
        let wrote = format!("COPY (SELECT * FROM {ROWS}) TO '{units}'");
        assert_eq!(place.asked(&wrote, &[]), "count\n6\n");
        assert_eq!(place.asked(&format!("SELECT count(*) AS n FROM '{units}'"), &[]), "n\n6\n");
        let nothing = format!("SELECT 1 FROM '{root}/no.csv'");
        place.gosset(&["sql", "-c", &nothing]).ended(66);

        job(&place, &units, &format!("{root}/results"));
        for told in ["published 1 effects", "nothing to do"] {
            place.gosset(&["run", "job.toml"]).ended(0).told(told);
        }
        let effects = format!("SELECT estimate FROM '{root}/results/effects'");
        assert_eq!(place.asked(&effects, &[]), EFFECT);
    }
}

#[test]
fn executors_read_and_write_object_stores() {
    let roots = roots();
    if roots.is_empty() {
        return;
    }
    let place = Place::new();
    let cluster = Processes::start(2, 1);
    let there = ["--cluster", &cluster.url()];
    for root in roots {
        // Several files, in both formats, so that both executors have a part in it.
        for part in ["1", "2", "3"] {
            for format in ["csv", "parquet"] {
                let file = format!("{root}/units/{format}/{part}.{format}");
                let wrote = format!("COPY (SELECT * FROM {ROWS}) TO '{file}'");
                assert_eq!(place.asked(&wrote, &there), "count\n6\n");
            }
        }
        for format in ["csv", "parquet"] {
            let files = format!("'{root}/units/{format}/*.{format}'");
            let query = format!("SELECT count(*) AS n, avg(y) AS mean FROM {files}");
            let expected = "n,mean\n18,2.4166666666666665\n";
            assert_eq!(place.asked(&query, &there), expected);
            assert_eq!(place.asked(&query, &[]), expected);
        }
        job(&place, &format!("{root}/units/parquet/1.parquet"), &format!("{root}/of-cluster"));
        place.gosset(&["run", "job.toml", "--cluster", &cluster.url()]).ended(0);
        // The results are a Delta table, which the executors read too.
        let effects = format!("SELECT estimate FROM '{root}/of-cluster/effects'");
        assert_eq!(place.asked(&effects, &there), EFFECT);
        assert_eq!(place.asked(&effects, &[]), EFFECT);
    }
}

#[test]
fn credentials_are_those_of_each_process() {
    let roots = roots();
    if roots.is_empty() {
        return;
    }
    let place = Place::new();
    let mut cluster = Processes::start(0, 1);
    // A key that is none of the account's, and a metadata server that is not there: those of the client do not help.
    let others = [
        "env",
        "AZURE_STORAGE_ACCOUNT_KEY=bm90IHRoZSBrZXk=",
        "GOOGLE_SERVICE_ACCOUNT_KEY={\"client_email\":\"\",\"private_key\":\"\",\"private_key_id\":\"\",\"disable_oauth\":true}",
    ];
    cluster.add_executor_within(&others, "127.0.0.1", 1, &[]);
    cluster.wait_for(1);
    for root in roots.iter().filter(|root| !root.starts_with("s3")) {
        let file = format!("{root}/others/1.parquet");
        place.asked(&format!("COPY (SELECT * FROM {ROWS}) TO '{file}'"), &[]);
        let query = format!("SELECT count(*) AS n, avg(y) AS mean FROM '{file}'");
        assert_eq!(place.asked(&query, &[]), "n,mean\n6,2.4166666666666665\n");
        let refused = place.gosset(&["sql", "-c", &query, "--cluster", &cluster.url()]);
        let told = &refused.stderr;
        assert_ne!(refused.status, 0, "{root}: {refused:?}");
        assert!(told.contains("401") || told.contains("403"), "{root}: {told}");
    }
}

#[test]
fn a_store_that_is_not_set_up_says_what_it_takes() {
    let place = Place::new();
    for (url, set, variable) in [
        (
            "az://container/1.csv",
            ("AZURE_STORAGE_ACCOUNT_KEY", "a key"),
            "AZURE_STORAGE_ACCOUNT_NAME",
        ),
        (
            "gs://bucket/1.csv",
            ("GOOGLE_APPLICATION_CREDENTIALS", "no/such/file.json"),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
    ] {
        let mut program = place.program(&["sql", "-c", &format!("SELECT 1 FROM '{url}'")]);
        let told = program.env_clear().env(set.0, set.1).output().unwrap();
        let text = Run::from(told).ended(78).stderr;
        assert!(text.contains(variable) && !text.contains("a key"), "{text}");
    }
}

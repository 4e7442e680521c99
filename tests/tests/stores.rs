//! Tables, sources and results on a server that speaks S3. Needs `GOSSET_TEST_S3=s3://bucket` and the variables of a
//! server (`AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, ...): `.ci/run` starts one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use gosset_engine::{Stores, location};
use gosset_tests::cluster::Processes;
use gosset_tests::gosset_binary;
use object_store::ObjectStoreExt;
use object_store::path::Path;

const ROWS: &str = "id,arm,y\n1,a,1.0\n2,a,2.0\n3,b,2.5\n4,b,4.5\n5,b,3.0\n6,a,1.5\n";

fn gosset(folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(gosset_binary()).args(arguments).current_dir(folder).output().unwrap()
}

#[tokio::test]
async fn queries_and_jobs_read_and_write_s3() {
    let Ok(root) = std::env::var("GOSSET_TEST_S3") else {
        eprintln!("skipped: GOSSET_TEST_S3 is not set (.ci/run sets it)");
        return;
    };
    let prefix = format!("gosset-tests-{}", std::process::id());
    let url = location(&root).unwrap();
    let store = Stores::new().get(&url).unwrap();
    let units = Path::from(format!("{prefix}/units/day 2.csv"));
    store.put(&units, ROWS.into()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let query = format!("SELECT count(*) AS n FROM '{root}/{prefix}/units/day 2.csv'");
    let counted = gosset(folder.path(), &["sql", "--format", "csv", "-c", &query]);
    assert_eq!(String::from_utf8_lossy(&counted.stdout), "n\n6\n", "{counted:?}");
    let missing =
        gosset(folder.path(), &["sql", "-c", &format!("SELECT 1 FROM '{root}/{prefix}/no.csv'")]);
    assert_eq!(missing.status.code(), Some(66), "{missing:?}");

    let job = format!(
        "[job]\nname = \"s3\"\nstore = \"{root}/{prefix}/results\"\n\
         [sources.units]\nurl = \"{root}/{prefix}/units/day 2.csv\"\ngrain = \"unit\"\nunit = \"id\"\n\
         [assignments]\nsource = \"units\"\narm = \"arm\"\n\
         [metrics.y]\nsource = \"units\"\nvalue = \"y\"\n\
         [experiments.e]\ncontrol = \"a\"\nmetrics = [\"y\"]\n"
    );
    std::fs::write(folder.path().join("job.toml"), job).unwrap();
    for told in ["published 1 effects", "nothing to do"] {
        let run = gosset(folder.path(), &["run", "job.toml"]);
        let text = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && text.contains(told), "{text}");
    }
    let query = format!("SELECT estimate FROM '{root}/{prefix}/results/effects'");
    let read = gosset(folder.path(), &["sql", "--format", "csv", "-c", &query]);
    // (2.5 + 4.5 + 3)/3 − (1 + 2 + 1.5)/3
    let estimate = "estimate\n1.8333333333333333\n";
    assert_eq!(String::from_utf8_lossy(&read.stdout), estimate, "{read:?}");

    // The executors of a cluster read with the credentials of their own environment.
    let cluster = Processes::start(2, 1);
    let there = cluster.url();
    let read =
        gosset(folder.path(), &["sql", "--format", "csv", "-c", &query, "--cluster", &there]);
    assert_eq!(String::from_utf8_lossy(&read.stdout), estimate, "{read:?}");
    let job = std::fs::read_to_string(folder.path().join("job.toml")).unwrap();
    let elsewhere = job.replace("/results", "/results-of-cluster");
    std::fs::write(folder.path().join("job.toml"), elsewhere).unwrap();
    let run = gosset(folder.path(), &["run", "job.toml", "--cluster", &there]);
    assert!(run.status.success(), "{run:?}");
    let query = query.replace("/results", "/results-of-cluster");
    let read = gosset(folder.path(), &["sql", "--format", "csv", "-c", &query]);
    assert_eq!(String::from_utf8_lossy(&read.stdout), estimate, "{read:?}");
}

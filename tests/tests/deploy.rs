//! What is in `deploy/`: each file is read by the tool that it is for, and says of the program only what the program has.
//!
//! Needs python3 with the packages of `deploy/requirements.txt`, named by `GOSSET_DEPLOY_PYTHON`, and with those of
//! `deploy/airflow.txt`, named by `GOSSET_AIRFLOW_PYTHON`; `.ci/run` makes both. What needs `systemd-analyze` or `openssl`
//! is skipped where they are not installed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gosset_sql::size::{self, Bytes};
use gosset_stats::summary::Resampling;
use gosset_tests::gosset_binary;
use gosset_tests::place::Place;
use serde_json::Value;

const OVERLAYS: [&str; 2] = ["nightly", "backfill"];
const UNIT: &str = "gosset-nightly.service";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn deploy() -> PathBuf {
    root().join("deploy")
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The interpreter that an environment variable names.
fn python(variable: &str) -> Option<OsString> {
    let python = std::env::var_os(variable);
    if python.is_none() {
        eprintln!("skipped: {variable} is not set (.ci/run sets it)");
    }
    python
}

fn installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok()
        || Command::new(tool).arg("version").output().is_ok();
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

#[track_caller]
fn done(output: Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{told}\n{printed}", output.status);
    printed
}

/// The tools of the first environment.
struct Tools(PathBuf);

impl Tools {
    fn find() -> Option<Self> {
        Some(Self(PathBuf::from(python("GOSSET_DEPLOY_PYTHON")?)))
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(self.0.with_file_name(tool));
        command.current_dir(deploy());
        command
    }

    /// Documents of YAML, checked against the schemas of Kubernetes where `kubernetes` says so.
    fn yaml(&self, text: &str, kubernetes: bool) -> Vec<Value> {
        let mut read = Command::new(&self.0);
        read.arg(root().join("tests/deploy/manifests.py"));
        if kubernetes {
            read.arg("--kubernetes");
        }
        let mut read = read
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        read.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        serde_json::from_str(&done(read.wait_with_output().unwrap())).unwrap()
    }

    fn compose(&self) -> Value {
        self.yaml(&text("deploy/compose.yaml"), false).remove(0)
    }

    fn overlay(&self, name: &str) -> Vec<Value> {
        let folder = format!("kubernetes/overlays/{name}");
        let made = self.command("kubectl").args(["kustomize", &folder]).output().unwrap();
        self.yaml(&done(made), true)
    }
}

fn words(of: &Value) -> Vec<String> {
    of.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The template of the pods of a workload; none of what has none.
fn pods(object: &Value) -> Option<&Value> {
    let template = match object["kind"].as_str().unwrap() {
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        "Deployment" | "StatefulSet" | "Job" => &object["spec"]["template"],
        _ => return None,
    };
    Some(template)
}

fn container(object: &Value) -> &Value {
    let containers = pods(object).unwrap()["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == name;
    objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The command line of the service of systemd, without the program.
fn exec_start() -> Vec<String> {
    let unit = text(format!("deploy/systemd/{UNIT}"));
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    line.split_whitespace().skip(1).map(ToOwned::to_owned).collect()
}

/// Every command line in `deploy/`, by its place.
fn command_lines(tools: &Tools) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::from([("systemd".into(), exec_start())]);
    let compose = tools.compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        if service["image"].as_str().unwrap().starts_with("gosset:") {
            all.insert(format!("compose, {name}"), words(&service["command"]));
        }
        if let Some(test) = service["healthcheck"]["test"].as_array() {
            let test = words(&Value::Array(test.clone()));
            if test[1].ends_with("gosset") {
                all.insert(format!("compose, health of {name}"), test[2..].to_vec());
            }
        }
    }
    for overlay in OVERLAYS {
        for object in tools.overlay(overlay).iter().filter(|object| pods(object).is_some()) {
            let place = format!("{overlay}, {} {}", object["kind"], object["metadata"]["name"]);
            all.insert(place, words(&container(object)["args"]));
        }
    }
    all
}

/// Exit codes of the program, as its help says them.
fn exit_codes() -> BTreeSet<u64> {
    let help = done(Command::new(gosset_binary()).arg("--help").output().unwrap());
    let (_, told) = help.split_once("Exit status:").unwrap();
    let told = told.replace(['\n', '/'], " ");
    let codes: BTreeSet<u64> =
        told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(codes.len() > 10, "{codes:?}");
    codes
}

/// The same run again may end otherwise.
const AGAIN: [u64; 2] = [69, 75];
/// Stopped from outside.
const STOPPED: [u64; 2] = [130, 143];

#[test]
fn command_lines_are_those_of_the_program() {
    let Some(tools) = Tools::find() else { return };
    let all = command_lines(&tools);
    assert!(all.len() >= 9, "{all:?}");
    let mut wrong = Vec::new();
    for (place, line) in &all {
        // What Kubernetes puts there.
        let line = line.iter().map(|word| word.replace("$(", "").replace(')', ""));
        // Help comes only after everything before it was understood.
        let help = Command::new(gosset_binary()).args(line).arg("--help").output().unwrap();
        if !help.status.success() {
            wrong.push(format!("{place}: {}", String::from_utf8_lossy(&help.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_image_and_the_compose_file_are_as_their_tools_want_them() {
    let Some(tools) = Tools::find() else { return };
    done(tools.command("hadolint").args(["--no-color", "Containerfile"]).output().unwrap());
    let check = ["--builtin-schema", "vendor.compose-spec", "compose.yaml"];
    done(tools.command("check-jsonschema").args(check).output().unwrap());

    let image = text("deploy/Containerfile");
    let compose = tools.compose();
    let version = env!("CARGO_PKG_VERSION");
    for service in compose["services"].as_object().unwrap().values() {
        let tag = service["image"].as_str().unwrap();
        let (_, tag) = tag.rsplit_once(':').unwrap();
        assert_ne!(tag, "latest");
        assert!(service["build"].is_null() || tag == version, "{service}");
    }
    let rust = text("Cargo.toml");
    let rust = rust.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(image.contains(&format!("rust:{}.", rust.trim_matches('"'))), "{image}");
    // What the image is built from is what cargo reads, and nothing that a job or a test leaves behind.
    let sent = text("deploy/Containerfile.dockerignore");
    let sent: Vec<_> = sent.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &sent {
        assert!(root().join(path).exists(), "{path}");
    }
    let workspace = text("Cargo.toml");
    assert!(workspace.contains(r#"members = ["crates/*", "tests", "benches"]"#));
    assert!(["crates", "tests", "benches"].iter().all(|member| sent.contains(member)));
}

/// The job of the compose file does what it says, with a folder in place of the bucket.
#[test]
fn the_job_of_the_compose_file_runs() {
    let place = Place::new();
    let job = text("jobs/compose.toml");
    assert_eq!(job.matches("s3://lake/").count(), 2);
    place.write("job.toml", &job.replace("s3://lake/", ""));
    fs::copy(root().join("jobs/hillstrom.csv"), place.path("hillstrom.csv")).unwrap();
    place.gosset(&["plan", "job.toml"]).ended(0).printed("compute, new");
    place.gosset(&["run", "job.toml"]).ended(0).told("email: published");
    let query =
        "SELECT metric, arm, estimate, p_value FROM 'results/effects' WHERE segment IS NULL";
    assert!(text("deploy/compose.yaml").contains(&query.replace("results", "s3://lake/results")));
    place.gosset(&["sql", "-c", query]).ended(0).printed("spend");
}

/// Processes that end with the test.
struct Started(Vec<(String, Child)>);

impl Drop for Started {
    fn drop(&mut self) {
        for (_, process) in &mut self.0 {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The commands of the compose file, with a folder in place of the bucket and ports of this machine in place of hosts.
#[test]
fn the_cluster_of_the_compose_file_runs_its_job() {
    let Some(tools) = Tools::find() else { return };
    if !installed("openssl") {
        return;
    }
    let place = Place::new();
    let mut make = Command::new(deploy().join("certificates.sh"));
    done(make.arg(place.path("certificates")).arg("localhost").output().unwrap());
    place.write("token", "0b5ca1d3\n");
    place.write("job.toml", &text("jobs/compose.toml").replace("s3://lake/", ""));
    fs::copy(root().join("jobs/hillstrom.csv"), place.path("hillstrom.csv")).unwrap();

    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port_of_scheduler = port();
    let compose = tools.compose();
    let here = place.path("").display().to_string();
    let here = here.trim_end_matches('/');
    let command = |service: &str, words: &[String]| {
        let port_of_executor = port();
        let words = words.iter().map(|word| {
            word.replace("scheduler:50050", &format!("localhost:{port_of_scheduler}"))
                .replace(":50050", &format!(":{port_of_scheduler}"))
                .replace(":50051", &format!(":{port_of_executor}"))
                .replace(
                    &format!("/certificates/{service}."),
                    &format!("{here}/certificates/localhost."),
                )
                .replace(&format!("--advertise={service}"), "--advertise=localhost")
                .replace("/run/secrets/token", &format!("{here}/token"))
                .replace("/var/lib/gosset", here)
                .replace("/etc/gosset/compose.toml", "job.toml")
        });
        let words: Vec<String> = words.collect();
        let mut command = place.program(&words.iter().map(String::as_str).collect::<Vec<_>>());
        for name in ["GOSSET_CLUSTER", "GOSSET_CLUSTER_CA"] {
            if let Some(value) = compose["services"][service]["environment"][name].as_str() {
                let value =
                    value.replace("scheduler:50050", &format!("localhost:{port_of_scheduler}"));
                command
                    .env(name, value.replace("/certificates/", &format!("{here}/certificates/")));
            }
        }
        command
    };
    let of = |service: &str| words(&compose["services"][service]["command"]);
    let mut started = Started(Vec::new());
    for service in ["scheduler", "executor-1", "executor-2"] {
        let mut words = of(service);
        if service != "scheduler" {
            // Nobody reads results any more when it is over.
            words.push("--drain=1".into());
        }
        let process = command(service, &words).stderr(Stdio::null()).spawn().unwrap();
        started.0.push((service.into(), process));
    }
    let health = words(&compose["services"]["scheduler"]["healthcheck"]["test"]);
    let healthy = || command("scheduler", &health[2..]).output().unwrap();
    let mut answer = healthy();
    for _ in 0..60 {
        if String::from_utf8_lossy(&answer.stdout).contains("2 executors") {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
        answer = healthy();
    }
    assert!(done(answer).contains("2 executors"));
    done(command("job", &of("job")).output().unwrap());

    // The same bits as here.
    let alone = Place::new();
    fs::copy(place.path("job.toml"), alone.path("job.toml")).unwrap();
    fs::copy(place.path("hillstrom.csv"), alone.path("hillstrom.csv")).unwrap();
    alone.gosset(&["run", "job.toml"]).ended(0);
    let all =
        "SELECT * FROM 'results/effects' ORDER BY metric, segment, segment_value, arm, estimator";
    let published =
        |of: &Place| of.gosset(&["sql", "--format", "ndjson", "-c", all]).ended(0).stdout;
    assert_eq!(published(&place), published(&alone));

    for (service, process) in started.0.iter_mut().rev() {
        let kill = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(kill.success());
        assert_eq!(process.wait().unwrap().code(), Some(0), "{service}");
    }
}

#[test]
fn certificates_are_good_for_the_names_they_are_of() {
    if !installed("openssl") {
        return;
    }
    let place = Place::new();
    let folder = place.path("certificates");
    let make = || {
        let mut make = Command::new(deploy().join("certificates.sh"));
        done(make.arg(&folder).args(["scheduler", "executor-1"]).output().unwrap());
    };
    let openssl = |arguments: &[&str]| {
        Command::new("openssl").args(arguments).current_dir(&folder).output().unwrap()
    };
    make();
    for name in ["scheduler", "executor-1"] {
        for purpose in ["sslserver", "sslclient"] {
            let good = |as_name| {
                let file = format!("{name}.pem");
                let verify = ["verify", "-CAfile", "ca.pem", "-purpose", purpose];
                openssl(&[&verify[..], &["-verify_hostname", as_name, &file]].concat())
            };
            done(good(name));
            assert!(!good("somebody").status.success());
        }
        let secret = fs::metadata(folder.join(format!("{name}.key"))).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o77, 0);
    }
    let before = fs::read(folder.join("scheduler.pem")).unwrap();
    make();
    assert_eq!(fs::read(folder.join("scheduler.pem")).unwrap(), before, "good ones are kept");
    // Another authority's are of no use.
    fs::remove_file(folder.join("ca.pem")).unwrap();
    make();
    assert_ne!(fs::read(folder.join("scheduler.pem")).unwrap(), before);
    done(openssl(&["verify", "-CAfile", "ca.pem", "executor-1.pem"]));
}

#[test]
fn manifests_fit_together() {
    let Some(tools) = Tools::find() else { return };
    let nightly = tools.overlay("nightly");
    let backfill = tools.overlay("backfill");
    let workloads: Vec<&Value> =
        nightly.iter().chain(&backfill).filter(|object| pods(object).is_some()).collect();
    assert_eq!(workloads.len(), 4);

    let images: BTreeSet<&str> =
        workloads.iter().map(|object| container(object)["image"].as_str().unwrap()).collect();
    let tag = format!(":{}", env!("CARGO_PKG_VERSION"));
    assert!(images.len() == 1 && images.first().unwrap().ends_with(&tag), "{images:?}");

    for object in &workloads {
        // What the policy `restricted` of Kubernetes asks for, and a root file system that nobody writes to.
        let pod = &pods(object).unwrap()["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["runAsUser"], 65532);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let of = &container(object)["securityContext"];
        assert_eq!(of["allowPrivilegeEscalation"], false);
        assert_eq!(of["readOnlyRootFilesystem"], true);
        assert_eq!(of["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(pod["hostNetwork"].is_null() && pod["hostPID"].is_null());
        // Every volume is mounted, and the other way around.
        let names = |of: &Value| -> BTreeSet<String> {
            let of = of.as_array().unwrap().iter();
            of.map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&pod["volumes"]), names(&container(object)["volumeMounts"]));
        let part = &pods(object).unwrap()["metadata"]["labels"]["app.kubernetes.io/part-of"];
        assert_eq!(part, "gosset", "network policies are of parts of gosset");
    }
    // Secrets are named and not here.
    assert!(nightly.iter().chain(&backfill).all(|object| object["kind"] != "Secret"));

    // Draining ends before the process is killed.
    let executors = named(&nightly, "StatefulSet", "gosset-executors");
    let arguments = words(&container(executors)["args"]);
    let of = |flag: &str| {
        let flag = format!("--{flag}=");
        arguments.iter().find_map(|word| word.strip_prefix(flag.as_str())).unwrap()
    };
    let grace = &pods(executors).unwrap()["spec"]["terminationGracePeriodSeconds"];
    assert!(grace.as_u64().unwrap() > of("drain").parse().unwrap());
    // One executor for so many tasks as it has slots.
    let scaled = &named(&nightly, "ScaledObject", "gosset-executors")["spec"];
    assert_eq!(scaled["triggers"][0]["metadata"]["targetValue"], of("slots"));
    assert_eq!(scaled["scaleTargetRef"]["name"], executors["metadata"]["name"]);

    // Certificates are of the names by which others call.
    let names = |certificate| {
        let of = named(&nightly, "Certificate", certificate);
        (of["spec"]["secretName"].clone(), words(&of["spec"]["dnsNames"]))
    };
    let (secret, names_of_executors) = names("gosset-executors");
    let advertised = of("advertise").replace("$(POD_NAME)", "*");
    let namespace = executors["metadata"]["namespace"].as_str().unwrap();
    let advertised = advertised.replace("$(POD_NAMESPACE)", namespace);
    assert_eq!(names_of_executors, [advertised]);
    assert_eq!(pods(executors).unwrap()["spec"]["volumes"][0]["secret"]["secretName"], secret);
    let (_, names_of_scheduler) = names("gosset-scheduler");
    let (scheduler, port) = of("scheduler").split_once(':').unwrap();
    assert!(names_of_scheduler.iter().any(|name| name == scheduler));
    let service = named(&nightly, "Service", scheduler);
    assert_eq!(service["spec"]["ports"][0]["port"].to_string(), port);

    // Jobs call the same scheduler, and read job files that are in the map.
    for (objects, kind) in [(&nightly, "CronJob"), (&backfill, "Job")] {
        let job = objects.iter().find(|object| object["kind"] == kind).unwrap();
        let arguments = words(&container(job)["args"]);
        assert!(arguments.contains(&format!("--cluster=df://{scheduler}:{port}")));
        let volumes = pods(job).unwrap()["spec"]["volumes"].as_array().unwrap();
        let map = &volumes.iter().find(|volume| volume["name"] == "jobs").unwrap()["configMap"];
        let found = named(objects, "ConfigMap", map["name"].as_str().unwrap());
        let mut paths = BTreeSet::new();
        for item in map["items"].as_array().unwrap() {
            let path = item["path"].as_str().unwrap();
            // The files of `jobs/`, whose plans other tests look at.
            assert_eq!(
                found["data"][item["key"].as_str().unwrap()],
                text(format!("jobs/{path}")),
                "{path}"
            );
            paths.insert(path);
        }
        assert!(paths.contains(arguments[1].strip_prefix("/etc/gosset/").unwrap()), "{paths:?}");
        assert!(paths.iter().any(|path| path.starts_with("shared/")));
    }
}

/// The names that executors are scaled by are among the metrics of the scheduler.
#[test]
fn autoscaling_reads_metrics_that_are_there() {
    let Some(tools) = Tools::find() else { return };
    let nightly = tools.overlay("nightly");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (listen, http) = (free(), free());
    let mut scheduler = Command::new(gosset_binary())
        .args(["scheduler", "--listen", &listen, "--http", &http])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ask = || -> Option<String> {
        let mut stream = TcpStream::connect(&http).ok()?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    let mut answer = None;
    for _ in 0..100 {
        answer = ask();
        if answer.is_some() || scheduler.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // It may have ended by itself.
    let _ = scheduler.kill();
    let told = scheduler.wait_with_output().unwrap().stderr;
    let Some(answer) = answer else { panic!("{}", String::from_utf8_lossy(&told)) };
    let scaled = &named(&nightly, "ScaledObject", "gosset-executors")["spec"];
    for trigger in scaled["triggers"].as_array().unwrap() {
        let name = trigger["metadata"]["valueLocation"].as_str().unwrap();
        let is = |line: &str| line.split([' ', '{']).next() == Some(name);
        assert!(answer.lines().any(is), "no '{name}' in:\n{answer}");
    }
}

/// What Kubernetes, systemd and Airflow make of an exit code is one thing.
#[test]
fn exit_codes_are_mapped_everywhere_alike() {
    let all = exit_codes();
    let unit = text(format!("deploy/systemd/{UNIT}"));
    let codes = |key: &str| -> BTreeSet<u64> {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split(' ').map(|code| code.parse().unwrap()).collect()
    };
    assert_eq!(codes("RestartForceExitStatus="), AGAIN.into());
    assert_eq!(codes("SuccessExitStatus="), [143].into());

    let Some(tools) = Tools::find() else { return };
    let nightly = tools.overlay("nightly");
    let backfill = tools.overlay("backfill");
    let cron = nightly.iter().find(|object| object["kind"] == "CronJob").unwrap();
    let of_cron = &cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"];
    let job = backfill.iter().find(|object| object["kind"] == "Job").unwrap();
    assert_eq!(of_cron, &job["spec"]["podFailurePolicy"]);
    let rules = of_cron["rules"].as_array().unwrap();
    let codes = |action: &str| -> BTreeSet<u64> {
        let of = rules.iter().filter(|rule| rule["action"] == action);
        let values = of.filter_map(|rule| rule["onExitCodes"]["values"].as_array());
        values.flatten().map(|code| code.as_u64().unwrap()).collect()
    };
    assert_eq!(codes("Ignore"), [143].into());
    // All that is told but success, what to try again, and signals.
    let mut fail = all;
    fail.retain(|code| *code != 0 && !AGAIN.contains(code) && !STOPPED.contains(code));
    assert_eq!(codes("FailJob"), fail);
    assert_eq!(rules[0]["onPodConditions"][0]["type"], "DisruptionTarget");
}

#[test]
fn systemd_takes_the_units() {
    if !installed("systemd-analyze") {
        return;
    }
    let place = Place::new();
    let unit = text(format!("deploy/systemd/{UNIT}"));
    // The program is there, wherever it is.
    let here = unit.replace("/usr/local/bin/gosset", gosset_binary().to_str().unwrap());
    place.write(UNIT, &here);
    let timer = "gosset-nightly.timer";
    place.write(timer, &text(format!("deploy/systemd/{timer}")));
    let analyze = |arguments: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        let output = analyze.args(arguments).current_dir(place.path("")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        done(output);
        told
    };
    // Also what it would only warn of.
    assert_eq!(analyze(&["verify", &format!("./{UNIT}"), &format!("./{timer}")]), "");
    // From 0, which can do nothing, to 100.
    analyze(&["security", "--offline=true", "--threshold=20", &format!("./{UNIT}")]);
    let job = exec_start()[1].replace("/etc/gosset/", "jobs/");
    assert!(root().join(&job).is_file(), "{job}");
}

#[test]
fn airflow_takes_the_dag_and_acts_on_exit_codes() {
    let Some(python) = python("GOSSET_AIRFLOW_PYTHON") else { return };
    let place = Place::new();
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        fs::copy(root().join("jobs").join(file), place.path(file)).unwrap();
    }
    let tried = Command::new(python)
        .arg(root().join("tests/deploy/dag.py"))
        .args([deploy().join("airflow"), gosset_binary(), place.path("hillstrom.toml")])
        .current_dir(place.path(""))
        .env("AIRFLOW_HOME", place.path("airflow"))
        .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    done(tried);
    assert!(!place.effects().rows().is_empty(), "the job ran");

    let told: Value =
        serde_json::from_str(&fs::read_to_string(place.path("told.json")).unwrap()).unwrap();
    let mut line = words(&told["arguments"]);
    line.push("--help".into());
    done(Command::new(gosset_binary()).args(line).output().unwrap());
    assert!(told["retries"].as_u64().unwrap() > 0);
    let becomes = |code: &str| told["codes"][code].as_str().unwrap().to_owned();
    for code in 0..144_u64 {
        let expected = match code {
            0 => "succeeds",
            66 => "waits",
            137 | 143 => "retried",
            code if AGAIN.contains(&code) => "retried",
            _ => "fails",
        };
        assert_eq!(becomes(&code.to_string()), expected, "{code}");
    }
    assert_eq!((becomes("kill"), becomes("late")), ("retried".into(), "skipped".into()));
}

/// The examples of the page on sizing are what the planner reckons with.
#[test]
fn sizes_are_those_of_the_planner() {
    let page = text("deploy/README.md");
    let thousand = Resampling { replicates: 1000, ..Resampling::default() };
    let (buckets, many) = (4096, 1_000_000);
    assert_eq!(size::moments(2), 168);
    let wave = 10 * 42 * size::buckets(buckets, 2, many);
    for told in [
        "1 outcome, 1 covariate: 168".to_owned(),
        format!("1 outcome, 1 covariate: {}", Bytes(size::buckets(buckets, 1 + 2, many))),
        format!("a ratio: {}", Bytes(size::buckets(buckets, 2, many))),
        format!("a ratio, 1000 replicates: {}", Bytes(size::replicates(&thousand, 2, many))),
        format!("1 outcome, 1 covariate: {}", Bytes(size::stratified_moments(2, many))),
        format!("| {} |", Bytes(size::histogram(None, many))),
        format!("1000 replicates: {}", Bytes(size::histogram(Some(&thousand), many))),
        format!("S = 10 × 42 × 192 KiB = {:.0} MiB", wave as f64 / f64::from(1 << 20)),
        format!("on 8 cores {}", Bytes(4 * 8 * wave)),
    ] {
        assert!(page.contains(&told), "{told}");
    }
}

//! What a collector of OpenTelemetry gets of a run, and that a run is the same without one.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gosset_tests::place::{Place, Run};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

const MISSING: i32 = 66;
const TIMED_OUT: i32 = 124;
const TERMINATED: i32 = 143;

const JOB: &str = r#"[job]
name  = "nights"
store = "results"

[sources.rows]
url  = "rows.csv"
unit = "unit"
time = "at"

[assignments]
url  = "assigned.csv"
unit = "unit"
arm  = "arm"
time = "at"

[metrics.y]
source = "rows"
value  = "sum(y)"

[experiments.first]
start   = 2026-03-01
end     = 2026-03-05
control = "a"
metrics = ["y"]
periods = ["day"]
"#;

const RUN: [&str; 4] = ["run", "job.toml", "--date", "2026-03-01"];

fn place() -> Place {
    let place = Place::new();
    let mut assigned = String::from("unit,arm,at\n");
    let mut rows = String::from("unit,at,y\n");
    for unit in 0..40 {
        assigned += &format!("{unit},{},2026-03-01T00:00:00\n", ["a", "b"][unit % 2]);
        rows += &format!("{unit},2026-03-01T10:00:00,{}\n", unit % 7);
    }
    place.write("assigned.csv", &assigned);
    place.write("rows.csv", &rows);
    place.write("job.toml", JOB);
    place
}

/// The e-mail job with so many replicates that it runs for minutes.
fn long(keys: &str) -> Place {
    let place = Place::new();
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("jobs");
    let job = fs::read_to_string(jobs.join("hillstrom.toml")).unwrap();
    let job = job.replace("[job]", &format!("[job]\n{keys}"));
    let many = "[estimators.bootstrap]\nreplicates = 100000\n[metrics.spend]";
    place.write("job.toml", &job.replace("[metrics.spend]", many));
    fs::copy(jobs.join("hillstrom.csv"), place.path("hillstrom.csv")).unwrap();
    place
}

/// A request as it came.
struct Sent {
    path: String,
    headers: BTreeMap<String, String>,
    export: ExportTraceServiceRequest,
}

/// A collector on loopback that takes everything.
struct Collector {
    endpoint: String,
    sent: Receiver<Sent>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (send, sent) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // The test that listened is over.
                if send.send(taken(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        Self { endpoint, sent }
    }

    /// What came, once the program that sent it has ended.
    fn requests(&self) -> Vec<Sent> {
        self.sent.try_iter().collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|sent| sent.export.resource_spans);
        resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }
}

fn taken(stream: TcpStream) -> Sent {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<TcpStream>| {
        line.clear();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let path = next(&mut stream).split(' ').nth(1).unwrap().to_owned();
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = next(&mut stream).split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let export = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.get_mut().write_all(answer.as_bytes()).unwrap();
    Sent { path, headers, export }
}

/// The program with the variables that are said, and none of who runs the test.
fn program(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = place.program(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("TRACE") {
            command.env_remove(&name);
        }
    }
    command.envs(variables.iter().copied());
    command
}

fn ran(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    program(place, arguments, variables).output().unwrap().into()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |of: &KeyValue| match of.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|of| (of.key.as_str(), text(of))).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    assert_eq!(found.len(), 1, "'{name}' among {names:?}");
    found[0]
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_run_is_a_trace_of_who_started_it() {
    let collector = Collector::start();
    let place = place();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=growth"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_SERVICE_NAME", "nightly"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("TRACEPARENT", parent),
    ];
    let told = ran(&place, &RUN, &variables).ended(0).stderr;
    assert!(told.contains("first 2026-03-01: published 1 effects") && !told.contains("warning"));

    let requests = collector.requests();
    assert!(requests.iter().all(|sent| sent.path == "/v1/traces"));
    assert!(requests.iter().all(|sent| sent.headers["x-tenant"] == "growth"));
    let of = &requests[0].export.resource_spans[0];
    let resource = texts(&of.resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.name"], "nightly");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    let spans: Vec<Span> = requests
        .iter()
        .flat_map(|sent| &sent.export.resource_spans)
        .flat_map(|of| &of.scope_spans)
        .flat_map(|of| of.spans.clone())
        .collect();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == parent[3..35] && !failed(span)));

    let command = named(&spans, "gosset run");
    assert_eq!(hex(&command.parent_span_id), &parent[36..52]);
    let attributes = texts(&command.attributes);
    assert_eq!((&*attributes["job"], &*attributes["process.exit.code"]), ("nights", "0"));
    let events: Vec<_> = command.events.iter().map(|event| event.name.as_str()).collect();
    assert!(events.contains(&"first 2026-03-01: published 1 effects"), "{events:?}");

    let run = named(&spans, "run");
    assert_eq!(run.parent_span_id, command.span_id);
    let run_id = texts(&run.attributes)["run_id"].clone();
    assert_eq!(attributes["run_id"], run_id);
    place.gosset(&["history", "job.toml"]).ended(0).printed(&run_id);
    for name in ["read", "date", "publish"] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, run.span_id, "{name}");
        assert_eq!(texts(&span.attributes)["run_id"], run_id, "{name}");
    }
    let date = texts(&named(&spans, "date").attributes);
    assert_eq!((&*date["experiment"], &*date["date"]), ("first", "2026-03-01"));
}

#[test]
fn failures_signals_and_time_outs_are_in_the_trace() {
    let collector = Collector::start();
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.endpoint.as_str())];
    let place = place();
    place.write("job.toml", &JOB.replace("rows.csv", "nowhere.csv"));
    ran(&place, &RUN, &variables).ended(MISSING);
    let spans = collector.spans();
    let command = named(&spans, "gosset run");
    assert!(failed(command));
    assert_eq!(texts(&command.attributes)["process.exit.code"], MISSING.to_string());
    assert!(command.events.iter().any(|event| event.name.contains("nowhere.csv")), "{command:?}");

    ran(&long("timeout = \"2s\""), &["run", "job.toml"], &variables).ended(TIMED_OUT);
    let spans = collector.spans();
    let attributes = texts(&named(&spans, "gosset run").attributes);
    assert_eq!(attributes["process.exit.code"], TIMED_OUT.to_string());
    assert_eq!(texts(&named(&spans, "date").attributes)["experiment"], "email");

    let place = long("");
    let child: Child = program(&place, &["run", "job.toml"], &variables).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    Run::from(child.wait_with_output().unwrap()).ended(TERMINATED);
    let spans = collector.spans();
    let command = named(&spans, "gosset run");
    assert!(failed(command));
    assert_eq!(texts(&command.attributes)["process.exit.code"], TERMINATED.to_string());
    assert!(command.events.iter().any(|event| event.name == "stopped by SIGTERM"));
}

/// Replicates are drawn without looking up: the process is ended all the same, and its span sent.
#[test]
fn a_computation_that_is_cut_off_is_in_the_trace() {
    let collector = Collector::start();
    let call = |seed| {
        format!("bootstrap_mean(i, i % 2 = 0, i, {{replicates: 100000, seed: {seed}}}) AS e{seed}")
    };
    let calls: Vec<String> = (0..100).map(call).collect();
    let heavy = format!("SELECT {} FROM generate_series(1, 50000) AS t (i)", calls.join(", "));
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let child = program(&Place::new(), &["sql", "-c", &heavy], &variables).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    Run::from(child.wait_with_output().unwrap()).ended(TERMINATED);
    let spans = collector.spans();
    let command = named(&spans, "gosset sql");
    assert!(failed(command));
    assert_eq!(texts(&command.attributes)["process.exit.code"], TERMINATED.to_string());
}

#[test]
fn a_collector_that_is_not_there_is_one_warning() {
    // Nobody listens on a port that was free a moment ago; behind the other one nobody answers.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = "canary-77ab";
    for (address, why) in [(free, "Connection refused"), (silent.local_addr().unwrap(), "within")] {
        let place = place();
        let endpoint = format!("http://{address}/{secret}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary-77ab"),
        ];
        let mut run = program(&place, &RUN, &variables);
        let began = Instant::now();
        let told = Run::from(run.output().unwrap()).ended(0).told(why).stderr;
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        let warnings: Vec<_> = told.lines().filter(|line| line.contains("warning")).collect();
        assert_eq!(warnings.len(), 1, "{told}");
        assert!(warnings[0].contains("were lost, the collector of OTEL_EXPORTER_OTLP_ENDPOINT"));
        assert!(!told.contains(secret), "{told}");
        assert_eq!(place.effects().rows().len(), 1);

        place.write("job.toml", &JOB.replace("rows.csv", "nowhere.csv"));
        ran(&place, &RUN, &variables).ended(MISSING).told("nowhere.csv");
    }
}

#[test]
fn spans_are_sent_only_where_they_are_asked_for() {
    let collector = Collector::start();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let place = place();
    for silencing in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        // The parent is not recorded.
        ("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ] {
        let told = ran(&place, &["plan", "job.toml"], &[endpoint, silencing]).ended(0).stderr;
        assert_eq!(told.contains("warning"), silencing.1 == "grpc", "{silencing:?}: {told}");
        assert_eq!(collector.requests().len(), 0, "{silencing:?}");
    }
    ran(&place, &["plan", "job.toml"], &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")])
        .told("no spans are sent: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, found 'grpc'");
    ran(&place, &["functions"], &[endpoint]).ended(0);
    assert_eq!(collector.requests().len(), 0);
    // A parent that cannot be read is none.
    ran(&place, &["plan", "job.toml"], &[endpoint, ("TRACEPARENT", "nonsense")]).ended(0);
    let spans = collector.spans();
    assert!(named(&spans, "gosset plan").parent_span_id.is_empty());
}

//! Spans for a collector of OpenTelemetry, where its environment variables name one.
//!
//! Spans leave in the background and are lost, with one warning, where nobody takes them: no command waits for them
//! longer than [`FLUSH`], or ends otherwise because of them.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::exit::Exit;

/// How long the end of a command may wait for the collector.
const FLUSH: Duration = Duration::from_secs(3);
/// How long one request may take where no variable says it: what OpenTelemetry specifies.
const REQUEST: Duration = Duration::from_secs(10);
/// The one protocol that is built in.
const PROTOCOL: &str = "http/protobuf";

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

static STARTED: OnceLock<Telemetry> = OnceLock::new();
/// The span of the command, for whoever ends the process.
static COMMAND: OnceLock<Context> = OnceLock::new();

#[derive(Debug)]
struct Telemetry {
    provider: SdkTracerProvider,
    lost: Arc<Lost>,
}

/// What the collector did not take.
#[derive(Debug, Default)]
struct Lost {
    spans: AtomicUsize,
    /// Why the last request failed that did.
    why: Mutex<Option<String>>,
}

/// Starts sending spans if the environment asks for it. Called once.
///
/// # Errors
/// With what is wrong with the variables; the command goes on without.
pub(crate) fn start() -> Result<Option<SdkTracer>, String> {
    let Some((endpoint, _)) = first(ENDPOINTS) else { return Ok(None) };
    let is = |name, value: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    if let Some((name, found)) = first(PROTOCOLS).filter(|(_, found)| found != PROTOCOL) {
        return Err(format!("no spans are sent: {name} must be {PROTOCOL}, found '{found}'"));
    }
    let unfit = |error: &dyn Display| format!("no spans are sent to {endpoint}: {error}");
    let lost = Arc::new(Lost::default());
    let client = Client::new(Arc::clone(&lost)).map_err(|error| unfit(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .build()
        .map_err(|error| unfit(&error))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(Counted { exporter, lost: Arc::clone(&lost) })
        .build();
    let scope = InstrumentationScope::builder("gosset").with_version(env!("CARGO_PKG_VERSION"));
    let tracer = provider.tracer_with_scope(scope.build());
    // Whoever came first has started it.
    let _ = STARTED.set(Telemetry { provider, lost });
    Ok(Some(tracer))
}

/// The span of a whole command. Its parent is what `TRACEPARENT` says, which schedulers and CI systems set.
pub(crate) fn command(name: &str) -> Span {
    let parent: HashMap<String, String> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), variable(&key.to_uppercase())?)))
        .collect();
    let empty = tracing::field::Empty;
    let span = tracing::info_span!("command", command = name, job = empty, run_id = empty);
    // Without a collector there is nothing to be a parent of.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&parent));
    let context = span.context();
    context.span().update_name(format!("gosset {name}"));
    // Whoever came first has set it.
    let _ = COMMAND.set(context);
    span
}

/// Ends the span of the command, and sends what is left for a bounded time; tells what was lost. What ends later is not
/// sent.
pub(crate) fn stop(exit: Exit) -> Option<String> {
    let Telemetry { provider, lost } = STARTED.get()?;
    if let Some(command) = COMMAND.get() {
        let span = command.span();
        span.set_attribute(KeyValue::new("process.exit.code", i64::from(exit as u8)));
        if !matches!(exit, Exit::Done | Exit::WorkFound) {
            span.set_status(Status::error(""));
        }
        span.end();
    }
    let late = provider.shutdown_with_timeout(FLUSH).is_err();
    let spans = match lost.spans.load(Ordering::Relaxed) {
        0 if late => "spans".into(),
        0 => return None,
        spans => format!("{spans} spans"),
    };
    let why = lost.why.lock().unwrap_or_else(PoisonError::into_inner).take();
    let why = why.unwrap_or_else(|| format!("no answer within {} s", FLUSH.as_secs()));
    let (endpoint, _) = first(ENDPOINTS)?;
    Some(format!("{spans} were lost, the collector of {endpoint} did not take them: {why}"))
}

/// Who we are, where the variables do not say it.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "gosset"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// An empty variable is none, as OpenTelemetry has it.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn first<const N: usize>(names: [&'static str; N]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, variable(name)?)))
}

/// The exporter, with a count of what it could not deliver.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    lost: Arc<Lost>,
}

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if sent.is_err() {
            self.lost.spans.fetch_add(spans, Ordering::Relaxed);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends requests from the thread of the exporter, which has nothing else to do, on a runtime of its own: the one of the
/// command may be busy computing.
#[derive(Debug)]
struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    lost: Arc<Lost>,
}

impl Client {
    fn new(lost: Arc<Lost>) -> Result<Self, HttpError> {
        let timeout = first(TIMEOUTS).and_then(|(_, value)| value.parse().ok());
        let timeout = timeout.map_or(REQUEST, Duration::from_millis);
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            client: reqwest::Client::builder().timeout(timeout).build()?,
            lost,
        })
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.block_on(self.client.send_bytes(request));
        let why = match &sent {
            Ok(answer) if answer.status().is_success() => return sent,
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => cause(error.as_ref()),
        };
        *self.lost.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        sent
    }
}

/// The innermost error: the outer ones say no more than that a request failed, and to which URL, which may hold a secret.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

//! Health, readiness and metrics over plain HTTP: counts alone, nothing of any query.

use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

/// Answers until it is dropped.
pub(crate) async fn serve<M>(
    listener: TcpListener,
    not_ready: impl Fn() -> Option<String> + Send + Sync + 'static,
    metrics: impl Fn() -> M + Send + Sync + 'static,
) -> std::io::Result<()>
where
    M: Future<Output = Metrics> + Send,
{
    let (not_ready, metrics) = (Arc::new(not_ready), Arc::new(metrics));
    let readyz = move || {
        let answer = match not_ready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        };
        std::future::ready(answer)
    };
    let metrics = move || {
        let metrics = Arc::clone(&metrics);
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics().await.0) }
    };
    let routes = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    axum::serve(listener, routes).await
}

/// Metrics in the text form of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn gauge(self, name: &str, help: &str, value: impl std::fmt::Display) -> Self {
        self.metric("gauge", name, help, value)
    }

    pub(crate) fn counter(self, name: &str, help: &str, value: impl std::fmt::Display) -> Self {
        self.metric("counter", name, help, value)
    }

    fn metric(mut self, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) -> Self {
        // Writing into a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        self
    }

    /// Which build it is, as a metric whose labels are read.
    pub(crate) fn build(mut self, build: &super::build::Build) -> Self {
        let name = "gosset_build_info";
        let (version, functions) = (build.version(), build.functions());
        let _ = write!(
            self.0,
            "# HELP {name} The build of this process.\n# TYPE {name} gauge\n\
             {name}{{version=\"{version}\",functions=\"{functions}\"}} 1\n"
        );
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_text() {
        let told =
            Metrics::default().gauge("a_b", "What it is.", 3).counter("c_total", "More.", 4.5);
        assert_eq!(
            told.0,
            "# HELP a_b What it is.\n# TYPE a_b gauge\na_b 3\n# HELP c_total More.\n# TYPE c_total counter\nc_total 4.5\n"
        );
    }
}

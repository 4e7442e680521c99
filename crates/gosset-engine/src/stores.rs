//! Object stores, each built once.
//!
//! DataFusion reads through [`Stores`] and Delta writes through the same ones: one set of credentials, one connection
//! pool, and one place where a test can put a store that fails.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::Url;

use crate::{EngineError, Result};

/// Puts a store around the one that was built for a URL.
type Wrap = dyn Fn(&Url, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync;

/// The object stores of a process: made when first asked for, one for each bucket, shared by everything.
///
/// Credentials come from the environment of the process alone (`AWS_*`, with `AWS_ENDPOINT_URL` and `AWS_ALLOW_HTTP`
/// for other servers that speak S3; `GOOGLE_*`, `AZURE_*`), never from a query or a job file.
#[derive(Clone, Default)]
pub struct Stores {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    built: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
    wrap: Option<Box<Wrap>>,
}

impl Stores {
    /// No store yet; each is made on first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with every store that is made put through `wrap`: a store that counts, delays or fails.
    pub fn wrapped(
        wrap: impl Fn(&Url, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync + 'static,
    ) -> Self {
        Self { inner: Arc::new(Inner { built: Mutex::default(), wrap: Some(Box::new(wrap)) }) }
    }

    /// The store that holds `url`.
    pub fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let mut built = self.built();
        let key = key(url);
        if let Some(store) = built.get(&key) {
            return Ok(Arc::clone(store));
        }
        let mut store = build(url)?;
        if let Some(wrap) = &self.inner.wrap {
            store = wrap(url, store);
        }
        built.insert(key, Arc::clone(&store));
        Ok(store)
    }

    fn built(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<dyn ObjectStore>>> {
        // The map is whole after every statement that changes it, so a panic elsewhere does not spoil it.
        self.inner.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.built().keys()).finish()
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.built().insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> datafusion::common::Result<Arc<dyn ObjectStore>> {
        self.built()
            .remove(&key(url))
            .ok_or_else(|| DataFusionError::Execution(format!("no store is registered for {url}")))
    }

    fn get_store(&self, url: &Url) -> datafusion::common::Result<Arc<dyn ObjectStore>> {
        Ok(self.get(url)?)
    }
}

/// What a store is of: scheme and authority, without credentials. `abfss://container@account.host` names its container
/// where other URLs have a user.
fn key(url: &Url) -> String {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    match (url.scheme(), url.username()) {
        (scheme @ ("abfs" | "abfss"), container) if !container.is_empty() => {
            format!("{scheme}://{container}@{authority}")
        }
        (scheme, _) => format!("{scheme}://{authority}"),
    }
}

fn build(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
        Arc::new(store)
    }
    let (of, retry) = (bucket(url), retry());
    let (store, variables) = match url.scheme() {
        "file" => return Ok(shared(LocalFileSystem::new())),
        "s3" | "s3a" => (
            AmazonS3Builder::from_env().with_url(of).with_retry(retry).build().map(shared),
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION",
        ),
        "gs" => (
            GoogleCloudStorageBuilder::from_env()
                .with_url(of)
                .with_retry(retry)
                .build()
                .map(shared),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        "az" | "azure" | "abfs" | "abfss" => (
            MicrosoftAzureBuilder::from_env().with_url(of).with_retry(retry).build().map(shared),
            "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
        ),
        other => {
            return Err(EngineError::Option(format!(
                "no object store for {other}:// (expected file, s3, gs or az)"
            )));
        }
    };
    // What cannot be built lacks a setting, or has one that cannot be read.
    store.map_err(|error| {
        let (store, why) = (key(url), EngineError::from(error));
        EngineError::Setup(format!("{store}: {why} (settings of the environment: {variables})"))
    })
}

/// The bucket alone: object paths are relative to it, and a password in the URL is not for the store's messages.
fn bucket(url: &Url) -> String {
    format!("{}/", key(url))
}

/// Long enough for a store that is busy, short enough that a night does not hang on one that is gone.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: 10,
        retry_timeout: Duration::from_secs(60),
    }
}

/// A location as a person writes it (a URL, or a path relative to the working directory) as a URL.
///
/// A directory ends with a slash. Paths are taken as they are: nothing is created and nothing needs to exist.
pub fn location(text: &str) -> Result<Url> {
    let invalid = |why: &str| {
        let text = without_password(text);
        EngineError::Option(format!("'{text}' is not a location: {why}"))
    };
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        // A one-letter scheme is a drive.
        if scheme.len() > 1 {
            return Url::parse(text).map_err(|error| invalid(&error.to_string()));
        }
    }
    let path = std::path::absolute(text).map_err(|error| invalid(&error.to_string()))?;
    let directory = text.ends_with(std::path::is_separator) || path.is_dir();
    let url = if directory { Url::from_directory_path(&path) } else { Url::from_file_path(&path) }
        .map_err(|()| invalid("it is not a path"))?;
    // `from_file_path` keeps `..`, parsing resolves it.
    Url::parse(url.as_str()).map_err(|error| invalid(&error.to_string()))
}

/// The location of a folder, whether there is one or not.
pub(crate) fn folder(text: &str) -> Result<Url> {
    let mut url = location(text)?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// A location as it was written, without a password, whether it is a URL or not.
pub(crate) fn without_password(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let user = authority.rfind('@').and_then(|at| Some((authority[..at].find(':')?, at)));
    match user {
        Some((colon, at)) => format!("{scheme}://{}{}", &rest[..colon], &rest[at..]).into(),
        None => text.into(),
    }
}

/// How a location is shown: paths as paths, relative to the working directory where they are below it; never a password.
pub fn shown(url: &Url) -> String {
    if url.scheme() == "file"
        && let Ok(path) = url.to_file_path()
    {
        let below = std::env::current_dir()
            .ok()
            .and_then(|directory| path.strip_prefix(directory).map(Path::to_path_buf).ok());
        return below.unwrap_or(path).display().to_string();
    }
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for URLs that cannot have one.
        let _ = url.set_password(None);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn a_store_is_built_once_and_wrapped() {
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let given = Arc::clone(&memory);
        let stores = Stores::wrapped(move |_, _| Arc::clone(&given));
        let url = Url::parse("s3://bucket/a/b.parquet").expect("a URL");
        let first = stores.get(&url).expect("a store");
        let again = stores.get_store(&Url::parse("s3://bucket/").expect("a URL")).expect("a store");
        assert!(Arc::ptr_eq(&first, &memory) && Arc::ptr_eq(&again, &memory));
        assert_eq!(format!("{stores:?}"), r#"{"s3://bucket"}"#);
    }

    #[test]
    fn stores_are_of_buckets_and_containers() {
        let of = |url: &str| key(&Url::parse(url).expect("a URL"));
        assert_eq!(of("gs://bucket/a/b.csv"), "gs://bucket");
        assert_eq!(of("s3://user:secret@bucket/a"), "s3://bucket");
        assert_eq!(
            of("abfss://days@a.dfs.core.windows.net/x"),
            "abfss://days@a.dfs.core.windows.net"
        );
        assert_eq!(of("abfss://results:s@a.host/x"), "abfss://results@a.host");
    }

    #[test]
    fn an_unknown_scheme_says_what_is_known() {
        let url = Url::parse("ftp://host/x").expect("a URL");
        let error = Stores::new().get(&url).expect_err("an unknown scheme");
        assert_eq!(
            error,
            EngineError::Option("no object store for ftp:// (expected file, s3, gs or az)".into())
        );
    }

    #[test]
    fn locations_are_urls_or_paths() {
        assert_eq!(location("s3://bucket/x/").expect("a URL").as_str(), "s3://bucket/x/");
        assert_eq!(location("/data/a b/../c").expect("a path").as_str(), "file:///data/c");
        assert_eq!(location("/data/c/").expect("a path").as_str(), "file:///data/c/");
        assert!(location("").is_err());
        assert_eq!(shown(&location("x/y.csv").expect("a path")), "x/y.csv");
        assert_eq!(shown(&Url::parse("s3://u:secret@b/x").expect("a URL")), "s3://u@b/x");
        assert_eq!(without_password("s3://u:secret@"), "s3://u@");
        assert_eq!(without_password("s3://u:a@b:c@[bad/x@y"), "s3://u@[bad/x@y");
        assert_eq!(without_password("s3://host:9000/x@y"), "s3://host:9000/x@y");
        let error = location("s3://u:secret@").expect_err("it has no host");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

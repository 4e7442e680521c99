//! A store that fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::BoxStream;
use gosset_engine::{Engine, EngineOptions, Stores};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// When the next puts of commits fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request never lands.
    Before,
    /// The request lands and its answer is lost.
    After,
    /// The store says that the object exists, and nothing was written (S3's 409).
    FalseConflict,
}

/// Fails puts into `_delta_log`, as many as were ordered.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

/// Orders of faults, and a count of the commits that were tried.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    ordered: Mutex<Vec<Fault>>,
    pub(crate) commits: AtomicUsize,
    /// Whether puts into folders of scratch files are not allowed.
    pub(crate) scratch_refused: AtomicBool,
}

impl Faults {
    pub(crate) fn order(&self, faults: &[Fault]) {
        *self.ordered.lock().unwrap() = faults.to_vec();
    }

    fn next(&self) -> Option<Fault> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let mut ordered = self.ordered.lock().unwrap();
        if ordered.is_empty() { None } else { Some(ordered.remove(0)) }
    }
}

/// Stores that fail as `Faults` says.
pub(crate) fn faulty_stores() -> (Stores, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let given = Arc::clone(&faults);
    let stores = Stores::wrapped(move |_, inner| {
        Arc::new(FaultyStore { inner, faults: Arc::clone(&given) })
    });
    (stores, faults)
}

/// An engine whose stores fail as `Faults` says.
pub(crate) fn faulty_engine() -> (Engine, Arc<Faults>) {
    let (stores, faults) = faulty_stores();
    let engine = Engine::new(EngineOptions::new().with_stores(stores)).unwrap();
    (engine, faults)
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let lost = || object_store::Error::Generic { store: "Faulty", source: "time-out".into() };
        let path = location.to_string();
        if path.contains("_scratch/") && self.faults.scratch_refused.load(Ordering::Relaxed) {
            return Err(object_store::Error::PermissionDenied { path, source: "403".into() });
        }
        let is_commit =
            location.as_ref().contains("_delta_log/") && location.as_ref().ends_with(".json");
        match is_commit.then(|| self.faults.next()).flatten() {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Before) => Err(lost()),
            Some(Fault::After) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(lost())
            }
            Some(Fault::FalseConflict) => Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: "409".into(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

//! Files as tables: `SELECT ... FROM 's3://bucket/day.parquet'`, and the same for job sources.
//!
//! A location is one file, a directory, a glob or a Delta table. The format follows from the first file's name. Unlike
//! DataFusion's own dynamic catalog, a location that cannot be read says why instead of "table not found".

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory, UrlTableFactory};
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::delta::{self, DeltaFiles};
use crate::schemas;
use crate::stores::{self, Stores, without_password};
use crate::{EngineError, Result};

/// Characters that make a path a pattern.
const GLOB: [char; 3] = ['*', '?', '['];

/// How a file is read, by the end of its name.
struct Format {
    /// The name DataFusion registers the format under.
    name: &'static str,
    options: &'static [(&'static str, &'static str)],
}

fn format(extension: &str) -> Option<Format> {
    let (name, options): (_, &[_]) = match extension {
        "parquet" => ("parquet", &[]),
        "csv" => ("csv", &[]),
        "tsv" => ("csv", &[("format.delimiter", "\t")]),
        "json" | "ndjson" | "jsonl" => ("json", &[]),
        _ => return None,
    };
    Some(Format { name, options })
}

/// The end of a file name: `.csv` of `a.csv`, `.csv.gz` of `a.csv.gz`; its format; its compression.
fn ending(path: &str) -> Option<(&str, Format, Option<&str>)> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (stem, last) = name.rsplit_once('.')?;
    if let Some(format) = format(&last.to_ascii_lowercase()) {
        return Some((&name[stem.len()..], format, None));
    }
    if !["gz", "bz2", "xz", "zst"].contains(&last) {
        return None;
    }
    let (stem, inner) = stem.rsplit_once('.')?;
    let format = format(&inner.to_ascii_lowercase())?;
    Some((&name[stem.len()..], format, Some(last)))
}

/// Whether a table name is meant as a location: it has a separator, a pattern, the end of a file that can be read, or is
/// the name of a folder here.
fn is_location(name: &str) -> bool {
    name.contains('/')
        || name.contains(GLOB)
        || ending(name).is_some()
        || std::path::Path::new(name).is_dir()
}

/// The table at a location.
pub(crate) async fn table(
    state: &SessionState,
    stores: &Stores,
    text: &str,
) -> Result<Arc<dyn TableProvider>> {
    match resolve(state, stores, text).await? {
        Input::Delta(table) => {
            let views = state.config_options().execution.parquet.schema_force_view_types;
            Ok(Arc::new(DeltaFiles::of(&table, views)?))
        }
        Input::Files { urls, files } => {
            let about = |error: EngineError| error.about(&without_password(text));
            files_table(state, stores, urls, &files).await.map_err(about)
        }
    }
}

/// The files that a scan of a location would read: those of a Delta table's latest version, or those listed, in the
/// order of their paths. Some of them can be read by themselves.
#[derive(Debug)]
pub struct Listing {
    text: String,
    input: Input,
    root: Path,
    files: Vec<ObjectMeta>,
}

impl Listing {
    /// The files, in the order of their paths: their sizes, times and etags tell whether an input changed.
    pub fn files(&self) -> &[ObjectMeta] {
        &self.files
    }

    /// The path of a file below the location, or its name where the location is the file.
    pub fn relative(&self, file: &ObjectMeta) -> String {
        let below = file.location.prefix_match(&self.root).map(|parts| {
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            parts.join("/")
        });
        match below {
            Some(below) if !below.is_empty() => below,
            _ => file.location.filename().unwrap_or_default().to_owned(),
        }
    }
}

/// Lists a location.
pub(crate) async fn list(state: &SessionState, stores: &Stores, text: &str) -> Result<Listing> {
    let input = resolve(state, stores, text).await?;
    let (url, mut files) = match &input {
        Input::Delta(table) => (table.table_url().clone(), DeltaFiles::of(table, false)?.objects()),
        Input::Files { files, .. } => {
            let root = match text.contains(GLOB) {
                true => stores::location(split_pattern(text).0)?,
                false => table_url(text)?.get_url().clone(),
            };
            (root, files.clone())
        }
    };
    let root = Path::from_url_path(url.path())
        .map_err(|error| EngineError::Option(format!("'{}': {error}", without_password(text))))?;
    files.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(Listing { text: text.to_owned(), input, root, files })
}

/// The table of some files of a listing. Columns that stand in the names of folders only are not in it, but for those of a
/// Delta table.
pub(crate) async fn table_of(
    state: &SessionState,
    stores: &Stores,
    listing: &Listing,
    files: &[ObjectMeta],
) -> Result<Arc<dyn TableProvider>> {
    if files.is_empty() {
        return Err(EngineError::Internal("no file was chosen of a listing".into()));
    }
    match &listing.input {
        Input::Delta(table) => {
            let views = state.config_options().execution.parquet.schema_force_view_types;
            Ok(Arc::new(DeltaFiles::of(table, views)?.only(files)))
        }
        Input::Files { urls, .. } => {
            let base = urls
                .first()
                .ok_or_else(|| EngineError::Internal("a listing has no location".into()))?;
            let chosen = files
                .iter()
                .map(|file| {
                    let mut url = base.get_url().clone();
                    url.set_path(&format!("/{}", file.location));
                    Ok(ListingTableUrl::try_new(url, None)?)
                })
                .collect::<Result<_>>()?;
            let about = |error: EngineError| error.about(&without_password(&listing.text));
            files_table(state, stores, chosen, files).await.map_err(about)
        }
    }
}

/// What is at a location.
#[derive(Debug)]
enum Input {
    Delta(deltalake::DeltaTable),
    /// One location, or each file of a pattern; and the files, of which there is one at least.
    Files {
        urls: Vec<ListingTableUrl>,
        files: Vec<ObjectMeta>,
    },
}

async fn resolve(state: &SessionState, stores: &Stores, text: &str) -> Result<Input> {
    if text.contains(GLOB) {
        return matched(stores, text).await;
    }
    let url = table_url(text)?;
    let text = &*without_password(text);
    let store = stores.get(url.get_url())?;
    if url.is_collection()
        && let Some(table) = delta::load(url.get_url(), stores).await?
    {
        return Ok(Input::Delta(table));
    }
    let mut listed = url.list_all_files(state, store.as_ref(), "").await?;
    let (mut files, mut other) = (Vec::new(), None);
    while let Some(file) =
        listed.try_next().await.map_err(|error| EngineError::from(error).about(text))?
    {
        match ending(file.location.as_ref()) {
            _ if !is_data(&file) => {}
            None => other = other.or(Some(file)),
            Some(_) => files.push(file),
        }
    }
    drop(listed);
    files.sort_by(|a, b| a.location.cmp(&b.location));
    if let Some(first) = files.first() {
        files.iter().try_for_each(|file| same_ending(text, first, file))?;
        return Ok(Input::Files { urls: vec![url], files });
    }
    Err(match other {
        None => EngineError::MissingInput(format!("no file found at '{text}'")),
        Some(file) => EngineError::BadData(format!(
            "expected .parquet, .csv, .tsv, .json, .ndjson or .jsonl at '{text}', found '{}'",
            file.location.filename().unwrap_or_default()
        )),
    })
}

/// The files of a pattern, in the order of their paths. (The patterns of DataFusion do not see folders such as
/// `ds=2026-01-01`.)
async fn matched(stores: &Stores, text: &str) -> Result<Input> {
    let (folder, pattern) = split_pattern(text);
    let text = &*without_password(text);
    let wrong = |error: glob::PatternError| EngineError::Option(format!("'{text}': {error}"));
    let pattern = glob::Pattern::new(pattern).map_err(wrong)?;
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let base = stores::location(folder)?;
    let store = stores.get(&base)?;
    let prefix = Path::from_url_path(base.path())
        .map_err(|error| EngineError::Option(format!("'{text}': {error}")))?;
    let mut files: Vec<ObjectMeta> = store
        .list(Some(&prefix))
        .try_filter(|file| {
            let below = file.location.prefix_match(&prefix).map(|parts| {
                let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
                parts.join("/")
            });
            let wanted = below.is_some_and(|path| pattern.matches_with(&path, options));
            std::future::ready(wanted && is_data(file) && ending(file.location.as_ref()).is_some())
        })
        .try_collect()
        .await
        .map_err(|error| EngineError::from(error).about(text))?;
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let Some(first) = files.first() else {
        return Err(EngineError::MissingInput(format!("no file found at '{text}'")));
    };
    files.iter().try_for_each(|file| same_ending(text, first, file))?;
    let urls = files
        .iter()
        .map(|file| {
            let mut url = base.clone();
            url.set_path(&format!("/{}", file.location));
            Ok(ListingTableUrl::try_new(url, None)?)
        })
        .collect::<Result<_>>()?;
    Ok(Input::Files { urls, files })
}

/// A table is of one format: the files of another would be left out silently.
fn same_ending(text: &str, first: &ObjectMeta, file: &ObjectMeta) -> Result<()> {
    let end = |file: &ObjectMeta| {
        ending(file.location.as_ref()).map(|(end, ..)| end.to_owned()).unwrap_or_default()
    };
    if end(first) == end(file) {
        return Ok(());
    }
    Err(EngineError::BadData(format!(
        "expected files of one format at '{text}', found '{}' and '{}'",
        first.location.filename().unwrap_or_default(),
        file.location.filename().unwrap_or_default()
    )))
}

/// The folder in front of a pattern, and the pattern.
fn split_pattern(text: &str) -> (&str, &str) {
    let pattern = text.find(GLOB).unwrap_or(text.len());
    match text[..pattern].rfind('/') {
        Some(slash) => (&text[..=slash], &text[slash + 1..]),
        None => ("./", text),
    }
}

/// Writers leave markers and checksums beside their data, under names that begin with `_` or `.`.
fn is_data(file: &ObjectMeta) -> bool {
    file.location.filename().is_some_and(|name| !name.starts_with(['_', '.']))
}

async fn files_table(
    state: &SessionState,
    stores: &Stores,
    urls: Vec<ListingTableUrl>,
    files: &[ObjectMeta],
) -> Result<Arc<dyn TableProvider>> {
    let (Some(first), Some(url)) = (files.first(), urls.first()) else {
        return Err(EngineError::Internal("a table has no file".into()));
    };
    let store = stores.get(url.get_url())?;
    let (extension, format, compression) =
        ending(first.location.as_ref()).expect("resolve found files with a known ending");
    let mut options: HashMap<String, String> =
        format.options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    if let Some(compression) = compression {
        options.insert("format.compression".into(), compression.into());
    } else if format.name == "json" && is_json_array(&store, first).await? {
        options.insert("format.newline_delimited".into(), "false".into());
    }
    // A type is that of all rows. The reader of JSON would cut what does not fit one of the first; that of CSV fails then,
    // so that of many bytes of it the first rows are enough.
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let all_rows = format.name == "json" || format.name == "csv" && bytes <= SMALL;
    if all_rows {
        options.insert("format.schema_infer_max_rec".into(), usize::MAX.to_string());
    }
    if format.name == "parquet" {
        check_footers(&store, url, files).await?;
    }
    let factory = state.get_file_format_factory(format.name).ok_or_else(|| {
        EngineError::Internal(format!("no reader is registered for {}", format.name))
    })?;
    let format = factory.create(state, &options)?;
    let schema = schemas::of_files(state, &store, &format, files, all_rows).await?;
    let listing = ListingOptions::new(format).with_file_extension(extension);
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(listing)
        .infer_partitions_from_path(state)
        .await?
        .with_schema(schema);
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(Arc::new(ListingTable::try_new(config)?.with_cache(cache)))
}

/// Bytes of CSV files whose rows are all looked at for their types.
const SMALL: u64 = 16 << 20;

/// The last bytes of a Parquet file: the length of its metadata and a mark.
const FOOTER: u64 = 8;

/// Refuses Parquet files that were cut off or damaged at their end, and names them.
///
/// Listings leave files without a byte out, so that their rows would be missed silently, and the reader panics over a
/// length of metadata that is beyond the file. Object stores check what they keep and send, disks do not: the ends of
/// local files are read.
async fn check_footers(
    store: &Arc<dyn ObjectStore>,
    url: &ListingTableUrl,
    files: &[ObjectMeta],
) -> Result<()> {
    let local = is_local(url);
    for file in files {
        let damaged = if file.size == 0 {
            Some("the file is empty")
        } else if local && file.size < FOOTER {
            Some("the file has no footer")
        } else if local {
            let end = store.get_range(&file.location, file.size - FOOTER..file.size).await?;
            let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
            match &end[4..] {
                b"PAR1" if u64::from(length) > file.size - FOOTER => {
                    Some("its metadata are longer than the file")
                }
                b"PAR1" | b"PARE" => None,
                _ => Some("the file has no footer"),
            }
        } else {
            None
        };
        if let Some(damaged) = damaged {
            let mut whole = url.get_url().clone();
            whole.set_path(&format!("/{}", file.location));
            return Err(EngineError::BadData(format!(
                "{}: not readable as Parquet: {damaged}",
                stores::shown(&whole)
            )));
        }
    }
    Ok(())
}

/// Whether a `.json` file is one array rather than one object a line.
pub(crate) async fn is_json_array(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<bool> {
    let start = store.get_range(&file.location, 0..file.size.min(1024)).await?;
    Ok(start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
}

/// A location without a pattern as DataFusion lists it.
fn table_url(text: &str) -> Result<ListingTableUrl> {
    let mut url = stores::location(text)?;
    if ending(url.path()).is_none() && !url.path().ends_with('/') && !is_local_file(&url) {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(ListingTableUrl::try_new(url, None)?)
}

fn is_local(url: &ListingTableUrl) -> bool {
    url.get_url().scheme() == "file"
}

fn is_local_file(url: &url::Url) -> bool {
    url.scheme() == "file" && url.to_file_path().is_ok_and(|path| path.is_file())
}

/// Makes tables out of locations for the session it belongs to.
#[derive(Default)]
pub(crate) struct FileTables {
    stores: Stores,
    session: OnceLock<Box<dyn Fn() -> Option<SessionState> + Send + Sync>>,
}

impl FileTables {
    pub(crate) fn new(stores: Stores) -> Self {
        Self { stores, session: OnceLock::new() }
    }

    /// Ties the factory to its session; a weak link, as the session owns the factory.
    pub(crate) fn belongs_to(
        &self,
        session: impl Fn() -> Option<SessionState> + Send + Sync + 'static,
    ) {
        // A second session would be a mistake in `Engine::new`, the only caller.
        let first = self.session.set(Box::new(session)).is_ok();
        debug_assert!(first, "a session has its own file tables");
    }
}

impl fmt::Debug for FileTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTables").field("stores", &self.stores).finish_non_exhaustive()
    }
}

#[async_trait]
impl UrlTableFactory for FileTables {
    async fn try_new(
        &self,
        name: &str,
    ) -> datafusion::common::Result<Option<Arc<dyn TableProvider>>> {
        if !is_location(name) {
            return Ok(None);
        }
        let Some(state) = self.session.get().and_then(|session| session()) else {
            return Ok(None);
        };
        Ok(Some(table(&state, &self.stores, name).await?))
    }
}

/// `CREATE EXTERNAL TABLE t STORED AS DELTA LOCATION '...'`.
#[derive(Debug)]
pub(crate) struct DeltaTables {
    pub(crate) stores: Stores,
}

#[async_trait]
impl TableProviderFactory for DeltaTables {
    async fn create(
        &self,
        state: &dyn Session,
        command: &CreateExternalTable,
    ) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let [location] = command.locations.as_slice() else {
            return Err(EngineError::Query("a Delta table has one location".into()).into());
        };
        let url = table_url(location)?;
        let Some(table) = delta::load(url.get_url(), &self.stores).await? else {
            let missing = format!("no Delta table found at '{}'", without_password(location));
            return Err(EngineError::MissingInput(missing).into());
        };
        let views = state.config_options().execution.parquet.schema_force_view_types;
        Ok(Arc::new(DeltaFiles::of(&table, views)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        let of =
            |path| ending(path).map(|(end, format, compression)| (end, format.name, compression));
        assert_eq!(of("a/b.parquet"), Some((".parquet", "parquet", None)));
        assert_eq!(of("B.CSV"), Some((".CSV", "csv", None)));
        assert_eq!(of("x/b.csv.gz"), Some((".csv.gz", "csv", Some("gz"))));
        assert_eq!(of("x.ndjson"), Some((".ndjson", "json", None)));
        assert_eq!(of("x.gz"), None);
        assert_eq!(of("dir.csv/file"), None);
        assert_eq!(of("noending"), None);
    }

    #[test]
    fn plain_names_are_no_locations() {
        for name in ["t", "orders", "my table", "a.b"] {
            assert!(!is_location(name), "{name}");
        }
        for name in ["a/b", "s3://bucket/x", "x.csv", "*.parquet", "./t"] {
            assert!(is_location(name), "{name}");
        }
    }

    #[test]
    fn patterns_in_urls() {
        let split = split_pattern("s3://bucket/days/2026-*/part-?.parquet");
        assert_eq!(split, ("s3://bucket/days/", "2026-*/part-?.parquet"));
        assert_eq!(split_pattern("*.csv"), ("./", "*.csv"));
    }

    #[test]
    fn folders_end_with_a_slash() {
        let directory = table_url("s3://bucket/days").expect("a URL");
        assert_eq!(directory.get_url().as_str(), "s3://bucket/days/");
        let file = table_url("s3://bucket/days/x.parquet").expect("a URL");
        assert_eq!(file.get_url().as_str(), "s3://bucket/days/x.parquet");
    }
}

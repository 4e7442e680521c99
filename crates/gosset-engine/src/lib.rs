//! Where Gosset's queries run: sessions, clusters, object stores, limits, Delta tables.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> gosset_engine::Result<()> {
//! use gosset_engine::{Engine, EngineOptions};
//!
//! let engine = Engine::new(EngineOptions::new().with_memory_limit(512 << 20))?;
//! let rows = engine.sql("SELECT 1 + 1 AS two").await?.collect().await?;
//! assert_eq!(rows[0].num_rows(), 1);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod delta;
mod engine;
mod error;
mod files;
mod kept;
mod options;
mod radix;
mod schemas;
mod stores;

pub use engine::Engine;
pub use error::{EngineError, Result};
pub use files::Listing;
pub use kept::{Kept, Scratch};
pub use options::{EngineOptions, parse_bytes};
pub use stores::{Stores, location, shown};

/// Runs a future to its end on a thread and a runtime of its own, for what is dropped: those of the process may be ending.
pub(crate) fn blocking(name: &str, work: impl Future<Output = ()> + Send + 'static) {
    let work = std::thread::Builder::new().name(name.into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                let _ = tokio::time::timeout(BLOCKED_AT_MOST, work).await;
            });
        }
    });
    if let Ok(work) = work {
        let _ = work.join();
    }
}

/// How long cleaning up may take.
const BLOCKED_AT_MOST: std::time::Duration = std::time::Duration::from_secs(3);

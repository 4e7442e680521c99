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
mod options;
mod stores;

pub use engine::Engine;
pub use error::{EngineError, Result};
pub use files::Listing;
pub use options::{EngineOptions, parse_bytes};
pub use stores::{Stores, location, shown};

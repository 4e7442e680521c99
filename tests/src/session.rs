//! Sessions with our functions under the conditions that results must not depend on.

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{SessionConfig, SessionContext};

/// How a session executes: what the results must not depend on.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Its name in the names of tests.
    pub name: &'static str,
    /// Target partitions.
    pub partitions: usize,
    /// Rows in a batch.
    pub batch_size: usize,
    /// Whether partial aggregation is left out as soon as possible.
    pub skip_partial: bool,
    /// Whether the newer of the two grouped stacks of DataFusion is used.
    pub migrated: bool,
}

/// The conditions of every test that compares results.
pub const MODES: &[Mode] = &[
    Mode { name: "p1", partitions: 1, batch_size: 8192, skip_partial: false, migrated: true },
    Mode { name: "p3_b1", partitions: 3, batch_size: 1, skip_partial: false, migrated: true },
    Mode { name: "p8_b7_old", partitions: 8, batch_size: 7, skip_partial: false, migrated: false },
    Mode { name: "p2_skip", partitions: 2, batch_size: 7, skip_partial: true, migrated: true },
    Mode {
        name: "p2_skip_old",
        partitions: 2,
        batch_size: 8192,
        skip_partial: true,
        migrated: false,
    },
];

impl Mode {
    /// The configuration of a session.
    ///
    /// # Errors
    /// If DataFusion does not know an option.
    pub fn config(&self) -> Result<SessionConfig> {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.partitions)
            .with_batch_size(self.batch_size)
            .with_information_schema(true);
        let options = config.options_mut();
        options
            .set("datafusion.execution.enable_migration_aggregate", &self.migrated.to_string())?;
        if self.skip_partial {
            options
                .set("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", "0")?;
            options
                .set("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", "0")?;
        }
        Ok(config)
    }

    /// A session with our functions.
    ///
    /// # Errors
    /// If the functions cannot be registered.
    pub fn session(&self) -> Result<SessionContext> {
        let context = SessionContext::new_with_config(self.config()?);
        let state = context.state_ref();
        gosset_sql::register(&mut *state.write() as &mut dyn FunctionRegistry)?;
        Ok(context)
    }
}

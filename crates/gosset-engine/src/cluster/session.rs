//! The sessions of the scheduler and of executors: the functions, stores and settings of a local one.

use std::sync::Arc;

use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt};
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

/// Messages between the parts of a cluster: a row of summaries with many replicates is one message.
pub(crate) const MESSAGE_BYTES: u32 = 128 << 20;

/// The settings that clients, the scheduler and executors have in common. A client's go along with each of its queries.
pub(crate) fn config(endpoints: EndpointOverrideFn) -> SessionConfig {
    SessionConfig::new_with_ballista()
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize)
        .with_ballista_override_create_grpc_client_endpoint(endpoints)
}

/// A session that knows what is in the plans that clients send.
pub(crate) fn state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    gosset_sql::register(&mut state)?;
    Ok(state)
}

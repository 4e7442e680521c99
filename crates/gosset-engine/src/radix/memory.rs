//! The memory of all parts, as that of one consumer.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

/// Two megabytes for each of 128 parts.
const LEAST_LIMIT: usize = 256 << 20;

/// Whether a pool has enough for parts: with less, a table of all groups is spilled in larger pieces.
pub(super) fn is_enough(context: &TaskContext) -> bool {
    limit(context).is_none_or(|bytes| bytes >= LEAST_LIMIT)
}

fn limit(context: &TaskContext) -> Option<usize> {
    match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) => Some(bytes),
        MemoryLimit::Infinite | MemoryLimit::Unknown => None,
    }
}

/// A pool that takes all it gives from one reservation of another.
///
/// A pool with fair shares gives each consumer one: a hundred parts would leave a sort beside them a hundredth.
#[derive(Debug)]
pub(super) struct Joint {
    whole: MemoryReservation,
    limit: Option<usize>,
    /// What each holder may have though the pool refuses: a part can spill its own table and no other, and must be able to
    /// do that and to read it again while others have all the memory.
    least: usize,
    /// Holders that were refused more: what is left of a table that was spilled for it is granted.
    refused: Mutex<HashSet<usize>>,
}

impl Joint {
    pub(super) fn new(name: &str, parts: usize, context: &TaskContext) -> Self {
        let limit = limit(context);
        let whole = MemoryConsumer::new(name).with_can_spill(true).register(context.memory_pool());
        let least = limit.map_or(0, |limit| limit / 4 / parts);
        Self { whole, limit, least, refused: Mutex::default() }
    }

    /// A context with this pool.
    pub(super) fn context(self: &Arc<Self>, context: &TaskContext) -> Result<Arc<TaskContext>> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(&context.runtime_env())
            .with_memory_pool(Arc::clone(self) as _)
            .build_arc()?;
        Ok(Arc::new(
            TaskContext::default()
                .with_session_config(context.session_config().clone())
                .with_runtime(runtime),
        ))
    }

    /// A fraction of the whole pool, or so many bytes if that is less.
    pub(super) fn fraction(&self, denominator: usize, at_most: usize) -> usize {
        self.limit.map_or(at_most, |limit| (limit / denominator).min(at_most))
    }

    /// Takes memory for rows; none if the pool refuses.
    pub(super) fn try_hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        self.whole.try_grow(bytes).ok()?;
        Some(Held { from: Arc::clone(self), bytes })
    }

    /// Takes memory for rows beyond what the pool would give: the least without which nothing goes on.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.whole.grow(bytes);
        Held { from: Arc::clone(self), bytes }
    }
}

impl MemoryPool for Joint {
    fn name(&self) -> &str {
        "joint"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.whole.grow(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.whole.shrink(shrink);
    }

    fn try_grow(&self, holder: &MemoryReservation, additional: usize) -> Result<()> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refused = refused.remove(&holder.consumer().id());
        match self.whole.try_grow(additional) {
            Err(_) if was_refused || holder.size() + additional <= self.least => {
                self.whole.grow(additional);
                Ok(())
            }
            Err(error) => {
                refused.insert(holder.consumer().id());
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn reserved(&self) -> usize {
        self.whole.size()
    }
}

impl fmt::Display for Joint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(used: {})", MemoryPool::name(self), self.whole.size())
    }
}

/// Memory that is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    from: Arc<Joint>,
    bytes: usize,
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.from.whole.shrink(self.bytes);
    }
}

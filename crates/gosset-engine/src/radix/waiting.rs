//! Rows that wait to be handed out: in memory, and beyond it in files or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::spill::SpillManager;

use super::dealt::{Dealt, Parts, distinct, hash};
use super::memory::{Held, Joint};
use super::spill::Spill;

/// Rows of a group, on average of those in memory, from which it is better to aggregate these than to spill others.
const ROWS_OF_FEW: usize = 8;

pub(super) struct Waiting {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    parts: Parts,
    manager: Arc<SpillManager>,
    context: Arc<TaskContext>,
    pub(super) memory: Arc<Joint>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    held: Vec<(Dealt, Held)>,
    spill: Option<Arc<Spill>>,
    /// Once that is decided.
    beyond: Option<Beyond>,
}

/// Where rows go for which there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// To files, until all rows are read.
    Files,
    /// To the memory of others, which are handed out before.
    Rounds,
}

impl Waiting {
    pub(super) fn new(
        name: &str,
        keys: &[Arc<dyn PhysicalExpr>],
        parts: Parts,
        manager: &Arc<SpillManager>,
        context: &Arc<TaskContext>,
    ) -> Self {
        Self {
            keys: keys.to_vec(),
            parts,
            manager: Arc::clone(manager),
            context: Arc::clone(context),
            memory: Arc::new(Joint::new(name, parts.count(), context)),
            rows: Mutex::default(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows; gives them back if others are to be handed out first.
    pub(super) fn add(&self, dealt: Dealt) -> Result<Option<Dealt>> {
        let bytes = dealt.bytes();
        let held = self.memory.try_hold(bytes);
        let is_full = held.is_none();
        let (spill, others) = {
            let mut rows = self.rows();
            if rows.beyond != Some(Beyond::Files) {
                if let Some(held) = held {
                    rows.held.push((dealt, held));
                    return Ok(None);
                }
                self.decide(&mut rows, Some(&dealt))?;
            }
            match (rows.beyond, &rows.spill) {
                (Some(Beyond::Files), Some(spill)) => {
                    let spill = Arc::clone(spill);
                    // What was held goes to the files as well: the pool is full for the groups too.
                    (spill, if is_full { std::mem::take(&mut rows.held) } else { Vec::new() })
                }
                _ => return Ok(Some(dealt)),
            }
        };
        for (dealt, held) in others {
            if let Some(dealt) = self.spill(&spill, dealt) {
                self.rows().held.push((dealt, held));
            }
        }
        let _held = is_full.then(|| self.memory.hold(bytes));
        Ok(self.spill(&spill, dealt))
    }

    /// Holds rows though there is no memory for them: the least without which nothing goes on.
    pub(super) fn hold(&self, dealt: Dealt) {
        let held = self.memory.hold(dealt.bytes());
        self.rows().held.push((dealt, held));
    }

    /// Writes rows; gives back what cannot be written, as there can be no more files.
    fn spill(&self, spill: &Spill, dealt: Dealt) -> Option<Dealt> {
        let left = spill.add(dealt)?;
        self.rows().beyond = Some(Beyond::Rounds);
        Some(left)
    }

    /// Whether it takes a round to have more memory.
    pub(super) fn are_in_rounds(&self) -> Result<bool> {
        let mut rows = self.rows();
        self.decide(&mut rows, None)?;
        Ok(rows.beyond != Some(Beyond::Files))
    }

    /// Decides where rows go, if that was not decided before: to files if there can be any, and rows are of about as many
    /// groups as there are rows.
    fn decide(&self, rows: &mut Rows, more: Option<&Dealt>) -> Result<()> {
        if rows.beyond.is_some() {
            return Ok(());
        }
        let disk = &self.context.runtime_env().disk_manager;
        // Of lists and structs, a file would have what others have as well.
        let is_flat = !self.manager.schema().fields().iter().any(|f| f.data_type().is_nested());
        let known: Vec<&Dealt> = rows.held.iter().map(|(dealt, _)| dealt).chain(more).collect();
        rows.beyond = Some(Beyond::Rounds);
        if is_flat && disk.tmp_files_enabled() && self.are_many(&known)? {
            rows.beyond = Some(Beyond::Files);
            rows.spill = Some(Arc::new(Spill::new(&self.manager, self.parts, &self.memory)));
        }
        Ok(())
    }

    /// Whether rows have many groups, by those of a part that has neither most nor least of them.
    fn are_many(&self, known: &[&Dealt]) -> Result<bool> {
        let rows_of = |part| known.iter().filter_map(move |dealt| dealt.part(part));
        let mut parts: Vec<(usize, usize)> = (0..self.parts.count())
            .map(|part| (rows_of(part).map(|rows| rows.num_rows()).sum(), part))
            .filter(|(rows, _)| *rows > 0)
            .collect();
        parts.sort_unstable();
        let Some((rows, part)) = parts.get(parts.len() / 2) else { return Ok(false) };
        let mut hashes = Vec::with_capacity(*rows);
        for rows in rows_of(*part) {
            hash(&rows, &self.keys, &mut hashes)?;
        }
        Ok(distinct(hashes) > rows / ROWS_OF_FEW)
    }

    /// What is held.
    pub(super) fn bytes(&self) -> usize {
        self.rows().held.iter().map(|(_, held)| held.bytes()).sum()
    }

    /// What is held, to be handed out.
    pub(super) fn take(&self) -> Vec<(Dealt, Held)> {
        std::mem::take(&mut self.rows().held)
    }

    /// What is in files, if there are any.
    pub(super) fn in_files(&self) -> Option<Arc<Spill>> {
        self.rows().spill.clone()
    }
}

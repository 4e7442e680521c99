//! Analysing one experiment: units, waves of summaries, audits and effects.

use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::LogicalPlan;
use gosset_engine::EngineError;

use crate::audit::Audit;
use crate::effects::{self, EffectRow, Effects, Known};
use crate::job::Experiment;
use crate::kept::Kept;
use crate::run::{Event, Runner};
use crate::summaries::{Cells, Query};
use crate::units::{self, Units};
use crate::waves::{self, Limits, Wave, Waves};
use crate::{JobError, Result, caps, checks, internal, second_pass};

impl Runner {
    /// Plans every query of the job without running one: the columns are there and the SQL of the metrics is right.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn validate(&self) -> Result<()> {
        for experiment in &self.job().experiments {
            let checked = async { self.checked(experiment, &self.units(experiment).await?).await };
            let told = |error: JobError| error.about(&format!("experiment '{}'", experiment.name));
            checked.await.map_err(told)?;
        }
        Ok(())
    }

    /// The SQL that a run of an experiment is equal to.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub async fn sql(&self, experiment: &str) -> Result<String> {
        let experiment = self.experiment(experiment)?;
        let plan = self.checked(experiment, &self.units(experiment).await?).await?;
        let statement = datafusion::sql::unparser::plan_to_sql(&plan)?;
        Ok(format!("{statement:#}"))
    }

    /// The plan of an experiment in one wave. Types are checked when it is made physical; metrics of other types would
    /// fail in the middle of a run.
    async fn checked(&self, experiment: &Experiment, units: &Units) -> Result<LogicalPlan> {
        let wave = waves::whole(experiment);
        let units = caps::with_parameters(units.clone(), experiment)?;
        let query = Query::first(self.engine(), experiment, &units, &wave)?;
        let checked = caps::with_any_values(query.frame().clone(), experiment)?;
        checked.create_physical_plan().await?;
        Ok(query.frame().logical_plan().clone())
    }

    async fn units(&self, experiment: &Experiment) -> Result<Units> {
        units::units(self.job(), self.engine(), experiment).await
    }

    /// In how many waves a run would compute an experiment. Where there is more to keep than moments, the groups are
    /// counted in a pass over the assignments.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn waves(&self, experiment: &str) -> Result<Waves> {
        let experiment = self.experiment(experiment)?;
        Ok(Waves::of(&self.divided(experiment).await?))
    }

    async fn divided(&self, experiment: &Experiment) -> Result<Vec<Wave>> {
        if experiment.parts().iter().all(|part| part.kept == Kept::Moments) {
            return Ok(vec![waves::whole(experiment)]);
        }
        let rows = units::rows_of_assignments(self.job(), self.engine(), experiment).await?;
        let nothing = Wave::default();
        let groups = Query::groups(experiment, &rows, &nothing)?.collect().await;
        let groups = groups.map_err(|error| self.while_reading(experiment, error))?;
        Ok(waves::waves(experiment, &groups, self.limits()))
    }

    fn limits(&self) -> Limits {
        let context = self.engine().context();
        let memory = match context.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes),
            MemoryLimit::Infinite | MemoryLimit::Unknown => None,
        };
        let partitions = context.state().config().target_partitions();
        Limits { memory, partitions }
    }

    /// The audits of an experiment, and its effects unless an audit blocks them. No more than the summaries of one wave
    /// are held at once.
    pub(crate) async fn analysed(
        &self,
        experiment: &Experiment,
        tell: &(dyn Fn(Event) + Sync),
    ) -> Result<(Vec<Audit>, Vec<EffectRow>)> {
        let mut units = self.units(experiment).await?;
        self.checked(experiment, &units).await?;
        let waves = self.divided(experiment).await?;
        let computing = |wave| {
            tell(Event::Computing {
                experiment: experiment.name.clone(),
                wave,
                waves: waves.len(),
            });
        };
        let [first, further @ ..] = waves.as_slice() else {
            return Err(internal("an experiment has no wave"));
        };
        computing(1);
        if !further.is_empty() || experiment.passes_twice() {
            let stored = units.stored(self.engine()).await;
            units = stored.map_err(|error| self.while_reading(experiment, error))?;
        }
        let caps = caps::find(self.engine(), experiment, &units).await?;
        let units = caps::with_values(units, experiment, &caps)?;
        let query = Query::first(self.engine(), experiment, &units, first)?;
        let told = |wave: &Wave, error| self.told(experiment, wave, error);
        let (counted, cells) = query.collect_first().await.map_err(|e| told(first, e))?;
        let audits = checks::audits(self.job(), experiment, &counted)?;
        if audits.iter().any(Audit::blocks) {
            return Ok((audits, Vec::new()));
        }
        let known = Arc::new(Known { experiment: experiment.clone(), counted, caps });
        let effects = Effects::not_taken(&known, &cells);
        let mut effects = self.with_those_of(effects, &known, &units, (first, cells)).await?;
        for (wave, number) in further.iter().zip(2..) {
            computing(number);
            let query = Query::further(self.engine(), experiment, &units, wave)?;
            let cells = query.collect().await.map_err(|e| told(wave, e))?;
            effects = self.with_those_of(effects, &known, &units, (wave, cells)).await?;
        }
        let rows = effects.rows(&audits);
        Ok((audits, rows))
    }

    /// Adds the effects of a wave.
    async fn with_those_of(
        &self,
        mut effects: Effects,
        known: &Arc<Known>,
        units: &Units,
        (wave, cells): (&Wave, Cells),
    ) -> Result<Effects> {
        let experiment = &known.experiment;
        let asked = effects::asked(known, wave, &cells)?;
        let squares = second_pass::squares(experiment, units, asked).await;
        let squares = squares.map_err(|error| self.while_reading(experiment, error))?;
        let (known, wave) = (Arc::clone(known), wave.clone());
        away(move || {
            effects.add(&known, &wave, &cells, &squares)?;
            Ok(effects)
        })
        .await
    }

    /// Where memory is too small for a wave, what can be lowered is told; where rows cannot be read, of which inputs.
    fn told(&self, experiment: &Experiment, wave: &Wave, error: JobError) -> JobError {
        match error {
            JobError::Engine(EngineError::MemoryLimit(_)) if wave.bytes > 0 => {
                wave.too_large(experiment, self.limits())
            }
            other => self.while_reading(experiment, other),
        }
    }
}

/// Resampling computes for seconds on end: on a thread of its own, so that the run can be stopped meanwhile.
async fn away<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(EngineError::Internal(error.to_string()).into()),
        },
    }
}

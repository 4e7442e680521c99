//! `gosset sql`

mod shell;

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::Instant;

use datafusion::sql::parser::Statement;
use gosset_engine::{Engine, EngineError};

use crate::cli::SqlArgs;
use crate::exit::{Exit, Failure};
use crate::signals::unless_stopped;
use crate::{App, output};

/// Runs statements from the command line, from files, from standard input, or from a shell on a terminal.
pub(crate) async fn execute(app: &App, args: &SqlArgs) -> Result<Exit, Failure> {
    let engine = unless_stopped(app.engine()).await??;
    let session = Session { app, args, engine };
    if !args.command.is_empty() {
        return session.scripts(args.command.iter().map(|sql| Ok(sql.clone()))).await;
    }
    if !args.file.is_empty() {
        return session.scripts(args.file.iter().map(|path| read(path))).await;
    }
    if io::stdin().is_terminal() {
        return shell::run(&session).await;
    }
    session.scripts([read(Path::new("-"))]).await
}

/// A session of statements, which see each other's tables and settings.
struct Session<'a> {
    app: &'a App,
    args: &'a SqlArgs,
    engine: Engine,
}

impl Session<'_> {
    /// Runs scripts one after the other, up to the first failure.
    async fn scripts(
        &self,
        scripts: impl IntoIterator<Item = Result<String, Failure>>,
    ) -> Result<Exit, Failure> {
        for script in scripts {
            unless_stopped(self.script(&script?)).await??;
        }
        Ok(Exit::Done)
    }

    /// Runs the statements of one script. All are parsed before the first runs.
    async fn script(&self, script: &str) -> Result<(), Failure> {
        for statement in self.engine.parse(script)? {
            self.statement(statement).await?;
        }
        Ok(())
    }

    /// Runs one statement and writes its result to standard output.
    async fn statement(&self, statement: Statement) -> Result<(), Failure> {
        let started = Instant::now();
        let step = self.app.progress.step("running");
        let plan = self.engine.plan(statement).await?;
        let rows = self.engine.execute(plan).await?;
        let out = io::stdout();
        let count = output::write(rows, self.args.format, out, || drop(step)).await?;
        if self.args.timing {
            let seconds = started.elapsed().as_secs_f64();
            match count {
                Some(1) => eprintln!("1 row in {seconds:.3} s"),
                Some(rows) => eprintln!("{rows} rows in {seconds:.3} s"),
                None => eprintln!("done in {seconds:.3} s"),
            }
        }
        Ok(())
    }
}

/// A script from a file, or from standard input for `-`.
fn read(path: &Path) -> Result<String, Failure> {
    let script = if path == Path::new("-") {
        let mut script = String::new();
        io::stdin().read_to_string(&mut script).map(|_| script)
    } else {
        std::fs::read_to_string(path)
    };
    script.map_err(|error| EngineError::of(&error).about(&path.display().to_string()).into())
}

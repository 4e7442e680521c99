//! Progress on a terminal, and nothing elsewhere: there, log lines tell.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bars of a command, below which log lines are written without tearing them.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bars: MultiProgress,
    /// What is told of the step that goes on.
    note: ProgressBar,
    shown: bool,
}

impl Progress {
    /// Bars on standard error if it is a terminal.
    pub(crate) fn new() -> Self {
        let shown = io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let note = if shown { bars.add(ProgressBar::no_length()) } else { ProgressBar::hidden() };
        let note = note
            .with_style(ProgressStyle::with_template("  {msg}").expect("the template is constant"));
        Self { bars, note, shown }
    }

    /// Tells how far the step is that goes on.
    #[cfg(feature = "cluster")]
    pub(crate) fn note(&self, text: String) {
        if self.shown {
            self.note.set_message(text);
            self.note.tick();
        }
    }

    /// Work of unknown length. It ends when what is returned is dropped.
    pub(crate) fn step(&self, what: impl Into<Cow<'static, str>>) -> Step {
        let bar = if self.shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let bar = self.bars.add(bar).with_message(what).with_style(
            ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                .expect("the template is constant"),
        );
        if self.shown {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Step { bar, note: self.note.clone() }
    }

    /// Work of known length, with an estimate of the time that is left.
    pub(crate) fn steps(&self, what: impl Into<Cow<'static, str>>, length: u64) -> Step {
        let bar = if self.shown { ProgressBar::new(length) } else { ProgressBar::hidden() };
        let bar = self.bars.add(bar).with_message(what).with_style(
            ProgressStyle::with_template("{msg} {bar:30} {pos} of {len}, {elapsed}, {eta} left")
                .expect("the template is constant"),
        );
        Step { bar, note: self.note.clone() }
    }

    /// Where log lines go: standard error, above the bars.
    pub(crate) fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }
}

/// Work that is going on.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
    note: ProgressBar,
}

impl Step {
    /// One of its parts is done.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.note.finish_and_clear();
        self.note.reset();
    }
}

/// Writes to standard error while the bars step aside.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter(Progress);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

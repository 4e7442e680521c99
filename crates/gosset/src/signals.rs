//! Ctrl-C, SIGTERM and time-outs: what ends work before it is done.

use std::future::Future;
#[cfg(unix)]
use std::sync::Arc;
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::telemetry;

/// How long work that was told to stop may go on. More than what the runtime is given to end its tasks.
const PATIENCE: Duration = Duration::from_secs(8);

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Interrupt => Self::new(Exit::Interrupted, "stopped by ctrl-C"),
            Stop::Terminate => Self::new(Exit::Terminated, "stopped by SIGTERM"),
        }
    }
}

/// Waits for ctrl-C or SIGTERM.
///
/// A thread of its own listens: where all threads of the runtime compute, nobody there would hear a signal for long.
#[cfg(unix)]
pub(crate) async fn stop() -> Stop {
    let (told, stop) = tokio::sync::oneshot::channel();
    let heard = Heard::default();
    let flag = Arc::clone(&heard.0);
    let listen = move || listen(told, &flag);
    let listener = std::thread::Builder::new().name("signals".into()).spawn(listen);
    match (listener, stop.await) {
        (Ok(_), Ok(stop)) => stop,
        // Without a listener the system's own action stops the process.
        _ => std::future::pending().await,
    }
}

/// Says that nobody waits for a signal any more: it was heard, or the work is done.
#[cfg(unix)]
#[derive(Debug, Default)]
struct Heard(Arc<AtomicBool>);

#[cfg(unix)]
impl Drop for Heard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tells of the first signal; ends without one when nobody waits any more.
#[cfg(unix)]
fn listen(mut told: tokio::sync::oneshot::Sender<Stop>, heard: &AtomicBool) {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let stop = runtime.block_on(async {
        let interrupt = signal(SignalKind::interrupt());
        let terminate = signal(SignalKind::terminate());
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return None };
        tokio::select! {
            _ = interrupt.recv() => Some(Stop::Interrupt),
            _ = terminate.recv() => Some(Stop::Terminate),
            () = told.closed() => None,
        }
    });
    if let Some(stop) = stop {
        // Whoever waited may be gone by now.
        let _ = told.send(stop);
        // Work that never looks up, such as a long computation, is ended here: nothing of it is visible.
        std::thread::sleep(PATIENCE);
        if !heard.load(Ordering::Relaxed) {
            let exit = Failure::from(stop).exit;
            telemetry::stop(exit);
            std::process::exit(exit as i32);
        }
    }
}

/// Waits for ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn stop() -> Stop {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Stop::Interrupt,
        Err(_) => std::future::pending().await,
    }
}

/// Runs `work` until it is done or the process is told to stop; then `work` is dropped, and with it its tasks, spill
/// files and uploads.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = T>) -> Result<T, Stop> {
    tokio::select! {
        biased;
        stop = stop() => Err(stop),
        done = work => Ok(done),
    }
}

/// How a piece of work with a time-out ended, where it did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Runs `work`, and drops it where it is not done in time.
///
/// A thread of its own has the clock: where all threads of the runtime compute, timers are late.
pub(crate) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = T>,
) -> Result<T, TimedOut> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let (_working, done) = std::sync::mpsc::channel::<()>();
    let clock = std::thread::Builder::new().name("time-out".into()).spawn(move || {
        let late = |after| done.recv_timeout(after) == Err(RecvTimeoutError::Timeout);
        if late(timeout) {
            // Whoever waited may be gone by now.
            let _ = tell.send(());
            // Work that never looks up, as after a signal.
            if late(PATIENCE) {
                telemetry::stop(Exit::TimedOut);
                std::process::exit(Exit::TimedOut as i32);
            }
        }
    });
    if clock.is_err() {
        return tokio::time::timeout(timeout, work).await.map_err(|_| TimedOut);
    }
    tokio::select! {
        biased;
        Ok(()) = told => Err(TimedOut),
        done = work => Ok(done),
    }
}

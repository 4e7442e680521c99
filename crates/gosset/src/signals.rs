//! Ctrl-C and SIGTERM.

use std::future::Future;

use crate::exit::{Exit, Failure};

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
#[cfg(unix)]
pub(crate) async fn stop() -> Stop {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the system's own action stops the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Stop::Interrupt,
        _ = terminate.recv() => Stop::Terminate,
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

//! Ctrl-C and its like.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::{Failure, code};
use crate::clock::Clock;
use crate::lab::Layout;

/// How often a run looks whether it is halted.
const HALT_LOOK: Duration = Duration::from_millis(200);

/// Runs `work` until it ends or the user interrupts.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
    on_interrupt: impl FnOnce() -> Failure,
) -> Result<T, Failure> {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(on_interrupt()),
        () = terminate => Err(on_interrupt()),
    }
}

/// The first Ctrl-C, or its like, asks a verb to come to an end; the second one ends it.
pub(crate) struct Interrupt {
    receiver: watch::Receiver<bool>,
    listener: tokio::task::JoinHandle<()>,
}

impl Interrupt {
    /// Listens from now on until dropped; where a state directory is given, `twin halt` asks for the end too.
    pub(crate) fn listen(halt: Option<(Layout, Arc<dyn Clock>)>) -> Self {
        let (interrupt, receiver) = watch::channel(false);
        let listener = tokio::spawn(async move {
            let terminate = signal(SignalKind::terminate());
            let hang_up = signal(SignalKind::hangup());
            let (Ok(mut terminate), Ok(mut hang_up)) = (terminate, hang_up) else {
                return;
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                () = halted(halt) => {}
            }
            // A verb that has ended takes no notice.
            let _ = interrupt.send(true);
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            // What is open stays in the journal, and `twin recover` finishes it.
            std::process::exit(i32::from(code::INTERRUPTED));
        });
        Self { receiver, listener }
    }

    /// Turns true when the end is asked for.
    pub(crate) const fn receiver(&self) -> &watch::Receiver<bool> {
        &self.receiver
    }
}

/// Returns once runs are halted; never without a place to look.
async fn halted(halt: Option<(Layout, Arc<dyn Clock>)>) {
    let Some((layout, clock)) = halt else {
        return std::future::pending().await;
    };
    while layout.halted().is_none() {
        clock.sleep(HALT_LOOK).await;
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

//! Stopping: from "no new calls" to "the process may end".

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Starts the drain; clones start the same one.
#[derive(Debug, Clone)]
pub struct DrainTrigger(watch::Sender<bool>);

/// Knows whether the drain has started; clones know the same.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// A trigger and what it triggers.
pub fn drain() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), Drain(receiver))
}

impl DrainTrigger {
    /// Starts the drain; a second time changes nothing.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Starts the drain at the first SIGTERM or SIGINT. Handlers are in place when this returns,
    /// so that no signal after it is lost to the default action.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let trigger = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping: finishing the calls in flight");
            trigger.start();
        });
        Ok(())
    }
}

impl Drain {
    /// Whether it has started.
    pub fn has_started(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when it has started; also when nobody is left who could start it.
    pub async fn started(&mut self) {
        // The only error is that every trigger is gone, which means the same to who waits here.
        let _ = self.0.wait_for(|started| *started).await;
    }
}

//! The task that ticks the scheduler while the server runs.

use super::scheduler::{Scheduler, Tick};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// How long the scheduler rests when there is nothing to do, or a process is at work.
const REST: Duration = Duration::from_millis(500);

/// A scheduler at work.
pub struct Background {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Background {
    /// Ticks the scheduler until it is shut down; `wake` cuts a rest short.
    #[must_use]
    pub fn start(scheduler: Scheduler, wake: Arc<Notify>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(run(scheduler, wake, stopped)) }
    }

    /// Lets a training process write its checkpoint and releases the job, so that the next start resumes it at once.
    pub async fn shut_down(self) {
        let _ended_already = self.stop.send(());
        if let Err(e) = self.task.await {
            tracing::error!(error = %e, "the scheduler broke");
        }
    }
}

async fn run(mut scheduler: Scheduler, wake: Arc<Notify>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let rest = match scheduler.tick().await {
            Ok(Tick::Stepped) => Duration::ZERO,
            Ok(Tick::Idle | Tick::Training) => REST,
            Err(e) => {
                tracing::error!(error = %e, "the scheduler can't work, it tries again");
                REST * 4
            }
        };
        tokio::select! {
            _ = &mut stopped => break,
            () = wake.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
    if let Err(e) = scheduler.shut_down().await {
        tracing::error!(error = %e, "a job couldn't be let go; the next start resumes it when its lease has run out");
    }
}

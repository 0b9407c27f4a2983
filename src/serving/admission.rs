//! Admission: a bound on the answers that run and on those that wait. Past both, a request is refused at once, before
//! any work is spent on it. May use: tokio's semaphores.

use hone_domain::EngineError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded first-come queue in front of the engine.
#[derive(Debug)]
pub struct Admission {
    running_max: usize,
    places_max: usize,
    /// Running and waiting together: no place, no entry.
    places: Arc<Semaphore>,
    /// Running. Fair: who waits longest goes first.
    running: Arc<Semaphore>,
}

/// The right to compute some answers; given back on drop.
#[derive(Debug)]
#[must_use = "the turn is given back as soon as the permit is dropped"]
pub struct Permit {
    _running: OwnedSemaphorePermit,
    _places: OwnedSemaphorePermit,
}

impl Admission {
    /// `running_max` answers at once (at least 1), `waiting_max` more in the queue.
    #[must_use]
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        let running_max = running_max.clamp(1, u32::MAX as usize / 2);
        let places_max = running_max + waiting_max.min(u32::MAX as usize / 2);
        Self {
            running_max,
            places_max,
            places: Arc::new(Semaphore::new(places_max)),
            running: Arc::new(Semaphore::new(running_max)),
        }
    }

    /// Waits until `answers` answers may be computed. A request for more than may ever run takes all turns there are.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when they don't fit into the queue.
    pub async fn admit(&self, answers: usize) -> Result<Permit, EngineError> {
        let turns = u32::try_from(answers.clamp(1, self.running_max)).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).try_acquire_many_owned(turns).map_err(|_| EngineError::Busy)?;
        // Neither semaphore is ever closed.
        let running = Arc::clone(&self.running).acquire_many_owned(turns).await.map_err(|_| EngineError::Busy)?;
        Ok(Permit { _running: running, _places: places })
    }

    /// Answers that are being computed.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running_max - self.running.available_permits()
    }

    /// Answers that wait for a turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        (self.places_max - self.places.available_permits()).saturating_sub(self.running())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_freed_turn_goes_to_the_first_waiter() {
        let admission = Arc::new(Admission::new(1, 1));
        let running = admission.admit(1).await.expect("a free turn");
        let waiter = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.admit(1).await }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.admit(1).await.err(), Some(EngineError::Busy));
        drop(running);
        let second = waiter.await.expect("joins").expect("gets the turn");
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        drop(second);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_frees_its_place() {
        let admission = Admission::new(1, 1);
        let _running = admission.admit(1).await.expect("a free turn");
        let waited = tokio::time::timeout(Duration::from_millis(20), admission.admit(1)).await;
        assert!(waited.is_err(), "there is no turn");
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn more_answers_than_turns_take_all_turns() {
        let admission = Admission::new(2, 0);
        let all = admission.admit(9).await.expect("clamped");
        assert_eq!(admission.running(), 2);
        assert!(admission.admit(1).await.is_err());
        drop(all);
        assert!(admission.admit(2).await.is_ok());
    }
}

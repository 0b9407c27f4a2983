//! Admission: a bound on the answers that run, on those that wait, and on both of one person. Past them a request is refused at
//! once, before any work is spent on it. May use: tokio's semaphores.

use hone_domain::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why there is no place. The text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// As many answers as may wait are waiting.
    #[error("as many answers as may wait are waiting already: try again in a moment")]
    Full,
    /// One person has as many answers on their way as one person may.
    #[error("{0} of your answers are on their way already, which is all that one person may have: wait for one to end")]
    PersonFull(usize),
}

/// Answers on their way, by person; who has none isn't in it.
type People = Arc<Mutex<HashMap<UserId, usize>>>;

/// A bounded first-come queue in front of the engine.
#[derive(Debug)]
pub struct Admission {
    running_max: usize,
    places_max: usize,
    person_max: usize,
    people: People,
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
    _waiting: Waiting,
}

/// A place, be it in the queue or after it.
#[derive(Debug)]
struct Waiting {
    _places: OwnedSemaphorePermit,
    /// None of what is computed for nobody.
    _of_person: Option<OfPerson>,
}

/// A person's share; given back on drop.
#[derive(Debug)]
struct OfPerson {
    people: People,
    person: UserId,
    answers: usize,
}

fn lock(people: &People) -> MutexGuard<'_, HashMap<UserId, usize>> {
    people.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for OfPerson {
    fn drop(&mut self) {
        let mut people = lock(&self.people);
        if let Some(answers) = people.get_mut(&self.person) {
            *answers = answers.saturating_sub(self.answers);
            if *answers == 0 {
                people.remove(&self.person);
            }
        }
    }
}

impl Admission {
    /// `running_max` answers at once (at least 1), `waiting_max` more in the queue; of them `person_max` (at least 1) of one person.
    #[must_use]
    pub fn new(running_max: usize, waiting_max: usize, person_max: usize) -> Self {
        let running_max = running_max.clamp(1, u32::MAX as usize / 2);
        let places_max = running_max + waiting_max.min(u32::MAX as usize / 2);
        Self {
            running_max,
            places_max,
            person_max: person_max.max(1),
            people: People::default(),
            places: Arc::new(Semaphore::new(places_max)),
            running: Arc::new(Semaphore::new(running_max)),
        }
    }

    /// Waits until `answers` answers of a person may be computed: all at once, so that two such requests can't each hold half of
    /// what the other waits for. A request for more than may ever run takes all turns there are.
    ///
    /// # Errors
    /// When they don't fit into the queue, or into the person's share of it; a person's only request always fits into that.
    pub async fn admit(&self, person: &UserId, answers: usize) -> Result<Permit, AdmissionError> {
        let answers = answers.clamp(1, self.running_max);
        let of_person = self.share(person, answers)?;
        let turns = u32::try_from(answers).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).try_acquire_many_owned(turns).map_err(|_| AdmissionError::Full)?;
        let waiting = Waiting { _places: places, _of_person: Some(of_person) };
        // Neither semaphore is ever closed.
        let running = Arc::clone(&self.running).acquire_many_owned(turns).await.map_err(|_| AdmissionError::Full)?;
        Ok(Permit { _running: running, _waiting: waiting })
    }

    /// The right to compute one answer for nobody, where no person's answer waits or would have to: never waits itself.
    #[must_use]
    pub fn admit_idle(&self) -> Option<Permit> {
        if self.waiting() > 0 {
            return None;
        }
        let places = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let running = Arc::clone(&self.running).try_acquire_owned().ok()?;
        Some(Permit { _running: running, _waiting: Waiting { _places: places, _of_person: None } })
    }

    fn share(&self, person: &UserId, answers: usize) -> Result<OfPerson, AdmissionError> {
        let mut people = lock(&self.people);
        let has = people.get(person).copied().unwrap_or(0);
        if has > 0 && has + answers > self.person_max {
            return Err(AdmissionError::PersonFull(has));
        }
        people.insert(person.clone(), has + answers);
        Ok(OfPerson { people: Arc::clone(&self.people), person: person.clone(), answers })
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

    fn ann() -> UserId {
        UserId::from_raw("ann")
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_freed_turn_goes_to_the_first_waiter() {
        let admission = Arc::new(Admission::new(1, 1, 9));
        let running = admission.admit(&ann(), 1).await.expect("a free turn");
        let waiter = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.admit(&ann(), 1).await }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.admit(&ann(), 1).await.err(), Some(AdmissionError::Full));
        drop(running);
        let second = waiter.await.expect("joins").expect("gets the turn");
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        drop(second);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_frees_its_place() {
        let admission = Admission::new(1, 1, 9);
        let _running = admission.admit(&ann(), 1).await.expect("a free turn");
        let waited = tokio::time::timeout(Duration::from_millis(20), admission.admit(&ann(), 1)).await;
        assert!(waited.is_err(), "there is no turn");
        assert_eq!(admission.waiting(), 0);
        assert_eq!(lock(&admission.people)[&ann()], 1);
    }

    #[tokio::test]
    async fn more_answers_than_turns_take_all_turns() {
        let admission = Admission::new(2, 0, 9);
        let all = admission.admit(&ann(), 9).await.expect("clamped");
        assert_eq!(admission.running(), 2);
        assert!(admission.admit(&ann(), 1).await.is_err());
        drop(all);
        assert!(admission.admit(&ann(), 2).await.is_ok());
    }

    #[tokio::test]
    async fn one_person_leaves_room_for_others() {
        let admission = Admission::new(8, 8, 3);
        let first = admission.admit(&ann(), 5).await.expect("a person's only request always fits");
        assert_eq!(admission.admit(&ann(), 1).await.err(), Some(AdmissionError::PersonFull(5)));
        let bob = UserId::from_raw("bob");
        let others = admission.admit(&bob, 2).await.expect("another person's");
        assert!(admission.admit(&bob, 1).await.is_ok());
        drop(first);
        assert!(admission.admit(&ann(), 1).await.is_ok());
        drop(others);
        assert!(admission.admit_idle().is_some());
        let all = admission.admit(&bob, 8).await.expect("all turns");
        assert!(admission.admit_idle().is_none(), "people come first");
        drop(all);
        assert!(lock(&admission.people).is_empty(), "nobody is remembered");
    }
}

//! Continuous batching: one thread computes all answers of an engine, a token of each at a time, in one batch per policy; a new
//! prompt joins between two tokens. May use: learn, text.
//!
//! An answer's bits don't depend on its company: a prompt is computed by itself, and a batch of at most [`STEP_SEQUENCES_MAX`] rows
//! computes each row as if it were alone.

use crate::policy::Weights;
use crate::prompts::{BYTES_MAX, Found, Prompts, STEP_TOKENS, part_end};
use hone_domain::EngineError;
use hone_learn::generate::{STEP_SEQUENCES_MAX, Session, step};
use hone_learn::{LearnError, Workspace};
use hone_text::Answer;
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Answers that may wait for their turn. Whoever asks the engine has a shorter queue of their own.
const WAITING_MAX: usize = 1024;

/// An answer to compute.
pub(crate) struct Job {
    pub(crate) weights: Arc<Weights>,
    pub(crate) prompt: Vec<u32>,
    pub(crate) answer: Answer,
}

/// A handle on the thread, which ends with the last handle.
#[derive(Clone)]
pub(crate) struct Batcher {
    jobs: Arc<Mutex<SyncSender<Job>>>,
    running_max: usize,
}

impl Batcher {
    /// Starts the thread; it computes up to `running_max` answers at once (at least 1).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(running_max: usize) -> std::io::Result<Self> {
        Ok(Self { jobs: Arc::new(Mutex::new(thread(running_max)?)), running_max })
    }

    /// Puts an answer into the queue. A thread that died is replaced.
    ///
    /// # Errors
    /// When the queue is full, or the system gives no new thread.
    pub(crate) fn submit(&self, job: Job) -> Result<(), EngineError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => return Err(EngineError::Busy),
            Err(TrySendError::Disconnected(job)) => job,
        };
        tracing::error!("the engine's thread has died: starting another");
        *jobs = thread(self.running_max).map_err(|e| EngineError::Failed(format!("no thread to compute on: {e}")))?;
        jobs.try_send(job).map_err(|_| EngineError::Busy)
    }
}

fn thread(running_max: usize) -> std::io::Result<SyncSender<Job>> {
    let (jobs, queue) = sync_channel(WAITING_MAX);
    let worker = Worker::new(queue, running_max.max(1));
    std::thread::Builder::new().name("native-engine".into()).spawn(move || worker.run())?;
    Ok(jobs)
}

/// An answer that is being computed.
struct Running {
    job: Job,
    session: Session,
    /// The token that was drawn last; `None` until the prompt is computed.
    last: Option<u32>,
}

impl Running {
    fn new(job: Job) -> Self {
        Self { session: Session::new(&job.weights.base.base), job, last: None }
    }

    fn draw(&mut self, logits: &[f32]) {
        self.last = self.job.answer.next(logits);
    }

    fn fail(&mut self, error: &LearnError) {
        self.job.answer.fail(EngineError::Failed(error.to_string()));
    }
}

struct Worker {
    queue: Receiver<Job>,
    running: Vec<Running>,
    running_max: usize,
    prompts: Prompts,
    ws: Workspace,
}

impl Worker {
    fn new(queue: Receiver<Job>, running_max: usize) -> Self {
        Self { queue, running: Vec::new(), running_max, prompts: Prompts::new(BYTES_MAX), ws: Workspace::new() }
    }

    fn run(mut self) {
        while self.admit() {
            // On a thread of the pool: from outside each of a step's products would wait for a pool thread to wake up.
            let stepped = catch_unwind(AssertUnwindSafe(|| rayon::scope(|_| self.step())));
            if stepped.is_err() {
                // Their channels close without an end, which readers take as a failure. Nothing half-done is used again.
                tracing::error!(answers = self.running.len(), "computing answers panicked: they are cut off");
                self.running.clear();
                self.prompts.clear();
                self.ws = Workspace::new();
            }
        }
    }

    /// Takes what is waiting, as much as there is room for; sleeps where there is nothing to do. `false` once nobody can ask any
    /// more and all is answered.
    fn admit(&mut self) -> bool {
        if self.running.is_empty() {
            match self.queue.recv() {
                Ok(job) => self.running.push(Running::new(job)),
                Err(_) => return false,
            }
        }
        while self.running.len() < self.running_max
            && let Ok(job) = self.queue.try_recv()
        {
            self.running.push(Running::new(job));
        }
        true
    }

    /// Some parts of prompts, the first that came first, and one token of each answer.
    fn step(&mut self) {
        self.running.retain(|r| !r.job.answer.is_over());
        let mut computed = 0;
        while computed < STEP_TOKENS
            && let Some(at) = self.running.iter().position(|r| r.last.is_none() && !r.job.answer.is_over())
        {
            computed += self.prompt_part(at);
        }
        let mut left: Vec<&mut Running> = self.running.iter_mut().filter(|r| r.last.is_some()).collect();
        while let Some(first) = left.first() {
            let weights = Arc::clone(&first.job.weights);
            let (mut of_policy, others) =
                left.into_iter().partition::<Vec<_>, _>(|r| Arc::ptr_eq(&r.job.weights, &weights));
            left = others;
            for rows in of_policy.chunks_mut(STEP_SEQUENCES_MAX) {
                next_tokens(&weights, rows, &mut self.ws);
            }
        }
    }

    /// Computes the next part of a prompt; after the last one, draws the answer's first token. The number of tokens that were computed.
    fn prompt_part(&mut self, at: usize) -> usize {
        let running = &mut self.running[at];
        let Job { weights, prompt, .. } = &running.job;
        if running.session.is_empty()
            && let Some(Found { session, logits }) = self.prompts.find(weights, prompt)
        {
            running.session = session;
            if let Some(logits) = logits {
                running.draw(&logits);
                return 0;
            }
        }
        let (base, adapter) = (&weights.base.base, weights.adapter.as_ref());
        let done = running.session.len();
        let part = &prompt[done..prompt.len().min(part_end(done))];
        let tokens = part.len();
        if done + tokens < prompt.len() {
            if let Err(error) = running.session.feed(base, adapter, part, &mut self.ws) {
                running.fail(&error);
            }
            return tokens;
        }
        match running.session.prefill(base, adapter, part, &mut self.ws) {
            Ok(logits) => {
                self.prompts.keep(weights, prompt, &running.session, &logits);
                running.draw(&logits);
                self.ws.give(logits);
            }
            Err(error) => running.fail(&error),
        }
        tokens
    }
}

/// The next token of each of these answers, all of one policy.
fn next_tokens(weights: &Weights, rows: &mut [&mut Running], ws: &mut Workspace) {
    let base = &weights.base.base;
    let tokens: Vec<u32> = rows.iter().filter_map(|r| r.last).collect();
    let mut sessions: Vec<&mut Session> = rows.iter_mut().map(|r| &mut r.session).collect();
    match step(base, weights.adapter.as_ref(), &mut sessions, &tokens, ws) {
        Ok(logits) => {
            let each = rows.par_iter_mut().zip(logits.par_chunks_exact(base.config().vocab));
            each.for_each(|(running, logits)| running.draw(logits));
            ws.give(logits);
        }
        Err(error) => rows.iter_mut().for_each(|r| r.fail(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::tests::weights;
    use hone_domain::{Sampling, StreamEvent};

    #[test]
    fn a_thread_that_died_is_replaced_by_the_next_answer() {
        let (jobs, queue) = sync_channel(1);
        drop(queue);
        let batcher = Batcher { jobs: Arc::new(Mutex::new(jobs)), running_max: 1 };
        let weights = weights();
        let sampling = Sampling { max_tokens: 3, ..Sampling::default() };
        let (answer, mut events) = Answer::new(&weights.base.tokenizer, &sampling, 2, 64).expect("fits");
        batcher.submit(Job { weights, prompt: vec![5, 6], answer }).expect("another thread takes it");
        let mut last = None;
        while let Some(event) = events.blocking_recv() {
            last = Some(event);
        }
        assert!(matches!(last, Some(StreamEvent::Done { .. })), "{last:?}");
    }
}

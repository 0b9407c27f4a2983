//! Continuous batching: one thread computes all answers of an engine, a token of each at a time; prompts are computed in parts beside
//! them, in the same pass. May use: learn, text.
//!
//! An answer's bits don't depend on its company: a pass computes each token as if it were alone, whatever else is in it.

use crate::policy::Weights;
use crate::prompts::{BYTES_MAX, Found, Prompts, same_tokens};
use hone_domain::EngineError;
use hone_learn::generate::{Part, Session, pass};
use hone_learn::{Base, LearnError, Workspace};
use hone_text::Answer;
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Answers that may wait for their turn. Whoever asks the engine has a shorter queue of their own.
const WAITING_MAX: usize = 1024;

/// Prompt tokens in a pass, while answers wait for its end: bounds the time between two of their tokens.
const STEP_TOKENS: usize = 64;
/// The same when none waits: bounds the buffers.
const ALONE_TOKENS: usize = 256;
/// A prompt waits for another one that computes so many of its tokens.
const SHARED_TOKENS_MIN: usize = 16;

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

    /// Tokens of the prompt that aren't computed yet.
    fn tokens_left(&self) -> usize {
        self.job.prompt.len() - self.session.len()
    }

    /// Whether this answer's prompt is being computed, and much of it is the beginning of another's that isn't computed there.
    fn computes_for(&self, other: &Self) -> bool {
        self.last.is_none()
            && Arc::ptr_eq(&self.job.weights, &other.job.weights)
            && same_tokens(&self.job.prompt, &other.job.prompt) >= other.session.len() + SHARED_TOKENS_MIN
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

    /// One token of each answer, and parts of prompts, those first that came first; one pass per base model, whatever the policies on it.
    fn step(&mut self) {
        self.running.retain(|r| !r.job.answer.is_over());
        self.begin_prompts();
        let mut planned = self.plan();
        while let Some((first, _)) = planned.first() {
            let base = Arc::clone(&self.running[*first].job.weights.base);
            let on_base = |(i, _): &(usize, usize)| Arc::ptr_eq(&self.running[*i].job.weights.base, &base);
            let (of_base, others) = planned.into_iter().partition::<Vec<_>, _>(on_base);
            planned = others;
            self.pass(&base.base, &of_base);
        }
    }

    /// Prompts that nothing was computed of yet take what is known of their beginning.
    fn begin_prompts(&mut self) {
        for running in self.running.iter_mut().filter(|r| r.last.is_none() && r.session.is_empty()) {
            let Job { weights, prompt, .. } = &running.job;
            if let Some(Found { session, logits }) = self.prompts.find(weights, prompt) {
                running.session = session;
                logits.into_iter().for_each(|logits| running.draw(&logits));
            }
        }
    }

    /// Which answers are in the next pass, and with how many tokens each.
    fn plan(&self) -> Vec<(usize, usize)> {
        let over = |r: &Running| r.job.answer.is_over();
        let answering = self.running.iter().any(|r| r.last.is_some() && !over(r));
        let mut left = if answering { STEP_TOKENS } else { ALONE_TOKENS };
        let mut planned: Vec<(usize, usize)> = Vec::with_capacity(self.running.len());
        for (i, running) in self.running.iter().enumerate().filter(|(_, r)| !over(r)) {
            if running.last.is_some() {
                planned.push((i, 1));
                continue;
            }
            // What another prompt is computing is there in a moment; the answers of a comparison share one prompt.
            let shares = |(other, _): &(usize, usize)| self.running[*other].computes_for(running);
            let tokens = running.tokens_left().min(left);
            if tokens > 0 && !planned.iter().any(shares) {
                planned.push((i, tokens));
                left -= tokens;
            }
        }
        planned
    }

    /// One pass over so many tokens of these answers.
    fn pass(&mut self, base: &Base, planned: &[(usize, usize)]) {
        let mut parts = Vec::with_capacity(planned.len());
        let mut wanted = planned.iter().peekable();
        for (i, Running { job, session, last }) in self.running.iter_mut().enumerate() {
            let Some((_, tokens)) = wanted.next_if(|(at, _)| *at == i) else { continue };
            let done = session.len();
            let (tokens, logits) = match last {
                Some(last) => (std::slice::from_ref(last), true),
                None => (&job.prompt[done..done + tokens], done + tokens == job.prompt.len()),
            };
            let weights = job.weights.as_ref();
            parts.push((
                i,
                std::ptr::from_ref(weights),
                Part { session, adapter: weights.adapter.as_ref(), tokens, logits },
            ));
        }
        parts.sort_by_key(|(_, policy, _)| *policy); // a policy's parts lie together
        let drawn: Vec<usize> = parts.iter().filter(|(_, _, part)| part.logits).map(|(i, _, _)| *i).collect();
        let mut parts: Vec<Part<'_>> = parts.into_iter().map(|(_, _, part)| part).collect();
        match pass(base, &mut parts, &mut self.ws) {
            Ok(logits) => {
                self.draw(&drawn, &logits, base.config().vocab);
                self.ws.give(logits);
            }
            Err(error) => planned.iter().for_each(|(i, _)| self.running[*i].fail(&error)),
        }
    }

    /// Draws the next token of these answers; then, as copying takes a while, keeps the prompts that were just finished.
    fn draw(&mut self, answers: &[usize], logits: &[f32], vocab: usize) {
        let mut logits_of: Vec<Option<&[f32]>> = vec![None; self.running.len()];
        answers.iter().zip(logits.chunks_exact(vocab)).for_each(|(&i, logits)| logits_of[i] = Some(logits));
        let begun: Vec<bool> = self.running.iter().map(|running| running.last.is_some()).collect();
        let rows = self.running.par_iter_mut().zip(&logits_of);
        rows.for_each(|(running, logits)| logits.iter().for_each(|logits| running.draw(logits)));
        for ((Running { job, session, .. }, logits), begun) in self.running.iter().zip(logits_of).zip(begun) {
            if let (false, Some(logits)) = (begun, logits) {
                self.prompts.keep(&job.weights, &job.prompt, session, logits);
            }
        }
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

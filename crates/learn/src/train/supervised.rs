//! The loop that SFT and the reward model share: epochs in a seeded order, micro-batches by token budget with gradient
//! accumulation, clipping, AdamW on a schedule, checkpoints, metrics, progress. What is learned comes as an [`Objective`].

use super::{Clock, Context, Progress, data};
use crate::LearnError;
use crate::checkpoint::Checkpoints;
use crate::lora::Adapter;
use crate::metrics::{MetricsLine, MetricsLog};
use crate::model::Workspace;
use crate::optim::{AdamW, clip_global_norm};
use crate::params::Params;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an adapter is trained towards.
pub(crate) trait Objective {
    /// Tokens of each example.
    fn sizes(&self) -> &[usize];

    /// Adds the gradient of a micro-batch's share of the batch's mean loss to `grads`, and its figures (shares as well, which add
    /// up over the batch) to the answer. The loss is called [`LOSS`].
    fn micro_batch(
        &self,
        adapter: &Adapter,
        micro: &[usize],
        step: Step<'_>,
        ws: &mut Workspace,
        grads: &mut Params,
    ) -> Result<BTreeMap<&'static str, f64>, LearnError>;

    /// Figures on held-out data, empty where there is none.
    fn held_out(&self, adapter: &Adapter, ws: &mut Workspace) -> Result<BTreeMap<String, f64>, LearnError>;
}

/// An optimiser step: its number from 0, and the examples in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) number: usize,
    pub(crate) batch: &'a [usize],
}

/// The name of the loss among an objective's figures.
pub(crate) const LOSS: &str = "loss";

/// How to train.
pub(crate) struct Plan {
    pub(crate) epochs: usize,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    pub(crate) learning_rate_floor: f64,
    pub(crate) warmup_steps: usize,
    pub(crate) weight_decay: f64,
    pub(crate) gradient_norm_max: f64,
    pub(crate) micro_batch_tokens: usize,
    pub(crate) checkpoint_steps: usize,
}

/// What a checkpoint holds beside the tensors. The data order follows from seed and step.
#[derive(Serialize, Deserialize)]
struct State {
    wall_seconds: f64,
    adam_step: u64,
    metrics: BTreeMap<String, f64>,
    #[serde(default)]
    best: Option<Best>,
}

/// The evaluation with the highest [`CHOOSES`]. Its checkpoint is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Best {
    step: usize,
    score: f64,
    figures: BTreeMap<String, f64>,
}

/// Where an objective's held-out figures have this one, the adapter of the evaluation where it is highest is what the run makes;
/// without it the last one is. Ouyang et al. 2022 (section 3.5) choose the SFT model by reward, because the loss on held-out
/// demonstrations is least after the first epoch while the reward and people's preference still rise: so that loss chooses nothing here.
pub(crate) const CHOOSES: &str = "evaluate/reward";

struct Run<'r, 'c> {
    plan: &'r Plan,
    ctx: &'r mut Context<'c>,
    checkpoints: Checkpoints,
    adapter: &'r mut Adapter,
    adam: AdamW,
    log: MetricsLog,
    clock: Clock,
    step: usize,
    steps_total: usize,
    saved: Option<usize>,
    metrics: BTreeMap<String, f64>,
    best: Option<Best>,
}

/// Trains `adapter` in place; answers the last figures, those of the evaluation being of the adapter that was chosen.
pub(crate) fn train(
    objective: &dyn Objective,
    plan: &Plan,
    adapter: &mut Adapter,
    checkpoints: Checkpoints,
    ctx: &mut Context<'_>,
) -> Result<BTreeMap<String, f64>, LearnError> {
    let examples = objective.sizes().len();
    let steps_epoch = examples.div_ceil(plan.batch);
    let schedule = Schedule {
        peak: plan.learning_rate,
        floor: plan.learning_rate_floor,
        warmup_steps: plan.warmup_steps,
        steps_total: plan.epochs * steps_epoch,
        decay: crate::schedule::Decay::Cosine,
    };
    let mut run = Run::start(plan, adapter, checkpoints, schedule.steps_total, ctx)?;
    let mut ws = Workspace::new();
    let mut grads = run.adapter.params.zeros_like();
    while run.step < run.steps_total {
        let order = data::epoch_order(examples, run.ctx.seed, run.step / steps_epoch);
        let first = run.step % steps_epoch * plan.batch;
        let batch = &order[first..examples.min(first + plan.batch)];
        let mut figures = run.gradient(objective, batch, &mut ws, &mut grads)?;
        let norm = clip_global_norm(&mut grads, plan.gradient_norm_max);
        let rate = schedule.rate(run.step);
        let stepped = run.adam.step(&mut run.adapter.params, &grads, rate);
        stepped.map_err(|e| run.checkpoints.blame(run.step, e))?;
        let tokens = batch.iter().map(|&i| objective.sizes()[i] as f64).sum();
        figures.extend([("lr".to_owned(), rate), ("grad_norm".to_owned(), norm), ("tokens".to_owned(), tokens)]);
        run.clock.add(tokens);
        run.done(figures)?;
        if run.step.is_multiple_of(steps_epoch) {
            let held_out = objective.held_out(run.adapter, &mut ws)?;
            run.evaluated(held_out)?;
        }
        if run.step.is_multiple_of(plan.checkpoint_steps) || run.step == run.steps_total {
            run.save()?;
        }
    }
    run.take_best()?;
    Ok(run.metrics)
}

impl<'r, 'c> Run<'r, 'c> {
    fn start(
        plan: &'r Plan,
        adapter: &'r mut Adapter,
        mut checkpoints: Checkpoints,
        steps_total: usize,
        ctx: &'r mut Context<'c>,
    ) -> Result<Self, LearnError> {
        let mut adam = AdamW::new(&adapter.params, plan.weight_decay);
        let (mut step, mut seconds, mut metrics, mut best) = (0, 0.0, BTreeMap::new(), None::<Best>);
        if !ctx.resume {
            checkpoints.clear()?;
        } else if let Some(last) = checkpoints.load_last::<State>()? {
            last.restore("adapter", &mut adapter.params)?;
            last.restore("adam_m", &mut adam.first_moment)?;
            last.restore("adam_v", &mut adam.second_moment)?;
            let state = last.state;
            (step, seconds, adam.step) = (last.step, state.wall_seconds, state.adam_step);
            // A best one that was removed (it gave numbers that aren't finite) is none.
            (metrics, best) = (state.metrics, state.best.filter(|b| checkpoints.has(b.step)));
            best.iter().for_each(|b| checkpoints.keep_best(b.step));
        }
        let log = MetricsLog::open(ctx.run_dir, step)?;
        let clock = Clock::new(step, seconds);
        let saved = (step > 0).then_some(step);
        Ok(Self { plan, ctx, checkpoints, adapter, adam, log, clock, step, steps_total, saved, metrics, best })
    }

    /// Fills `grads` with the gradient of the batch's mean loss; answers its figures. Asked to stop, it leaves a checkpoint of
    /// the last whole step.
    fn gradient(
        &mut self,
        objective: &dyn Objective,
        batch: &[usize],
        ws: &mut Workspace,
        grads: &mut Params,
    ) -> Result<BTreeMap<String, f64>, LearnError> {
        grads.fill(0.0);
        let mut figures: BTreeMap<String, f64> = BTreeMap::new();
        for micro in data::micro_batches(batch, objective.sizes(), self.plan.micro_batch_tokens) {
            if self.ctx.stopped() {
                self.save()?;
                return Err(LearnError::Stopped);
            }
            let step = Step { number: self.step, batch };
            let shares = objective.micro_batch(self.adapter, &micro, step, ws, grads)?;
            shares.into_iter().for_each(|(name, share)| *figures.entry(name.to_owned()).or_default() += share);
        }
        match figures.get(LOSS) {
            Some(loss) if !loss.is_finite() => {
                let what = format!("the loss of step {} ({loss})", self.step + 1);
                Err(self.checkpoints.blame(self.step, LearnError::NonFinite { what }))
            }
            _ => Ok(figures),
        }
    }

    fn done(&mut self, figures: BTreeMap<String, f64>) -> Result<(), LearnError> {
        self.step += 1;
        self.log_line("train", figures.clone())?;
        self.metrics.extend(figures);
        self.progress("train");
        Ok(())
    }

    fn evaluated(&mut self, figures: BTreeMap<String, f64>) -> Result<(), LearnError> {
        if !figures.is_empty() {
            self.log_line("evaluate", figures.clone())?;
            self.metrics.extend(figures.clone());
            self.progress("evaluate");
        }
        match figures.get(CHOOSES).filter(|score| score.is_finite()) {
            Some(&score) if self.best.as_ref().is_none_or(|b| score > b.score) => {
                self.best = Some(Best { step: self.step, score, figures });
                self.checkpoints.keep_best(self.step);
                self.save()
            }
            _ => Ok(()),
        }
    }

    /// Goes back to the best adapter, where one was chosen.
    fn take_best(&mut self) -> Result<(), LearnError> {
        let Some(best) = &self.best else { return Ok(()) };
        if best.step != self.step {
            self.checkpoints.load::<State>(best.step)?.restore("adapter", &mut self.adapter.params)?;
        }
        self.metrics.extend(best.figures.clone());
        self.metrics.insert("evaluate/best_step".to_owned(), best.step as f64);
        Ok(())
    }

    fn log_line(&mut self, phase: &str, metrics: BTreeMap<String, f64>) -> Result<(), LearnError> {
        let wall_seconds = self.clock.wall_seconds();
        self.log.append(&MetricsLine { step: self.step, phase: phase.to_owned(), wall_seconds, metrics })
    }

    fn progress(&mut self, phase: &str) {
        (self.ctx.report)(&Progress {
            phase: phase.to_owned(),
            step: self.step,
            steps_total: self.steps_total,
            rate: self.clock.rate(),
            rate_unit: "tokens/s",
            seconds_left: self.clock.seconds_left(self.step, self.steps_total),
            metrics: self.metrics.clone(),
        });
    }

    fn save(&mut self) -> Result<(), LearnError> {
        if self.saved == Some(self.step) {
            return Ok(());
        }
        let state = State {
            wall_seconds: self.clock.wall_seconds(),
            adam_step: self.adam.step,
            metrics: self.metrics.clone(),
            best: self.best.clone(),
        };
        let moments = (&self.adam.first_moment, &self.adam.second_moment);
        let tensors = [("adapter", &self.adapter.params), ("adam_m", moments.0), ("adam_v", moments.1)];
        self.checkpoints.save(self.step, &state, &tensors)?;
        self.saved = Some(self.step);
        Ok(())
    }
}

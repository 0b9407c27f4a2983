//! One run of PPO or RLOO, iteration by iteration: draw prompts, answer, judge, learn, adapt the coefficient, report, keep.

use super::monitor::Warned;
use super::ptx::Ptx;
use super::roles::{Roles, load_roles};
use super::rollout::{self, Episode};
use super::scale::Scale;
use super::state::{Keeper, State};
use super::update::{Rates, Update};
use super::{PpoInputs, ema, kl, monitor};
use crate::LearnError;
use crate::checkpoint::{Checkpoints, Loaded};
use crate::metrics::{MetricsLine, MetricsLog};
use crate::model::Workspace;
use crate::params::Params;
use crate::schedule::Schedule;
use crate::train::data::draw;
use crate::train::{Algorithm, Clock, Context, KlEstimator, PpoConfig, Progress, identity};
use hone_domain::DataSet;
use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::time::Instant;

const POLICY: [&str; 3] = ["policy", "policy_m", "policy_v"];
const VALUE: [&str; 3] = ["value", "value_m", "value_v"];
const AVERAGE: &str = "average";

pub(super) struct Run<'r, 'c> {
    pub(super) config: &'r PpoConfig,
    pub(super) ctx: &'r mut Context<'c>,
    checkpoints: Checkpoints,
    keeper: Keeper,
    pub(super) roles: Roles<'c>,
    prompts: Vec<Vec<u32>>,
    ptx: Option<Ptx>,
    /// The moving average of the policy, where it is on.
    average: Option<Params>,
    log: MetricsLog,
    pub(super) clock: Clock,
    pub(super) state: State,
    pub(super) iteration: usize,
    pub(super) iterations: usize,
    /// The iteration of the newest checkpoint.
    saved: Option<usize>,
    warned: Warned,
}

impl<'r, 'c> Run<'r, 'c> {
    pub(super) fn start(
        config: &'r PpoConfig,
        data: &DataSet,
        inputs: &PpoInputs,
        prompts: Vec<Vec<u32>>,
        ctx: &'r mut Context<'c>,
    ) -> Result<Self, LearnError> {
        let init = [inputs.policy.as_deref(), inputs.reference.as_deref(), Some(inputs.reward.as_path())];
        let ptx = Ptx::load(config, &data.demonstrations, ctx)?;
        let mut identity = identity("ppo", config, data, &init, ctx)?;
        identity.data.extend(ptx.iter().map(|text| format!(" and text {}", text.sha256)));
        let keeper = Keeper::new(ctx.run_dir, identity.clone());
        let checkpoints = Checkpoints::new(ctx.run_dir, identity);
        let roles = load_roles(config, inputs, ctx)?;
        let average = (config.ema_decay > 0.0).then(|| roles.policy.adapter.params.clone());
        let last = if ctx.resume { checkpoints.load_last::<State>()? } else { None };
        if !ctx.resume {
            checkpoints.clear()?;
            keeper.clear()?;
        }
        let iteration = last.as_ref().map_or(0, |last| last.step);
        let log = MetricsLog::open(ctx.run_dir, iteration)?;
        let clock = Clock::new(iteration, last.as_ref().map_or(0.0, |last| last.state.wall_seconds));
        let iterations = config.total_episodes.div_ceil(config.batch_episodes);
        let (state, saved) = (State::new(config, ctx.seed), None);
        let mut run = Self {
            config,
            ctx,
            checkpoints,
            keeper,
            roles,
            prompts,
            ptx,
            average,
            log,
            clock,
            state,
            iteration,
            iterations,
            saved,
            warned: Warned::default(),
        };
        last.into_iter().try_for_each(|last| run.restore(last))?;
        Ok(run)
    }

    fn restore(&mut self, last: Loaded<State>) -> Result<(), LearnError> {
        self.roles.policy.restore(POLICY, last.state.policy_adam_step, &last)?;
        if let Some(value) = &mut self.roles.value {
            value.restore(VALUE, last.state.value_adam_step, &last)?;
        }
        self.average.iter_mut().try_for_each(|average| last.restore(AVERAGE, average))?;
        self.roles.set_scale(last.state.scale);
        self.saved = Some(last.step);
        self.state = last.state;
        Ok(())
    }

    /// What a new run does before its first iteration: finds where a reward of 0 lies, and keeps that.
    pub(super) fn prepare(&mut self, ws: &mut Workspace) -> Result<(), LearnError> {
        if self.saved.is_some() {
            return Ok(());
        }
        self.enter("rollout")?;
        let asked = draw(self.prompts.len(), self.ctx.seed, &mut 0, self.config.reference_answers);
        let asked: Vec<Vec<u32>> = asked.into_iter().map(|i| self.prompts[i].clone()).collect();
        let scale = Scale::measure(&self.roles, self.config, &asked, self.ctx.seed, ws)?;
        self.roles.scale_value(1.0 / scale.std);
        self.roles.set_scale(scale);
        self.state.scale = scale;
        self.save()
    }

    /// One iteration: draw, answer, judge, learn, adapt the coefficient.
    pub(super) fn iterate(&mut self, ws: &mut Workspace) -> Result<(), LearnError> {
        let (mut episodes, (rollout_seconds, score_seconds)) = self.experience(ws)?;
        self.enter("update")?;
        let (config, rates, begun) = (self.config, self.rates(), Instant::now());
        let mut figures = self.watch(&episodes)?;
        let ctx = &*self.ctx;
        let between = || if ctx.stopped() { Err(LearnError::Stopped) } else { Ok(()) };
        let update = Update { config, rates, ptx: self.ptx.as_ref(), seed: ctx.seed, between: &between };
        if self.iteration == 0 {
            update.warm_value_up(&mut self.roles, &mut episodes, &mut self.state, ws)?;
        }
        figures.extend(update.run(&mut self.roles, &episodes, &mut self.state, ws)?);
        if let Some(average) = &mut self.average {
            ema::follow(average, &self.roles.policy.adapter.params, config.ema_decay);
        }
        self.adapt(&figures);
        let named = [
            ("lr", rates.policy),
            ("episode", ((self.iteration + 1) * config.batch_episodes) as f64),
            ("seconds/rollout", rollout_seconds),
            ("seconds/score", score_seconds),
            ("seconds/update", begun.elapsed().as_secs_f64()),
        ];
        figures.extend(named.map(|(name, x)| (name.to_owned(), x)));
        self.done(figures)
    }

    /// Answers to the next prompts, judged, with each token's credit; and the seconds that answering and judging took. Kept on disk
    /// beside the checkpoint that they follow, and taken from there by a run that was killed while it learned from them.
    fn experience(&mut self, ws: &mut Workspace) -> Result<(Vec<Episode>, (f64, f64)), LearnError> {
        if let Some(mut kept) = self.keeper.kept(self.iteration).filter(|_| self.saved == Some(self.iteration)) {
            let sequences = kept.episodes.iter_mut().map(|e| &mut e.sequence).collect();
            self.roles.bring_trunks(self.config, sequences, ws)?;
            (self.state.rng, self.state.prompts_drawn) = (kept.rng, kept.prompts_drawn);
            return Ok((kept.episodes, kept.seconds));
        }
        self.enter("rollout")?;
        let begun = Instant::now();
        let prompts = self.draw_prompts();
        let policy = Some(&self.roles.policy.adapter);
        let answers = rollout::answers(&self.roles, policy, self.config, &prompts, &mut self.state.rng);
        let answers = answers.map_err(|e| self.checkpoints.blame(self.iteration, e))?;
        let rolled_out = begun.elapsed();
        self.enter("score")?;
        let mut episodes = rollout::judge(&self.roles, self.config, answers, ws)?;
        rollout::check_finite(&episodes).map_err(|e| self.checkpoints.blame(self.iteration, e))?;
        rollout::credit(self.config, self.state.kl_coef, &mut episodes);
        let seconds = (rolled_out.as_secs_f64(), (begun.elapsed() - rolled_out).as_secs_f64());
        if self.saved == Some(self.iteration) {
            self.keeper.keep(self.iteration, &self.state, &episodes, seconds)?;
        }
        Ok((episodes, seconds))
    }

    /// The figures of what was drawn, the warnings, and the best policy: the one that has just answered, if no one did better.
    fn watch(&mut self, episodes: &[Episode]) -> Result<BTreeMap<String, f64>, LearnError> {
        let mut figures = monitor::figures(self.config, episodes, self.state.kl_coef);
        let of = |name: &str| figures.get(name).copied().unwrap_or_default();
        let (reward, tokens) = (of("objective/rlhf_reward"), of("response_tokens"));
        let first = *self.state.first_response_tokens.get_or_insert(tokens);
        figures.extend(monitor::warnings(self.config, &figures, first));
        for sentence in monitor::sentences(self.config, &figures, &mut self.warned) {
            tracing::warn!("{sentence}");
        }
        if self.state.best.is_none_or(|(_, best)| reward > best) {
            self.roles.policy.adapter.save(&self.keeper.best_dir(), self.ctx.base_name)?;
            self.state.best = Some((self.iteration + 1, reward));
        }
        Ok(figures)
    }

    /// The next iteration's KL coefficient, and whether there is one.
    fn adapt(&mut self, figures: &BTreeMap<String, f64>) {
        let of = |name: &str| figures.get(name).copied().unwrap_or_default();
        let charged = match self.config.kl_estimator {
            KlEstimator::K1 => of("objective/kl"),
            KlEstimator::K3 => of("objective/kl_k3"),
        };
        self.state.kl_coef =
            kl::next_coef(self.state.kl_coef, charged, self.config.kl_target_nats, self.config.kl_gain);
        self.state.halted = self.config.kl_stop_nats.is_some_and(|most| of("objective/kl") > most);
    }

    fn rates(&self) -> Rates {
        let schedule = |peak| Schedule {
            peak,
            floor: self.config.learning_rate_floor,
            warmup_steps: self.config.warmup_iterations,
            steps_total: self.iterations,
            decay: self.config.decay,
        };
        let rate = |peak| schedule(peak).rate(self.iteration);
        Rates { policy: rate(self.config.learning_rate), value: rate(self.config.value_learning_rate) }
    }

    /// The next prompts; RLOO asks each several times.
    fn draw_prompts(&mut self) -> Vec<Vec<u32>> {
        let each = match self.config.algorithm {
            Algorithm::Ppo => 1,
            Algorithm::Rloo => self.config.rloo_answers,
        };
        let count = self.config.batch_episodes / each;
        let drawn = draw(self.prompts.len(), self.ctx.seed, &mut self.state.prompts_drawn, count);
        drawn.into_iter().flat_map(|i| repeat_n(self.prompts[i].clone(), each)).collect()
    }

    /// Reports a phase, unless the run was asked to stop: then the iteration is given up, the last checkpoint stands.
    fn enter(&mut self, phase: &str) -> Result<(), LearnError> {
        self.progress(phase);
        if self.ctx.stopped() { Err(LearnError::Stopped) } else { Ok(()) }
    }

    fn done(&mut self, figures: BTreeMap<String, f64>) -> Result<(), LearnError> {
        self.iteration += 1;
        self.clock.add(self.config.batch_episodes as f64);
        let line = MetricsLine {
            step: self.iteration,
            phase: "train".to_owned(),
            wall_seconds: self.clock.wall_seconds(),
            metrics: figures.clone(),
        };
        self.log.append(&line)?;
        self.state.metrics = figures;
        self.progress("update");
        Ok(())
    }

    fn progress(&mut self, phase: &str) {
        (self.ctx.report)(&Progress {
            phase: phase.to_owned(),
            step: self.iteration,
            steps_total: self.iterations,
            rate: self.clock.rate(),
            rate_unit: "episodes/s",
            seconds_left: self.clock.seconds_left(self.iteration, self.iterations),
            metrics: self.state.metrics.clone(),
        });
    }

    /// Writes a checkpoint, unless this iteration has one.
    pub(super) fn save(&mut self) -> Result<(), LearnError> {
        if self.saved == Some(self.iteration) {
            return Ok(());
        }
        let Roles { policy, value, .. } = &self.roles;
        self.state.wall_seconds = self.clock.wall_seconds();
        self.state.policy_adam_step = policy.adam.step;
        self.state.value_adam_step = value.as_ref().map_or(0, |v| v.adam.step);
        let mut tensors = policy.tensors(POLICY).to_vec();
        tensors.extend(value.iter().flat_map(|v| v.tensors(VALUE)));
        tensors.extend(self.average.iter().map(|average| (AVERAGE, average)));
        self.checkpoints.save(self.iteration, &self.state, &tensors)?;
        self.saved = Some(self.iteration);
        Ok(())
    }

    /// The adapter that the run leaves behind: the policy, or its moving average.
    pub(super) fn result(self) -> (crate::Adapter, State) {
        let mut adapter = self.roles.policy.adapter;
        adapter.params = self.average.unwrap_or(adapter.params);
        (adapter, self.state)
    }
}

//! One run of PPO, iteration by iteration: draw prompts, answer, judge, learn, adapt the coefficient, report.

use super::roles::{Roles, load_roles};
use super::state::State;
use super::update::Rates;
use super::{PpoInputs, kl, rollout, update};
use crate::LearnError;
use crate::checkpoint::Checkpoints;
use crate::metrics::{MetricsLine, MetricsLog};
use crate::model::Workspace;
use crate::schedule::Schedule;
use crate::train::data::epoch_order;
use crate::train::{Clock, Context, PpoConfig, Progress, identity};
use hone_domain::DataSet;
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) struct Run<'r, 'c> {
    pub(super) config: &'r PpoConfig,
    pub(super) ctx: &'r mut Context<'c>,
    pub(super) checkpoints: Checkpoints,
    pub(super) roles: Roles<'c>,
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) log: MetricsLog,
    pub(super) clock: Clock,
    pub(super) state: State,
    pub(super) iteration: usize,
    pub(super) iterations: usize,
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
        let checkpoints = Checkpoints::new(ctx.run_dir, identity("ppo", config, data, &init, ctx)?);
        let mut roles = load_roles(config, inputs, ctx)?;
        let mut state = State::new(config, ctx.seed);
        let mut iteration = 0;
        if !ctx.resume {
            checkpoints.clear()?;
        } else if let Some(last) = checkpoints.load_last::<State>()? {
            let (policy, value) = (&mut roles.policy, &mut roles.value);
            policy.restore("policy", last.state.policy_adam_step, &last)?;
            value.restore("value", last.state.value_adam_step, &last)?;
            (iteration, state) = (last.step, last.state);
        }
        let log = MetricsLog::open(ctx.run_dir, iteration)?;
        let clock = Clock::new(iteration, state.wall_seconds);
        let iterations = config.total_episodes.div_ceil(config.batch_episodes);
        Ok(Self { config, ctx, checkpoints, roles, prompts, log, clock, state, iteration, iterations })
    }

    /// One iteration: draw, answer, judge, learn, adapt the coefficient.
    pub(super) fn iterate(&mut self, ws: &mut Workspace) -> Result<(), LearnError> {
        let (config, rates, begun) = (self.config, self.rates(), Instant::now());
        let prompts = self.draw_prompts();
        self.enter("rollout")?;
        let answers = rollout::answers(&self.roles, config, &prompts, &mut self.state.rng);
        let answers = answers.map_err(|e| self.checkpoints.blame(self.iteration, e))?;
        let rolled_out = begun.elapsed();
        self.enter("score")?;
        let episodes = rollout::judge(&self.roles, config, answers, self.state.kl_coef, ws)?;
        rollout::check_finite(&episodes).map_err(|e| self.checkpoints.blame(self.iteration, e))?;
        let scored = begun.elapsed();
        self.enter("update")?;
        let mut figures = rollout::figures(&episodes, self.state.kl_coef);
        let ctx = &*self.ctx;
        let mut between = || if ctx.stopped() { Err(LearnError::Stopped) } else { Ok(()) };
        let rng = &mut self.state.rng;
        figures.extend(update::update(&mut self.roles, config, &episodes, rates, rng, ws, &mut between)?);
        let updated = begun.elapsed();
        let kl = figures.get("objective/kl").copied().unwrap_or_default();
        self.state.kl_coef = kl::next_coef(self.state.kl_coef, kl, config.kl_target_nats, config.kl_gain);
        self.state.halted = config.kl_stop_nats.is_some_and(|most| kl > most);
        let named = [
            ("lr", rates.policy),
            ("episode", ((self.iteration + 1) * config.batch_episodes) as f64),
            ("seconds/rollout", rolled_out.as_secs_f64()),
            ("seconds/score", (scored - rolled_out).as_secs_f64()),
            ("seconds/update", (updated - scored).as_secs_f64()),
        ];
        figures.extend(named.map(|(name, x)| (name.to_owned(), x)));
        self.done(figures)
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

    /// The next prompts: pass after pass over all of them, each in its own seeded order.
    fn draw_prompts(&mut self) -> Vec<Vec<u32>> {
        let n = self.prompts.len();
        let mut order = (usize::MAX, Vec::new());
        let mut drawn = Vec::with_capacity(self.config.batch_episodes);
        for _ in 0..self.config.batch_episodes {
            let (pass, place) = (self.state.prompts_drawn / n, self.state.prompts_drawn % n);
            if order.0 != pass {
                order = (pass, epoch_order(n, self.ctx.seed, pass));
            }
            drawn.push(self.prompts[order.1[place]].clone());
            self.state.prompts_drawn += 1;
        }
        drawn
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

    pub(super) fn save(&mut self) -> Result<(), LearnError> {
        let Roles { policy, value, .. } = &self.roles;
        self.state.wall_seconds = self.clock.wall_seconds();
        self.state.policy_adam_step = policy.adam.step;
        self.state.value_adam_step = value.adam.step;
        let tensors = [
            ("policy", &policy.adapter.params),
            ("policy_m", &policy.adam.first_moment),
            ("policy_v", &policy.adam.second_moment),
            ("value", &value.adapter.params),
            ("value_m", &value.adam.first_moment),
            ("value_v", &value.adam.second_moment),
        ];
        self.checkpoints.save(self.iteration, &self.state, &tensors)
    }
}

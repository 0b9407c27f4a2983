//! PPO (Schulman et al. 2017; Ouyang et al. 2022, section 3.5): answers are drawn, scored and learned from, iteration by iteration.
//! Policy, reference, value function and reward model are adapters on one frozen base. `ppo/rollout` is the experience, `ppo/update`
//! the learning, `ppo/kl` the coefficient.

mod kl;
mod rollout;
mod update;

use super::data::{Encoder, Limits, Misfits, epoch_order};
use super::roles::RewardModel;
use super::{Clock, Context, Outcome, PpoConfig, Progress, finish, fresh_adapter, identity, lora};
use crate::LearnError;
use crate::checkpoint::{Checkpoints, Loaded};
use crate::lora::{Adapter, SCORE_WEIGHT};
use crate::metrics::{MetricsLine, MetricsLog};
use crate::model::{Base, Workspace};
use crate::optim::AdamW;
use crate::params::Params;
use crate::schedule::Schedule;
use hone_domain::{DataSet, PromptItem};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use update::Rates;

/// The adapters that a run starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PpoInputs {
    /// The policy's start: the SFT adapter, or in later rounds the champion's. `None`: a fresh adapter on the base.
    pub policy: Option<PathBuf>,
    /// The reference that KL is measured to: usually the SFT adapter. `None`: the bare base.
    pub reference: Option<PathBuf>,
    /// The reward model's artifact; the value function starts from it too.
    pub reward: PathBuf,
}

/// An adapter that learns.
struct Learner {
    adapter: Adapter,
    adam: AdamW,
    grads: Params,
}

impl Learner {
    fn new(adapter: Adapter) -> Self {
        Self { adam: AdamW::new(&adapter.params, 0.0), grads: adapter.params.zeros_like(), adapter }
    }
}

/// The four roles on one base.
struct Roles<'a> {
    base: &'a Base,
    eos_ids: &'a [u32],
    policy: Learner,
    value: Learner,
    /// V = score head + this: the reward's normalisation, so that the value function starts in units of reward.
    value_offset: f64,
    reference: Option<Adapter>,
    reward: RewardModel,
}

/// What a checkpoint holds beside the tensors. Checkpoints lie between iterations, so no rollout is under way.
#[derive(Serialize, Deserialize)]
struct State {
    wall_seconds: f64,
    rng: ChaCha8Rng,
    /// Prompts drawn so far: the data cursor.
    prompts_drawn: usize,
    kl_coef: f64,
    policy_adam_step: u64,
    value_adam_step: u64,
    /// KL went past `kl_stop_nats`: there is nothing left to do.
    halted: bool,
    metrics: BTreeMap<String, f64>,
}

struct Run<'r, 'c> {
    config: &'r PpoConfig,
    ctx: &'r mut Context<'c>,
    checkpoints: Checkpoints,
    roles: Roles<'c>,
    prompts: Vec<Vec<u32>>,
    log: MetricsLog,
    clock: Clock,
    state: State,
    iteration: usize,
    iterations: usize,
}

/// Trains the policy; leaves its adapter in `run_dir/artifact`.
///
/// # Errors
/// No prompt that fits, settings out of range, adapters of another base, a loss that isn't finite, a checkpoint of another run, a
/// stop, a full disk.
pub fn train(
    config: &PpoConfig,
    data: &DataSet,
    inputs: &PpoInputs,
    ctx: &mut Context<'_>,
) -> Result<Outcome, LearnError> {
    config.check()?;
    let (prompts, misfits) = encode(config, &data.prompts, ctx)?;
    let mut run = Run::start(config, data, inputs, prompts, ctx)?;
    let mut ws = Workspace::new();
    while run.iteration < run.iterations && !run.state.halted {
        if run.ctx.stopped() {
            run.save()?;
            return Err(LearnError::Stopped);
        }
        run.iterate(&mut ws)?;
        if run.iteration.is_multiple_of(config.checkpoint_iterations) || run.iteration == run.iterations {
            run.save()?;
        }
    }
    let mut metrics = run.state.metrics;
    metrics.extend(misfits.report());
    finish(&run.roles.policy.adapter, run.ctx, metrics, |_| Ok(()))
}

fn encode(config: &PpoConfig, items: &[PromptItem], ctx: &Context<'_>) -> Result<(Vec<Vec<u32>>, Misfits), LearnError> {
    let context = ctx.base.config().context;
    let Some(room) = context.checked_sub(config.max_new_tokens).filter(|&r| r > 0) else {
        let reason = format!("must be below the model's context of {context}");
        return Err(LearnError::BadConfig { name: "max_new_tokens".into(), reason });
    };
    let limits =
        Limits { prompt_tokens: config.prompt_tokens_max.min(room), answer_tokens: config.max_new_tokens, context };
    let mut encoder = Encoder::new(ctx.tokenizer, limits);
    let mut prompts = Vec::new();
    for item in items {
        prompts.extend(encoder.prompt(&item.messages)?);
    }
    if prompts.is_empty() {
        let why = if items.is_empty() { "no prompts" } else { "no prompt within `prompt_tokens_max`" };
        let reason = format!("{why}: chat a little, or import some with `hone data import`");
        return Err(LearnError::BadData { reason });
    }
    Ok((prompts, encoder.misfits))
}

/// The value function starts as the reward model (Ouyang et al. 2022), rescaled to the rewards that PPO sees.
fn value_from(reward: &RewardModel) -> (Adapter, f64) {
    let mut adapter = reward.adapter.clone();
    let scale = (1.0 / reward.normalisation.std) as f32;
    if let Some(head) = adapter.params.get_mut(SCORE_WEIGHT) {
        head.data.iter_mut().for_each(|w| *w *= scale);
    }
    (adapter, reward.normalisation.apply(0.0))
}

/// The policy's adapter without a scalar head, which a policy has no use for.
fn policy_from(config: &PpoConfig, inputs: &PpoInputs, ctx: &Context<'_>) -> Result<Adapter, LearnError> {
    match &inputs.policy {
        Some(dir) => Adapter::load(dir, ctx.base.config()),
        None => fresh_adapter(
            ctx,
            lora(config.lora_r, config.lora_alpha, &config.lora_targets, config.lora_first_layer),
            false,
        ),
    }
}

/// Reads the adapters of all roles.
fn load_roles<'a>(config: &PpoConfig, inputs: &PpoInputs, ctx: &Context<'a>) -> Result<Roles<'a>, LearnError> {
    let reward = RewardModel::load(&inputs.reward, ctx.base)?;
    let (value, value_offset) = value_from(&reward);
    let reference = inputs.reference.as_deref().map(|d| Adapter::load(d, ctx.base.config())).transpose()?;
    let policy = Learner::new(policy_from(config, inputs, ctx)?);
    let (base, eos_ids) = (ctx.base, ctx.tokenizer.eos_ids());
    Ok(Roles { base, eos_ids, policy, value: Learner::new(value), value_offset, reference, reward })
}

impl<'r, 'c> Run<'r, 'c> {
    fn start(
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
    fn iterate(&mut self, ws: &mut Workspace) -> Result<(), LearnError> {
        let (config, rates, begun) = (self.config, self.rates(), Instant::now());
        let prompts = self.draw_prompts();
        self.enter("rollout")?;
        let answers = rollout::answers(&self.roles, config, &prompts, &mut self.state.rng)?;
        let rolled_out = begun.elapsed();
        self.enter("score")?;
        let episodes = rollout::judge(&self.roles, config, answers, self.state.kl_coef, ws)?;
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

    fn save(&mut self) -> Result<(), LearnError> {
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

impl Learner {
    fn restore(&mut self, name: &str, adam_step: u64, last: &Loaded<State>) -> Result<(), LearnError> {
        last.restore(name, &mut self.adapter.params)?;
        last.restore(&format!("{name}_m"), &mut self.adam.first_moment)?;
        last.restore(&format!("{name}_v"), &mut self.adam.second_moment)?;
        self.adam.step = adam_step;
        Ok(())
    }
}

impl State {
    fn new(config: &PpoConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX); // apart from the streams of weights and data orders
        Self {
            wall_seconds: 0.0,
            rng,
            prompts_drawn: 0,
            kl_coef: config.kl_coef,
            policy_adam_step: 0,
            value_adam_step: 0,
            halted: false,
            metrics: BTreeMap::new(),
        }
    }
}

//! PPO (Schulman et al. 2017; Ouyang et al. 2022, section 3.5): answers are drawn, scored and learned from, iteration by iteration.
//! Policy, reference, value function and reward model are adapters on one frozen base. `ppo/run` is the loop; `ppo/rollout` the
//! experience; `ppo/update`, `ppo/share` and `ppo/ptx` the learning; `ppo/kl`, `ppo/scale` and `ppo/ema` one detail of the recipe each;
//! `ppo/monitor` what is watched; `ppo/state` what is kept; `ppo/baselines` what a run is held against. RLOO shares all of it.

mod baselines;
mod ema;
#[cfg(test)]
mod golden;
mod kl;
mod monitor;
mod ptx;
mod roles;
mod rollout;
mod run;
mod scale;
mod share;
mod state;
mod update;

pub use baselines::{BASELINES, Contender};

use super::data::{Encoder, Limits, Misfits};
use super::{Context, Outcome, PpoConfig, finish};
use crate::LearnError;
use crate::model::Workspace;
use hone_domain::{DataSet, PromptItem};
use run::Run;
use scale::Scale;
use std::path::PathBuf;

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

/// Trains the policy; leaves its adapter in `run_dir/artifact`. With `baselines` on, it then trains RLOO with the same budget, draws
/// best-of-n, and leaves their comparison in `run_dir/baselines.json` ([`Contender`]).
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
    let compared = config.baselines.then(|| baselines::held_out(config, data, ctx)).transpose()?;
    let mut trained = train_policy(config, data, inputs, ctx)?;
    if let Some(prompts) = compared {
        let all = baselines::compare(config, data, inputs, &prompts, &trained, ctx)?;
        trained.outcome.metrics.extend(baselines::figures(&all));
    }
    Ok(trained.outcome)
}

/// A trained policy, and what a comparison needs to know of its training.
struct Trained {
    outcome: Outcome,
    wall_seconds: f64,
    episodes: usize,
    scale: Scale,
}

fn train_policy(
    config: &PpoConfig,
    data: &DataSet,
    inputs: &PpoInputs,
    ctx: &mut Context<'_>,
) -> Result<Trained, LearnError> {
    let (prompts, misfits) = encode(config, &data.prompts, ctx)?;
    let mut run = Run::start(config, data, inputs, prompts, ctx)?;
    let mut ws = Workspace::new();
    run.prepare(&mut ws)?;
    while run.iteration < run.iterations && !run.state.halted {
        if run.ctx.stopped() {
            run.save()?;
            return Err(LearnError::Stopped);
        }
        run.iterate(&mut ws)?;
        let is_last = run.iteration == run.iterations || run.state.halted;
        if run.iteration.is_multiple_of(config.checkpoint_iterations) || is_last {
            run.save()?;
        }
    }
    let (adapter, state) = run.result();
    let mut metrics = state.metrics;
    metrics.extend(misfits.report());
    if let Some((iteration, reward)) = state.best {
        metrics.insert("best/iteration".to_owned(), iteration as f64);
        metrics.insert("best/rlhf_reward".to_owned(), reward);
    }
    let episodes = metrics.get("episode").map_or(0, |&episodes| episodes as usize);
    let outcome = finish(&adapter, ctx, metrics, |_| Ok(()))?;
    Ok(Trained { outcome, wall_seconds: state.wall_seconds, episodes, scale: state.scale })
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

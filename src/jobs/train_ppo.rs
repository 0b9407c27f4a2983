//! Trains the policy against the reward model.

use super::JobError;
use super::inputs::Inputs;
use super::task::Task;
use hone_learn::train::ppo::PpoInputs;
use hone_learn::train::{Context, Outcome, ppo};

pub(super) fn train_ppo(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    let Inputs { init, reference, reward, .. } = task.inputs;
    let reward = reward.ok_or_else(|| JobError::Invalid(format!("run {} names no reward model", task.run.id)))?;
    let inputs = PpoInputs { policy: init, reference, reward };
    Ok(ppo::train(&config, &task.data, &inputs, context)?)
}

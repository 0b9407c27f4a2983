//! Trains the reward model on rankings.

use super::JobError;
use super::task::Task;
use hone_learn::train::{Context, Outcome, reward};

pub(super) fn train_reward(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    Ok(reward::train(&config, &task.data, task.inputs.init.as_deref(), context)?)
}

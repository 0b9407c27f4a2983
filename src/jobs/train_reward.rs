//! Trains the reward model on rankings.

use super::JobError;
use super::execute_run::{Task, settings};
use hone_learn::train::{Context, Outcome, reward};

pub(super) fn train_reward(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = settings(task.settings)?;
    Ok(reward::train(&config, &task.data, task.inputs.init.as_deref(), context)?)
}

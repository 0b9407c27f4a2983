//! Fine-tunes on demonstrations.

use super::JobError;
use super::inputs::Inputs;
use super::task::Task;
use hone_learn::train::{Context, Outcome, sft};

pub(super) fn train_sft(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    let Inputs { init, reward, .. } = &task.inputs;
    Ok(sft::train_judged(&config, &task.data, init.as_deref(), reward.as_deref(), context)?)
}

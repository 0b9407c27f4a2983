//! Fine-tunes on demonstrations.

use super::JobError;
use super::task::Task;
use hone_learn::train::{Context, Outcome, sft};

pub(super) fn train_sft(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    Ok(sft::train(&config, &task.data, task.inputs.init.as_deref(), context)?)
}

//! Trains the reward model on rankings; and the judge, on those that the reward model never sees.

use super::JobError;
use super::task::Task;
use hone_domain::DataSet;
use hone_learn::train::{Context, Outcome, reward};

/// Rankings that the judge's accuracy is measured on, the newest. Each costs a forward pass of its answers after every epoch.
const JUDGE_HELD_OUT_MAX: usize = 128;

pub(super) fn train_reward(task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    let config = task.settings()?;
    Ok(reward::train(&config, &task.data, task.inputs.init.as_deref(), context)?)
}

/// The same on the judge's rankings. What the reward model learns from is what the judge never sees, so each is the other's test.
pub(super) fn train_judge(mut task: Task<'_>, context: &mut Context<'_>) -> Result<Outcome, JobError> {
    task.data = judges(task.data);
    train_reward(task, context)
}

fn judges(data: DataSet) -> DataSet {
    let DataSet { mut rankings, judge_rankings, demonstrations, .. } = data;
    let held_out_rankings = rankings.split_off(rankings.len().saturating_sub(JUDGE_HELD_OUT_MAX));
    DataSet { rankings: judge_rankings, held_out_rankings, demonstrations, ..DataSet::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_domain::{Message, RankedPrompt, Ranking};

    #[test]
    fn each_reward_model_is_tested_on_what_the_other_learns_from() {
        let ranked = |n: usize| RankedPrompt {
            messages: vec![Message::user(format!("question {n}"))],
            candidates: vec!["a".into(), "b".into()],
            ranking: Ranking::from_ranks(&[0, 1]).expect("ranks"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: String::new(),
        };
        let (rankings, judge_rankings): (Vec<_>, Vec<_>) =
            ((0..200).map(ranked).collect(), (900..950).map(ranked).collect());
        let data = judges(DataSet {
            rankings: rankings.clone(),
            judge_rankings: judge_rankings.clone(),
            ..DataSet::default()
        });
        assert_eq!((data.rankings, data.held_out_rankings), (judge_rankings, rankings[72..].to_vec()));
    }
}

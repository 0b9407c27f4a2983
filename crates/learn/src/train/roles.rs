//! The forward passes that the trainers need, in micro-batches: log-probs and values of responses, scores of whole texts.
//! Every role is an adapter (or none) on the one frozen base.

use super::data::{Sequence, micro_batches};
pub(crate) use super::reward_model::RewardModel;
use crate::LearnError;
use crate::head;
use crate::lora::Adapter;
use crate::model::{Base, Batch, Keep, Workspace, forward};

/// The rows of a packed batch that predict response tokens: the row before each of them. For a value function the same rows are the
/// states in which those tokens were chosen.
///
/// # Shapes
/// Both (response tokens of all sequences), in sequence order.
pub(crate) fn response_rows(batch: &Batch, sequences: &[&Sequence]) -> (Vec<usize>, Vec<u32>) {
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (i, s) in sequences.iter().enumerate() {
        let first = batch.starts[i] + s.prompt_len;
        rows.extend(first - 1..first - 1 + s.response_len());
        targets.extend_from_slice(&s.tokens[s.prompt_len..]);
    }
    (rows, targets)
}

/// The last row of each sequence: where the reward is read.
pub(crate) fn last_rows(batch: &Batch) -> Vec<usize> {
    (0..batch.sequences()).map(|s| batch.range(s).end - 1).collect()
}

/// What a policy says of a response, token by token.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenLogprobs {
    /// log pi(token), nats.
    pub(crate) logprob: Vec<f64>,
    /// Entropy of the distribution it was drawn from, nats.
    pub(crate) entropy: Vec<f64>,
}

/// Groups sequences by the token budget, runs `work` on each group and puts its answers (one per member) in the sequences' order.
fn grouped<T: Default + Clone>(
    sequences: &[Sequence],
    budget: usize,
    mut work: impl FnMut(&Batch, &[&Sequence]) -> Result<Vec<T>, LearnError>,
) -> Result<Vec<T>, LearnError> {
    let sizes: Vec<usize> = sequences.iter().map(|s| s.tokens.len()).collect();
    let everyone: Vec<usize> = (0..sequences.len()).collect();
    let mut out = vec![T::default(); sequences.len()];
    for group in micro_batches(&everyone, &sizes, budget) {
        let members: Vec<&Sequence> = group.iter().map(|&i| &sequences[i]).collect();
        let answers = work(&Batch::pack(&members), &members)?;
        group.iter().zip(answers).for_each(|(&i, answer)| out[i] = answer);
    }
    Ok(out)
}

/// Cuts a list over all response tokens into one list per sequence.
pub(crate) fn per_sequence(all: &[f32], sequences: &[&Sequence]) -> Vec<Vec<f64>> {
    let mut rest = all.iter().map(|&x| f64::from(x));
    sequences.iter().map(|s| rest.by_ref().take(s.response_len()).collect()).collect()
}

/// Log-probs and entropies of the responses at `temperature`, under an adapter or the bare base.
pub(crate) fn logprobs(
    base: &Base,
    adapter: Option<&Adapter>,
    sequences: &[Sequence],
    temperature: f64,
    budget: usize,
    ws: &mut Workspace,
) -> Result<Vec<TokenLogprobs>, LearnError> {
    grouped(sequences, budget, |batch, members| {
        let hidden = forward(base, adapter, batch, Keep::Nothing, ws)?;
        let (rows, targets) = response_rows(batch, members);
        let all = head::selected_logprobs(base, &hidden, &rows, &targets, temperature as f32);
        ws.give(hidden);
        let (logprob, entropy) = (per_sequence(&all.logprob, members), per_sequence(&all.entropy, members));
        Ok(logprob.into_iter().zip(entropy).map(|(logprob, entropy)| TokenLogprobs { logprob, entropy }).collect())
    })
}

/// The scalar head of an adapter that must have one, or its several heads, `(heads, hidden)`.
pub(crate) fn head_weight(adapter: &Adapter) -> Result<&[f32], LearnError> {
    adapter.score_weight().ok_or_else(|| LearnError::BadAdapter {
        path: "score.weight".into(),
        reason: "the adapter has no scalar head, so it is no reward model: train one with `hone train reward`".into(),
    })
}

/// What a value function says of the state before each response token, without its offset.
pub(crate) fn values(
    base: &Base,
    adapter: &Adapter,
    sequences: &[Sequence],
    budget: usize,
    ws: &mut Workspace,
) -> Result<Vec<Vec<f64>>, LearnError> {
    let weight = head_weight(adapter)?;
    grouped(sequences, budget, |batch, members| {
        let hidden = forward(base, Some(adapter), batch, Keep::Nothing, ws)?;
        let (rows, _) = response_rows(batch, members);
        let scores = head::scores(&hidden, &rows, weight);
        ws.give(hidden);
        Ok(per_sequence(&scores, members))
    })
}

/// The raw scores of each sequence, read at its last token: `(sequences, heads)`.
pub(crate) fn head_scores(
    base: &Base,
    adapter: &Adapter,
    sequences: &[Sequence],
    budget: usize,
    ws: &mut Workspace,
) -> Result<Vec<Vec<f64>>, LearnError> {
    let weights = head_weight(adapter)?;
    grouped(sequences, budget, |batch, _| {
        let hidden = forward(base, Some(adapter), batch, Keep::Nothing, ws)?;
        let (rows, mut each) = (last_rows(batch), vec![Vec::new(); batch.sequences()]);
        for weight in weights.chunks_exact(base.config().hidden) {
            let scores = head::scores(&hidden, &rows, weight);
            each.iter_mut().zip(scores).for_each(|(all, score)| all.push(f64::from(score)));
        }
        ws.give(hidden);
        Ok(each)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_before_a_token_predicts_it() {
        let sequences = [Sequence::new(&[1, 2, 3], &[4, 5]), Sequence::new(&[6], &[7])];
        let members: Vec<&Sequence> = sequences.iter().collect();
        let batch = Batch::pack(&members);
        assert_eq!(response_rows(&batch, &members), (vec![2, 3, 5], vec![4, 5, 7]));
        assert_eq!(last_rows(&batch), [4, 6]);
        assert_eq!(per_sequence(&[0.5, 1.0, 2.0], &members), [vec![0.5, 1.0], vec![2.0]]);
    }
}

//! The forward passes that the trainers need, in micro-batches: log-probs and values of responses, scores of whole texts.
//! Every role is an adapter (or none) on the one frozen base.

use super::data::{Sequence, Trunk, micro_batches};
use super::packed::{Packed, response_tokens};
pub(crate) use super::reward_model::RewardModel;
use crate::LearnError;
use crate::head;
use crate::lora::Adapter;
use crate::model::{Base, Keep, Workspace, trunk};
use std::sync::Arc;

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
    mut work: impl FnMut(&Packed, &[&Sequence]) -> Result<Vec<T>, LearnError>,
) -> Result<Vec<T>, LearnError> {
    let sizes: Vec<usize> = sequences.iter().map(|s| s.tokens.len()).collect();
    let everyone: Vec<usize> = (0..sequences.len()).collect();
    let mut out = vec![T::default(); sequences.len()];
    for group in micro_batches(&everyone, &sizes, budget) {
        let members: Vec<&Sequence> = group.iter().map(|&i| &sequences[i]).collect();
        let answers = work(&Packed::new(&members), &members)?;
        group.iter().zip(answers).for_each(|(&i, answer)| out[i] = answer);
    }
    Ok(out)
}

/// Cuts a list over all response tokens into one list per sequence.
pub(crate) fn per_sequence(all: &[f32], sequences: &[&Sequence]) -> Vec<Vec<f64>> {
    let mut rest = all.iter().map(|&x| f64::from(x));
    sequences.iter().map(|s| rest.by_ref().take(s.response_len()).collect()).collect()
}

/// Gives each sequence what goes into `block` for it: computed once, used by every role. Nothing where a block is at the bottom.
/// With `end` there is a row more, for the end token that the reward model adds to an answer without one.
pub(crate) fn with_trunks(
    base: &Base,
    block: usize,
    end: Option<u32>,
    sequences: Vec<&mut Sequence>,
    budget: usize,
    ws: &mut Workspace,
) -> Result<(), LearnError> {
    if block == 0 {
        return Ok(());
    }
    let mut longer: Vec<Sequence> = sequences.iter().map(|s| Sequence::clone(s)).collect();
    longer.iter_mut().for_each(|s| s.tokens.extend(end));
    let hidden = base.config().hidden;
    let trunks = grouped(&longer, budget, |packed, _| {
        let all = trunk(base, &packed.batch, block, ws)?;
        let of = |rows: Vec<usize>| rows.iter().flat_map(|r| &all[r * hidden..][..hidden]).copied().collect();
        let each = packed.rows().into_iter().map(|rows| Some(Arc::new(Trunk { block, hidden, rows: of(rows) })));
        let each = each.collect();
        ws.give(all);
        Ok(each)
    })?;
    sequences.into_iter().zip(trunks).for_each(|(s, trunk)| s.trunk = trunk);
    Ok(())
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
    grouped(sequences, budget, |packed, members| {
        let hidden = packed.forward(base, adapter, Keep::Nothing, ws)?;
        let (rows, targets) = (packed.response_rows(), response_tokens(members));
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
    grouped(sequences, budget, |packed, members| {
        let hidden = packed.forward(base, Some(adapter), Keep::Nothing, ws)?;
        let scores = head::scores(&hidden, &packed.response_rows(), weight);
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
    grouped(sequences, budget, |packed, _| {
        let hidden = packed.forward(base, Some(adapter), Keep::Nothing, ws)?;
        let (rows, mut each) = (packed.last_rows(), vec![Vec::new(); packed.last_rows().len()]);
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
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_list_over_all_tokens_is_cut_by_sequence() {
        let sequences = [Sequence::new(&[1, 2, 3], &[4, 5]), Sequence::new(&[6], &[7])];
        let members: Vec<&Sequence> = sequences.iter().collect();
        assert_eq!(per_sequence(&[0.5, 1.0, 2.0], &members), [vec![0.5, 1.0], vec![2.0]]);
    }

    #[test]
    fn what_the_lower_blocks_made_of_a_text_stands_for_them() {
        let home = tempfile::tempdir().expect("temp dir");
        crate::tiny::write(&home.path().join("base"), &crate::tiny::TinySpec::default()).expect("tiny");
        let base = Base::open(&home.path().join("base")).expect("base");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let lora = crate::LoraConfig { layers: 1, ..crate::LoraConfig::default() };
        let mut adapter = Adapter::new(base.config(), lora, true, &mut rng).expect("adapter");
        adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 0.05));
        // Two answers to one prompt, and one to another.
        let mut sequences =
            [Sequence::new(&[7, 8, 9], &[10, 11]), Sequence::new(&[7, 8, 9], &[12]), Sequence::new(&[13], &[14, 5])];
        let ws = &mut Workspace::new();
        let said = |sequences: &[Sequence], ws: &mut Workspace| {
            let logprobs = logprobs(&base, Some(&adapter), sequences, 0.7, 8, ws).expect("log-probs");
            let values = values(&base, &adapter, sequences, 8, ws).expect("values");
            logprobs.into_iter().flat_map(|l| l.logprob).chain(values.into_iter().flatten()).collect::<Vec<f64>>()
        };
        let before = said(&sequences, ws);
        with_trunks(&base, 1, Some(5), sequences.iter_mut().collect(), 8, ws).expect("trunks");
        assert!(sequences.iter().all(|s| s.trunk.as_ref().is_some_and(|t| t.rows.len() == (s.tokens.len() + 1) * 32)));
        let after = said(&sequences, ws);
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5), "{before:?} {after:?}");
        // It is used: rows of zeros change what is said.
        for s in &mut sequences {
            let zeros = Trunk { block: 1, hidden: 32, rows: vec![0.0; (s.tokens.len() + 1) * 32] };
            s.trunk = Some(Arc::new(zeros));
        }
        assert!(said(&sequences, ws).iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-2));
    }
}

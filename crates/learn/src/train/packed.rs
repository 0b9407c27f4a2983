//! Prompts and responses in one packed batch, each prompt once: the K completions of a prompt share its forward and backward pass.

use super::data::Sequence;
use crate::LearnError;
use crate::lora::Adapter;
use crate::model::{Base, Batch, How, Keep, Workspace, forward_with};
use std::collections::HashMap;

/// A packed batch, and where in it each sequence's response lies.
pub(crate) struct Packed {
    pub(crate) batch: Batch,
    places: Vec<Place>,
    /// Where the pass begins, and the batch's rows there, when all sequences bring theirs along.
    trunk: Option<(usize, Vec<f32>)>,
}

/// Where a sequence's prompt begins, and the rows of its response.
#[derive(Clone, Copy)]
struct Place {
    /// The row of its first token.
    start: usize,
    /// The row of the last prompt token, which several sequences may share.
    before: usize,
    /// The row of the first response token.
    first: usize,
    len: usize,
}

impl Packed {
    /// Packs the sequences; those of one prompt continue one copy of it.
    pub(crate) fn new(sequences: &[&Sequence]) -> Self {
        let mut uses: HashMap<&[u32], usize> = HashMap::new();
        sequences.iter().for_each(|s| *uses.entry(s.prompt()).or_default() += 1);
        let (mut batch, mut shared, mut places) = (Batch::new(), HashMap::new(), Vec::new());
        let mut sources = Vec::new();
        for s in sequences {
            let len = s.response_len();
            if uses[s.prompt()] == 1 {
                let rows = batch.push(&s.tokens, None);
                sources.push((*s, 0..s.tokens.len()));
                let first = batch.range(rows).end - len;
                places.push(Place { start: batch.range(rows).start, before: first - 1, first, len });
            } else {
                let prompt = *shared.entry(s.prompt()).or_insert_with(|| {
                    sources.push((*s, 0..s.prompt_len));
                    batch.push(s.prompt(), None)
                });
                sources.push((*s, s.prompt_len..s.tokens.len()));
                let response = batch.push(&s.tokens[s.prompt_len..], Some(prompt));
                let (before, first) = (batch.range(prompt).end - 1, batch.range(response).start);
                places.push(Place { start: batch.range(prompt).start, before, first, len });
            }
        }
        Self { batch, places, trunk: gathered(&sources) }
    }

    /// Packs the sequences, each with a prompt of its own.
    pub(crate) fn apart(sequences: &[&Sequence]) -> Self {
        let batch = Batch::pack(sequences);
        let place = |(s, sequence): (usize, &&Sequence)| {
            let (rows, len) = (batch.range(s), sequence.response_len());
            Place { start: rows.start, before: rows.end - len - 1, first: rows.end - len, len }
        };
        let places = sequences.iter().enumerate().map(place).collect();
        Self { batch, places, trunk: None }
    }

    /// The hidden states after the final norm, `(tokens, hidden)`; from where the sequences' common trunk ends, if they have one.
    pub(crate) fn forward(
        &self,
        base: &Base,
        adapter: Option<&Adapter>,
        keep: Keep,
        ws: &mut Workspace,
    ) -> Result<Vec<f32>, LearnError> {
        let from = self.trunk.as_ref().map(|(block, rows)| (*block, rows.as_slice()));
        forward_with(base, adapter, &self.batch, How { keep, dropout: None, from }, ws)
    }

    /// The rows that predict response tokens: the row before each of them. For a value function the same rows are the states in
    /// which those tokens were chosen.
    ///
    /// # Shapes
    /// (response tokens of all sequences), in sequence order.
    pub(crate) fn response_rows(&self) -> Vec<usize> {
        let of = |p: &Place| std::iter::once(p.before).chain(p.first..p.first + p.len).take(p.len);
        self.places.iter().flat_map(of).collect()
    }

    /// All rows of each sequence, prompt and response.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        self.places.iter().map(|p| (p.start..=p.before).chain(p.first..p.first + p.len).collect()).collect()
    }

    /// The last row of each sequence: where the reward is read.
    pub(crate) fn last_rows(&self) -> Vec<usize> {
        self.places.iter().map(|p| if p.len == 0 { p.before } else { p.first + p.len - 1 }).collect()
    }
}

/// The rows that each part of a batch brings along, if all do, for the same block.
fn gathered(parts: &[(&Sequence, std::ops::Range<usize>)]) -> Option<(usize, Vec<f32>)> {
    let block = parts.first()?.0.trunk.as_ref()?.block;
    let mut all = Vec::new();
    for (sequence, rows) in parts {
        let trunk = sequence.trunk.as_ref().filter(|t| t.block == block)?;
        all.extend_from_slice(trunk.rows.get(rows.start * trunk.hidden..rows.end * trunk.hidden)?);
    }
    Some((block, all))
}

/// The response tokens of all sequences, in order: what [`Packed::response_rows`] predict.
pub(crate) fn response_tokens(sequences: &[&Sequence]) -> Vec<u32> {
    sequences.iter().flat_map(|s| s.tokens[s.prompt_len..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_before_a_token_predicts_it() {
        let sequences = [Sequence::new(&[1, 2, 3], &[4, 5]), Sequence::new(&[6], &[7])];
        let members: Vec<&Sequence> = sequences.iter().collect();
        let packed = Packed::new(&members);
        assert_eq!((packed.response_rows(), packed.last_rows()), (vec![2, 3, 5], vec![4, 6]));
        assert_eq!(response_tokens(&members), [4, 5, 7]);
        let apart = Packed::apart(&members);
        assert_eq!((apart.response_rows(), apart.last_rows()), (packed.response_rows(), packed.last_rows()));
    }

    #[test]
    fn a_prompt_of_several_sequences_is_there_once() {
        let sequences = [
            Sequence::new(&[1, 2], &[3, 4]),
            Sequence::new(&[9], &[8]),
            Sequence::new(&[1, 2], &[5]),
            Sequence::new(&[1, 2], &[]),
        ];
        let packed = Packed::new(&sequences.iter().collect::<Vec<_>>());
        assert_eq!(packed.batch.tokens, [1, 2, 3, 4, 9, 8, 5]);
        assert_eq!(packed.batch.positions(), [0, 1, 2, 3, 0, 1, 2]);
        assert_eq!((packed.response_rows(), packed.last_rows()), (vec![1, 2, 4, 1], vec![3, 5, 6, 1]));
    }
}

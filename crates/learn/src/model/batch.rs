//! Token sequences packed end to end: no padding, no mask. Uses nothing but std.

use crate::kernels::attention::Packing;

/// Sequences packed end to end. Attention is causal within one; a sequence may continue an earlier one, which several can share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All tokens, `(tokens,)`.
    pub tokens: Vec<u32>,
    /// Where each sequence starts, and at the end the number of tokens: n + 1 offsets for n sequences.
    starts: Vec<usize>,
    /// For each sequence, the earlier one that it continues: it attends to that one's tokens too, and its positions go on from there.
    prefixes: Vec<Option<usize>>,
}

impl Batch {
    /// Packs sequences in their order. Empty ones keep their place and have no tokens.
    pub fn pack<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Self::new();
        sequences.iter().for_each(|s| {
            batch.push(s.as_ref(), None);
        });
        batch
    }

    /// No sequence yet.
    pub fn new() -> Self {
        Self { tokens: Vec::new(), starts: vec![0], prefixes: Vec::new() }
    }

    /// Appends a sequence that stands alone or continues an earlier one; answers its number.
    ///
    /// # Panics
    /// If the one that it continues is not there, or continues another one itself.
    pub fn push(&mut self, tokens: &[u32], prefix: Option<usize>) -> usize {
        assert!(prefix.is_none_or(|p| self.prefixes[p].is_none()), "a prefix stands alone");
        self.tokens.extend_from_slice(tokens);
        self.starts.push(self.tokens.len());
        self.prefixes.push(prefix);
        self.prefixes.len() - 1
    }

    /// The number of tokens in all sequences.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The number of sequences.
    pub fn sequences(&self) -> usize {
        self.prefixes.len()
    }

    /// The rows of one sequence.
    pub fn range(&self, sequence: usize) -> std::ops::Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// The position of a sequence's first token: 0, or where its prefix ends.
    pub(crate) fn first_position(&self, sequence: usize) -> usize {
        self.prefixes[sequence].map_or(0, |p| self.range(p).len())
    }

    /// The position of each token in its text, `(tokens,)`.
    pub fn positions(&self) -> Vec<usize> {
        let of = |s: usize| (0..self.range(s).len()).map(move |i| self.first_position(s) + i);
        (0..self.sequences()).flat_map(of).collect()
    }

    /// How the sequences lie, for attention.
    pub(crate) fn packing(&self) -> Packing<'_> {
        Packing { starts: &self.starts, prefixes: &self.prefixes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_end_to_end() {
        let b = Batch::pack(&[vec![5, 6, 7], vec![], vec![8]]);
        assert_eq!((b.tokens.as_slice(), b.starts.as_slice()), (&[5, 6, 7, 8][..], &[0, 3, 3, 4][..]));
        assert_eq!((b.sequences(), b.len(), b.range(2)), (3, 4, 3..4));
        assert_eq!(b.positions(), [0, 1, 2, 0]);
    }

    #[test]
    fn positions_go_on_from_the_prefix() {
        let mut b = Batch::pack(&[[9]]);
        let prompt = b.push(&[1, 2], None);
        b.push(&[3, 4], Some(prompt));
        b.push(&[5], Some(prompt));
        assert_eq!(b.positions(), [0, 0, 1, 2, 3, 2]);
    }
}

//! Token sequences packed end to end: no padding, no mask. Uses nothing but std.

/// Sequences packed end to end. Positions restart at each sequence, and attention is causal within one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All tokens, `(tokens,)`.
    pub tokens: Vec<u32>,
    /// Where each sequence starts, and at the end the number of tokens: n + 1 offsets for n sequences.
    pub starts: Vec<usize>,
}

impl Batch {
    /// Packs sequences in their order. Empty ones keep their place and have no tokens.
    pub fn pack<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Self { tokens: Vec::new(), starts: vec![0] };
        for sequence in sequences {
            batch.tokens.extend_from_slice(sequence.as_ref());
            batch.starts.push(batch.tokens.len());
        }
        batch
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
        self.starts.len().saturating_sub(1)
    }

    /// The rows of one sequence.
    pub fn range(&self, sequence: usize) -> std::ops::Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// The position of each token in its sequence, `(tokens,)`.
    pub fn positions(&self) -> Vec<usize> {
        (0..self.sequences()).flat_map(|s| 0..self.range(s).len()).collect()
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
}

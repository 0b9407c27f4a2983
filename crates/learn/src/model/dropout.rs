//! Residual dropout (Vaswani et al. 2017, section 5.4): what a block adds to the residual stream is dropped, value by value, with
//! probability p, and the rest divided by 1 - p, so that the expectation stays. Uses rayon only.
//!
//! A mask is a hash of (seed, step, sequence, position, layer, place, column) and nothing else: a recomputed block, another
//! division into micro-batches and a resumed run all drop the same values, and no mask is ever stored.

use super::Batch;
use rayon::prelude::*;

/// Which values a training pass drops.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    rate: f32,
    /// A hash for each row of the batch, `(tokens,)`.
    rows: Vec<u64>,
}

/// Value i of row r is kept where the upper half of `mixed(rows[r] ^ place + (i + 1) GOLDEN)` is below `kept`, and scaled then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// `(tokens,)`.
    pub(crate) rows: &'a [u64],
    pub(crate) place: u64,
    pub(crate) kept: u64,
    pub(crate) scale: f32,
}

/// The golden ratio's fraction in 64 bits: the step between two inputs of the hash (Steele et al. 2014, SplitMix64).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection on 64 bits in which each bit of the input moves about half of the output's.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `seed`, with `number` stirred in.
fn stirred(seed: u64, number: u64) -> u64 {
    mixed(seed.wrapping_add(GOLDEN).wrapping_add(mixed(number.wrapping_add(GOLDEN))))
}

impl Dropout {
    /// For one training step over `batch`, whose sequences have the names `sequences` (their places in the data set, so that
    /// the mask doesn't depend on what else is in the batch). `rate` is p, in 0..1.
    ///
    /// # Panics
    /// If there aren't as many names as sequences.
    #[must_use]
    pub fn new(rate: f32, seed: u64, step: usize, batch: &Batch, sequences: &[usize]) -> Self {
        assert_eq!(batch.sequences(), sequences.len(), "a name for each sequence");
        let step = stirred(seed, step as u64);
        let rows = sequences.iter().enumerate().flat_map(|(s, &name)| {
            let sequence = stirred(step, name as u64);
            (0..batch.range(s).len()).map(move |position| stirred(sequence, position as u64))
        });
        Self { rate, rows: rows.collect() }
    }

    /// The mask of the linear at `place` of `layer`.
    pub(crate) fn mask(&self, layer: usize, place: usize) -> Mask<'_> {
        Mask {
            rows: &self.rows,
            place: stirred(layer as u64, place as u64),
            kept: ((1.0 - f64::from(self.rate)) * 2f64.powi(32)) as u64,
            scale: 1.0 / (1.0 - self.rate),
        }
    }

    /// `x_i *= mask_i / (1 - p)`, on the output of the linear at `place` of `layer`, `(tokens, width)`. Its own backward: the
    /// gradient of that output is masked alike.
    pub(crate) fn apply(&self, layer: usize, place: usize, x: &mut [f32]) {
        let width = x.len() / self.rows.len().max(1);
        if width == 0 {
            return;
        }
        let Mask { rows, place, kept, scale } = self.mask(layer, place);
        x.par_chunks_exact_mut(width).zip(rows).for_each(|(x, &row)| {
            let mut state = row ^ place;
            for x in x {
                state = state.wrapping_add(GOLDEN);
                *x *= if mixed(state) >> 32 < kept { scale } else { 0.0 };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(seed: u64, step: usize, lengths: &[usize], names: &[usize], place: usize) -> Vec<f32> {
        let sequences: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![0; n]).collect();
        let batch = Batch::pack(&sequences);
        let mut x = vec![1.0; batch.len() * 64];
        Dropout::new(0.2, seed, step, &batch, names).apply(3, place, &mut x);
        x
    }

    #[test]
    fn a_mask_follows_its_sequence_through_any_batch() {
        let both = mask(1, 7, &[5, 9], &[40, 2], 1);
        assert_eq!(both[5 * 64..], mask(1, 7, &[9], &[2], 1), "micro-batches don't change it");
        assert_eq!(both, mask(1, 7, &[5, 9], &[40, 2], 1));
        let others = [
            mask(2, 7, &[9], &[2], 1),
            mask(1, 8, &[9], &[2], 1),
            mask(1, 7, &[9], &[3], 1),
            mask(1, 7, &[9], &[2], 3),
        ];
        for other in others {
            let same = other.iter().zip(&both[5 * 64..]).filter(|(a, b)| a == b).count() as f64 / other.len() as f64;
            // Two independent masks agree in 0.8^2 + 0.2^2 = 0.68 of the places.
            assert!((same - 0.68).abs() < 0.08, "seed, step, sequence and place each give another mask: {same}");
        }
    }

    #[test]
    fn a_fifth_is_dropped_and_the_expectation_stays() {
        let x = mask(5, 0, &[500], &[0], 1);
        assert!(x.iter().all(|&x| x == 0.0 || (x - 1.25).abs() < 1e-6));
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
        // 32,000 values of deviation 0.5: the mean's is 0.0028.
        assert!((mean - 1.0).abs() < 0.012, "{mean}");
        for column in 0..64 {
            let dropped = x.iter().skip(column).step_by(64).filter(|&&x| x == 0.0).count();
            assert!((50..=150).contains(&dropped), "column {column}: {dropped} of 500");
        }
    }
}

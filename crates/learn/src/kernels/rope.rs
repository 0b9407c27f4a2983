//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in Hugging Face's half-split convention.
//!
//! For a head `x` of width `d` at position `p`, with the frequencies `f_i` and `i < d/2`:
//! `y_i = x_i cos(p f_i) - x_{i+d/2} sin(p f_i)`, `y_{i+d/2} = x_{i+d/2} cos(p f_i) + x_i sin(p f_i)`.

use super::Real;
use rayon::prelude::*;

const ROWS_PER_TASK: usize = 16;

/// The cosines and sines of every position, `(positions, head_dim / 2)` each.
#[derive(Debug)]
pub(crate) struct RopeTable<T> {
    half: usize,
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> RopeTable<T> {
    /// For `positions` positions and the frequencies `f_i`, computed in f64.
    pub(crate) fn new(frequencies: &[f64], positions: usize) -> Self {
        let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        Self {
            half: frequencies.len(),
            cos: angles().map(|a| T::from_f64(a.cos())).collect(),
            sin: angles().map(|a| T::from_f64(a.sin())).collect(),
        }
    }

    /// Rotates the first `heads` heads of each row in place. `x` is `(rows, stride)`; a row starts with its heads.
    pub(crate) fn forward(&self, x: &mut [T], stride: usize, heads: usize, positions: &[usize]) {
        self.rotate(x, stride, heads, positions, T::ONE);
    }

    /// The transpose of the rotation, which is the rotation by the negative angle; in place on the gradient.
    pub(crate) fn backward(&self, dx: &mut [T], stride: usize, heads: usize, positions: &[usize]) {
        self.rotate(dx, stride, heads, positions, -T::ONE);
    }

    fn rotate(&self, x: &mut [T], stride: usize, heads: usize, positions: &[usize], sign: T) {
        let half = self.half;
        let rows = x.par_chunks_exact_mut(stride).zip(positions.par_iter());
        rows.with_min_len(ROWS_PER_TASK).for_each(|(row, &p)| {
            let cos = &self.cos[p * half..][..half];
            let sin = &self.sin[p * half..][..half];
            for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                for i in 0..half {
                    let (c, s) = (cos[i], sign * sin[i]);
                    let (a, b) = (low[i], high[i]);
                    low[i] = a * c - b * s;
                    high[i] = b * c + a * s;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random, weighted};

    #[test]
    fn gradient_and_what_is_left_alone() {
        let table = RopeTable::<f64>::new(&[1.0, 0.3], 9);
        let (stride, heads, positions) = (11, 2, [0, 7, 3]);
        let (x, dy) = (random(33, 1), random(33, 2));
        let mut dx = dy.clone();
        table.backward(&mut dx, stride, heads, &positions);
        assert_gradient("dx", &x, &dx, |x| {
            let mut y = x.to_vec();
            table.forward(&mut y, stride, heads, &positions);
            weighted(&y, &dy)
        });
        let mut y = x.clone();
        table.forward(&mut y, stride, heads, &positions);
        assert_eq!(y[..11], x[..11], "position 0 does not turn");
        assert_eq!(y[19..22], x[19..22], "what lies behind the heads stays");
        assert!((y[11] - (x[11] * 7f64.cos() - x[13] * 7f64.sin())).abs() < 1e-12);
    }
}

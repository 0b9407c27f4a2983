//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in Hugging Face's half-split convention.
//!
//! For a head `x` of width `d` at position `p`, with `f_i = theta^(-2i/d)` and `i < d/2`:
//! `y_i = x_i cos(p f_i) - x_{i+d/2} sin(p f_i)`, `y_{i+d/2} = x_{i+d/2} cos(p f_i) + x_i sin(p f_i)`.

use super::config::{ModelConfig, RopeScaling};
use crate::kernels::Real;
use rayon::prelude::*;

/// The cosines and sines of every position up to the context, `(context, head_dim / 2)` each.
#[derive(Debug)]
pub(crate) struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| scaled_frequency(config, i)).collect();
        let angles = || (0..config.context).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        Self { half, cos: angles().map(|a| a.cos() as f32).collect(), sin: angles().map(|a| a.sin() as f32).collect() }
    }

    /// Rotates the first `heads` heads of each row in place. `x` is `(rows, stride)`; a row's first `heads * head_dim`
    /// values are its heads.
    pub(crate) fn forward<T: Real>(&self, x: &mut [T], stride: usize, heads: usize, positions: &[usize]) {
        self.rotate(x, stride, heads, positions, T::ONE);
    }

    /// The transpose of the rotation: the same by the negative angle. In place on the gradient.
    pub(crate) fn backward<T: Real>(&self, dx: &mut [T], stride: usize, heads: usize, positions: &[usize]) {
        self.rotate(dx, stride, heads, positions, -T::ONE);
    }

    fn rotate<T: Real>(&self, x: &mut [T], stride: usize, heads: usize, positions: &[usize], sign: T) {
        let half = self.half;
        x.par_chunks_exact_mut(stride).zip(positions.par_iter()).with_min_len(16).for_each(|(row, &p)| {
            let cos = &self.cos[p * half..][..half];
            let sin = &self.sin[p * half..][..half];
            for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                for i in 0..half {
                    let (c, s) = (T::of(cos[i]), sign * T::of(sin[i]));
                    let (a, b) = (low[i], high[i]);
                    low[i] = a * c - b * s;
                    high[i] = b * c + a * s;
                }
            }
        });
    }
}

/// `theta^(-2i/d)`, changed as the model's scaling says (Llama 3.1's formula: the model's reference code).
fn scaled_frequency(config: &ModelConfig, i: usize) -> f64 {
    let f = config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64);
    match config.rope_scaling {
        RopeScaling::None => f,
        RopeScaling::Linear { factor } => f / factor,
        RopeScaling::Llama3 { factor, low, high, original_context } => {
            let turns = original_context * f / std::f64::consts::TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            f * (kept + (1.0 - kept) / factor)
        }
    }
}

//! SwiGLU (Shazeer 2020, arXiv 2002.05202): `h = silu(g) u` with `silu(g) = g / (1 + e^-g)`.

use super::Real;
use rayon::prelude::*;

const ROWS_PER_TASK: usize = 8;

/// `gate_up` is `(rows, 2 ffn)`, a row's gates before its ups; `h` is `(rows, ffn)`.
pub(crate) fn forward<T: Real>(gate_up: &[T], ffn: usize, h: &mut [T]) {
    h.par_chunks_exact_mut(ffn).zip(gate_up.par_chunks_exact(2 * ffn)).with_min_len(ROWS_PER_TASK).for_each(
        |(h, gu)| {
            let (gate, up) = gu.split_at(ffn);
            for i in 0..ffn {
                h[i] = gate[i] / (T::ONE + (-gate[i]).exp()) * up[i];
            }
        },
    );
}

/// With `s = 1 / (1 + e^-g)`: `dg = dh u s (1 + g (1 - s))`, `du = dh g s`. Overwrites `gate_up` by its gradient.
pub(crate) fn backward<T: Real>(gate_up: &mut [T], ffn: usize, dh: &[T]) {
    let rows = gate_up.par_chunks_exact_mut(2 * ffn).zip(dh.par_chunks_exact(ffn));
    rows.with_min_len(ROWS_PER_TASK).for_each(|(gu, dh)| {
        let (gate, up) = gu.split_at_mut(ffn);
        for i in 0..ffn {
            let (g, u) = (gate[i], up[i]);
            let s = T::ONE / (T::ONE + (-g).exp());
            gate[i] = dh[i] * u * s * (T::ONE + g * (T::ONE - s));
            up[i] = dh[i] * g * s;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random, weighted};

    #[test]
    fn gradient() {
        let (rows, ffn) = (2, 5);
        let (x, dh) = (random(rows * 2 * ffn, 1), random(rows * ffn, 2));
        let mut dx = x.clone();
        backward(&mut dx, ffn, &dh);
        assert_gradient("d gate_up", &x, &dx, |x| {
            let mut h = vec![0.0; rows * ffn];
            forward(x, ffn, &mut h);
            weighted(&h, &dh)
        });
    }
}

//! RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467): `y_i = w_i x_i s` with `s = (mean_j x_j^2 + eps)^(-1/2)`.

use super::Real;
use super::reduce::dot;
use rayon::prelude::*;

/// Rows per rayon task: small rows are not worth a task each.
const ROWS_PER_TASK: usize = 16;

/// `x` and `y` are `(rows, hidden)`, `w` is `(hidden,)`.
pub(crate) fn forward<T: Real>(x: &[T], w: &[T], eps: T, y: &mut [T]) {
    let h = w.len();
    y.par_chunks_exact_mut(h).zip(x.par_chunks_exact(h)).with_min_len(ROWS_PER_TASK).for_each(|(y, x)| {
        let s = inverse_rms(x, eps);
        for i in 0..h {
            y[i] = w[i] * (x[i] * s);
        }
    });
}

/// `dx_i += s w_i dy_i - x_i s^3 / hidden * sum_j x_j w_j dy_j`. The weight is frozen and gets no gradient.
pub(crate) fn backward<T: Real>(x: &[T], w: &[T], eps: T, dy: &[T], dx: &mut [T]) {
    let h = w.len();
    let rows = dx.par_chunks_exact_mut(h).zip(x.par_chunks_exact(h)).zip(dy.par_chunks_exact(h));
    rows.with_min_len(ROWS_PER_TASK).for_each(|((dx, x), dy)| {
        let s = inverse_rms(x, eps);
        let projection: T = (0..h).map(|i| x[i] * w[i] * dy[i]).sum();
        let shrink = s * s * s / T::from_usize(h) * projection;
        for i in 0..h {
            dx[i] += s * w[i] * dy[i] - x[i] * shrink;
        }
    });
}

fn inverse_rms<T: Real>(x: &[T], eps: T) -> T {
    T::ONE / (dot(x, x) / T::from_usize(x.len()) + eps).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{assert_gradient, random, weighted};

    #[test]
    fn gradient() {
        let (rows, h) = (3, 5);
        let (x, w, dy) = (random(rows * h, 1), random(h, 2), random(rows * h, 3));
        let mut dx = vec![0.0; rows * h];
        backward(&x, &w, 1e-5, &dy, &mut dx);
        assert_gradient("dx", &x, &dx, |x| {
            let mut y = vec![0.0; rows * h];
            forward(x, &w, 1e-5, &mut y);
            weighted(&y, &dy)
        });
    }
}

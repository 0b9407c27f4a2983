//! Sums and maxima in sixteen lanes: Rust keeps the order of float additions, so a plain sum would not be vectorised.

use super::Real;

const LANES: usize = 16;

/// The sum of the lanes, in halves: four additions that wait for each other, not fifteen.
#[inline(always)]
fn fold<T: Real>(lanes: [T; LANES]) -> T {
    let eight: [T; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    fold_eight(eight)
}

/// The same of eight.
#[inline(always)]
pub(crate) fn fold_eight<T: Real>(lanes: [T; 8]) -> T {
    let four: [T; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `sum_i a_i b_i`.
#[inline]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: T = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| *x * *y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add(y[i], lanes[i]);
        }
    }
    fold(lanes) + rest
}

/// The largest value; negative infinity for an empty slice.
#[inline]
pub(crate) fn max<T: Real>(a: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(T::NEG_INFINITY, |m, x| x.max(m));
    for x in chunks {
        for i in 0..LANES {
            lanes[i] = x[i].max(lanes[i]);
        }
    }
    lanes.into_iter().fold(rest, |m, x| x.max(m))
}

/// Replaces each `x` by `e^(x - shift)` and returns their sum.
#[inline]
pub(crate) fn exp_sum<T: Real>(a: &mut [T], shift: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let mut chunks = a.chunks_exact_mut(LANES);
    for x in &mut chunks {
        for i in 0..LANES {
            x[i] = (x[i] - shift).exp();
            lanes[i] += x[i];
        }
    }
    let mut rest = T::ZERO;
    for x in chunks.into_remainder() {
        *x = (*x - shift).exp();
        rest += *x;
    }
    fold(lanes) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_remainder_are_both_counted() {
        let a: Vec<f64> = (0..37).map(|i| f64::from(i) * 0.25).collect();
        assert_eq!(dot(&a, &a), a.iter().map(|x| x * x).sum::<f64>());
        assert_eq!(max(&a), 9.0);
        let mut b = a.clone();
        let sum = exp_sum(&mut b, 9.0);
        assert!((sum - a.iter().map(|x| (x - 9.0).exp()).sum::<f64>()).abs() < 1e-12);
        assert_eq!(b[36], 1.0);
    }
}

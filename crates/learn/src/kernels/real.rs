//! The two float types that the kernels are written for: f32 to compute, f64 to check gradients against finite differences.

use super::reduce::fold_eight;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// f32 or f64.
pub(crate) trait Real:
    Copy
    + Send
    + Sync
    + 'static
    + PartialOrd
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    fn from_f64(x: f64) -> Self;
    fn from_usize(n: usize) -> Self;
    /// The exponential, in a form that the compiler turns into vector instructions.
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn max(self, other: Self) -> Self;
    /// [`LANES`] values that are worked on at once.
    type Lanes: Copy + Send + Sync;
    /// Them.
    fn lanes(values: [Self; LANES]) -> Self::Lanes;
    /// Back again.
    fn lanes_array(lanes: Self::Lanes) -> [Self; LANES];
    /// `a * b + c`, each.
    fn lanes_mul_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// Their sum, always in the same order.
    fn lanes_sum(lanes: Self::Lanes) -> Self;
    /// `self * a + b`, in one instruction where the CPU was compiled for has it.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

/// A 256-bit register of f32.
pub(crate) const LANES: usize = 8;

/// Whether a fused multiply-add is an instruction here; else it would be a slow call.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

impl Real for f64 {
    type Lanes = [Self; LANES];
    fn lanes(values: [Self; LANES]) -> Self::Lanes {
        values
    }
    fn lanes_array(lanes: Self::Lanes) -> [Self; LANES] {
        lanes
    }
    fn lanes_mul_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    fn lanes_sum(lanes: Self::Lanes) -> Self {
        fold_eight(lanes)
    }
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;
    fn from_f64(x: f64) -> Self {
        x
    }
    fn from_usize(n: usize) -> Self {
        n as Self
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn ln(self) -> Self {
        self.ln()
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn max(self, other: Self) -> Self {
        self.max(other)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }
}

impl Real for f32 {
    type Lanes = wide::f32x8;
    #[inline(always)]
    fn lanes(values: [Self; LANES]) -> Self::Lanes {
        Self::Lanes::new(values)
    }
    #[inline(always)]
    fn lanes_array(lanes: Self::Lanes) -> [Self; LANES] {
        lanes.to_array()
    }
    #[inline(always)]
    fn lanes_mul_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn lanes_sum(lanes: Self::Lanes) -> Self {
        fold_eight(lanes.to_array())
    }
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;
    fn from_f64(x: f64) -> Self {
        x as Self
    }
    fn from_usize(n: usize) -> Self {
        n as Self
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp_f32(self)
    }
    fn ln(self) -> Self {
        self.ln()
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other } // one instruction; NaN does not occur in what is compared here
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }
}

/// `e^x` within about 2 units in the last place, without branches: `e^x = 2^n e^r` with `n = round(x / ln 2)` and
/// `|r| <= ln 2 / 2`, `e^r` by the polynomial of the Cephes library (`expf.c`). Below -87.3 it stays at the smallest
/// normal number instead of 0, above 88.3 at the largest power.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.3 { -87.3 } else { x }; // in this order a NaN stays a NaN
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_exponential_is_accurate() {
        let mut worst = 0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_f32(x)) - exact).abs() / exact);
        }
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(exp_f32(0.0), 1.0);
        assert!(exp_f32(f32::NEG_INFINITY) < 1.3e-38);
    }
}

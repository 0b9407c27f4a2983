//! The weights of a panel in each number format, and how they are widened. May use: the formats of `stored`.

use super::{Pair, WIDTH, ZERO};
use crate::kernels::stored::wide as widened;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use wide::f32x8;

/// The sixteen weights of an input, without their scale, as they lie in memory.
#[derive(Clone, Copy)]
pub(crate) enum Sixteen<'a> {
    F32(&'a [f32; WIDTH]),
    Bf16(&'a [bf16; WIDTH]),
    I8(&'a [i8; WIDTH]),
}

impl Sixteen<'_> {
    /// Widened.
    #[inline(always)]
    pub(super) fn pair(self) -> Pair {
        match self {
            Self::F32(w) => pair(w, |x| x),
            Self::Bf16(w) => pair(w, widened),
            Self::I8(w) => pair(w, f32::from),
        }
    }

    #[inline(always)]
    pub(super) fn place(self) -> *const i8 {
        match self {
            Self::F32(w) => w.as_ptr().cast(),
            Self::Bf16(w) => w.as_ptr().cast(),
            Self::I8(w) => w.as_ptr(),
        }
    }
}

/// The weights of a panel in one number format.
pub(crate) trait Panel: Copy + Send + Sync {
    /// Whether each block has a scale.
    const SCALED: bool;
    /// Inputs in a line of memory.
    const PER_LINE: usize;
    fn ins(self) -> usize;
    /// The weights of an input. One number format for all of a panel.
    fn weights(&self, input: usize) -> Sixteen<'_>;
    /// The scale of a block of inputs.
    fn scale(self, block: usize) -> Pair;
}

/// Both halves of sixteen values.
#[inline(always)]
pub(crate) fn pair<E: Copy>(all: &[E; WIDTH], widen: impl Fn(E) -> f32 + Copy) -> Pair {
    let half = |at: usize| f32x8::new(std::array::from_fn(|i| widen(all[at + i])));
    [half(0), half(WIDTH / 2)]
}

impl Panel for &[[f32; WIDTH]] {
    const SCALED: bool = false;
    const PER_LINE: usize = 1;
    fn ins(self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn weights(&self, input: usize) -> Sixteen<'_> {
        Sixteen::F32(&self[input])
    }
    fn scale(self, _: usize) -> Pair {
        ZERO
    }
}

impl Panel for &[[bf16; WIDTH]] {
    const SCALED: bool = false;
    const PER_LINE: usize = 2;
    fn ins(self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn weights(&self, input: usize) -> Sixteen<'_> {
        Sixteen::Bf16(&self[input])
    }
    fn scale(self, _: usize) -> Pair {
        ZERO
    }
}

impl Panel for (&[[i8; WIDTH]], &[[f16; WIDTH]]) {
    const SCALED: bool = true;
    const PER_LINE: usize = 4;
    fn ins(self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn weights(&self, input: usize) -> Sixteen<'_> {
        Sixteen::I8(&self.0[input])
    }
    #[inline(always)]
    fn scale(self, block: usize) -> Pair {
        let mut scales = [0.0; WIDTH];
        self.1[block].convert_to_f32_slice(&mut scales);
        pair(&scales, |x| x)
    }
}

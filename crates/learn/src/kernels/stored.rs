//! A frozen matrix in the number format in which it is kept: f32, bf16 or Q8_0. It is only ever read; products unpack it in blocks.
//!
//! Q8_0 is ggml's: blocks of 32 values along a row share a scale `d = max |x| / 127`, and `x ~ d q` with q in -127..127.

use super::matmul::{Mat, MatMut, Out, matmul};
use super::panels::{self, Panels, pack};
use super::skinny::{self, Row, Rows};
use super::{LANES, Real};
use half::{bf16, f16};
use rayon::prelude::*;
use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::ops::Range;

/// How a base model's matrices are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 4 bytes a weight: the fastest to train on.
    #[default]
    F32,
    /// 2 bytes a weight. Loses nothing of a model that was published in bf16.
    Bf16,
    /// 34 bytes for 32 weights: rounds to about 1 part in 250 of the largest in its block.
    #[serde(rename = "q8_0")]
    Q8,
}

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Values that are unpacked at once: 16 MB of f32.
const UNPACKED: usize = 1 << 22;

/// A matrix `(rows, cols)`, row-major.
#[derive(Debug)]
pub(crate) enum Stored {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    /// The values and the scale of each block.
    Q8(Vec<i8>, Vec<f16>),
    /// Any of these, laid out for serving.
    Panels(Panels),
}

impl Stored {
    /// Keeps `data`, rows of `cols` values, in a format. Rows that don't divide into blocks are kept in bf16 instead of Q8_0.
    pub(crate) fn new(data: Vec<f32>, cols: usize, format: Format) -> Self {
        match format {
            Format::F32 => Self::F32(data),
            Format::Q8 if cols.is_multiple_of(BLOCK) => {
                let (mut values, mut scales) = (Vec::with_capacity(data.len()), Vec::with_capacity(data.len() / BLOCK));
                for block in data.chunks_exact(BLOCK) {
                    let scale = f16::from_f32(block.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0);
                    let over = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
                    values.extend(block.iter().map(|x| (x * over).round().clamp(-127.0, 127.0) as i8));
                    scales.push(scale);
                }
                Self::Q8(values, scales)
            }
            Format::Bf16 | Format::Q8 => Self::Bf16(data.into_iter().map(bf16::from_f32).collect()),
        }
    }

    /// The same values, laid out for serving; rows of `cols` values. What is asked for in f32 and is exact in bf16, as every matrix of a
    /// model published in bf16 is, takes half of the memory: products widen it to the same numbers, and so give the same bits.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn packed(self, cols: usize) -> io::Result<Self> {
        let outs = self.len() / cols;
        let weights = match self {
            Self::F32(w) if w.par_iter().all(|x| x.to_bits() & 0xffff == 0) => {
                panels::Weights::Bf16(pack(&w.into_iter().map(bf16::from_f32).collect::<Vec<_>>(), cols)?)
            }
            Self::F32(w) => panels::Weights::F32(pack(&w, cols)?),
            Self::Bf16(w) => panels::Weights::Bf16(pack(&w, cols)?),
            Self::Q8(w, scales) => panels::Weights::Q8(pack(&w, cols)?, pack(&scales, cols / BLOCK)?),
            Self::Panels(_) => return Ok(self),
        };
        Ok(Self::Panels(Panels { ins: cols, outs, weights }))
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Panels(panels) => panels.ins * panels.outs,
            Self::F32(w) => w.len(),
            Self::Bf16(w) => w.len(),
            Self::Q8(w, _) => w.len(),
        }
    }

    /// A number that changes with any of the values, and with the format.
    pub(crate) fn checksum(&self) -> u64 {
        match self {
            Self::Panels(_) => checksum(&self.slice(0, self.len())),
            Self::F32(w) => checksum(w),
            Self::Bf16(w) => sum_of(w.par_iter().map(|x| u64::from(x.to_bits()))),
            Self::Q8(w, scales) => {
                let values = sum_of(w.par_iter().map(|x| u64::from(x.cast_unsigned())));
                sum_of(scales.par_iter().map(|x| u64::from(x.to_bits()))).rotate_left(32) ^ values
            }
        }
    }

    /// The values `from..from + into.len()`, whole blocks of Q8_0, in parallel.
    pub(crate) fn unpack(&self, from: usize, into: &mut [f32]) {
        let parts = into.par_chunks_mut(BLOCK * 128).enumerate();
        parts.for_each(|(i, part)| {
            let at = from + i * BLOCK * 128;
            match self {
                Self::F32(w) => part.copy_from_slice(&w[at..at + part.len()]),
                Self::Panels(p) => {
                    part.iter_mut().zip(at..).for_each(|(x, at)| *x = p.value(at / p.ins, at % p.ins));
                }
                Self::Bf16(w) => part.iter_mut().zip(&w[at..]).for_each(|(x, w)| *x = wide(*w)),
                Self::Q8(w, scales) => {
                    let blocks = part.chunks_mut(BLOCK).zip(w[at..].chunks(BLOCK)).zip(&scales[at / BLOCK..]);
                    blocks.for_each(|((x, w), scale)| {
                        let scale = scale.to_f32();
                        x.iter_mut().zip(w).for_each(|(x, w)| *x = f32::from(*w) * scale);
                    });
                }
            }
        });
    }

    /// `len` values from `from` as f32, where they lie so already without a copy.
    pub(crate) fn slice(&self, from: usize, len: usize) -> Cow<'_, [f32]> {
        match self {
            Self::F32(w) => Cow::Borrowed(&w[from..from + len]),
            _ => {
                let mut unpacked = vec![0.0; len];
                self.unpack(from, &mut unpacked);
                Cow::Owned(unpacked)
            }
        }
    }

    /// Calls `work` with blocks of rows, from top to bottom: the first row, and the rows unpacked.
    fn blocks(&self, cols: usize, mut work: impl FnMut(usize, &[f32])) {
        if let Self::F32(w) = self {
            return work(0, w);
        }
        let mut buffer = BUFFER.take();
        let rows = (UNPACKED / cols).max(1);
        for first in (0..self.len() / cols).step_by(rows) {
            let len = rows.min(self.len() / cols - first) * cols;
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            self.unpack(first * cols, &mut buffer[..len]);
            work(first, &buffer[..len]);
        }
        BUFFER.set(buffer);
    }
}

/// A number that changes with any of the values.
pub(crate) fn checksum(values: &[f32]) -> u64 {
    sum_of(values.par_iter().map(|x| u64::from(x.to_bits())))
}

/// sum of bits_i (2 i + 1) modulo 2^64: no safeguard against malice, but as fast as memory is read.
fn sum_of(bits: impl IndexedParallelIterator<Item = u64>) -> u64 {
    bits.enumerate().map(|(i, x)| x.wrapping_mul(2 * i as u64 + 1)).reduce(|| 0, u64::wrapping_add)
}

thread_local! {
    /// Unpacked weights; taken out while in use, as rayon may give this thread another product to do meanwhile.
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A bf16 is the upper half of an f32.
#[inline(always)]
pub(crate) fn wide(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// A matrix that a linear multiplies with, `(outs, ins)`.
pub(crate) trait Weight<T>: Sync {
    /// `y (+)= x W^T`; `x` is `(rows, ins)`, `y` is `(rows, outs)`.
    fn forward(&self, x: &[T], ins: usize, out: Out, y: &mut [T]);
    /// `dx = dy W`.
    fn backward(&self, dy: &[T], ins: usize, dx: &mut [T]);
    /// Whether a row's bits must not depend on the other rows, however many there are: so for what is served.
    fn row_by_row(&self) -> bool {
        false
    }
}

impl<T: super::Real> Weight<T> for [T] {
    fn forward(&self, x: &[T], ins: usize, out: Out, y: &mut [T]) {
        let (rows, outs) = (x.len() / ins, self.len() / ins);
        matmul(MatMut::new(y, rows, outs), out, T::ONE, Mat::new(x, rows, ins), Mat::new(self, outs, ins).t());
    }

    fn backward(&self, dy: &[T], ins: usize, dx: &mut [T]) {
        let (rows, outs) = (dx.len() / ins, self.len() / ins);
        matmul(MatMut::new(dx, rows, ins), Out::Set, T::ONE, Mat::new(dy, rows, outs), Mat::new(self, outs, ins));
    }
}

impl Weight<f32> for Stored {
    fn row_by_row(&self) -> bool {
        matches!(self, Self::Panels(_))
    }

    fn forward(&self, x: &[f32], ins: usize, out: Out, y: &mut [f32]) {
        let (rows, outs) = (x.len() / ins, self.len() / ins);
        if let Self::Panels(panels) = self {
            return panels.multiply(x, out, y);
        }
        if rows <= skinny::ROWS_MAX && ins.is_multiple_of(BLOCK) {
            match self {
                Self::Panels(_) => {}
                Self::F32(w) => return w.forward(x, ins, out, y),
                Self::Bf16(w) => return skinny::multiply(x, ins, out, y, &Bf16Rows { w: w.as_chunks().0, ins }),
                Self::Q8(w, scales) => {
                    return skinny::multiply(x, ins, out, y, &Q8Rows { w: w.as_chunks().0, scales, ins });
                }
            }
        }
        self.blocks(ins, |first, w| {
            let n = w.len() / ins;
            let y = MatMut::strided(&mut y[first..], rows, n, outs);
            matmul(y, out, 1.0, Mat::new(x, rows, ins), Mat::new(w, n, ins).t());
        });
    }

    fn backward(&self, dy: &[f32], ins: usize, dx: &mut [f32]) {
        let (rows, outs) = (dx.len() / ins, self.len() / ins);
        self.blocks(ins, |first, w| {
            let n = w.len() / ins;
            let out = if first == 0 { Out::Set } else { Out::Add };
            matmul(
                MatMut::new(dx, rows, ins),
                out,
                1.0,
                Mat::strided(&dy[first..], rows, n, outs),
                Mat::new(w, n, ins),
            );
        });
    }
}

struct Bf16Rows<'a> {
    w: &'a [[bf16; LANES]],
    ins: usize,
}

impl Rows<f32> for Bf16Rows<'_> {
    type Row<'a>
        = &'a [[bf16; LANES]]
    where
        Self: 'a;

    fn chunks(&self) -> usize {
        self.ins / LANES
    }

    fn row(&self, at: usize) -> &[[bf16; LANES]] {
        &self.w[at * self.chunks()..][..self.chunks()]
    }

    fn ask_for(&self, rows: Range<usize>, part: (usize, usize)) {
        skinny::prefetch(&self.w[rows.start * self.chunks()..rows.end * self.chunks()], part);
    }
}

impl Row<f32> for &[[bf16; LANES]] {
    #[inline(always)]
    fn chunk(self, at: usize) -> <f32 as Real>::Lanes {
        f32::lanes(self[at].map(wide))
    }
}

struct Q8Rows<'a> {
    w: &'a [[i8; LANES]],
    scales: &'a [f16],
    ins: usize,
}

impl Rows<f32> for Q8Rows<'_> {
    type Row<'a>
        = (&'a [[i8; LANES]], &'a [f16])
    where
        Self: 'a;
    const COSTLY: bool = true;

    fn chunks(&self) -> usize {
        self.ins / LANES
    }

    fn row(&self, at: usize) -> Self::Row<'_> {
        let blocks = self.ins / BLOCK;
        (&self.w[at * self.chunks()..][..self.chunks()], &self.scales[at * blocks..][..blocks])
    }

    fn ask_for(&self, rows: Range<usize>, part: (usize, usize)) {
        skinny::prefetch(&self.w[rows.start * self.chunks()..rows.end * self.chunks()], part);
    }
}

impl Row<f32> for (&[[i8; LANES]], &[f16]) {
    #[inline(always)]
    fn chunk(self, at: usize) -> <f32 as Real>::Lanes {
        let scale = self.1[at / (BLOCK / LANES)].to_f32();
        f32::lanes(self.0[at].map(|q| f32::from(q) * scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::random;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        random(n, seed).iter().map(|x| *x as f32).collect()
    }

    /// The largest difference of two lists.
    fn apart(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
    }

    #[test]
    fn values_come_back_as_closely_as_the_format_allows() {
        let data = numbers(4 * 64, 1);
        let largest = data.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (format, most) in [(Format::F32, 0.0), (Format::Bf16, largest / 256.0), (Format::Q8, largest / 250.0)] {
            let stored = Stored::new(data.clone(), 64, format);
            let mut back = vec![0.0; 128];
            stored.unpack(64, &mut back);
            assert!(apart(&back, &data[64..192]) <= most, "{format:?}");
            assert_eq!(stored.slice(64, 128).as_ref(), back.as_slice());
        }
        assert!(matches!(Stored::new(vec![1.0; 6], 3, Format::Q8), Stored::Bf16(_)), "rows of 3 have no blocks");
    }

    #[test]
    fn products_are_those_of_the_unpacked_matrix_for_few_rows_and_for_many() {
        let (outs, ins) = (70, 64);
        let data = numbers(outs * ins, 2);
        for format in [Format::F32, Format::Bf16, Format::Q8] {
            let stored = Stored::new(data.clone(), ins, format);
            let plain = stored.slice(0, outs * ins).into_owned();
            for rows in [1, 3, 4, skinny::ROWS_MAX + 5] {
                let (x, dy) = (numbers(rows * ins, 3), numbers(rows * outs, 4));
                let (mut y, mut expected) = (vec![1.0; rows * outs], vec![1.0; rows * outs]);
                stored.forward(&x, ins, Out::Add, &mut y);
                plain.as_slice().forward(&x, ins, Out::Add, &mut expected);
                assert!(apart(&y, &expected) < 1e-4, "{format:?}, {rows} rows");
                let (mut dx, mut expected) = (vec![1.0; rows * ins], vec![2.0; rows * ins]);
                stored.backward(&dy, ins, &mut dx);
                plain.as_slice().backward(&dy, ins, &mut expected);
                assert!(apart(&dx, &expected) < 1e-4, "{format:?}, {rows} rows back");
            }
        }
    }

    #[test]
    fn a_checksum_sees_each_value_and_its_place() {
        let values: Vec<f32> = (0..1000).map(|i| i as f32 * 0.37 - 80.0).collect();
        for i in 0..values.len() {
            let mut other = values.clone();
            other[i] = -other[i];
            assert_ne!(checksum(&other), checksum(&values), "value {i}");
        }
        let mut swapped = values.clone();
        swapped.swap(3, 4);
        assert_ne!(checksum(&swapped), checksum(&values));
        assert_eq!(checksum(&[]), 0);
    }
}

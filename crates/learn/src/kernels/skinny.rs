//! Products of few rows with a large matrix, `y (+)= s x W^T`, as in decoding: W is read from memory once, straight into dot
//! products. A general product packs W first, which costs as much again when only a few rows use it (measured: 1.5 times slower at
//! 16 rows).

use super::matmul::{Columns, Out};
use super::memory::{LINE, prefetch_line};
use super::{LANES, Real};
use rayon::prelude::*;
use std::ops::Range;

/// With more rows packing pays.
pub(crate) const ROWS_MAX: usize = 48;
/// Outputs per rayon task; divisible by the width of every tile below.
const OUTS_PER_TASK: usize = 48;

/// Chunks of a row that are gone through for all rows of x before the next ones: six such pieces of W stay in the first cache.
const CHUNKS_AT_ONCE: usize = 80;
/// With more rows of x it pays to unpack costly rows of W once for all of them.
const COSTLY_ROWS_MAX: usize = 4;

/// The rows of W, whatever number format they are kept in. A row is a multiple of [`LANES`] long.
pub(crate) trait Rows<T: Real>: Sync {
    /// One row.
    type Row<'a>: Row<T>
    where
        Self: 'a;
    /// Whether a chunk takes more work than a product with it.
    const COSTLY: bool = false;
    /// The number of chunks of [`LANES`] in a row.
    fn chunks(&self) -> usize;
    /// Row `at`.
    fn row(&self, at: usize) -> Self::Row<'_>;
    /// Asks for a part of the rows `rows`, `(which, of how many)`, to be brought near the processor.
    fn ask_for(&self, rows: Range<usize>, part: (usize, usize));
}

/// A row of W.
pub(crate) trait Row<T: Real>: Copy {
    /// A chunk of it.
    fn chunk(self, at: usize) -> T::Lanes;
}

/// Plain rows, `(outs, ins)`.
pub(crate) struct Plain<'a, T> {
    chunks: &'a [[T; LANES]],
    per_row: usize,
    /// The number of the first of these rows.
    first: usize,
}

impl<'a, T> Plain<'a, T> {
    /// `None` where `ins` is no multiple of [`LANES`].
    pub(crate) fn new(w: &'a [T], ins: usize) -> Option<Self> {
        let (chunks, rest) = w.as_chunks();
        (rest.is_empty() && ins.is_multiple_of(LANES)).then_some(Self { chunks, per_row: ins / LANES, first: 0 })
    }
}

impl<T: Real> Rows<T> for Plain<'_, T> {
    type Row<'a>
        = &'a [[T; LANES]]
    where
        Self: 'a;

    fn chunks(&self) -> usize {
        self.per_row
    }

    fn row(&self, at: usize) -> &[[T; LANES]] {
        &self.chunks[(at - self.first) * self.per_row..][..self.per_row]
    }

    fn ask_for(&self, rows: Range<usize>, part: (usize, usize)) {
        let at = |row: usize| (row - self.first) * self.per_row;
        prefetch(self.chunks.get(at(rows.start)..at(rows.end)).unwrap_or_default(), part);
    }
}

/// Asks for a part of `data`, `(which, of how many)`, to be brought into the second cache, as the first is full of the rows of x.
pub(crate) fn prefetch<T>(data: &[T], (which, of): (usize, usize)) {
    let lines = size_of_val(data).div_ceil(LINE);
    let line = |line: usize| prefetch_line(data.as_ptr().cast::<i8>().wrapping_add(line * LINE));
    (lines * which / of..lines * (which + 1) / of).for_each(line);
}

impl<T: Real> Row<T> for &[[T; LANES]] {
    #[inline(always)]
    fn chunk(self, at: usize) -> T::Lanes {
        T::lanes(self[at])
    }
}

/// The rows of x and y.
pub(crate) struct Few<'a, T> {
    /// `(rows, ins)`, rows `x_stride` apart.
    pub(crate) x: &'a [T],
    pub(crate) x_stride: usize,
    /// `(rows, outs)`.
    pub(crate) y: Columns<'a, T>,
    pub(crate) rows: usize,
    pub(crate) outs: usize,
}

/// `y (+)= x W^T`; `x` is `(rows, ins)`, `y` is `(rows, outs)`.
pub(crate) fn multiply<T: Real>(x: &[T], ins: usize, out: Out, y: &mut [T], w: &impl Rows<T>) {
    let rows = x.len() / ins;
    let outs = y.len() / rows.max(1);
    product(&Few { x, x_stride: ins, y: Columns::new(y, outs), rows, outs }, out, T::ONE, w);
}

/// `y (+)= scale x W^T`, in parallel over the outputs. Each output is summed in one order, whatever the number of rows and threads.
pub(crate) fn product<T: Real, W: Rows<T>>(few: &Few<'_, T>, out: Out, scale: T, w: &W) {
    (0..few.outs).into_par_iter().step_by(OUTS_PER_TASK).for_each(|from| {
        let outs = from..few.outs.min(from + OUTS_PER_TASK);
        if W::COSTLY && few.rows > COSTLY_ROWS_MAX {
            let n = w.chunks();
            let mut chunks = Vec::with_capacity(outs.len() * n);
            for row in outs.clone().map(|o| w.row(o)) {
                chunks.extend((0..n).map(|i| T::lanes_array(row.chunk(i))));
            }
            some(few, outs, (out, scale), &Plain { chunks: &chunks, per_row: n, first: from });
        } else {
            some(few, outs, (out, scale), w);
        }
    });
}

/// The outputs `outs`.
fn some<T: Real>(few: &Few<'_, T>, outs: Range<usize>, how: (Out, T), w: &impl Rows<T>) {
    // The tiles' sizes: R x O sums, R rows of x and one of W are what sixteen registers hold.
    match few.rows {
        1 => columns::<T, 1, 4>(few, outs, how, w),
        2 => columns::<T, 2, 4>(few, outs, how, w),
        3 => columns::<T, 3, 4>(few, outs, how, w),
        _ => columns::<T, 2, 6>(few, outs, how, w),
    }
}

/// The outputs `outs` of all rows in tiles of R x O: for O outputs all rows one after the other, while weights of later ones are
/// brought from memory (measured: without asking for them half of the time passes waiting).
fn columns<T: Real, const R: usize, const O: usize>(
    few: &Few<'_, T>,
    outs: Range<usize>,
    how: (Out, T),
    w: &impl Rows<T>,
) {
    let (groups, blocks) = (few.rows.div_ceil(R), w.chunks().div_ceil(CHUNKS_AT_ONCE));
    let block = w.chunks().div_ceil(blocks.max(1));
    let later = |tiles: usize, from: usize| (from + tiles * O).min(few.outs);
    for from in outs.clone().step_by(O) {
        for (part, (at, group)) in (0..blocks).flat_map(|b| (0..groups).map(move |g| (b * block, g))).enumerate() {
            w.ask_for(later(2, from)..later(3, from), (part, blocks * groups));
            let chunks = at..w.chunks().min(at + block);
            let how = (if at == 0 { how.0 } else { Out::Add }, how.1);
            let row = group * R;
            match (few.rows - row, from + O <= outs.end) {
                (left, true) if left >= R => one::<T, R, O>(few, row, from, chunks, how, w),
                (left, true) => {
                    (row..row + left).for_each(|row| one::<T, 1, O>(few, row, from, chunks.clone(), how, w))
                }
                (left, false) => {
                    let rows = row..row + left.min(R);
                    (from..outs.end)
                        .for_each(|o| rows.clone().for_each(|row| one::<T, 1, 1>(few, row, o, chunks.clone(), how, w)));
                }
            }
        }
    }
}

/// One tile of outputs, written.
#[inline(always)]
fn one<T: Real, const R: usize, const O: usize>(
    few: &Few<'_, T>,
    row: usize,
    o: usize,
    chunks: Range<usize>,
    how: (Out, T),
    w: &impl Rows<T>,
) {
    let n = w.chunks() * LANES;
    let x: [&[[T; LANES]]; R] = std::array::from_fn(|r| few.x[(row + r) * few.x_stride..][..n].as_chunks().0);
    write(few, row, o, tile::<T, R, O>(x, o, chunks, w), how);
}

/// R x O dot products.
#[inline(always)]
fn tile<T: Real, const R: usize, const O: usize>(
    x: [&[[T; LANES]]; R],
    o: usize,
    chunks: Range<usize>,
    w: &impl Rows<T>,
) -> [[T; O]; R] {
    let zero = T::lanes([T::ZERO; LANES]);
    let (mut sums, mut held, mut found) = ([[zero; O]; R], [zero; R], [[T::ZERO; O]; R]);
    let x = x.map(|x| &x[..chunks.end]);
    let w: [_; O] = std::array::from_fn(|j| w.row(o + j));
    // Plain loops: closures over arrays are not always inlined here, which costs a third of the speed.
    for i in chunks {
        // R rows of x are held while those of W pass: all at once are more than the registers (measured: six times slower).
        for r in 0..R {
            held[r] = T::lanes(x[r][i]);
        }
        for j in 0..O {
            let w = w[j].chunk(i);
            for r in 0..R {
                sums[r][j] = T::lanes_mul_add(held[r], w, sums[r][j]);
            }
        }
    }
    for r in 0..R {
        for j in 0..O {
            found[r][j] = T::lanes_sum(sums[r][j]);
        }
    }
    found
}

#[inline(always)]
fn write<T: Real, const R: usize, const O: usize>(
    few: &Few<'_, T>,
    row: usize,
    o: usize,
    found: [[T; O]; R],
    (out, scale): (Out, T),
) {
    // SAFETY: each task has its own columns.
    #[allow(unsafe_code)]
    let mut y = unsafe { few.y.block(row, R, o, O) };
    for (r, found) in found.iter().enumerate() {
        let y = y.row(r).iter_mut().zip(found);
        match out {
            Out::Set => y.for_each(|(y, sum)| *y = scale * *sum),
            Out::Add => y.for_each(|(y, sum)| *y += scale * *sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::random;
    use crate::kernels::stored::{Format, Stored, Weight};

    /// Rows of one piece, and of two.
    const INS: [usize; 2] = [24, 8 * CHUNKS_AT_ONCE + 16];

    #[test]
    fn every_number_of_rows_agrees_with_the_definition() {
        for ins in INS {
            let outs = 2 * OUTS_PER_TASK + 11;
            let w = random(outs * ins, 1);
            for rows in 1..8 {
                let x = random(rows * ins, 2);
                let mut y = vec![1.0; rows * outs];
                let few = Few { x: &x, x_stride: ins, y: Columns::new(&mut y, outs), rows, outs };
                product(&few, Out::Add, 2.0, &Plain::new(&w, ins).expect("a multiple of the lanes"));
                for (at, y) in y.iter().enumerate() {
                    let (r, o) = (at / outs, at % outs);
                    let sum: f64 = (0..ins).map(|i| x[r * ins + i] * w[o * ins + i]).sum();
                    assert!((y - 1.0 - 2.0 * sum).abs() < 1e-11, "row {r} of {rows}, output {o} of {ins} products");
                }
            }
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_alone_and_in_a_crowd() {
        for (ins, format) in INS.into_iter().flat_map(|ins| [Format::F32, Format::Bf16, Format::Q8].map(|f| (ins, f))) {
            // Large enough not to go through the general product.
            let (ins, outs, rows) = (ins.next_multiple_of(32), 3 * OUTS_PER_TASK + 7, 9);
            let few = |n: usize, seed: u64| -> Vec<f32> { random(n, seed).iter().map(|x| *x as f32).collect() };
            let (w, x) = (Stored::new(few(outs * ins, 1), ins, format), few(rows * ins, 2));
            let mut crowd = vec![0.0; rows * outs];
            w.forward(&x, ins, Out::Set, &mut crowd);
            for (x, expected) in x.chunks(ins).zip(crowd.chunks(outs)) {
                let mut alone = vec![f32::NAN; outs];
                w.forward(x, ins, Out::Set, &mut alone);
                assert_eq!(alone, expected, "{format:?}, {ins} products");
            }
        }
    }
}

//! Frozen matrices laid out for serving, and their products `y (+)= x W^T` with any number of rows.
//!
//! Sixteen outputs make a panel, in which the sixteen weights of an input lie side by side: a product multiplies them with one value of x at
//! once and never adds across a vector (the layout of Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication"). Each
//! output is summed input after input, in one order, so that a row's bits depend neither on the other rows nor on the number of threads.

use super::matmul::{Columns, MatMut, Out};
use super::stored::{BLOCK, wide as widened};
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::Cell;
use wide::f32x8;

mod format;
#[cfg(target_arch = "x86_64")]
mod sixteen;

pub(crate) use format::{Panel, Sixteen, pair};

/// Outputs of a panel: two vectors.
pub(crate) const WIDTH: usize = 16;
/// The most rows that are multiplied at once: their twelve sums, two vectors of weights and a value of x fill sixteen registers of eight.
/// Of thirty-two registers of sixteen, as many rows of two panels.
pub(crate) const ROWS: usize = 6;
/// Panels per task; divisible by the panels of every tile.
const PANELS_PER_TASK: usize = 4;
/// Groups of rows that one task packs.
const GROUPS_PER_TASK: usize = 4;
/// Bytes that come from memory together.
pub(crate) const LINE: usize = 64;
/// How many lines ahead of their use a single group of rows asks for weights.
const LINES_AHEAD: usize = 64;

/// The two halves of a panel.
pub(crate) type Pair = [f32x8; 2];
pub(crate) const ZERO: Pair = [f32x8::ZERO; 2];

/// A matrix `(outs, ins)` in panels; the last one is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels {
    pub(crate) ins: usize,
    pub(crate) outs: usize,
    pub(crate) weights: Weights,
}

/// Each `(panels, ins, WIDTH)`.
#[derive(Debug)]
pub(crate) enum Weights {
    F32(Vec<[f32; WIDTH]>),
    Bf16(Vec<[bf16; WIDTH]>),
    /// The values, and the scale of each block of inputs, `(panels, ins / BLOCK, WIDTH)`.
    Q8(Vec<[i8; WIDTH]>, Vec<[f16; WIDTH]>),
}

/// Lays rows of `cols` values out in panels.
pub(crate) fn pack<E: Copy + Default>(rows: &[E], cols: usize) -> Vec<[E; WIDTH]> {
    let mut packed = Vec::with_capacity(rows.len().div_ceil(cols * WIDTH) * cols);
    for panel in rows.chunks(cols * WIDTH) {
        packed.extend((0..cols).map(|i| {
            let mut side_by_side = [E::default(); WIDTH];
            side_by_side.iter_mut().zip(panel[i..].iter().step_by(cols)).for_each(|(to, from)| *to = *from);
            side_by_side
        }));
    }
    packed
}

impl Panels {
    /// The weight of output `out` for input `at`.
    pub(crate) fn value(&self, out: usize, at: usize) -> f32 {
        let (panel, lane) = (out / WIDTH, out % WIDTH);
        let place = panel * self.ins + at;
        match &self.weights {
            Weights::F32(w) => w[place][lane],
            Weights::Bf16(w) => widened(w[place][lane]),
            Weights::Q8(w, scales) => {
                let scale = scales[panel * (self.ins / BLOCK) + at / BLOCK][lane];
                f32::from(w[place][lane]) * scale.to_f32()
            }
        }
    }

    /// `y (+)= x W^T`; `x` is `(rows, ins)`, `y` is `(rows, outs)`.
    pub(crate) fn multiply(&self, x: &[f32], out: Out, y: &mut [f32]) {
        if x.is_empty() {
            return;
        }
        let packed = pack_rows(x, self.ins);
        let product = Product {
            x: &packed,
            rows: x.len() / self.ins,
            ins: self.ins,
            outs: self.outs,
            y: Columns::new(y, self.outs),
            out,
        };
        match &self.weights {
            Weights::F32(w) => product.run(w.chunks_exact(self.ins).collect()),
            Weights::Bf16(w) => product.run(w.chunks_exact(self.ins).collect()),
            Weights::Q8(w, scales) => {
                let panels = w.chunks_exact(self.ins).zip(scales.chunks_exact(self.ins / BLOCK));
                product.run(panels.collect());
            }
        }
        PACKED.set(packed);
    }
}

thread_local! {
    /// The rows of x; taken out while in use, as rayon may give this thread another product to do meanwhile.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Whether the sums of two panels fit into the registers beside each other.
fn sums_of_two() -> bool {
    #[cfg(target_arch = "x86_64")]
    return sixteen::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The sizes of groups of at most [`ROWS`] rows, as equal as can be.
fn groups(rows: usize) -> impl Iterator<Item = usize> {
    let n = rows.div_ceil(ROWS);
    (0..n).map(move |g| (g + 1) * rows / n - g * rows / n)
}

/// x in groups of rows, in each of which the rows' values of an input lie side by side.
fn pack_rows(x: &[f32], ins: usize) -> Vec<f32> {
    let mut packed = PACKED.take();
    packed.resize(x.len(), 0.0);
    let (mut from, mut to, mut work) = (x, packed.as_mut_slice(), Vec::new());
    for rows in groups(x.len() / ins) {
        let (these, later) = from.split_at(rows * ins);
        let (place, rest) = to.split_at_mut(rows * ins);
        work.push((rows, these, place));
        (from, to) = (later, rest);
    }
    work.into_par_iter().with_min_len(GROUPS_PER_TASK).for_each(|(rows, x, to)| match rows {
        1 => to.copy_from_slice(x),
        2 => side_by_side::<2>(x, to),
        3 => side_by_side::<3>(x, to),
        4 => side_by_side::<4>(x, to),
        5 => side_by_side::<5>(x, to),
        _ => side_by_side::<ROWS>(x, to),
    });
    packed
}

/// `R` rows of x, one below the other, become R columns.
fn side_by_side<const R: usize>(x: &[f32], to: &mut [f32]) {
    let ins = x.len() / R;
    let rows: [&[f32]; R] = std::array::from_fn(|r| &x[r * ins..][..ins]);
    let (to, _) = to.as_chunks_mut::<R>();
    for (i, to) in to.iter_mut().enumerate() {
        for r in 0..R {
            to[r] = rows[r][i];
        }
    }
}

/// A product.
struct Product<'a> {
    /// As [`pack_rows`] leaves them.
    x: &'a [f32],
    rows: usize,
    ins: usize,
    outs: usize,
    y: Columns<'a, f32>,
    out: Out,
}

impl Product<'_> {
    fn run<P: Panel>(&self, panels: Vec<P>) {
        panels.par_chunks(PANELS_PER_TASK).enumerate().for_each(|(task, panels)| {
            let first = task * PANELS_PER_TASK;
            match self.rows {
                1 => self.one_group::<P, 1, 4>(panels, first),
                2 => self.one_group::<P, 2, 2>(panels, first),
                _ if sums_of_two() => self.all_groups::<P, 2>(panels, first),
                _ => self.all_groups::<P, 1>(panels, first),
            }
        });
    }

    /// Few rows need several panels at once: a sum waits for its last addition.
    fn one_group<P: Panel, const R: usize, const N: usize>(&self, panels: &[P], first: usize) {
        let (tiles, rest) = panels.as_chunks::<N>();
        tiles.iter().enumerate().for_each(|(i, &tile)| self.tile::<P, R, N>(tile, first + i * N, 0, (0, 1)));
        let first = first + tiles.len() * N;
        rest.iter().enumerate().for_each(|(i, &panel)| self.tile::<P, R, 1>([panel], first + i, 0, (0, 1)));
    }

    /// `N` panels at a time times all rows, group by group, while they lie in the cache.
    fn all_groups<P: Panel, const N: usize>(&self, panels: &[P], first: usize) {
        let (tiles, rest) = panels.as_chunks::<N>();
        tiles.iter().enumerate().for_each(|(i, &tile)| self.each_group(tile, first + i * N));
        let first = first + tiles.len() * N;
        rest.iter().enumerate().for_each(|(i, &panel)| self.each_group([panel], first + i));
    }

    fn each_group<P: Panel, const N: usize>(&self, panels: [P; N], at: usize) {
        let (mut row, count) = (0, self.rows.div_ceil(ROWS));
        for (i, rows) in groups(self.rows).enumerate() {
            let which = (i, count);
            match rows {
                1 => self.tile::<P, 1, N>(panels, at, row, which),
                2 => self.tile::<P, 2, N>(panels, at, row, which),
                3 => self.tile::<P, 3, N>(panels, at, row, which),
                4 => self.tile::<P, 4, N>(panels, at, row, which),
                5 => self.tile::<P, 5, N>(panels, at, row, which),
                _ => self.tile::<P, ROWS, N>(panels, at, row, which),
            }
            row += rows;
        }
    }

    /// `R` rows from `row` times `N` panels from `at`; the group `which` of so many.
    #[inline(always)]
    fn tile<P: Panel, const R: usize, const N: usize>(
        &self,
        panels: [P; N],
        at: usize,
        row: usize,
        which: (usize, usize),
    ) {
        let x: &[[f32; R]] = self.x[row * self.ins..(row + R) * self.ins].as_chunks().0;
        let mut sums = [[ZERO; R]; N];
        if self.out == Out::Add {
            for (n, sums) in sums.iter_mut().enumerate() {
                let mut y = self.block(row, R, at + n);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let mut all = [0.0; WIDTH];
                    all[..y.row(r).len()].copy_from_slice(y.row(r));
                    *sums = pair(&all, |x| x);
                }
            }
        }
        products(x, panels, which, &mut sums);
        for (n, sums) in sums.iter().enumerate() {
            let mut y = self.block(row, R, at + n);
            for (r, sums) in sums.iter().enumerate() {
                let (y, all) = (y.row(r), sums.map(f32x8::to_array));
                y.copy_from_slice(&all.as_flattened()[..y.len()]);
            }
        }
    }

    /// A panel's columns of some rows of y.
    fn block(&self, row: usize, rows: usize, panel: usize) -> MatMut<'_, f32> {
        let col = panel * WIDTH;
        // SAFETY: each panel is one task's, so nobody else has these columns, and the task drops a block before it takes another.
        #[allow(unsafe_code)]
        unsafe {
            self.y.block(row, rows, col, WIDTH.min(self.outs - col))
        }
    }
}

/// Adds the products of `R` rows with `N` panels to `sums`; meanwhile asks for weights of later panels.
#[inline(always)]
fn products<P: Panel, const R: usize, const N: usize>(
    x: &[[f32; R]],
    panels: [P; N],
    which: (usize, usize),
    sums: &mut [[Pair; R]; N],
) {
    #[cfg(target_arch = "x86_64")]
    if R >= sixteen::ROWS_MIN && sixteen::available() {
        // SAFETY: the CPU has what it needs.
        #[allow(unsafe_code)]
        return unsafe { sixteen::products(x, panels, which, sums) };
    }
    by_eight(x, panels, which, sums);
}

/// The same with vectors of eight, as every CPU that hone is built for has them.
#[inline(always)]
pub(crate) fn by_eight<P: Panel, const R: usize, const N: usize>(
    x: &[[f32; R]],
    panels: [P; N],
    which: (usize, usize),
    sums: &mut [[Pair; R]; N],
) {
    let start = if P::SCALED { [[ZERO; R]; N] } else { *sums };
    let mut now = start;
    assert!(panels.iter().all(|panel| panel.ins() == x.len()));
    for (block, inputs) in x.chunks(BLOCK).enumerate() {
        for panel in panels {
            ask_for::<P, N>(panel, block, which);
        }
        // Plain loops: closures over arrays are not always inlined here, and then the sums lie in memory.
        for (i, x) in inputs.iter().enumerate() {
            for n in 0..N {
                let [low, high] = panels[n].weights(block * BLOCK + i).pair();
                for r in 0..R {
                    let x = f32x8::splat(x[r]);
                    now[n][r] = [x.mul_add(low, now[n][r][0]), x.mul_add(high, now[n][r][1])];
                }
            }
        }
        if P::SCALED {
            for n in 0..N {
                let [low, high] = panels[n].scale(block);
                for r in 0..R {
                    let [a, b] = now[n][r];
                    sums[n][r] = [a.mul_add(low, sums[n][r][0]), b.mul_add(high, sums[n][r][1])];
                    now[n][r] = ZERO;
                }
            }
        }
    }
    if !P::SCALED {
        *sums = now;
    }
}

/// Asks for later weights, into the second cache. The panels lie one after the other in memory: one group of rows asks for what comes
/// soon; several share the panels that come after the `N` in use.
#[inline(always)]
fn ask_for<P: Panel, const N: usize>(panel: P, block: usize, (group, groups): (usize, usize)) {
    let lines = (BLOCK / P::PER_LINE).div_ceil(groups);
    let place = if groups == 1 {
        panel.weights(block * BLOCK).place().wrapping_add(LINES_AHEAD * LINE)
    } else {
        let (ins, blocks) = (panel.ins(), panel.ins().div_ceil(BLOCK));
        panel.weights(0).place().wrapping_add((N * ins / P::PER_LINE + (group * blocks + block) * lines) * LINE)
    };
    (0..lines).for_each(|line| prefetch_line(place.wrapping_add(line * LINE)));
}

/// Asks for the line at `place` to be brought into the second cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch_line(place: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a hint that reads nothing and faults at no address.
    #[allow(unsafe_code)]
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(place);
    }
}

/// No stable Rust asks for it elsewhere.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch_line(_: *const i8) {}

#[cfg(test)]
mod tests;

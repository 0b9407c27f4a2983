//! Frozen matrices laid out for serving, and their products `y (+)= x W^T` with any number of rows.
//!
//! Sixteen outputs make a panel, in which the sixteen weights of an input lie side by side: a product multiplies them with one value of x at
//! once and never adds across a vector (the layout of Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication"). Each
//! output is summed input after input, in one order, so that a row's bits depend neither on the other rows nor on the number of threads.

use super::matmul::{Columns, MatMut, Out};
use super::memory::{LINE, Pages, prefetch_line};
use super::stored::{BLOCK, wide as widened};
use bytemuck::Pod;
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::Cell;
use std::io;
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
/// Groups of rows that one task packs.
const GROUPS_PER_TASK: usize = 4;
/// How many lines ahead of their use a single group of rows asks for weights.
const LINES_AHEAD: usize = 48;

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
    F32(Pages<[f32; WIDTH]>),
    Bf16(Pages<[bf16; WIDTH]>),
    /// The values, and the scale of each block of inputs, `(panels, ins / BLOCK, WIDTH)`.
    Q8(Pages<[i8; WIDTH]>, Pages<[f16; WIDTH]>),
}

/// Lays rows of `cols` values out in panels.
///
/// # Errors
/// When there is no memory for them.
pub(crate) fn pack<E: Pod>(rows: &[E], cols: usize) -> io::Result<Pages<[E; WIDTH]>>
where
    [E; WIDTH]: Pod,
{
    let mut packed = Pages::<[E; WIDTH]>::zeros(rows.len().div_ceil(cols * WIDTH) * cols)?;
    for (panel, to) in rows.chunks(cols * WIDTH).zip(packed.chunks_mut(cols)) {
        for (i, to) in to.iter_mut().enumerate() {
            to.iter_mut().zip(panel[i..].iter().step_by(cols)).for_each(|(to, from)| *to = *from);
        }
    }
    Ok(packed)
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

/// Whether two panels are multiplied at once: where there are registers for the sums of both, and so many rows that they are used.
fn two_at_once(rows: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return rows >= sixteen::ROWS_MIN && sixteen::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The sizes of groups of at most [`ROWS`] rows, as equal as can be.
fn sizes(rows: usize) -> impl Iterator<Item = usize> {
    let n = rows.div_ceil(ROWS);
    (0..n).map(move |g| (g + 1) * rows / n - g * rows / n)
}

/// x in groups of rows, in each of which the rows' values of an input lie side by side.
fn pack_rows(x: &[f32], ins: usize) -> Vec<f32> {
    let mut packed = PACKED.take();
    packed.resize(x.len(), 0.0);
    let (mut from, mut to, mut work) = (x, packed.as_mut_slice(), Vec::new());
    for rows in sizes(x.len() / ins) {
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
    /// One panel is a task, or two: that no thread has much more to do than another.
    fn run<P: Panel>(&self, panels: Vec<P>) {
        if two_at_once(self.rows) {
            panels.par_chunks(2).enumerate().for_each(|(task, panels)| match *panels {
                [a, b] => self.each_group([a, b], task * 2),
                _ => self.each_group([panels[0]], task * 2),
            });
        } else {
            panels.par_iter().enumerate().for_each(|(at, &panel)| self.each_group([panel], at));
        }
    }

    /// `N` panels from `at` times all rows, group by group, while they lie in the cache.
    fn each_group<P: Panel, const N: usize>(&self, panels: [P; N], at: usize) {
        let (mut row, groups) = (0, self.rows.div_ceil(ROWS));
        for (i, rows) in sizes(self.rows).enumerate() {
            let asks = Some(Asks { group: i, groups });
            match rows {
                1 => self.tile::<P, 1, N>(panels, at, row, asks),
                2 => self.tile::<P, 2, N>(panels, at, row, asks),
                3 => self.tile::<P, 3, N>(panels, at, row, asks),
                4 => self.tile::<P, 4, N>(panels, at, row, asks),
                5 => self.tile::<P, 5, N>(panels, at, row, asks),
                _ => self.tile::<P, ROWS, N>(panels, at, row, asks),
            }
            row += rows;
        }
    }

    /// `R` rows from `row` times `N` panels from `at`.
    #[inline(always)]
    fn tile<P: Panel, const R: usize, const N: usize>(
        &self,
        panels: [P; N],
        at: usize,
        row: usize,
        asks: Option<Asks>,
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
        products(x, panels, asks, &mut sums);
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
    asks: Option<Asks>,
    sums: &mut [[Pair; R]; N],
) {
    #[cfg(target_arch = "x86_64")]
    if R >= sixteen::ROWS_MIN && sixteen::available() {
        // SAFETY: the CPU has what it needs.
        #[allow(unsafe_code)]
        return unsafe { sixteen::products(x, panels, asks, sums) };
    }
    by_eight(x, panels, asks, sums);
}

/// The same with vectors of eight, as every CPU that hone is built for has them.
#[inline(always)]
pub(crate) fn by_eight<P: Panel, const R: usize, const N: usize>(
    x: &[[f32; R]],
    panels: [P; N],
    asks: Option<Asks>,
    sums: &mut [[Pair; R]; N],
) {
    let start = if P::SCALED { [[ZERO; R]; N] } else { *sums };
    let mut now = start;
    assert!(panels.iter().all(|panel| panel.ins() == x.len()));
    for (block, inputs) in x.chunks(BLOCK).enumerate() {
        if let Some(asks) = asks {
            panels.iter().for_each(|panel| asks.ask_for::<P, N>(*panel, block));
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

/// Which later weights a group of rows asks for, into the second cache, while it is multiplied. The panels lie one after the other in
/// memory: a single group asks for what comes soon; several share the panels that come after those in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    group: usize,
    groups: usize,
}

impl Asks {
    #[inline(always)]
    fn ask_for<P: Panel, const N: usize>(self, panel: P, block: usize) {
        let lines = (BLOCK / P::PER_LINE).div_ceil(self.groups);
        let of_panel = panel.ins() / P::PER_LINE;
        let at = if self.groups == 1 {
            let soon = block * lines + LINES_AHEAD;
            // Behind a panel's end lies one that is in use beside it.
            if soon < of_panel { soon } else { soon + (N - 1) * of_panel }
        } else {
            N * of_panel + (self.group * panel.ins().div_ceil(BLOCK) + block) * lines
        };
        let place = panel.weights(0).place().wrapping_add(at * LINE);
        (0..lines).for_each(|line| prefetch_line(place.wrapping_add(line * LINE)));
    }
}

#[cfg(test)]
mod tests;

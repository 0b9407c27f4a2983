//! Matrix products, by the `gemm` crate on rayon's threads, behind views that check their bounds.

use super::Real;
use super::skinny::{self, Few, Plain};
use gemm::Parallelism;
use std::marker::PhantomData;

/// A matrix to read: `(rows, cols)` with a stride for each, so that a transpose or a block of columns costs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    ptr: *const T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    life: PhantomData<&'a [T]>,
}

impl<'a, T> Mat<'a, T> {
    /// A whole row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `cols` columns from the start of each row; rows are `stride` apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        check_bounds(data.len(), rows, cols, stride);
        Self { ptr: data.as_ptr(), rows, cols, row_stride: stride, col_stride: 1, life: PhantomData }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        let Self { rows, cols, row_stride, col_stride, .. } = self;
        Self { rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride, ..self }
    }
}

/// A row-major matrix to write, rows `stride` apart.
pub(crate) struct MatMut<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    life: PhantomData<&'a mut [T]>,
}

impl<'a, T> MatMut<'a, T> {
    /// A whole row-major matrix.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `cols` columns from the start of each row; rows are `stride` apart.
    pub(crate) fn strided(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        check_bounds(data.len(), rows, cols, stride);
        Self { ptr: data.as_mut_ptr(), rows, cols, row_stride: stride, life: PhantomData }
    }
}

impl<T> MatMut<'_, T> {
    /// The same view, for a while.
    pub(crate) fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { life: PhantomData, ..*self }
    }
}

impl<T> MatMut<'_, T> {
    /// One row.
    #[allow(unsafe_code)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: within the view, as just checked, and the view within its slice; borrowed as long as the view.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(row * self.row_stride), self.cols) }
    }
}

fn check_bounds(len: usize, rows: usize, cols: usize, stride: usize) {
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols };
    assert!(needed <= len && (cols <= stride || rows <= 1), "({rows}, {cols}) with stride {stride} in {len} values");
}

/// A buffer whose columns are written by several threads at once.
///
/// Blocks of columns of a row-major matrix interleave in memory, so they can't be split into slices.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, T> {
    ptr: *mut T,
    len: usize,
    stride: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out blocks through the unsafe `block`, whose caller promises that no two live ones overlap.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Columns<'_, T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// A row-major matrix with rows of `stride` values.
    pub(crate) fn new(data: &'a mut [T], stride: usize) -> Self {
        Self { ptr: data.as_mut_ptr(), len: data.len(), stride, life: PhantomData }
    }

    /// The block of `cols` columns from `col` in `rows` rows from `row`.
    ///
    /// # Safety
    /// No two blocks that are alive at the same time may overlap.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn block(&self, row: usize, rows: usize, col: usize, cols: usize) -> MatMut<'a, T> {
        let start = row * self.stride + col;
        assert!(start <= self.len && col + cols <= self.stride);
        check_bounds(self.len - start, rows, cols, self.stride);
        // SAFETY: `start` is within the buffer, as just checked.
        MatMut { ptr: unsafe { self.ptr.add(start) }, rows, cols, row_stride: self.stride, life: PhantomData }
    }
}

/// What a product does with what its destination holds.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Out {
    /// Overwrites it.
    Set,
    /// Adds to it.
    Add,
}

/// `dst (+)= scale * a b`, on all threads when it is large enough to gain from it.
pub(crate) fn matmul<T: Real>(dst: MatMut<'_, T>, out: Out, scale: T, a: Mat<'_, T>, b: Mat<'_, T>) {
    match few_rows(&dst, a, b) {
        Some((few, w)) => skinny::product(&few, out, scale, &w),
        None => product(dst, out, scale, a, b, Parallelism::Rayon(0)),
    }
}

/// The operands of a product of few rows with the transpose of a matrix. Small matrices too: there each row's bits don't depend on how
/// many rows there are, which a served answer relies on.
#[allow(unsafe_code)]
fn few_rows<'a, T: Real>(dst: &MatMut<'a, T>, a: Mat<'a, T>, b: Mat<'a, T>) -> Option<(Few<'a, T>, Plain<'a, T>)> {
    let (rows, ins, outs) = (a.rows, b.rows, b.cols);
    let suits = (1..=skinny::ROWS_MAX).contains(&rows) && ins > 0 && outs > 0;
    if !suits
        || b.row_stride != 1
        || b.col_stride != ins
        || a.col_stride != 1
        || a.cols != ins
        || dst.cols != outs
        || dst.rows != rows
    {
        return None;
    }
    let end = (rows - 1) * a.row_stride + ins;
    // SAFETY: the views were checked against their slices when they were made, and b's rows lie without gaps.
    let (x, w) = unsafe { (std::slice::from_raw_parts(a.ptr, end), std::slice::from_raw_parts(b.ptr, ins * outs)) };
    let len = (rows - 1) * dst.row_stride + outs;
    let y = Columns { ptr: dst.ptr, len, stride: dst.row_stride, life: PhantomData };
    Some((Few { x, x_stride: a.row_stride, y, rows, outs }, Plain::new(w, ins)?))
}

/// The same on this thread alone, for callers that are already parallel.
pub(crate) fn matmul_serial<T: Real>(dst: MatMut<'_, T>, out: Out, scale: T, a: Mat<'_, T>, b: Mat<'_, T>) {
    product(dst, out, scale, a, b, Parallelism::None);
}

#[allow(unsafe_code)]
fn product<T: Real>(dst: MatMut<'_, T>, out: Out, scale: T, a: Mat<'_, T>, b: Mat<'_, T>, threads: Parallelism) {
    assert!(
        a.cols == b.rows && dst.rows == a.rows && dst.cols == b.cols,
        "({}, {}) x ({}, {}) into ({}, {})",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        dst.rows,
        dst.cols
    );
    if dst.rows == 0 || dst.cols == 0 {
        return;
    }
    // SAFETY: the views were checked against their slices when they were made, and the shapes fit (above). `dst` is
    // borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            a.cols,
            dst.ptr,
            1,
            dst.row_stride as isize,
            out == Out::Add,
            a.ptr,
            a.col_stride as isize,
            a.row_stride as isize,
            b.ptr,
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_strides_and_accumulates() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // (2, 3)
        let mut y = [1.0; 6]; // (2, 3), of which columns 1.. are written
        matmul(MatMut::strided(&mut y[1..], 2, 2, 3), Out::Add, 2.0, Mat::new(&a, 2, 3), Mat::new(&a, 2, 3).t());
        assert_eq!(y, [1.0, 29.0, 65.0, 1.0, 65.0, 155.0]);
    }

    #[test]
    fn one_row_with_a_large_matrix() {
        let (outs, ins) = (701, 200);
        let w: Vec<f64> = (0..outs * ins).map(|i| f64::from(i as u32 % 11)).collect();
        let x: Vec<f64> = (0..ins).map(|i| f64::from(i as u32 % 7)).collect();
        let mut y = vec![1.0; outs];
        matmul(MatMut::new(&mut y, 1, outs), Out::Add, 2.0, Mat::new(&x, 1, ins), Mat::new(&w, outs, ins).t());
        for (o, y) in y.iter().enumerate() {
            let sum: f64 = (0..ins).map(|i| x[i] * w[o * ins + i]).sum();
            assert_eq!(*y, 1.0 + 2.0 * sum);
        }
    }

    #[test]
    #[should_panic(expected = "with stride")]
    fn a_view_past_the_end_is_refused() {
        Mat::new(&[0.0f32; 5], 2, 3);
    }
}

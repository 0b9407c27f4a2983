//! The ops of a block as pairs of pure functions, forward and backward, on row-major slices. Nothing here knows of models.
//!
//! Each is written once for f32 (to compute) and f64 (to check its gradient against finite differences).

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod panels;
mod real;
pub(crate) mod reduce;
pub(crate) mod rope;
pub(crate) mod skinny;
pub(crate) mod stored;
pub(crate) mod swiglu;

#[cfg(test)]
pub(crate) mod check;

pub(crate) use real::{LANES, Real};
pub(crate) use skinny::ROWS_MAX as FEW_ROWS_MAX;

//! The ops of a block as pairs of pure functions, forward and backward, on row-major slices. Nothing here knows of models.

mod real;

pub(crate) use real::Real;

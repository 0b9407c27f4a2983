//! The only crate that names mistralrs: an Engine that serves policies through it, with guards.

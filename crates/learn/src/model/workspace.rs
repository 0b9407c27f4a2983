//! Buffers that one step after the other uses again: fresh memory costs a page fault every 4 KiB.

use super::block::Acts;
use super::{Batch, Dropout};

/// What a kept forward pass leaves for its backward pass.
#[derive(Debug)]
pub(crate) struct Trace {
    /// To recognise the batch.
    pub(crate) batch: Batch,
    /// The first block that was kept.
    pub(crate) first: usize,
    /// For each block from `first`: its input, or all that it computed.
    pub(crate) blocks: Vec<Saved>,
    /// The input of the final norm, `(tokens, hidden)`.
    pub(crate) last: Vec<f32>,
    /// What the pass dropped.
    pub(crate) dropout: Option<Dropout>,
}

/// What is kept of one block.
#[derive(Debug)]
pub(crate) enum Saved {
    /// Its input, `(tokens, hidden)`.
    Input(Vec<f32>),
    /// Everything that backward needs.
    All(Box<Acts>),
}

/// Reusable buffers, and what the last kept forward pass left for [`super::backward`].
#[derive(Debug, Default)]
pub struct Workspace {
    free: Vec<Vec<f32>>,
    pub(crate) trace: Option<Trace>,
}

impl Workspace {
    /// No buffers yet; they come with use.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` values, whatever they are.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        if len == 0 {
            return Vec::new();
        }
        let fits = (0..self.free.len()).filter(|&i| self.free[i].capacity() >= len);
        match fits.min_by_key(|&i| self.free[i].capacity()) {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.resize(len, 0.0);
                buffer
            }
            None => {
                // A larger batch than before: the largest buffer that does not fit makes room for the new one.
                let largest = (0..self.free.len()).max_by_key(|&i| self.free[i].capacity());
                largest.into_iter().for_each(|i| drop(self.free.swap_remove(i)));
                vec![0.0; len]
            }
        }
    }

    /// Gives a buffer back, for the next one who needs it.
    pub fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }

    /// Forgets what the last kept forward pass left.
    pub(crate) fn forget(&mut self) {
        let Some(trace) = self.trace.take() else { return };
        self.give(trace.last);
        for saved in trace.blocks {
            match saved {
                Saved::Input(x) => self.give(x),
                Saved::All(acts) => acts.give_back(self),
            }
        }
    }
}

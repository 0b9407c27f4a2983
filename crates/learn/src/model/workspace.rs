//! Buffers that one step after the other uses again: fresh memory costs a page fault every 4 KiB.

use super::block::Acts;
use super::{Batch, Dropout};
#[cfg(feature = "cuda")]
use crate::backend::cuda::Cuda;
use crate::backend::{Backend, Cpu, Values};

/// What a kept forward pass leaves for its backward pass.
#[derive(Debug)]
pub(crate) struct Trace<B: Backend> {
    /// To recognise the batch.
    pub(crate) batch: Batch,
    /// The first block that was kept.
    pub(crate) first: usize,
    /// For each block from `first`: its input, or all that it computed.
    pub(crate) blocks: Vec<Saved<B>>,
    /// The input of the final norm, `(tokens, hidden)`.
    pub(crate) last: B::Buffer,
    /// What the pass dropped.
    pub(crate) dropout: Option<Dropout>,
}

/// What is kept of one block.
#[derive(Debug)]
pub(crate) enum Saved<B: Backend> {
    /// Its input, `(tokens, hidden)`.
    Input(B::Buffer),
    /// Everything that backward needs.
    All(Box<Acts<B>>),
}

/// The reusable buffers of one device.
#[derive(Debug)]
pub(crate) struct Pool<B: Backend> {
    on: B,
    free: Vec<B::Buffer>,
    pub(crate) trace: Option<Trace<B>>,
}

impl<B: Backend> Pool<B> {
    pub(crate) fn new(on: B) -> Self {
        Self { on, free: Vec::new(), trace: None }
    }

    /// A buffer of `len` values, whatever they are.
    pub(crate) fn take(&mut self, len: usize) -> B::Buffer {
        if len == 0 {
            return self.on.buffer(0);
        }
        let fits = (0..self.free.len()).filter(|&i| self.free[i].capacity() >= len);
        match fits.min_by_key(|&i| self.free[i].capacity()) {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.set_len(len);
                buffer
            }
            None => {
                // A larger batch than before: the largest buffer that does not fit makes room for the new one.
                let largest = (0..self.free.len()).max_by_key(|&i| self.free[i].capacity());
                largest.into_iter().for_each(|i| drop(self.free.swap_remove(i)));
                self.on.buffer(len)
            }
        }
    }

    /// Takes a buffer back, for the next one who needs it.
    pub(crate) fn give(&mut self, buffer: B::Buffer) {
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

/// Reusable buffers, and what the last kept forward pass left for [`super::backward`].
#[derive(Debug)]
pub struct Workspace {
    pub(crate) host: Pool<Cpu>,
    #[cfg(feature = "cuda")]
    device: Option<Pool<Cuda>>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            host: Pool::new(Cpu),
            #[cfg(feature = "cuda")]
            device: None,
        }
    }
}

impl Workspace {
    /// No buffers yet; they come with use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a buffer back, for the next one who needs it.
    pub fn give(&mut self, buffer: Vec<f32>) {
        self.host.give(buffer);
    }

    /// The buffers on a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn on(&mut self, cuda: &Cuda) -> &mut Pool<Cuda> {
        self.device.get_or_insert_with(|| Pool::new(cuda.clone()))
    }

    /// Brings a buffer of a GPU here.
    #[cfg(feature = "cuda")]
    pub(crate) fn fetch(
        &mut self,
        cuda: &Cuda,
        mut buffer: <Cuda as Backend>::Buffer,
    ) -> Result<Vec<f32>, crate::LearnError> {
        let mut here = self.host.take(buffer.len());
        cuda.on_host(&mut buffer, &mut here);
        self.on(cuda).give(buffer);
        cuda.check()?;
        Ok(here)
    }
}

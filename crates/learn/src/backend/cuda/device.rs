//! A device that remembers its first error, and memory on it that is given back when dropped.

use super::driver::Driver;
use crate::LearnError;
use crate::backend::Values;
use std::sync::{Arc, Mutex, PoisonError};

/// An opened GPU. From its first error on it does nothing, until [`Device::check`] has told it.
#[derive(Debug)]
pub(crate) struct Device {
    driver: Box<dyn Driver>,
    failed: Mutex<Option<String>>,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// A 64-bit number, or an address.
    Word(u64),
    Int(i32),
    Float(f32),
}

impl Arg {
    fn word(self) -> u64 {
        match self {
            Self::Word(x) => x,
            Self::Int(x) => u64::from(x.cast_unsigned()),
            Self::Float(x) => u64::from(x.to_bits()),
        }
    }
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Self {
        Self::Word(buffer.at())
    }
}

impl From<&mut Buffer> for Arg {
    fn from(buffer: &mut Buffer) -> Self {
        Self::Word(buffer.at())
    }
}

impl From<&Memory> for Arg {
    fn from(memory: &Memory) -> Self {
        Self::Word(memory.at)
    }
}

impl From<u64> for Arg {
    fn from(x: u64) -> Self {
        Self::Word(x)
    }
}

impl From<f32> for Arg {
    fn from(x: f32) -> Self {
        Self::Float(x)
    }
}

impl From<usize> for Arg {
    /// Widths, counts of heads and the like, all far below 2^31.
    fn from(x: usize) -> Self {
        Self::Int(i32::try_from(x).unwrap_or(i32::MAX))
    }
}

impl Device {
    pub(crate) fn new(driver: Box<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver, failed: Mutex::new(None) })
    }

    pub(crate) fn name(&self) -> &str {
        self.driver.name()
    }

    /// The first error since the last call.
    pub(crate) fn check(&self) -> Result<(), LearnError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), |reason| Err(LearnError::Device { device: self.name().to_owned(), reason }))
    }

    /// Does it, unless something failed before.
    fn attempt<T>(&self, work: impl FnOnce(&dyn Driver) -> Result<T, String>) -> Option<T> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some() {
            return None;
        }
        work(self.driver.as_ref()).map_err(|reason| *failed = Some(reason)).ok()
    }

    /// Runs a kernel on `grid` blocks with `shared` floats of shared memory.
    pub(crate) fn launch(&self, kernel: &'static str, grid: (usize, usize), shared: usize, args: &[Arg]) {
        if grid.0 == 0 || grid.1 == 0 {
            return;
        }
        let size = |n: usize| u32::try_from(n).map_err(|_| format!("{n} blocks of {kernel} are too many"));
        self.attempt(|driver| {
            let mut words: Vec<u64> = args.iter().map(|a| a.word()).collect();
            driver.launch(kernel, (size(grid.0)?, size(grid.1)?), size(shared * size_of::<f32>())?, &mut words)
        });
    }

    pub(crate) fn product(&self, product: &super::driver::Product) {
        if product.shape.contains(&0) {
            return;
        }
        self.attempt(|driver| driver.product(product));
    }

    /// Memory with these values in it: plain numbers only.
    pub(crate) fn memory_of<T: bytemuck::NoUninit>(self: &Arc<Self>, values: &[T]) -> Memory {
        let memory = self.memory(size_of_val(values));
        memory.write(bytemuck::cast_slice(values));
        memory
    }

    /// Memory with whatever is in it.
    pub(crate) fn memory(self: &Arc<Self>, bytes: usize) -> Memory {
        let at = if bytes == 0 { 0 } else { self.attempt(|driver| driver.alloc(bytes)).unwrap_or(0) };
        Memory { device: self.clone(), at, bytes }
    }

    pub(crate) fn buffer(self: &Arc<Self>, len: usize) -> Buffer {
        Buffer { memory: self.memory(len * size_of::<f32>()), len }
    }

    pub(crate) fn buffer_of(self: &Arc<Self>, values: &[f32]) -> Buffer {
        Buffer { memory: self.memory_of(values), len: values.len() }
    }
}

/// Memory on a device; empty, at address 0, where none could be had.
#[derive(Debug)]
pub(crate) struct Memory {
    device: Arc<Device>,
    at: u64,
    bytes: usize,
}

impl Memory {
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn write(&self, values: &[u8]) {
        assert!(values.len() <= self.bytes, "{} bytes into {}", values.len(), self.bytes);
        if !values.is_empty() {
            self.device.attempt(|driver| driver.upload(values, self.at));
        }
    }

    /// Leaves `values` alone where the device has failed.
    pub(crate) fn read(&self, values: &mut [u8]) {
        assert!(values.len() <= self.bytes, "{} bytes from {}", values.len(), self.bytes);
        if !values.is_empty() {
            self.device.attempt(|driver| driver.download(self.at, values));
        }
    }

    /// Copies the first bytes of another one to `to` in this.
    pub(crate) fn copy_from(&self, other: &Self, from: usize, to: usize, bytes: usize) {
        assert!(from + bytes <= other.bytes && to + bytes <= self.bytes, "{bytes} bytes from {from} to {to}");
        if bytes > 0 {
            self.device.attempt(|driver| driver.copy(other.at + from as u64, self.at + to as u64, bytes));
        }
    }

    pub(crate) fn zero(&self, bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes of {}", self.bytes);
        if bytes > 0 {
            self.device.attempt(|driver| driver.zero(self.at, bytes));
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.at != 0 {
            self.device.driver.free(self.at);
        }
    }
}

/// Float values on a device.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) memory: Memory,
    len: usize,
}

impl Buffer {
    pub(crate) fn at(&self) -> u64 {
        self.memory.at
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }

    /// The address of a value, as an operand or an argument needs it.
    pub(crate) fn from(&self, value: usize) -> u64 {
        assert!(value <= self.len, "value {value} of {}", self.len);
        self.at() + (value * size_of::<f32>()) as u64
    }

    pub(crate) fn write(&self, values: &[f32]) {
        self.memory.write(bytemuck::cast_slice(values));
    }

    pub(crate) fn read(&self, values: &mut [f32]) {
        self.memory.read(bytemuck::cast_slice_mut(values));
    }

    /// All values; NaN where the device has failed.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![f32::NAN; self.len];
        self.read(&mut values);
        values
    }
}

impl Values for Buffer {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.memory.bytes / size_of::<f32>()
    }

    fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} values in {}", self.capacity());
        self.len = len;
    }
}

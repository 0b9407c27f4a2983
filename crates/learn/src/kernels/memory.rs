//! What products ask of the machine's memory: weights in large pages, and lines ahead of their use. Uses memmap2 and bytemuck.

use bytemuck::Pod;
use memmap2::MmapMut;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Bytes that come from memory together.
pub(crate) const LINE: usize = 64;

/// Values that are read from end to end over and over. They begin at a page, and lie in large pages where the system has them: a pass of
/// one answer, which reads each weight once, was 5 % faster for it. Given back to the system when dropped.
pub(crate) struct Pages<E> {
    map: MmapMut,
    values: PhantomData<E>,
}

impl<E: Pod> Pages<E> {
    /// So many zeros.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn zeros(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len * size_of::<E>())?;
        // Where there are none, small ones do as well, only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, values: PhantomData })
    }
}

impl<E: Pod> Deref for Pages<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        bytemuck::cast_slice(&self.map)
    }
}

impl<E: Pod> DerefMut for Pages<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        bytemuck::cast_slice_mut(&mut self.map)
    }
}

impl<E> fmt::Debug for Pages<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} bytes)", self.map.len())
    }
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
mod tests {
    use super::*;

    #[test]
    fn pages_hold_what_is_written_and_begin_at_a_line() -> io::Result<()> {
        let mut pages = Pages::<[f32; 16]>::zeros(1000)?;
        assert!(pages.iter().all(|line| *line == [0.0; 16]));
        assert!(pages.as_ptr().addr().is_multiple_of(LINE));
        pages[999][15] = 7.0;
        assert_eq!((pages.len(), pages[999][15]), (1000, 7.0));
        assert!(Pages::<[f32; 16]>::zeros(0)?.is_empty());
        Ok(())
    }
}

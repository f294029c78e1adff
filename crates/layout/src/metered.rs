//! A reader with a limit that is renewed from part to part.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

/// A reader of which only so much may be read until somebody allows more.
pub(crate) struct Metered<'a, R> {
    pub(crate) inner: R,
    /// Bytes that may be read.
    pub(crate) left: &'a Cell<u64>,
    /// What to say when they are used up.
    pub(crate) problem: &'static str,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| io::Error::other(self.problem))?);
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

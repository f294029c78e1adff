//! Memory for bytes on their way in or out, used again and again.
//!
//! A large blob passes through a few of these, however large it is. Asking the system for fresh
//! memory for each piece costs more than the copy.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// A buffer that goes back to a pool when the last reference to its bytes is dropped.
#[derive(Debug)]
pub struct Buffer {
    /// Always [`Buffer::SIZE`] bytes, but for one that has gone back.
    memory: Vec<u8>,
    filled: usize,
}

/// Buffers kept for the next use: 8 MiB at most.
const MAX_IDLE: usize = 32;

static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

impl Buffer {
    /// Bytes in a buffer: about what a core's cache holds on their way to or from a socket.
    pub const SIZE: usize = 256 << 10;

    /// An empty buffer.
    pub fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { memory: idle.unwrap_or_else(|| vec![0; Self::SIZE]), filled: 0 }
    }

    /// Copies as much of `bytes` as there is room for, and returns the rest.
    pub fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.room(Self::SIZE);
        let taken = room.len().min(bytes.len());
        let (bytes, rest) = bytes.split_at_checked(taken).unwrap_or((&[], bytes));
        if let Some(room) = room.get_mut(..taken) {
            room.copy_from_slice(bytes);
            self.filled += taken;
        }
        rest
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.filled == self.memory.len()
    }

    /// What was filled in.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// At most `limit` bytes of room, for others to fill.
    pub(crate) fn room(&mut self, limit: usize) -> &mut [u8] {
        let end = self.filled.saturating_add(limit).min(self.memory.len());
        self.memory.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Counts `length` bytes of the room as filled.
    pub(crate) fn advance(&mut self, length: usize) {
        self.filled = self.filled.saturating_add(length).min(self.memory.len());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_comes_out_also_from_a_used_buffer() {
        for _ in 0..3 {
            let mut buffer = Buffer::take();
            assert_eq!(buffer.fill(b"hello "), b"");
            assert_eq!(buffer.fill(b"world"), b"");
            assert!(!buffer.is_full());
            assert_eq!(buffer.freeze(), "hello world");
        }
    }

    #[test]
    fn what_has_no_room_is_left() {
        let mut buffer = Buffer::take();
        let much = vec![7; Buffer::SIZE + 10];
        assert_eq!(buffer.fill(&much).len(), 10);
        assert!(buffer.is_full());
        assert_eq!(buffer.fill(b"more"), b"more");
        assert_eq!(buffer.freeze().len(), Buffer::SIZE);
    }
}

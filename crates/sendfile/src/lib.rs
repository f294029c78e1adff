//! Files that leave by `sendfile(2)`, through an HTTP library that knows nothing of it.
//!
//! The library is given [`Bytes`] that lie in a mapping of the file, and hands them to the
//! connection as they are. A connection over plain TCP asks [`next`] what it is told to write, and
//! where that is such bytes it has the kernel send the file instead: no byte is copied, none is even
//! looked at. Whoever does read the bytes finds the file's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// What one call of the system sends at most, so that one connection does not keep the others of
/// its thread waiting.
const MAX_SEND: usize = 2 << 20;

/// All mappings, by the address where they begin.
static MAPPINGS: RwLock<BTreeMap<usize, Mapped>> = RwLock::new(BTreeMap::new());

/// How many there are, so that connections look for them only if there are any.
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Mapped {
    length: usize,
    file: Arc<File>,
}

/// The first `length` bytes of a file. They take no memory, and none is read.
///
/// Fails if `length` is zero, if there is no room in the address space, or if the file is of a kind
/// that can not be mapped.
///
/// # Safety
///
/// The file must have as many bytes, and keep them as they are until the last of these is dropped.
/// Where it does not, and somebody reads them instead of sending them, they change under the
/// reader's eyes, or the system ends the process with SIGBUS.
pub unsafe fn map(file: &Arc<File>, length: usize) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(Mapping::new(file, length)?))
}

/// Pages of a file in the address space.
struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to the process, not to a thread, and nobody writes to them.
unsafe impl Send for Mapping {}
// SAFETY: as above: all that can be done with it is reading.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &Arc<File>, length: usize) -> io::Result<Self> {
        // No slice may be longer, though address spaces of 32 bits may have room for it.
        if isize::try_from(length).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: the kernel chooses the place, so that no other memory is touched.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )
        }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapped = Mapped { length, file: Arc::clone(file) };
        let mut mappings = MAPPINGS.write().unwrap_or_else(PoisonError::into_inner);
        mappings.insert(address.addr().get(), mapped);
        COUNT.store(mappings.len(), Ordering::Relaxed);
        Ok(Self { address, length })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the pages stay mapped for reading as long as `self` lives, `new` has seen that they
        // are not too many, and whoever called `map` has promised that the file has these bytes and
        // that they do not change.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut mappings = MAPPINGS.write().unwrap_or_else(PoisonError::into_inner);
        // First, as the next mapping may be given the same address.
        let mapped = mappings.remove(&self.address.addr().get());
        COUNT.store(mappings.len(), Ordering::Relaxed);
        drop(mappings);
        // Closing a file may take a while: not while others wait.
        drop(mapped);
        // SAFETY: the pages are those of `new`, and nobody has a reference to them any more: what
        // `as_ref` has returned lives no longer than `self`. It fails only for an address that is
        // none.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// A part of a file that is to be sent.
pub struct Piece {
    file: Arc<File>,
    offset: u64,
    length: usize,
}

/// What a connection is to write next.
pub enum Next {
    /// The first of the slices is a part of a file.
    File(Piece),
    /// So many slices at the beginning are ordinary memory, and a part of a file comes after them.
    MemoryAndFile(usize),
    /// All slices are ordinary memory.
    Memory,
}

/// Looks where the slices lie.
pub fn next(slices: &[IoSlice<'_>]) -> Next {
    // Bytes of a mapping are there only if their mapping was made before.
    if COUNT.load(Ordering::Relaxed) == 0 {
        return Next::Memory;
    }
    let mappings = MAPPINGS.read().unwrap_or_else(PoisonError::into_inner);
    let pieces = slices.iter().map(|slice| find(&mappings, slice));
    match pieces.enumerate().find_map(|(index, piece)| Some((index, piece?))) {
        // Nothing comes before it.
        Some((index, piece)) if slices.iter().take(index).all(|slice| slice.is_empty()) => {
            Next::File(piece)
        }
        Some((index, _)) => Next::MemoryAndFile(index),
        None => Next::Memory,
    }
}

fn find(mappings: &BTreeMap<usize, Mapped>, slice: &[u8]) -> Option<Piece> {
    let address = slice.as_ptr().addr();
    let (start, mapped) = mappings.range(..=address).next_back()?;
    let within = address - start;
    // No slice begins in one allocation and ends in another.
    (within < mapped.length && !slice.is_empty()).then(|| Piece {
        file: Arc::clone(&mapped.file),
        offset: within as u64,
        length: slice.len(),
    })
}

impl Piece {
    /// Has the kernel send from the file what the socket takes, and returns how much that was.
    ///
    /// Fails with [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let mut offset = self.offset;
        let length = self.length.min(MAX_SEND);
        match rustix::fs::sendfile(socket, &self.file, Some(&mut offset), length)? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file has become shorter while it was sent",
            )),
            sent => Ok(sent),
        }
    }
}

/// Sends ordinary memory that a part of a file follows, so that both go in one packet.
pub fn send_before_file(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(length: usize) -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..=250).cycle().take(length).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (Arc::new(file), content)
    }

    fn mapped(file: &Arc<File>, length: usize) -> io::Result<Bytes> {
        // SAFETY: nobody else has the file, and where a test makes it shorter nobody reads the
        // bytes.
        unsafe { map(file, length) }
    }

    #[test]
    fn whoever_reads_finds_the_bytes_of_the_file() {
        let (file, content) = file(100_000);
        for length in [1, 4096, 5000, 100_000] {
            assert_eq!(mapped(&file, length).unwrap(), content[..length], "{length}");
        }
        assert!(mapped(&file, 0).is_err());
        assert!(mapped(&file, usize::MAX).is_err());
    }

    #[test]
    fn bytes_are_known_by_their_address_until_they_are_gone() {
        let (file, _) = file(100_000);
        let bytes = mapped(&file, 60_000).unwrap();
        let part = bytes.slice(10_007..30_007);
        drop(bytes);
        let head = [1; 10];
        let copy = part.to_vec();
        let slices = [IoSlice::new(&head), IoSlice::new(&copy), IoSlice::new(&part)];
        assert!(matches!(next(&slices), Next::MemoryAndFile(2)));
        assert!(matches!(next(&slices[..2]), Next::Memory));
        let Next::File(piece) = next(&slices[2..]) else {
            panic!("the piece is not known");
        };
        assert_eq!((piece.offset, piece.length), (10_007, 20_000));
        let address = part.as_ptr().addr();
        drop(part);
        let mappings = MAPPINGS.read().unwrap();
        let known = mappings.range(..=address).next_back();
        assert!(known.is_none_or(|(start, mapped)| address - start >= mapped.length));
    }

    /// The kernel gives the place of a mapping that is gone to the next one.
    #[test]
    fn threads_that_map_at_the_same_time_find_their_own_files() {
        let work = || {
            let (file, _) = file(10_000);
            for round in 0..200 {
                let bytes = mapped(&file, 10_000).unwrap();
                let part = bytes.slice(round..);
                drop(bytes);
                let Next::File(piece) = next(&[IoSlice::new(&part)]) else {
                    panic!("the piece is not known");
                };
                assert!(Arc::ptr_eq(&piece.file, &file));
                assert_eq!((piece.offset, piece.length), (round as u64, 10_000 - round));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let (file, _) = file(100_000);
        let bytes = mapped(&file, 100_000).unwrap().slice(50_000..);
        file.set_len(50_000).unwrap();
        let Next::File(piece) = next(&[IoSlice::new(&bytes)]) else {
            panic!("the piece is not known");
        };
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(piece.send(near).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! What a cache has on its disk, and what goes first when there is no room.
//!
//! What was read once goes before what was read again, in each case what nobody has read for the
//! longest time (a segmented LRU). So a large image that is pulled once does not drive out what is
//! pulled every day. What was read again may take four fifths of the room: beyond that the oldest of
//! it counts as read once, or what was wanted long ago would stay for ever.

use std::collections::{BTreeMap, HashMap};

use oci::Digest;

/// What a file takes on the disk is a multiple of this.
const BLOCK: u64 = 4096;

/// The room that content of this size takes.
pub(super) fn room(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Files in the order in which they go, and the room that they and files to come take.
#[derive(Debug)]
pub(super) struct Index {
    max: u64,
    /// What is reserved of it, for files to come.
    reserved: u64,
    /// What files take of it.
    kept: u64,
    /// What those of them take that were read again.
    kept_again: u64,
    entries: HashMap<Digest, Entry>,
    order: BTreeMap<Rank, Digest>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    room: u64,
    rank: Rank,
    is_verified: bool,
}

/// What has to go.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Gone {
    pub(super) digests: Vec<Digest>,
    /// Room that is to be released when the files have gone.
    pub(super) surplus: u64,
}

/// What is less goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rank {
    was_read_again: bool,
    at: u64,
}

impl Index {
    /// An empty index for files that take up to `max` bytes together.
    pub(super) fn new(max: u64) -> Self {
        Self {
            max,
            reserved: 0,
            kept: 0,
            kept_again: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Bytes that are taken or reserved.
    pub(super) fn used(&self) -> u64 {
        self.kept + self.reserved
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes that the content is read. Nothing inside if it is not there, else whether the bytes are
    /// known to be the right ones.
    pub(super) fn read(&mut self, digest: &Digest) -> Option<bool> {
        let is_verified = self.entries.get(digest)?.is_verified;
        self.rank(digest, true);
        self.demote();
        Some(is_verified)
    }

    /// Reserves room, and names what has to go for it. Until that has gone, all of its room is
    /// reserved: what is more than `room` is [`Gone::surplus`]. Nothing is changed if there can not be
    /// so much room: what is reserved does not go.
    pub(super) fn reserve(&mut self, room: u64) -> Option<Gone> {
        if room > self.max.saturating_sub(self.reserved) {
            return None;
        }
        let free = self.max.saturating_sub(self.used());
        let (mut digests, mut freed) = (Vec::new(), 0);
        while room > free + freed {
            let digest = *self.order.first_key_value()?.1;
            freed += self.take(&digest)?;
            digests.push(digest);
        }
        self.reserved += room.saturating_sub(freed);
        Some(Gone { digests, surplus: freed.saturating_sub(room) })
    }

    /// Gives back what was reserved.
    pub(super) fn release(&mut self, room: u64) {
        self.reserved -= room;
    }

    /// Takes in a file, which is not there, for which `room` was reserved.
    pub(super) fn keep(&mut self, digest: Digest, room: u64, is_verified: bool) {
        self.reserved -= room;
        self.kept += room;
        let rank = Rank { was_read_again: false, at: 0 };
        self.entries.insert(digest, Entry { room, rank, is_verified });
        self.rank(&digest, false);
    }

    /// Forgets a file, whose room is reserved from now on, and returns that.
    pub(super) fn take(&mut self, digest: &Digest) -> Option<u64> {
        let Entry { room, rank, .. } = self.entries.remove(digest)?;
        self.order.remove(&rank);
        if rank.was_read_again {
            self.kept_again -= room;
        }
        self.kept -= room;
        self.reserved += room;
        Some(room)
    }

    /// Puts an entry at the end of the order.
    fn rank(&mut self, digest: &Digest, was_read_again: bool) {
        let Some(entry) = self.entries.get_mut(digest) else { return };
        self.clock += 1;
        self.order.remove(&entry.rank);
        match (entry.rank.was_read_again, was_read_again) {
            (false, true) => self.kept_again += entry.room,
            (true, false) => self.kept_again -= entry.room,
            _ => {}
        }
        entry.rank = Rank { was_read_again, at: self.clock };
        self.order.insert(entry.rank, *digest);
    }

    /// Counts the oldest of what was read again as read once, until that is no more than it may be.
    fn demote(&mut self) {
        let first_again = Rank { was_read_again: true, at: 0 };
        while self.kept_again > self.max / 5 * 4
            && let Some((_, &digest)) = self.order.range(first_again..).next()
        {
            self.rank(&digest, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        Digest::sha256(&number.to_be_bytes())
    }

    /// What goes for a file of one block, which is kept then.
    fn add(index: &mut Index, number: u64) -> Vec<Digest> {
        let gone = index.reserve(BLOCK).unwrap();
        assert_eq!(gone.surplus, 0);
        index.keep(digest(number), BLOCK, true);
        gone.digests
    }

    #[test]
    fn what_was_read_once_goes_first_and_the_oldest_of_it() {
        let mut index = Index::new(5 * BLOCK);
        for number in 0..5 {
            assert_eq!(add(&mut index, number), []);
        }
        assert_eq!(index.read(&digest(0)), Some(true));
        assert_eq!(add(&mut index, 5), [digest(1)]);
        assert_eq!(add(&mut index, 6), [digest(2)]);
        assert_eq!(index.reserve(2 * BLOCK).unwrap().digests, [digest(3), digest(4)]);
        assert_eq!((index.used(), index.len()), (5 * BLOCK, 3));
        assert_eq!(index.read(&digest(1)), None);
    }

    #[test]
    fn what_was_read_again_long_ago_goes_too() {
        let mut index = Index::new(5 * BLOCK);
        for number in 0..5 {
            add(&mut index, number);
            index.read(&digest(number));
        }
        // Four fifths are of what was read again, and 0 counts as read once.
        assert_eq!(add(&mut index, 5), [digest(0)]);
        assert_eq!(add(&mut index, 6), [digest(5)]);
    }

    #[test]
    fn what_is_reserved_stays() {
        let mut index = Index::new(5 * BLOCK);
        add(&mut index, 0);
        assert_eq!(index.reserve(4 * BLOCK), Some(Gone::default()));
        assert_eq!(index.reserve(2 * BLOCK), None);
        assert_eq!(index.take(&digest(0)), Some(BLOCK));
        assert_eq!(index.reserve(BLOCK), None, "a file that is looked at does not go");
        index.release(4 * BLOCK);
        index.keep(digest(0), BLOCK, false);
        assert_eq!(index.read(&digest(0)), Some(false));
        assert_eq!(index.reserve(5 * BLOCK).unwrap().digests, [digest(0)]);
        index.release(5 * BLOCK);
        assert_eq!((index.used(), index.len()), (0, 0));
        assert_eq!(index.reserve(room(u64::MAX)), None);
    }

    #[test]
    fn room_of_files_that_are_still_there_is_nobody_elses() {
        let mut index = Index::new(5 * BLOCK);
        assert!(index.reserve(4 * BLOCK).is_some());
        index.keep(digest(0), 4 * BLOCK, true);
        let gone = Gone { digests: vec![digest(0)], surplus: 2 * BLOCK };
        assert_eq!(index.reserve(2 * BLOCK), Some(gone));
        assert_eq!(index.used(), 4 * BLOCK);
        assert_eq!(index.reserve(2 * BLOCK), None);
        index.release(2 * BLOCK);
        assert_eq!(index.reserve(2 * BLOCK), Some(Gone::default()));
    }
}

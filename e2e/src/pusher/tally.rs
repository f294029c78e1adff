//! What a client has been through, for the end of a run.

use std::fmt;

use anyhow::{Result, ensure};

/// What a client has been through.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(super) blobs: usize,
    pub(super) mounts: usize,
    pub(super) manifests: usize,
    pub(super) moves: usize,
    pub(super) resumed: usize,
    /// Uploads whose last request was cut off: found complete, and found gone,
    /// and of those gone the ones of which bytes had been acknowledged.
    pub(super) completed: usize,
    pub(super) gone: usize,
    pub(super) lost: usize,
}

impl Tally {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            mounts: self.mounts + other.mounts,
            manifests: self.manifests + other.manifests,
            moves: self.moves + other.moves,
            resumed: self.resumed + other.resumed,
            completed: self.completed + other.completed,
            gone: self.gone + other.gone,
            lost: self.lost + other.lost,
        }
    }

    /// An error if acknowledged bytes were lost, or if the run did not do everything at least
    /// once.
    pub(crate) fn is_good(&self) -> Result<()> {
        self.lost_nothing()?;
        ensure!(
            [self.blobs, self.mounts, self.manifests, self.moves, self.resumed]
                .iter()
                .all(|&count| count > 0),
            "the clients did too little to prove anything: {self}"
        );
        Ok(())
    }

    /// An error if acknowledged bytes were lost.
    pub(crate) fn lost_nothing(&self) -> Result<()> {
        ensure!(self.lost == 0, "bytes that had been acknowledged were lost: {self}");
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blobs, {} mounts, {} manifests and {} tag moves acknowledged; {} uploads resumed; \
             of those cut off in the last request {} were complete and {} had to start again, {} of \
             them with bytes that had been acknowledged",
            self.blobs,
            self.mounts,
            self.manifests,
            self.moves,
            self.resumed,
            self.completed,
            self.gone,
            self.lost
        )
    }
}

//! Locks on what is known of a repository, for PostgreSQL: SQLite has one writer at a time.
//!
//! SERIALIZABLE finds out by itself which transactions disturb each other, but too often: it looks
//! at pages of an index, and what all pushes write lies on the last ones. So most of them would run
//! again and again. A transaction with a lock runs at READ COMMITTED: a statement sees what others
//! have committed by then. A lock is what keeps these others away from the repository.

use oci::{Digest, RepositoryName};

/// Who may write about a repository at the same time.
///
/// Whatever a [`Metadata::write`](super::Metadata::write) does about repositories, it does not
/// respect these locks.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// Two repositories may have the same; then one waits without need.
    repository: i32,
    is_exclusive: bool,
}

impl Lock {
    /// For a transaction that adds something, which is right whatever others add meanwhile: each
    /// of its statements may see more than the one before. What it has found stays there.
    pub fn shared(repository: &RepositoryName) -> Self {
        Self { repository: number(repository), is_exclusive: false }
    }

    /// For a transaction that takes something away, or depends on something not being there:
    /// nobody else with a lock of this repository writes until it has ended.
    pub fn exclusive(repository: &RepositoryName) -> Self {
        Self { repository: number(repository), is_exclusive: true }
    }

    /// The statement that takes it until the end of the transaction.
    pub(super) fn statement(self) -> String {
        let Self { repository, is_exclusive } = self;
        let shared = if is_exclusive { "" } else { "_shared" };
        format!("SELECT pg_advisory_xact_lock{shared}({CLASS}, {repository})")
    }
}

/// What PostgreSQL calls this kind of locks: "ORLR".
const CLASS: i32 = 0x4f52_4c52;

fn number(repository: &RepositoryName) -> i32 {
    let digest = Digest::sha256(repository.as_str().as_bytes());
    let first = digest.hash().first_chunk().copied().unwrap_or_default();
    i32::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers of all versions must mean the same by it.
    #[test]
    fn has_the_same_number_everywhere() {
        let name = "library/alpine".parse::<RepositoryName>().unwrap();
        let lock = Lock::shared(&name).statement();
        assert_eq!(lock, "SELECT pg_advisory_xact_lock_shared(1330793554, -1937745336)");
        let lock = Lock::exclusive(&name).statement();
        assert_eq!(lock, "SELECT pg_advisory_xact_lock(1330793554, -1937745336)");
    }
}

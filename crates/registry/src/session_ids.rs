//! Names of upload sessions. One that was given out for a repository can be told from any other,
//! so that a session takes no room before it has bytes: most have all of them in one request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blobs::UploadId;
use oci::{Algorithm, Digest, Hasher, RepositoryName};
use quick_cache::sync::Cache;

/// A session must have its first bytes by then.
const LIFETIME: Duration = Duration::from_hours(24);

/// How far clocks of servers may differ.
const SKEW: Duration = Duration::from_mins(5);

/// Sessions of which it is remembered that they have ended.
const MAX_ENDED: usize = 16 * 1024;

/// Bytes of a name that say that it was given out. Whoever guesses them has what everybody gets
/// who may push: an empty session.
const MARK: usize = 4;

/// Gives names, and knows them again.
pub(crate) struct SessionIds {
    /// After a restart an ended session is like a new one. Its bytes are gone all the same.
    ended: Cache<UploadId, ()>,
}

impl SessionIds {
    pub(crate) fn new() -> Self {
        Self { ended: Cache::new(MAX_ENDED) }
    }

    /// A new name. `registry` is what all servers of this registry know; `algorithm` is the one
    /// that the client announced.
    pub(crate) fn issue(
        registry: &str,
        repository: &RepositoryName,
        algorithm: Option<Algorithm>,
    ) -> UploadId {
        let id = UploadId::now_v7();
        let mut bytes = id.into_bytes();
        let mark = mark(registry, repository, algorithm == Some(Algorithm::Sha512), id);
        for (to, from) in bytes.iter_mut().rev().zip(mark) {
            *to = from;
        }
        UploadId::from_bytes(bytes)
    }

    /// What hashes its bytes, if this name was given out for the repository, not too long ago, and
    /// the session has not ended.
    pub(crate) fn recognize(
        &self,
        registry: &str,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Option<Hasher> {
        let given = id.get_timestamp()?.to_unix();
        let given = UNIX_EPOCH + Duration::new(given.0, given.1);
        let now = SystemTime::now();
        if given > now + SKEW || given + LIFETIME < now || self.ended.get(&id).is_some() {
            return None;
        }
        let is = |sha512: &bool| {
            let mark = mark(registry, repository, *sha512, id);
            id.as_bytes().iter().rev().zip(mark).all(|(found, expected)| *found == expected)
        };
        let sha512 = [false, true].into_iter().find(is)?;
        Some(Hasher::new(sha512.then_some(Algorithm::Sha512)))
    }

    /// The session has ended.
    pub(crate) fn end(&self, id: UploadId) {
        self.ended.insert(id, ());
    }
}

/// What the last bytes of this name must be.
fn mark(registry: &str, repository: &RepositoryName, sha512: bool, id: UploadId) -> [u8; MARK] {
    let rest = id.as_bytes().split_last_chunk::<MARK>().map_or(&[][..], |(rest, _)| rest);
    let parts = [registry.as_bytes(), repository.as_str().as_bytes(), &[sha512.into()], rest];
    let digest = Digest::sha256(&parts.join(&0));
    digest.hash().first_chunk::<MARK>().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_where_it_was_given_out_until_its_session_ends() {
        let ids = SessionIds::new();
        let [one, other] = ["app/one", "app/other"].map(|name| name.parse().unwrap());
        for algorithm in [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)] {
            let id = SessionIds::issue("registry", &one, algorithm);
            let hasher = ids.recognize("registry", &one, id).unwrap();
            let sha512 = algorithm == Some(Algorithm::Sha512);
            assert_eq!(hasher.includes(Algorithm::Sha512), sha512);
            assert!(ids.recognize("registry", &other, id).is_none());
            assert!(ids.recognize("elsewhere", &one, id).is_none());
            assert!(ids.recognize("registry", &one, UploadId::now_v7()).is_none());
            let mut changed = id.into_bytes();
            changed[7] ^= 1;
            assert!(ids.recognize("registry", &one, UploadId::from_bytes(changed)).is_none());
            ids.end(id);
            assert!(ids.recognize("registry", &one, id).is_none());
        }
        assert!(ids.recognize("registry", &one, UploadId::nil()).is_none());
    }
}

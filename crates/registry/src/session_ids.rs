//! Names of upload sessions. One that was given out for a repository can be told from any other,
//! so that a session takes no room before it has bytes: most have all of them in one request.
//!
//! When it has bytes that are saved its client hears another name, under which an empty session is
//! never found: a client that goes on with a session that is gone hears that it is gone. Under the
//! first name it finds an empty one again if the server has been restarted since, or at another
//! server. Which bytes are stored is not in danger: their digest is compared.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blobs::UploadId;
use oci::{Algorithm, Digest, Hasher, RepositoryName};

/// A session must have its first bytes by then.
const LIFETIME: Duration = Duration::from_hours(24);

/// How far clocks of servers may differ, or one may be put back.
const SKEW: Duration = Duration::from_mins(5);

/// Sessions of which it is remembered that they have ended.
const MAX_ENDED: usize = 16 * 1024;

/// Bytes of a name that say that it was given out. Whoever guesses them has what everybody gets
/// who may push: an empty session.
const MARK: usize = 4;

/// What a client's name for a session means.
pub(crate) struct Named {
    /// The name of the session that has bytes.
    pub(crate) id: UploadId,
    /// What hashes its bytes if it has none yet; `None` if it would have to have some.
    pub(crate) hasher: Option<Hasher>,
}

/// Gives names, and knows them again.
#[derive(Default)]
pub(crate) struct SessionIds {
    /// After a restart an ended session is like a new one. Its bytes are gone all the same.
    ended: Mutex<Ended>,
}

/// The last sessions that have ended.
#[derive(Default)]
struct Ended {
    set: HashSet<UploadId>,
    /// The longest ended first.
    order: VecDeque<UploadId>,
}

impl SessionIds {
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

    /// What this name means. An empty session has one that was given out for the repository, not
    /// too long ago.
    pub(crate) fn read(registry: &str, repository: &RepositoryName, id: UploadId) -> Named {
        let is = |sha512: &bool| {
            let mark = mark(registry, repository, *sha512, id);
            id.as_bytes().iter().rev().zip(mark).all(|(found, expected)| *found == expected)
        };
        let Some(sha512) = [false, true].into_iter().find(is) else {
            return Named { id, hasher: None };
        };
        let id = begun(id);
        let hasher = || Hasher::new(sha512.then_some(Algorithm::Sha512));
        let hasher = is_recent(id).then(hasher);
        Named { id, hasher }
    }

    /// Whether the session is known to have ended.
    pub(crate) fn has_ended(&self, id: UploadId) -> bool {
        self.ended().set.contains(&id)
    }

    /// The session has ended.
    pub(crate) fn end(&self, id: UploadId) {
        let mut ended = self.ended();
        if ended.set.insert(id) {
            ended.order.push_back(id);
        }
        if ended.order.len() > MAX_ENDED
            && let Some(oldest) = ended.order.pop_front()
        {
            ended.set.remove(&oldest);
        }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the same session when it has bytes.
fn begun(id: UploadId) -> UploadId {
    let mut bytes = id.into_bytes();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    UploadId::from_bytes(bytes)
}

fn is_recent(id: UploadId) -> bool {
    let Some((seconds, nanoseconds)) = id.get_timestamp().map(|given| given.to_unix()) else {
        return false;
    };
    let given = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    let now = SystemTime::now();
    given <= now + SKEW && now <= given + LIFETIME
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
        let ids = SessionIds::default();
        let [one, other] = ["app/one", "app/other"].map(|name| name.parse().unwrap());
        for algorithm in [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)] {
            let id = SessionIds::issue("registry", &one, algorithm);
            let named = SessionIds::read("registry", &one, id);
            let sha512 = algorithm == Some(Algorithm::Sha512);
            assert_eq!(named.hasher.unwrap().includes(Algorithm::Sha512), sha512);
            assert_ne!(named.id, id);
            let begun = SessionIds::read("registry", &one, named.id);
            assert!(begun.id == named.id && begun.hasher.is_none(), "it must have bytes");

            let mut changed = id.into_bytes();
            changed[7] ^= 1;
            for (registry, repository, id) in [
                ("registry", &other, id),
                ("elsewhere", &one, id),
                ("registry", &one, UploadId::now_v7()),
                ("registry", &one, UploadId::from_bytes(changed)),
                ("registry", &one, UploadId::nil()),
            ] {
                let unknown = SessionIds::read(registry, repository, id);
                assert!(unknown.id == id && unknown.hasher.is_none());
            }
            assert!(!ids.has_ended(named.id));
            ids.end(named.id);
            assert!(ids.has_ended(named.id));
        }
    }

    #[test]
    fn the_last_ends_are_remembered() {
        let ids = SessionIds::default();
        let names: Vec<UploadId> = (0..MAX_ENDED + 10).map(|_| UploadId::now_v7()).collect();
        for name in &names {
            ids.end(*name);
            ids.end(*name);
            assert!(ids.has_ended(*name));
        }
        assert_eq!(names.iter().filter(|name| ids.has_ended(**name)).count(), MAX_ENDED);
        assert!(!ids.has_ended(names[0]));
    }

    #[test]
    fn a_name_is_good_for_a_day() {
        let at = |time: SystemTime| {
            let given = time.duration_since(UNIX_EPOCH).unwrap().as_millis().to_be_bytes();
            let mut bytes = UploadId::now_v7().into_bytes();
            bytes[..6].copy_from_slice(given.last_chunk::<6>().unwrap());
            UploadId::from_bytes(bytes)
        };
        let now = SystemTime::now();
        assert!(is_recent(at(now)) && is_recent(at(now - LIFETIME + SKEW)));
        assert!(!is_recent(at(now - LIFETIME - SKEW)) && !is_recent(at(now + 2 * SKEW)));
        assert!(!is_recent(UploadId::nil()));
    }
}

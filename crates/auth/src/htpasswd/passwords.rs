//! Comparing passwords with hashes: at most a few at a time, each guess counted, and what was
//! right remembered for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};

use crate::throttle::{CountAttempts, Throttle, TooMany};

/// For so long a password that was right is not computed again.
const REMEMBER: Duration = Duration::from_mins(1);

/// Passwords that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// Guesses that may wait for a processor. Each takes some 50 ms with the usual hashes.
const MAX_WAITING: usize = 32;

/// How long somebody who finds the queue full should stay away.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Postponed {
    /// Too many others are waiting.
    Busy(Duration),
    /// Too many wrong ones came from there.
    Throttled(Duration),
}

/// A user, a hash and a password, as a number that says nothing without the key of this process.
type Id = [u8; 32];

/// Compares passwords.
pub(crate) struct Passwords {
    key: hmac::Key,
    /// When a password was last found right. The hash is part of the name: another hash in the
    /// file is another password.
    right: Cache<Id, Instant>,
    /// What is being found out. A client opens many connections at once, with one password.
    pending: Mutex<HashMap<Id, Arc<OnceCell<bool>>>>,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    throttle: Throttle,
    compared: AtomicU64,
}

impl Passwords {
    /// Wrong ones are counted `elsewhere`, too, for all servers.
    pub(crate) fn new(
        elsewhere: Option<CountAttempts>,
    ) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())?,
            right: Cache::new(MAX_REMEMBERED),
            pending: Mutex::default(),
            // Pulls go on beside them.
            running: Arc::new(Semaphore::new(processors.div_ceil(2))),
            waiting: AtomicUsize::new(0),
            throttle: Throttle::new(elsewhere),
            compared: AtomicU64::new(0),
        })
    }

    /// Whether `password` belongs to `hash`, the hash of `user`. `address` is where the guess
    /// comes from.
    pub(crate) async fn verify(
        &self,
        address: IpAddr,
        user: &str,
        password: &[u8],
        hash: &Arc<str>,
    ) -> Result<bool, Postponed> {
        let id = self.id(user, password, hash);
        let right_at = self.right.get(&id);
        if right_at.is_some_and(|at| at.elapsed() < REMEMBER) {
            return Ok(true);
        }
        let pending = Pending::join(&self.pending, id);
        let compare = async || {
            // Who was right before may come back, whatever others behind the address do.
            let guess = match right_at {
                None => Some(Guess::begin(&self.throttle, address, user)?),
                Some(_) => None,
            };
            let right = match self.compare(password, hash).await {
                Ok(right) => right,
                Err(busy) => {
                    guess.as_ref().inspect(|guess| guess.take_back());
                    return Err(busy);
                }
            };
            if right {
                guess.as_ref().inspect(|guess| guess.take_back());
                self.right.insert(id, Instant::now());
            } else {
                self.right.remove(&id);
                if guess.is_some() {
                    self.throttle.share(address, user).await;
                }
            }
            Ok(right)
        };
        pending.verdict.get_or_try_init(compare).await.copied()
    }

    /// How often a password has been computed.
    pub(crate) fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    async fn compare(&self, password: &[u8], hash: &Arc<str>) -> Result<bool, Postponed> {
        let place = Waiting::begin(&self.waiting).ok_or(Postponed::Busy(BUSY_WAIT))?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        // It is never closed.
        let running = running.map_err(|_| Postponed::Busy(BUSY_WAIT))?;
        drop(place);
        self.compared.fetch_add(1, Ordering::Relaxed);
        let (password, hash) = (password.to_owned(), Arc::clone(hash));
        let compared = tokio::task::spawn_blocking(move || {
            // The place is taken until the work is done, even if nobody waits for it any more.
            let _running = running;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        Ok(compared.await.unwrap_or(false))
    }

    fn id(&self, user: &str, password: &[u8], hash: &str) -> Id {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut id = Id::default();
        for (to, from) in id.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        id
    }
}

/// A guess that is counted.
struct Guess<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
    user: &'a str,
}

impl<'a> Guess<'a> {
    fn begin(throttle: &'a Throttle, address: IpAddr, user: &'a str) -> Result<Self, Postponed> {
        let begun = throttle.begin(address, user, Instant::now());
        begun.map_err(|TooMany(wait)| Postponed::Throttled(wait))?;
        Ok(Self { throttle, address, user })
    }

    fn take_back(&self) {
        self.throttle.take_back(self.address, self.user);
    }
}

/// A place among those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share in a question that is being answered. The last one to leave takes it away.
struct Pending<'a> {
    all: &'a Mutex<HashMap<Id, Arc<OnceCell<bool>>>>,
    id: Id,
    verdict: Arc<OnceCell<bool>>,
}

impl<'a> Pending<'a> {
    fn join(all: &'a Mutex<HashMap<Id, Arc<OnceCell<bool>>>>, id: Id) -> Self {
        let verdict = Arc::clone(locked(all).entry(id).or_default());
        Self { all, id, verdict }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut all = locked(self.all);
        // One here, one in the table. New ones can only be made under the lock.
        if Arc::strong_count(&self.verdict) <= 2 {
            all.remove(&self.id);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn hash(password: &str) -> Arc<str> {
        bcrypt::hash(password, 4).unwrap().into()
    }

    #[tokio::test]
    async fn a_right_password_is_computed_once() {
        let passwords = Passwords::new(None).unwrap();
        let hash = hash("secret");
        for _ in 0..100 {
            assert_eq!(passwords.verify(ADDRESS, "a", b"secret", &hash).await, Ok(true));
        }
        assert_eq!(passwords.compared(), 1);
        // Neither another user nor another hash has part in it.
        assert_eq!(passwords.verify(ADDRESS, "b", b"secret", &hash).await, Ok(true));
        let new = super::tests::hash("other");
        assert_eq!(passwords.verify(ADDRESS, "a", b"secret", &new).await, Ok(false));
        assert_eq!(passwords.compared(), 3);
        assert!(locked(&passwords.pending).is_empty());
    }

    #[tokio::test]
    async fn many_at_once_with_one_password_wait_for_one() {
        let passwords = Arc::new(Passwords::new(None).unwrap());
        let hash = hash("secret");
        let tasks = (0..200).map(|at| {
            let (passwords, hash) = (Arc::clone(&passwords), Arc::clone(&hash));
            let password: &[u8] = if at % 2 == 0 { b"secret" } else { b"wrong" };
            tokio::spawn(async move { passwords.verify(ADDRESS, "a", password, &hash).await })
        });
        for (at, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), Ok(at % 2 == 0));
        }
        assert_eq!(passwords.compared(), 2);
        assert!(locked(&passwords.pending).is_empty());
    }

    #[tokio::test]
    async fn wrong_passwords_are_counted_and_right_ones_go_on() {
        let passwords = Passwords::new(None).unwrap();
        let hash = hash("secret");
        assert_eq!(passwords.verify(ADDRESS, "a", b"secret", &hash).await, Ok(true));
        let mut refused = 0;
        for at in 0..30 {
            let password = format!("wrong{at}");
            match passwords.verify(ADDRESS, "a", password.as_bytes(), &hash).await {
                Ok(right) => assert!(!right),
                Err(Postponed::Throttled(wait)) => {
                    assert!(wait > Duration::ZERO);
                    refused += 1;
                }
                Err(busy) => panic!("{busy:?}"),
            }
        }
        assert!(refused >= 15, "{refused} of 30 were refused");
        assert_eq!(passwords.verify(ADDRESS, "a", b"secret", &hash).await, Ok(true));
    }

    #[tokio::test]
    async fn a_long_queue_is_not_joined() {
        let passwords = Arc::new(Passwords::new(None).unwrap());
        let hash = hash("secret");
        let all = u32::try_from(passwords.running.available_permits()).unwrap();
        let held = Arc::clone(&passwords.running).acquire_many_owned(all).await.unwrap();
        let start = |at: usize| {
            let (passwords, hash) = (Arc::clone(&passwords), Arc::clone(&hash));
            let user = format!("user{at}");
            async move { passwords.verify(ADDRESS, &user, b"secret", &hash).await }
        };
        let waiting = (0..MAX_WAITING).map(|at| tokio::spawn(start(at))).collect::<Vec<_>>();
        while passwords.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(start(MAX_WAITING).await, Err(Postponed::Busy(BUSY_WAIT)));
        drop(held);
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(true));
        }
        assert_eq!(start(MAX_WAITING).await, Ok(true));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let passwords = Passwords::new(None).unwrap();
        let hash = hash("secret");
        let all = u32::try_from(passwords.running.available_permits()).unwrap();
        let held = Arc::clone(&passwords.running).acquire_many_owned(all).await.unwrap();
        let attempt = passwords.verify(ADDRESS, "a", b"secret", &hash);
        assert!(tokio::time::timeout(Duration::from_millis(10), attempt).await.is_err());
        assert!(locked(&passwords.pending).is_empty());
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0);
        drop(held);
        assert_eq!(passwords.verify(ADDRESS, "a", b"secret", &hash).await, Ok(true));
    }
}

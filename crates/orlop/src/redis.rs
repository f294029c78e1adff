//! Manifests and small blobs in a Redis that servers share, so that each is asked of the object
//! store once and not once by every server.
//!
//! It may be away at any time, and nobody waits for it then: connections are made in the
//! background, an answer has a short time to come, and what fails once is left alone for a while.

mod connect;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Cmd, FromRedisValue, RedisError};
use bytes::Bytes;
use oci::Digest;
use registry::SharedCache;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use web::SharedCacheEvent;

use crate::config::Redis;
use connect::{Connection, Connector};

/// For how long it is left alone after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Content stays for so long after it was last written, in seconds.
const LIFETIME: u64 = 24 * 3600;

/// What is larger is not kept.
const LARGEST: usize = 1 << 20;

/// Contents on their way to it at once; what comes beyond them is not kept.
const MAX_WRITES: usize = 64;

/// A cache in Redis. Clones share it.
#[derive(Clone)]
pub(crate) struct RedisCache {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    timeout: Duration,
    link: Mutex<Link>,
    writes: Arc<Semaphore>,
    observe: Box<dyn Fn(SharedCacheEvent) + Send + Sync>,
}

struct Link {
    state: State,
    /// Counts connections, so that what fails on an old one does not close the new one.
    number: u64,
    /// Whether it is known, and was said, that it is away.
    is_away: bool,
    /// The same of a command that it refuses.
    has_refused: bool,
}

enum State {
    Connected(Connection),
    Connecting,
    /// Left alone until then.
    Closed(Instant),
}

impl RedisCache {
    /// A cache where `config` says; `observe` hears how it is used. Fails if the certificates can
    /// not be read; whether Redis is there is found out later.
    pub(crate) fn open(
        config: &Redis,
        observe: impl Fn(SharedCacheEvent) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let link = Link {
            state: State::Closed(Instant::now()),
            number: 0,
            is_away: false,
            has_refused: false,
        };
        let shared = Shared {
            connector: Connector::new(config)?,
            timeout: config.timeout,
            link: Mutex::new(link),
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            observe: Box::new(observe),
        };
        let cache = Self { shared: Arc::new(shared) };
        // It is connected when the first request comes.
        drop(cache.connection());
        Ok(cache)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.shared.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection and its number; `None` while there is none.
    fn connection(&self) -> Option<(Connection, u64)> {
        let mut link = self.link();
        match &link.state {
            State::Connected(connection) => return Some((connection.clone(), link.number)),
            State::Connecting => return None,
            State::Closed(until) if Instant::now() < *until => return None,
            State::Closed(_) => {}
        }
        link.state = State::Connecting;
        drop(link);
        let cache = self.clone();
        tokio::spawn(async move { cache.connect().await });
        None
    }

    async fn connect(self) {
        let connected = self.shared.connector.connect().await;
        let mut link = self.link();
        link.number += 1;
        match connected {
            Ok(connection) => {
                link.state = State::Connected(connection);
                link.has_refused = false;
                if std::mem::take(&mut link.is_away) {
                    tracing::info!("Redis is back");
                }
            }
            Err(error) => self.close(link, &error),
        }
    }

    fn close(&self, mut link: MutexGuard<'_, Link>, error: &RedisError) {
        (self.shared.observe)(SharedCacheEvent::Failed);
        link.state = State::Closed(Instant::now() + PAUSE);
        if !std::mem::replace(&mut link.is_away, true) {
            tracing::warn!(%error, "Redis is away: going on without it");
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Option<T> {
        let (mut connection, number) = self.connection()?;
        let asking = connection.ask(&command);
        let answer = timeout(self.shared.timeout, asking).await.unwrap_or_else(|_| Err(too_slow()));
        answer.inspect_err(|error| self.failed(number, error)).ok()
    }

    /// What one command was refused for, such as a lack of memory, does not stand in the way of others.
    fn failed(&self, number: u64, error: &RedisError) {
        let mut link = self.link();
        if link.number != number || !matches!(link.state, State::Connected(_)) {
            return;
        }
        if error.is_io_error() || error.is_unrecoverable_error() || is_standby(error) {
            return self.close(link, error);
        }
        (self.shared.observe)(SharedCacheEvent::Failed);
        if !std::mem::replace(&mut link.has_refused, true) {
            tracing::warn!(%error, "Redis refuses a command");
        }
    }
}

/// It was the master when the connection was made.
fn is_standby(error: &RedisError) -> bool {
    error.kind() == ::redis::ErrorKind::ReadOnly
}

fn too_slow() -> RedisError {
    RedisError::from((::redis::ErrorKind::IoError, "no answer in time"))
}

fn key(digest: &Digest) -> String {
    format!("orlop:{digest}")
}

impl SharedCache for RedisCache {
    fn get<'a>(&'a self, digest: &'a Digest) -> blobs::Future<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut command = ::redis::cmd("GET");
            command.arg(key(digest));
            let found: Option<Vec<u8>> = self.ask(command).await?;
            let event =
                if found.is_some() { SharedCacheEvent::Hit } else { SharedCacheEvent::Miss };
            (self.shared.observe)(event);
            found.map(Bytes::from)
        })
    }

    fn keep(&self, digest: &Digest, content: &Bytes) {
        if content.len() > LARGEST {
            return;
        }
        let Ok(permit) = Arc::clone(&self.shared.writes).try_acquire_owned() else { return };
        let mut command = ::redis::cmd("SET");
        command.arg(key(digest)).arg(&**content).arg("EX").arg(LIFETIME);
        let cache = self.clone();
        tokio::spawn(async move {
            let _: Option<()> = cache.ask(command).await;
            drop(permit);
        });
    }
}

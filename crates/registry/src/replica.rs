//! This server among the others that share its database.
//!
//! While a request of this server writes to an upload, the server holds a lease, so that the others
//! know that it is alive. They take over what it had when the lease has run out. That may be
//! wrong, of a server that was only paused or cut off from the database; so nothing relies on it:
//! what such a server still does counts for nothing (see [`metadata::uploads::Turn`]).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use blobs::UploadId;
use metadata::uploads::Turn;
use metadata::{Durability, ErrorKind, leases};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{Error, Registry, Shared};

/// How long a server may be silent before the others take it for dead: not longer than a request
/// waits for its turn ([`crate::MAX_UPLOAD_WAIT`]).
const LEASE: Duration = Duration::from_secs(8);

/// How often a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// This server.
pub(crate) struct Replica {
    /// Of this process alone: what is started in its place is another one.
    name: String,
    /// Requests that were given a turn.
    turns: AtomicI64,
    /// Held by all who need the lease.
    needed: Arc<()>,
    /// When the lease was renewed, if somebody looks after it.
    renewed: Mutex<Option<Instant>>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            name: format!("server {}", UploadId::now_v7()),
            turns: AtomicI64::new(1),
            needed: Arc::default(),
            renewed: Mutex::default(),
        }
    }
}

impl Replica {
    /// A turn that nobody ever had.
    pub(crate) fn next_turn(&self) -> Turn {
        let number = self.turns.fetch_add(1, Ordering::Relaxed);
        Turn { holder: self.name.clone(), number }
    }
}

impl Registry {
    /// Lets the other servers know that this one is alive, for as long as the answer is kept.
    pub(crate) async fn stay_alive(&self) -> Result<Arc<()>, Error> {
        let replica = &self.shared.replica;
        let needed = Arc::clone(&replica.needed);
        let mut renewed = replica.renewed.lock().await;
        if renewed.is_none_or(|at| at.elapsed() > LEASE / 2) {
            let is_first = renewed.is_none();
            self.take_lease(&replica.name, &replica.name, LEASE).await?;
            *renewed = Some(Instant::now());
            if is_first {
                tokio::spawn(keep_renewing(Arc::downgrade(&self.shared)));
            }
        }
        Ok(needed)
    }

    /// Runs `job` unless another server does, or has done it less than `pause` ago: `None`. It is
    /// dropped if another server might have begun it meanwhile.
    ///
    /// `name` is what all servers call this job. On a database of a single server it runs always.
    pub async fn run_alone<T>(
        &self,
        name: &str,
        pause: Duration,
        job: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        if !self.metadata().is_shared() {
            return job.await.map(Some);
        }
        let holder = UploadId::now_v7().to_string();
        let begun = Instant::now();
        if !self.take_lease(name, &holder, LEASE).await? {
            return Ok(None);
        }
        let done = tokio::select! {
            done = job => done,
            () = self.keep_lease(name, &holder, begun) => {
                let message = format!("{name}: another server may have taken over");
                return Err(metadata::Error::new(ErrorKind::Other, message).into());
            }
        };
        if done.is_ok() && !pause.is_zero() {
            self.take_lease(name, &holder, pause).await?;
        } else {
            self.give_lease_back(name, &holder).await?;
        }
        done.map(Some)
    }

    /// Renews a lease that was taken after `renewed`, until it is lost.
    async fn keep_lease(&self, name: &str, holder: &str, mut renewed: Instant) {
        loop {
            sleep_until((Instant::now() + RENEW_EVERY).min(renewed + LEASE)).await;
            let now = Instant::now();
            match timeout_at(renewed + LEASE, self.take_lease(name, holder, LEASE)).await {
                Ok(Ok(true)) => renewed = now,
                Ok(Err(error)) if renewed.elapsed() < LEASE => {
                    tracing::warn!(%error, lease = name, "cannot renew a lease");
                }
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
    }

    async fn take_lease(&self, name: &str, holder: &str, time: Duration) -> Result<bool, Error> {
        let input = (name.to_owned(), holder.to_owned(), time);
        let taken = self
            .metadata()
            .write(Durability::Process, input, |tx, (name, holder, time)| {
                Box::pin(leases::take(tx, name, holder, *time))
            })
            .await?;
        Ok(taken)
    }

    async fn give_lease_back(&self, name: &str, holder: &str) -> Result<(), Error> {
        self.metadata()
            .write(
                Durability::Process,
                (name.to_owned(), holder.to_owned()),
                |tx, (name, holder)| Box::pin(leases::give_back(tx, name, holder)),
            )
            .await?;
        Ok(())
    }
}

/// Renews a server's lease until nobody needs it.
async fn keep_renewing(shared: Weak<Shared>) {
    loop {
        sleep(RENEW_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let registry = Registry { shared };
        let replica = &registry.shared.replica;
        let mut renewed = replica.renewed.lock().await;
        if Arc::strong_count(&replica.needed) == 1 {
            *renewed = None;
            if let Err(error) = registry.give_lease_back(&replica.name, &replica.name).await {
                tracing::debug!(%error, "a lease that nobody needs runs out by itself");
            }
            return;
        }
        match registry.take_lease(&replica.name, &replica.name, LEASE).await {
            Ok(_) => *renewed = Some(Instant::now()),
            Err(error) => tracing::warn!(%error, "cannot renew the lease of this server"),
        }
    }
}

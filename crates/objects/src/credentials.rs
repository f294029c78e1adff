//! What proves who is asking, where that ends after a while: it is asked for once, kept, and asked
//! for again before it ends, or when a store does not take it any more.

pub(crate) mod bearer;
pub(crate) mod library;
#[cfg(test)]
pub(crate) mod suite;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::{Error, ErrorKind, Future};

/// How long somebody waits for new credentials who has old ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the old ones are used then before new ones are asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// Where credentials come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What proves who is asking.
    type Credentials: Send + Sync + 'static;

    /// Those that there are, at once, if they are good for some time; or else new ones.
    fn credentials(self: Arc<Self>) -> Future<'static, Result<Arc<Self::Credentials>, Error>>;

    /// From now on those that there are do not count.
    fn forget(&self);
}

/// Credentials that stay in use while no new ones can be had: a source asks for new ones some time
/// before the old ones end, and whether these are still good the store knows best.
///
/// Nobody asks while somebody else is asking: all wait for the same answer.
pub(crate) struct Lasting<S: Source> {
    source: Arc<S>,
    state: Arc<Mutex<State<S::Credentials>>>,
}

struct State<C> {
    last: Option<Arc<C>>,
    /// Until then nobody asks for others.
    rests_until: Option<Instant>,
    renewal: Option<Renewal<C>>,
}

type Outcome<C> = Result<Arc<C>, Error>;

/// Somebody is asking.
struct Renewal<C> {
    begun: Instant,
    outcome: watch::Receiver<Option<Outcome<C>>>,
}

impl<C> Clone for Renewal<C> {
    fn clone(&self) -> Self {
        Self { begun: self.begun, outcome: self.outcome.clone() }
    }
}

impl<C> Renewal<C> {
    fn is_on(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }

    async fn end(mut self) -> Outcome<C> {
        let end = self.outcome.wait_for(Option::is_some).await;
        let outcome = end.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            let context = "ask for credentials".to_owned();
            Err(Error::new(ErrorKind::Other, context, "whoever asked is gone"))
        })
    }
}

impl<C> State<C> {
    /// What comes of it that somebody has asked.
    fn settle(&mut self, outcome: Outcome<C>) -> Outcome<C> {
        self.renewal = None;
        match (outcome, &self.last) {
            (Ok(credentials), _) => {
                self.last = Some(Arc::clone(&credentials));
                self.rests_until = None;
                Ok(credentials)
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(last)) => {
                tracing::warn!(
                    %error,
                    "no new credentials for the store: the old ones are used as long as they are good"
                );
                self.rests_until = Some(Instant::now() + PAUSE);
                Ok(Arc::clone(last))
            }
        }
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|end| Instant::now() < end)
    }
}

/// What a look at the state says.
enum Look<C> {
    Settled(Outcome<C>),
    Renewal(Renewal<C>, Option<Arc<C>>),
}

impl<S: Source> Lasting<S> {
    pub(crate) fn new(source: S) -> Self {
        let state = State { last: None, rests_until: None, renewal: None };
        Self { source: Arc::new(source), state: Arc::new(Mutex::new(state)) }
    }

    /// The credentials that there are, or new ones if they end soon.
    pub(crate) async fn get(&self) -> Outcome<S::Credentials> {
        match self.look() {
            Look::Settled(outcome) => outcome,
            Look::Renewal(renewal, None) => renewal.end().await,
            Look::Renewal(renewal, Some(last)) => {
                let patience = renewal.begun + PATIENCE;
                timeout_at(patience, renewal.end()).await.unwrap_or(Ok(last))
            }
        }
    }

    /// Others than those that a store has refused; `None` if there are none.
    pub(crate) async fn after(
        &self,
        is_refused: impl Fn(&S::Credentials) -> bool,
    ) -> Result<Option<Arc<S::Credentials>>, Error> {
        {
            let state = lock(&self.state);
            if let Some(last) = state.last.as_ref().filter(|last| !is_refused(last)) {
                return Ok(Some(Arc::clone(last)));
            }
            if state.rests() {
                return Ok(None);
            }
            if !state.renewal.as_ref().is_some_and(Renewal::is_on) {
                self.source.forget();
            }
        }
        let credentials = self.get().await?;
        Ok(Some(credentials).filter(|credentials| !is_refused(credentials)))
    }

    fn look(&self) -> Look<S::Credentials> {
        let mut state = lock(&self.state);
        if let Some(renewal) = state.renewal.as_ref().filter(|renewal| renewal.is_on()) {
            return Look::Renewal(renewal.clone(), state.last.clone());
        }
        if let Some(last) = state.last.as_ref().filter(|_| state.rests()) {
            return Look::Settled(Ok(Arc::clone(last)));
        }
        let mut asking = Arc::clone(&self.source).credentials();
        // Mostly there are some that are good, and nobody has to be waited for.
        if let Poll::Ready(outcome) = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            return Look::Settled(state.settle(outcome));
        }
        let (sender, outcome) = watch::channel(None);
        let renewal = Renewal { begun: Instant::now(), outcome };
        state.renewal = Some(renewal.clone());
        let last = state.last.clone();
        drop(state);
        // It goes on when nobody waits any more: what it brings is there for whoever asks next.
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let outcome = asking.await;
            let settled = lock(&state).settle(outcome);
            sender.send_replace(Some(settled));
        });
        Look::Renewal(renewal, last)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Credentials are not shown.
impl<S: Source> fmt::Debug for Lasting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lasting").finish_non_exhaustive()
    }
}

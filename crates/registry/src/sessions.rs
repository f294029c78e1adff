//! One upload, one writer: requests for the same upload take turns. These are the requests of this
//! server; `session` has those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::Error;

/// How long a request waits for the one that is writing to its upload. A client whose connection
/// broke comes back before the server has noticed; that is settled in well under a second, unless
/// nothing tells the server that the connection is gone.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// The uploads that requests are at work on.
#[derive(Default)]
pub(crate) struct Sessions {
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to write to one upload, until it is dropped.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Sessions {
    /// Waits for the right to write to the upload called `id`.
    pub(crate) async fn take_turn(&self, id: &str) -> Result<Turn, Error> {
        let lock = Arc::clone(self.busy().entry(id.to_owned()).or_default());
        let turn = tokio::time::timeout(MAX_WAIT, lock.lock_owned()).await;
        // Whoever comes last takes the entry away.
        self.busy().retain(|_, lock| Arc::strong_count(lock) > 1);
        turn.map(|guard| Turn { _guard: guard }).map_err(|_| Error::UploadBusy)
    }

    /// The right to write to the upload called `id`, unless somebody has it.
    pub(crate) fn try_turn(&self, id: &str) -> Option<Turn> {
        let lock = Arc::clone(self.busy().entry(id.to_owned()).or_default());
        let turn = lock.try_lock_owned();
        self.busy().retain(|_, lock| Arc::strong_count(lock) > 1);
        turn.ok().map(|guard| Turn { _guard: guard })
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_do_not_overlap_and_leave_nothing_behind() {
        let sessions = Sessions::default();
        let first = sessions.take_turn("a").await.unwrap();
        let other = sessions.take_turn("b").await.unwrap();
        let second = sessions.take_turn("a");
        tokio::pin!(second);
        let waited = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
        assert!(waited.is_err(), "a second writer got in");
        drop(first);
        drop(second.await.unwrap());
        drop(other);
        drop(sessions.take_turn("c").await.unwrap());
        assert!(sessions.busy().len() <= 1);
    }
}

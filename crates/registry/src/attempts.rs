//! What is allowed only so often is counted for all servers that share the database.

use std::time::Duration;

use metadata::{Durability, attempts};

use crate::{Error, Registry};

impl Registry {
    /// Whether other servers may count, too.
    pub fn shares_attempts(&self) -> bool {
        self.metadata().is_shared()
    }

    /// Counts an attempt by each of `names`, and for how long each counts. Returns how long it takes
    /// until all that anybody has counted by that name are forgotten.
    pub async fn count_attempts<const N: usize>(
        &self,
        names: [(String, Duration); N],
    ) -> Result<[Duration; N], Error> {
        self.metadata()
            .write(Durability::Process, names, |tx, names| {
                Box::pin(async move {
                    let mut forgotten = [Duration::ZERO; N];
                    for (forgotten, (name, every)) in forgotten.iter_mut().zip(names) {
                        *forgotten = attempts::count(tx, name, *every).await?;
                    }
                    Ok::<_, Error>(forgotten)
                })
            })
            .await
    }
}

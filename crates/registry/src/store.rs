//! The tie between a database and its store: each carries the same id.

use metadata::{ErrorKind, settings};

use crate::{Error, Registry};

/// Whether database and store belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// They do, since now or since before.
    Same,
    /// The store was used with another database.
    Other {
        /// The id that the store carries.
        store: String,
        /// The id that the database carries.
        database: String,
    },
}

impl Registry {
    /// Makes sure that this database belongs to this store. A store that belongs to none is tied
    /// to it.
    pub async fn claim_store(&self) -> Result<Owner, Error> {
        let database = self
            .metadata()
            .read(&(), |tx, ()| Box::pin(settings::get(tx, settings::STORE_ID)))
            .await?
            .ok_or_else(|| metadata::Error::new(ErrorKind::Damaged, "the database has no id"))?;
        match self.blobs().owner().await? {
            Some(store) if store == database => Ok(Owner::Same),
            Some(store) => Ok(Owner::Other { store, database }),
            None => {
                self.blobs().set_owner(&database).await?;
                Ok(Owner::Same)
            }
        }
    }
}

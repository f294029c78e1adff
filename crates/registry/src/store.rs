//! The tie between a database and its store: each carries the same id.

use metadata::{Durability, settings};

use crate::{Error, Registry};

/// The setting that holds the id.
const STORE_ID: &str = "store-id";

/// Whether database and store belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// They do, since now or since before.
    Same,
    /// The store was used with another database.
    Other {
        /// The id that the store carries.
        store: String,
        /// The id that the database carries, if it was used before.
        database: Option<String>,
    },
}

impl Registry {
    /// Makes sure that this database belongs to this store, and ties them together if both are
    /// new. `new_id` is used then.
    pub async fn claim_store(&self, new_id: String) -> Result<Owner, Error> {
        let database =
            self.metadata().read(&(), |tx, ()| Box::pin(settings::get(tx, STORE_ID))).await?;
        let store = self.blobs().owner().await?;
        match (database, store) {
            (Some(database), Some(store)) if database == store => Ok(Owner::Same),
            (database, Some(store)) => Ok(Owner::Other { store, database }),
            (Some(database), None) => {
                self.blobs().set_owner(&database).await?;
                Ok(Owner::Same)
            }
            (None, None) => {
                // First the database: if power goes in between, the next start takes the branch
                // above.
                self.metadata()
                    .write(Durability::Power, new_id.clone(), |tx, id| {
                        Box::pin(settings::set(tx, STORE_ID, id))
                    })
                    .await?;
                self.blobs().set_owner(&new_id).await?;
                Ok(Owner::Same)
            }
        }
    }
}

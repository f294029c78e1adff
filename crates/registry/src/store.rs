//! The tie between a database and its store: each carries the same id.

use metadata::{Durability, ErrorKind, garbage, settings};

use crate::{Error, Registry};

/// Whether database and store belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// They do.
    Same,
    /// The store was not used with any database yet.
    Nobody,
    /// The store was not used with any database yet, but the database knows of content: so it is
    /// another store than the one that has it.
    Stranger {
        /// The id that the database carries.
        database: String,
    },
    /// The store was used with another database.
    Other {
        /// The id that the store carries.
        store: String,
        /// The id that the database carries.
        database: String,
    },
}

impl Registry {
    /// Whether this database belongs to this store.
    pub async fn store_owner(&self) -> Result<Owner, Error> {
        self.owner_beside(self.database_id().await?).await
    }

    /// Makes sure that this database belongs to this store, as [`Self::store_owner`] has it. A
    /// store that belongs to none is tied to it.
    pub async fn claim_store(&self) -> Result<Owner, Error> {
        let database = self.database_id().await?;
        let owner = self.owner_beside(database.clone()).await?;
        if owner != Owner::Nobody {
            return Ok(owner);
        }
        self.blobs().set_owner(&database).await?;
        // A server of another database may have done the same.
        self.owner_beside(database).await
    }

    async fn owner_beside(&self, database: String) -> Result<Owner, Error> {
        Ok(match self.blobs().owner().await? {
            Some(store) if store == database => Owner::Same,
            Some(store) => Owner::Other { store, database },
            None if self.knows_blobs().await? => Owner::Stranger { database },
            None => Owner::Nobody,
        })
    }

    async fn knows_blobs(&self) -> Result<bool, Error> {
        let count = self.metadata().read(&(), |tx, ()| Box::pin(garbage::count_blobs(tx))).await?;
        Ok(count > 0)
    }

    /// The id of the database, which all servers of this registry share.
    pub(crate) async fn known_id(&self) -> Result<&str, Error> {
        let id = self.shared.database_id.get_or_try_init(|| self.database_id()).await?;
        Ok(id)
    }

    /// The secret that all servers of this database share: `fresh` if there was none.
    pub async fn shared_secret(&self, fresh: String) -> Result<String, Error> {
        self.metadata()
            .write(Durability::Power, fresh, |tx, fresh| {
                Box::pin(async move {
                    if let Some(secret) = settings::get(tx, settings::SECRET).await? {
                        return Ok(secret);
                    }
                    settings::set(tx, settings::SECRET, fresh).await?;
                    Ok::<_, Error>(fresh.clone())
                })
            })
            .await
    }

    async fn database_id(&self) -> Result<String, Error> {
        let id = self
            .metadata()
            .read(&(), |tx, ()| Box::pin(settings::get(tx, settings::STORE_ID)))
            .await?;
        let missing = || metadata::Error::new(ErrorKind::Damaged, "the database has no id");
        Ok(id.ok_or_else(missing)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use blobs::{Blobs, ObjectStore};
    use bytes::Bytes;
    use futures_util::stream;
    use metadata::Metadata;
    use objects::memory::Memory;
    use oci::Digest;

    use super::*;
    use crate::Config;

    /// A bucket with a name that was mistyped, a folder that is not mounted.
    #[tokio::test]
    async fn another_store_without_an_owner_is_not_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
        let open = || {
            let store: Arc<dyn Blobs> = Arc::new(ObjectStore::new(Arc::new(Memory::new()), 0));
            (Registry::new(metadata.clone(), Arc::clone(&store), Config::default()), store)
        };
        let (registry, first) = open();
        assert_eq!(registry.claim_store().await.unwrap(), Owner::Same);
        let (registry, _) = open();
        assert_eq!(registry.claim_store().await.unwrap(), Owner::Same, "there is nothing to lose");

        let app = "app".parse().unwrap();
        let session = registry.begin_upload(&app, None).await.unwrap().id;
        let content = Box::pin(stream::iter([Ok(Bytes::from_static(b"layer"))]));
        let digest = Digest::sha256(b"layer");
        registry.finish_upload(&app, &session, &digest, None, content).await.unwrap();
        let (registry, other) = open();
        let claimed = registry.claim_store().await.unwrap();
        assert!(matches!(claimed, Owner::Stranger { .. }), "{claimed:?}");
        assert_eq!(other.owner().await.unwrap(), None);
        assert!(first.owner().await.unwrap().is_some());
    }
}

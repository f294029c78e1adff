//! Going on with what the store has of a session.

use blobs::{ErrorKind, Resumed, Stored, UploadId};
use metadata::blobs::Blob;
use oci::{Algorithm, Digest, Hasher};

use super::Session;
use crate::receive::Receiver;
use crate::{Error, StoredBlob};

impl Session {
    /// Opens the session where it stands.
    pub(super) async fn resume(&mut self) -> Result<Receiver, Error> {
        let received = self.saved.received;
        let restored = Hasher::restore(&self.saved.hash_state).ok();
        let sha512 = restored.as_ref().is_some_and(|hasher| hasher.includes(Algorithm::Sha512));
        let also = sha512.then_some(Algorithm::Sha512);
        if let Some(from) = self.abandoned {
            match self.take_over(from, also).await {
                // Such a store gives each part and object a name that counts once it is saved, so
                // whoever had it can spoil the upload, but not make other bytes of it.
                Err(Error::Storage(error)) if error.kind() == ErrorKind::Unsupported => {
                    self.store_id = from.to_string();
                    self.abandoned = None;
                }
                taken_over => return taken_over,
            }
        }
        let id = self.upload_id()?;
        if received == 0 {
            let upload = self.registry.blobs().begin(id).await?;
            return Ok(Receiver::new(upload, restored.unwrap_or_else(|| Hasher::new(None))));
        }
        let resumed = self.registry.blobs().resume(id, received, &self.saved.store_state).await;
        match (resumed, restored) {
            (Ok(Resumed::Whole(upload)), Some(hasher)) => Ok(Receiver::new(upload, hasher)),
            (Ok(Resumed::Whole(upload) | Resumed::Unsure(upload)), _) => {
                let hasher = self.hash_again(id, received, also).await?;
                Ok(Receiver::new(upload, hasher))
            }
            (Err(error), _) => Err(self.lost(error).await),
        }
    }

    /// Copies what was acknowledged of an upload that somebody else may still be writing to. What
    /// that one appends, or throws away, is not among it.
    async fn take_over(
        &mut self,
        from: UploadId,
        also: Option<Algorithm>,
    ) -> Result<Receiver, Error> {
        let upload = self.registry.blobs().begin(self.upload_id()?).await?;
        let mut receiver = Receiver::new(upload, Hasher::new(also));
        while receiver.received() < self.saved.received {
            let part = match self.registry.blobs().read_upload(from, receiver.received()).await {
                Ok(part) => part,
                Err(error) => return Err(self.lost(error).await),
            };
            let rest = self.saved.received - receiver.received();
            let rest = usize::try_from(rest).unwrap_or(usize::MAX);
            if part.is_empty() {
                self.end().await?;
                return Err(self.unknown());
            }
            receiver = receiver.add(part.slice(..rest.min(part.len()))).await?;
        }
        let outdated = self.saved.store_state.clone();
        let receiver = self.save(receiver, true).await?;
        self.abandoned = None;
        // Nobody is led to it any more.
        self.registry.blobs().abort(from, Some(&outdated)).await?;
        Ok(receiver)
    }

    /// Finishes what a process that was killed had begun to finish: the session's bytes lie at
    /// their place in the store, but the database does not know it. `None` if it is not so.
    pub(crate) async fn recover(&mut self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let registry = &self.registry;
        if self.saved.received == 0 {
            return Ok(None);
        }
        let upload = self.abandoned.map_or_else(|| self.upload_id(), Ok)?;
        // Nothing is there to be read, but the file has to be there.
        match registry.blobs().read_upload(upload, self.saved.received).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Ok(None),
        }
        // The saved hash shows that this client has sent these bytes.
        let Ok(hasher) = Hasher::restore(&self.saved.hash_state) else {
            return Ok(None);
        };
        let hashed = hasher.finish();
        if hashed.digest(digest.algorithm()) != Some(*digest) {
            return Ok(None);
        }
        let content = Blob { digest: hashed.sha256, size: hashed.size, location: None };
        match registry.hash_blob(&content).await {
            Ok(found) if found == hashed.sha256 => {}
            Ok(_) => return Ok(None),
            Err(error) if error.is_loss() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        registry.blobs().settle(&hashed.sha256).await?;
        let stored = Stored::default();
        registry.record_blob(&self.repository, Some(self.row()), hashed, stored, false).await?;
        self.ended();
        Ok(Some(StoredBlob { digest: *digest, size: hashed.size }))
    }

    /// Forgets what was stored and is not counted: on a full disk it would be in everybody's way.
    /// If that fails, too, the end of the session does it.
    pub(crate) async fn give_space_back(&mut self) {
        let Ok(id) = self.upload_id() else { return };
        if self.saved.received == 0 {
            let _ = self.registry.blobs().abort(id, None).await;
        } else {
            // Opened again, it has no more than what was counted.
            let _ = self.resume().await;
        }
    }

    /// What to say if the store no longer has what the upload goes on from: it may remove what is
    /// not finished for long. The client has to begin again.
    pub(super) async fn lost(&mut self, error: blobs::Error) -> Error {
        if !error.is_loss() {
            return error.into();
        }
        tracing::warn!(upload = %self.id, %error, "an upload has lost its bytes");
        match self.end().await {
            Ok(()) => self.unknown(),
            Err(error) => error,
        }
    }

    /// Reads what was received before the power went, or by another version of this program.
    async fn hash_again(
        &self,
        id: UploadId,
        received: u64,
        also: Option<Algorithm>,
    ) -> Result<Hasher, Error> {
        let mut hasher = Hasher::new(also);
        while hasher.len() < received {
            let part = self.registry.blobs().read_upload(id, hasher.len()).await?;
            let rest = usize::try_from(received - hasher.len()).unwrap_or(usize::MAX);
            let part = part.get(..rest.min(part.len())).unwrap_or_default();
            if part.is_empty() {
                return Err(self.unknown());
            }
            hasher.update(part);
        }
        Ok(hasher)
    }
}

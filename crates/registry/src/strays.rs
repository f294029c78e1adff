//! Strays: what servers that died have left in the store, where no blob and no upload is.

use blobs::Located;

use crate::{Error, Registry};

impl Registry {
    /// Everything that is neither where a blob is nor belongs to an upload in progress. Nobody else
    /// may write to the store meanwhile: what a request is bringing may look the same.
    pub(crate) async fn find_strays(&self) -> Result<Vec<Located>, Error> {
        let mut strays = Vec::new();
        let mut next = None;
        loop {
            let page = self.blobs().list_located(next).await?;
            let locations = page.found.iter().map(|located| &*located.location).collect::<Vec<_>>();
            let are_blobs = self
                .metadata()
                .read(&*locations, |tx, locations| {
                    Box::pin(metadata::blobs::are_located(tx, locations))
                })
                .await?;
            for (located, is_blob) in page.found.into_iter().zip(are_blobs) {
                if !is_blob && !self.has_session(located.upload).await? {
                    strays.push(located);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(strays);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use blobs::{Blobs, ObjectStore, UploadId};
    use bytes::Bytes;
    use futures_util::stream;
    use metadata::Metadata;
    use objects::memory::Memory;
    use oci::Digest;

    use super::*;
    use crate::{Chunks, Config};

    fn chunks(content: &'static [u8]) -> Chunks {
        Box::pin(stream::iter([Ok(Bytes::from_static(content))]))
    }

    #[tokio::test]
    async fn what_is_in_use_is_no_stray() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
        let store = Arc::new(ObjectStore::new(Arc::new(Memory::new()), 0));
        let registry =
            Registry::new(metadata, Arc::clone(&store) as Arc<dyn Blobs>, Config::default());
        let app = "app".parse().unwrap();
        // Content that came in two requests, and an upload that goes on.
        let (content, digest) = (b"of a push", Digest::sha256(b"of a push"));
        let session = registry.begin_upload(&app, None).await.unwrap().id;
        registry.append_upload(&app, &session, None, chunks(content)).await.unwrap();
        registry.finish_upload(&app, &session, &digest, None, chunks(b"")).await.unwrap();
        let session = registry.begin_upload(&app, None).await.unwrap().id;
        registry.append_upload(&app, &session, None, chunks(content)).await.unwrap();
        assert_eq!(registry.find_strays().await.unwrap(), []);

        // What came just before a server died.
        let upload = UploadId::now_v7();
        let left = vec![Bytes::from_static(b"left")];
        drop(store.begin(upload).await.unwrap().append(left).await.unwrap().flush().await.unwrap());
        assert_eq!(registry.check(false, |_| {}).await.unwrap().unreferenced, 1);
        for dry_run in [true, false] {
            let found = registry.collect_garbage(false, dry_run).await.unwrap();
            assert_eq!(found.strays.iter().map(|stray| stray.upload).collect::<Vec<_>>(), [upload]);
        }
        assert_eq!(registry.find_strays().await.unwrap(), []);
        registry.finish_upload(&app, &session, &digest, None, chunks(b"")).await.unwrap();
    }
}

//! A store that is watched: what is asked of it becomes spans of traces.

use bytes::Bytes;
use oci::Digest;
use tracing::{Instrument, Span};

use crate::links::Links;
use crate::{Blobs, Content, Error, Future, Resumed, Upload, UploadId};

/// A store whose operations are spans with the target `traces`, beside the store itself. It costs
/// an allocation for each operation, so it is for those who record traces.
#[derive(Debug)]
pub struct Traced<B> {
    store: B,
}

/// An upload that is one span for as long as it is open. Its writes are not: there is one for each
/// 256 KiB.
struct TracedUpload {
    upload: Box<dyn Upload>,
    span: Span,
}

impl<B: Blobs> Traced<B> {
    /// Watches `store`.
    pub fn new(store: B) -> Self {
        Self { store }
    }
}

/// Runs `work` in a span. It is given as a function, because some stores have done it before they
/// return its future.
fn traced<'a, T: 'a>(
    operation: &'static str,
    work: impl FnOnce() -> Future<'a, Result<T, Error>> + Send + 'a,
) -> Future<'a, Result<T, Error>> {
    let span = tracing::info_span!(
        target: "traces",
        "storage",
        otel.name = operation,
        "error.type" = tracing::field::Empty,
    );
    let work = async move {
        let result = work().await;
        if let Err(error) = &result {
            Span::current().record("error.type", tracing::field::debug(error.kind()));
        }
        result
    };
    Box::pin(work.instrument(span))
}

impl<B: Blobs> Blobs for Traced<B> {
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>> {
        Box::pin(async move {
            let upload = traced("storage begin", move || self.store.begin(upload)).await?;
            Ok(TracedUpload::open(upload))
        })
    }

    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>> {
        Box::pin(async move {
            let resume = move || self.store.resume(upload, received, state);
            Ok(match traced("storage resume", resume).await? {
                Resumed::Whole(upload) => Resumed::Whole(TracedUpload::open(upload)),
                Resumed::Unsure(upload) => Resumed::Unsure(TracedUpload::open(upload)),
            })
        })
    }

    fn read_upload(&self, upload: UploadId, offset: u64) -> Future<'_, Result<Bytes, Error>> {
        traced("storage read upload", move || self.store.read_upload(upload, offset))
    }

    fn abort(&self, upload: UploadId) -> Future<'_, Result<(), Error>> {
        traced("storage abort", move || self.store.abort(upload))
    }

    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>> {
        self.store.stale_uploads(age_seconds)
    }

    fn put<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Option<String>, Error>> {
        traced("storage put", move || self.store.put(digest, content))
    }

    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>> {
        traced("storage settle", move || self.store.settle(digest))
    }

    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>> {
        traced("storage size", move || self.store.size(digest, location))
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Content, Error>> {
        traced("storage open", move || self.store.open(digest, location))
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>> {
        traced("storage remove", move || self.store.remove(digest, location))
    }

    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>> {
        self.store.list_shard(shard)
    }

    fn owner(&self) -> Future<'_, Result<Option<String>, Error>> {
        self.store.owner()
    }

    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.set_owner(id)
    }

    fn links(&self) -> Option<&dyn Links> {
        self.store.links()
    }

    fn check_writable(&self) -> Future<'_, Result<(), Error>> {
        self.store.check_writable()
    }
}

impl TracedUpload {
    fn open(upload: Box<dyn Upload>) -> Box<dyn Upload> {
        let span = tracing::info_span!(target: "traces", "storage receive");
        Box::new(Self { upload, span })
    }
}

impl Upload for TracedUpload {
    fn append(
        self: Box<Self>,
        data: Vec<Bytes>,
    ) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        Box::pin(async move {
            let upload = self.upload.append(data).await?;
            Ok(Box::new(Self { upload, span: self.span }) as Box<dyn Upload>)
        })
    }

    fn state(&self) -> String {
        self.upload.state()
    }

    fn commit(self: Box<Self>, digest: Digest) -> Future<'static, Result<Option<String>, Error>> {
        let Self { upload, span } = *self;
        drop(span);
        traced("storage commit", move || upload.commit(digest))
    }
}

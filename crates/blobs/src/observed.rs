//! A store that is watched: how long its work takes, and what of it is seen in traces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use oci::Digest;
use tracing::{Instrument, Span, field};

use crate::links::Links;
use crate::{Blobs, Content, Error, Future, LocatedPage, Resumed, Stored, Upload, UploadId};

/// What a store does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Turns an upload into content.
    Commit,
    /// Lists what there is.
    List,
    /// Opens something for reading.
    Open,
    /// Keeps content in one step.
    Put,
    /// Removes something.
    Remove,
    /// Looks whether something is there.
    Size,
    /// Makes durable what was stored before.
    Sync,
    /// Opens an upload for writing.
    Write,
}

impl Action {
    /// What its span is called.
    fn span(self) -> &'static str {
        match self {
            Self::Commit => "storage commit",
            Self::List => "storage list",
            Self::Open => "storage open",
            Self::Put => "storage put",
            Self::Remove => "storage remove",
            Self::Size => "storage size",
            Self::Sync => "storage sync",
            Self::Write => "storage write",
        }
    }
}

/// The store `B`, which calls `O` with each action and how long it took, whether it failed or not.
/// Each is a span with the target `traces`, too.
///
/// Bytes that are read and written afterwards are not timed: their pace is that of the client. A
/// span tells how long they took. Neither is what no request waits for: owners, links, and the
/// question whether it can be written.
#[derive(Debug)]
pub struct Observed<B, O> {
    store: B,
    observe: Arc<O>,
}

impl<B: Blobs, O: Fn(Action, Duration) + Send + Sync + 'static> Observed<B, O> {
    /// Tells `observe` what `store` does.
    pub fn new(store: B, observe: O) -> Self {
        Self { store, observe: Arc::new(observe) }
    }

    fn timed<'a, T: 'a>(
        &'a self,
        action: Action,
        begin: impl FnOnce(&'a B) -> Future<'a, Result<T, Error>>,
    ) -> Future<'a, Result<T, Error>> {
        let work = watch(action, || begin(&self.store), move |took| (self.observe)(action, took));
        Box::pin(work)
    }

    fn upload(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        let span = tracing::info_span!(target: "traces", "storage receive");
        Box::new(ObservedUpload { upload, observe: Arc::clone(&self.observe), span })
    }
}

/// Runs an action in its span, and says how long it took. `begin` may do the work already, or
/// leave it to the future.
fn watch<'a, T: 'a>(
    action: Action,
    begin: impl FnOnce() -> Future<'a, Result<T, Error>>,
    observe: impl FnOnce(Duration) + Send + 'a,
) -> impl std::future::Future<Output = Result<T, Error>> + Send + 'a {
    let span = tracing::info_span!(
        target: "traces",
        "storage",
        otel.name = action.span(),
        error.type = field::Empty,
    );
    let started = Instant::now();
    let work = span.in_scope(begin);
    async move {
        let result = work.await;
        observe(started.elapsed());
        if let Err(error) = &result {
            Span::current().record("error.type", field::debug(error.kind()));
        }
        result
    }
    .instrument(span)
}

impl<B: Blobs, O: Fn(Action, Duration) + Send + Sync + 'static> Blobs for Observed<B, O> {
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>> {
        let begun = self.timed(Action::Write, move |store| store.begin(upload));
        Box::pin(async move { Ok(self.upload(begun.await?)) })
    }

    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>> {
        let resumed = self.timed(Action::Write, move |store| store.resume(upload, received, state));
        Box::pin(async move {
            Ok(match resumed.await? {
                Resumed::Whole(upload) => Resumed::Whole(self.upload(upload)),
                Resumed::Unsure(upload) => Resumed::Unsure(self.upload(upload)),
            })
        })
    }

    fn read_upload(&self, upload: UploadId, offset: u64) -> Future<'_, Result<Bytes, Error>> {
        self.timed(Action::Open, move |store| store.read_upload(upload, offset))
    }

    fn abort<'a>(
        &'a self,
        upload: UploadId,
        state: Option<&'a str>,
    ) -> Future<'a, Result<(), Error>> {
        self.timed(Action::Remove, move |store| store.abort(upload, state))
    }

    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>> {
        self.timed(Action::List, move |store| store.stale_uploads(age_seconds))
    }

    fn put<'a>(&'a self, digest: &'a Digest, content: Bytes) -> Future<'a, Result<Stored, Error>> {
        self.timed(Action::Put, move |store| store.put(digest, content))
    }

    fn restore<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Stored, Error>> {
        self.timed(Action::Put, move |store| store.restore(digest, content))
    }

    fn sync(&self) -> Future<'_, Result<(), Error>> {
        self.timed(Action::Sync, move |store| store.sync())
    }

    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>> {
        self.timed(Action::Commit, move |store| store.settle(digest))
    }

    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>> {
        self.timed(Action::Size, move |store| store.size(digest, location))
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
        size: u64,
    ) -> Future<'a, Result<Content, Error>> {
        self.timed(Action::Open, move |store| store.open(digest, location, size))
    }

    fn url<'a>(
        &'a self,
        method: Method,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<String>, Error>> {
        self.store.url(method, digest, location)
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>> {
        self.timed(Action::Remove, move |store| store.remove(digest, location))
    }

    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>> {
        self.timed(Action::List, move |store| store.list_shard(shard))
    }

    fn list_located(&self, page: Option<String>) -> Future<'_, Result<LocatedPage, Error>> {
        self.timed(Action::List, move |store| store.list_located(page))
    }

    fn copy_to_layout<'a>(
        &'a self,
        digest: &'a Digest,
        location: &'a str,
        size: u64,
    ) -> Future<'a, Result<(), Error>> {
        self.timed(Action::Put, move |store| store.copy_to_layout(digest, location, size))
    }

    fn discard<'a>(&'a self, location: &'a str) -> Future<'a, Result<(), Error>> {
        self.timed(Action::Remove, move |store| store.discard(location))
    }

    fn owner(&self) -> Future<'_, Result<Option<String>, Error>> {
        self.store.owner()
    }

    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.set_owner(id)
    }

    fn is_replicated(&self) -> bool {
        self.store.is_replicated()
    }

    fn links(&self) -> Option<&dyn Links> {
        self.store.links()
    }

    fn check_writable(&self) -> Future<'_, Result<(), Error>> {
        self.store.check_writable()
    }
}

/// An upload whose commit is timed. It is one span for as long as it is open.
struct ObservedUpload<O> {
    upload: Box<dyn Upload>,
    observe: Arc<O>,
    span: Span,
}

impl<O: Fn(Action, Duration) + Send + Sync + 'static> Upload for ObservedUpload<O> {
    fn append(
        self: Box<Self>,
        data: Vec<Bytes>,
    ) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        let Self { upload, observe, span } = *self;
        // It writes from now on, not from when it is waited for.
        let appended = upload.append(data);
        Box::pin(async move {
            let upload = appended.await?;
            Ok(Box::new(Self { upload, observe, span }) as Box<dyn Upload>)
        })
    }

    fn flush(self: Box<Self>) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        let Self { upload, observe, span } = *self;
        Box::pin(async move {
            let upload = upload.flush().await?;
            Ok(Box::new(Self { upload, observe, span }) as Box<dyn Upload>)
        })
    }

    fn state(&self) -> String {
        self.upload.state()
    }

    fn discard(self: Box<Self>) -> Future<'static, Result<(), Error>> {
        self.upload.discard()
    }

    fn commit(self: Box<Self>, digest: Digest) -> Future<'static, Result<Stored, Error>> {
        let Self { upload, observe, span } = *self;
        drop(span);
        let tell = move |took| observe(Action::Commit, took);
        Box::pin(watch(Action::Commit, || upload.commit(digest), tell))
    }
}

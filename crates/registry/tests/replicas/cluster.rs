//! A database, a store, and servers that share them.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use blobs::FileSystem;
use bytes::Bytes;
use futures_core::Stream;
use metadata::{Address, Metadata};
use oci::{Digest, RepositoryName};
use registry::{Chunks, Config, Interrupted, Registry};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::postgres::Server;

pub(crate) struct Cluster {
    server: Server,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let server = Server::start();
        server.connect().await;
        Self { server, folder: tempfile::tempdir().unwrap() }
    }

    /// One more server.
    pub(crate) async fn replica(&self) -> Registry {
        self.replica_with(Duration::ZERO).await
    }

    /// One whose answers may be so old.
    pub(crate) async fn replica_with(&self, staleness: Duration) -> Registry {
        open(&self.server.url("postgres"), self.folder.path(), staleness).await
    }

    /// One that can be frozen, or killed, with all that it does.
    pub(crate) fn machine(&self) -> Machine {
        let (url, folder) = (self.server.url("postgres"), self.folder.path().to_owned());
        Machine::start(url, folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Uploads that take space in the store.
    pub(crate) fn uploads(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("orlop/uploads")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// What the store has for this digest.
    pub(crate) fn content(&self, digest: &Digest) -> Vec<u8> {
        let hex = digest.hex();
        let (shard, _) = hex.split_at(2);
        let path = format!("docker/registry/v2/blobs/sha256/{shard}/{hex}/data");
        std::fs::read(self.folder.path().join(path)).unwrap()
    }
}

async fn open(url: &str, folder: &Path, staleness: Duration) -> Registry {
    let address = url.parse::<Address>().unwrap().with_staleness(staleness);
    let metadata = Metadata::open_postgres(&address).await.unwrap();
    let blobs = FileSystem::open(folder).unwrap();
    let rules = Config { deletes: true, require_blobs: false, ..Config::default() };
    let registry = Registry::new(metadata, Arc::new(blobs), rules);
    registry.claim_store().await.unwrap();
    registry
}

type Work = Box<dyn FnOnce(Registry) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A server on a thread of its own.
pub(crate) struct Machine {
    work: UnboundedSender<Work>,
}

impl Machine {
    fn start(url: String, folder: PathBuf) -> Self {
        let (work, mut queue) = tokio::sync::mpsc::unbounded_channel::<Work>();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let registry = open(&url, &folder, Duration::ZERO).await;
                while let Some(work) = queue.recv().await {
                    tokio::spawn(work(registry.clone()));
                }
            });
            // What was going on stops where it is, as if it were killed.
            runtime.shutdown_background();
        });
        Self { work }
    }

    /// Does something there. What comes of it can be waited for.
    pub(crate) fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Registry) -> F + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(|registry| {
            Box::pin(async move {
                let _ = answer.send(work(registry).await);
            })
        });
        assert!(self.work.send(work).is_ok());
        answered
    }

    /// Stops it from doing anything until what is returned is dropped: its clock goes on.
    pub(crate) fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel::<()>();
        drop(self.run(|_| async move {
            let _ = frozen.recv();
        }));
        thaw
    }
}

/// The bytes of a request, as its client sends them.
pub(crate) fn live() -> (Client, Chunks) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (ask, asked) = oneshot::channel();
    (Client { sender, asked }, Box::pin(Live { receiver, ask: Some(ask) }))
}

/// Sends the bytes of a request, which ends when this is dropped.
pub(crate) struct Client {
    sender: UnboundedSender<Result<Bytes, Interrupted>>,
    asked: oneshot::Receiver<()>,
}

impl Client {
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        // Whoever was to take them may be gone.
        let _ = self.sender.send(Ok(bytes.into()));
    }

    pub(crate) fn go_away(self) {
        let _ = self.sender.send(Err(Interrupted));
    }

    /// Waits until all that was sent was taken in.
    pub(crate) async fn wait(&mut self) {
        let deadline = Duration::from_secs(10);
        tokio::time::timeout(deadline, &mut self.asked).await.unwrap().unwrap();
    }
}

struct Live {
    receiver: UnboundedReceiver<Result<Bytes, Interrupted>>,
    ask: Option<oneshot::Sender<()>>,
}

impl Stream for Live {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.receiver.poll_recv(context);
        if polled.is_pending()
            && let Some(ask) = self.ask.take()
        {
            let _ = ask.send(());
        }
        polled
    }
}

/// The bytes of a request that are all there.
pub(crate) fn all(content: impl Into<Bytes>) -> Chunks {
    let (client, chunks) = live();
    client.send(content);
    chunks
}

/// The repository that all is about.
pub(crate) fn name() -> &'static RepositoryName {
    static NAME: LazyLock<RepositoryName> = LazyLock::new(|| "team/app".parse().unwrap());
    &NAME
}

//! What is below hyper: a connection, and what hyper is at with it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read to find out whether a client speaks: the head of most requests.
const FIRST_READ: usize = 2 << 10;

/// A connection that can be listened to ahead of hyper, and knows whether what hyper wrote has left.
pub(super) struct Wire<I> {
    io: I,
    /// What was heard and hyper has not read yet.
    ahead: Vec<u8>,
    watch: Arc<Watch>,
}

/// What hyper is at with a connection of HTTP/1, as far as can be seen from outside. Only the task of
/// the connection looks at it.
#[derive(Default)]
pub(super) struct Watch {
    /// Requests that have come.
    requests: AtomicUsize,
    /// The last thing that hyper did was to ask whether the head of a request takes too long.
    awaits_head: AtomicBool,
    /// Something was written that hyper may not have got rid of, or it closes the connection.
    unsent: AtomicBool,
}

/// A timer that never goes off: whether a head takes too long is seen elsewhere. hyper asks it when
/// it can do nothing but wait for the head of a request, and that is all it is for.
pub(super) struct HeadTimer(Arc<Watch>);

struct HeadSleep(Arc<Watch>);

impl<I> Wire<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, ahead: Vec::new(), watch: Arc::default() }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Takes back what hyper has read and not used. It is read again before all else.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.ahead.splice(..0, bytes.iter().copied());
    }
}

impl<I: AsyncRead + Unpin> Wire<I> {
    /// Waits for more bytes than were heard so far. False if there is nobody to hear any more, and
    /// nothing that was heard.
    pub(super) async fn hear(&mut self) -> bool {
        std::future::poll_fn(|context| {
            let mut bytes = [MaybeUninit::uninit(); FIRST_READ];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            // hyper will find out what is wrong, if it matters.
            let _ = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
            self.ahead.extend_from_slice(buffer.filled());
            Poll::Ready(!self.ahead.is_empty())
        })
        .await
    }
}

impl Watch {
    /// hyper is about to be polled.
    pub(super) fn begin(&self) {
        self.awaits_head.store(false, Relaxed);
    }

    /// hyper has handed over a request.
    pub(super) fn request(&self) {
        self.awaits_head.store(false, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// How many requests have come, if all were answered to the end, and hyper can do nothing before
    /// more bytes come. To be asked after hyper was polled.
    pub(super) fn at_rest(&self) -> Option<usize> {
        let is_at_rest = self.awaits_head.load(Relaxed) && !self.unsent.load(Relaxed);
        is_at_rest.then(|| self.requests.load(Relaxed))
    }
}

impl HeadTimer {
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        Self(Arc::clone(watch))
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep(Arc::clone(&self.0)))
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep(Arc::clone(&self.0)))
    }
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0.awaits_head.store(true, Relaxed);
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Wire<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        let rest = self.ahead.split_off(length);
        buffer.put_slice(&self.ahead);
        self.ahead = rest;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wire<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.unsent.store(true, Relaxed);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.unsent.store(true, Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes what is below it only when it has nothing left to write itself.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.watch.unsent.store(false, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.unsent.store(true, Relaxed);
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

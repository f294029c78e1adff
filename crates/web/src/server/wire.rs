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

use super::http1::MAX_BUFFER;

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
    /// The last request changes nothing.
    is_safe: AtomicBool,
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
    /// Waits until hyper has something to do: for the first bytes of a head, or, where a part of one
    /// was taken back, for all of it. Bytes that dribble in are not worth another look at the whole.
    /// False if there is nobody to hear any more, and nothing that was heard.
    pub(super) async fn hear(&mut self) -> bool {
        let is_part = !self.ahead.is_empty();
        std::future::poll_fn(|context| {
            loop {
                let room = MAX_BUFFER.saturating_sub(self.ahead.len()).min(FIRST_READ);
                let mut bytes = [MaybeUninit::uninit(); FIRST_READ];
                let mut buffer = ReadBuf::uninit(bytes.get_mut(..room).unwrap_or_default());
                if room == 0 {
                    return Poll::Ready(true);
                }
                // hyper will find out what is wrong, if it matters.
                let _ = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
                let seen = self.ahead.len().saturating_sub(3);
                self.ahead.extend_from_slice(buffer.filled());
                if !is_part || buffer.filled().is_empty() || has_blank_line(&self.ahead, seen) {
                    return Poll::Ready(!self.ahead.is_empty());
                }
            }
        })
        .await
    }
}

/// Whether a line without text ends after `seen`: the end of a head. Lines may end with LF alone.
fn has_blank_line(bytes: &[u8], seen: usize) -> bool {
    let bytes = bytes.get(seen..).unwrap_or_default();
    let has = |end: &[u8]| bytes.windows(end.len()).any(|window| window == end);
    has(b"\n\r\n") || has(b"\n\n")
}

impl Watch {
    /// hyper is about to be polled. What it asked its timer before says nothing about this time.
    pub(super) fn begin(&self) {
        self.awaits_head.store(false, Relaxed);
    }

    /// hyper has handed over a request, which changes nothing if it `is_safe`.
    pub(super) fn request(&self, is_safe: bool) {
        self.awaits_head.store(false, Relaxed);
        self.is_safe.store(is_safe, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// Whether hyper shall not hear yet that the client has said all there is to say. It may still
    /// listen (`nc -N`, some proxies); more probably it is gone. So what it wants to know it is
    /// told, and what it wants to change is given up: it may have asked another server for it
    /// meanwhile, and then for something else.
    fn hides_end(&self) -> bool {
        self.is_safe.load(Relaxed) && !self.awaits_head.load(Relaxed)
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
            let before = buffer.filled().len();
            let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
            let is_end = read.is_ok() && buffer.filled().len() == before;
            if is_end && self.watch.hides_end() {
                // hyper asks again when it wants the next head.
                return Poll::Pending;
            }
            return Poll::Ready(read);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn of_a_head_the_beginning_or_all_of_it_is_heard() {
        let (mut client, served) = duplex(2 * MAX_BUFFER);
        let mut wire = Wire::new(served);
        client.write_all(b"G").await.unwrap();
        assert!(timeout(LONG, wire.hear()).await.unwrap());
        for part in ["ET / HTTP/1.1\r\n", "host: a\r", "\n", "\r"] {
            client.write_all(part.as_bytes()).await.unwrap();
            assert!(timeout(LONG, wire.hear()).await.is_err(), "{part:?}");
        }
        client.write_all(b"\n").await.unwrap();
        assert!(timeout(LONG, wire.hear()).await.unwrap());
        assert_eq!(wire.ahead, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_or_will_never_be_whole_is_heard() {
        let (mut client, served) = duplex(2 * MAX_BUFFER);
        let mut wire = Wire::new(served);
        client.write_all(&vec![b'a'; MAX_BUFFER + 1]).await.unwrap();
        assert!(wire.hear().await);
        assert!(wire.hear().await);
        assert_eq!(wire.ahead.len(), MAX_BUFFER);

        let (client, served) = duplex(1);
        let mut wire = Wire::new(served);
        wire.unread(b"GET /");
        drop(client);
        assert!(wire.hear().await);
    }
}

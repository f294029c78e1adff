//! Connections that are closed without taking back what was said last.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection that, when it is shut down, says so and then listens until its peer has closed it
/// too, or for `limit`.
///
/// A socket that is closed with something unread in it resets the connection, and what is still on
/// its way to the peer is lost (RFC 9112 §9.6). With HTTP/2 that is not rare: a client says all the
/// time how much it has room for.
#[derive(Debug)]
pub struct Linger<S> {
    stream: S,
    limit: Duration,
    /// Runs since our side has said that it is done.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Linger<S> {
    /// Listens to `stream` for up to `limit` after it was shut down.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, timer: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, limit, timer } = &mut *self;
        let timer = if let Some(timer) = timer {
            timer
        } else {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            timer.insert(Box::pin(tokio::time::sleep(*limit)))
        };
        let mut unheard = [0; 4096];
        while timer.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut unheard);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // It is closed, one way or the other.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_said_last_arrives_though_the_peer_was_still_speaking() {
        let (near, mut far) = connection().await;
        far.write_all(&[1; 8]).await.unwrap();
        near.readable().await.unwrap();
        let said = vec![7; 1 << 20];
        let closing = async {
            let mut near = Linger::new(near, LONG);
            near.write_all(&said).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let hearing = async {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            drop(far);
            heard
        };
        let ((), heard) = tokio::join!(closing, hearing);
        assert!(heard == said);
    }

    #[tokio::test]
    async fn it_ends_when_the_peer_does_not() {
        let (near, mut far) = connection().await;
        let mut near = Linger::new(near, Duration::from_millis(50));
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    }
}

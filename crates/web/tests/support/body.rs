//! Bodies that come bit by bit, as the test wants.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

/// The client's end of a body. Dropping it ends the body in good order.
pub struct Sender(mpsc::Sender<Result<Bytes, Broken>>);

/// The connection broke.
#[derive(Debug)]
pub struct Broken;

/// The server's end.
pub struct LiveBody(mpsc::Receiver<Result<Bytes, Broken>>);

/// A body that the test feeds. A chunk is taken only when the one before it was.
pub fn live_body() -> (Sender, LiveBody) {
    let (sender, receiver) = mpsc::channel(1);
    (Sender(sender), LiveBody(receiver))
}

impl Sender {
    pub async fn send(&self, chunk: impl Into<Bytes>) {
        // A server that has refused the request takes nothing more.
        let _ = self.0.send(Ok(chunk.into())).await;
    }

    /// Waits until the server has taken all that was sent.
    pub async fn taken(&self) {
        let _ = self.0.reserve().await;
    }

    /// Whether nobody takes any more.
    pub fn is_broken(&self) -> bool {
        self.0.is_closed()
    }

    /// The connection breaks.
    pub async fn break_off(self) {
        let _ = self.0.send(Err(Broken)).await;
    }
}

impl Body for LiveBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_recv(context).map(|next| next.map(|next| next.map(Frame::data)))
    }
}

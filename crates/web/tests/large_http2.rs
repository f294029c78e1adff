//! A large blob over HTTP/2. Alone in its process, whose memory is looked at.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use oci::{Algorithm, Hasher};

use support::http2::Server;
use support::socket::within;

const PIECE: usize = 64 << 10;
const PIECES: u64 = 1024;
static CONTENT: [u8; PIECE] = [42; PIECE];

/// How much more memory the process may have at some moment, for server and client together. The
/// blob has 64 MiB.
const LIMIT: u64 = 24 << 20;

/// The same bytes again and again.
struct Pieces(u64);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CONTENT)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 * PIECE as u64)
    }
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[tokio::test]
async fn memory_stays_flat() {
    let server = Server::start_tls(|_| ()).await;
    let mut hasher = Hasher::new(None);
    for _ in 0..PIECES {
        hasher.update(&CONTENT);
    }
    let digest = hasher.finish().digest(Algorithm::Sha256).unwrap();
    let mut client = server.client().await;
    client.send(Method::GET, "/v2/", Pieces(0)).await.unwrap();
    let before = peak_memory();

    let target = format!("/v2/a/blobs/uploads/?digest={digest}");
    let pushed = client.send(Method::POST, &target, Pieces(PIECES)).await.unwrap();
    assert_eq!(pushed.status(), 201);
    let target = format!("/v2/a/blobs/{digest}");
    let pulled = client.send(Method::GET, &target, Pieces(0)).await.unwrap();
    let mut body = pulled.into_body();
    let mut length = 0;
    while let Some(frame) = within(body.frame()).await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    assert_eq!(length, PIECES * PIECE as u64);
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < LIMIT, "{} bytes more", after - before);
    }
}

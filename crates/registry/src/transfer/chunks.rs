//! Content of files as the bytes of a request.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use layout::Content;
use tokio::sync::mpsc;

use super::{TransferProgress, add};
use crate::receive::{Chunks, Interrupted};

/// Bytes that are read at once.
const READ_SIZE: usize = blobs::Buffer::SIZE;

/// Why the bytes of a [`chunks`] ended early, if they did.
pub(super) type ReadError = Arc<OnceLock<String>>;

/// The bytes of `content`, which another thread reads ahead, and counts.
pub(super) fn chunks(content: Content, progress: &Arc<TransferProgress>) -> (Chunks, ReadError) {
    let (sender, receiver) = mpsc::channel(2);
    let why = ReadError::default();
    let (problem, progress) = (Arc::clone(&why), Arc::clone(progress));
    tokio::task::spawn_blocking(move || {
        let mut offset = 0;
        while offset < content.size() {
            let part = match read(&content, offset) {
                Ok(part) => part,
                Err(error) => {
                    let _ = problem.set(error.to_string());
                    let _ = sender.blocking_send(Err(Interrupted));
                    return;
                }
            };
            offset += part.len() as u64;
            add(&progress.bytes, part.len() as u64);
            // Whoever took them in may have given up.
            if sender.blocking_send(Ok(part)).is_err() {
                return;
            }
        }
    });
    (Box::pin(Received(receiver)), why)
}

fn read(content: &Content, offset: u64) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; READ_SIZE];
    let read = content.read_at(offset, &mut buffer)?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(read);
    Ok(buffer.into())
}

struct Received(mpsc::Receiver<Result<Bytes, Interrupted>>);

impl Stream for Received {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

//! What a response carries: bytes at hand, or parts of a blob that are read while they leave.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blobs::{Buffer, Content};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tracing::Span;

/// The body of a response.
#[derive(Default)]
pub struct ResponseBody {
    parts: VecDeque<Part>,
    reading: Option<Reading>,
    /// Ends with the body.
    span: Option<Span>,
}

type Reading = blobs::Future<'static, Result<Bytes, blobs::Error>>;

enum Part {
    Bytes(Bytes),
    Blob { content: Content, offset: u64, rest: u64 },
}

impl ResponseBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds bytes at the end.
    #[must_use]
    pub fn and_bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.parts.push_back(Part::Bytes(bytes));
        }
        self
    }

    /// Adds `length` bytes of a blob, from `offset`, at the end.
    #[must_use]
    pub fn and_blob(mut self, content: Content, offset: u64, length: u64) -> Self {
        if length > 0 {
            self.parts.push_back(Part::Blob { content, offset, rest: length });
        }
        self
    }

    /// Whether it takes time to read.
    pub(crate) fn has_blob(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Blob { .. }))
    }

    /// Keeps a span of a trace open until the body has left, or nobody wants it any more.
    pub(crate) fn keep_open(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// Bytes that are still to come.
    pub fn length(&self) -> u64 {
        let length = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Blob { rest, .. } => *rest,
        };
        self.parts.iter().map(length).sum()
    }
}

impl<B: Into<Bytes>> From<B> for ResponseBody {
    fn from(bytes: B) -> Self {
        Self::empty().and_bytes(bytes)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let Some(part) = this.parts.front_mut() else {
            return Poll::Ready(None);
        };
        let (content, offset, rest) = match part {
            Part::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.parts.pop_front();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Part::Blob { content, offset, rest } => (content, offset, rest),
        };
        let reading = this.reading.get_or_insert_with(|| {
            let (content, offset) = (content.clone(), *offset);
            let limit = usize::try_from(*rest).map_or(Buffer::SIZE, |rest| rest.min(Buffer::SIZE));
            Box::pin(async move { content.read(offset, limit).await })
        });
        let read = ready!(reading.as_mut().poll(context));
        this.reading = None;
        let bytes = match read {
            Ok(bytes) if bytes.is_empty() => {
                tracing::error!(
                    offset,
                    rest,
                    "a blob ended before its size; the answer is cut off"
                );
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "a blob can not be read; the answer is cut off");
                return Poll::Ready(Some(Err(io::Error::other(error))));
            }
        };
        *offset += bytes.len() as u64;
        *rest -= bytes.len() as u64;
        if *rest == 0 {
            this.parts.pop_front();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

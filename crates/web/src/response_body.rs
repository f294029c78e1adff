//! What a response carries: bytes at hand, or parts of a blob that are read while they leave.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blobs::{Buffer, Content};
use bytes::{Buf, Bytes};
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
    Blob(Blob),
}

/// A part of a blob.
struct Blob {
    content: Content,
    offset: u64,
    rest: u64,
    /// The same bytes, to be sent without being read.
    mapped: Option<Bytes>,
}

/// What less than this leaves sooner when it is copied.
const MIN_SENDFILE: u64 = 64 << 10;

/// What is handed to the connection at once of a file that leaves by `sendfile`.
const PIECE: usize = 1 << 20;

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
            self.parts.push_back(Part::Blob(Blob { content, offset, rest: length, mapped: None }));
        }
        self
    }

    /// Has files leave by `sendfile` from here on, where that pays.
    pub(crate) fn send_files(&mut self) {
        for part in &mut self.parts {
            if let Part::Blob(blob) = part
                && blob.rest >= MIN_SENDFILE
            {
                blob.map();
            }
        }
    }

    /// Whether it takes time to read.
    pub(crate) fn has_blob(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Blob(_)))
    }

    /// Keeps a span of a trace open until the body has left, or nobody wants it any more.
    pub(crate) fn keep_open(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// Bytes that are still to come.
    pub fn length(&self) -> u64 {
        let length = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Blob(blob) => blob.rest,
        };
        self.parts.iter().map(length).sum()
    }
}

impl<B: Into<Bytes>> From<B> for ResponseBody {
    fn from(bytes: B) -> Self {
        Self::empty().and_bytes(bytes)
    }
}

impl Blob {
    /// Maps it, so that it can leave by `sendfile`. Where that fails it is read.
    fn map(&mut self) {
        self.mapped = self.content.map(self.offset, self.rest);
    }

    /// The next piece of what is mapped, if it is in memory. Else the thread would wait for the
    /// disk while it sends.
    fn take_cached_piece(&mut self) -> Option<Bytes> {
        let mapped = self.mapped.as_ref()?;
        let length = mapped.len().min(PIECE);
        let is_cached = self.content.is_cached(self.offset, length as u64);
        let piece = is_cached.then(|| mapped.slice(..length))?;
        self.advance(length);
        Some(piece)
    }

    /// Reads the next piece, if it is in memory.
    fn read_cached(&mut self) -> Option<Bytes> {
        let bytes = self.content.read_cached(self.offset, self.limit())?;
        self.advance(bytes.len());
        Some(bytes)
    }

    /// Reads the next piece.
    fn read(&self) -> Reading {
        let (content, offset, limit) = (self.content.clone(), self.offset, self.limit());
        Box::pin(async move { content.read(offset, limit).await })
    }

    /// How much is read at once.
    fn limit(&self) -> usize {
        usize::try_from(self.rest).map_or(Buffer::SIZE, |rest| rest.min(Buffer::SIZE))
    }

    fn advance(&mut self, length: usize) {
        self.offset += length as u64;
        self.rest -= length as u64;
        if let Some(mapped) = &mut self.mapped {
            mapped.advance(length);
        }
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
        let blob = match part {
            Part::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.parts.pop_front();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Part::Blob(blob) => blob,
        };
        if this.reading.is_none()
            && let Some(piece) = blob.take_cached_piece().or_else(|| blob.read_cached())
        {
            if blob.rest == 0 {
                this.parts.pop_front();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let reading = this.reading.get_or_insert_with(|| blob.read());
        let read = ready!(reading.as_mut().poll(context));
        this.reading = None;
        let bytes = match read {
            Ok(bytes) if bytes.is_empty() => {
                let Blob { offset, rest, .. } = blob;
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
        blob.advance(bytes.len());
        if blob.rest == 0 {
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
